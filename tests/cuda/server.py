"""What users see of a GPU whose memory does not suffice, and of one that is lost.

    server.py PROGRAM LIBRARIES     a program with the feature `cuda`, and the folder of the driver that pretends
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.request

MODEL = pathlib.Path(__file__).parents[1] / "golden/diffullama"
SEEDS = range(8)


class Server:
    """A server on a port of its own; `settings` are the driver's."""

    def __init__(self, program, libraries, **settings):
        command = [program, "serve", "--model", MODEL, "--device", "cuda", "--deterministic", "--listen", "127.0.0.1:0"]
        settings = {name: str(value) for name, value in settings.items()}
        environment = os.environ | {"LD_LIBRARY_PATH": libraries, "NO_COLOR": "1"} | settings
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        self.log = []

    def __enter__(self):
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"listening on (http://\S+)", line):
                self.address = found[1]
                return self
        self.process.wait()
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.log.extend(self.process.stderr)
        self.process.wait()

    def ask(self, path, body=None):
        """Status and answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def fills(self):
        """Holes of several lengths, filled at the same time."""

        def fill(seed):
            return self.ask("/fill", {"prefix": "def", "suffix": "pass", "length": 6 + seed, "seed": seed})

        with concurrent.futures.ThreadPoolExecutor(len(SEEDS)) as pool:
            return list(pool.map(fill, SEEDS))


def texts(answers):
    assert all(status == 200 for status, _ in answers), answers
    return [answer["choices"][0]["text"] for _, answer in answers]


def main(program, libraries):
    with Server(program, libraries) as server:
        expected = texts(server.fills())
    print("eight fills on a GPU:", *map(repr, expected), sep="\n  ")

    # Room for the weights, 451 KB, and for small batches.
    with Server(program, libraries, PRETEND_MEMORY=540_000) as server:
        found = texts(server.fills())
    assert any("memory ran out" in line for line in server.log), "".join(server.log)
    assert found == expected, found
    print("memory ran out: smaller batches, the same texts")

    with Server(program, libraries, PRETEND_MEMORY=300_000) as server:
        pass
    assert server.process.returncode not in (0, -6), server.process.returncode
    refusal = [line for line in server.log if "does not fit into the device's memory" in line]
    assert refusal, "".join(server.log)
    print(refusal[0].strip())

    with Server(program, libraries, PRETEND_LAUNCHES=400) as server:
        answers = server.fills()
        live, _ = server.ask("/live")
    assert {status for status, _ in answers} <= {500, 503}, answers
    assert all(answer["error"]["code"] == "engine_error" for _, answer in answers), answers
    assert live == 503, live
    assert any("the device is lost" in line for line in server.log), "".join(server.log)
    print("the device was lost: every request was told so, and /live says 503")


if __name__ == "__main__":
    main(*sys.argv[1:])
