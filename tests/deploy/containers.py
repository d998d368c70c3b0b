"""The image, built by buildah from the Dockerfile, and containers of it, run by podman and runc."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from fleet import ROOT, get
from waiting import until

STORE = Path(os.environ.get("UNMASK_DEPLOY_CACHE", "/var/tmp/unmask-deploy")) / "images"
STORAGE = ["--root", STORE / "storage", "--runroot", STORE / "run", "--storage-driver", "overlay"]
IMAGE = "localhost/unmask"
# Podman would ask for more than the machine may grant.
LIMITS = ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1024:1024"]


def buildah(*arguments, context=ROOT):
    """The output of a build; it is shown as it comes, since the first one takes a quarter of an hour."""
    command = ["buildah", *STORAGE, *arguments, context]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        sys.stderr.write(line)
    assert process.wait() == 0, "".join(lines[-50:])
    return "".join(lines)


def build(*more, context=ROOT):
    """The Dockerfile with base images that this machine can reach. `docker` is the format that keeps HEALTHCHECK."""
    return buildah(
        "bud", "--layers", "--isolation", "chroot", "--format", "docker",
        "--build-arg", "BUILDER=localhost/unmask-builder", "--build-arg", "RUNTIME=localhost/unmask-runtime",
        *more, context=context,
    )  # fmt: skip


def podman(*arguments, check=True):
    """Its standard output."""
    command = ["podman", *STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout if check else done


def context_with_a_change(folder):
    """A copy of what goes into the build, with one more line in a source file."""
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            source, copy = ROOT / line[1:], folder / line[1:]
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    for name in ("Dockerfile", ".dockerignore"):
        shutil.copy(ROOT / name, folder)
    with open(folder / "crates/api/src/main.rs", "a") as source:
        source.write("// One more line.\n")
    return folder


class Container:
    """A container of the image, as careful users run it."""

    def __init__(self, *options):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.id = podman(
            "run", "--detach", "--network", "host", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all",
            "--security-opt", "no-new-privileges", *LIMITS, "--env", f"UNMASK_LISTEN={self.address}", *options, IMAGE,
        ).strip()  # fmt: skip
        until("the container to be ready", self.ready)

    def ready(self):
        assert self.inspect()["State"]["Running"], self.log()
        return get(f"http://{self.address}/ready")[0] == 200

    def inspect(self):
        return json.loads(podman("inspect", self.id))[0]

    def log(self):
        return podman("logs", self.id, check=False).stderr

    def healthy(self):
        """What the image's HEALTHCHECK says now."""
        return podman("healthcheck", "run", self.id, check=False).returncode == 0

    def of_process(self, name):
        """What is under /proc about the server."""
        return Path(f"/proc/{self.inspect()['State']['Pid']}/{name}")

    def close(self):
        podman("rm", "--force", "--time", "0", self.id)
