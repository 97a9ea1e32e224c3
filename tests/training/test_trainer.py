import errno
import json
import math
import os
import shutil
import signal
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.training import trainer as trainer_module
from pocketgpt.training.checkpoint import checkpoints, latest_intact, load_checkpoint
from pocketgpt.training.objectives import OBJECTIVES
from pocketgpt.training.prepare import check_compiler
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.recovery import OutOfMemory, memory_advice
from pocketgpt.training.trainer import Trainer, TrainingDiverged

TEXT = "To-morrow, and to-morrow, and to-morrow, creeps in this petty pace from day to day. " * 4

CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    seq_len=16,
    lr=1e-2,
    eval_every=3,
    eval_tokens=65,
    save_every=3,
    precision="float32",
    device="cpu",
)


class Listed:
    """Batches that are given one by one, and begin again after the last."""

    def __init__(self, batches):
        self.batches = batches

    def batch(self, step):
        return self.batches[step % len(self.batches)]


@pytest.fixture
def make_trainer(tmp_path, model, tokenizer):
    def make(config=CONFIG, batches=None, model=model, **more):
        tokens = np.array(tokenizer.encode(TEXT), np.uint16)
        batches = batches or ShuffledWindows(tokens, config.batch_size, config.seq_len, config.seed)
        return Trainer(model, tokenizer, batches, tokens, config, tmp_path / "run", **more)

    return make


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_short_text_is_learned(make_trainer, optimizer):
    config = replace(CONFIG, steps=60, batch_size=8, optimizer=optimizer, lr=2e-2, muon_lr=0.05, eval_every=60)
    assert make_trainer(config).run().best.loss < 2.2  # 5.5 before; knowing how often each letter occurs gives 2.8


def test_steps_equal_a_loop_written_by_hand(make_trainer, model):
    batches = [(tokens[:, :-1], tokens[:, 1:]) for tokens in torch.randint(257, (3, 4, 17))]
    by_hand = deepcopy(model)
    optimizer = torch.optim.AdamW(by_hand.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    for step, (tokens, targets) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + math.cos(math.pi * step / 3)) / 2
        F.cross_entropy(by_hand(tokens).transpose(1, 2), targets).backward()
        torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    config = replace(CONFIG, steps=3, optimizer="adamw", warmup=0.0, weight_decay=0.0)
    trainer = make_trainer(config, Listed(batches))
    for _ in batches:
        trainer.train_step()
    # AdamW divides tiny gradients by their own size, rounding included; 1e-4 is a hundredth of a step.
    torch.testing.assert_close(weights(model), weights(by_hand), rtol=1e-5, atol=1e-4)


def test_accumulated_parts_equal_one_large_batch(make_trainer, model, config):
    tokens = torch.randint(257, (8, 17))
    other = GPT(config)
    other.load_state_dict(model.state_dict())
    whole = [(tokens[:, :-1], tokens[:, 1:])]
    parts = [(part[:, :-1], part[:, 1:]) for part in tokens.split(2)]
    once = make_trainer(replace(CONFIG, batch_size=8, optimizer="adamw"), Listed(whole), model)
    in_parts = make_trainer(replace(CONFIG, batch_size=2, accumulation=4, optimizer="adamw"), Listed(parts), other)
    measured, measured_in_parts = once.train_step(), in_parts.train_step()
    assert measured_in_parts["train_loss"] == pytest.approx(measured["train_loss"], rel=1e-5)
    assert measured_in_parts["gradient_norm"] == pytest.approx(measured["gradient_norm"], rel=1e-4)


def test_parts_of_different_length_weigh_by_their_targets(make_trainer):
    short, long = torch.randint(257, (1, 5)), torch.randint(257, (3, 17))
    parts = [(short[:, :-1], short[:, 1:]), (long[:, :-1], long[:, 1:])]
    trainer = make_trainer(replace(CONFIG, accumulation=2), Listed(parts))
    with torch.no_grad():
        each = [F.cross_entropy(trainer.model(x).transpose(1, 2), y, reduction="none").flatten() for x, y in parts]
    assert trainer.train_step()["train_loss"] == pytest.approx(torch.cat(each).mean().item(), rel=1e-5)


