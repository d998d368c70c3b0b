"""Runs the commands and examples of all pages and compares what they print with what the pages show.

    check.py [PAGE...]      pages by a part of their path; all without one

TESTED_PROGRAM names the program, which pages call `unmask`. The server is asked on port 8080, as the pages say, so this
runs in a network namespace of its own (tests/clients/run pages). UNMASK_NODE_MODULES names the folder of JavaScript packages.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

from compare import differences
from pages import PROGRAMS, ROOT, SHELL, example_of, pages

ADDRESS = "localhost:8080"
DEADLINE = 600  # seconds until something that must happen counts as broken, on a machine that is busy with other work


def workplace(stack):
    """A folder that looks like the project, in which commands may write without changing it."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unmask-pages-")))
    for entry in ROOT.iterdir():
        if entry.name not in ("crates", ".git", "target"):
            (folder / entry.name).symlink_to(entry)
    (folder / "crates").mkdir()
    for entry in (ROOT / "crates").iterdir():
        if entry.name != "api":
            (folder / "crates" / entry.name).symlink_to(entry)
    # Node looks for packages above the real place of a file, so examples are copied.
    shutil.copytree(ROOT / "crates/api/docs", folder / "crates/api/docs")
    (folder / "node_modules").symlink_to(os.environ["UNMASK_NODE_MODULES"])
    (folder / "bin").mkdir()
    (folder / "bin/unmask").symlink_to(Path(os.environ["TESTED_PROGRAM"]).resolve())
    return folder


def environment(folder):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("UNMASK_", "HF_"))}
    # Compiling the SDKs anew for every example would take most of the time.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    python = Path(sys.executable).parent
    path = f"{folder / 'bin'}:{python}:{kept['PATH']}"
    return kept | {"PATH": path, "UNMASK_LOG": "warn", "HF_HOME": str(folder / "huggingface")}


def ready():
    with suppress(urllib.error.URLError, ConnectionError):
        with urllib.request.urlopen(f"http://{ADDRESS}/ready", timeout=DEADLINE) as answer:
            return answer.status == 200
    return False


class Background:
    """A server that a page starts, or `unmask` where a page only asks one."""

    def __init__(self, command, folder):
        self.process = subprocess.Popen(["bash", "-ec", command], cwd=folder, env=environment(folder), start_new_session=True)
        end = time.monotonic() + DEADLINE
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError(f"no server on {ADDRESS} after: {command}")
            time.sleep(0.02)

    def close(self):
        """Ends it as an operator would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise


class Runner:
    """Runs pages one after another; a server without settings is shared by those that start none."""

    def __init__(self, folder):
        self.folder, self.server, self.command = folder, None, None

    def serve(self, command):
        if command != self.command:
            self.close()
            self.server, self.command = Background(command, self.folder), command

    def close(self):
        if self.server:
            self.server.close()
        self.server = self.command = None

    def page(self, page):
        """Runs all steps of a page and returns what was not as shown."""
        failures, own = [], False
        for step in page.steps:
            if step.skipped:
                continue
            if step.background:
                self.close()
                self.serve(step.block.text)
                own = True
                continue
            if not own and (step.block.language in PROGRAMS or ADDRESS in step.block.text or "examples/" in step.block.text):
                self.serve("exec unmask")
            failures += [f"{step.block}: {line}" for line in self.step(step)]
        if own:
            self.close()
        return failures

    def step(self, step):
        command = ["bash", "-euo", "pipefail", "-c", step.block.text]
        if step.block.language in PROGRAMS:
            command = [PROGRAMS[step.block.language], str(example_of(step.block).relative_to(ROOT))]
        errors = subprocess.STDOUT if step.fails else subprocess.PIPE
        ran = subprocess.run(
            command, cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=errors, text=True, timeout=DEADLINE,
        )
        if (ran.returncode != 0) is not step.fails:
            return [f"ended with {ran.returncode}: {ran.stderr or ran.stdout}"]
        if not ran.stdout.strip() and not step.shown and step.block.language != SHELL:
            return ["printed nothing"]
        if not step.shown:
            return []
        found = differences(step.shown.language, step.shown.text, ran.stdout)
        return [*found, f"printed:\n{ran.stdout}"] if found else []


def main(names):
    chosen = [page for page in pages() if not names or any(name in str(page.path) for name in names)]
    failures, count = [], 0
    with ExitStack() as stack:
        runner = Runner(workplace(stack))
        stack.callback(runner.close)
        for page in chosen:
            ran = [step for step in page.steps if not step.skipped]
            if not ran:
                continue
            start = time.monotonic()
            failures += runner.page(page)
            count += len(ran)
            print(f"{page.path.relative_to(ROOT)}: {len(ran)} commands, {time.monotonic() - start:.1f} s", flush=True)
    for failure in failures:
        print(failure)
    print(f"{count} commands, {len(failures)} failures")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
