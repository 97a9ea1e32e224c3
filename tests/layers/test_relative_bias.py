import pytest
import torch

from pocketgpt.checked import ConfigError
from pocketgpt.layers.relative_bias import RelativeBias, RelativeBiasConfig, relative_bucket


def test_buckets_by_hand():
    distance = torch.tensor([-1, 1, -8, -11, -12, -20, 0, -7, 7, 8, 128, -5000])
    assert relative_bucket(distance, both_ways=True).tolist() == [1, 17, 8, 8, 9, 10, 0, 7, 23, 24, 31, 15]


def test_a_causal_stack_has_all_buckets_for_the_past_and_one_for_the_future():
    distance = torch.tensor([-1, -15, -16, -128, -5000, 0, 1, 5000])
    assert relative_bucket(distance, both_ways=False).tolist() == [1, 15, 16, 31, 31, 0, 0, 0]


def test_the_bias_depends_on_the_distance_only():
    bias = RelativeBias(RelativeBiasConfig(n_buckets=8, farthest=20), 3, both_ways=True)
    positions = torch.arange(30)[None]
    near, far = bias(positions, positions), bias(positions + 100, positions + 100)
    assert near.shape == (1, 3, 30, 30)
    assert torch.equal(near, far)
    assert torch.equal(near[:, :, :-1, :-1], near[:, :, 1:, 1:])


def test_rows_with_positions_of_their_own_have_biases_of_their_own():
    bias = RelativeBias(RelativeBiasConfig(), 2, both_ways=False)
    queries, keys = torch.tensor([[3, 4], [9, 10]]), torch.arange(12).expand(2, -1)
    both = bias(queries, keys)
    for row in range(2):
        assert torch.equal(both[row : row + 1], bias(queries[row : row + 1], keys[:1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_buckets": 7}, "n_buckets = 7 cannot work: use an even number from 4"),
        ({"n_buckets": 2}, "n_buckets = 2 cannot work"),
        ({"farthest": 16}, "farthest = 16 cannot work: use more than n_buckets / 2 = 16, such as 64"),
        ({"farthest": 0}, "farthest = 0 cannot work"),
    ],
)
def test_buckets_that_cannot_work_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        RelativeBiasConfig(**changes)
