import pytest
import torch

from pocketgpt import device
from pocketgpt.device import (
    DeviceError,
    bf16_is_native,
    choose_device,
    describe,
    fastest,
    matmul_flops,
    memory_bandwidth,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def measured_anew(monkeypatch):
    """Small and short measurements; results of other tests are forgotten."""
    monkeypatch.setattr(device, "SECONDS", 0.02)
    monkeypatch.setattr(device, "READ_BYTES", 2**24)
    device._matmul_flops.cache_clear()
    device._memory_bandwidth.cache_clear()
    yield
    device._matmul_flops.cache_clear()
    device._memory_bandwidth.cache_clear()


@pytest.fixture
def works(monkeypatch):
    """Results of all timed work: each piece runs once and seems to take half a second."""
    results = []
    monkeypatch.setattr(device, "fastest", lambda work: results.append(work()) or 0.5)
    return results


def test_auto_finds_a_device_that_computes():
    assert torch.ones(3, device=choose_device("auto")).sum() == 3


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:1", "cuda:x"])
def test_an_unknown_device_is_answered_with_the_ones_there_are(name):
    with pytest.raises(DeviceError, match=rf"{name}.*cpu"):
        choose_device(name)


def test_bf16_is_native_where_the_processor_multiplies_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": True})
    assert bf16_is_native(CPU)


def test_bf16_is_not_native_where_it_would_be_emulated(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_f": True})
    assert not bf16_is_native(CPU)


def test_a_gpu_before_ampere_does_not_count_as_native(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not bf16_is_native(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert bf16_is_native(torch.device("cuda"))


def test_flops_are_two_per_multiplication_of_the_faster_product(works):
    assert matmul_flops(CPU, torch.float32) == 2 * 2048**3 / 0.5
    assert [product.shape for product in works] == [(1024, 1024), (2048, 2048)]


@pytest.mark.parametrize(("native", "sizes"), [(True, [1024, 2048]), (False, [256])])
def test_the_product_has_the_format_asked_for_and_is_small_where_the_processor_emulates_it(
    works, monkeypatch, native, sizes
):
    monkeypatch.setattr(device, "bf16_is_native", lambda device: native)
    monkeypatch.setattr(torch, "mm", lambda a, b, out: out)  # emulated, the large ones take a minute
    assert matmul_flops(CPU, torch.bfloat16) == 2 * sizes[-1] ** 3 / 0.5
    assert [(product.dtype, len(product)) for product in works] == [(torch.bfloat16, size) for size in sizes]


def test_bandwidth_is_what_was_read_over_the_time(works):
    assert memory_bandwidth(CPU) == 2**24 / 0.5
    [product] = works
    assert product.sum() == 2**24 // 4  # of ones: each number was read


def test_limits_are_measured_once_for_each_number_of_threads(works, monkeypatch):
    for threads in (1, 1, 2, 1):
        monkeypatch.setattr(device.torch, "get_num_threads", lambda threads=threads: threads)
        memory_bandwidth(CPU)
    assert len(works) == 2


def test_the_fastest_run_counts_and_the_first_only_warms_up(monkeypatch):
    durations, clock = [1.0, 5.0, 3.0, 4.0, 100.0], [0.0]
    monkeypatch.setattr(device, "SECONDS", 14.0)
    monkeypatch.setattr(device, "timer", lambda: clock[0])

    def work():
        clock[0] += durations.pop(0)

    assert fastest(work) == 3.0
    assert durations == []


def test_this_machine_computes_and_reads_at_a_rate_that_exists():
    # 10 MFLOP/s was a computer of 1990; an exaflop fills a hall.
    assert 1e7 < matmul_flops(CPU, torch.float32) < 1e18
    assert 1e7 < memory_bandwidth(CPU) < 1e15


def test_the_machine_is_named_with_its_versions():
    machine = describe(CPU)
    assert machine["versions"]["torch"] == torch.__version__
    assert machine["processor"] and machine["threads"] == torch.get_num_threads()
