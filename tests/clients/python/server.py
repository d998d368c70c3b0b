"""Starts the server on a free loopback port and stops it: `python server.py COMMAND...` runs a command meanwhile.

The command finds the address in UNMASK_URL. The program is the one that TESTED_PROGRAM names.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

DEADLINE = 120  # seconds until something that must happen counts as broken


def wait_until(condition, what):
    """Asks until the answer is true and returns it; nothing is assumed about how long that takes, up to the deadline."""
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {DEADLINE} s")
        time.sleep(0.02)
    return found


class Server:
    """A running server; leaving the `with` block stops it as an operator would, by SIGTERM. `before` is called in its
    process before the program is."""

    def __init__(self, *flags, before=None):
        self.before = before
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.command = [os.environ["TESTED_PROGRAM"], "serve", "--listen", f"127.0.0.1:{port}", "--log", "warn", *flags]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, preexec_fn=self.before)
        self.terminated = False
        try:
            wait_until(self.ready, "ready to serve")
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *_):
        self.terminate()
        try:
            status = self.process.wait(DEADLINE)
        finally:
            self.process.kill()
        assert status == 0, f"the server ended with {status} on SIGTERM"

    def terminate(self):
        """Asks the server to stop, once: a second signal would mean at once."""
        if not self.terminated:
            self.terminated = True
            self.process.send_signal(signal.SIGTERM)

    def ready(self):
        assert self.process.poll() is None, f"the server ended with {self.process.returncode} at its start"
        try:
            return self.get("/ready")
        except (urllib.error.URLError, ConnectionError):
            return None

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=DEADLINE) as answer:
            return answer.read().decode()

    def post(self, path, body):
        """The decoded answer to a JSON body; for what no client under test does."""
        head = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.load(answer)

    def health(self):
        return json.loads(self.get("/health"))

    def wait_until_idle(self):
        wait_until(lambda: self.health()["running"] + self.health()["waiting"] == 0, "no request is left")

    def metric(self, name, **labels):
        """The sum of all series of a metric that carry these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        series = (line for line in self.get("/metrics").splitlines() if line.split("{")[0].split(" ")[0] == name)
        return sum(float(line.split(" ")[-1]) for line in series if all(label in line for label in wanted))


if __name__ == "__main__":
    with Server() as server:
        status = subprocess.run(sys.argv[1:], env={**os.environ, "UNMASK_URL": server.url}).returncode
    sys.exit(status)
