"""How a model is trained, in plain values: `TrainConfig`, and the recipes that belong to the presets."""

from dataclasses import dataclass
from typing import Literal

from pocketgpt.config import Checked, ConfigError
from pocketgpt.config import preset as check_preset

Optimizer = Literal["muon", "adamw"]
Precision = Literal["auto", "float32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """Everything that decides a training run, apart from the model. Checks itself when it is made."""

    corpus: str = "shakespeare"
    """What to learn from: the name of a corpus, or a path to your own .txt, .jsonl or .parquet."""
    tokenizer: str = "shakespeare"
    """How text becomes tokens: shakespeare, gpt2, or a path to a tokenizer.json."""
    steps: int = 2000
    """Updates of the weights. One step reads batch_size · accumulation · seq_len tokens."""
    batch_size: int = 8
    """Windows of text in one forward pass. Small batches learn more per minute on a CPU; large ones fill a GPU."""
    accumulation: int = 1
    """Forward passes per step, their gradients added up: a larger batch in the same memory."""
    seq_len: int = 256
    """Tokens in a window; at most the model's max_seq_len."""
    optimizer: Optimizer = "muon"
    """muon: Muon for the matrices inside the blocks, AdamW for the rest. adamw: AdamW for everything."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon; not used with adamw."""
    warmup: float = 0.05
    """Part of the steps in which the learning rate rises from 0 to its peak, from 0 to 1."""
    final_lr: float = 0.0
    """Where the cosine ends, as a part of the peak, from 0 to 1."""
    weight_decay: float = 0.1
    """Pull of the matrices toward zero; embeddings, norms and biases are left alone."""
    beta1: float = 0.9
    """AdamW: memory of the mean gradient. 0.9 is about 10 steps."""
    beta2: float = 0.95
    """AdamW: memory of the squared gradient. 0.95 is about 20 steps."""
    clip: float = 1.0
    """Longest gradient, as the norm over all parameters; a longer one is scaled down to this."""
    dropout: float = 0.0
    """Chance that a value on its way into the residual stream is dropped. Helps when the corpus is read many times."""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes it natively, float32 elsewhere."""
    device: str = "auto"
    """auto: a CUDA GPU if there is one, else Apple's mps, else cpu."""
    eval_every: int = 250
    """Steps between evaluations; each one measures the validation loss, writes a sample and saves."""
    eval_tokens: int | None = 100_000
    """Validation tokens read at an evaluation, always the same ones; None reads them all."""
    prompt: str = ""
    """What the samples continue; empty begins a new text."""
    seed: int = 0
    """Seed of the weights, the order of the windows and the samples."""

    def __post_init__(self) -> None:
        self._require_positive_integers("steps", "batch_size", "accumulation", "seq_len", "eval_every")
        enough = self.eval_tokens is None or self.eval_tokens >= 2
        self._require(enough, "eval_tokens", "None for all, or a whole number of at least 2, such as 100000")
        self._require_choice("optimizer", Optimizer)
        self._require_choice("precision", Precision)
        self._require(0 < self.lr < 1, "lr", "a number between 0 and 1, such as 0.003")
        self._require(0 < self.muon_lr < 1, "muon_lr", "a number between 0 and 1, such as 0.02")
        self._require(0 <= self.warmup <= 1, "warmup", "a part of the steps from 0 to 1, such as 0.05")
        self._require(0 <= self.final_lr <= 1, "final_lr", "a part of the peak from 0 to 1, such as 0.1")
        self._require(self.weight_decay >= 0, "weight_decay", "0 or more, such as 0.1")
        self._require(0 <= self.beta1 < 1, "beta1", "a number from 0 up to 1, such as 0.9")
        self._require(0 <= self.beta2 < 1, "beta2", "a number from 0 up to 1, such as 0.95")
        self._require(self.clip > 0, "clip", "a number above 0, such as 1.0")
        self._require(0 <= self.dropout < 1, "dropout", "a number from 0 up to 1, such as 0.1")

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.accumulation * self.seq_len


# For each preset its recipes by name; the first one is the default. Presets that are not here use TrainConfig() with
# GPT-2's tokenizer, which is a beginning and not a tuned recipe.
RECIPES: dict[str, dict[str, TrainConfig]] = {
    "pocket-shakespeare": {
        # About five minutes on two CPU cores.
        "quick": TrainConfig(steps=800, lr=6e-3, eval_every=200, eval_tokens=50_000, prompt="ROMEO:"),
        # The weights that ship with the project.
        "shipped": TrainConfig(steps=4000, lr=4e-3, eval_every=500, eval_tokens=None, prompt="ROMEO:"),
    },
}


def recipe(preset: str, name: str | None = None) -> TrainConfig:
    """The recipe of that name for a preset; without a name its default one.

    Raises ConfigError for an unknown preset or recipe.
    """
    check_preset(preset)
    recipes = RECIPES.get(preset, {"default": TrainConfig(tokenizer="gpt2")})
    if name is None:
        return next(iter(recipes.values()))
    if name not in recipes:
        raise ConfigError(f"There is no recipe {name!r} for {preset!r}: choose one of {', '.join(recipes)}.")
    return recipes[name]
