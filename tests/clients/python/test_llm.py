"""llm, the command line tool: what people type into a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import MODEL

LLM = Path(sys.executable).parent / "llm"


@pytest.fixture
def ask(server, tmp_path):
    """Runs `llm` with a home of its own that knows the server's chat and completion models."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- {{model_id: chat, model_name: {MODEL}, api_base: {server.url}/v1}}\n"
        f"- {{model_id: text, model_name: {MODEL}, api_base: {server.url}/v1, completion: true}}\n"
    )

    def run(*arguments):
        command = [LLM, "--key", "none", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
                              stdin=subprocess.DEVNULL)

    return run


@pytest.mark.parametrize("model", ["chat", "text"])
def test_the_terminal_shows_the_whole_text(ask, model):
    """Broken: what trickles into the terminal is another text than the one that comes at once."""
    options = ["-m", model, "-o", "seed", "1", "-o", "max_tokens", "24"]
    plain, streamed = ask(*options, "--no-stream", "Write a function that adds."), ask(*options, "Write a function that adds.")
    assert plain.returncode == 0, plain.stderr
    assert plain.stdout.strip() and streamed.stdout == plain.stdout


def test_a_refusal_is_shown_in_the_servers_words(ask):
    """Broken: the terminal shows a stack trace, or nothing."""
    refused = ask("-m", "chat", "-o", "max_tokens", "100000", "x")
    assert refused.returncode != 0
    assert "max_tokens" in refused.stderr
