"""A run that stops anywhere and goes on gives the bits of the run that never stopped."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.training import run as run_module
from pocketgpt.training.checkpoint import best_intact, checkpoints, latest_intact, load_checkpoint, save_checkpoint
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run import resume, train
from pocketgpt.training.trainer import Trainer

TEXT = "Full fathom five thy father lies;\nOf his bones are coral made;\nThose are pearls that were his eyes;\n" * 20


HYBRID = ModelConfig(
    vocab_size=257,
    d_model=32,
    n_layers=4,
    max_seq_len=32,
    mixer=(
        MambaConfig(d_state=4),
        AttentionConfig(n_heads=4, n_kv_heads=2, window=8),
        LatentAttentionConfig(n_heads=4, kv_rank=8, d_rope=4),
        AttentionConfig(n_heads=4),
    ),
    feedforward=(
        MixtureOfExpertsConfig(n_experts=3, top_k=2, d_ff=16),
        FeedForwardConfig(d_ff=64),
        MixtureOfExpertsConfig(n_experts=3, top_k=1, d_ff=16, balance="bias"),
        None,
    ),
)


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing the loss takes as long as the training here, and is tested elsewhere."""
    monkeypatch.setattr("pocketgpt.training.run_log.plot_losses", lambda records, file: None)


class Killed(BaseException):
    """Nothing in the library catches it."""


@pytest.fixture
def recipe(tmp_path, monkeypatch, tokenizer):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text(TEXT)
    tokenizer.save(tmp_path / "bytes.json")
    return TrainConfig(
        corpus=str(tmp_path / "own.txt"),
        tokenizer=str(tmp_path / "bytes.json"),
        steps=9,
        batch_size=2,
        accumulation=2,
        seq_len=16,
        dropout=0.2,
        lr=1e-2,
        device="cpu",
        eval_every=3,
        eval_tokens=100,
        save_every=2,
    )


@pytest.fixture
def shape(config) -> ModelConfig:
    """The config of the model that is trained."""
    return config


@pytest.fixture
def kill_at(monkeypatch):
    """kill_at(step): the run ends in the middle of it, without a word; kill_at(None): it does not."""
    batch = ShuffledWindows.batch

    def kill_at(step):
        def fatal(windows, number):
            if step is not None and number == 2 * step + 1:  # in the second part of the step
                raise Killed
            return batch(windows, number)

        monkeypatch.setattr(ShuffledWindows, "batch", fatal)

    return kill_at


def begin_and_kill(kill_at, shape, recipe, folder, step):
    kill_at(step)
    with pytest.raises(Killed):
        train(shape, recipe, folder)
    kill_at(None)
    return folder


