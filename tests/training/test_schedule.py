import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

from pocketgpt.training.schedule import warmup_cosine

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
