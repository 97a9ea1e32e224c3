"""A model prepared for training: another attention backend where it is faster, and memory that the process keeps."""

import subprocess
import sys

import pytest
import torch

from pocketgpt.layers.attention_backends import fused_attention, short_attention
from pocketgpt.models.gpt import GPT
from pocketgpt.training.prepare import bf16_is_native, keep_allocations, prepare_for_training

CPU = torch.device("cpu")


def backends(model: GPT) -> list:
    return [mixer.attend for mixer in model.mixers()]


@pytest.mark.skipif(not bf16_is_native(CPU), reason="this CPU does not multiply bf16 itself")
def test_bf16_training_on_a_cpu_takes_short_attention(small):
    model = GPT(small("llama"))
    prepared = prepare_for_training(model, CPU, "auto")
    assert backends(prepared) == [short_attention] * 2
    assert backends(model) == [fused_attention] * 2
    ours, theirs = dict(prepared.named_parameters()), dict(model.named_parameters())
    assert all(ours[name] is theirs[name] for name in theirs)


@pytest.mark.parametrize("device, precision", [("cpu", "float32"), ("cuda", "bf16")])
def test_anywhere_else_attention_stays_as_it_is(small, device, precision):
    model = GPT(small("llama"))
    assert backends(prepare_for_training(model, torch.device(device), precision)) == [fused_attention] * 2


def test_an_attention_that_was_exchanged_by_hand_is_left_alone(small):
    model, mine = GPT(small("llama")), lambda q, *rest, **options: q
    assert backends(prepare_for_training(model.use_attention(mine), CPU, "auto")) == [mine, mine]


FAULTS = """
import resource, sys, torch
from pocketgpt.training.prepare import keep_allocations
if sys.argv[1] == "keep":
    assert keep_allocations()
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_kept_memory_is_not_asked_of_the_system_again():
    # In processes of their own: the setting stays for good. In three, because addresses are drawn at random, and once
    # in a while something lies where the heap would grow, so that glibc has to ask for other memory.
    def page_faults(mode: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert min(page_faults("keep") for _ in range(3)) < 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_memory_that_is_no_longer_kept_goes_back_to_the_system():
    code = FAULTS.replace("assert keep_allocations()", "assert keep_allocations() and keep_allocations(False)")
    done = subprocess.run([sys.executable, "-c", code, "keep"], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 1000


def test_keeping_memory_is_declined_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_allocations()
