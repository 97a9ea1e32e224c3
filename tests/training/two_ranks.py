"""What two processes compute, for test_distributed.py to compare with one. Started by torchrun; writes a file."""

import sys

import torch
from torch import distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.training import distributed, training_state
from pocketgpt.training.loss import IGNORE, NextTokenLoss
from pocketgpt.training.optimizer import build_optimizers
from pocketgpt.training.recipes import TrainConfig

HYBRID = {
    "n_layers": 3,
    "mixer": (
        AttentionConfig(n_heads=4, n_kv_heads=2, window=6),
        MambaConfig(d_state=4),
        LatentAttentionConfig(n_heads=4, kv_rank=8),
    ),
    # Without a balancing loss, which is that of each batch and not of the whole.
    "feedforward": (MixtureOfExpertsConfig(n_experts=3, top_k=2, d_ff=16, balance="bias"), FeedForwardConfig(d_ff=48)),
}
PARTS = 3  # passes that one step adds up, on each of two ranks


def model(**changes) -> GPT:
    torch.manual_seed(0)
    parts = {"mixer": {"n_heads": 4, "n_kv_heads": 2}, "feedforward": {"d_ff": 48}}
    shape = {"vocab_size": 61, "d_model": 32, "n_layers": 2, "max_seq_len": 16}
    return GPT(preset("llama", **shape | parts | changes))


def step_of_text() -> tuple[torch.Tensor, torch.Tensor]:
    """(parts, ranks, batch, seq) of tokens and targets; rank 0 has far fewer targets that count than rank 1."""
    tokens = torch.randint(61, (PARTS, 2, 2, 17), generator=torch.Generator().manual_seed(1))
    inputs, targets = tokens[..., :-1], tokens[..., 1:].clone()
    targets[:2, 0, :, 3:] = IGNORE
    targets[1, 1, 0, 5] = IGNORE
    return inputs, targets


def train(wrapped, loss, optimizers) -> dict:
    """One step, accumulated; returns all that it computed."""
    inputs, targets = step_of_text()
    n_targets = distributed.sum_over_ranks((targets[:, distributed.rank()] != IGNORE).sum())
    total = torch.zeros(())
    for part in range(PARTS):
        mine = inputs[part, distributed.rank()], targets[part, distributed.rank()]
        distributed.gradient_sync(wrapped, part == PARTS - 1)
        value = wrapped(*mine, n_targets / distributed.world_size())
        value.backward()
        total += value.detach()
    named = dict(loss.model.named_parameters())
    gradients = {name: distributed.whole(parameter.grad).clone() for name, parameter in named.items()}
    norm = distributed.clip_gradients(named.values(), 0.1)
    clipped = {name: distributed.whole(parameter.grad).clone() for name, parameter in named.items()}
    for optimizer in optimizers:
        optimizer.step()
    return {
        "loss": distributed.sum_over_ranks(total) / distributed.world_size(),
        "gradients": gradients,
        "norm": norm,
        "clipped": clipped,
        "weights": {name: distributed.whole(parameter.detach()).clone() for name, parameter in named.items()},
    }


def case(fsdp: bool, optimizer: str, chunk: int | None = None, checkpointed: bool = False, **changes) -> dict:
    config = TrainConfig(optimizer=optimizer)
    loss = NextTokenLoss(model(**changes), chunk)
    if checkpointed:
        loss.model.recompute_blocks = True
    wrapped = distributed.wrap(loss, fsdp)
    optimizers = build_optimizers(loss.model, config)
    result = train(wrapped, loss, optimizers)

    inputs, _ = step_of_text()
    with torch.no_grad():
        result["logits"] = loss.model(inputs[0, 0])  # the bare model, as an evaluation calls it

    state = distributed.gather_objects(training_state.full_state(loss.model, optimizers))
    result["state"], result["state elsewhere"] = state
    fresh = NextTokenLoss(model(**changes))
    distributed.wrap(fresh, fsdp)
    torch.nn.init.zeros_(fresh.model.blocks[0].mixer.q_proj.weight)
    fresh_optimizers = build_optimizers(fresh.model, TrainConfig(optimizer=optimizer, lr=0.7, muon_lr=0.7))
    training_state.load_full_state(fresh.model, fresh_optimizers, state[0])
    result["state again"] = training_state.full_state(fresh.model, fresh_optimizers)
    return result


def syncs_of_ddp() -> int:
    loss, calls = NextTokenLoss(model()), []
    wrapped = distributed.wrap(loss)

    def counted(calls, bucket):
        calls.append(bucket.index())
        return allreduce_hook(None, bucket)

    wrapped.register_comm_hook(calls, counted)
    train(wrapped, loss, [])
    return calls.count(0)


def syncs_of_fsdp() -> int:
    loss = NextTokenLoss(model())
    wrapped = distributed.wrap(loss, fsdp=True)
    calls, scatter = [], dist.reduce_scatter_single

    def counted(*args, **kwargs):
        calls.append(1)
        return scatter(*args, **kwargs)

    dist.reduce_scatter_single = counted
    train(wrapped, loss, [])
    dist.reduce_scatter_single = scatter
    return len(calls)


def main(file: str) -> None:
    with distributed.process_group("cpu") as device:
        me = distributed.rank()
        distributed.seed_everything(0)
        result = {
            "ddp adamw": case(False, "adamw"),
            "ddp muon": case(False, "muon", chunk=5, checkpointed=True, tie_embeddings=False),
            "fsdp adamw": case(True, "adamw"),
            "fsdp chunk": case(True, "adamw", chunk=5, checkpointed=True),
            "fsdp muon": case(True, "muon", chunk=5, checkpointed=True, tie_embeddings=False),
            "ddp muon hybrid": case(False, "muon", **HYBRID),
            "fsdp muon hybrid": case(True, "muon", chunk=5, checkpointed=True, **HYBRID),
            "syncs": [syncs_of_ddp(), syncs_of_fsdp()],
            "device": device,
            "world": distributed.world_size(),
            "ranks": distributed.gather_objects(me),
            "main": distributed.gather_objects(distributed.is_main()),
            "sum": distributed.sum_over_ranks(torch.tensor([1.0, 10.0 * me])),
            "any": [distributed.any_rank(False), distributed.any_rank(me == 1)],
            "drawn": distributed.gather_objects((distributed.seed_everything(5), torch.rand(3))[1]),
        }
        distributed.barrier()
    result["left"] = not dist.is_initialized()
    if me == 0:
        torch.save(result, file)


if __name__ == "__main__":
    main(sys.argv[1])
