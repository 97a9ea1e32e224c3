"""Mamba: a recurrence with a state of fixed size, whose step depends on the token (a selective state space).

Attention looks back at every token; its cache grows with the text. Mamba summarizes the text in a state: each token
fades the state a little, adds something to it, and reads from it. How much, the token decides itself:

    h[t] = exp(Δ[t] · A) · h[t−1] + Δ[t] · B[t] · u[t]        state, (d_inner, d_state)
    y[t] = C[t] · h[t] + D · u[t]                             output, (d_inner)

Δ, B and C are computed from the token; A < 0 and D are learned. A large Δ lets the token in and forgets what was
before, a small one passes it over.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan as scan_operator
from torch.nn import functional as F

from pocketgpt.checked import ConfigError
from pocketgpt.layers.context import Context, StateStore
from pocketgpt.layers.part import Mixer, ModelShape, PartConfig, State

SHORTEST_STEP, LONGEST_STEP = 1e-3, 0.1
"""Range of Δ in a new layer: memories from about 10 to 1,000 tokens."""


@dataclass(frozen=True, kw_only=True)
class MambaConfig(PartConfig):
    """A selective state space layer. It knows the order of tokens by itself and needs no positions."""

    kind: ClassVar[str] = "mamba"

    d_state: int = 16
    """Values that each channel remembers."""
    d_conv: int = 4
    """Width of the causal convolution before the recurrence: a token sees the d_conv − 1 tokens before it."""
    expand: int = 2
    """Channels per coordinate of the residual stream: d_inner = expand · d_model."""
    dt_rank: int | None = None
    """Rank of the projection to Δ; d_model / 16, rounded up, if not given."""
    conv_bias: bool = True
    """A bias on the convolution."""
    bias: bool = False
    """Biases on in_proj and out_proj."""

    def __post_init__(self) -> None:
        self._require_positive_integers("d_state", "d_conv", "expand")
        if self.dt_rank is not None:
            self._require_positive_integers("dt_rank")

    def resolved(self, model: ModelShape) -> "MambaConfig":
        """The same config with `dt_rank` filled in. Raises ConfigError for a model that is not causal."""
        if not model.causal:
            raise ConfigError("ModelConfig.causal = False cannot work: use True with Mamba, which reads left to right.")
        return replace(self, dt_rank=self.dt_rank or math.ceil(model.d_model / 16))


class Mamba(Mixer):
    """Project to channels and a gate; convolve; run the recurrence; gate; project back.

    A sequence is computed in parallel (`scan`); a decode step is the same with one token and the cached state.
    Source: Gu and Dao 2023, Mamba (arXiv 2312.00752), section 3, algorithm 2.
    """

    # Decay rates and convolution kernels are not matrices that map one space to another, and to pull them toward zero
    # would set every memory to the same length. The step is inside an exponent, so AdamW updates its projection, and
    # the projections that the token steers the recurrence with are not quantized.
    no_decay: ClassVar[tuple[str, ...]] = ("A_log", "conv1d.weight")
    adamw: ClassVar[tuple[str, ...]] = ("dt_proj.weight",)
    full_precision: ClassVar[tuple[str, ...]] = ("x_proj", "dt_proj")

    def __init__(self, config: MambaConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        self.d_inner = config.expand * model.d_model
        self.in_proj = nn.Linear(model.d_model, 2 * self.d_inner, bias=config.bias)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, config.d_conv, groups=self.d_inner, bias=config.conv_bias)
        self.x_proj = nn.Linear(self.d_inner, config.dt_rank + 2 * config.d_state, bias=False)
        self.dt_proj = nn.Linear(config.dt_rank, self.d_inner)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, config.d_state))
        self.D = nn.Parameter(torch.empty(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, model.d_model, bias=config.bias)

    def forward(
        self, x: Float[Tensor, "batch seq d_model"], context: Context, cache: StateStore | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        if cache is None:
            recent = x.new_zeros(len(x), self.d_inner, self.config.d_conv - 1)
            state = x.new_zeros(len(x), self.d_inner, self.config.d_state, dtype=torch.float32)
        else:
            recent, state = cache.read()
        # project to channels and gate
        u, gate = self.in_proj(x).chunk(2, dim=-1)  # (B, T, d_inner) each
        # convolve every channel with the d_conv − 1 inputs before it
        inputs = torch.cat((recent.to(u.dtype), u.transpose(1, 2)), dim=-1)  # (B, d_inner, d_conv − 1 + T)
        u = F.silu(self.conv1d(inputs)).transpose(1, 2)  # (B, T, d_inner)
        # let each token choose its step, what it writes and what it reads
        sizes = (self.config.dt_rank, self.config.d_state, self.config.d_state)
        step, write, read = self.x_proj(u).split(sizes, dim=-1)
        step = F.softplus(self.dt_proj(step)).float()  # Δ (B, T, d_inner)
        if cache is not None:
            step = step * cache.real[..., None]  # Δ = 0 at padding: it neither fades the state nor adds to it
        # run the recurrence, in float32 because errors add up over the sequence
        decay = (step[..., None] * -self.A_log.float().exp()).exp()  # (B, T, d_inner, d_state)
        added = (step * u.float())[..., None] * write.float()[:, :, None]
        states = scan(decay, added, state)
        y = (states * read.float()[:, :, None]).sum(dim=-1) + self.D.float() * u.float()  # (B, T, d_inner)
        if cache is not None:
            newest = cache.real.sum(dim=1)[:, None] + torch.arange(self.config.d_conv - 1, device=x.device)
            recent = inputs.gather(2, newest[:, None].expand(-1, self.d_inner, -1))
            cache.write(recent, states[:, -1])
        # gate and project back
        return self.out_proj(y.to(x.dtype) * F.silu(gate))

    def flops_per_token(self, seq: int) -> int:
        """The projections and the convolution. The recurrence, about 7 · d_inner · d_state more, is elementwise work,
        which is not counted; nothing depends on `seq`."""
        config, d_model = self.config, self.out_proj.out_features
        projections = 3 * d_model + 2 * config.dt_rank + 2 * config.d_state
        return 2 * self.d_inner * (projections + config.d_conv)

    def output_weights(self) -> Iterator[nn.Parameter]:
        yield self.out_proj.weight

    def init_weights(self, std: float, output_std: float) -> None:
        """Decay rates 1 to d_state, D = 1, and steps spread evenly, on a log scale, between 0.001 and 0.1. The
        convolution keeps PyTorch's weights and bias, which is not 0."""
        rates = torch.arange(1, self.config.d_state + 1, dtype=torch.float32)
        with torch.no_grad():
            self.A_log.copy_(rates.log().expand_as(self.A_log))
            self.D.fill_(1.0)
            nn.init.uniform_(self.dt_proj.weight, -(self.config.dt_rank**-0.5), self.config.dt_rank**-0.5)
            low, high = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
            step = (low + (high - low) * torch.rand_like(self.dt_proj.bias)).exp()
            self.dt_proj.bias.copy_(step + (-(-step).expm1()).log())  # softplus(bias) = step

    def cached(self) -> State:
        """The last d_conv − 1 inputs of the convolution, and the state of the recurrence."""
        return State(((self.d_inner, self.config.d_conv - 1), (self.d_inner, self.config.d_state)))


