"""Measuring: order of the runs, warm-up, medians. The measured values decide no test."""

import math
import time

import pytest
import torch

from pocketgpt.bench.timing import growth, in_turn, seconds_per_call, times


def test_variants_run_in_turn_and_the_first_round_is_not_counted():
    ran, results = [], {}
    in_turn({name: lambda name=name: ran.append(name) or len(ran) for name in "ab"}, 3, results, "")
    assert "".join(ran) == "ab" * 4
    assert results == {"a": [3, 5, 7], "b": [4, 6, 8]}


def test_the_first_calls_warm_up_and_are_not_timed():
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.5 if len(calls) <= 2 else 0.01)

    assert 0.005 < seconds_per_call(work, calls=3) < 0.25
    assert len(calls) == 5


def test_timing_leaves_the_number_of_threads_alone():
    seen, before = [], torch.get_num_threads()
    seconds_per_call(lambda: seen.append(torch.get_num_threads()))
    assert {*seen, torch.get_num_threads()} == {before}


def test_ctrl_c_keeps_what_was_timed():
    ran, results = [], {}

    def run() -> int:
        ran.append(1)
        if len(ran) == 4:
            raise KeyboardInterrupt
        return len(ran)

    with pytest.raises(KeyboardInterrupt):
        in_turn({"a": run}, 9, results, "")
    assert results == {"a": [2, 3]}


def test_a_disturbed_run_does_not_move_the_median():
    assert times([1.0, 100.0, 2.0])["milliseconds"] == 2000.0


def test_the_middle_half_of_the_runs_is_between_the_quartiles():
    assert times([5.0, 1.0, 2.0, 4.0, 3.0])["middle_half"] == [2000.0, 4000.0]
    assert times([7.0])["middle_half"] == [7000.0, 7000.0]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_growth_finds_the_exponent_of_a_power_law(exponent):
    sizes = [128, 256, 1024, 4096]
    assert growth(sizes, [3e-5 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_growth_fits_logarithms_by_least_squares():
    # By hand: x = 0, 1, 2 and y = 0, 2, 1 in logarithms to base 10; slope = Σ(x − 1)(y − 1) / Σ(x − 1)² = 1 / 2.
    assert growth([1, 10, 100], [1.0, 100.0, 10.0]) == pytest.approx(0.5)
    assert math.isfinite(growth([2, 4], [1.0, 1.0]))
