"""A small training run in one process and in several, which must have the same losses.

    result = train_in_processes(plan)           # starts torchrun with as many processes as the plan has ranks

Each process trains twice, with DDP and with FSDP2, on what a plan says it reads. Everything happens on this machine,
over the loopback interface, in a temporary folder. Where processes cannot be started or cannot talk to each other, the
result says why.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.distributed import gradient_sync, process_group, rank, sum_over_ranks, world_size, wrap
from pocketgpt.training.loss import IGNORE, NextTokenLoss

MODES = ("ddp", "fsdp")
PATIENCE = 60  # seconds for all processes together
MODEL = ModelConfig(
    vocab_size=78,
    d_model=64,
    n_layers=2,
    max_seq_len=64,
    mixer=AttentionConfig(n_heads=4, n_kv_heads=2),
    feedforward=FeedForwardConfig(d_ff=128),
)


@dataclass(frozen=True)
class Plan:
    """What every rank reads in every step, and how much each of its batches counts.

    texts    the texts: tokens, of different lengths
    rows     by step and rank, the indices of the texts in its batch
    weights  by step and rank, the weight of the mean loss of this batch in the mean loss of the step
    """

    texts: Sequence[Sequence[int]]
    rows: Sequence[Sequence[Sequence[int]]]
    weights: Sequence[Sequence[float]]


@dataclass
class Result:
    """Losses by mode and step, and for each mode seconds a step, and bytes of weights in each process.

    problem  why there are none, a sentence
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    weight_bytes: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def batch_of(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets of some texts; shorter ones are filled up, and the filling is no target."""
    longest = max(map(len, texts))
    tokens = torch.zeros(len(texts), longest, dtype=torch.long)
    targets = torch.full((len(texts), longest), IGNORE)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = torch.tensor(text)
        targets[row, : len(text) - 1] = torch.tensor(text[1:])
    return tokens, targets


def train(plan: Plan, fsdp: bool = False) -> tuple[list[float], float, int]:
    """Train on this rank's batches; without a process group, on those of all ranks, one after the other.

    Returns the loss of every step before its update, seconds a step, and the bytes of weights in this process.
    """
    torch.manual_seed(0)
    model = GPT(MODEL)
    loss = wrap(NextTokenLoss(model), fsdp)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, started = [], time.perf_counter()
    for rows, weights in zip(plan.rows, plan.weights, strict=True):
        parts = list(zip(rows, weights, strict=True))
        mine = parts if world_size() == 1 else [parts[rank()]]
        total = torch.zeros(())
        gradient_sync(loss, on=True)
        for indices, weight in mine:
            # DDP and FSDP average over the ranks, and the weights are those of a sum.
            share = loss(*batch_of([plan.texts[i] for i in indices])) * weight * world_size()
            share.backward()
            total += share.detach()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(sum_over_ranks(total).item() / world_size())
    held = [each.to_local() if isinstance(each, DTensor) else each for each in model.parameters()]
    return losses, (time.perf_counter() - started) / len(plan.rows), sum(each.nbytes for each in held)


def train_in_one_process(plan: Plan) -> Result:
    """Train here, all batches of a step one after the other: gradient accumulation."""
    losses, seconds, weight_bytes = train(plan)
    return Result({"one": losses}, {"one": seconds}, {"one": weight_bytes})


def train_in_processes(plan: Plan) -> Result:
    """Train with DDP, then with FSDP2, in as many processes as the plan has ranks, started by torchrun."""
    with tempfile.TemporaryDirectory(prefix="two-processes-") as folder:
        written = Path(folder, "plan.json")
        written.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        address = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--nnodes",
            "1",
            "--nproc-per-node",
            str(len(plan.rows[0])),
            *address,
        ]
        command = [sys.executable, *torchrun, "-m", __spec__.name, str(written)]
        try:
            problem = _run(command, folder)
            results = Path(folder, "result.json")
            return Result(problem=problem) if problem else Result(**json.loads(results.read_text(encoding="utf-8")))
        except OSError as error:
            return Result(problem=f"processes cannot be started here ({error.strerror})")


def _run(command: list[str], folder: str) -> str:
    """Why a command failed, or "". It ends with all that it started when its time is over."""
    log = Path(folder, "log.txt")
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(), stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None and hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status is None:
        return f"the processes did not end within {PATIENCE} seconds"
    if status == 0:
        return ""
    lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    return f"torchrun ended with status {status}: {lines[0].strip() if lines else 'it said nothing'}"


def _environment() -> dict[str, str]:
    """This process's, with the package in reach, one thread each, and the loopback interface for gloo."""
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    changed = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    names = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
    loopback = next((name for name in ("lo", "lo0") if name in names), None)
    return {**os.environ, **changed, **({"GLOO_SOCKET_IFNAME": loopback} if loopback else {})}


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def worker(written: Path) -> None:
    """One of the processes: train in every mode; rank 0 writes the result beside the plan."""
    torch.set_num_threads(1)
    plan, result = Plan(**json.loads(written.read_text(encoding="utf-8"))), Result()
    with process_group("cpu"):
        for mode in MODES:
            result.losses[mode], result.seconds[mode], result.weight_bytes[mode] = train(plan, fsdp=mode == "fsdp")
            dist.barrier()
        if rank() == 0:
            written.with_name("result.json").write_text(json.dumps(asdict(result)), encoding="utf-8")


if __name__ == "__main__":
    worker(Path(sys.argv[1]))
