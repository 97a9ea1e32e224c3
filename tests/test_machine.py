import pytest
import torch

from pocketgpt import machine
from pocketgpt.machine import fastest, matmul_flops, memory_bandwidth

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def measured_anew(monkeypatch):
    """Small and short, and without what another test has measured."""
    monkeypatch.setattr(machine, "SECONDS", 0.02)
    monkeypatch.setattr(machine, "READ_BYTES", 2**24)
    machine._matmul_flops.cache_clear()
    machine._memory_bandwidth.cache_clear()
    yield
    machine._matmul_flops.cache_clear()
    machine._memory_bandwidth.cache_clear()


@pytest.fixture
def works(monkeypatch):
    """Every piece of work that is timed is run once and kept, and takes half a second."""
    results = []
    monkeypatch.setattr(machine, "fastest", lambda work, device: results.append(work()) or 0.5)
    return results


def test_flops_are_two_per_multiplication_of_the_faster_product(works):
    assert matmul_flops(CPU, torch.float32) == 2 * 2048**3 / 0.5
    assert [product.shape for product in works] == [(1024, 1024), (2048, 2048)]


def test_the_product_is_computed_in_the_format_asked_for(works):
    matmul_flops(CPU, torch.bfloat16)
    assert {product.dtype for product in works} == {torch.bfloat16}


def test_bandwidth_is_what_was_read_over_the_time(works):
    assert memory_bandwidth(CPU) == 2**24 / 0.5
    [product] = works
    assert product.sum() == 2**24 // 4  # of ones: each number was read


def test_limits_are_measured_once_for_each_number_of_threads(works, monkeypatch):
    for threads in (1, 1, 2, 1):
        monkeypatch.setattr(machine.torch, "get_num_threads", lambda threads=threads: threads)
        memory_bandwidth(CPU)
    assert len(works) == 2


def test_the_fastest_run_counts_and_the_first_only_warms_up(monkeypatch):
    durations, clock = [1.0, 5.0, 3.0, 4.0, 100.0], [0.0]
    monkeypatch.setattr(machine, "SECONDS", 14.0)
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock[0])

    def work():
        clock[0] += durations.pop(0)

    assert fastest(work, CPU) == 3.0
    assert durations == []


def test_this_machine_computes_and_reads_at_a_rate_that_exists():
    # 10 MFLOP/s was a computer of 1990; an exaflop fills a hall.
    assert 1e7 < matmul_flops(CPU, torch.float32) < 1e18
    assert 1e7 < memory_bandwidth(CPU) < 1e15
