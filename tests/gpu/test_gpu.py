"""What only a CUDA GPU can show. Everywhere else these tests are skipped; `make gpu` runs them and writes a report.

What is compiled runs in a process of its own, because dynamo does not trace the run-time checks of annotations that are
on in this one.
"""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.device import peak_memory
from pocketgpt.inference.generate import generate
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention_backends import BACKENDS
from pocketgpt.models.gpt import GPT
from pocketgpt.training.checkpoint import load_shipped
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.prepare import autocast, grad_scaler
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.step import training_step

DEVICE = torch.device(os.environ.get("POCKETGPT_TEST_DEVICE", "cuda"))  # cpu: to try the tests themselves
GPU = DEVICE.type == "cuda"
if GPU and not torch.cuda.is_available():
    pytest.skip("no CUDA GPU is seen here", allow_module_level=True)

GREEDY = Sampler(temperature=0.0)
PROMPTS = [[5, 6, 7, 8], [9, 10, 11]]
SMALL_RUN = ["--steps", "8", "--batch-size", "2", "--seq-len", "64", "--eval-every", "4", "--save-every", "4"]
SMALL_RUN += ["--eval-tokens", "2000", "--device", str(DEVICE)]


@pytest.fixture(autouse=True)
def exact_products():
    """Products of float32 are computed in float32 and not in TF32, so that they can be compared with the CPU's."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def pocketgpt(*words: str, folder) -> str:
    """Standard output of a command line, which has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "pocketgpt", *words], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def losses(folder) -> list[float]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = [record["train_loss"] for record in records if "train_loss" in record]
    assert len(found) >= 2
    return found


@pytest.mark.parametrize("name", ["llama", "gpt2", "latent"])
def test_logits_equal_those_of_the_cpu(small, lively, assert_equal, name):
    model = lively(small(name))
    tokens = torch.randint(61, (2, 20))
    expected = model(tokens)
    assert_equal(model.to(DEVICE)(tokens.to(DEVICE)).cpu(), expected, tolerance=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_logits_in_half_precision_are_near_those_of_float32(small, lively, precision):
    if precision == "fp16" and not GPU:
        pytest.skip("fp16 is for CUDA GPUs")
    model, tokens = lively(small("llama")).to(DEVICE), torch.randint(61, (2, 20), device=DEVICE)
    expected = model(tokens)
    with autocast(DEVICE, precision):
        found = model(tokens).float()
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_training_lowers_the_loss(small, precision):
    if precision == "fp16" and not GPU:
        pytest.skip("fp16 is for CUDA GPUs")
    loss = NextTokenLoss(GPT(small("llama")).to(DEVICE))
    tokens = torch.randint(61, (4, 21), device=DEVICE)
    optimizers = build_optimizers(loss.model, TrainConfig(optimizer="adamw", lr=1e-2))
    scaler = grad_scaler(DEVICE, precision)
    found = [
        training_step(
            loss,
            [(tokens[:, :-1], tokens[:, 1:])],
            optimizers,
            autocast=autocast(DEVICE, precision),
            scaler=scaler,
            clip=1.0,
        )[0]
        for _ in range(40)
    ]
    assert found[-1] < found[0] / 2
    assert scaler.is_enabled() == (precision == "fp16")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_every_attention_backend_equals_attention_in_float64(name, dtype):
    q, k, v = (torch.randn(2, heads, 65, 32, device=DEVICE, dtype=dtype) for heads in (6, 2, 2))
    found = BACKENDS[name](q, k, v, is_causal=True)
    expected = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), is_causal=True, enable_gqa=True)
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("weights", ["float32", "bf16", "int8"])
def test_the_shipped_model_writes_the_same_with_a_cache_as_the_cpu(weights):
    model = load_shipped().model
    expected = generate(prepare_for_decoding(model, weights), PROMPTS, max_new_tokens=24, sampler=GREEDY)
    found = generate(prepare_for_decoding(model.to(DEVICE), weights), PROMPTS, max_new_tokens=24, sampler=GREEDY)
    # In fewer bits two tokens can be so close that rounding chooses; the first ones are not.
    n = 24 if weights == "float32" else 4
    assert [row[:n] for row in found] == [row[:n] for row in expected]


