"""Training state: what resuming bit for bit needs besides the weights (optimizers, scaler, random numbers)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pocketgpt.models.gpt import GPT
from pocketgpt.training.distributed import full_state, gather_objects, is_main, load_full_state, rank, world_size

NOTHING = nn.Identity()  # a model without weights: those of the real one are in model.safetensors


def capture(
    model: GPT, optimizers: list[torch.optim.Optimizer], scaler: torch.amp.GradScaler, device: torch.device
) -> tuple[GPT, dict[str, Any]]:
    """The model with all of its weights, and {"optimizers", "scaler", "rng"}; every rank has to call it.

    The order of the data and the learning rate are no part of it: both follow from the number of steps. Nothing in
    training draws from the random numbers of Python or NumPy.
    """
    state = {
        "optimizers": full_state(NOTHING, optimizers)["optimizers"],
        "scaler": scaler.state_dict(),
        "rng": gather_objects(rng_state(device)),
    }
    return whole_model(model), state


def restore(
    state: dict[str, Any],
    optimizers: list[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> None:
    """Put back what `capture` gave, into optimizers of a model that has its weights already; every rank has to call it.

    Random numbers continue only with the same number of ranks; otherwise dropout draws new masks.
    """
    load_full_state(NOTHING, optimizers, {"model": {}, "optimizers": state["optimizers"]})
    scaler.load_state_dict(state["scaler"])
    if len(state["rng"]) == world_size():
        set_rng_state(state["rng"][rank()], device)


def whole_model(model: GPT) -> GPT:
    """The model itself; where FSDP has left each rank a share of it, a copy in memory, on the main rank."""
    if not isinstance(model, FSDPModule):
        return model
    weights = full_state(model, [])["model"]
    if not is_main():
        return model
    with torch.random.fork_rng():  # a new model draws weights, which would move the random numbers of the run
        copy = GPT(model.config)
    copy.load_state_dict(weights)
    return copy


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """The random numbers of this process: those of the CPU, and of its GPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_rng_state(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    if device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
