import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from pocketgpt.training.schedule import warmup_cosine, warmup_stable_decay

SETTINGS = {"peak": 3e-4, "floor": 3e-5, "warmup_steps": 200, "steps": 5000}


def test_first_update_is_the_first_of_equal_stairs_and_not_zero():
    assert warmup_cosine(0, **SETTINGS) == pytest.approx(3e-4 / 201)


def test_warmup_ends_at_the_peak():
    assert warmup_cosine(199, **SETTINGS) == pytest.approx(3e-4 * 200 / 201)
    assert warmup_cosine(200, **SETTINGS) == 3e-4


def test_halfway_down_is_the_mean_of_peak_and_floor():
    assert warmup_cosine(2600, **SETTINGS) == pytest.approx((3e-4 + 3e-5) / 2)


def test_ends_at_the_floor_and_stays_there():
    assert warmup_cosine(4999, **SETTINGS) == pytest.approx(3e-5, rel=1e-5)
    assert warmup_cosine(5000, **SETTINGS) == 3e-5
    assert warmup_cosine(9999, **SETTINGS) == 3e-5


def test_without_warmup_the_first_update_runs_at_the_peak():
    assert warmup_cosine(0, peak=1.0, floor=0.0, warmup_steps=0, steps=10) == 1.0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_update_of_the_shortest_runs_moves_the_weights(steps):
    for warmup_steps in range(steps + 1):
        for step in range(steps):
            assert 0 < warmup_cosine(step, peak=1.0, floor=0.0, warmup_steps=warmup_steps, steps=steps) <= 1.0


def rates_of_torch(scheduler_class, n, **settings):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = scheduler_class(optimizer, **settings)
    rates = []
    for _ in range(n):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def test_descent_equals_cosine_annealing_of_torch():
    expected = rates_of_torch(CosineAnnealingLR, 41, T_max=40, eta_min=0.1)
    ours = [warmup_cosine(10 + step, peak=1.0, floor=0.1, warmup_steps=10, steps=50) for step in range(41)]
    assert ours == pytest.approx(expected)


def test_ascent_equals_linear_warmup_of_torch():
    expected = rates_of_torch(LinearLR, 11, start_factor=1 / 11, total_iters=10)
    ours = [warmup_cosine(step, peak=1.0, floor=0.1, warmup_steps=10, steps=50) for step in range(11)]
    assert ours == pytest.approx(expected)


def test_corners_of_a_long_run_are_those_of_the_closed_form():
    rate = {step: warmup_cosine(step, peak=1e-3, floor=0.0, warmup_steps=500, steps=15_000) for step in range(15_001)}
    assert rate[0] == pytest.approx(1e-3 / 501)
    assert rate[250] == pytest.approx(1e-3 * 251 / 501)
    assert rate[500] == max(rate.values()) == 1e-3
    assert rate[500 + 14_500 // 4] == pytest.approx(1e-3 * (1 + 2**-0.5) / 2)
    assert rate[500 + 14_500 // 2] == pytest.approx(5e-4)
    assert rate[14_999] == pytest.approx(1e-3 * (3.14159265 / 14_500) ** 2 / 4, rel=1e-4)
    assert rate[15_000] == 0.0


STABLE = {"peak": 3e-4, "floor": 3e-5, "warmup_steps": 200, "decay_steps": 1000, "steps": 5000}


def test_stable_decay_rises_as_the_cosine_does():
    for step in range(200):
        assert warmup_stable_decay(step, **STABLE) == pytest.approx(warmup_cosine(step, **SETTINGS))


def test_stable_decay_is_flat_between_warmup_and_decay():
    assert {warmup_stable_decay(step, **STABLE) for step in range(200, 4001)} == {3e-4}


def test_stable_decay_falls_as_one_minus_the_root():
    # After a quarter of the decay half of the way is done, after 49/100 seven tenths, after 81/100 nine tenths.
    for progress, done in ((0.25, 0.5), (0.49, 0.7), (0.81, 0.9)):
        rate = warmup_stable_decay(4000 + round(1000 * progress), **STABLE)
        assert rate == pytest.approx(3e-4 - done * (3e-4 - 3e-5))


def test_stable_decay_ends_at_the_floor_and_stays_there():
    assert warmup_stable_decay(4999, **STABLE) == pytest.approx(3e-5 + 2.7e-4 * (1 - 0.999**0.5))
    assert warmup_stable_decay(5000, **STABLE) == 3e-5
    assert warmup_stable_decay(9999, **STABLE) == 3e-5


def test_the_flat_part_does_not_know_where_the_run_ends():
    longer = {**STABLE, "steps": 50_000}
    assert all(warmup_stable_decay(step, **STABLE) == warmup_stable_decay(step, **longer) for step in range(4001))


def test_without_decay_the_rate_stays_at_the_peak_to_the_last_update():
    assert warmup_stable_decay(4999, **{**STABLE, "decay_steps": 0}) == 3e-4


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_update_of_the_shortest_stable_decay_moves_the_weights(steps):
    settings = {"peak": 1.0, "floor": 0.0, "steps": steps}
    for warmup_steps in range(steps + 1):
        for decay_steps in range(steps + 1):
            for step in range(steps):
                rate = warmup_stable_decay(step, warmup_steps=warmup_steps, decay_steps=decay_steps, **settings)
                assert 0 < rate <= 1.0
