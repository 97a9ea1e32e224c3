"""Distributed training: process groups, DDP and FSDP2, and collective operations.

`torchrun --nproc-per-node N` starts N copies of a program and tells each its number, its rank. Each rank has all
weights (DDP) or a shard of them (FSDP2), reads different text, and averages its gradients with the others. Every
function here also works in a single process, so callers need no second path.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def process_group(device_name: str = "auto") -> Iterator[torch.device]:
    """Join the process group that torchrun started, and leave it at the end; yields the device of this rank.

    Tensors on GPUs are sent through NCCL, tensors in memory through gloo. Without torchrun there is no group to join.
    Raises PocketError if torchrun's variables are incomplete, there are more processes here than GPUs, or another
    process ended.
    """
    if "RANK" not in os.environ and "WORLD_SIZE" not in os.environ:
        yield choose_device(device_name)
        return
    missing = [name for name in TORCHRUN if name not in os.environ]
    if missing:
        raise PocketError(
            f"{', '.join(missing)} is not set, though other variables of torchrun are: start with "
            "torchrun --nproc-per-node 2 -m pocketgpt train …, which sets all of them."
        )
    device = device_of_rank(device_name, int(os.environ["LOCAL_RANK"]))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    number = f"rank {rank()} of {world_size()}"
    try:
        yield device
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise PocketError(
                f"Lost the other processes ({number}): one of them ended, or the network between them failed. Its own "
                "message is above, if it printed one. Use --resume to continue the run from its last checkpoint."
            ) from error
        raise
    finally:
        dist.destroy_process_group()


def device_of_rank(name: str, local_rank: int) -> torch.device:
    """Choose the device of a process: the GPU whose index is its local rank, or the CPU."""
    device = choose_device(name)
    if device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise PocketError(f"Several processes cannot share the device {name!r}: use cuda, one GPU each, or cpu.")
    if local_rank >= torch.cuda.device_count():
        raise PocketError(
            f"Process {local_rank} of this machine has no GPU of its own: there are {torch.cuda.device_count()}. "
            f"Use torchrun --nproc-per-node {torch.cuda.device_count()}, or the device cpu."
        )
    return torch.device("cuda", local_rank)


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """True in the main process, which alone prints and writes files."""
    return rank() == 0


def seed_everything(seed: int) -> None:
    """Seed PyTorch's random numbers with a different seed on each rank, so that dropout masks differ.

    Weights are drawn earlier, from the same seed on all ranks.
    """
    torch.manual_seed(seed + rank())


def wrap(loss: nn.Module, fsdp: bool = False) -> nn.Module:
    """Wrap the loss for training on all ranks: with DDP every rank has all weights, with FSDP2 a shard.

    FSDP2 changes the weights of the model in place: make the optimizers afterwards, from `loss.model`.
    """
    if fsdp:
        if not dist.is_initialized():
            raise PocketError(
                "FSDP spreads a model over processes: start with torchrun --nproc-per-node 2, or leave out --fsdp."
            )
        for block in loss.model.blocks:
            fully_shard(block)
        fully_shard(loss.model)
        register_fsdp_forward_method(loss.model, "features")
        return loss
    return DistributedDataParallel(loss) if dist.is_initialized() else loss


def gradient_sync(module: nn.Module, on: bool) -> None:
    """Turn averaging of gradients over the ranks on or off for the next backward pass: a step averages once.

    Call it before the forward pass, in which DDP prepares the communication of its backward pass.
    """
    if isinstance(module, DistributedDataParallel):
        module.require_backward_grad_sync = on
    elif isinstance(module.model, FSDPModule):
        module.model.set_requires_gradient_sync(on)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """Sum a tensor over all ranks; the tensor itself is not changed."""
    total = tensor.detach().clone()
    if dist.is_initialized():
        dist.all_reduce(total)
    return total


def any_rank(flag: bool) -> bool:
    """True if the flag is set on any rank. The flag is in CPU memory, so nothing waits for the GPU."""
    return bool(sum_over_ranks(torch.tensor(int(flag))))


def gather_objects(value: Any) -> list[Any]:
    """Gather the values of all ranks on every rank, ordered by rank."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def shared(make: Callable[[], Any]) -> Any:
    """Return on all ranks what `make` returns on the main one, where alone it is called."""
    return gather_objects(make() if is_main() else None)[0]


def barrier() -> None:
    """Wait until all ranks have called this."""
    if dist.is_initialized():
        dist.barrier()


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm`; returns the norm before clipping, a scalar.

    The norm is that of the whole gradient, even where each rank has only a shard of it.
    """
    parameters = list(parameters)
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered from all ranks if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
