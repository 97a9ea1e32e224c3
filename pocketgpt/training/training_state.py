"""Training state: optimizers, gradient scaler and random numbers, to resume bit for bit."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from pocketgpt.layers.lora import load_lora_state, lora_state, merge_lora
from pocketgpt.models.classes import build_model
from pocketgpt.models.stack import Stack
from pocketgpt.training.distributed import gather_objects, is_main, rank, whole, world_size

NO_WEIGHTS = nn.Identity()  # the weights of the model are in model.safetensors


def capture(
    model: Stack, optimizers: list[torch.optim.Optimizer], scaler: torch.amp.GradScaler, device: torch.device
) -> tuple[Stack, dict[str, Any]]:
    """Capture the model with all of its weights, and {"optimizers", "scaler", "rng"}; a collective call for all ranks.

    The order of the data and the learning rate are not included: both follow from the number of steps. Nothing in
    training draws from the random numbers of Python or NumPy.

    The pairs of LoRA are merged into the model, and are in the state too, beside the matrices that they were added to:
    a sum that was rounded does not say what was added, and the folder that the weights came from may be gone when the
    run resumes. Together with the small state of its optimizer that is still less than a full fine-tuning stores.
    """
    state = {
        "optimizers": full_state(NO_WEIGHTS, optimizers)["optimizers"],
        "scaler": scaler.state_dict(),
        "rng": gather_objects(rng_state(device)),
    }
    if pairs := lora_state(model):
        state["lora"] = map_tensors(Tensor.cpu, pairs)
    return whole_model(model), state


def restore(
    state: dict[str, Any],
    model: Stack,
    optimizers: list[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> None:
    """Restore a state of `capture` into the optimizers of a model with loaded weights; a collective call for all ranks.

    Random numbers continue only with the same number of ranks; otherwise dropout draws new masks.
    """
    load_lora_state(model, state.get("lora", {}))
    load_full_state(NO_WEIGHTS, optimizers, {"model": {}, "optimizers": state["optimizers"]})
    scaler.load_state_dict(state["scaler"])
    if len(state["rng"]) == world_size():
        set_rng_state(state["rng"][rank()], device)


def whole_model(model: Stack) -> Stack:
    """Return the model itself, with the pairs of LoRA merged; if FSDP shards it, a copy with all weights on the main
    rank. A collective call."""
    if not isinstance(model, FSDPModule):
        return merge_lora(model)
    weights = full_state(model, [])["model"]
    if not is_main():
        return model
    with torch.random.fork_rng():  # initializing a model draws random numbers, which must not advance those of the run
        copy = build_model(model.config)
    copy.load_state_dict(weights)
    return copy


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


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """Random number generators of this process: the CPU's and its accelerator's."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    """Restore the random number generators from a state of `rng_state`."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
