import math
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.layers.context import Context
from pocketgpt.layers.rope import apply_rope, frequencies, half_to_interleaved, interleaved_to_half, rotation
from pocketgpt.layers.rope_scaling import RopeConfig, attention_factor
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

TRAINED = 512
SCALINGS = {
    "none": RopeConfig(),
    "linear": RopeConfig(scaling="linear", factor=4.0),
    "ntk": RopeConfig(scaling="ntk", factor=4.0),
    "dynamic": RopeConfig(scaling="dynamic", factor=2.0, original_max_seq_len=TRAINED),
    "yarn": RopeConfig(scaling="yarn", factor=4.0, original_max_seq_len=TRAINED),
    "llama3": RopeConfig(scaling="llama3", factor=4.0, original_max_seq_len=TRAINED),
}
PLACES = st.integers(0, 2000)
HALVES = st.integers(2, 24)
SEEDS = st.integers(0, 2**32 - 1)


def vectors(n: int, d_head: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 1, d_head, dtype=torch.float64, generator=generator)


def exact_rotation(position: int, d_head: int, theta: float = 10_000.0) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin in double precision, straight from the definition."""
    angles = [position * theta ** (-2 * i / d_head) for i in range(d_head // 2)]
    cos, sin = [math.cos(angle) for angle in angles], [math.sin(angle) for angle in angles]
    return torch.tensor([cos], dtype=torch.float64), torch.tensor([sin], dtype=torch.float64)


@given(half=HALVES, seed=SEEDS, i=PLACES, j=PLACES, shift=PLACES)
def test_score_depends_on_distance_only(half, seed, i, j, shift):
    q, k = vectors(2, 2 * half, seed)
    q, k = q[None], k[None]

    def score(query_position: int, key_position: int) -> torch.Tensor:
        rotated_q = apply_rope(q, *exact_rotation(query_position, 2 * half))
        return (rotated_q * apply_rope(k, *exact_rotation(key_position, 2 * half))).sum()

    torch.testing.assert_close(score(i, j), score(i + shift, j + shift), rtol=0, atol=1e-8)


def test_score_depends_on_distance():
    q, k = torch.ones(1, 1, 1, 8), torch.ones(1, 1, 1, 8)
    scores = [
        (apply_rope(q, *rotation(torch.tensor([p]), frequencies(8, RopeConfig(), 1))) * k).sum() for p in range(5)
    ]
    assert len({round(score.item(), 3) for score in scores}) == 5


@given(half=HALVES, seed=SEEDS, position=PLACES)
def test_lengths_are_kept(half, seed, position):
    x = vectors(1, 2 * half, seed)
    turned = apply_rope(x, *exact_rotation(position, 2 * half))
    torch.testing.assert_close(turned.norm(), x.norm())
    pairs, turned_pairs = x.unflatten(-1, (2, -1)).norm(dim=-2), turned.unflatten(-1, (2, -1)).norm(dim=-2)
    torch.testing.assert_close(turned_pairs, pairs)


@given(half=HALVES, seed=SEEDS, position=PLACES)
def test_interleaved_pairs_are_complex_numbers_times_a_unit(half, seed, position):
    x = vectors(1, 2 * half, seed)
    cos, sin = exact_rotation(position, 2 * half)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.complex(cos, sin)).flatten(-2)
    ours = half_to_interleaved(apply_rope(interleaved_to_half(x), cos, sin))
    torch.testing.assert_close(ours, expected)


@given(half=HALVES, seed=SEEDS)
def test_the_two_layouts_are_permutations_of_each_other(half, seed):
    x = vectors(3, 2 * half, seed)
    assert torch.equal(half_to_interleaved(interleaved_to_half(x)), x)
    assert torch.equal(interleaved_to_half(half_to_interleaved(x)), x)
    assert interleaved_to_half(torch.arange(6.0)).tolist() == [0, 2, 4, 1, 3, 5]


def test_position_zero_is_left_alone():
    x = torch.randn(2, 3, 1, 8)
    assert torch.equal(apply_rope(x, *rotation(torch.tensor([0]), frequencies(8, RopeConfig(), 1))), x)


def test_odd_width_is_refused():
    with pytest.raises(ValueError, match="d_head = 5 is odd"):
        apply_rope(torch.randn(1, 1, 1, 5), torch.ones(1, 2), torch.ones(1, 2))


def test_angles_are_float32_and_the_result_has_the_dtype_of_x():
    cos, sin = rotation(torch.arange(4), frequencies(8, RopeConfig(), 4))
    assert cos.dtype == sin.dtype == torch.float32
    assert apply_rope(torch.randn(1, 1, 4, 8).bfloat16(), cos, sin).dtype == torch.bfloat16


@pytest.mark.parametrize("scaling", SCALINGS)
def test_fastest_pair_keeps_its_speed(scaling):
    expected = 0.25 if scaling == "linear" else 1.0  # linear slows every pair
    assert frequencies(64, SCALINGS[scaling], 4 * TRAINED)[0] == expected


@pytest.mark.parametrize("scaling", ["linear", "ntk", "yarn", "llama3"])
def test_slowest_pair_is_slowed_by_the_factor(scaling):
    slowest = 10_000.0 ** (-62 / 64)
    torch.testing.assert_close(
        frequencies(64, SCALINGS[scaling], 4 * TRAINED)[-1].item(), slowest / 4, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_frequencies_fall_from_pair_to_pair(scaling):
    assert frequencies(64, SCALINGS[scaling], 4 * TRAINED).diff().max() < 0


@pytest.mark.parametrize("length", [1, TRAINED - 1, TRAINED])
def test_dynamic_changes_nothing_up_to_the_trained_length(length):
    assert torch.equal(frequencies(64, SCALINGS["dynamic"], length), frequencies(64, RopeConfig(), length))


def test_dynamic_slows_the_slowest_pair_by_what_the_length_needs():
    # factor · length / trained − (factor − 1): 3 at twice the length with factor 2
    slowest = 10_000.0 ** (-62 / 64)
    torch.testing.assert_close(
        frequencies(64, SCALINGS["dynamic"], 2 * TRAINED)[-1].item(), slowest / 3, rtol=1e-5, atol=0
    )
    plain = replace(SCALINGS["dynamic"], factor=1.0)
    torch.testing.assert_close(frequencies(64, plain, 3 * TRAINED)[-1].item(), slowest / 3, rtol=1e-5, atol=0)


def test_yarn_keeps_pairs_that_turn_often_and_stretches_those_that_turn_less_than_once():
    kept, stretched = frequencies(64, RopeConfig(), 1), frequencies(64, SCALINGS["yarn"], 1)
    turns = TRAINED * kept / (2 * math.pi)
    assert torch.allclose(stretched[turns > 32], kept[turns > 32], rtol=1e-6)
    # the end of the ramp is rounded up to a whole pair
    slow = (turns < 1).nonzero()[1:]
    assert len(slow) > 5 and torch.allclose(stretched[slow], kept[slow] / 4, rtol=1e-6)
    between = stretched / kept
    assert ((between <= 1) & (between >= 0.25 - 1e-6)).all()


def test_llama3_keeps_short_waves_and_stretches_long_ones():
    kept, stretched = frequencies(64, RopeConfig(), 1), frequencies(64, SCALINGS["llama3"], 1)
    wavelength = 2 * math.pi / kept
    assert torch.equal(stretched[wavelength < TRAINED / 4], kept[wavelength < TRAINED / 4])
    assert torch.allclose(stretched[wavelength > TRAINED], kept[wavelength > TRAINED] / 4, rtol=1e-6)
    middle = (wavelength > TRAINED / 4) & (wavelength < TRAINED)
    assert middle.any() and ((stretched < kept) & (stretched > kept / 4))[middle].all()


def test_only_yarn_sharpens_attention():
    assert attention_factor(SCALINGS["yarn"]) == pytest.approx(1.1386, abs=1e-4)  # 0.1 · ln 4 + 1
    assert all(attention_factor(rope) == 1 for name, rope in SCALINGS.items() if name != "yarn")


def context_of(rope: RopeConfig, positions: torch.Tensor) -> Context:
    """The context of a pass in which the tokens of each row are at these positions."""

    class Clock:
        layers: ClassVar = []
        capacity = 8

        def begin(self, seq):
            return positions

        def keys(self): ...

        def finish(self): ...

    model = GPT(preset("pocket-shakespeare", d_model=16, n_layers=1, mixer={"n_heads": 2}, rope=rope))
    return model.context(torch.zeros_like(positions), Clock())


def test_attention_factor_multiplies_cos_and_sin():
    cos, sin = context_of(SCALINGS["yarn"], torch.arange(3)[None]).rotations[8]
    torch.testing.assert_close(cos.square() + sin.square(), torch.full_like(cos, (0.1 * math.log(4) + 1) ** 2))


def test_rows_of_a_batch_have_angles_of_their_own():
    cos, _ = context_of(RopeConfig(), torch.tensor([[0, 1], [5, 6]])).rotations[8]
    assert cos.shape == (2, 1, 2, 4)
    alone, _ = context_of(RopeConfig(), torch.tensor([[5, 6]])).rotations[8]
    assert torch.equal(cos[1:], alone)
