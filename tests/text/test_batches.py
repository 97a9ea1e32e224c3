import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.text.batches import RandomWindows, sequential_windows

COUNT = np.arange(1000, dtype=np.uint16)  # token i stands at place i


def test_random_windows_are_runs_of_the_text():
    inputs, targets = next(RandomWindows(COUNT, batch_size=8, seq_len=16))
    assert inputs.shape == targets.shape == (8, 16)
    assert inputs.dtype == targets.dtype == torch.int64
    assert (inputs.diff(dim=1) == 1).all()


def test_the_target_is_the_next_token():
    inputs, targets = next(RandomWindows(COUNT, batch_size=8, seq_len=16))
    assert torch.equal(targets, inputs + 1)


def test_every_place_is_reached_first_and_last_included():
    tokens = COUNT[:20]
    seen = {int(inputs[0, 0]) for inputs, _ in (RandomWindows(tokens, 1, 16).batch(step) for step in range(100))}
    assert seen == {0, 1, 2, 3}


def test_a_batch_depends_on_seed_and_step_only():
    windows = RandomWindows(COUNT, batch_size=4, seq_len=8, seed=1)
    passed = [next(windows)[0] for _ in range(5)]
    assert torch.equal(RandomWindows(COUNT, 4, 8, seed=1).batch(3)[0], passed[3])
    assert not torch.equal(RandomWindows(COUNT, 4, 8, seed=2).batch(3)[0], passed[3])
    assert not torch.equal(passed[2], passed[3])


def test_setting_the_step_goes_on_where_a_run_stopped():
    first = RandomWindows(COUNT, batch_size=4, seq_len=8)
    for _ in range(7):
        next(first)
    second = RandomWindows(COUNT, batch_size=4, seq_len=8)
    second.step = first.step
    assert torch.equal(next(second)[0], next(first)[0])


def test_a_text_of_one_window_is_enough():
    inputs, targets = next(RandomWindows(COUNT[:17], batch_size=2, seq_len=16))
    assert inputs.tolist() == [list(range(16))] * 2
    assert targets.tolist() == [list(range(1, 17))] * 2


def test_a_text_shorter_than_a_window_is_refused():
    with pytest.raises(PocketError, match=r"16 tokens.*takes 17.*seq_len of at most 15"):
        RandomWindows(COUNT[:16], batch_size=2, seq_len=16)


@given(n_tokens=st.integers(2, 200), batch_size=st.integers(1, 9), seq_len=st.integers(1, 33))
def test_sequential_windows_predict_every_token_but_the_first_once(n_tokens, batch_size, seq_len):
    pairs = list(sequential_windows(COUNT[:n_tokens], batch_size, seq_len))
    assert torch.cat([targets.flatten() for _, targets in pairs]).tolist() == list(range(1, n_tokens))
    assert torch.cat([inputs.flatten() for inputs, _ in pairs]).tolist() == list(range(n_tokens - 1))
    assert max(len(inputs) for inputs, _ in pairs) <= batch_size


def test_one_token_is_too_short_to_evaluate_on():
    with pytest.raises(PocketError, match="1 tokens, and 2 are needed"):
        next(sequential_windows(COUNT[:1], 1, 8))