def test_a_long_gradient_is_cut_to_the_clip(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, clip=0.01))
    norms = []
    trainer.optimizers[0].register_step_pre_hook(
        lambda *_: norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters())))
    )
    assert trainer.train_step()["gradient_norm"] > 0.01
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_the_learning_rates_follow_the_schedule(make_trainer):
    trainer = make_trainer(replace(CONFIG, steps=10, warmup=0.2, final_lr=0.0, muon_lr=0.02))
    rates = [trainer.train_step() for _ in range(10)]
    assert [round(rate["lr_adamw"] / 1e-2, 6) for rate in rates[:3]] == [0.333333, 0.666667, 1.0]
    assert rates[6]["lr_adamw"] == pytest.approx(1e-2 / 2)
    assert all(rate["lr_muon"] == pytest.approx(2 * rate["lr_adamw"]) for rate in rates)


def test_a_schedule_with_a_level_part_falls_at_the_end(make_trainer):
    trainer = make_trainer(replace(CONFIG, steps=10, schedule="wsd", warmup=2.0, decay=4.0))
    rates = [round(trainer.train_step()["lr_adamw"] / 1e-2, 6) for _ in range(10)]
    assert rates[2:7] == [1.0] * 5
    assert rates[7:] == [0.5, round(1 - math.sqrt(0.5), 6), round(1 - math.sqrt(0.75), 6)]


def test_the_same_seed_gives_the_same_weights(make_trainer, config):
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        trainer = make_trainer(model=GPT(replace(config, dropout=0.1)))
        for _ in range(3):
            trainer.train_step()
        results.append(weights(trainer.model))
    assert torch.equal(*results)


def test_a_run_leaves_what_it_promises(make_trainer):
    result = make_trainer(replace(CONFIG, prompt="To be")).run()
    names = {file.name for file in result.folder.iterdir()}
    assert names - {"tensorboard"} == {"step-000003", "step-000006", "metrics.jsonl", "samples", "loss.png"}
    assert (result.step, result.interrupted) == (6, False)
    assert (result.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    samples = [file.read_text() for file in (result.folder / "samples").iterdir()]
    assert len(samples) == 2 and all(text.startswith("To be") and len(text) > 20 for text in samples)


def test_metrics_hold_every_step_and_every_evaluation(make_trainer):
    folder = make_trainer().run().folder
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "train_loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records if "validation_loss" in record] == [3, 6]
    assert {"tokens_per_second", "mfu", "gradient_norm", "lr_adamw", "lr_muon"} <= set(records[0])


def test_mfu_is_the_arithmetic_done_by_the_arithmetic_possible(make_trainer, model, monkeypatch):
    monkeypatch.setattr("pocketgpt.training.trainer.matmul_flops", lambda device, dtype: 1e9)
    measured = make_trainer().train_step()
    matrices = sum(p.numel() for name, p in model.named_parameters() if name.endswith("_proj.weight")) + 257 * 32
    per_token = 2 * matrices + 4 * 2 * 32 * 16  # 2 layers, 4 heads of 8 over 16 tokens
    assert measured["mfu"] == pytest.approx(3 * per_token * measured["tokens_per_second"] / 1e9)


def test_tensorboard_files_hold_the_same_numbers(make_trainer):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = make_trainer(replace(CONFIG, prompt="To be")).run().folder
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("validation_loss")] == [3, 6]
    for name in ("tokens_per_second", "mfu", "gradient_norm", "lr_adamw", "perplexity", "bits_per_byte"):
        assert events.Scalars(name)


def test_training_json_tells_how_the_model_came_about(make_trainer):
    training = load_checkpoint(make_trainer(metadata={"preset": "tiny"}).run().folder / "step-000006").training
    assert (training["preset"], training["step"], training["tokens"]) == ("tiny", 6, 6 * 4 * 16)
    assert TrainConfig(**training["recipe"]) == CONFIG
    assert {"validation_loss", "perplexity", "bits_per_byte", "seconds", "skipped", "processes"} <= set(training)


