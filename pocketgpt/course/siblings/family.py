"""The siblings: their configs, their characters, and loading the trained ones.

    model = sibling("post_norm")                  # a GPT with trained weights
    tokens = character_tokenizer().encode("ROMEO:")
    sibling_losses()["post_norm"][64]             # held-out loss of each of three seeds, windows of 64 characters

All have the same number of active parameters to 0.1 % (except for a table of learned positions), and the same text;
`train.py` trains them.
"""

import json
from collections.abc import Iterable
from functools import cache

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.linear_attention import LinearAttentionConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.layers.relative_bias import RelativeBiasConfig
from pocketgpt.models.classes import load_model
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack
from pocketgpt.models.t5 import T5Config

CHARACTERS = "\n !\"&'(),-.0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz"
TRAINED_LENGTH = 64  # characters in a training window
LONGEST = 256  # characters that a sibling without learned positions accepts


def _config(
    n_kv_heads: int = 4,
    d_ff: int = 192,
    activation: str = "gelu",
    vocab_size: int = len(CHARACTERS),
    **others: object,
) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocab_size,
        d_model=48,
        n_layers=3,
        max_seq_len=TRAINED_LENGTH if others.get("positions") == "learned" else LONGEST,
        **{
            "mixer": AttentionConfig(n_heads=4, n_kv_heads=n_kv_heads),
            "feedforward": FeedForwardConfig(activation=activation, d_ff=d_ff),
            **others,
        },
    )


# A narrower feed-forward for the third matrix of SwiGLU and for β, and a wider one for the heads that GQA and MQA leave
# out, keep the number of parameters equal, or that of the active ones.
SIBLINGS: dict[str, ModelConfig] = {
    "base": _config(),
    "no_positions": _config(positions="none"),
    "learned": _config(positions="learned"),
    "sinusoidal": _config(positions="sinusoidal"),
    "post_norm": _config(norm_order="post"),
    "relu_squared": _config(activation="relu2"),
    "swiglu": _config(activation="swiglu", d_ff=128),
    "gqa": _config(n_kv_heads=2, d_ff=216),
    "mqa": _config(n_kv_heads=1, d_ff=228),
    # A window of a quarter of the training length.
    "sparse": _config(mixer=AttentionConfig(n_heads=4, window=16, n_anchors=4)),
    "linear": _config(mixer=LinearAttentionConfig(n_heads=4)),
    "delta": _config(mixer=LinearAttentionConfig(n_heads=4, delta_rule=True), d_ff=190),
    "latent": _config(mixer=LatentAttentionConfig(n_heads=4, kv_rank=24), d_ff=189),
    # Four experts of half the width, two of them active: as many active parameters, 1.6 times as many in all.
    "mixture": _config(feedforward=MixtureOfExpertsConfig(n_experts=4, top_k=2, d_ff=95, activation="gelu")),
    "diffusion": _config(causal=False, vocab_size=len(CHARACTERS) + 1),
    "masked_words": _config(causal=False, vocab_size=len(CHARACTERS) + 1),
}
"""Config of each sibling by name. "base" has rotary positions, pre-norm, GELU and four heads; the name of another says
which one part is different."""

OBJECTIVE_OF = {"diffusion": "masked-diffusion", "masked_words": "masked-words"}
"""Objective of the siblings that learn another one than next-token: a name of `pocketgpt.training.objectives`."""


SEQUENCE_SIBLINGS: dict[str, T5Config] = {
    "t5": T5Config(
        vocab_size=len(CHARACTERS) + 1,
        d_model=48,
        n_layers=2,
        max_seq_len=64,
        mixer=AttentionConfig(n_heads=4, scaled=False),
        feedforward=FeedForwardConfig(activation="gelu", d_ff=72),
        relative=RelativeBiasConfig(farthest=64),
    ),
}
"""Config of the siblings that answer an input instead of continuing a text (`reversed_lines.py`). The last token, one
more than there are characters, begins every output."""


class CharacterTokenizer:
    """One token per character: the tokenizer of the siblings."""

    vocab_size = len(CHARACTERS)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`. Raises PocketError for a character that the siblings have not seen."""
        if unknown := sorted(set(text) - set(CHARACTERS)):
            raise PocketError(f"The siblings have never seen {unknown[0]!r}: use {CHARACTERS!r}.")
        return [CHARACTERS.index(character) for character in text]

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of `tokens`."""
        return "".join(CHARACTERS[token] for token in tokens)


@cache
def character_tokenizer() -> CharacterTokenizer:
    """The tokenizer of the siblings."""
    return CharacterTokenizer()


@cache
def sibling(name: str) -> Stack:
    """Load a trained sibling. Raises PocketError if there is none of that name."""
    _require_sibling(name)
    return load_model(asset(f"siblings/{name}"))


def sibling_losses() -> dict[str, dict[int, list[float]]]:
    """Held-out loss of every sibling, by name and by window length: one number per seed, in nats per character.

    A model with learned positions has none beyond its trained length.
    """
    stored = json.loads(asset("siblings/losses.json").read_text())
    return {
        name: {int(length): [losses[length] for losses in seeds.values()] for length in next(iter(seeds.values()))}
        for name, seeds in stored.items()
    }


def _require_sibling(name: str) -> None:
    known = (*SIBLINGS, *SEQUENCE_SIBLINGS)
    if name not in known:
        raise PocketError(f"There is no sibling {name!r}: use one of {', '.join(known)}.")
