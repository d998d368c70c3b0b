"""Rows, masks, schedules and runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapt.bases import BaseError, load_base
from adapt.curve import draw
from adapt.data import Corpus, Mixture, Source, documents, is_held_out
from adapt.job import prepare
from adapt.masking import attention_bias, by_block, by_rate, by_stretches
from adapt.optimizers import orthogonal
from adapt.options import read
from adapt.rows import RowMaker, line_breaks
from adapt.schedule import Schedule
from bases import write_base, write_talks, write_texts

CRATE = Path(__file__).parents[2] / "crates" / "model"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("data") / "texts")


def options(base, data, out, *more):
    """A run of twelve steps: each has 8 rows of 64 tokens."""
    return [*map(str, ["--base", base, "--data", data, "--out", out]), "--length", "64", "--rows", "8", "--tokens", "6144",
            "--warm-up", "2", "--dtype", "f32", "--threads", "1", "--evaluate-tokens", "0", "--blocks", "4", *more]


def job(*arguments):
    return prepare(*read(options(*arguments)))


@pytest.mark.parametrize("more", [
    ("--learning-rate", "3e-3"), ("--rank", "4", "--learning-rate", "2e-2"), ("--learning-rate", "3e-3", "--matrix-rate", "0.02"),
], ids=["all", "lora", "muon"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_loss_falls(tmp_path, texts, family, more):
    made = job(write_base(tmp_path / "base", family), texts, tmp_path / "out", "--first-rate", "1", "--opening-tokens", "0", *more)
    losses = [made.run.step() for _ in range(12)]
    assert sum(losses[-3:]) < 0.93 * sum(losses[:3])
    assert len(made.trained) < len(list(made.network.parameters())) or not made.args.rank


@pytest.mark.parametrize("more", [(), ("--rank", "4", "--rows-at-a-time", "3"), ("--matrix-rate", "0.01", "--short-share", "0.5")],
                         ids=["all", "lora", "muon"])
def test_a_resumed_run_repeats_an_uninterrupted_one(tmp_path, texts, more):
    base = write_base(tmp_path / "base", "llama")
    whole = job(base, texts, tmp_path / "whole", *more)
    losses = [whole.run.step() for _ in range(6)]
    first = job(base, texts, tmp_path / "halves", *more)
    halves = [first.run.step() for _ in range(3)]
    first.run.save()
    second = job(base, texts, tmp_path / "halves", *more)
    assert second.run.state.step == 3
    halves += [second.run.step() for _ in range(3)]
    assert losses == halves
    for name, parameter in whole.trained.items():
        assert torch.equal(parameter, second.trained[name]), name


def test_a_checkpoint_of_another_rank_is_refused(tmp_path, texts):
    base = write_base(tmp_path / "base", "llama")
    job(base, texts, tmp_path / "out", "--rank", "4").run.save()
    with pytest.raises(ValueError, match="a run whose rank is 4"):
        job(base, texts, tmp_path / "out", "--rank", "8")


@pytest.mark.parametrize("more, name", [(("--rows", "4"), "rows"), (("--length", "32"), "length"), (("--seed", "1"), "seed")])
def test_a_run_goes_on_with_the_rows_that_it_began_with(tmp_path, texts, more, name):
    base = write_base(tmp_path / "base", "llama")
    job(base, texts, tmp_path / "out").run.save()
    assert job(base, texts, tmp_path / "out", "--learning-rate", "1e-4", "--tokens", "12288").run.pace.learning_rate == 1e-4
    with pytest.raises(ValueError, match=f"a run whose {name} is"):
        job(base, texts, tmp_path / "out", *more)
    with pytest.raises(ValueError, match="a run whose data is"):
        job(base, texts / "0.py", tmp_path / "out")


def test_a_run_that_has_seen_more_is_not_shortened(tmp_path, texts):
    base = write_base(tmp_path / "base", "llama")
    made = job(base, texts, tmp_path / "out")
    made.run.state.tokens = 6144
    made.run.save()
    assert job(base, texts, tmp_path / "out").run.state.tokens == 6144
    with pytest.raises(ValueError, match="seen 6,144 tokens; --tokens must not be less"):
        job(base, texts, tmp_path / "out", "--tokens", "2048")


def test_a_signal_ends_a_run_with_a_checkpoint(tmp_path, texts):
    base = write_base(tmp_path / "base", "llama")
    made = job(base, texts, tmp_path / "out")
    one = made.run.step

    def step():
        os.kill(os.getpid(), signal.SIGTERM)
        return one()

    made.run.step = step
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert not made.run.train()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert job(base, texts, tmp_path / "out").run.state.step == made.run.state.step == 1


@pytest.mark.parametrize("line, said", [
    ('no-export = "false"', "no-export is 'false'; it must be true or false"),
    ("tokens = 300.5", "tokens is 300.5; it must be an integer"),
    ('dtype = "f64"', "dtype is 'f64'; it must be one of bf16, f32"),
    ("out = 5", "out is 5; it must be a string"),
    ("tokns = 5", "sets tokns"),
    ('data = "texts"', "data must be [[data]] tables"),
    ('[[data]]\npath = "a"\nshar = 1', "data[0] has no key shar"),
    ('[[data]]\nshare = 1', "data[0] has no path"),
    ('[[data]]\npath = "a"\nglob = "*.py"', "data[0].glob is '*.py'; it must be a list of strings"),
    ('[[data]]\npath = "a"\nshare = "half"', "data[0].share is 'half'; it must be a number"),
    ('[[data]]\npath = "a"\nshare = 0', "add up to more than 0"),
    ("tokens = ", "cannot be read"),
    ("tokens = -5", "--tokens is -5; it must be at least 1"),
    ("rows = 0", "--rows is 0; it must be at least 1"),
    ("stretch-share = 7", "--stretch-share is 7; it must be from 0 to 1"),
    ("stretch-share = 0.9\ncut-share = 0.2", "add up to more than 1"),
])
def test_what_a_configuration_cannot_say_is_told(tmp_path, line, said):
    config = tmp_path / "adapt.toml"
    config.write_text(line + "\n")
    with pytest.raises(ValueError) as refused:
        read(["--config", str(config), "--base", "a", "--data", "b", "--out", str(tmp_path)])
    assert said in str(refused.value)


def test_a_row_fits_the_bases_context(tmp_path, texts):
    base = write_base(tmp_path / "base", "gpt2")
    with pytest.raises(BaseError, match="--length is 4096, and the context of"):
        job(base, texts, tmp_path / "out", "--length", "4096")
    (base / "tokenizer.json").write_text("{")
    with pytest.raises(BaseError, match="cannot be read"):
        job(base, texts, tmp_path / "out")


def test_lines_of_data_are_read_or_named(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n{"text": "  "}\n')
    assert [found for _, found in documents(Source(str(file)))] == ["a"]
    file.write_bytes(b'{"text": "\xe9"}\n')
    with pytest.raises(ValueError, match="data.jsonl is not UTF-8"):
        list(documents(Source(str(file))))
    file.write_text('{"messages": [{"role": "user", "content": null}]}\n')
    with pytest.raises(ValueError, match="line 1: it must have"):
        list(documents(Source(str(file))))


def test_two_processes_do_what_one_does_with_all_rows(tmp_path, texts):
    """The rows of both processes, as the loop draws them, give the same step here."""
    base = write_base(tmp_path / "base", "llama")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "adapt",
               *options(base, texts, tmp_path / "two", "--rank", "4", "--tokens", "1024", "--verify", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=CRATE, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    saved = torch.load(tmp_path / "two" / "checkpoint.pt", weights_only=True)
    assert saved["state"]["step"] == 1 and saved["state"]["tokens"] == 1024
    made = job(base, texts, tmp_path / "one", "--rank", "4", "--tokens", "1024")
    run = made.run
    sums = torch.zeros(2)
    for rank in range(2):
        rng = random.Random(f"0 0 {rank}")
        batch = run.rows.batch(8, run.schedule.highest_rate(0), rng)
        bias = attention_bias(64, run.schedule.open_share(0), torch.Generator().manual_seed(rng.getrandbits(60)))
        sums += run.backward(batch, bias)
    for parameter in made.trained.values():
        parameter.grad /= sums[1]
    torch.nn.utils.clip_grad_norm_(list(made.trained.values()), 1.0)
    (optimizer,) = run.optimizers
    for group in optimizer.param_groups:
        group["lr"] *= run.schedule.learning_rate(0, 0)
    optimizer.step()
    for name, parameter in made.trained.items():
        torch.testing.assert_close(parameter, saved["trained"][name], rtol=1e-4, atol=1e-6)


def test_masks_leave_what_is_given(tmp_path):
    rng = random.Random(1)
    for _ in range(200):
        first = rng.randrange(1, 30)
        for masked, weight in (by_rate(32, first, 0.2, rng), by_stretches(32, first, rng), by_block(32, first, 8, rng)):
            assert any(masked) and not any(masked[:first]) and 0 < weight <= 8
    shares = [sum(by_rate(1000, 1, 0.3, rng)[0]) / 1000 for _ in range(20)]
    assert abs(sum(shares) / 20 - 0.3) < 0.02


def test_stretches_can_be_whole_lines():
    rng, breaks = random.Random(4), [5, 9, 14, 20]
    for _ in range(200):
        masked, _ = by_stretches(24, 1, rng, breaks, 1.0)
        assert not any(masked[place] for place in breaks if place not in breaks[1:-1])
        for first, last in zip(breaks, breaks[1:]):
            line = masked[first + 1 : last]
            assert all(line) or not any(line)
    masked, _ = by_stretches(24, 1, rng, [5, 6], 1.0)
    assert sum(masked) == 1, "an empty line has nothing to mask, and some token must be"


def test_a_row_begins_where_a_document_does(tmp_path, texts):
    base = load_base(str(write_base(tmp_path / "base", "llama")), None)
    corpus = Corpus(Source(str(texts), starts=1.0), False, base.tokenizer, None, {}, 0)
    rng = random.Random(6)
    for _ in range(50):
        assert base.tokenizer.decode(corpus.window(20, rng)).startswith("def ")


def test_short_rows_are_as_many_tokens(tmp_path, texts):
    _, maker = row_maker(tmp_path, texts)
    maker.short_share = 1.0
    shapes = {tuple(maker.batch(8, 1.0, random.Random(seed)).tokens.shape) for seed in range(20)}
    assert shapes == {(16, 32), (32, 16)}


def test_line_breaks_are_tokens_that_begin_with_one(tmp_path):
    base = load_base(str(write_base(tmp_path / "base", "llama")), None)
    found = line_breaks(base.tokenizer)
    assert base.tokenizer.token_to_id("Ċ") in found and base.tokenizer.token_to_id("a") not in found
    assert all(base.tokenizer.decode([token])[0] in "\r\n" for token in found)


def test_an_update_by_muon_has_singular_values_near_one():
    generator = torch.Generator().manual_seed(1)
    for shape in ((16, 48), (48, 16)):
        update = orthogonal(torch.randn(shape, generator=generator), 5)
        values = torch.linalg.svdvals(update / max(1.0, shape[0] / shape[1]) ** 0.5)
        assert 0.5 < values.min() and values.max() < 1.5


def test_muon_takes_the_matrices_of_blocks_alone(tmp_path, texts):
    made = job(write_base(tmp_path / "base", "gpt2"), texts, tmp_path / "out", "--matrix-rate", "0.01")
    muon, rest = ({id(p) for group in o.param_groups for p in group["params"]} for o in made.run.optimizers)
    for name, parameter in made.trained.items():
        assert id(parameter) in (muon if name.startswith("blocks.") and parameter.ndim == 2 else rest), name


def test_block_masks_are_states_of_block_wise_decoding():
    rng = random.Random(2)
    for _ in range(200):
        masked, _ = by_block(64, 10, 16, rng)
        start = masked.index(True)
        end = 10 + 16 * ((start - 10) // 16 + 1)
        assert all(masked[end:]) and not any(masked[:start])


def test_attention_opens_with_the_tokens_seen():
    schedule = Schedule(total=1000, warm_up=4, opening=100, rising=500, falling=200, first_rate=0.3)
    assert [schedule.open_share(tokens) for tokens in (0, 50, 100, 900)] == [0, 0.5, 1, 1]
    assert [round(schedule.highest_rate(tokens), 3) for tokens in (0, 250, 500)] == [0.3, 0.65, 1]
    assert [schedule.learning_rate(step, 0) for step in (0, 3, 9)] == [0.25, 1, 1]
    assert [round(schedule.learning_rate(99, tokens), 3) for tokens in (800, 900, 1000)] == [1, 0.5, 0.02]
    causal = attention_bias(20, 0.0, torch.Generator())
    assert torch.equal(causal == 0, torch.ones(20, 20, dtype=torch.bool).tril())
    half = attention_bias(200, 0.5, torch.Generator().manual_seed(0)) == 0
    assert half.tril().sum() == 200 * 201 // 2 and abs(half.triu(1).sum() / (200 * 199 / 2) - 0.5) < 0.02
    assert attention_bias(20, 1.0, torch.Generator()) is None


def row_maker(tmp_path, data, length=64, cut_share=0.0):
    base = load_base(str(write_base(tmp_path / "base", "llama")), None)
    mixture = Mixture([Source(str(data))], False, base.tokenizer, base.settings["chat_template"], {}, 0)
    return base, RowMaker(mixture, base.tokenizer, 0, length, 0.1, 0.0, cut_share, 16)


def test_cut_rows_hold_the_text_that_they_were_made_of(tmp_path, texts):
    base, maker = row_maker(tmp_path, texts, cut_share=1.0)
    rng = random.Random(5)
    stream = base.tokenizer.decode(maker.mixture.parts[0].stream.tolist(), skip_special_tokens=False)
    inside = 0
    for _ in range(50):
        tokens, masked, _ = maker.row(64, 0.5, rng)
        first = masked.index(True)
        size = sum(masked)
        assert all(masked[first : first + size]) and tokens[0] == 0 and not masked[0]
        text = base.tokenizer.decode(tokens[1:], skip_special_tokens=False).rstrip("<|end>")
        assert text[:120] in stream
        before = base.tokenizer.decode(tokens[1:first], skip_special_tokens=False)
        inside += before[-1:].isalpha() and base.tokenizer.decode(tokens[first : first + 1])[:1].isalpha()
    assert inside > 5


def test_talks_mask_the_answer_alone_and_count_the_fill_little(tmp_path):
    base, maker = row_maker(tmp_path, write_talks(tmp_path / "talks.jsonl"), length=32)
    base.tokenizer.encode_special_tokens = False
    prompt = base.tokenizer.encode("<|user|>def<|assistant|>").ids
    answer = base.tokenizer.encode("return value").ids
    for _ in range(20):
        tokens, masked, weights = maker.row(32, 0.5, random.Random(3))
        end = 1 + len(prompt) + len(answer)
        assert tokens[:end] == [0, *prompt, *answer] and not any(masked[: 1 + len(prompt)])
        assert set(tokens[end:]) == {0} and weights[end] > 10 * weights[end + 1]


def test_a_source_is_read_up_to_its_limit(tmp_path, texts):
    base = load_base(str(write_base(tmp_path / "base", "llama")), None)
    for data in (texts, write_talks(tmp_path / "talks.jsonl")):
        arguments = False, base.tokenizer, base.settings["chat_template"], {}, 0
        whole = Corpus(Source(str(data)), *arguments)
        part = Corpus(Source(str(data), limit=whole.tokens // 2), *arguments)
        assert 0.5 * whole.tokens <= part.tokens < 0.7 * whole.tokens
        assert len(part.stream) + sum(len(t.prompt) + len(t.answer) for t in part.talks) == part.tokens


def test_documents_come_from_files_folders_and_lines(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text("one")
    (tmp_path / "a" / "skip.txt").write_text("skipped")
    (tmp_path / "a" / "long.txt").write_text("x" * 2000)
    (tmp_path / "a" / "binary.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "a" / "lines.jsonl").write_text('{"text": "two"}\n{"messages": [{"role": "user", "content": "hi"}]}\n')
    found = dict(documents(Source(str(tmp_path / "a"), leave_out=["/skip"])))
    assert found == {"one.txt": "one", "lines.jsonl:0": "two", "lines.jsonl:1": [{"role": "user", "content": "hi"}]}
    with pytest.raises(FileNotFoundError, match="does not exist"):
        list(documents(Source(str(tmp_path / "none"))))
    with pytest.raises(FileNotFoundError, match=r"no file in it matches \*\.rs, \*\.c"):
        list(documents(Source(str(tmp_path / "a"), glob=["*.rs", "*.c"])))
    held_out = sum(is_held_out(f"file {i}") for i in range(10_000)) / 10_000
    assert abs(held_out - 0.05) < 0.01


def test_data_without_a_document_is_refused(tmp_path, texts):
    """Otherwise a run would go on without it, and its card would not say so."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "binary.txt").write_bytes(b"\xff\xfe")
    base = write_base(tmp_path / "base", "llama")
    with pytest.raises(ValueError, match=f"{empty} leaves no document to train on"):
        prepare(*read(["--base", str(base), "--out", str(tmp_path / "out"), "--length", "64", "--data", str(texts), str(empty)]))


