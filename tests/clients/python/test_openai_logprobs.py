"""OpenAI's Python SDK: log-probabilities of what was written and scores of what was given."""

import math

import pytest

from conftest import MODEL

PROMPT = "import os\nimport "


def complete(client, **fields):
    return client.completions.create(**{"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "seed": 1, **fields})


def is_log_probability(number):
    return math.isfinite(number) and number <= 0


@pytest.mark.parametrize("stream", [False, True])
def test_every_token_of_the_text_has_its_log_probability(openai_client, stream):
    """Broken: tools that colour a text by certainty colour the wrong places."""
    answer = complete(openai_client, logprobs=2, stream=stream)
    choices = [choice for chunk in (answer if stream else [answer]) for choice in chunk.choices]
    parts = [choice.logprobs for choice in choices if choice.logprobs]
    text = "".join(choice.text for choice in choices)
    tokens = [token for part in parts for token in part.tokens]
    offsets = [offset for part in parts for offset in part.text_offset]
    assert text and "".join(tokens) == text
    assert offsets == [len("".join(tokens[:place])) for place in range(len(tokens))]
    assert all(is_log_probability(number) for part in parts for number in part.token_logprobs)
    for part in parts:
        for token, number, top in zip(part.tokens, part.token_logprobs, part.top_logprobs, strict=True):
            assert top[token] == number
            assert all(is_log_probability(other) for other in top.values())


def test_streamed_log_probabilities_are_the_plain_ones(openai_client):
    """Broken: asking for log-probabilities changes them or the text."""
    plain = complete(openai_client, logprobs=1).choices[0].logprobs.token_logprobs
    parts = [choice.logprobs for chunk in complete(openai_client, logprobs=1, stream=True) for choice in chunk.choices]
    assert [number for part in parts if part for number in part.token_logprobs] == plain


def test_asking_for_log_probabilities_changes_no_text(openai_client):
    """Broken: what is measured depends on being measured."""
    assert complete(openai_client, logprobs=5).choices[0].text == complete(openai_client).choices[0].text


def test_chat_gives_tokens_bytes_and_alternatives(openai_client):
    """Broken: readers of chat's other layout find nothing, or bytes that are not the text."""
    messages = [{"role": "user", "content": "Write a function that adds."}]
    fields = dict(model=MODEL, messages=messages, max_tokens=16, seed=1, logprobs=True, top_logprobs=3)
    (choice,) = openai_client.chat.completions.create(**fields).choices
    entries = choice.logprobs.content
    assert choice.message.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == choice.message.content
    for entry in entries:
        assert is_log_probability(entry.logprob)
        assert 1 <= len(entry.top_logprobs) <= 4
        order = [alternative.logprob for alternative in entry.top_logprobs[:3]]
        assert order == sorted(order, reverse=True)


def test_echo_scores_the_prompt(openai_client):
    """Broken: a text cannot be scored without generating another."""
    scored = complete(openai_client, prompt="import os", echo=True, logprobs=1, max_tokens=0)
    (choice,) = scored.choices
    assert choice.text == "import os" and scored.usage.completion_tokens == 0
    assert "".join(choice.logprobs.tokens) == "import os"
    assert all(is_log_probability(number) for number in choice.logprobs.token_logprobs[1:])
    assert scored.diffusion["score"]["mode"] == "chain"


def test_a_score_is_that_of_the_text_and_of_no_neighbour(openai_client):
    """Broken: a text's score depends on what else is in the request."""
    fields = dict(echo=True, logprobs=1, max_tokens=0)
    alone = complete(openai_client, prompt="import os", **fields).choices[0].logprobs.token_logprobs
    batch = complete(openai_client, prompt=["def f():", "import os", "class Stack:"], **fields).choices
    assert batch[1].logprobs.token_logprobs == alone
