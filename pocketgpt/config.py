"""What a model is, in plain values: `ModelConfig`, `RopeConfig`, and the named presets.

Both configs are frozen, check themselves when they are made, and round-trip through JSON.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

from pocketgpt.errors import PocketError

Positions = Literal["rope", "learned", "sinusoidal", "none"]
RopeScaling = Literal["none", "linear", "ntk", "dynamic", "yarn", "llama3"]
NormKind = Literal["rmsnorm", "layernorm"]
NormOrder = Literal["pre", "post"]
FeedForwardKind = Literal["swiglu", "gelu", "gelu_tanh", "relu2"]


class ConfigError(PocketError, ValueError):
    """A config value that cannot work; the message names the field, the value, and a value that would work."""


Config = TypeVar("Config", bound="Checked")


class Checked:
    """A dataclass of plain values that checks itself, and becomes a dictionary for JSON and back."""

    def _require(self, condition: bool, name: str, instead: str) -> None:
        if not condition:
            raise ConfigError(f"{type(self).__name__}.{name} = {getattr(self, name)!r} cannot work: use {instead}.")

    def _require_choice(self, name: str, kind: Any) -> None:
        choices = get_args(kind)
        self._require(getattr(self, name) in choices, name, "one of " + ", ".join(repr(choice) for choice in choices))

    def _require_positive_integers(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._require(type(value) is int and value >= 1, name, "a whole number of at least 1")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, nested, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls: type[Config], values: dict[str, Any]) -> Config:
        """The config that `to_dict` described. Raises ConfigError for a field that does not exist."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            names, fields_known = ", ".join(map(repr, unknown)), ", ".join(sorted(known))
            raise ConfigError(f"{cls.__name__} has no field {names}: its fields are {fields_known}.")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class RopeConfig(Checked):
    """The angles of rotary positions, and how they are stretched beyond the trained length.

    Pair i of a head turns by position · theta^(−2i/d_head). `scaling` says how the angles change when the context is
    to be `factor` times as long as `original_max_seq_len`, the length the model was trained on:

    - `linear`: every angle divided by `factor` (position interpolation; Chen et al. 2023, arXiv 2306.15595).
    - `ntk`: a larger theta, so that slow pairs stretch by `factor` and fast pairs hardly at all (NTK-aware).
    - `dynamic`: `ntk` with the stretch that the present length needs, and none up to the trained length.
    - `yarn`: fast pairs kept, slow pairs interpolated, a ramp between, and warmer attention (Peng et al. 2023, arXiv
      2309.00071).
    - `llama3`: the same idea with a ramp over wavelengths (Llama 3.1; Grattafiori et al. 2024, arXiv 2407.21783).
    """

    theta: float = 10_000.0
    scaling: RopeScaling = "none"
    factor: float = 1.0
    original_max_seq_len: int | None = None
    """Trained length in tokens. Needed by `dynamic`, `yarn` and `llama3`."""
    beta_fast: float = 32.0
    """YaRN: a pair that turns at least this often within the trained length is kept as it is."""
    beta_slow: float = 1.0
    """YaRN: a pair that turns at most this often is interpolated fully."""
    low_freq_factor: float = 1.0
    """llama3: wavelengths above original_max_seq_len / low_freq_factor are interpolated fully."""
    high_freq_factor: float = 4.0
    """llama3: wavelengths below original_max_seq_len / high_freq_factor are kept as they are."""

    def __post_init__(self) -> None:
        self._require(self.theta > 1, "theta", "a number above 1, such as 10000.0")
        self._require_choice("scaling", RopeScaling)
        self._require(self.factor >= 1, "factor", "a number of at least 1.0, such as 4.0 for four times the context")
        if self.scaling in ("dynamic", "yarn", "llama3"):
            self._require_positive_integers("original_max_seq_len")
        self._require(self.beta_fast > self.beta_slow, "beta_fast", f"a number above beta_slow = {self.beta_slow}")
        self._require(
            self.high_freq_factor > self.low_freq_factor,
            "high_freq_factor",
            f"a number above low_freq_factor = {self.low_freq_factor}",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """Everything that decides the shape of a model and what it computes."""

    vocab_size: int
    """Number of different tokens."""
    d_model: int
    """Width of the residual stream."""
    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    """Key/value heads: equal to n_heads is multi-head attention (the default), 1 is multi-query, between is grouped."""
    d_head: int | None = None
    """Width of a head; d_model // n_heads if not given."""
    d_ff: int | None = None
    """Hidden width of the feed-forward; 4 · d_model if not given (8/3 · d_model for SwiGLU), rounded up to a multiple
    of 64."""
    max_seq_len: int
    """Longest sequence in tokens."""
    positions: Positions = "rope"
    rope: RopeConfig = field(default_factory=RopeConfig)
    norm: NormKind = "rmsnorm"
    norm_weight: bool = True
    """Whether norms learn a scale."""
    norm_bias: bool = False
    """Whether LayerNorm learns a shift."""
    norm_eps: float = 1e-5
    norm_order: NormOrder = "pre"
    """`pre`: x + f(norm(x)), with a norm before the head. `post`: norm(x + f(x)), as in 2017."""
    embedding_norm: bool = False
    """Whether the embedding is normalized before the first block."""
    feedforward: FeedForwardKind = "swiglu"
    feedforward_bias: bool = False
    attention_bias: bool = False
    """Biases on q_proj, k_proj and v_proj."""
    output_bias: bool = False
    """A bias on o_proj."""
    qk_norm: bool = False
    """Whether queries and keys are RMS-normalized per head before they are rotated (Qwen 3)."""
    window: int | None = None
    """Sliding window: a token sees itself and the window − 1 tokens before it."""
    causal: bool = True
    dropout: float = 0.0
    tie_embeddings: bool = True
    """Whether the head uses the embedding matrix."""

    def __post_init__(self) -> None:
        self._require_positive_integers("vocab_size", "d_model", "n_layers", "n_heads", "max_seq_len")
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.d_head is None:
            # Twice n_heads, so that a head can be halved into pairs.
            multiple = -(-self.d_model // (2 * self.n_heads)) * 2 * self.n_heads
            instead = f"a multiple of n_heads = {self.n_heads}, such as {multiple}, or give d_head"
            self._require(self.d_model % self.n_heads == 0, "d_model", instead)
            object.__setattr__(self, "d_head", self.d_model // self.n_heads)
        if self.d_ff is None:
            ratio = 8 / 3 if self.feedforward == "swiglu" else 4
            object.__setattr__(self, "d_ff", -(-round(ratio * self.d_model) // 64) * 64)
        self._require_positive_integers("n_kv_heads", "d_head", "d_ff")
        divisors = [str(n) for n in range(1, self.n_heads + 1) if self.n_heads % n == 0]
        self._require(
            self.n_heads % self.n_kv_heads == 0,
            "n_kv_heads",
            f"a divisor of n_heads = {self.n_heads}: {', '.join(divisors)}",
        )
        for name, kind in (
            ("positions", Positions),
            ("norm", NormKind),
            ("norm_order", NormOrder),
            ("feedforward", FeedForwardKind),
        ):
            self._require_choice(name, kind)
        if self.positions == "rope":
            self._require(
                self.d_head % 2 == 0, "d_head", f"an even number, such as {self.d_head + 1}: RoPE turns pairs"
            )
            stretched = self.rope.scaling in ("ntk", "dynamic")
            self._require(self.d_head > 2 or not stretched, "d_head", "4 or more: a single pair has no slower one")
        if self.positions == "sinusoidal":
            self._require(
                self.d_model % 2 == 0,
                "d_model",
                f"an even number, such as {2 * self.d_model}: half of the columns are sines, half cosines",
            )
        has_shift = self.norm == "layernorm" and self.norm_weight
        self._require(has_shift or not self.norm_bias, "norm_bias", "False: only LayerNorm with a weight has a shift")
        self._require(self.norm_eps > 0, "norm_eps", "a small positive number, such as 1e-5")
        self._require(0 <= self.dropout < 1, "dropout", "a number from 0 up to 1, such as 0.1")
        if self.window is not None:
            self._require_positive_integers("window")
            self._require(self.causal, "window", "None, or causal = True: the window looks back only")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The config that `to_dict` described. Raises ConfigError for a field that does not exist."""
        rope = RopeConfig.from_dict(values.get("rope", {}))
        return super().from_dict(values | {"rope": rope})


# GPT-2's vocabulary, the one most of the presets share.
_GPT2_VOCAB = 50_257

# What each preset chooses; the rest follows by ModelConfig's defaults.
_CHOSEN: dict[str, dict[str, Any]] = {
    # The pocket configuration: GQA 6/2, squared ReLU, norms without weights, an untied head.
    "pocket": dict(
        vocab_size=_GPT2_VOCAB,
        d_model=384,
        n_layers=6,
        n_heads=6,
        n_kv_heads=2,
        max_seq_len=256,
        norm_weight=False,
        embedding_norm=True,
        feedforward="relu2",
        tie_embeddings=False,
    ),
    # The embedded default: small enough to train on two cores while you make coffee.
    "pocket-shakespeare": dict(vocab_size=4096, d_model=192, n_layers=4, n_heads=6, n_kv_heads=2, max_seq_len=256),
    # Radford et al. 2019, the smallest of the four.
    "gpt2": dict(
        vocab_size=_GPT2_VOCAB,
        d_model=768,
        n_layers=12,
        n_heads=12,
        max_seq_len=1024,
        positions="learned",
        norm="layernorm",
        norm_bias=True,
        feedforward="gelu_tanh",
        feedforward_bias=True,
        attention_bias=True,
        output_bias=True,
        dropout=0.1,
    ),
    # The parts of LLaMA (Touvron et al. 2023, arXiv 2302.13971) at the size of GPT-2.
    "llama": dict(vocab_size=_GPT2_VOCAB, d_model=768, n_layers=12, n_heads=12, max_seq_len=2048),
    # GPT-2's blocks with rotary positions that stretch past the trained length.
    "brain": dict(
        vocab_size=_GPT2_VOCAB,
        d_model=768,
        n_layers=12,
        n_heads=12,
        max_seq_len=2048,
        rope=RopeConfig(scaling="dynamic", original_max_seq_len=2048),
        norm="layernorm",
        norm_bias=True,
        feedforward="gelu",
        feedforward_bias=True,
    ),
    # Published weights: Allal et al. 2025 (arXiv 2502.02737).
    "smollm2-135m": dict(
        vocab_size=49_152,
        d_model=576,
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        d_ff=1536,
        max_seq_len=8192,
        rope=RopeConfig(theta=100_000.0),
    ),
}

PRESETS = {name: ModelConfig(**chosen) for name, chosen in _CHOSEN.items()}


def preset(name: str, **changes: Any) -> ModelConfig:
    """The preset of that name, with fields changed if you like: `preset("gpt2", d_model=384)`.

    Widths that the preset leaves open (d_head, d_ff, n_kv_heads) follow from the changed ones.
    Raises ConfigError if there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return ModelConfig(**_CHOSEN[name] | changes)
