"""Distributed training: process groups, DDP and FSDP2, and collective operations.

`torchrun --nproc-per-node N` starts N copies of a program and tells each its number, its rank. Each rank has all
weights (DDP) or a shard of them (FSDP2), reads different text, and averages its gradients with the others. Every
function here also works in a single process, so callers need no second path.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pocketgpt.device import choose_device
from pocketgpt.errors import PocketError
from pocketgpt.training.loss import NextTokenLoss

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


def wrap(loss: NextTokenLoss, fsdp: bool = False) -> nn.Module:
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


def full_state(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any]:
    """Gather weights and optimizer states as whole tensors in CPU memory: {"model": …, "optimizers": […]}.

    A collective call: only the main rank gets the tensors, the others None in their places. `model` is the bare
    model, so that the names do not depend on the wrapper. On the CPU the tensors are the model's own, not copies.
    """

    def to_main(tensor: Tensor) -> Tensor | None:
        tensor = whole(tensor)
        return tensor.cpu() if is_main() else None

    state = {"model": dict(model.state_dict()), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    return map_tensors(to_main, state)


def load_full_state(model: nn.Module, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]) -> None:
    """Load a state of `full_state`: every rank gets the whole state and takes its shard."""
    ours = model.state_dict()
    model.load_state_dict({name: share(tensor, ours[name]) for name, tensor in state["model"].items()})
    for optimizer, full in zip(optimizers, state["optimizers"], strict=True):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        shares = {i: map_tensors(partial(share, like=parameters[i]), kept) for i, kept in full["state"].items()}
        optimizer.load_state_dict({"state": shares, "param_groups": full["param_groups"]})


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered from all ranks if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this rank's shard of a whole tensor, if `like`, of the same shape, is sharded; else all of it."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply a function to each tensor in nested dictionaries and lists."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [map_tensors(function, inner) for inner in value]
    return value