COMPILED = """
import json, sys, torch
from pocketgpt.inference.generate import generate
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.training.checkpoint import load_shipped
model, prompts = load_shipped().model.to(sys.argv[1]), json.loads(sys.argv[2])
for compiled in (True, False):
    prepared = prepare_for_decoding(model, "float32", compiled=compiled)
    print(json.dumps(generate(prepared, prompts, max_new_tokens=60, sampler=Sampler(temperature=0.0))))
"""


def test_decode_steps_in_one_cuda_graph_write_what_eager_steps_write():
    command = [sys.executable, "-c", COMPILED, str(DEVICE), json.dumps(PROMPTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    compiled, eager = done.stdout.splitlines()
    assert compiled == eager


def test_a_cache_takes_the_memory_that_its_closed_form_says():
    if not GPU:
        pytest.skip("the allocator of a CPU does not count")
    model = load_shipped().model.to(DEVICE)
    before = torch.cuda.memory_allocated()
    cache = new_cache(model, 8, 256)
    taken = torch.cuda.memory_allocated() - before
    said = sum(mixer.cache_bytes(256, torch.float32) for mixer in model.mixers()) * 8
    assert said <= taken < 1.1 * said + 2**16
    del cache


def test_peak_memory_is_that_of_the_largest_moment():
    def work() -> None:
        torch.empty(64 * 2**20, dtype=torch.uint8, device=DEVICE)
        torch.empty(16 * 2**20, dtype=torch.uint8, device=DEVICE)

    if GPU:
        assert 64 * 2**20 <= peak_memory(work, DEVICE) < 96 * 2**20


@pytest.mark.parametrize("options", [(), ("--compile",), ("--precision", "fp16")], ids=" ".join)
def test_a_run_trains_and_its_model_writes(tmp_path, options):
    if not GPU and "fp16" in options:
        pytest.skip("fp16 is for CUDA GPUs")
    pocketgpt("train", "--out", "run", *SMALL_RUN, *options, folder=tmp_path)
    found = losses(tmp_path / "run")
    assert all(map(math.isfinite, found)) and found[-1] < found[0]
    assert pocketgpt("generate", "ROMEO:", "--model", "run", "--device", str(DEVICE), folder=tmp_path)


def test_compiled_training_has_the_losses_of_eager_training(tmp_path):
    for name, option in (("eager", "--no-compile"), ("compiled", "--compile")):
        pocketgpt("train", "--out", name, *SMALL_RUN, "--precision", "float32", option, folder=tmp_path)
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-3)


def test_a_run_that_is_resumed_has_the_losses_of_one_that_was_not_stopped(tmp_path):
    """To the bit on a CPU. On a GPU sums are added in an order that can change, so to seven digits at this size."""
    pocketgpt("train", "--out", "whole", *SMALL_RUN, "--precision", "float32", folder=tmp_path)
    again = ["train", "--resume", "whole/step-000004", "--out", "resumed", "--device", str(DEVICE)]
    pocketgpt(*again, folder=tmp_path)
    tolerance = 1e-5 if GPU else 0
    whole, resumed = (losses(tmp_path / name) for name in ("whole", "resumed"))
    assert resumed[-4:] == pytest.approx(whole[-4:], rel=tolerance, abs=0)


@pytest.mark.parametrize("options", [(), ("--fsdp",)], ids=["DistributedDataParallel", "FSDP"])
def test_one_process_of_torchrun_trains(tmp_path, options):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    command += ["-m", "pocketgpt", "train", "--out", "run", *SMALL_RUN, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert all(map(math.isfinite, losses(tmp_path / "run")))
