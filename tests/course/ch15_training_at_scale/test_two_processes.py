"""One process, and two that torchrun starts, have the same losses; what goes wrong is a sentence."""

import sys

import pytest
import torch

from pocketgpt.course.ch15_training_at_scale import two_processes
from pocketgpt.course.ch15_training_at_scale.two_processes import Plan, train_in_one_process, train_in_processes
from pocketgpt.training.loss import IGNORE

TEXTS = [[5, 7, 9, 11], [1, 2, 3], [4, 4, 4, 4, 4, 4, 6], [8, 3]]


def plan(weights=((0.6, 0.4),) * 3) -> Plan:
    return Plan(TEXTS, [[[0, 1], [2]], [[3], [1, 2]], [[2, 0], [3]]], [list(each) for each in weights])


def test_padding_is_no_target():
    tokens, targets = two_processes.batch_of(TEXTS[:2])
    assert tokens.tolist() == [[5, 7, 9, 11], [1, 2, 3, 0]]
    assert targets.tolist() == [[7, 9, 11, IGNORE], [2, 3, IGNORE, IGNORE]]


def test_two_processes_have_the_losses_of_one():
    one, two = train_in_one_process(plan()), train_in_processes(plan())
    assert two.problem == ""
    for mode in two_processes.MODES:
        torch.testing.assert_close(two.losses[mode], one.losses["one"], rtol=0, atol=1e-4)
    assert two.weight_bytes["ddp"] == one.weight_bytes["one"]
    assert 0.45 < two.weight_bytes["fsdp"] / one.weight_bytes["one"] < 0.55


def test_the_loss_of_a_step_is_the_weighted_sum():
    halves, right = (train_in_one_process(plan([weights] * 3)).losses["one"] for weights in ((0.3, 0.2), (0.6, 0.4)))
    assert halves[0] == pytest.approx(right[0] / 2)


def test_a_failure_is_a_sentence():
    result = train_in_processes(Plan(TEXTS, [[[99], [0]]], [[0.5, 0.5]]))  # there is no text 99
    assert result.problem.startswith("torchrun ended with status 1: ") and not result.losses


def test_processes_that_take_too_long_are_ended(monkeypatch, tmp_path):
    monkeypatch.setattr(two_processes, "PATIENCE", 0.5)
    problem = two_processes._run([sys.executable, "-c", "import time; time.sleep(60)"], str(tmp_path))
    assert problem == "the processes did not end within 0.5 seconds"


def test_no_interpreter_is_a_sentence(monkeypatch):
    monkeypatch.setattr(two_processes.sys, "executable", "/nowhere/python")
    assert train_in_processes(plan()).problem == "processes cannot be started here (No such file or directory)"
