"""LiteLLM, the gateway that many organisations put before their models."""

import os

import pytest

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices when it is imported

import litellm  # noqa: E402

from conftest import MODEL  # noqa: E402

MESSAGES = [{"role": "user", "content": "Write a function that adds."}]
# LiteLLM's way of keeping fields away from its own filters.
SEED = {"extra_body": {"seed": 1}}


@pytest.fixture
def to(server):
    """Where a call goes, and that it goes there once."""
    return {"api_base": server.url + "/v1", "api_key": "none", "num_retries": 0, "max_retries": 0}


def streamed(chunks, field):
    choices = (chunk.choices[0] for chunk in chunks if chunk.choices)
    return "".join((choice.delta.content if field == "delta" else choice.text) or "" for choice in choices)


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
def test_chat_is_the_same_streamed_and_plain(to, provider):
    """Broken: behind the gateway, chat windows show another answer than scripts get."""
    call = {"model": f"{provider}/{MODEL}", "messages": MESSAGES, "max_tokens": 24, **SEED, **to}
    plain = litellm.completion(**call)
    assert plain.choices[0].message.content and plain.usage.completion_tokens > 0
    assert streamed(litellm.completion(**call, stream=True), "delta") == plain.choices[0].message.content


def test_a_completion_keeps_its_suffix(to):
    """Broken: the gateway's users cannot fill in the middle."""
    call = {"model": f"text-completion-openai/{MODEL}", "prompt": "def add(a, b):\n    return ", "max_tokens": 12, **SEED, **to}
    filled = litellm.text_completion(**call, suffix="\n\nprint(add(1, 2))\n")
    assert filled.usage.prompt_tokens > litellm.text_completion(**call).usage.prompt_tokens
    pieces = litellm.text_completion(**call, suffix="\n\nprint(add(1, 2))\n", stream=True)
    assert streamed(pieces, "text") == filled.choices[0].text


@pytest.mark.parametrize("provider", ["text-completion-inception", "text-completion-codestral"])
def test_the_dialects_of_fill_in_the_middle(to, provider, server):
    """Broken: the two providers that share a path, and disagree on where the text is, find none."""
    base = to["api_base"] + ("/fim/completions" if provider.endswith("codestral") else "")
    call = {**to, "api_base": base, "model": f"{provider}/{MODEL}", "prompt": "def add(a, b):\n    return ", "max_tokens": 12}
    call = {**call, "suffix": "\n\nprint(add(1, 2))\n", **SEED}
    plain = litellm.text_completion(**call)
    assert plain.choices[0].text
    if provider.endswith("inception"):  # LiteLLM's own reader of Codestral's streams fails on Mistral's as well.
        assert streamed(litellm.text_completion(**call, stream=True), "text") == plain.choices[0].text


def test_a_refusal_is_the_gateways_own_error(to):
    """Broken: the gateway reports its backend as broken when its user made a mistake."""
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        litellm.completion(model=f"openai/{MODEL}", messages=MESSAGES, temperature=9, **to)
    with pytest.raises(litellm.NotFoundError, match="gpt-4"):
        litellm.completion(model="openai/gpt-4", messages=MESSAGES, **to)
