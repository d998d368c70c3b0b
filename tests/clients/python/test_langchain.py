"""LangChain, which spells out every default: zeros, ones and nulls must not count as wishes."""

import pytest
from langchain_openai import ChatOpenAI, OpenAI

from conftest import MODEL


@pytest.fixture(params=[OpenAI, ChatOpenAI])
def model(request, server):
    """The completion and the chat class."""
    return request.param(model=MODEL, base_url=server.url + "/v1", api_key="none", max_tokens=24, seed=1, max_retries=0)


def text(answer):
    return answer if isinstance(answer, str) else answer.content


def test_invoke_and_stream_give_the_same_text(model):
    """Broken: a chain behaves otherwise when its stream is read."""
    plain = text(model.invoke("Write a function that adds."))
    assert plain
    assert "".join(text(piece) for piece in model.stream("Write a function that adds.")) == plain


def test_a_batch_is_its_parts(model):
    """Broken: answers of a batch are attributed to the wrong question."""
    questions = ["Write a class.", "Write a function that adds.", "import os"]
    assert [text(answer) for answer in model.batch(questions)] == [text(model.invoke(question)) for question in questions]


def test_settings_of_the_sampler_pass_through(model):
    """Broken: a chain cannot choose how its text is denoised, or is not told that it cannot."""
    with pytest.raises(Exception, match="stepps"):
        model.invoke("x", extra_body={"diffusion": {"stepps": 1}})
