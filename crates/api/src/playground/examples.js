/** Texts with holes that the embedded model fills well: a name, and the text. */
export const EXAMPLES = [
  [
    "two methods",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n        self.▒▒▒(item)\n\n" +
      "    def __len__(self):\n        return len(▒▒▒)\n",
  ],
  [
    "a test for None",
    "def get(mapping, key, default=None):\n    if default is▒:\n        return mapping[key]\n" +
      "    return mapping.get(key, default)\n",
  ],
  ["a name that is used later", "def lines(path):\n    with open(path) as▒:\n        for line in f:\n            yield line.rstrip()\n"],
  ["a loop", "def positions(items):\n    for▒ in range(len(items)):\n        yield i, items[i]\n"],
  [
    "enter and exit",
    "class File:\n    def __enter__(self):\n        return▒\n\n" +
      "    def __exit__(self, exc_type, exc_value, traceback):\n        self.▒()\n",
  ],
  ["an exception", "try:\n    import json\nexcept▒:\n    json = None\n"],
];