def outcome(folder):
    """All that a run leaves, but for how fast it was."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("tokens_per_second", None), record.pop("mfu", None)
    last = latest_intact(folder)
    state = torch.load(last / "state.pt", weights_only=True)
    state.pop("seconds")
    names = [checkpoint.name for checkpoint in checkpoints(folder)]
    return records, names, (last / "model.safetensors").read_bytes(), printed(state)


def printed(value):
    """Every bit of nested tensors as text."""
    if isinstance(value, torch.Tensor):
        return str(value.tolist())
    if isinstance(value, dict):
        return {key: printed(inner) for key, inner in value.items()}
    return [printed(inner) for inner in value] if isinstance(value, list) else repr(value)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("kind", ["plain", "hybrid"])
def test_a_run_that_is_killed_in_many_steps_ends_bit_for_bit_like_one_that_is_not(
    tmp_path, shape, recipe, kill_at, optimizer, kind
):
    recipe, shape = replace(recipe, optimizer=optimizer), HYBRID if kind == "hybrid" else shape
    whole = train(shape, recipe, tmp_path / "whole")
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "killed", 0)
    for step in (1, 3, 4, 7, 8):
        kill_at(step)
        with pytest.raises(Killed):
            resume(latest_intact(folder))
    kill_at(None)
    result = resume(latest_intact(folder))
    assert outcome(folder) == outcome(whole.folder)
    assert (result.step, result.best) == (whole.step, whole.best)


def test_after_damage_to_the_last_checkpoint_it_ends_bit_for_bit_too(tmp_path, shape, recipe, kill_at):
    whole = train(shape, recipe, tmp_path / "whole").folder
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "killed", 5)
    last = latest_intact(folder)
    (last / "state.pt").write_bytes((last / "state.pt").read_bytes()[:-100])
    assert latest_intact(folder) != last
    resume(latest_intact(folder))
    assert outcome(folder) == outcome(whole)


def test_an_interrupted_run_ends_bit_for_bit_too(tmp_path, shape, recipe, monkeypatch):
    whole = train(shape, recipe, tmp_path / "whole").folder
    batch = ShuffledWindows.batch
    monkeypatch.setattr(
        ShuffledWindows,
        "batch",
        lambda windows, number: (number == 8 and os.kill(os.getpid(), 15), batch(windows, number))[1],
    )
    result = train(shape, recipe, tmp_path / "interrupted")
    assert (result.step, result.interrupted) == (5, True)
    monkeypatch.setattr(ShuffledWindows, "batch", batch)
    resume(latest_intact(result.folder))
    records, _, weights, state = outcome(result.folder)
    assert (records, weights, state) == (outcome(whole)[0], outcome(whole)[2], outcome(whole)[3])


def test_skipped_steps_are_counted_on(tmp_path, shape, recipe, kill_at, monkeypatch):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 4)
    state = torch.load(latest_intact(folder) / "state.pt", weights_only=True)
    monkeypatch.setattr(run_module, "read_torch", lambda file: state | {"skipped": 3})
    resume(latest_intact(folder))
    assert load_checkpoint(latest_intact(folder)).training["skipped"] == 3


def test_a_line_that_a_kill_cut_short_is_mended(tmp_path, shape, recipe, kill_at):
    whole = train(shape, recipe, tmp_path / "whole").folder
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "killed", 5)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "train_lo')
    resume(latest_intact(folder))
    assert outcome(folder)[0] == outcome(whole)[0]


def test_tensorboard_shows_one_run(tmp_path, shape, recipe, kill_at):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 5)
    resume(latest_intact(folder))
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_bar_of_a_resumed_run_starts_at_its_step(tmp_path, shape, recipe, kill_at, capsys):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 5)
    capsys.readouterr()
    resume(latest_intact(folder))
    first = capsys.readouterr().err.split("\r")[1]
    assert "step 4/9:  44%" in first and "256/576" in first


def test_a_finished_run_has_nothing_left_to_do(tmp_path, shape, recipe):
    whole = train(shape, recipe, tmp_path / "run")
    before = outcome(whole.folder)
    assert resume(latest_intact(whole.folder)) == whole
    assert outcome(whole.folder) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": "adamw"}, r"optimizer = 'muon' and not 'adamw'"),
        ({"steps": 1}, r"at step 3 already: use --steps 4 or more"),
        ({"seed": 1, "dropout": 0.0}, r"dropout = 0\.2 and not 0\.0, seed = 0 and not 1"),
        ({"batch_size": 4}, r"64 tokens in a step: processes = 1, batch_size = 2, accumulation = 2; .* 128: 1, 4, 2"),
    ],
)
def test_what_would_compute_something_else_is_refused_with_old_and_new(tmp_path, shape, recipe, kill_at, changes, said):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 3)
    with pytest.raises(PocketError, match=said):
        resume(latest_intact(folder), replace(recipe, **changes))


def test_where_and_in_which_parts_it_is_computed_may_change(tmp_path, shape, recipe, kill_at):
    recipe = replace(recipe, dropout=0.0)  # the parts draw other masks
    whole = train(shape, recipe, tmp_path / "whole").folder
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 4)
    changed = replace(recipe, batch_size=1, accumulation=4, activation_checkpointing=True, head_chunk=5, eval_every=9)
    resume(latest_intact(folder), changed)
    losses = [
        [record["train_loss"] for record in outcome(each)[0] if "train_loss" in record] for each in (whole, folder)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert load_checkpoint(latest_intact(folder)).training["recipe"]["batch_size"] == 1


def test_a_corpus_that_has_changed_is_refused(tmp_path, shape, recipe, kill_at):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 3)
    (tmp_path / "own.txt").write_text(TEXT.replace("father", "mother"))
    with pytest.raises(PocketError, match=r"own\.txt' has changed"):
        resume(latest_intact(folder))


def test_a_corpus_that_is_gone_is_named_and_nothing_is_lost(tmp_path, shape, recipe, kill_at):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 3)
    before = outcome(folder)
    (tmp_path / "own.txt").rename(tmp_path / "away.txt")
    with pytest.raises(PocketError, match=r"own\.txt"):
        resume(latest_intact(folder))
    assert outcome(folder) == before


def test_the_tokenizer_is_the_one_that_the_run_began_with(tmp_path, shape, recipe, kill_at):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 3)
    (tmp_path / "bytes.json").unlink()
    assert resume(latest_intact(folder)).step == 9


def rates(folder):
    return [record["lr_adamw"] for record in outcome(folder)[0] if "lr_adamw" in record]


def test_another_learning_rate_and_more_steps_apply_from_the_resumed_step_on(tmp_path, shape, recipe, kill_at, capsys):
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 5)
    assert resume(latest_intact(folder), replace(recipe, lr=2e-2, weight_decay=0.3, steps=12)).step == 12
    whole = train(shape, replace(recipe, lr=2e-2, steps=12), tmp_path / "whole").folder
    assert rates(folder)[4:] == rates(whole)[4:] != rates(folder)[:4]
    state = torch.load(latest_intact(folder) / "state.pt", weights_only=True)
    assert {group["weight_decay"] for optimizer in state["optimizers"] for group in optimizer["param_groups"]} == {
        0.3,
        0,
    }
    said = capsys.readouterr().err
    assert (
        "From step 4 on: lr = 0.02 instead of 0.01, steps = 12 instead of 9, weight_decay = 0.3 instead of 0.1" in said
    )
    assert "no longer that of one uninterrupted run" in said


def test_more_steps_before_the_decay_of_wsd_give_the_bits_of_the_longer_run(tmp_path, shape, recipe, kill_at):
    recipe = replace(recipe, schedule="wsd", warmup=2.0, decay=3.0)
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 5)
    resume(latest_intact(folder), replace(recipe, steps=11))
    whole = train(shape, replace(recipe, steps=11), tmp_path / "whole").folder
    assert outcome(folder)[2:] == outcome(whole)[2:]


def test_a_corpus_that_moved_continues_bit_for_bit(tmp_path, shape, recipe, kill_at, capsys):
    whole = train(shape, recipe, tmp_path / "whole").folder
    folder = begin_and_kill(kill_at, shape, recipe, tmp_path / "run", 5)
    (tmp_path / "own.txt").rename(tmp_path / "away.txt")
    resume(latest_intact(folder), replace(recipe, corpus=str(tmp_path / "away.txt")))
    assert outcome(folder) == outcome(whole)
    assert "From step" not in capsys.readouterr().err


def test_another_corpus_continues_with_a_best_of_its_own(tmp_path, shape, recipe, kill_at, capsys):
    folder = train(shape, replace(recipe, steps=6), tmp_path / "run").folder
    (tmp_path / "other.txt").write_text("1234567890 " * 400)
    old = best_intact(folder)
    resume(latest_intact(folder), replace(recipe, corpus=str(tmp_path / "other.txt")))
    assert "the text of" in capsys.readouterr().err
    assert best_intact(folder).name == "step-000009" and old.is_dir()


def test_a_run_resumes_from_another_directory(tmp_path, shape, recipe, kill_at, monkeypatch):
    whole = train(shape, recipe, tmp_path / "whole").folder
    monkeypatch.chdir(tmp_path)
    relative = replace(recipe, corpus="own.txt", tokenizer="bytes.json")
    folder = begin_and_kill(kill_at, shape, relative, tmp_path / "run", 5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(latest_intact(folder))
    assert outcome(folder) == outcome(whole)


def test_an_earlier_checkpoint_continues_in_a_folder_of_its_own_and_replaces_nothing(tmp_path, shape, recipe):
    recipe = replace(recipe, keep_every=4)
    whole = train(shape, recipe, tmp_path / "whole").folder
    earlier, before = whole / "step-000004", outcome(whole)
    with pytest.raises(PocketError, match=r"later checkpoints, up to step-000009.*--out FOLDER"):
        resume(earlier)
    resume(earlier, folder=tmp_path / "branch")
    assert (outcome(tmp_path / "branch")[0], outcome(tmp_path / "branch")[2:]) == (before[0], before[2:])
    assert outcome(whole) == before


def test_a_run_of_the_python_trainer_can_be_resumed(tmp_path, shape, recipe, tokenizer, capsys):
    data = run_module.prepare_both(recipe.corpus, tokenizer)
    torch.manual_seed(0)
    batches = ShuffledWindows(data["train"].tokens, 2, 16)
    short = replace(recipe, steps=2)
    folder = Trainer(GPT(shape), tokenizer, batches, data["validation"].tokens, short, tmp_path / "run").run().folder
    assert resume(latest_intact(folder), replace(recipe, steps=4)).step == 4
    assert "no record of its text" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "lora_rank"), [("plain", None), ("hybrid", 2)], ids=["all weights", "lora"])
def test_a_fine_tuning_that_is_killed_ends_bit_for_bit_too_though_the_old_model_is_gone(
    tmp_path, shape, recipe, tokenizer, kill_at, kind, lora_rank
):
    torch.manual_seed(5)
    save_checkpoint(tmp_path / "old", GPT(HYBRID if kind == "hybrid" else shape), tokenizer, {})
    initial = load_checkpoint(tmp_path / "old")
    recipe = replace(recipe, optimizer="adamw", lora_rank=lora_rank, eval_every=9)
    whole = train(initial.model.config, recipe, tmp_path / "whole", initial=initial)
    kill_at(0)
    with pytest.raises(Killed):
        train(initial.model.config, recipe, tmp_path / "killed", initial=initial)
    shutil.rmtree(tmp_path / "old")
    for step, folder in ((3, tmp_path / "branch"), (7, None)):
        kill_at(step)
        with pytest.raises(Killed):
            resume(tmp_path / "killed" / "step-000000", folder=folder)
    kill_at(None)
    resume(latest_intact(tmp_path / "branch"))
    result = resume(latest_intact(tmp_path / "killed"))
    assert outcome(tmp_path / "branch") == outcome(whole.folder)
    assert outcome(tmp_path / "killed") == outcome(whole.folder)
    assert (result.step, result.best) == (whole.step, whole.best)
    origins = [
        load_checkpoint(latest_intact(each)).training["initial_weights"] for each in (whole.folder, result.folder)
    ]
    assert origins[0] == origins[1]


def test_the_rank_of_a_run_cannot_change(tmp_path, shape, recipe, tokenizer):
    save_checkpoint(tmp_path / "old", GPT(shape), tokenizer, {})
    initial = load_checkpoint(tmp_path / "old")
    recipe = replace(recipe, optimizer="adamw", lora_rank=2, steps=2)
    folder = train(initial.model.config, recipe, tmp_path / "run", initial=initial).folder
    with pytest.raises(PocketError, match=r"lora_rank = 2 and not 4"):
        resume(latest_intact(folder), replace(recipe, lora_rank=4))