def scan(
    decay: Float[Tensor, "batch seq d_inner d_state"],
    added: Float[Tensor, "batch seq d_inner d_state"],
    state: Float[Tensor, "batch d_inner d_state"],
) -> Float[Tensor, "batch seq d_inner d_state"]:
    """All states of h[t] = decay[t] · h[t−1] + added[t], from the state before the first token.

    In chunks of √seq tokens: first all chunks side by side, each as if it began at zero; then from chunk to chunk, what
    the chunks before left behind. That is 2 · √seq steps instead of seq, with twice the work, and with three tensors of
    the size of all states instead of one.
    """
    if torch.compiler.is_exporting():
        return recurrence(decay, added, state)
    seq = decay.shape[1]
    length = math.isqrt(seq - 1) + 1
    padding = (0, 0, 0, 0, 0, -seq % length)
    decay = F.pad(decay, padding, value=1.0).unflatten(1, (-1, length))  # (B, chunks, length, d_inner, d_state)
    added = F.pad(added, padding).unflatten(1, (-1, length))
    # within the chunks: the state from zero, and what would be left of a state before the chunk
    states, left = [added[:, :, 0]], [decay[:, :, 0]]
    for i in range(1, length):
        states.append(decay[:, :, i] * states[-1] + added[:, :, i])
        left.append(decay[:, :, i] * left[-1])
    # from chunk to chunk
    before = [state]
    for chunk in range(decay.shape[1] - 1):
        before.append(left[-1][:, chunk] * before[-1] + states[-1][:, chunk])
    states = torch.stack(states, dim=2) + torch.stack(left, dim=2) * torch.stack(before, dim=1)[:, :, None]
    return states.flatten(1, 2)[:, :seq]


def recurrence(
    decay: Float[Tensor, "batch seq d_inner d_state"],
    added: Float[Tensor, "batch seq d_inner d_state"],
    state: Float[Tensor, "batch d_inner d_state"],
) -> Float[Tensor, "batch seq d_inner d_state"]:
    """`scan`, token by token: in an exported graph, where a Python loop would fix the number of tokens.

    ONNX has an operator for it, Scan.
    """

    def step(state: Tensor, token: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        decay, added = token
        state = decay * state + added
        return state, state.clone()  # the exporter forbids one tensor in two places

    _, states = scan_operator(step, state, (decay.transpose(0, 1), added.transpose(0, 1)))
    return states.transpose(0, 1)  # (seq, B, …) → (B, seq, …)