@pytest.mark.parametrize("line, told", [
    ('{"foo": 1}', "`text`, a string, or `messages`"), ('{"text": 5}', "`text`, a string, or `messages`"),
    ('{"messages": [{"role": "user"}]}', "`messages`, a list of objects"), ("{", "it is not JSON"), ("[1]", "it must have"),
])
def test_a_line_that_is_no_document_is_named(tmp_path, line, told):
    file = tmp_path / "b.jsonl"
    file.write_text('{"text": "one\u2028two"}\n\n' + line + "\n", "utf-8")
    with pytest.raises(ValueError, match=f"{file}, line 3: .*{told}"):
        list(documents(Source(str(file))))


def test_a_configuration_file_sets_what_the_command_line_does_not(tmp_path):
    (tmp_path / "c.toml").write_text('base = "b"\nout = "o"\nrank = 4\ntokens = 800\n[[data]]\npath = "p"\nshare = 0.5\n')
    args, sources = read(["--config", str(tmp_path / "c.toml"), "--rank", "8"])
    assert (args.base, args.rank, args.alpha, args.opening_tokens) == ("b", 8, 16.0, 100)
    assert sources == [Source("p", share=0.5)]
    (tmp_path / "c.toml").write_text("rnak = 4\n")
    with pytest.raises(ValueError, match="sets rnak"):
        read(["--config", str(tmp_path / "c.toml")])


def test_a_curve_is_drawn_of_every_number_that_changes(tmp_path):
    lines = [{"tokens": 0, "minutes": 0, "masked 0.5": 0.1, "hole 1": 0.2}, {"tokens": 100, "minutes": 1, "masked 0.5": 0.3}]
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw(lines, first)
    draw(lines, second)
    assert "masked 0.5" in first.read_text() and "hole 1" not in first.read_text()
    assert first.read_bytes() == second.read_bytes()
