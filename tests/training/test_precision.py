from contextlib import nullcontext

import pytest
import torch

from pocketgpt.device import DeviceError
from pocketgpt.training import prepare
from pocketgpt.training.prepare import autocast, grad_scaler

CPU = torch.device("cpu")


def product_dtype(context):
    with context:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def with_capabilities(monkeypatch, **capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)


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


@pytest.mark.parametrize(("capability", "instead"), [({"amx_bf16": True}, "bf16"), ({}, "float32")])
def test_fp16_on_a_cpu_is_answered_with_what_it_does_well(monkeypatch, capability, instead):
    with_capabilities(monkeypatch, **capability)
    with pytest.raises(DeviceError, match=rf"the device is cpu: use precision {instead}"):
        autocast(CPU, "fp16")


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_fp16_on_a_gpu_multiplies_in_fp16():
    context = autocast(torch.device("cuda"), "fp16")
    assert (context.device, context.fast_dtype) == ("cuda", torch.float16)


def test_a_gpu_before_ampere_computes_in_float32_unless_fp16_is_asked_for(monkeypatch):
    monkeypatch.setattr(prepare.torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert isinstance(autocast(torch.device("cuda"), "auto"), nullcontext)
    with pytest.raises(DeviceError, match="fp16"):
        autocast(torch.device("cuda"), "bf16")


@pytest.mark.parametrize("name", ["auto", "float32", "bf16"])
def test_without_fp16_the_scaler_does_nothing(name):
    scaler = grad_scaler(CPU, name)
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler.scale(weight.sum()).backward()
    scaler.unscale_(optimizer)
    assert weight.grad == 1.0
    scaler.step(optimizer)
    scaler.update()
    assert weight == 0.0


def one_step(scaler, optimizer, weight, factor):
    """One step as `update` takes it: the loss scaled, the gradient unscaled before it is clipped."""
    scaler.scale((weight * factor).sum()).backward()
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_([weight], 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return norm


def test_with_fp16_the_loss_is_scaled_and_the_gradient_clipped_at_its_own_size():
    scaler, weight = grad_scaler(CPU, "fp16"), torch.zeros(1, requires_grad=True)
    assert scaler.scale(torch.ones(1)) > 1000
    norm = one_step(scaler, torch.optim.SGD([weight], lr=1.0), weight, 0.5)
    assert (norm.item(), weight.item()) == (0.5, -0.5)


def test_with_fp16_a_step_that_overflows_is_skipped_and_the_scale_halved():
    scaler, weight = grad_scaler(CPU, "fp16"), torch.zeros(1, requires_grad=True)
    before = scaler.scale(torch.ones(1)).item()
    one_step(scaler, torch.optim.SGD([weight], lr=1.0), weight, float("inf"))
    assert weight == 0.0
    assert scaler.get_scale() == before / 2
