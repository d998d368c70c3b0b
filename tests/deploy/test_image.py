"""The image that the Dockerfile builds, run by careful users: no rights, nothing to write to."""

import errno
import json
import re
import subprocess
import threading
from pathlib import Path

import pytest

from containers import IMAGE, LIMITS, STORE, Container, build, context_with_a_change, podman
from fleet import ROOT, get, post
from streams import LONG, Stream
from waiting import DEADLINE

pytestmark = pytest.mark.image
FILL = {"prefix": "import ", "suffix": "\n", "length": 2, "seed": 1}


@pytest.fixture(scope="module", autouse=True)
def image():
    subprocess.run([Path(__file__).parent / "base-images", STORE], check=True)
    build("--tag", IMAGE)


@pytest.fixture
def run(start):
    return lambda *options: start(Container(*options))


def test_it_fills_without_rights_and_without_writing(run):
    container = run()
    status, answer = post(container.address, "/fill", FILL)
    assert status == 200 and answer["choices"][0]["text"].startswith("import ")
    assert json.loads(get(f"http://{container.address}/v1/models")[1])["data"][0]["id"] == "unmask-code"
    told = dict(line.split(":\t", 1) for line in container.of_process("status").read_text().splitlines() if ":\t" in line)
    assert told["Uid"].split() == ["65534"] * 4 and told["Gid"].split() == ["65534"] * 4
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0 and told["NoNewPrivs"] == "1"
    for folder in ("", "etc", "tmp", "cache", "usr/local/bin"):
        with pytest.raises(OSError) as refused:
            container.of_process(f"root/{folder}/written").write_text("")
        assert refused.value.errno == errno.EROFS, folder


def test_there_is_nothing_in_it_to_run_but_the_server(run):
    for shell in ("/bin/sh", "/bin/bash", "/busybox/sh"):
        done = podman("run", "--rm", *LIMITS, "--network", "none", "--entrypoint", shell, IMAGE, "-c", "true", check=False)
        assert done.returncode == 127 and "no such file" in done.stderr.lower(), done.stderr
    mounted = Path(podman("image", "mount", IMAGE).strip())
    try:
        programs = [
            path.relative_to(mounted) for path in mounted.rglob("*")
            if path.is_file() and path.stat().st_mode & 0o111 and not re.search(r"\.so(\.|$)", path.name)
        ]
        assert [str(program) for program in programs] == ["usr/local/bin/unmask"]
        assert (mounted / "cache").stat().st_uid == 65534 and (mounted / "model").stat().st_uid == 0
    finally:
        podman("image", "unmount", IMAGE)


def test_its_health_check_knows_ready_from_stopping(run):
    container = run("--env", "UNMASK_DRAIN_DELAY=600")
    assert container.inspect()["Config"]["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/unmask", "healthcheck"]
    assert container.healthy()
    podman("kill", "--signal", "TERM", container.id)
    assert get(f"http://{container.address}/live")[0] == 200
    assert not container.healthy()


def test_stopping_it_lets_a_stream_end(run):
    # As long as this machine may need, instead of the 45 s that suffice for the image's own settings.
    container = run("--env", f"UNMASK_DRAIN_TIMEOUT={DEADLINE}")
    stream = Stream(container.address, LONG | {"n": 2})
    assert stream.next()
    stopping = threading.Thread(target=podman, args=("stop", "--time", str(2 * DEADLINE), container.id))
    stopping.start()
    ended = stream.rest()[1]
    stopping.join()
    log = [json.loads(line) for line in container.log().splitlines()]
    assert next(line for line in log if line["message"] == "stopping")["running"] > 0, "the stream had ended before"
    assert ended
    state = container.inspect()["State"]
    # 137 would mean that it was killed at the end of the grace period.
    assert (state["Running"], state["ExitCode"]) == (False, 0), log
    assert log[-1]["message"] == "stopped"


def test_a_model_on_the_volume_is_served(run):
    folder = ROOT / "tests/golden/diffugpt-s"
    container = run("--volume", f"{folder}:/model:ro", "--env", "UNMASK_MODEL=/model")
    assert json.loads(get(f"http://{container.address}/v1/models")[1])["data"][0]["id"] == "model"
    assert post(container.address, "/fill", FILL)[0] == 200


def test_a_change_of_the_sources_leaves_the_dependencies_as_they_are(tmp_path):
    printed = build("--target", "dependencies", context=context_with_a_change(tmp_path))
    cook = printed.index("cargo chef cook")
    assert "Using cache" in printed[cook:] and "Compiling" not in printed[cook:], printed
