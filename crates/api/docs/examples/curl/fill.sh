# Fills one hole and prints the text in it. Only curl and sed: see fill.md for the whole answer.
curl -s localhost:8080/fill -H 'content-type: application/json' -d @- <<'JSON' | sed 's/.*"holes":\[{"id":"0","text":"\([^"]*\)".*/\1/'
{
  "prefix": "class Stack:\n    def __len__(self):\n        return len(",
  "suffix": "._items)\n",
  "length": 1,
  "seed": 7
}
JSON
