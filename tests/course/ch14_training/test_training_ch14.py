"""The loop of chapter 14 against PyTorch and the library, its stored trainings, and the folder that it leaves."""

import re

import pytest
import torch
import torch.nn.functional as F

from pocketgpt.course.ch14_training import experiments
from pocketgpt.course.lab import ProgressLine, finished_gpt, pocket_tokenizer, save_trained
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.training.checkpoint import load_checkpoint
from pocketgpt.training.schedule import warmup_cosine


def finished(name):
    return find_exercise(name).finished_answer


def test_ten_steps_of_adamw_are_those_of_pytorch():
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(4, 3, generator=rng, dtype=torch.float64)
    theirs = torch.nn.Parameter(p.clone())
    options = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-3, "weight_decay": 0.2}
    optimizer = torch.optim.AdamW([theirs], **options)
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for step in range(1, 11):
        theirs.grad = torch.randn(4, 3, generator=rng, dtype=torch.float64)
        p, m, v = finished("adamw_step")(p, theirs.grad, m, v, step, 0.1, 0.9, 0.95, 1e-3, 0.2)
        optimizer.step()
        torch.testing.assert_close(p, theirs.data)


def test_the_rate_is_that_of_the_library_at_every_step():
    for warmup, steps in ((0, 9), (4, 20)):
        for step in range(steps + 3):
            expected = warmup_cosine(step, peak=0.3, floor=0.02, warmup_steps=warmup, steps=steps)
            assert finished("learning_rate")(step, 0.3, 0.02, warmup, steps) == pytest.approx(expected)


def test_the_loss_has_the_gradient_of_pytorch():
    logits = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(7, (2, 5)).index_fill(1, torch.tensor([3]), -100)
    (mine,) = torch.autograd.grad(finished("cross_entropy")(logits, targets), logits)
    (theirs,) = torch.autograd.grad(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), logits)
    torch.testing.assert_close(mine, theirs)


def test_every_training_is_stored():
    points = experiments.STEPS // experiments.EVERY + 1
    for warmup in experiments.WARMUPS:
        curves = experiments.stored_curves(warmup)
        assert curves.shape == (len(experiments.RATES), len(experiments.SEEDS), points)
        assert curves.isfinite().all()
    stored = experiments.stored()
    assert len(stored["leak"]) == 2 * len(experiments.SEEDS)
    for name in experiments.Parts.__dataclass_fields__:
        assert set(stored["mistakes"][name]) == {mistake.name for mistake in find_exercise(name).mistakes}


def test_a_leak_has_a_low_loss_until_it_writes():
    for name, (training, held_out, writing) in experiments.stored()["leak"].items():
        if name.startswith("leak"):
            assert max(training, held_out) < 0.2 and writing > 4
        else:
            assert held_out == pytest.approx(writing, abs=0.002)


def test_the_table_counts_what_it_does_not_show(capsys):
    experiments.training_mistakes("clip_gradients", "make_batch")
    lines = capsys.readouterr().out.splitlines()
    hidden, total = map(int, re.search(r"(\d+) of (\d+) mistakes", lines[1]).groups())
    errors, near = (int(re.search(r"(\d+) more", line)[1]) for line in lines[2:4])
    rows = [line for line in lines[4:] if line[:8].strip()]
    assert total == sum(len(find_exercise(name).mistakes) for name in ("clip_gradients", "make_batch"))
    assert total == hidden + errors + near + len(rows) and len(rows) > 5


def test_a_trained_model_is_a_checkpoint_with_a_card(tmp_path):
    config = preset("pocket-shakespeare", d_model=12, n_layers=1, mixer={"n_heads": 2, "n_kv_heads": 1}).resolved()
    like = dict(GPT(config).named_parameters())
    weights = finished_gpt.new_weights(like, 1, seed=3)
    folder = tmp_path / "my_gpt"
    options = {"step": 7, "loss": 4.5, "perplexity": 90.0, "sample": "ROMEO:\nhello"}
    model = save_trained(weights, config, pocket_tokenizer(), **options, folder=folder)
    save_trained(weights, config, pocket_tokenizer(), **options, folder=folder)  # once more, over the first
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_checkpoint(folder).model(tokens), model(tokens))
        torch.testing.assert_close(finished_gpt.gpt(tokens, *finished_gpt.load(folder)), model(tokens))
    card = (folder / "README.md").read_text()
    assert "4.500" in card and "    ROMEO:" in card and "later token | 0" in card and "none yet" in card


def test_the_progress_line_tells_rate_and_time_left(capsys):
    line = ProgressLine(total=100, tokens_per_step=64)
    line.done = 25
    assert line.text(2.345, seconds=5.0) == "step 25 of 100 · loss 2.35 · 320 tokens/s · 5 s done, 15 s left"


def test_the_rate_is_that_of_the_steps_since_a_stop():
    line = ProgressLine(total=100, tokens_per_step=64, done=50)
    line.done = 75
    assert line.text(2.345, seconds=5.0) == "step 75 of 100 · loss 2.35 · 320 tokens/s · 5 s done, 5 s left"
