"""Every file under deploy/ is accepted by the program that reads it, and they agree with each other."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml

from fleet import DEPLOY, ROOT
from kustomize import container, deployment, render

# What the server takes for its last bytes after --drain-timeout.
LAST_BYTES = 5


def accepts(*command, **more):
    """The output of a check that must pass."""
    checked = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    assert checked.returncode == 0, checked.stdout
    return checked.stdout


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(accepts("docker-compose", "--file", ROOT / "docker-compose.yml", "config"))


@pytest.fixture(scope="module")
def dockerfile():
    return (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", str(text))[1])


def test_alerts_fire_when_they_should():
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts_test.yml").read_text())
    accepts("promtool", "check", "rules", DEPLOY / "prometheus/alerts.yml")
    accepts("promtool", "test", "rules", DEPLOY / "prometheus/alerts_test.yml")
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    fired = {
        test["alertname"] for case in tests["tests"] for test in case["alert_rule_test"] if test.get("exp_alerts")
    }
    assert fired == alerts, "an alert that no test makes fire"


def test_prometheus_reads_its_configuration():
    accepts("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")


def test_haproxy_reads_its_configuration_without_a_warning(network):
    assert "WARNING" not in accepts("haproxy", "-c", "-f", DEPLOY / "haproxy/haproxy.cfg")


def test_nginx_reads_its_configuration(network):
    accepts("nginx", "-t", "-c", DEPLOY / "nginx/nginx.conf", "-g", "user root;")


def test_systemd_reads_the_unit(tmp_path):
    unit = tmp_path / "unmask@.service"
    shipped = (DEPLOY / "systemd/unmask@.service").read_text()
    unit.write_text(shipped.replace("/usr/local/bin/unmask", os.environ["TESTED_PROGRAM"]))
    assert unit.read_text() != shipped
    assert accepts("systemd-analyze", "verify", "--man=no", str(unit)) == ""
    # 10 is a service without any sandbox, 0 one that can do nothing.
    accepts("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit))


def test_compose_describes_what_the_balancer_and_prometheus_expect(compose):
    services = compose["services"]
    balanced = re.findall(r"server \S+ ([\w-]+):8080", (DEPLOY / "haproxy/haproxy.cfg").read_text())
    assert balanced == re.findall(r"server ([\w-]+):8080", (DEPLOY / "nginx/nginx.conf").read_text())
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    scraped = {target.split(":")[0] for job in scraped for each in job["static_configs"] for target in each["targets"]}
    assert scraped == {*balanced, "haproxy"} and scraped <= services.keys()
    for name, service in services.items():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("/"):
                assert os.path.exists(source), f"{name} mounts {source}"
    for name in balanced:
        assert services[name]["read_only"] is True and services[name]["cap_drop"] == ["ALL"]
        assert services[name]["environment"]["UNMASK_THREADS"] == "2" and services[name]["mem_limit"], name


def test_compose_passes_on_every_setting_of_the_example(compose):
    """What is set in .env and not passed on would be passed over without a word."""
    example = re.findall(r"^#([A-Z_]+)=", (DEPLOY / "unmask.env").read_text(), re.MULTILINE)
    passed = compose["services"]["unmask-1"]["environment"]
    assert len(example) > 10 and set(example) <= passed.keys(), set(example) - passed.keys()


def test_grafana_finds_its_data_and_its_dashboard(compose):
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    provisioning = DEPLOY / "grafana/provisioning"
    assert mounts[str(provisioning)] == "/etc/grafana/provisioning"
    source = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose["services"]
    folder = yaml.safe_load((provisioning / "dashboards/unmask.yml").read_text())["providers"][0]["options"]["path"]
    assert mounts[str(DEPLOY / "grafana/dashboards")] == folder
    home = compose["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{folder}/unmask.json" and (DEPLOY / "grafana/dashboards/unmask.json").exists()


@pytest.fixture(scope="module")
def defaults():
    """The variables of all settings of the server with their defaults; None where there is none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UNMASK_")}
    printed = accepts(os.environ["TESTED_PROGRAM"], "serve", "--print-config", env=kept)
    found = re.findall(r'^(?:# )?([a-z-]+) =(?: "?(.*?)"? # default)?$', printed, re.MULTILINE)
    return {"UNMASK_" + name.upper().replace("-", "_"): value or None for name, value in found}


