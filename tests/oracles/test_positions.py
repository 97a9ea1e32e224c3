"""Chapter 07's references for positions, and the library's, against those of the library transformers."""

import pytest
import torch
from transformers import GPT2Config, GPT2Model
from transformers.models.roformer.modeling_roformer import RoFormerSinusoidalPositionalEmbedding

from pocketgpt.course.syllabus import find_exercise
from pocketgpt.layers import positions as library

POSITIONS = torch.arange(60)


def roformer_table(d_model: int) -> torch.Tensor:
    """The table of transformers, whose columns are all sines and then all cosines, brought into alternating order."""
    halves = RoFormerSinusoidalPositionalEmbedding(len(POSITIONS), d_model).create_weight()
    return halves.unflatten(1, (2, -1)).mT.flatten(1)


@pytest.mark.parametrize("d_model", [2, 6, 48])
def test_sinusoids(d_model, assert_equal):
    exercise = find_exercise("sinusoids")
    for function in (exercise.reference, exercise.finished_answer, library.sinusoids):
        assert_equal(function(POSITIONS, d_model), roformer_table(d_model))


def test_positions_that_begin_later_are_added_as_gpt2_adds_them(assert_equal):
    torch.manual_seed(0)
    gpt2 = GPT2Model(GPT2Config(vocab_size=10, n_positions=9, n_embd=8, n_layer=0, n_head=2, embd_pdrop=0.0)).eval()
    gpt2.ln_f = torch.nn.Identity()
    x, start = torch.randn(2, 4, 8), 3
    theirs = gpt2(inputs_embeds=x, position_ids=torch.arange(start, start + 4)[None]).last_hidden_state
    exercise = find_exercise("add_positions")
    for function in (exercise.reference, exercise.finished_answer):
        assert_equal(function(x, gpt2.wpe.weight, start), theirs)


@pytest.mark.parametrize("steps", [-3, 1, 7])
def test_a_shift_moves_the_table_of_transformers(steps, assert_equal):
    table = roformer_table(10)
    for function in (find_exercise("shift_matrix").reference, find_exercise("shift_matrix").finished_answer):
        moved = table[10:40] @ function(steps, 10).T
        assert_equal(moved, table[10 + steps : 40 + steps])
