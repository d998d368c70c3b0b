"""Two replicas behind HAProxy and nginx: what clients notice when a replica is full, restarted or killed."""

import http.client
import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet import BALANCER, Replica, balancer, post
from streams import LONG, SHORT, STEP, Stream, content
from waiting import until

BOTH = pytest.mark.parametrize("kind", ["haproxy", "nginx"])
PLAIN = {"prompt": "import ", "max_tokens": 8, "seed": 1}


def complete(body):
    return post(BALANCER, "/v1/completions", body)


class Load:
    """`unmask-loadtest` on the balancer: steady clients, half of them streams, every text checked afterwards."""

    def __init__(self, report, seconds):
        self.report = report
        self.process = subprocess.Popen(
            [os.environ["UNMASK_LOADTEST"], "--url", f"http://{BALANCER}", "--rate", "4", "--seconds", str(seconds),
             "--sizes", "8=0.6,32=0.4", "--vanishing", "0", "--slow", "0", "--verify", "all", "--json", report],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def runs(self):
        return self.process.poll() is None

    def end(self):
        """What became of the requests, and what was printed."""
        printed, _ = self.process.communicate()
        assert self.report.exists(), printed
        return json.loads(self.report.read_text())["report"], printed

    def close(self):
        self.process.kill()
        self.process.wait()


class SteadyClient(threading.Thread):
    """A client that keeps its connection, as SDKs do, and asks again as soon as it has its answer."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.answers, self.failures = 0, []

    def run(self):
        connection = http.client.HTTPConnection(*BALANCER.split(":"))
        while not self.over.is_set():
            try:
                connection.request(
                    "POST", "/v1/completions", json.dumps(PLAIN), {"content-type": "application/json"}
                )
                answer = connection.getresponse()
                body = answer.read()
            except (http.client.HTTPException, OSError) as failure:
                self.failures.append(repr(failure))
                connection.close()
                continue
            self.answers += 1
            if answer.status != 200:
                self.failures.append(f"{answer.status} {body[:200]}")

    def close(self):
        self.over.set()
        self.join()


def replaced_under_load(replicas, start, tmp_path, seconds):
    load = start(Load(tmp_path / "report.json", seconds))
    client = start(SteadyClient())
    client.start()
    for replica in replicas:
        until(f"{replica.name} to have work", lambda replica=replica: replica.health()["running"])
        before = client.answers
        replica.restart()
        until("the client to go on", lambda before=before: client.answers > before)
        assert load.runs(), "the load ended before the replicas were replaced: it proves nothing"
    report, printed = load.end()
    client.close()
    assert client.failures == [] and client.answers > 0
    counts = report["counts"]
    assert counts["finished"] == counts["sent"] > 0, printed
    verified = report["verified"]
    assert verified["same"] == counts["finished"] and not verified["different"], printed
    assert report["faults"] == [], printed
    # Each replica served, after its restart as well.
    assert all(replica.metric("unmask_requests_total", outcome="ok") > 0 for replica in replicas)


def test_a_rolling_restart_behind_haproxy_loses_nothing(behind, start, tmp_path):
    replaced_under_load(behind("haproxy"), start, tmp_path, 30)


@pytest.mark.slow
def test_a_rolling_restart_behind_nginx_loses_nothing(behind, start, tmp_path):
    replaced_under_load(behind("nginx"), start, tmp_path, 30)


@BOTH
def test_events_are_passed_on_as_they_come(behind, kind):
    replicas = behind(kind)
    evaluations = lambda: sum(replica.health()["evaluations"] for replica in replicas)
    stream = Stream(BALANCER, SHORT)
    while STEP not in (first := stream.next()):
        pass
    seen = evaluations()
    events, ended = stream.rest()
    assert ended and events
    # A balancer that collects the answer hands out its first event when there is nothing left to evaluate.
    assert seen < evaluations(), first
    direct, through = (Stream(address, SHORT).rest()[0] for address in (replicas[0].address, BALANCER))
    assert content(through) == content(direct)


@BOTH
@pytest.mark.parametrize("bytes_", [10, 40_000])
def test_a_request_that_a_full_replica_refuses_is_answered_by_the_other(network, start, kind, bytes_):
    full = start(Replica(network, "unmask-1", "--max-running", "1", "--queue", "1"))
    other = start(Replica(network, "unmask-2"))
    # Clients that the balancer does not know of: one runs, one waits.
    running = Stream(full.address, LONG | {"max_tokens": 240})
    until("work", lambda: full.health()["running"] == 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, full.address, "/v1/completions", PLAIN)
        until("a full queue", lambda: full.health()["waiting"] == 1)
        start(balancer(kind))
        body = {"prefix": "#" * bytes_, "suffix": "\n", "length": 1, "seed": 1}
        answers = []

        def refused():
            answers.append(post(BALANCER, "/fill", body)[0])
            return full.metric("unmask_requests_total", outcome="overloaded")

        until("the balancer to ask the full one", refused)
        assert full.health()["waiting"] == 1, "it had room in the meantime: nothing is proved"
        assert set(answers) == {200}
        assert other.metric("unmask_requests_total", route="/fill", outcome="ok") == len(answers)
        running.connection.close()
        assert waiting.result()[0] == 200


@BOTH
def test_a_killed_replica_costs_its_running_streams_and_nothing_else(behind, kind):
    killed, survivor = behind(kind)
    streams = [Stream(BALANCER, LONG) for _ in range(6)]
    assert all(stream.next() for stream in streams)
    on_killed, on_survivor = (replica.health()["running"] for replica in (killed, survivor))
    assert (on_killed > 0, on_survivor > 0, on_killed + on_survivor) == (True, True, 6)
    with ThreadPoolExecutor(10) as pool:
        # Plain requests that run on both when one of them dies.
        plain = [pool.submit(complete, LONG | {"stream": False, "seed": seed, "diffusion": {"steps": 512}}) for seed in range(4)]
        until("the plain requests", lambda: sum(r.health()["running"] for r in (killed, survivor)) == 10)
        reading = [pool.submit(stream.rest) for stream in streams]
        killed.signal(signal.SIGKILL)
        killed.ended()
        afterwards = [complete(PLAIN)[0] for _ in range(8)]
        ended = [stream.result()[1] for stream in reading]
        answers = [each.result()[0] for each in plain]
    assert afterwards == [200] * 8
    assert ended.count(True) == on_survivor and ended.count(False) == on_killed
    assert answers == [200] * 4
