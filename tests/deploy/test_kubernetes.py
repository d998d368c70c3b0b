"""The manifests say what clusters understand, and what they say of the server is true."""

import json
import os
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from fleet import DEPLOY, Process, Replica, get
from kustomize import OVERLAYS, container, deployment, render
from waiting import DEADLINE, until

SCHEMAS = Path(__file__).parent / "schemas"
PICKER_CONFIG = DEPLOY / "kubernetes/overlays/inference-gateway/picker-plugins.yaml"


@pytest.mark.parametrize("overlay", ("base", *OVERLAYS))
def test_every_resource_keeps_its_published_schema(overlay):
    version = kubernetes_validate.latest_version()
    for (kind, _), resource in render(overlay).items():
        schema = SCHEMAS / f"{kind}.json"
        if schema.exists():
            jsonschema.validate(resource, json.loads(schema.read_text()))
        else:
            kubernetes_validate.validate(resource, version, strict=True)


def test_the_schemas_refuse_misspelt_fields():
    cases = {
        "ServiceMonitor": ("endpoints", "port"),
        "InferencePool": ("endpointPickerRef", "name"),
        "HTTPRoute": ("rules", "backendRefs"),
        "PrometheusRule": ("groups", "rules"),
    }
    resources = render("inference-gateway")
    for kind, (outer, inner) in cases.items():
        resource = json.loads(json.dumps(next(each for (k, _), each in resources.items() if k == kind)))
        at = resource["spec"][outer]
        at = at[0] if isinstance(at, list) else at
        at[f"{inner}s"] = at.pop(inner)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(resource, json.loads((SCHEMAS / f"{kind}.json").read_text()))


