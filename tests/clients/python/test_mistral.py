"""Mistral's SDK: fill in the middle and chat."""

import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from conftest import MODEL

HOLE = {"model": MODEL, "prompt": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))\n", "max_tokens": 12}
# At temperature 0 the text is the same without a seed; on this route the SDK's name for one means nothing.
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Write a function that adds."}], "max_tokens": 24, "temperature": 0}


@pytest.fixture
def mistral(server):
    with Mistral(server_url=server.url, api_key="none") as client:
        yield client


def streamed(events):
    return "".join(choice.delta.content or "" for event in events for choice in event.data.choices)


@pytest.mark.parametrize("seed", range(3))
def test_a_hole_is_filled_the_same_way_streamed_and_plain(mistral, seed):
    """Broken: Zed, minuet and Continue, which speak this dialect, show other text than a script gets, or none."""
    plain = mistral.fim.complete(**HOLE, random_seed=seed)
    (choice,) = plain.choices
    assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens
    with mistral.fim.stream(**HOLE, random_seed=seed) as events:
        assert streamed(events) == choice.message.content


def test_random_seed_is_the_seed(mistral):
    """Broken: the SDK has no way to ask for another text, or for the same again."""
    drawn = {**HOLE, "temperature": 1, "min_tokens": 12}
    texts = [mistral.fim.complete(**drawn, random_seed=seed).choices[0].message.content for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1] and len(set(texts)) > 1


def test_min_tokens_and_stop_are_obeyed(mistral):
    """Broken: fields that only this dialect has are accepted and forgotten."""
    long = {**HOLE, "max_tokens": 24, "min_tokens": 24, "random_seed": 1}
    whole = mistral.fim.complete(**long)
    assert whole.usage.completion_tokens == 24
    text = whole.choices[0].message.content
    stop = text[4:6]
    assert mistral.fim.complete(**long, stop=[stop]).choices[0].message.content == text[: text.index(stop)]


def test_chat_is_the_same_streamed_and_plain(mistral):
    """Broken: this SDK's stricter types reject chunks that OpenAI's accepts."""
    text = mistral.chat.complete(**CHAT).choices[0].message.content
    with mistral.chat.stream(**CHAT) as events:
        assert text and streamed(events) == text


def test_a_refusal_is_an_error_with_its_status(mistral):
    """Broken: a mistake surfaces as a validation failure of the SDK instead of the server's words."""
    with pytest.raises(SDKError) as refusal:
        mistral.fim.complete(**{**HOLE, "temperature": 9})
    assert refusal.value.raw_response.status_code == 400
    assert "temperature" in refusal.value.body
