"""What kubectl would send to a cluster."""

import subprocess
from functools import cache

import yaml

from fleet import DEPLOY

OVERLAYS = ("cpu", "gpu", "inference-gateway")


@cache
def render(overlay):
    """The overlay's resources, by kind and name."""
    folder = DEPLOY / "kubernetes" / overlay if overlay == "base" else DEPLOY / "kubernetes/overlays" / overlay
    text = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True).stdout
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text)}


def deployment(resources):
    return resources["Deployment", "unmask"]


def container(resources):
    (only,) = deployment(resources)["spec"]["template"]["spec"]["containers"]
    return only
