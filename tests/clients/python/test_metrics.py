"""promtool, Prometheus' own judge of metrics."""

import os
import subprocess
import urllib.error
import urllib.request

import pytest

from conftest import ENDLESS
from server import Server

TEXT = {"prompt": "import ", "max_tokens": 4, "seed": 1}


@pytest.fixture(scope="module")
def used_server():
    """A server that has seen every route, every kind of outcome and a waiting line: all its metrics have values."""
    with Server() as server:
        server.post("/v1/completions", {**TEXT, "n": 2})
        server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4})
        server.post("/v1/fim/completions", {**TEXT, "suffix": "\n"})
        server.post("/infill", {"input_prefix": "import ", "input_suffix": "\n", "n_predict": 4})
        server.post("/fill", {"prefix": "import ", "suffix": "\n", "length": {"min": 1, "max": 4}})
        for refused in ({**TEXT, "n": 99}, {**TEXT, "model": "other"}, {**TEXT, **ENDLESS, "max_tokens": 200, "timeout_ms": 1}):
            with pytest.raises(urllib.error.HTTPError):
                server.post("/v1/completions", refused)
        yield server


def test_promtool_has_no_objection(used_server):
    """Broken: dashboards and rules trip over names, units or types that are not what Prometheus expects."""
    check = [os.environ.get("PROMTOOL", "promtool"), "check", "metrics"]
    verdict = subprocess.run(check, input=used_server.get("/metrics"), capture_output=True, text=True, timeout=60)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, "")


def test_openmetrics_ends_as_it_must(used_server):
    """Broken: a scraper that asks for OpenMetrics rejects the whole scrape."""
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    with urllib.request.urlopen(urllib.request.Request(used_server.url + "/metrics", headers=accept), timeout=120) as answer:
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.read().endswith(b"# EOF\n")


def test_the_names_of_clients_are_no_labels(used_server):
    """Broken: requests with invented model names fill the memory of Prometheus."""
    series = used_server.get("/metrics").count("\n")
    for number in range(50):
        with pytest.raises(urllib.error.HTTPError):
            used_server.post("/v1/completions", {**TEXT, "model": f"model-{number}"})
    assert used_server.get("/metrics").count("\n") == series
