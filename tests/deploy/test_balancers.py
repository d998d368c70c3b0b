"""Two replicas behind HAProxy and nginx: what clients notice when a replica is full, restarted or killed."""

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from fleet import BALANCER, Replica, balancer, post
from streams import LONG, SHORT, STEP, Stream, content
from waiting import DEADLINE, until

BOTH = pytest.mark.parametrize("kind", ["haproxy", "nginx"])
PLAIN = {"prompt": "import ", "max_tokens": 8, "seed": 1}
LONG_PLAIN = LONG | {"stream": False, "diffusion": {"steps": 512}}


def complete(body):
    return post(BALANCER, "/v1/completions", body)


class Load:
    """`unmask-loadtest` on the balancer: clients at random times, half of them with streams, every text compared with
    the one that the request has alone."""

    def __init__(self, report):
        self.report = report
        self.process = subprocess.Popen(
            [os.environ["LOADTEST_PROGRAM"], "--url", f"http://{BALANCER}", "--rate", "3", "--seconds", "86400",
             "--timeout", str(DEADLINE), "--sizes", "8=0.6,32=0.4", "--vanishing", "0", "--slow", "0", "--verify", "all",
             "--json", report],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def end(self):
        """Sends nothing more; what became of the requests, and what was printed."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate()
        assert self.report.exists(), printed
        return json.loads(self.report.read_text())["report"], printed

    def close(self):
        self.process.kill()
        self.process.wait()


class SteadyClient(threading.Thread):
    """A client that keeps its connection, as SDKs do, and asks again as soon as it has its answer."""

    def __init__(self, address, body):
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(*address.split(":"), timeout=DEADLINE)
        self.body = json.dumps(body)
        self.over = threading.Event()
        self.answers, self.failures = 0, []
        self.start()

    def run(self):
        while not self.over.is_set():
            try:
                self.connection.request("POST", "/v1/completions", self.body, {"content-type": "application/json"})
                answer = self.connection.getresponse()
                body = answer.read()
            except (http.client.HTTPException, OSError) as failure:
                self.failures.append(repr(failure))
                self.connection.close()
                continue
            self.answers += 1
            if answer.status != 200:
                self.failures.append(f"{answer.status} {body[:200]}")

    def end(self):
        """Waits for the answer that it has asked for."""
        self.over.set()
        self.join()

    def close(self):
        """Hangs up."""
        self.over.set()
        with suppress(OSError, AttributeError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.join()


def replaced_under_load(replicas, start, report):
    """Restarts each replica while clients send requests; no request fails."""
    load = start(Load(report))
    client = start(SteadyClient(BALANCER, PLAIN))
    for replica in replicas:
        served = lambda replica=replica: replica.metric("unmask_requests_total", outcome="ok")
        until(f"{replica.name} to serve", served)
        replica.restart()
        until(f"{replica.name} to serve again", served)
    client.end()
    report, printed = load.end()
    assert client.failures == [] and client.answers > 0
    counts = report["counts"]
    assert counts["finished"] == counts["sent"] > 0, printed
    verified = report["verified"]
    assert verified["same"] == counts["finished"] and not verified["different"], printed
    assert report["faults"] == [], printed


def test_a_rolling_restart_behind_haproxy_loses_nothing(behind, start, tmp_path):
    replaced_under_load(behind("haproxy"), start, tmp_path / "report.json")


@pytest.mark.slow
def test_a_rolling_restart_behind_nginx_loses_nothing(behind, start, tmp_path):
    replaced_under_load(behind("nginx"), start, tmp_path / "report.json")


@BOTH
def test_events_are_passed_on_as_they_come(behind, kind):
    replicas = behind(kind)
    evaluations = lambda: sum(replica.health()["evaluations"] for replica in replicas)

    def comes_before_the_end():
        stream = Stream(BALANCER, SHORT)
        while STEP not in stream.next():
            pass
        seen = evaluations()
        assert stream.rest()[1]
        return seen < evaluations()

    # A balancer that collects the answer never hands out an event while there is something left to evaluate. One that
    # does not may seem to, if this test is slow.
    until("an event that comes before the end", comes_before_the_end)
    direct, through = (Stream(address, SHORT).rest()[0] for address in (replicas[0].address, BALANCER))
    assert content(through) == content(direct)


@BOTH
@pytest.mark.parametrize("bytes_", [10, 40_000])
def test_a_request_that_a_full_replica_refuses_is_answered_by_the_other(network, start, kind, bytes_):
    full = start(Replica(network, "unmask-1", "--max-running", "1", "--max-queued-requests", "1"))
    start(Replica(network, "unmask-2"))
    start(balancer(kind))
    # Clients that the balancer does not know of: one runs, one waits.
    for _ in range(2):
        start(SteadyClient(full.address, LONG_PLAIN))
    body = {"prefix": "#" * bytes_, "suffix": "\n", "length": 1, "seed": 1}

    def refused():
        assert post(BALANCER, "/fill", body)[0] == 200
        return full.metric("unmask_requests_total", route="/fill", outcome="overloaded")

    until("the full replica to refuse what the balancer sends", refused)


@pytest.mark.parametrize("kind", ["haproxy", pytest.param("nginx", marks=pytest.mark.slow)])
def test_a_killed_replica_costs_its_running_streams_and_nothing_else(behind, kind):
    killed, survivor = both = behind(kind)
    streams = [Stream(BALANCER, LONG) for _ in range(6)]
    assert all(stream.next() for stream in streams)
    on_killed, on_survivor = (replica.health()["running"] for replica in both)
    assert on_killed > 0 and on_survivor > 0 and on_killed + on_survivor == 6
    with ThreadPoolExecutor(10) as pool:
        # Plain requests that run on both when one of them dies.
        plain = [pool.submit(complete, LONG_PLAIN | {"seed": seed}) for seed in range(4)]
        until("the plain requests", lambda: sum(replica.health()["running"] for replica in both) == 10)
        reading = [pool.submit(stream.rest) for stream in streams]
        killed.signal(signal.SIGKILL)
        killed.ended()
        afterwards = [complete(PLAIN)[0] for _ in range(8)]
        ended = [stream.result()[1] for stream in reading]
        answers = [each.result()[0] for each in plain]
    assert afterwards == [200] * 8
    assert ended.count(True) == on_survivor and ended.count(False) == on_killed
    assert answers == [200] * 4
