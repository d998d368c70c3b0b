"""OpenAI's Python SDK: what is refused, retried, cancelled and cut off. Runs under two major versions of the SDK."""

import time
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from conftest import ENDLESS, MODEL
from server import Server, wait_until

TEMPLATELESS = Path(__file__).parents[2] / "golden" / "diffugpt-s"
HELLO = [{"role": "user", "content": "Hello"}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://192.0.2.1/cat.png"}}]}]


def endless(client, n=8):
    """A stream that runs until it is closed; its first state has been read, so it holds its slots."""
    states = {**ENDLESS, "diffusion": {**ENDLESS["diffusion"], "stream_states": "delta"}}
    stream = client.completions.create(model=MODEL, prompt="", max_tokens=200, n=n, stream=True, extra_body=states)
    next(stream)
    return stream


REFUSED_COMPLETIONS = [
    ({"n": 99}, "out_of_range", "n"),
    ({"temperature": -1}, "out_of_range", "temperature"),
    ({"max_tokens": "8"}, "invalid_type", "max_tokens"),
    ({"prompt": []}, "out_of_range", "prompt"),
    ({"prompt": [999_999]}, "invalid_token", "prompt"),
    ({"prompt": "word " * 400}, "context_length_exceeded", None),
    ({"best_of": 3}, "unsupported_parameter", "best_of"),
    ({"stream_options": {"include_usage": True}}, "conflicting_fields", "stream_options"),
    ({"extra_body": {"diffusion": {"stepps": 3}}}, "unknown_parameter", "diffusion.stepps"),
]
REFUSED_CHATS = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "tools"),
    ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
    ({"messages": IMAGE}, "unsupported_content_type", None),
    ({"messages": []}, "out_of_range", "messages"),
]


@pytest.mark.parametrize("fields, code, param", REFUSED_COMPLETIONS)
def test_a_refused_completion_says_why_and_where(openai_client, fields, code, param):
    """Broken: callers cannot tell their mistake from a failure of the server, or find it."""
    with pytest.raises(openai.BadRequestError) as refusal:
        openai_client.completions.create(**{"model": MODEL, "prompt": "x", **fields})
    assert refusal.value.code == code
    assert param is None or refusal.value.param == param
    assert refusal.value.type == "invalid_request_error" and refusal.value.request_id


@pytest.mark.parametrize("fields, code, param", REFUSED_CHATS)
def test_a_refused_chat_says_why_and_where(openai_client, fields, code, param):
    """Broken: an agent sends tools or pictures and believes that the model has seen them."""
    with pytest.raises(openai.BadRequestError) as refusal:
        openai_client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **fields})
    assert refusal.value.code == code
    assert param is None or refusal.value.param == param


def test_a_stream_is_refused_before_it_begins(openai_client):
    """Broken: the refusal of a stream is a 200 that fails while it is read."""
    with pytest.raises(openai.BadRequestError):
        openai_client.completions.create(model=MODEL, prompt="x", n=99, stream=True)


def test_an_unknown_model_is_not_found(openai_client):
    """Broken: a wrong name is answered by some other model."""
    for ask in (lambda: openai_client.completions.create(model="gpt-4", prompt="x"),
                lambda: openai_client.models.retrieve("some/model")):
        with pytest.raises(openai.NotFoundError) as refusal:
            ask()
        assert refusal.value.code == "model_not_found"


def test_an_unknown_route_is_not_found(openai_client):
    """Broken: an SDK's method that is not offered fails with something that it cannot read."""
    with pytest.raises(openai.NotFoundError) as refusal:
        openai_client.embeddings.create(model=MODEL, input="x")
    assert refusal.value.code == "not_found"


def test_a_model_without_a_template_refuses_chat():
    """Broken: a base model that never saw a conversation answers one with nonsense."""
    with Server("--model", str(TEMPLATELESS)) as server, OpenAI(base_url=server.url + "/v1", api_key="none") as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model="diffugpt-s", messages=HELLO)
    assert refusal.value.code == "chat_template_missing"


