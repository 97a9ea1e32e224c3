"""Inputs that cannot be copied are built anew for every call."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from pocketgpt.course.checking.recipes import Others, Recipe
from pocketgpt.course.checking.run import run


@dataclass(frozen=True)
class Module(Recipe):
    seed: int

    def build(self, others: Others) -> nn.Module:
        torch.manual_seed(self.seed)
        return nn.Linear(2, 3)


@dataclass(frozen=True)
class Loss(Recipe):
    module: Module

    def build(self, others: Others) -> torch.Tensor:
        return others(self.module)(torch.ones(2)).sum()


def gradient_size(loss, module):
    loss.backward()
    return module.weight.grad.norm()


def test_a_loss_depends_on_the_modules_that_are_passed_with_it():
    module = Module(0)
    case = (Loss(module), module)
    assert run(gradient_size, case).value == run(gradient_size, case).value > 0


def test_every_call_gets_objects_of_its_own():
    module = Module(0)
    first, second = deepcopy(module), deepcopy(module)
    assert first is not second
    assert torch.equal(first.weight, second.weight)


def test_building_leaves_the_random_state_alone_and_works_without_gradients():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with torch.no_grad():
        loss, _ = deepcopy((Loss(Module(1)), Module(1)))
    assert loss.requires_grad
    assert torch.equal(torch.rand(1), expected)


def test_recipes_of_equal_values_are_equal_inputs():
    assert Loss(Module(1)) == Loss(Module(1)) != Loss(Module(2))
