"""Mixture of experts: many feed-forwards, of which each token uses a few that a router chooses.

The model has the parameters of all experts and the cost of a few. If the router were left alone it would send nearly
all tokens to the few experts that were best at first; so the load is balanced, by a loss or by a bias on the choice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.layers.feedforward import Activation, FeedForwardConfig, build_feedforward
from pocketgpt.layers.part import ModelShape, Part, PartConfig

Scores = Literal["softmax", "sigmoid"]
Balance = Literal["loss", "bias", "none"]


@dataclass(frozen=True, kw_only=True)
class MixtureOfExpertsConfig(PartConfig):
    """Several feed-forwards, of which each token uses `top_k`."""

    kind: ClassVar[str] = "mixture_of_experts"

    n_experts: int = 8
    """Experts that the router chooses from."""
    top_k: int = 2
    """Experts that each token uses."""
    n_shared: int = 0
    """Experts that every token uses besides, without a choice; together one feed-forward of n_shared · d_ff."""
    d_ff: int | None = None
    """Hidden width of an expert; that of an ordinary feed-forward divided by top_k + n_shared if not given."""
    activation: Activation = "swiglu"
    """Function between the projections of an expert: swiglu, geglu, gelu, gelu_tanh, relu or relu2."""
    scores: Scores = "softmax"
    """softmax: the experts compete, as in Mixtral. sigmoid: each is scored alone, as in DeepSeek-V3."""
    normalize: bool = True
    """Normalize the weights of the chosen experts to a sum of 1."""
    balance: Balance = "loss"
    """loss: adds a balancing loss to the training loss. bias: moves a bias on the choice after each step. none."""
    balance_rate: float = 0.01
    """Factor of the balancing loss, or step of the bias."""

    def __post_init__(self) -> None:
        self._require_positive_integers("n_experts", "top_k")
        self._require(self.top_k <= self.n_experts, "top_k", f"at most n_experts = {self.n_experts}")
        self._require(type(self.n_shared) is int and self.n_shared >= 0, "n_shared", "0 or more, such as 1")
        if self.d_ff is not None:
            self._require_positive_integers("d_ff")
        self._require_choice("activation", Activation)
        self._require_choice("scores", Scores)
        self._require_choice("balance", Balance)
        self._require(0 <= self.balance_rate <= 1, "balance_rate", "a number from 0 to 1, such as 0.01")

    def resolved(self, model: ModelShape) -> "MixtureOfExpertsConfig":
        """The same config with `d_ff` filled in: as many active parameters as one ordinary feed-forward."""
        whole = FeedForwardConfig(activation=self.activation).resolved(model).d_ff
        return replace(self, d_ff=self.d_ff or max(8, whole // (self.top_k + self.n_shared) // 8 * 8))


class MixtureOfExperts(Part):
    """Σ weight · expert(x) over the chosen experts, and the shared ones.

    The experts are ordinary feed-forwards, so everything that works for those works for them. Each computes only the
    tokens that chose it. Compiled code, whose shapes cannot depend on data, computes every expert for every token
    instead and weights most of them with 0: n_experts / top_k times the work.
    Sources: Shazeer et al. 2017 (arXiv 1701.06538); Jiang et al. 2024, Mixtral (arXiv 2401.04088); DeepSeek-AI 2024,
    DeepSeek-V3 (arXiv 2412.19437), section 2.1.2.
    """

    # The router's rows are directions to compare with, not a map between spaces, so Muon leaves it alone; and a small
    # error in it changes which experts are used.
    adamw: ClassVar[tuple[str, ...]] = ("router.weight",)
    full_precision: ClassVar[tuple[str, ...]] = ("router",)
    # Pairs of every expert would be many, each with the gradient of few tokens.
    no_lora: ClassVar[tuple[str, ...]] = ("router", "experts")

    def __init__(self, config: MixtureOfExpertsConfig, model: ModelShape) -> None:
        super().__init__()
        self.config = config
        expert = FeedForwardConfig(activation=config.activation, d_ff=config.d_ff)
        self.router = nn.Linear(model.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(build_feedforward(expert, model) for _ in range(config.n_experts))
        shared = replace(expert, d_ff=config.n_shared * config.d_ff) if config.n_shared else None
        self.shared = build_feedforward(shared, model) if shared else None
        self.register_buffer("bias", torch.zeros(config.n_experts) if config.balance == "bias" else None)
        self.load: Float[Tensor, "n_experts"] | None = None
        """Choices of each expert since the last step, twice where blocks are recomputed: only shares matter."""
        self.balance_loss: Float[Tensor, ""] | None = None
        """Balancing loss of the last forward pass in training."""

    def __getstate__(self) -> dict[str, Any]:
        """What a copy gets: all but the balancing loss, which belongs to the graph of the last forward pass."""
        return vars(self) | {"balance_loss": None}

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        tokens = x.flatten(0, -2)  # (N, d_model)
        scores = self.score(tokens)  # (N, n_experts)
        weights, chosen = self.choose(scores)  # (N, top_k) each
        if self.training:
            self.observe(scores, chosen)
        # each chosen expert adds its result, weighted
        y = torch.zeros_like(tokens)
        if torch.compiler.is_compiling():
            gates = torch.zeros_like(scores).scatter(1, chosen, weights)  # (N, n_experts), 0 for the others
            for number, expert in enumerate(self.experts):
                y = y + gates[:, number, None].to(x.dtype) * expert(tokens)
        else:
            for number, expert in enumerate(self.experts):
                rows, slots = (chosen == number).nonzero(as_tuple=True)
                result = weights[rows, slots, None] * expert(tokens[rows])
                y = y.index_add(0, rows, result.to(y.dtype))
        if self.shared is not None:
            y = y + self.shared(tokens)
        return y.view_as(x)

    def score(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens n_experts"]:
        """Scores of each expert for each token, from 0 to 1, in float32."""
        # In float32 also under autocast: a rounded score may choose another expert.
        with torch.autocast(tokens.device.type, enabled=False):
            logits = F.linear(tokens.float(), self.router.weight.float())
        return logits.softmax(dim=-1) if self.config.scores == "softmax" else logits.sigmoid()

    def choose(
        self, scores: Float[Tensor, "n_tokens n_experts"]
    ) -> tuple[Float[Tensor, "n_tokens top_k"], Int[Tensor, "n_tokens top_k"]]:
        """Weights and numbers of the experts that each token uses. The bias decides who is chosen, not the weight."""
        ranked = scores if self.bias is None else scores + self.bias
        chosen = ranked.topk(self.config.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        return weights / weights.sum(dim=-1, keepdim=True) if self.config.normalize else weights, chosen

    def observe(self, scores: Float[Tensor, "n_tokens n_experts"], chosen: Int[Tensor, "n_tokens top_k"]) -> None:
        """Count the choices, and compute the balancing loss n_experts · Σ fᵢ · Pᵢ.

        fᵢ is the share of the choices that fell on expert i and Pᵢ the mean of its scores, normalized per token. It is
        1 where all experts have the same load, and n_experts where one has all of it.
        Source: Fedus et al. 2021, Switch Transformer (arXiv 2101.03961), eq. 4 to 6.
        """
        counts = torch.zeros_like(scores).scatter(1, chosen, 1.0).sum(dim=0).detach()  # (n_experts,)
        self.load = counts if self.load is None else self.load + counts
        if self.config.balance == "loss":
            probabilities = (scores / scores.sum(dim=-1, keepdim=True)).mean(dim=0)
            self.balance_loss = self.config.n_experts * (counts / counts.sum() * probabilities).sum()

    def auxiliary_loss(self) -> Float[Tensor, ""] | None:
        """balance_rate times the balancing loss of the last forward pass; None if there is none."""
        return None if self.balance_loss is None else self.config.balance_rate * self.balance_loss

    def after_step(self, sum_over_ranks: Callable[[Tensor], Tensor], skipped: bool = False) -> None:
        """With balance = "bias": raise the bias of experts with less than the mean load, and lower that of the others.

        Source: Wang et al. 2024, Auxiliary-loss-free load balancing (arXiv 2408.15664), algorithm 1.
        """
        if self.bias is not None and self.load is not None and not skipped:
            load = sum_over_ranks(self.load)
            self.bias += self.config.balance_rate * (load.mean() - load).sign()
        self.load = None

    def flops_per_token(self, seq: int) -> int:
        """The router, top_k experts, and the shared ones."""
        router = 2 * self.router.in_features * self.config.n_experts
        shared = self.shared.flops_per_token(seq) if self.shared is not None else 0
        return router + self.config.top_k * self.experts[0].flops_per_token(seq) + shared

    def n_active_params(self) -> int:
        """All parameters but those of the experts that a token does not use."""
        idle = self.config.n_experts - self.config.top_k
        return super().n_active_params() - idle * self.experts[0].n_active_params()

    def output_weights(self) -> Iterator[nn.Parameter]:
        for expert in (*self.experts, *([self.shared] if self.shared is not None else [])):
            yield from expert.output_weights()