def test_closing_a_stream_frees_its_slot(server, openai_client):
    """Broken: every reader that changes its mind costs the server a full answer."""
    cancelled = server.metric("unmask_requests_total", outcome="cancelled")
    endless(openai_client).close()
    server.wait_until_idle()
    wait_until(lambda: server.metric("unmask_requests_total", outcome="cancelled") == cancelled + 1, "counted as cancelled")


def test_giving_up_on_a_plain_answer_frees_its_slot(server, openai_client):
    """Broken: requests whose clients have timed out go on computing."""
    cancelled = server.metric("unmask_requests_total", outcome="cancelled")
    with pytest.raises(openai.APITimeoutError):
        openai_client.completions.create(model=MODEL, prompt="", max_tokens=200, n=8, extra_body=ENDLESS, timeout=0.5)
    server.wait_until_idle()
    wait_until(lambda: server.metric("unmask_requests_total", outcome="cancelled") == cancelled + 1, "counted as cancelled")


class Recorder:
    """A client whose answers are all kept, those that the SDK hides behind a retry included."""

    def __init__(self, server, on_answer=lambda answer: None, **options):
        self.answers, self.times = [], []

        def record(answer):
            self.answers.append(answer)
            self.times.append(time.monotonic())
            on_answer(answer)

        http = openai.DefaultHttpxClient(event_hooks={"response": [record]})
        self.client = OpenAI(base_url=server.url + "/v1", api_key="none", http_client=http, **options)


def test_a_full_server_is_asked_again_no_sooner_than_it_said(full_server):
    """Broken: clients hammer a full server, or give up on one that will soon have room."""
    holder = endless(OpenAI(base_url=full_server.url + "/v1", api_key="none"), n=1)
    recorder = Recorder(full_server, lambda answer: answer.status_code == 503 and holder.close(), max_retries=2)
    recorder.client.completions.create(model=MODEL, prompt="x", max_tokens=1)
    refused, served = recorder.answers
    assert (refused.status_code, served.status_code) == (503, 200)
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    # Half a second at most without the header.
    assert recorder.times[1] - recorder.times[0] >= float(refused.headers["retry-after-ms"]) / 1000 >= 1


def test_a_full_server_is_a_server_error_with_a_code(full_server):
    """Broken: balancers and callers cannot tell a full replica from a broken one."""
    with OpenAI(base_url=full_server.url + "/v1", api_key="none", max_retries=0) as client:
        holder = endless(client, n=1)
        with pytest.raises(openai.InternalServerError) as refusal:
            client.completions.create(model=MODEL, prompt="x", max_tokens=1)
        holder.close()
    assert (refusal.value.status_code, refusal.value.code) == (503, "server_overloaded")


@pytest.fixture(scope="module")
def full_server():
    """Has room for one sample, because requests of a client share its places; others wait for a second before they are refused."""
    with Server("--max-running", "1", "--max-queue-time", "1") as server:
        yield server


def test_a_deadline_without_a_text_is_not_tried_again(server):
    """Broken: a request that is too large for its deadline is computed three times instead of once."""
    recorder = Recorder(server)
    with pytest.raises(openai.InternalServerError) as refusal:
        recorder.client.completions.create(model=MODEL, prompt="", max_tokens=200, extra_body={**ENDLESS, "timeout_ms": 1})
    assert (refusal.value.status_code, refusal.value.code) == (504, "request_timeout")
    assert len(recorder.answers) == 1


def test_a_server_that_stops_ends_the_stream_with_an_error():
    """Broken: a text that was cut off by a restart looks complete."""
    with Server("--drain-timeout", "1") as server, OpenAI(base_url=server.url + "/v1", api_key="none") as client:
        stream = endless(client)
        server.terminate()
        with pytest.raises(openai.APIError) as cut:
            for _ in stream:
                pass
    assert cut.value.code == "server_draining"
