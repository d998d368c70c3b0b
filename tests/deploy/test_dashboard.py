"""The dashboard and the alerts ask for what is there: a Prometheus with the shipped configuration scrapes both replicas
and HAProxy, and is asked every query."""

import json
import re
import subprocess
import urllib.parse

import pytest
import yaml

from fleet import BALANCER, DEPLOY, Process, get, post
from streams import SHORT, Stream
from waiting import until

PROMETHEUS = "http://127.0.0.1:9090"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/unmask.json").read_text())
OWN = re.compile(r"\b(?:unmask|gen_ai_server|process)_\w+")


def panel_queries():
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*"))
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def ask(path, **parameters):
    status, text = get(f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
    assert status == 200, text
    return json.loads(text)["data"]


def every_kind_of_request():
    """An answer, a stream, a refusal and an error of the client."""
    assert post(BALANCER, "/fill", {"prefix": "import ", "length": 2})[0] == 200
    assert Stream(BALANCER, SHORT).rest()[1]
    assert post(BALANCER, "/v1/completions", {"prompt": "a", "temperature": -1})[0] == 400


@pytest.fixture
def prometheus(behind, start, tmp_path):
    behind("haproxy")
    configuration = f"--config.file={DEPLOY}/prometheus/prometheus.yml"
    process = start(Process("prometheus", ["prometheus", configuration, f"--storage.tsdb.path={tmp_path}"]))

    def serves():
        assert process.process.poll() is None, process.output()
        return get(f"{PROMETHEUS}/-/ready")[0] == 200

    until("Prometheus", serves)


def test_every_query_of_the_dashboard_and_the_alerts_finds_its_metrics(prometheus):
    wanted = {"unmask-1:8080", "unmask-2:8080", "haproxy:8404"}
    targets = {}

    def all_up():
        nonlocal targets
        active = ask("targets")["activeTargets"]
        targets = {each["labels"]["instance"]: each["lastError"] or each["health"] for each in active}
        return targets == dict.fromkeys(wanted, "up")

    until("all targets to be scraped", all_up, lambda: targets)
    queries = panel_queries()
    assert len(queries) > 20
    missing = dict(queries)

    def all_answered():
        every_kind_of_request()
        nonlocal missing
        missing = {}
        for title, query in queries:
            values = [each["value"][1] for each in ask("query", query=query)["result"]]
            if not values or all(value == "NaN" for value in values):
                missing[title] = query
        return not missing

    until("an answer to every query", all_answered, lambda: missing)

    # Alerts are silent when all is well, so here only the names they use are checked.
    exported = set(ask("label/__name__/values"))
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    used = {name for group in rules["groups"] for rule in group["rules"] for name in OWN.findall(rule["expr"])}
    assert used and used <= exported, used - exported
    loaded = {rule["name"] for group in ask("rules")["groups"] for rule in group["rules"]}
    assert loaded == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"] == []


def test_metrics_keep_prometheus_conventions(replicas):
    text = get(f"http://{replicas[0].address}/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_panels_do_not_overlap_and_use_the_provisioned_source():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "prometheus"
