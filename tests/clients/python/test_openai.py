"""OpenAI's Python SDK: completions and chat. Runs under two major versions of the SDK."""

import asyncio

import pytest
from openai import AsyncOpenAI

from conftest import MODEL

PROMPT = "import os\nimport "
MESSAGES = [{"role": "user", "content": "Write a function that adds two numbers."}]


def complete(client, **fields):
    return client.completions.create(**{"model": MODEL, "prompt": PROMPT, "max_tokens": 16, "seed": 1, **fields})


def chat(client, **fields):
    return client.chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 24, "seed": 1, **fields})


def joined(chunks, choice=0):
    return "".join(c.text or "" for chunk in chunks for c in chunk.choices if c.index == choice)


def test_models_are_listed_and_found_by_name(openai_client):
    """Broken: clients that offer a choice of models have none to offer."""
    (model,) = openai_client.models.list().data
    assert model.id == MODEL
    assert openai_client.models.retrieve(model.id).max_model_len == model.max_model_len == 256


def test_a_completion_is_whole_and_its_numbers_add_up(openai_client):
    """Broken: users are billed for something else than what they got."""
    answer = complete(openai_client)
    (choice,) = answer.choices
    assert answer.object == "text_completion" and answer.id == f"cmpl-{answer._request_id}"
    assert choice.text and choice.finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 16
    assert answer.usage.completion_tokens == answer.diffusion["returned_tokens"]


def test_a_seed_repeats_the_text(openai_client):
    """Broken: nothing that a user reports can be reproduced."""
    texts = [complete(openai_client, seed=seed).choices[0].text for seed in (1, 1, 2, 3, 4)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1, "the seed has no effect"


@pytest.mark.parametrize("seed", range(4))
def test_streamed_text_is_the_plain_text(openai_client, seed):
    """Broken: concatenated pieces differ from the text of a plain answer."""
    plain = complete(openai_client, seed=seed)
    chunks = list(complete(openai_client, seed=seed, stream=True, stream_options={"include_usage": True}))
    assert joined(chunks) == plain.choices[0].text
    reasons = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert reasons == [plain.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage == plain.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_async_client_reads_the_same_text(server, openai_client):
    """Broken: the SDK's other HTTP path, which agents use, disagrees."""

    async def streamed():
        async with AsyncOpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
            return [chunk async for chunk in await complete(client, stream=True)]

    assert joined(asyncio.run(streamed())) == complete(openai_client).choices[0].text


def test_usage_is_on_every_chunk_when_asked_for(openai_client):
    """Broken: GuideLLM, which asks for it, counts tokens that do not exist."""
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk.usage.completion_tokens for chunk in complete(openai_client, stream=True, stream_options=options)]
    assert counts == sorted(counts) and counts[-1] > 0


def test_states_are_readable_and_replay_to_the_text(server, openai_client):
    """Broken: a viewer of the denoising shows something that never happened."""
    stream = complete(openai_client, stream=True, extra_body={"diffusion": {"stream_states": "delta"}})
    chunks = list(stream)
    events = [chunk.diffusion for chunk in chunks if "type" in (getattr(chunk, "diffusion", None) or {})]
    assert [event["type"] for event in events] == ["start"] + ["step"] * (len(events) - 2) + ["end"]
    canvas = [None] * events[0]["length"]
    for event in events[1:-1]:
        for position, token, text in zip(event["positions"], event["token_ids"], event["texts"], strict=True):
            assert canvas[position] is None, "a position is filled twice"
            canvas[position] = (token, text)
        assert event["remaining"] == canvas.count(None)
    tokens, texts = zip(*canvas[: events[-1]["returned_tokens"]])
    assert "".join(texts) == joined(chunks)
    # The first token begins with the prompt's last blank, which its text leaves to the prompt.
    assert server.post("/detokenize", {"tokens": tokens})["prompt"] == " " + joined(chunks)


def test_diffusion_settings_arrive_through_extra_body(openai_client):
    """Broken: users of the SDK cannot choose the sampler."""
    report = complete(openai_client, extra_body={"ignore_eos": True, "diffusion": {"preset": "confidence", "steps": 4}}).diffusion
    assert report["steps"] == report["forward_passes"] == 4
    assert report["order"] == "confidence"


def test_a_suffix_is_seen_and_not_repeated(server, openai_client):
    """Broken: editors that fill in the middle get a continuation that ignores what follows."""
    prefix, suffix = "def f(a, b):\n    return ", " + b\n"
    plain = complete(openai_client, prompt=prefix)
    filled = complete(openai_client, prompt=prefix, suffix=suffix, max_tokens=1)
    suffix_tokens = server.post("/tokenize", {"prompt": suffix, "add_special_tokens": False})["count"]
    assert filled.usage.prompt_tokens == plain.usage.prompt_tokens + suffix_tokens
    assert filled.choices[0].finish_reason == "length" and filled.usage.completion_tokens == 1
    assert suffix not in filled.choices[0].text


def test_choices_are_numbered_by_prompt_and_sample(openai_client):
    """Broken: evaluations that send many prompts at once attribute answers to the wrong prompt."""
    both = {"prompt": ["import os\nimport ", "def add(a, b):\n    return "], "n": 2}
    plain = complete(openai_client, **both)
    assert [choice.index for choice in plain.choices] == [0, 1, 2, 3]
    alone = complete(openai_client, prompt=both["prompt"][1], n=2)
    assert [c.text for c in plain.choices[2:]] == [c.text for c in alone.choices]
    chunks = list(complete(openai_client, **both, stream=True))
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert [joined(chunks, choice) for choice in range(4)] == [choice.text for choice in plain.choices]


def test_a_prompt_of_token_ids_is_taken_as_it_is(server, openai_client):
    """Broken: clients that tokenize by themselves pay for other tokens than they sent."""
    ids = server.post("/tokenize", {"prompt": PROMPT})["tokens"]
    assert complete(openai_client, prompt=ids).usage.prompt_tokens == len(ids)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text_and_is_not_part_of_it(openai_client, stream):
    """Broken: clients that split answers at a stop string see it, whole or in pieces."""
    whole = complete(openai_client, max_tokens=32, extra_body={"ignore_eos": True}).choices[0].text
    stop = whole[5:7]
    answer = complete(openai_client, max_tokens=32, stop=[stop], stream=stream, extra_body={"ignore_eos": True})
    chunks = list(answer) if stream else [answer]
    assert joined(chunks) == whole[: whole.index(stop)]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]


