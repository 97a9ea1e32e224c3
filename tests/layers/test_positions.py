import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.layers.positions import LearnedPositions, SinusoidalPositions, sinusoids
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset


@given(position=st.integers(0, 2000), half=st.integers(1, 32))
def test_sinusoids_are_the_closed_form(position, half):
    table = sinusoids(torch.tensor([position]), 2 * half)[0]
    for i in range(half):
        angle = position / 10_000 ** (2 * i / (2 * half))
        # float32 holds an angle of 2,000 to about 1e-4
        torch.testing.assert_close(table[2 * i].item(), math.sin(angle), rtol=0, atol=5e-4)
        torch.testing.assert_close(table[2 * i + 1].item(), math.cos(angle), rtol=0, atol=5e-4)


def test_a_shift_of_sinusoids_is_a_rotation_of_each_pair():
    table = sinusoids(torch.arange(50), 16).double()
    pairs = torch.view_as_complex(table.unflatten(-1, (-1, 2)).contiguous())  # sin + i cos
    turn = pairs[7] / pairs[0]
    torch.testing.assert_close(pairs[7:], pairs[:-7] * turn, rtol=0, atol=1e-5)


def test_sinusoids_are_added_at_the_positions_given_to_the_scaled_embedding():
    x = torch.randn(2, 3, 8)
    positions = torch.tensor([[0, 1, 2], [5, 6, 7]])
    added = SinusoidalPositions()(x, positions) - 8**0.5 * x
    torch.testing.assert_close(added, sinusoids(positions, 8), rtol=0, atol=1e-6)


def test_learned_positions_add_the_vector_of_each_position():
    layer, x = LearnedPositions(10, 8), torch.randn(2, 3, 8)
    positions = torch.tensor([[0, 1, 2], [5, 6, 7]])
    assert torch.equal(layer(x, positions)[1, 2], x[1, 2] + layer.embedding.weight[7])


@pytest.mark.parametrize("positions", ["rope", "none"])
def test_nothing_is_added_to_the_embedding_for_rope_and_without_positions(positions):
    model, seen = GPT(preset("pocket-shakespeare", positions=positions)).eval(), []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    tokens = torch.arange(3)[None]
    model(tokens)
    assert torch.equal(seen[0], model.embedding(tokens))
