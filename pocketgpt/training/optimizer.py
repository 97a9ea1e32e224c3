"""Optimizers: AdamW and Muon, and the parameter groups with and without weight decay."""

import torch
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.layers.part import Part
from pocketgpt.training.recipes import TrainConfig


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Build the optimizers that together update every trainable parameter once.

    | parameters                             | optimizer "adamw"    | optimizer "muon"    |
    |----------------------------------------|----------------------|---------------------|
    | matrices inside the blocks             | AdamW, decay         | Muon, decay         |
    | an untied head, matrices in Part.adamw | AdamW, decay         | AdamW, decay        |
    | embeddings (a tied head is one)        | AdamW, no decay      | AdamW, no decay     |
    | norms, biases, Part.no_decay           | AdamW, no decay      | AdamW, no decay     |

    Embeddings are not decayed: a row moves only when its token is in the batch but would shrink at every step, so
    rare tokens fade (OLMo 2, Walsh et al. 2025, arXiv 2501.00656). Decaying a norm's scale or a bias loses signal and
    gains nothing.

    Muon replaces the momentum of a matrix by a matrix of the same directions whose singular values are all about 1, so
    that every direction learns at the same pace. It is made for hidden layers, hence AdamW for embedding
    and head. It runs with PyTorch's defaults: Nesterov momentum 0.95, five Newton-Schulz iterations, and for a matrix
    of shape (d_out, d_in) the rate muon_lr · √max(1, d_out / d_in).

    Each group stores its peak learning rate under "peak_lr", for the schedule to scale.
    Sources: Loshchilov and Hutter 2017, AdamW (arXiv 1711.05101); Jordan et al. 2024, Muon
    (https://kellerjordan.github.io/posts/muon/).
    """
    hidden, others, rest = split_parameters(model)
    adamw_groups = [
        {"params": others, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon" and hidden:
        optimizers.append(torch.optim.Muon(hidden, lr=config.muon_lr, weight_decay=config.weight_decay))
    else:
        adamw_groups[0]["params"] = hidden + others
    adamw_groups = [group for group in adamw_groups if group["params"]]
    if adamw_groups:
        optimizers.append(torch.optim.AdamW(adamw_groups, lr=config.lr, betas=(config.beta1, config.beta2)))
    if not optimizers:
        raise PocketError("The model has no trainable parameter: set requires_grad for those to train.")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Split trainable parameters into (matrices inside the blocks, other matrices, embeddings and vectors).

    A layer lists its exceptions in `Part.adamw` and `Part.no_decay`. A tied head is the embedding itself and is listed
    once, as an embedding.
    """
    no_decay = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    adamw = set()
    for part in model.modules():
        if isinstance(part, Part):
            no_decay |= {id(part.get_parameter(name)) for name in part.no_decay}
            adamw |= {id(part.get_parameter(name)) for name in part.adamw}
    hidden, others, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2 or id(parameter) in no_decay:
            rest.append(parameter)
        elif "blocks." in name and id(parameter) not in adamw:
            hidden.append(parameter)
        else:
            others.append(parameter)
    return hidden, others, rest
