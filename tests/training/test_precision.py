import pytest
import torch

from pocketgpt.training import precision
from pocketgpt.training.precision import DeviceError, autocast, bf16_is_native, choose_device

CPU = torch.device("cpu")


def product_dtype(context):
    with context:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def with_capabilities(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


def test_auto_finds_a_device_that_computes():
    assert torch.ones(3, device=choose_device("auto")).sum() == 3


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:1", "cuda:x"])
def test_an_unknown_device_is_answered_with_the_ones_there_are(name):
    with pytest.raises(DeviceError, match=rf"{name}.*cpu"):
        choose_device(name)


def test_bf16_is_native_where_the_processor_multiplies_it(monkeypatch):
    with_capabilities(monkeypatch, avx2=True, avx512_bf16=True)
    assert bf16_is_native(CPU)


def test_bf16_is_not_native_where_it_would_be_emulated(monkeypatch):
    with_capabilities(monkeypatch, avx2=True, avx512_f=True)
    assert not bf16_is_native(CPU)


def test_auto_multiplies_in_bf16_where_that_is_native(monkeypatch):
    with_capabilities(monkeypatch, amx_bf16=True)
    assert product_dtype(autocast(CPU, "auto")) == torch.bfloat16


def test_auto_multiplies_in_float32_elsewhere(monkeypatch):
    with_capabilities(monkeypatch)
    assert product_dtype(autocast(CPU, "auto")) == torch.float32


def test_float32_is_float32_everywhere(monkeypatch):
    with_capabilities(monkeypatch, amx_bf16=True)
    assert product_dtype(autocast(CPU, "float32")) == torch.float32


def test_emulated_bf16_is_refused(monkeypatch):
    with_capabilities(monkeypatch)
    with pytest.raises(DeviceError, match="float32"):
        autocast(CPU, "bf16")


def test_a_gpu_before_ampere_does_not_count_as_native(monkeypatch):
    monkeypatch.setattr(precision.torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not bf16_is_native(torch.device("cuda"))
    monkeypatch.setattr(precision.torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert bf16_is_native(torch.device("cuda"))
