"""How the benchmarks measure; what they measure decides no test."""

import math

import pytest
import torch
from tqdm import tqdm

from pocketgpt.bench.timing import Variant, growth, interleaved, spread

CPU = torch.device("cpu")


def test_variants_run_in_turn_and_the_first_round_is_not_counted():
    ran = []
    variants = [Variant(name, lambda name=name: ran.append(name)) for name in "ab"]
    interleaved(variants, runs=3, bar=tqdm(disable=True), device=CPU)
    assert "".join(ran) == "ab" * 4
    assert [len(variant.seconds) for variant in variants] == [3, 3]


def test_what_prepares_a_run_comes_before_it_and_is_not_timed(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("pocketgpt.bench.timing.time.perf_counter", lambda: clock[0])

    def takes(seconds: float) -> None:
        clock[0] += seconds

    variant = Variant("a", run=lambda: takes(2.0), before=lambda: takes(50.0))
    interleaved([variant], runs=2, bar=tqdm(disable=True), device=CPU)
    assert variant.seconds == [2.0, 2.0]


def test_ctrl_c_keeps_what_was_timed():
    ran = []

    def run() -> None:
        ran.append(1)
        if len(ran) == 4:
            raise KeyboardInterrupt

    variant = Variant("a", run)
    with pytest.raises(KeyboardInterrupt):
        interleaved([variant], runs=9, bar=tqdm(disable=True), device=CPU)
    assert len(variant.seconds) == 2


def test_a_disturbed_run_does_not_move_the_median():
    assert Variant("a", print, seconds=[1.0, 100.0, 2.0]).median == 2.0


def test_spread_is_the_middle_half():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == (2.0, 4.0)
    assert spread([7.0]) == (7.0, 7.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.5, 2.0])
def test_growth_finds_the_exponent_of_a_power_law(exponent):
    sizes = [128, 256, 1024, 4096]
    assert growth(sizes, [3e-5 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_growth_fits_logarithms_by_least_squares():
    # By hand: x = 0, 1, 2 and y = 0, 2, 1 in logarithms to base 10; slope = Σ(x − 1)(y − 1) / Σ(x − 1)² = 1 / 2.
    assert growth([1, 10, 100], [1.0, 100.0, 10.0]) == pytest.approx(0.5)
    assert math.isfinite(growth([2, 4], [1.0, 1.0]))
