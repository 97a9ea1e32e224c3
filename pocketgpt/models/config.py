"""The config of a model, in plain values: what every model has, and the configs of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, ClassVar, Literal

from pocketgpt.checked import Checked, ConfigError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.block import FEEDFORWARDS, MIXERS, FeedForwardPartConfig, MixerConfig
from pocketgpt.layers.cross_attention import CrossAttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.part import PartConfig
from pocketgpt.layers.relative_bias import RelativeBiasConfig
from pocketgpt.layers.rope_scaling import RopeConfig

Positions = Literal["rope", "learned", "sinusoidal", "relative", "none"]
NormKind = Literal["rmsnorm", "layernorm"]
NormOrder = Literal["pre", "post"]

KINDS: dict[str, type[PartConfig]] = {config.kind: config for config in (*MIXERS, *FEEDFORWARDS)}
"""The class of a part's config by the `kind` in JSON."""


MOST_LAYERS = 10_000
"""Each layer is a module of its own: millions of them would take hours to make, on any machine."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """Everything that decides the shape of a model and what it computes. Frozen; validates itself when it is made.

    `mixer` and `feedforward` are each the config of a layer, or a tuple of them that repeats down the layers: with
    (local, local, full), every third layer is full. Widths that are not given follow from the others: `resolved` fills
    them in. A model of another class than GPT has a config of its own, a subclass of this one (`models/classes.py`).
    """

    kind: ClassVar[str | None] = None
    """Name of the model's class in JSON; None for a GPT."""

    vocab_size: int
    """Number of different tokens."""
    d_model: int
    """Width of the residual stream."""
    n_layers: int
    """Number of blocks."""
    max_seq_len: int
    """Longest sequence in tokens."""
    mixer: MixerConfig | tuple[MixerConfig, ...]
    """The layer in which tokens exchange information."""
    feedforward: FeedForwardPartConfig | tuple[FeedForwardPartConfig | None, ...] | None = field(
        default_factory=FeedForwardConfig
    )
    """The layer that treats each token alone; None for blocks without one."""
    positions: Positions = "rope"
    """rope: queries and keys are rotated. learned or sinusoidal: added to the embedding. relative: a bias per head and
    distance is added to the scores. none: nothing."""
    rope: RopeConfig = field(default_factory=RopeConfig)
    """Frequencies of rotary positions."""
    relative: RelativeBiasConfig = field(default_factory=RelativeBiasConfig)
    """Buckets of relative positions."""
    norm: NormKind = "rmsnorm"
    """rmsnorm or layernorm."""
    norm_weight: bool = True
    """Norms learn a scale."""
    norm_bias: bool = False
    """LayerNorm learns a shift."""
    norm_eps: float = 1e-5
    """Added inside the root of a norm, so that a vector of zeros stays finite."""
    norm_order: NormOrder = "pre"
    """pre: x + f(norm(x)), with a norm before the head. post: norm(x + f(x)), as in 2017."""
    embedding_norm: bool = False
    """Normalize the embedding before the first block."""
    causal: bool = True
    """A token sees only itself and earlier tokens."""
    dropout: float = 0.0
    """Probability that a value on its way into the residual stream or a weight of attention is dropped in training."""
    tie_embeddings: bool = True
    """The head uses the embedding matrix."""

    def __post_init__(self) -> None:
        for name in ("mixer", "feedforward", "rope", "relative"):
            if isinstance(getattr(self, name), dict):
                raise ConfigError(
                    f"{type(self).__name__}.{name} is a dictionary: {type(self).__name__}.from_dict(values) makes a "
                    "config of the nested dictionaries that to_dict gives and config.json has."
                )
        self._require(isinstance(self.rope, RopeConfig), "rope", "a RopeConfig, such as RopeConfig(theta=10000.0)")
        self._require(
            isinstance(self.relative, RelativeBiasConfig),
            "relative",
            "a RelativeBiasConfig, such as RelativeBiasConfig(n_buckets=32)",
        )
        self._require_positive_integers("vocab_size", "d_model", "n_layers", "max_seq_len")
        self._require(self.n_layers <= MOST_LAYERS, "n_layers", f"a whole number of at most {MOST_LAYERS:,}")
        self._require_choice("positions", Positions)
        self._require_choice("norm", NormKind)
        self._require_choice("norm_order", NormOrder)
        for name, kinds in (("mixer", tuple(MIXERS)), ("feedforward", (*FEEDFORWARDS, type(None)))):
            parts = _as_tuple(getattr(self, name))
            known = ", ".join(kind.__name__ for kind in kinds if kind not in (CrossAttentionConfig, type(None)))
            self._require(parts and all(isinstance(part, kinds) for part in parts), name, f"one of {known}, or a tuple")
        if self.positions == "sinusoidal":
            self._require(
                self.d_model % 2 == 0,
                "d_model",
                f"an even number, such as {2 * self.d_model}: half of the columns are sines, half cosines",
            )
        if self.positions == "relative":
            mixers = _as_tuple(self.mixer)
            alike = all(isinstance(mixer, AttentionConfig) and mixer.n_heads == mixers[0].n_heads for mixer in mixers)
            self._require(
                alike,
                "mixer",
                "attention with the same n_heads in every layer: relative positions add one bias per head to all",
            )
        has_shift = self.norm == "layernorm" and self.norm_weight
        self._require(has_shift or not self.norm_bias, "norm_bias", "False: only LayerNorm with a weight has a shift")
        self._require(0 < self.norm_eps < 1, "norm_eps", "a small positive number, such as 1e-5")
        self._require(0 <= self.dropout < 1, "dropout", "a number from 0 up to 1, such as 0.1")
        without = None in _as_tuple(self.feedforward)
        self._require(not (without and self.norm_order == "post"), "norm_order", "pre for blocks without feed-forward")
        for part in (*_as_tuple(self.mixer), *_as_tuple(self.feedforward)):
            if part is not None:
                part.resolved(self)  # raises ConfigError

    def resolved(self) -> "ModelConfig":
        """The same config with every width of its parts filled in."""

        def fill(parts: Any) -> Any:
            if isinstance(parts, tuple):
                return tuple(map(fill, parts))
            return parts and parts.resolved(self)

        return replace(self, mixer=fill(self.mixer), feedforward=fill(self.feedforward))

    def layers(self) -> list[tuple[MixerConfig, FeedForwardPartConfig | None]]:
        """The configs of mixer and feed-forward of each layer, from the first to the last."""
        pairs = zip(cycle(_as_tuple(self.mixer)), cycle(_as_tuple(self.feedforward)), strict=False)
        return list(islice(pairs, self.n_layers))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ModelConfig":
        """The config that `to_dict` described. Raises ConfigError for a field that does not exist, and for a config
        of an older version, in which all fields were at one level."""
        if "n_heads" in values:
            raise ConfigError(
                "It is of an older version, in which n_heads and the other fields of a layer were not inside `mixer` "
                "and `feedforward`. `python -m pocketgpt.models.convert FOLDER` converts the folder."
            )
        if values.get("kind") != cls.kind:
            raise ConfigError(
                f"It is of kind {values.get('kind')!r}, and a {cls.__name__} has {cls.kind!r}: "
                "pocketgpt.models.classes.load_model(folder) loads the models of all kinds that it lists."
            )
        values = {name: value for name, value in values.items() if name != "kind"}
        parts = {name: _part(values[name]) for name in ("mixer", "feedforward") if name in values}
        parts |= {"rope": RopeConfig.from_dict(values.get("rope", {}))}
        parts |= {"relative": RelativeBiasConfig.from_dict(values.get("relative", {}))}
        return super().from_dict({**values, **parts})


def _as_tuple(parts: Any) -> tuple:
    return parts if isinstance(parts, tuple) else (parts,)


def _part(values: Any) -> Any:
    """The part that a dictionary with a `kind` describes, or a tuple of them."""
    if values is None or isinstance(values, PartConfig):
        return values
    if isinstance(values, list | tuple):
        return tuple(map(_part, values))
    kind = values.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"There is no layer of kind {kind!r}: use one of {', '.join(map(repr, KINDS))}.")
    return KINDS[kind].from_dict({name: value for name, value in values.items() if name != "kind"})
