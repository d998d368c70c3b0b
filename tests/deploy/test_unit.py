"""The shipped HAProxy and nginx files in front of what the shipped systemd unit starts: replicas on loopback addresses."""

import os
import re
import shutil
import socket

import pytest

from fleet import BALANCER, DEPLOY, Process, get, post
from waiting import until

UNIT = DEPLOY / "systemd/unmask@.service"
PORTS = ["18081", "18082"]
FILES = {"haproxy": DEPLOY / "haproxy/haproxy.cfg", "nginx": DEPLOY / "nginx/nginx.conf"}


def environment(port):
    """What the unit sets for a replica on this port."""
    settings = re.search(r"^Environment=(.*)$", UNIT.read_text(), re.MULTILINE)[1].replace("%i", port)
    return dict(pair.split("=", 1) for pair in settings.split())


class UnitReplica:
    """A replica with the unit's settings; the cache is never used, since the model is the program's own."""

    def __init__(self, port):
        self.address = environment(port)["UNMASK_LISTEN"]
        settings = environment(port) | {"UNMASK_THREADS": "1"}
        self.process = Process(f"unit-{port}", [os.environ["TESTED_PROGRAM"]], settings)
        until(f"{self.address} to be ready", self.ready)

    def ready(self):
        assert self.process.process.poll() is None, self.process.output()
        return get(f"http://{self.address}/ready")[0] == 200

    def close(self):
        self.process.close()


def beside(kind, folder):
    """The shipped file with the unit's addresses in place of compose's names."""
    text = FILES[kind].read_text()
    for number, port in enumerate(PORTS, 1):
        address = environment(port)["UNMASK_LISTEN"]
        assert f"unmask-{number}:8080" in text
        text = text.replace(f"unmask-{number}:8080", address)
    file = folder / FILES[kind].name
    file.write_text(text)
    return file


def commands(kind, file):
    return {
        "haproxy": [shutil.which("haproxy") or "haproxy", "-db", "-f", file],
        "nginx": ["nginx", "-c", file, "-g", "daemon off; user root;"],
    }[kind]


@pytest.mark.parametrize("kind", ["haproxy", "nginx"])
def test_the_shipped_balancers_serve_the_shipped_unit(kind, start, tmp_path):
    replicas = [start(UnitReplica(port)) for port in PORTS]
    process = start(Process(kind, commands(kind, beside(kind, tmp_path))))

    def serves():
        assert process.process.poll() is None, process.output()
        return get(f"http://{BALANCER}/ready")[0] == 200

    until(f"{kind} to serve", serves)
    status, answer = post(BALANCER, "/v1/completions", {"prompt": "import ", "max_tokens": 4, "seed": 1})
    assert status == 200, answer
    if kind == "haproxy":
        until("both replicas to be up", lambda: states() == {"unmask-1": "UP", "unmask-2": "UP"}, states)
    # The check as HAProxy sends it, to each replica itself.
    for replica in replicas:
        host, port = replica.address.split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            assert connection.recv(64).split(b" ")[1] == b"200"


def states():
    """Servers by name, as HAProxy's metrics tell of them."""
    _, text = get("http://127.0.0.1:8404/metrics")
    found = re.findall(r'haproxy_server_status\{proxy="replicas",server="([^"]+)",state="(\w+)"\} 1', text)
    return dict(found)
