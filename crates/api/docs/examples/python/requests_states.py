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
    for line in answer.iter_lines(decode_unicode=True):
        if not line.startswith("data: "):
            continue
        event = json.loads(line.removeprefix("data: "))
        if event["type"] == "fill.state" and event["state"]["type"] == "step":
            state = event["state"]
            print(state["remaining"], "open:", dict(zip(state["positions"], state["texts"])))
        elif event["type"] == "fill.done":
            print("hole:", repr(event["choices"][0]["holes"][0]["text"]))
