import itertools
import json
import math
import os
import signal
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketgpt.gpt import GPT
from pocketgpt.text.batches import RandomWindows
from pocketgpt.training.checkpoint import load_checkpoint
from pocketgpt.training.recipe import TrainConfig
from pocketgpt.training.trainer import Trainer, TrainingDiverged

TEXT = "To-morrow, and to-morrow, and to-morrow, creeps in this petty pace from day to day. " * 4

CONFIG = TrainConfig(
    steps=6, batch_size=4, seq_len=16, lr=1e-2, eval_every=3, eval_tokens=65, precision="float32", device="cpu"
)


@pytest.fixture
def make_trainer(tmp_path, model, tokenizer):
    def make(config=CONFIG, batches=None, model=model, **more):
        tokens = np.array(tokenizer.encode(TEXT), np.uint16)
        batches = batches or RandomWindows(tokens, config.batch_size, config.seq_len, config.seed)
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
    trainer = make_trainer(config, iter(batches))
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
    once = make_trainer(replace(CONFIG, batch_size=8, optimizer="adamw"), itertools.cycle(whole), model)
    in_parts = make_trainer(
        replace(CONFIG, batch_size=2, accumulation=4, optimizer="adamw"), itertools.cycle(parts), other
    )
    loss, rates = once.train_step()
    loss_in_parts, rates_in_parts = in_parts.train_step()
    assert loss_in_parts == pytest.approx(loss, rel=1e-5)
    assert rates_in_parts["gradient_norm"] == pytest.approx(rates["gradient_norm"], rel=1e-4)


def test_a_long_gradient_is_cut_to_the_clip(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, clip=0.01))
    norms = []
    trainer.optimizers[0].register_step_pre_hook(
        lambda *_: norms.append(math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters())))
    )
    _, measured = trainer.train_step()
    assert measured["gradient_norm"] > 0.01
    assert norms == [pytest.approx(0.01, rel=1e-3)]


def test_the_learning_rates_follow_the_schedule(make_trainer):
    trainer = make_trainer(replace(CONFIG, steps=10, warmup=0.2, final_lr=0.0, muon_lr=0.02))
    rates = [trainer.train_step()[1] for _ in range(10)]
    assert [round(rate["lr_adamw"] / 1e-2, 6) for rate in rates[:3]] == [0.333333, 0.666667, 1.0]
    assert rates[6]["lr_adamw"] == pytest.approx(1e-2 / 2)
    assert all(rate["lr_muon"] == pytest.approx(2 * rate["lr_adamw"]) for rate in rates)


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
    result = make_trainer(preset="tiny", write_sample=lambda model: "To be").run()
    assert {"best", "last", "metrics.jsonl", "samples.txt", "loss.png"} <= {
        file.name for file in result.folder.iterdir()
    }
    assert (result.step, result.interrupted) == (6, False)
    assert (result.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (result.folder / "samples.txt").read_text().count("To be") == 2


def test_metrics_hold_every_step_and_every_evaluation(make_trainer):
    folder = make_trainer().run().folder
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "train_loss" in record] == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in records if "validation_loss" in record] == [3, 6]
    assert {"tokens_per_second", "gradient_norm", "lr_adamw", "lr_muon"} <= set(records[0])


def test_tensorboard_files_hold_the_same_numbers(make_trainer):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = make_trainer(write_sample=lambda model: "To be").run().folder
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("validation_loss")] == [3, 6]
    assert events.Scalars("tokens_per_second") and events.Scalars("lr_adamw")


def test_training_json_tells_how_the_model_came_about(make_trainer):
    training = load_checkpoint(make_trainer(preset="tiny").run().folder / "last").training
    assert (training["preset"], training["step"]) == ("tiny", 6)
    assert TrainConfig(**training["recipe"]) == CONFIG


def test_best_is_the_checkpoint_of_the_lowest_validation_loss(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, eval_every=2))

    def spoil(optimizer, *_):
        if trainer.step >= 4:
            model.embedding.weight.data.normal_(std=3.0)

    trainer.optimizers[0].register_step_post_hook(spoil)
    folder = trainer.run().folder
    assert load_checkpoint(folder / "best").training["step"] == 4
    assert load_checkpoint(folder / "last").training["step"] == 6


def test_the_saved_model_is_the_trained_one(make_trainer, model):
    folder = make_trainer().run().folder
    assert torch.equal(weights(load_checkpoint(folder / "last").model), weights(model))


def interrupting(batches, at):
    for number, batch in enumerate(batches):
        if number == at:
            os.kill(os.getpid(), signal.SIGINT)
        yield batch


def test_ctrl_c_ends_the_step_and_saves(make_trainer, tokenizer):
    tokens = np.array(tokenizer.encode(TEXT), np.uint16)
    result = make_trainer(batches=interrupting(RandomWindows(tokens, 4, 16), at=1)).run()
    assert (result.step, result.interrupted) == (2, True)
    assert load_checkpoint(result.folder / "last").training["step"] == 2


def test_ctrl_c_works_as_before_after_the_run(make_trainer):
    make_trainer().run()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_lost(make_trainer, model):
    trainer = make_trainer(preset="tiny")
    trainer.train_step()
    before = weights(model)
    model.head.register_forward_hook(lambda module, inputs, logits: logits * math.nan)
    with pytest.raises(TrainingDiverged, match=r"after step 1: loss nan.*lr = 0.0033"):
        trainer.train_step()
    assert torch.equal(weights(model), before)


def test_a_run_that_diverges_names_the_weights_that_were_saved(make_trainer, model):
    trainer = make_trainer(replace(CONFIG, eval_every=1))

    def poison(optimizer, *_):
        if trainer.step == 1:
            model.final_norm.weight.data.fill_(math.inf)

    trainer.optimizers[0].register_step_post_hook(poison)
    with pytest.raises(TrainingDiverged, match=r"run.best"):
        trainer.run()
    assert load_checkpoint(trainer.folder / "last").training["step"] == 1
    assert (trainer.folder / "loss.png").is_file()
