"""The processes that a deployment consists of, run from the shipped files."""

import json
import os
import re
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from network import NAMES
from waiting import DEADLINE, until

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BALANCER = "127.0.0.1:8080"


def get(url):
    """Status and text; nothing without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()
    except OSError:
        return None, ""


def post(address, path, body):
    """Status and JSON of a plain request."""
    request = urllib.request.Request(
        f"http://{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.loads(refusal.read() or "null")


class Process:
    """A program whose output goes to a file that is shown when something fails."""

    def __init__(self, name, command, environment=None):
        self.log = tempfile.NamedTemporaryFile("w+", prefix=f"{name}-", suffix=".log")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("UNMASK_", "HF_"))}
        self.process = subprocess.Popen(
            command, env=kept | (environment or {}), stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def output(self):
        return Path(self.log.name).read_text()

    def close(self):
        # With the processes that it started: they listen as well.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Replica:
    """One server, started and stopped as an orchestrator does it."""

    def __init__(self, network, name, *flags):
        self.network, self.name, self.flags = network, name, flags
        self.address = f"{NAMES[name]}:8080"
        self.start()

    def start(self):
        settings = {
            # Of the image.
            "UNMASK_LISTEN": self.address,
            "UNMASK_DRAIN_DELAY": "5",
            # There are two, and other tests.
            "UNMASK_THREADS": "1",
            # Nothing is refused or cut off because the machine is slow.
            "UNMASK_DRAIN_TIMEOUT": str(DEADLINE),
            "UNMASK_MAX_QUEUE_TIME": str(DEADLINE),
        }
        command = self.network.far_command([os.environ["TESTED_PROGRAM"], *self.flags])
        self.process = Process(self.name, command, settings)
        until(f"{self.name} to be ready", self.ready)

    def ready(self):
        assert self.process.process.poll() is None, self.process.output()
        return get(f"http://{self.address}/ready")[0] == 200

    def signal(self, number=signal.SIGTERM):
        self.process.process.send_signal(number)

    def ended(self):
        """Its exit status, once it has ended by itself."""
        return self.process.process.wait(timeout=DEADLINE)

    def restart(self):
        """SIGTERM, a clean end, and again."""
        self.signal()
        assert self.ended() == 0, self.process.output()
        self.start()

    def health(self):
        return json.loads(get(f"http://{self.address}/health")[1])

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels."""
        found = 0.0
        for line in get(f"http://{self.address}/metrics")[1].splitlines():
            match = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                of = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if labels.items() <= of.items():
                    found += float(match[3])
        return found

    def close(self):
        self.process.close()


def balancer(kind):
    """HAProxy or nginx with the shipped configuration, once it serves requests."""
    command = {
        "haproxy": ["haproxy", "-db", "-f", DEPLOY / "haproxy/haproxy.cfg"],
        "nginx": ["nginx", "-c", DEPLOY / "nginx/nginx.conf", "-g", "daemon off; user root;"],
    }[kind]
    process = Process(kind, command)

    def serves():
        assert process.process.poll() is None, process.output()
        return get(f"http://{BALANCER}/ready")[0] == 200

    until(f"{kind} to serve", serves)
    return process