def test_neutral_values_are_no_wishes(openai_client):
    """Broken: clients that spell out every default are refused."""
    neutral = dict(frequency_penalty=0, presence_penalty=0, logprobs=None, n=1, best_of=1, suffix=None, stop=None,
                   logit_bias=None, echo=False, user="user-1", top_p=None, temperature=None)
    assert complete(openai_client, **neutral).choices[0].text == complete(openai_client).choices[0].text


def test_unknown_fields_are_ignored_and_named(openai_client):
    """Broken: a misspelled field is ignored without an error."""
    raw = openai_client.completions.with_raw_response.create(
        model=MODEL, prompt=PROMPT, max_tokens=4, extra_body={"temprature": 0.1}
    )
    assert raw.headers["x-ignored-params"] == "temprature"


def test_chat_streamed_and_plain_are_the_same(openai_client):
    """Broken: chat windows show another answer than scripts get."""
    plain = chat(openai_client)
    (choice,) = plain.choices
    assert plain.object == "chat.completion" and choice.message.role == "assistant"
    chunks = list(chat(openai_client, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == choice.message.content
    roles = [c.delta.role for chunk in chunks for c in chunk.choices if c.delta.role]
    assert roles == ["assistant"] and chunks[0].choices[0].delta.role
    assert chunks[-1].usage == plain.usage


def test_the_chat_stream_helper_assembles_the_answer(openai_client):
    """Broken: the SDK's own accumulator, which is stricter than a loop, rejects a chunk."""
    states = {"diffusion": {"stream_states": "delta"}}
    fields = dict(model=MODEL, messages=MESSAGES, max_tokens=24, seed=1, extra_body=states)
    with openai_client.chat.completions.stream(**fields) as stream:
        for _ in stream:
            pass
        assembled = stream.current_completion_snapshot
    assert assembled.choices[0].message.content == chat(openai_client).choices[0].message.content


def test_all_roles_and_text_parts_are_understood(openai_client):
    """Broken: the same conversation in another spelling is another prompt, or refused."""
    parts = [{"type": "text", "text": MESSAGES[0]["content"]}]
    spelled = [{"role": "developer", "content": "Be short."}, {"role": "user", "content": parts}]
    plain = [{"role": "system", "content": "Be short."}, *MESSAGES]
    answers = [chat(openai_client, messages=messages) for messages in (spelled, plain)]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    assert answers[0].usage == answers[1].usage
