"""The requests of editors' plugins, which run nowhere without their editors, word for word.

Every file of `editors/` belongs to one plugin. A request says what the plugin takes from the answer: the whole `answer`,
what it `reads` of it, or where the pieces of text are that it `streams`. `warm_up` requests announce what comes.
"""

import http.client
import json
from functools import reduce
from pathlib import Path
from urllib.parse import urlsplit

import pytest

FILES = sorted((Path(__file__).parent.parent / "editors").glob("*.json"))
REQUESTS = [pytest.param(entry, id=f"{file.stem}: {entry['what']}") for file in FILES for entry in json.loads(file.read_text())]
TYPES = {"string": str, "number": (int, float), "boolean": bool, "object": dict}


def send(server, entry):
    """Status, content type and text of the answer, over a connection that adds nothing to the plugin's body."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
    connection.request("POST", entry["route"], json.dumps(entry["body"]), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, f"refused with {answer.status}: {text}"
    return answer.getheader("content-type"), text


def at(document, path):
    return reduce(lambda value, key: value[int(key)] if isinstance(value, list) else value[key], path.split("."), document)


def piece(chunk, path):
    """The text of a chunk; those that only end a stream have none, and plugins skip them."""
    try:
        return at(chunk, path)
    except (KeyError, IndexError):
        return ""


def is_of_type(value, name):
    return isinstance(value, TYPES[name]) and isinstance(value, bool) == (name == "boolean")


@pytest.mark.parametrize("entry", REQUESTS)
def test_a_plugin_finds_what_it_reads(server, entry):
    """Broken: this editor shows nothing, or an error at every key."""
    kind, text = send(server, entry)
    if "streams" in entry:
        assert kind.startswith("text/event-stream")
        *events, last = [event.removeprefix("data: ") for event in text.strip().split("\n\n")]
        assert last == "[DONE]"
        texts = [piece(json.loads(event), entry["streams"]) for event in events]
        assert "".join(texts), "nothing to show"
        return
    answer = json.loads(text)
    if "answer" in entry:
        assert set(answer) == set(entry["answer"])
        assert all(is_of_type(answer[key], entry["answer"][key]) for key in answer)
    for path, name in entry.get("reads", {}).items():
        assert is_of_type(at(answer, path), name), path


@pytest.mark.parametrize("entry", [request for request in REQUESTS if "warm_up" in request.values[0]])
def test_a_warm_up_computes_nothing(server, entry):
    """Broken: what editors send at every jump of the cursor keeps the model busy."""
    server.wait_until_idle()
    before = server.metric("unmask_forward_passes_total")
    send(server, entry)
    assert server.metric("unmask_forward_passes_total") == before


def test_an_indent_bounds_the_completion(server):
    """Broken: llama.vim offers the rest of the file instead of the rest of the block."""
    body = {"input_prefix": "def f():\n    if x:\n", "prompt": "        ", "n_predict": 48, "temperature": 1}

    def leaves_the_block(**fields):
        _, text = send(server, {"route": "/infill", "body": {**body, "ignore_eos": True, **fields}})
        _, *lines = json.loads(text)["content"].split("\n")
        return any(line.strip() and not line.startswith(" " * 8) for line in lines)

    assert any(leaves_the_block(seed=seed) for seed in range(6)), "nothing to cut: choose other seeds"
    assert not any(leaves_the_block(seed=seed, n_indent=8) for seed in range(6))
