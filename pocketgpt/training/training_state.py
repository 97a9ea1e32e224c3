"""Training state: optimizers, gradient scaler and random numbers, to resume bit for bit."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pocketgpt.models.gpt import GPT
from pocketgpt.training.distributed import full_state, gather_objects, is_main, load_full_state, rank, world_size

NO_WEIGHTS = nn.Identity()  # the weights of the model are in model.safetensors


def capture(
    model: GPT, optimizers: list[torch.optim.Optimizer], scaler: torch.amp.GradScaler, device: torch.device
) -> tuple[GPT, dict[str, Any]]:
    """Capture the model with all of its weights, and {"optimizers", "scaler", "rng"}; a collective call for all ranks.

    The order of the data and the learning rate are not included: both follow from the number of steps. Nothing in
    training draws from the random numbers of Python or NumPy.
    """
    state = {
        "optimizers": full_state(NO_WEIGHTS, optimizers)["optimizers"],
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
    """Restore a state of `capture` into the optimizers of a model with loaded weights; a collective call for all ranks.

    Random numbers continue only with the same number of ranks; otherwise dropout draws new masks.
    """
    load_full_state(NO_WEIGHTS, optimizers, {"model": {}, "optimizers": state["optimizers"]})
    scaler.load_state_dict(state["scaler"])
    if len(state["rng"]) == world_size():
        set_rng_state(state["rng"][rank()], device)


def whole_model(model: GPT) -> GPT:
    """Return the model itself or, if FSDP shards it, a copy with all weights on the main rank; a collective call."""
    if not isinstance(model, FSDPModule):
        return model
    weights = full_state(model, [])["model"]
    if not is_main():
        return model
    with torch.random.fork_rng():  # initializing a model draws random numbers, which must not advance those of the run
        copy = GPT(model.config)
    copy.load_state_dict(weights)
    return copy


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
