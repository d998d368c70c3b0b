"""The manifests say what clusters understand, and what they say of the server is true."""

import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from fleet import DEPLOY, Replica, get
from kustomize import OVERLAYS, container, deployment, render

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


@pytest.mark.parametrize("overlay", OVERLAYS)
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
    monitor = resources["ServiceMonitor", "unmask"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    assert resources["NetworkPolicy", "unmask"]["spec"]["ingress"][0]["ports"][0]["port"] in ports
    listen = next(each["value"] for each in container(resources)["env"] if each["name"] == "UNMASK_LISTEN")
    assert int(listen.rsplit(":", 1)[1]) == ports["http"]
    target = resources["HorizontalPodAutoscaler", "unmask"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in resources
    assert "replicas" not in deployment(resources)["spec"], "a release would undo what the autoscaler did"


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
    picked = [flag.partition("=")[2] for flag in picker["args"] if re.match(r"--[\w-]+-metric=\w", flag)]
    assert len(picked) == 3
    for name in (scaled, *picked):
        assert types.get(name) == "gauge", name
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        path = container(render("cpu"))[probe]["httpGet"]["path"]
        assert get(f"http://{replica.address}{path}")[0] == 200, path