def test_best_is_the_checkpoint_of_the_lowest_validation_loss(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, eval_every=2, save_every=1))

    def spoil(optimizer, *_):
        if trainer.step >= 4:
            model.embedding.weight.data.normal_(std=3.0)

    trainer.optimizers[0].register_step_post_hook(spoil)
    folder = trainer.run().folder
    assert load_checkpoint(folder).training["step"] == 4
    assert [file.name for file in checkpoints(folder)] == ["step-000004", "step-000005", "step-000006"]


def test_checkpoints_are_kept_as_the_recipe_says(make_trainer):
    folder = make_trainer(replace(CONFIG, steps=7, eval_every=7, save_every=1, keep_every=2)).run().folder
    assert [file.name for file in checkpoints(folder)] == [f"step-00000{step}" for step in (2, 4, 6, 7)]


def test_the_saved_model_is_the_trained_one(make_trainer, model):
    folder = make_trainer().run().folder
    assert torch.equal(weights(load_checkpoint(folder / "step-000006").model), weights(model))


def test_a_folder_that_cannot_be_written_shows_before_the_first_step(make_trainer, tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(PocketError, match=r"run cannot be written: File exists.*another folder"):
        make_trainer(batches=Listed([])).run()


class Signaling(Listed):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, batches, at, number):
        self.batches, self.at, self.number = batches, at, number

    def batch(self, step):
        if step == self.at:
            os.kill(os.getpid(), self.number)
        return self.batches.batch(step)


@pytest.fixture
def windows(tokenizer):
    return ShuffledWindows(np.array(tokenizer.encode(TEXT), np.uint16), 4, 16)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_saves(make_trainer, windows, number):
    result = make_trainer(batches=Signaling(windows, 1, number)).run()
    assert (result.step, result.interrupted, result.best) == (2, True, None)
    assert latest_intact(result.folder).name == "step-000002"


def test_a_second_ctrl_c_stops_at_once(make_trainer, windows):
    twice = Signaling(Signaling(windows, 1, signal.SIGINT), 1, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"last good checkpoint is .*step-000000.*--resume"):
        make_trainer(batches=twice).run()


