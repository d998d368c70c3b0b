# Watches a text settle: prints the committed positions of every evaluation, one line each.
curl -sN localhost:8080/v1/completions -H 'content-type: application/json' -d @- <<'JSON' |
{
  "prompt": "try:\n    import json\nexcept ",
  "max_tokens": 4,
  "seed": 46,
  "stream": true,
  "diffusion": { "stream_states": "delta" }
}
JSON
    sed -n 's/.*"type":"step".*"positions":\(\[[0-9,]*\]\).*"texts":\(\[.*\]\),"probabilities.*/\1 \2/p'
