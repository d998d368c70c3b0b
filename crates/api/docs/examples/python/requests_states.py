"""States of a stream with `requests` alone: one line of JSON for every event. `pip install requests`"""

import json

import requests

body = {
    "prefix": "def lines(path):\n    with open(path)",
    "suffix": "\n        for line in f:\n            yield line.rstrip()\n",
    "length": 3,
    "seed": 1,
    "stream": True,
}
with requests.post("http://localhost:8080/fill", json=body, stream=True, timeout=60) as answer:
    answer.raise_for_status()
    event = None
    for line in answer.iter_lines(decode_unicode=True):
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            data = json.loads(value)
            if event == "fill.state" and data["type"] == "step":
                print(data["remaining"], "open:", dict(zip(data["positions"], data["texts"])))
            elif event == "fill.done":
                print("hole:", repr(data["choices"][0]["holes"][0]["text"]))
