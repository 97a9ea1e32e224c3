"""A block that the loss does not use: the check of gradient_norms tries one, after everything else."""

import pytest
import torch

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


def gradients(loss, blocks):
    blocks.zero_grad()
    loss.backward()
    return [[p.grad.flatten() for p in block.parameters() if p.grad is not None] for block in blocks]


def stacked(loss, blocks):
    return torch.stack([torch.stack([g.norm() for g in each]).norm() for each in gradients(loss, blocks)])


def left_out(loss, blocks):
    return torch.stack([torch.cat(each).norm() for each in gradients(loss, blocks) if each])


def one(loss, blocks):
    return torch.stack([torch.cat(each).norm() if each else torch.ones(()) for each in gradients(loss, blocks)])


@pytest.mark.parametrize("answer", [stacked, left_out, one])
def test_its_number_is_0(answer):
    diagnosis = diagnose(find_exercise("gradient_norms"), answer, seed=0)
    assert diagnosis.sentence.startswith(
        "Right, except for a block that the loss does not use at all: its number is 0."
    )


def test_another_mistake_is_named_first():
    def added_up(loss, blocks):
        return torch.stack([torch.stack([g.norm() for g in each]).sum() for each in gradients(loss, blocks)])

    assert diagnose(find_exercise("gradient_norms"), added_up, seed=0).mistake.name == "norms_added_up"