def test_under_torchrun_which_passes_ctrl_c_on_a_second_one_waits_too(make_trainer, windows, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    twice = Signaling(Signaling(windows, 1, signal.SIGINT), 1, signal.SIGINT)
    assert make_trainer(batches=twice).run().step == 2


def test_signals_work_as_before_after_the_run(make_trainer):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    make_trainer().run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def spoil_steps(model, *steps):
    """Make the logits of these forward passes, counted from 0, NaN."""
    passes = iter(range(10**6))

    def spoil(module, inputs, logits):
        return logits * math.nan if module.training and next(passes) in steps else logits

    model.head.register_forward_hook(spoil)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_step_whose_loss_is_no_number_moves_nothing_and_is_counted(make_trainer, model, optimizer):
    trainer = make_trainer(replace(CONFIG, optimizer=optimizer))
    trainer.train_step()
    before, state = weights(model), deepcopy([each.state_dict()["state"] for each in trainer.optimizers])
    spoil_steps(model, 0)
    trainer.train_step()
    assert torch.equal(weights(model), before)
    assert str([each.state_dict()["state"] for each in trainer.optimizers]) == str(state)
    assert (trainer.step, trainer.skipped) == (2, 1)
    trainer.train_step()
    assert (trainer.skipped, trainer.skipped_in_a_row) == (1, 0)
    assert not torch.equal(weights(model), before)


def test_a_gradient_that_is_no_number_moves_nothing(make_trainer, model):
    trainer, before = make_trainer(), weights(model)
    model.final_norm.weight.register_hook(lambda gradient: gradient * math.inf)
    trainer.train_step()
    assert torch.equal(weights(model), before)
    assert trainer.skipped == 1


def test_skipped_steps_are_in_the_metrics_without_a_loss(make_trainer, model):
    spoil_steps(model, 1)
    folder = make_trainer().run().folder
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first, second = [record for record in records if "skipped" in record][:2]
    assert ("train_loss" in first, first["skipped"]) == (True, 0)
    assert ("train_loss" in second, second["skipped"]) == (False, 1)


def test_too_many_skipped_steps_in_a_row_stop_the_run_and_name_the_last_good_checkpoint(make_trainer, model):
    spoil_steps(model, 0, 2, 3, 4)
    trainer = make_trainer(replace(CONFIG, steps=9, eval_every=9, save_every=1, max_skipped=3))
    with pytest.raises(TrainingDiverged, match=r"after step 5: loss nan.* 3 steps in a row.*step-000004.*lr = 0.0033"):
        trainer.run()
    assert (trainer.folder / "loss.png").is_file()


@pytest.mark.parametrize(("optimizer", "named"), [("muon", True), ("adamw", False)])
def test_the_rate_of_muon_is_named_where_it_is_used(make_trainer, monkeypatch, optimizer, named):
    monkeypatch.setattr("pocketgpt.training.trainer.latest_intact", lambda folder: folder)
    message = make_trainer(replace(CONFIG, optimizer=optimizer)).divergence_message("loss nan")
    assert "lr = 0.0033" in message and ("muon_lr" in message) == named


def test_weights_that_give_no_number_are_not_saved(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, eval_every=2, save_every=1))

    def poison(optimizer, *_):
        if trainer.step == 1:
            model.final_norm.weight.data.fill_(math.inf)

    trainer.optimizers[0].register_step_post_hook(poison)
    with pytest.raises(TrainingDiverged, match=r"validation loss nan.*step-000001"):
        trainer.run()


def test_overflows_in_fp16_are_skipped_and_counted_until_the_scale_fits(make_trainer, model):
    trainer, before = make_trainer(), weights(model)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**125)
    trainer.loss.register_forward_hook(lambda module, inputs, loss: loss * 16)
    scales = []
    while torch.equal(weights(model), before):
        scales.append(trainer.scaler.get_scale())
        trainer.train_step()
    assert scales == [2.0**125 / 2**step for step in range(len(scales))]
    assert trainer.skipped == len(scales) - 1 > 0


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_names_settings_that_need_less_and_how_to_go_on(make_trainer, model, error):
    trainer = make_trainer(replace(CONFIG, accumulation=3, seq_len=16))
    model.head.register_forward_hook(raising(error))
    with pytest.raises(OutOfMemory) as raised:
        trainer.run()
    message = str(raised.value)
    assert "--batch-size 2 --accumulation 6" in message
    assert "--activation-checkpointing" in message
    assert f"pocketgpt train --resume {trainer.folder}" in message


def test_memory_that_is_really_not_there_is_out_of_memory(make_trainer, model):
    model.head.register_forward_hook(lambda *_: torch.empty(2**50))
    with pytest.raises(OutOfMemory):
        make_trainer().run()