def test_every_setting_is_one_of_the_server(defaults):
    names = re.compile(r"\b(?:UNMASK|HF)_[A-Z_]+\b")
    # The first holds a secret, the second names the file of the others.
    known = {"UNMASK_API_KEY", "UNMASK_CONFIG", *defaults}
    known |= {name for name in names.findall(accepts(os.environ["TESTED_PROGRAM"], "serve", "--help")) if name.startswith("HF_")}
    # Scripts that build and check the program for GPUs have variables of their own.
    shipped = (path for path in DEPLOY.rglob("*") if path.is_file() and path.parent != DEPLOY / "cuda")
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", DEPLOY / "cuda/Dockerfile", *shipped]
    used = {name for path in files for name in names.findall(path.read_text())}
    assert "UNMASK_DRAIN_DELAY" in used and used <= known, used - known


def test_the_example_of_settings_says_the_defaults(defaults):
    example = (DEPLOY / "unmask.env").read_text()
    settings = dict(re.findall(r"^#?([A-Z_]+)=(\S+)$", example, re.MULTILINE))
    assert len(settings) > 10 and all(re.match(r"#|$", line) for line in example.splitlines()), "all are commented out"
    compared = {name for name in settings if defaults.get(name) not in (None, "false")}
    assert len(compared) >= 5
    for name in compared:
        assert settings[name] == defaults[name], name
    # All at once are settings with which the server would start.
    printed = accepts(os.environ["TESTED_PROGRAM"], "serve", "--print-config", env=os.environ | settings)
    assert "# UNMASK_MAX_QUEUE_TIME" in printed, printed


def test_stopping_a_replica_leaves_it_time_to_drain(compose, dockerfile, defaults):
    timeout = int(defaults["UNMASK_DRAIN_TIMEOUT"])
    delay = int(re.search(r"UNMASK_DRAIN_DELAY=(\d+)", dockerfile)[1])
    unit = (DEPLOY / "systemd/unmask@.service").read_text()
    grace = {
        "compose 1": seconds(compose["services"]["unmask-1"]["stop_grace_period"]),
        "compose 2": seconds(compose["services"]["unmask-2"]["stop_grace_period"]),
        "systemd": int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]),
    }
    delays = {"systemd": int(re.search(r"UNMASK_DRAIN_DELAY=(\d+)", unit)[1])}
    for overlay in ("cpu", "gpu", "inference-gateway"):
        resources = render(overlay)
        settings = {each["name"]: each.get("value") for each in container(resources)["env"]}
        grace[overlay] = deployment(resources)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        delays[overlay] = int(settings["UNMASK_DRAIN_DELAY"])
        assert int(settings["UNMASK_DRAIN_TIMEOUT"]) == timeout
    for name, granted in grace.items():
        assert granted > delays.get(name, delay) + timeout + LAST_BYTES, name


def test_balancers_wait_longer_than_a_request_may_take(compose):
    settings = compose["services"]["unmask-1"]["environment"]
    longest = int(settings["UNMASK_REQUEST_TIMEOUT"])
    haproxy = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    nginx = (DEPLOY / "nginx/nginx.conf").read_text()
    for text, setting in ((haproxy, "timeout server"), (haproxy, "timeout client"), (nginx, "proxy_read_timeout")):
        assert int(re.search(rf"{setting} (\d+)s", text)[1]) > longest, setting


def test_the_image_is_built_as_the_design_says(dockerfile):
    final = dockerfile.rsplit("FROM ", 1)[1]
    for line in ("USER 65534:65534", "VOLUME /model", "STOPSIGNAL SIGTERM"):
        assert line in final, line
    assert not re.search(r"^RUN ", final, re.MULTILINE), "the final image has no shell to run anything"
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${BUILDER}", "chef", "chef", "dependencies", "${RUNTIME}"]


def test_all_that_cargo_reads_goes_into_the_build_of_the_image():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [ROOT / line[1:] for line in lines if line.startswith("!")]
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    read = [ROOT / member / "Cargo.toml" for member in members]
    for manifest in list(read):
        for tests in tomllib.loads(manifest.read_text()).get("test", ()):
            read.append(manifest.parent / tests.get("path", ""))
    for path in read:
        assert any(path.resolve().is_relative_to(folder) for folder in copied), path