@pytest.mark.parametrize("overlay", ("base", *OVERLAYS))
def test_selectors_find_the_pods_and_ports_exist(overlay):
    resources = render(overlay)
    pod = deployment(resources)["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    ports = {port["name"]: port["containerPort"] for port in container(resources)["ports"]}
    selectors = [
        deployment(resources)["spec"]["selector"]["matchLabels"],
        resources["Service", "unmask"]["spec"]["selector"],
        resources["PodDisruptionBudget", "unmask"]["spec"]["selector"]["matchLabels"],
        resources["NetworkPolicy", "unmask"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors), selectors
    service = resources["Service", "unmask"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports.keys()
    allowed = resources["NetworkPolicy", "unmask"]["spec"]["ingress"]
    assert {port["port"] for rule in allowed for port in rule["ports"]} == ports.keys()
    settings = {each["name"]: each.get("value") for each in container(resources)["env"]}
    assert int(settings["UNMASK_LISTEN"].rsplit(":", 1)[1]) == ports["http"]
    assert int(settings["UNMASK_METRICS_LISTEN"].rsplit(":", 1)[1]) == ports["metrics"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_overlays_watch_and_scale_what_is_deployed(overlay):
    resources = render(overlay)
    service = resources["Service", "unmask"]
    monitor = resources["ServiceMonitor", "unmask"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["metrics"]
    assert "metrics" in {port["name"] for port in service["spec"]["ports"]}
    target = resources["HorizontalPodAutoscaler", "unmask"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in resources
    assert "replicas" not in deployment(resources)["spec"], "a release would undo what the autoscaler did"


def test_the_base_needs_no_custom_resource():
    kinds = {kind for kind, _ in render("base")}
    assert kinds == {"Namespace", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize("overlay", ("base", *OVERLAYS))
def test_pods_start_with_keys_of_a_secret_and_within_bounds(overlay):
    resources = render(overlay)
    settings = {each["name"]: each.get("value") for each in container(resources)["env"]}
    assert settings["UNMASK_REQUIRE_API_KEY"] == "1"
    mounts = {each["mountPath"]: each["name"] for each in container(resources)["volumeMounts"]}
    volumes = {each["name"]: each for each in deployment(resources)["spec"]["template"]["spec"]["volumes"]}
    folder, _, file = settings["UNMASK_API_KEY_FILE"].rpartition("/")
    assert volumes[mounts[folder]]["secret"]["secretName"] == "unmask-keys"
    # The commands that deploy/README.md shows make this Secret with this entry.
    made = rf"kubectl create secret generic unmask-keys --namespace unmask --from-file={file}=\S+"
    assert re.search(made, (DEPLOY / "README.md").read_text())
    assert not any(kind == "Secret" for kind, _ in resources), "keys are not in the manifests"
    assert "sizeLimit" in volumes[mounts["/cache"]]["emptyDir"]
    granted = container(resources)["resources"]
    assert {"cpu", "memory"} <= granted["requests"].keys() and "memory" in granted["limits"]
    assert "cpu" not in granted["limits"], "a throttled evaluation delays every request that shares it"


def test_the_settings_of_the_base_ask_for_keys_and_keep_metrics_apart(network, start, tmp_path):
    settings = {each["name"]: each["value"] for each in container(render("base"))["env"] if "value" in each}
    keys = tmp_path / "keys.txt"
    keys.write_text("ann:key-of-ann\n")
    started = settings | {"UNMASK_API_KEY_FILE": str(keys), "UNMASK_THREADS": "1"}
    process = start(Process("base", [os.environ["TESTED_PROGRAM"]], started))

    def ready():
        assert process.process.poll() is None, process.output()
        return get("http://127.0.0.1:8080/ready")[0] == 200

    until("the base to be ready", ready)
    assert get("http://127.0.0.1:8080/v1/models")[0] == 401
    assert get("http://127.0.0.1:8080/metrics")[0] == 401
    assert "unmask_ready 1" in get("http://127.0.0.1:9090/metrics")[1]
    process.close()
    without = {name: value for name, value in started.items() if name != "UNMASK_API_KEY_FILE"}
    refused = start(Process("base without keys", [os.environ["TESTED_PROGRAM"]], without))
    assert refused.process.wait(timeout=DEADLINE) != 0 and "key" in refused.output()


def test_the_gpu_overlay_says_that_it_is_untested():
    assert "unmask/untested" in deployment(render("gpu"))["metadata"]["annotations"]
    assert "UNTESTED" in (DEPLOY / "kubernetes/overlays/gpu/kustomization.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_keep_the_restricted_profile(overlay):
    for (kind, name), resource in render(overlay).items():
        if kind != "Deployment":
            continue
        pod = resource["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        for each in pod["containers"]:
            context = each["securityContext"]
            assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"]["drop"] == ["ALL"], name


def test_the_rules_are_prometheus_own():
    rules = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    assert render("cpu")["PrometheusRule", "unmask"]["spec"] == rules


def test_the_pool_is_the_deployment_and_its_picker_exists():
    resources = render("inference-gateway")
    pool = resources["InferencePool", "unmask"]["spec"]
    pod = deployment(resources)["spec"]["template"]["metadata"]["labels"]
    assert pool["selector"]["matchLabels"].items() <= pod.items()
    assert pool["targetPorts"][0]["number"] == container(resources)["ports"][0]["containerPort"]
    picker = resources["Service", pool["endpointPickerRef"]["name"]]["spec"]
    assert picker["ports"][0]["port"] == pool["endpointPickerRef"]["port"]["number"]
    assert picker["selector"].items() <= resources["Deployment", "picker"]["spec"]["template"]["metadata"]["labels"].items()
    backend = resources["HTTPRoute", "unmask"]["spec"]["rules"][0]["backendRefs"][0]
    assert (backend["kind"], backend["name"]) in resources
    plugins = yaml.safe_load(PICKER_CONFIG.read_text())
    known = {plugin["type"] for plugin in plugins["plugins"]}
    assert {each["pluginRef"] for profile in plugins["schedulingProfiles"] for each in profile["plugins"]} == known


def test_what_scales_and_picks_exists_in_metrics(network, start):
    replica = start(Replica(network, "unmask-1"))
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", get(f"http://{replica.address}/metrics")[1], re.MULTILINE))
    scaled = render("cpu")["HorizontalPodAutoscaler", "unmask"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    (picker,) = render("inference-gateway")["Deployment", "picker"]["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container(render("inference-gateway"))["ports"]}
    assert f"--model-server-metrics-port={ports['metrics']}" in picker["args"]
    picked = [flag.partition("=")[2] for flag in picker["args"] if re.match(r"--[\w-]+-metric=\w", flag)]
    assert len(picked) == 3
    for name in (scaled, *picked):
        assert types.get(name) == "gauge", name
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container(render("cpu"))[probe]["httpGet"]["path"]
        assert get(f"http://{replica.address}{path}")[0] == 200, path
