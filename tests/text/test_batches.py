from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pocketgpt.errors import PocketError
from pocketgpt.text.batches import ShuffledWindows, sequential_windows

COUNT = np.arange(1000, dtype=np.uint16)  # token i stands at place i


def _starts(batches) -> list[int]:
    """Where the windows of some batches begin."""
    return [int(row[0]) for inputs, _ in batches for row in inputs]


def test_windows_are_runs_of_the_text():
    inputs, targets = next(ShuffledWindows(COUNT, batch_size=8, seq_len=16))
    assert inputs.shape == targets.shape == (8, 16)
    assert inputs.dtype == targets.dtype == torch.int64
    assert (inputs.diff(dim=1) == 1).all()


def test_the_target_is_the_next_token():
    inputs, targets = next(ShuffledWindows(COUNT, batch_size=8, seq_len=16))
    assert torch.equal(targets, inputs + 1)


@given(
    n_tokens=st.integers(20, 900),
    seq_len=st.integers(1, 9),
    batch_size=st.integers(1, 3),
    world_size=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_an_epoch_reads_every_token_once_but_the_edges(n_tokens, seq_len, batch_size, world_size, seed):
    tokens = COUNT[:n_tokens]
    try:
        ranks = [ShuffledWindows(tokens, batch_size, seq_len, seed, rank, world_size) for rank in range(world_size)]
    except PocketError:  # too short for this batch; its own test is below
        return
    n_windows = ranks[0].n_windows
    read = []  # in the order of the run: step by step, rank by rank
    for step in range(3 * n_windows // (batch_size * world_size)):
        for rank in ranks:
            read += rank.batch(step)[0].tolist()
    for epoch in range(len(read) // n_windows):
        inputs = sorted(token for window in read[epoch * n_windows : (epoch + 1) * n_windows] for token in window)
        assert inputs == list(range(inputs[0], inputs[0] + n_windows * seq_len))  # none twice, none left out
        assert n_tokens - len(inputs) <= 2 * seq_len


def test_two_ranks_read_what_one_process_with_twice_the_batch_reads():
    one = ShuffledWindows(COUNT, batch_size=8, seq_len=16, seed=3)
    two = [ShuffledWindows(COUNT, 4, 16, seed=3, rank=rank, world_size=2) for rank in range(2)]
    for step in range(40):  # over more than five epochs
        for large, *small in zip(one.batch(step), *(rank.batch(step) for rank in two), strict=True):
            assert torch.equal(large, torch.cat(small))


def test_a_batch_depends_on_seed_step_and_rank_only():
    windows = ShuffledWindows(COUNT, batch_size=4, seq_len=8, seed=1, rank=1, world_size=2)
    passed = [inputs for inputs, _ in islice(windows, 50)]
    assert torch.equal(ShuffledWindows(COUNT, 4, 8, seed=1, rank=1, world_size=2).batch(33)[0], passed[33])
    assert not torch.equal(ShuffledWindows(COUNT, 4, 8, seed=1, rank=0, world_size=2).batch(33)[0], passed[33])
    assert not torch.equal(ShuffledWindows(COUNT, 4, 8, seed=2, rank=1, world_size=2).batch(33)[0], passed[33])
    assert not torch.equal(passed[32], passed[33])


def test_setting_the_step_goes_on_where_a_run_stopped():
    first = ShuffledWindows(COUNT, batch_size=4, seq_len=8)
    for _ in range(7):
        next(first)
    second = ShuffledWindows(COUNT, batch_size=4, seq_len=8)
    second.step = first.step
    assert torch.equal(next(second)[0], next(first)[0])


def test_epochs_differ_in_order_and_in_offset():
    windows = ShuffledWindows(COUNT, batch_size=1, seq_len=50)
    starts = _starts(islice(windows, 20 * windows.n_windows))
    epochs = [starts[i : i + windows.n_windows] for i in range(0, len(starts), windows.n_windows)]
    orders = {tuple(np.argsort(epoch)) for epoch in epochs}
    offsets = {min(epoch) for epoch in epochs}
    assert len(orders) == 20
    assert len(offsets) > 10


def test_every_place_is_reached_first_and_last_included():
    windows = ShuffledWindows(COUNT[:20], batch_size=1, seq_len=8)  # one window an epoch, room for 12 offsets
    assert set(_starts(islice(windows, 200))) == set(range(12))


def test_a_text_of_one_window_is_enough():
    inputs, targets = next(ShuffledWindows(COUNT[:17], batch_size=1, seq_len=16))
    assert inputs.tolist() == [list(range(16))]
    assert targets.tolist() == [list(range(1, 17))]


@pytest.mark.parametrize(
    ("n_tokens", "arguments", "message"),
    [
        (16, (1, 16), "16 tokens make 0 windows of seq_len 16, and one batch takes 1 .*at least 32 tokens.*most 8[.]"),
        (
            100,
            (10, 10),
            r"takes 10 \(batch_size 10\).*110 tokens.*a batch_size of at most 9.*a seq_len of at most 9[.]",
        ),
        (100, (5, 10, 0, 1, 2), r"takes 10 \(batch_size 5 on each of 2 processes\).*a batch_size of at most 4"),
        (1, (2, 1), r"1 tokens make 0 windows of seq_len 1.*Use at least 3 tokens of text[.]"),
    ],
)
def test_a_text_too_short_for_a_batch_says_what_would_work(n_tokens, arguments, message):
    with pytest.raises(PocketError, match=message):
        ShuffledWindows(COUNT[:n_tokens], *arguments)


def test_what_a_message_advises_works():
    for n_tokens, batch_size, seq_len in [(110, 10, 10), (100, 9, 10), (100, 10, 9)]:
        assert len(next(ShuffledWindows(COUNT[:n_tokens], batch_size, seq_len))[0]) == batch_size


@given(n_tokens=st.integers(2, 200), batch_size=st.integers(1, 9), seq_len=st.integers(1, 33))
def test_sequential_windows_predict_every_token_but_the_first_once(n_tokens, batch_size, seq_len):
    pairs = list(sequential_windows(COUNT[:n_tokens], batch_size, seq_len))
    assert torch.cat([targets.flatten() for _, targets in pairs]).tolist() == list(range(1, n_tokens))
    assert torch.cat([inputs.flatten() for inputs, _ in pairs]).tolist() == list(range(n_tokens - 1))
    assert max(len(inputs) for inputs, _ in pairs) <= batch_size


def test_one_token_is_too_short_to_evaluate_on():
    with pytest.raises(PocketError, match="1 tokens, and 2 are needed"):
        next(sequential_windows(COUNT[:1], 1, 8))


def test_repeated_windows_start_over_after_a_distance_of_their_own():
    batches = islice(ShuffledWindows(COUNT, batch_size=8, seq_len=32, repeats=1.0), 8)
    rows = [torch.cat([inputs[:, :1], targets], dim=1) for inputs, targets in batches]
    distances = []
    in_order = []
    for row in torch.cat(rows):
        distance = int((row == row[0]).nonzero()[1])
        assert torch.equal(row[distance:], row[:-distance])
        start = row[:distance].sort().values  # a run of the text, in half of the windows shuffled
        assert (start.diff() == 1).all()
        in_order.append(torch.equal(start, row[:distance]))
        distances.append(distance)
    assert min(distances) >= 8 and max(distances) <= 16 and len(set(distances)) == 9
    assert 20 <= sum(in_order) <= 44  # 32 of 64 expected


def test_a_share_of_the_windows_is_repeated_and_the_others_stay():
    tokens = np.arange(60_000, dtype=np.uint16)
    plain, mixed = (ShuffledWindows(tokens, 500, 32, repeats=repeats).batch(0)[0] for repeats in (0.0, 0.1))
    changed = (plain != mixed).any(dim=1)
    assert 30 <= changed.sum() <= 70  # 50 of 500 expected
    # The first tokens of a window stay unless it is shuffled, as half of the changed ones are.
    assert (plain[changed, :8] == mixed[changed, :8]).all(dim=1).float().mean() == pytest.approx(0.5, abs=0.25)


def test_which_windows_are_repeated_depends_on_the_window_only():
    # One process with a batch of 8, and two ranks with batches of 4, repeat the same windows in the same way.
    one, both = (
        ShuffledWindows(COUNT, 8, 16, repeats=0.5),
        [ShuffledWindows(COUNT, 4, 16, 0, r, 2, 0.5) for r in (0, 1)],
    )
    for step in range(12):
        assert torch.equal(one.batch(step)[0], torch.cat([each.batch(step)[0] for each in both]))
