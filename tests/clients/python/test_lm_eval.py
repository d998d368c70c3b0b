"""EleutherAI's lm-evaluation-harness, without torch and without a tokenizer of its own: it asks the server for tokens."""

import os
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

import pytest  # noqa: E402
from lm_eval import simple_evaluate  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

from conftest import MODEL  # noqa: E402

TASKS = Path(__file__).parent.parent / "lm_eval"
WINDOW = 32


def evaluate(server, model, route, tasks, batch=1, **arguments):
    """The samples of every task, with what the model answered."""
    before = os.getcwd()
    os.chdir(TASKS)  # the tasks name their data beside them
    try:
        results = simple_evaluate(
            model=model,
            model_args={"model": MODEL, "base_url": server.url + route, "max_length": WINDOW, "max_retries": 1, **arguments},
            tasks=tasks,
            batch_size=batch,
            task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
            apply_chat_template=model == "local-chat-completions",
            bootstrap_iters=0,
        )
    finally:
        os.chdir(before)
    return {task: sorted(results["samples"][task], key=lambda sample: sample["doc_id"]) for task in tasks}


def answers(samples):
    """What the model answered to every request of every sample."""
    return {task: [sample["resps"] for sample in samples[task]] for task in samples}


@pytest.fixture(scope="module")
def one_by_one(server):
    tasks = ["unmask_choice", "unmask_generation", "unmask_perplexity"]
    return evaluate(server, "local-completions", "/v1/completions", tasks)


def tokens(server, text):
    return server.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def scored(server, ids):
    """The log-probabilities of a list of tokens, and the largest at each position, asked for directly."""
    body = {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 0}
    logprobs = server.post("/v1/completions", body)["choices"][0]["logprobs"]
    return logprobs["token_logprobs"], [top and max(top.values()) for top in logprobs["top_logprobs"]]


def test_the_log_probability_of_an_ending_is_that_of_its_tokens(server, one_by_one):
    """Broken: scores are read from the wrong positions, and every multiple choice benchmark is noise."""
    for sample in one_by_one["unmask_choice"]:
        context = sample["doc"]["prompt"]
        for choice, ((value, greedy),) in zip(sample["doc"]["choices"], sample["resps"], strict=True):
            start, ids = len(tokens(server, context)), tokens(server, context + choice)
            values, largest = (numbers[start:] for numbers in scored(server, ids))
            assert float(value) == pytest.approx(sum(values), abs=1e-4)
            assert str(greedy) == str(values == largest)


def test_a_document_in_windows_is_the_sum_of_its_tokens(server, one_by_one):
    """Broken: perplexities count tokens twice or not at all."""
    short = one_by_one["unmask_perplexity"][0]
    end = server.post("/tokenize", {"prompt": ""})["tokens"] or [0]
    ids = end + tokens(server, short["doc"]["text"])
    assert len(ids) <= WINDOW
    values, _ = scored(server, ids)
    assert float(short["resps"][0][0]) == pytest.approx(sum(values[1:]), abs=1e-4)
    long = one_by_one["unmask_perplexity"][-1]
    assert len(tokens(server, long["doc"]["text"])) > WINDOW
    assert float(long["resps"][0][0]) < 0


def test_generated_text_ends_before_its_stop_string(one_by_one):
    """Broken: benchmarks that parse answers parse what follows them, too."""
    texts = [sample["resps"][0][0] for sample in one_by_one["unmask_generation"]]
    assert any(texts)
    assert not any("\n" in text or "#" in text for text in texts)


@pytest.mark.parametrize("batch, concurrent", [(1, 4), (4, 1), (4, 4)])
def test_neither_batches_nor_concurrency_change_a_number(server, one_by_one, batch, concurrent):
    """Broken: the faster way to run a benchmark gives another result."""
    samples = evaluate(server, "local-completions", "/v1/completions", list(one_by_one), batch, num_concurrent=concurrent)
    assert answers(samples) == answers(one_by_one)


def test_texts_score_as_their_tokens(server, one_by_one):
    """Broken: a harness that sends texts instead of tokens gets another benchmark's numbers."""
    untokenized = evaluate(server, "local-completions", "/v1/completions", ["unmask_choice"], tokenized_requests=False)
    predictions = [[sample["acc"] for sample in samples["unmask_choice"]] for samples in (untokenized, one_by_one)]
    assert predictions[0] == predictions[1]


def test_chat_generates(server):
    """Broken: instruction benchmarks cannot reach the chat route."""
    samples = evaluate(server, "local-chat-completions", "/v1/chat/completions", ["unmask_generation"])
    assert len(samples["unmask_generation"]) == 4
    assert not any("\n" in sample["resps"][0][0] for sample in samples["unmask_generation"])