def test_an_error_of_ours_is_not_taken_for_something_else(make_trainer, model):
    model.head.register_forward_hook(raising(RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        make_trainer().run()


def test_a_full_disk_in_the_middle_names_the_last_good_checkpoint(make_trainer, monkeypatch):
    trainer, save = make_trainer(), trainer_module.save_checkpoint

    def full(folder, *arguments):
        if folder.name == "step-000006":
            monkeypatch.setattr("os.fsync", raising(OSError(errno.ENOSPC, "No space left on device")))
        save(folder, *arguments)

    monkeypatch.setattr(trainer_module, "save_checkpoint", full)
    with pytest.raises(PocketError, match=r"No space left.*It needs.*MB are free.*step-000003.*--resume"):
        trainer.run()


class Disturbing(Listed):
    """Does something to the folder of the run in the middle of a step."""

    def __init__(self, batches, at, disturb):
        self.batches, self.at, self.disturb = batches, at, disturb

    def batch(self, step):
        if step == self.at:
            self.disturb()
        return self.batches.batch(step)


@pytest.mark.parametrize("name", ["loss.png", "metrics.jsonl"])
def test_a_curve_that_cannot_be_drawn_costs_no_finished_run(make_trainer, windows, tmp_path, capfd, name):
    def disturb():
        (tmp_path / "run" / name).unlink(missing_ok=True)
        (tmp_path / "run" / name).mkdir()

    result = make_trainer(batches=Disturbing(windows, 4, disturb)).run()
    assert (result.step, latest_intact(result.folder).name) == (6, "step-000006")
    assert name in capfd.readouterr().err.split("the log of the run is incomplete:")[1]


def test_a_full_disk_hides_no_checkpoint_that_could_not_be_written(make_trainer, monkeypatch):
    trainer, full = make_trainer(), raising(OSError(errno.ENOSPC, "No space left on device"))
    save = trainer_module.save_checkpoint

    def save_until_full(folder, *arguments):
        if folder.name == "step-000006":
            monkeypatch.setattr("pocketgpt.training.run_log.plot_losses", full)
            monkeypatch.setattr("os.fsync", full)
        save(folder, *arguments)

    monkeypatch.setattr(trainer_module, "save_checkpoint", save_until_full)
    with pytest.raises(PocketError, match=r"step-000006 cannot be written.*MB are free.*step-000003"):
        trainer.run()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_folder_that_vanishes_is_made_again_by_the_next_checkpoint(make_trainer, windows, tmp_path, capfd):
    result = make_trainer(batches=Disturbing(windows, 4, lambda: shutil.rmtree(tmp_path / "run"))).run()
    assert latest_intact(result.folder).name == "step-000006"
    err = capfd.readouterr().err
    assert "metrics.jsonl" in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (errno.ENOSPC, "No space left on device. Make room first."),
        (errno.EROFS, "Read-only file system. Make it writable first."),
        (errno.EEXIST, "File exists. Another file or folder is in its place: move that away first."),
    ],
)
def test_a_record_that_cannot_be_written_says_what_to_do_first(make_trainer, monkeypatch, failure, said):
    trainer = make_trainer()
    monkeypatch.setattr(trainer.log, "scalars", raising(OSError(failure, os.strerror(failure), "metrics.jsonl")))
    with pytest.raises(PocketError, match=r"--resume") as caught:
        trainer.run()
    assert f"metrics.jsonl cannot be used: {said} The last good checkpoint is" in str(caught.value)


@pytest.mark.parametrize("changes", [{"activation_checkpointing": True}, {"head_chunk": 7}])
def test_saving_memory_changes_rounding_only(make_trainer, model, config, changes):
    other = GPT(config)
    other.load_state_dict(model.state_dict())
    plain, saving = make_trainer(), make_trainer(replace(CONFIG, **changes), model=other)
    for _ in range(3):
        assert saving.train_step()["train_loss"] == pytest.approx(plain.train_step()["train_loss"], rel=1e-4)


def test_a_missing_compiler_is_found_before_training(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(PocketError, match="no-such-compiler is not here: install it, or use --no-compile"):
        check_compiler(torch.device("cpu"))


def test_windows_is_told_to_leave_compiling(monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(PocketError, match=r"Windows.*--no-compile"):
        check_compiler(torch.device("cpu"))


def test_a_compiler_that_fails_is_quoted(make_trainer, model):
    error = torch._dynamo.exc.BackendCompilerFailed(lambda: None, RuntimeError("no header\nand so on"), None)
    model.head.register_forward_hook(raising(error))
    with pytest.raises(PocketError, match=r"torch.compile failed: .*no header.*--no-compile"):
        make_trainer().run()


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_the_advice_for_less_memory_is_one_that_the_objective_accepts(objective):
    advised = "--head-chunk" in memory_advice(TrainConfig(objective=objective, batch_size=32))
    assert advised == OBJECTIVES[objective].in_chunks
