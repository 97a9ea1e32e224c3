"""Recipes: `TrainConfig`, the settings of a training run, and named ones for each preset."""

from dataclasses import dataclass, replace
from typing import Literal

from pocketgpt.checked import LARGEST_INTEGER, Checked, ConfigError
from pocketgpt.models.presets import preset as check_preset

ObjectiveName = Literal["next-token", "masked-diffusion", "masked-words", "span-corruption"]
Optimizer = Literal["muon", "adamw"]
Schedule = Literal["cosine", "wsd"]
Precision = Literal["auto", "float32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Text, its tokens, and the objective."""

    corpus: str = "shakespeare"
    """Text to train on: the name of a corpus, or a path to your own .txt, .jsonl or .parquet, or a folder of them; in a
    folder, files whose names begin with "validation" are the validation text."""
    text_field: str = "text"
    """Field of your .jsonl, or column of your .parquet, that contains the text."""
    tokenizer: str = "shakespeare"
    """Tokenizer: shakespeare, gpt2, or a path to a tokenizer.json."""
    objective: ObjectiveName = "next-token"
    """next-token: predict each token from the ones before it. masked-diffusion: fill in hidden tokens, from both sides;
    for models with causal = False. masked-words: fill in a few hidden tokens, as BERT does. span-corruption: write the
    parts that are missing in a text, as T5 does."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Length of the training, and the text in a step."""

    steps: int = 2000
    """Updates of the weights. One step reads batch_size · accumulation · seq_len tokens in each process."""
    batch_size: int = 8
    """Windows of text in one forward pass of one process. Small batches learn more per minute on a CPU; large ones fill
    a GPU."""
    accumulation: int = 1
    """Forward passes per step, whose gradients are summed: a larger batch in the same memory."""
    seq_len: int = 256
    """Tokens in a window; at most the model's max_seq_len."""
    repeats: float = 0.0
    """Share of the windows that start over after a random distance, half of them shuffled. On a small corpus, 0.2
    teaches a small model to copy from earlier text (induction heads)."""
    seed: int = 0
    """Seed of the weights, the order of the windows and the samples."""


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """Optimizer, learning rate, and what keeps the weights small."""

    optimizer: Optimizer = "muon"
    """muon: Muon for the matrices inside the blocks, AdamW for the rest. adamw: AdamW for everything."""
    lr: float = 3e-3
    """Peak learning rate of AdamW."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon, times √(d_out / d_in) for matrices with more outputs than inputs; not used with
    adamw."""
    schedule: Schedule = "cosine"
    """cosine: warm-up, then cosine decay. wsd: warm-up, constant, decay at the end."""
    warmup: float = 0.05
    """Steps in which the learning rate rises to its peak: a fraction of all steps if below 1, else their number."""
    decay: float = 0.2
    """Steps in which wsd decays at the end, counted like warmup; not used with cosine."""
    final_lr: float = 0.0
    """Final learning rate, as a fraction of the peak, from 0 to 1."""
    weight_decay: float = 0.1
    """Weight decay of the matrices; embeddings, norms and biases are not decayed."""
    beta1: float = 0.9
    """AdamW: decay rate of the mean gradient; 0.9 averages about 10 steps."""
    beta2: float = 0.95
    """AdamW: decay rate of the mean squared gradient; 0.95 averages about 20 steps."""
    clip: float = 1.0
    """Maximum norm of the gradient over all parameters; a longer gradient is scaled down to it."""
    dropout: float = 0.0
    """Probability that a value added to the residual stream is dropped. Helps when the corpus is read many times."""
    max_skipped: int = 10
    """Stop after this many steps in a row whose loss or gradient is not finite; such a step changes no weights."""


@dataclass(frozen=True, kw_only=True)
class LoRAOptions:
    """Fine-tuning by low-rank pairs (LoRA), with --init-from."""

    lora_rank: int | None = None
    """Train a pair of matrices of this rank, such as 8, beside every projection of the layers, and nothing else: less
    memory, and the checkpoints are ordinary models. Embedding, head and norms get no pair, nor do the router of a
    mixture and its experts. None trains all weights."""
    lora_alpha: float = 16.0
    """The product of a pair is multiplied by lora_alpha / lora_rank; not used without lora_rank."""


@dataclass(frozen=True, kw_only=True)
class HardwareOptions:
    """Hardware, precision, and memory."""

    device: str = "auto"
    """auto: a CUDA GPU if there is one, else Apple's mps, else cpu."""
    precision: Precision = "auto"
    """auto: bf16 where the hardware computes it natively, float32 elsewhere. fp16: for GPUs without bf16."""
    compile: bool = False
    """Compile forward and backward pass with torch.compile: a minute at the start, then faster, above all on a GPU."""
    activation_checkpointing: bool = False
    """Store only the input of each block and recompute the rest in the backward pass: less memory, a third slower."""
    head_chunk: int | None = None
    """Compute head and loss for this many tokens at a time, such as 4096: fewer logits in memory."""
    fsdp: bool = False
    """Shard weights and optimizer over the processes of torchrun, for models that do not fit on one GPU."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Evaluations, checkpoints, and samples."""

    eval_every: int = 250
    """Steps between evaluations; each one measures the validation loss, writes a sample, and saves the best so far."""
    eval_tokens: int | None = 100_000
    """Validation tokens read at an evaluation, always the same ones; None reads them all."""
    save_every: int = 250
    """Steps between checkpoints. The last two are kept, and the best."""
    keep_every: int | None = None
    """Keep one checkpoint in this many steps permanently, a multiple of save_every; None keeps none of them."""
    prompt: str = ""
    """Prompt of the samples; empty begins a new text."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    TextOptions, BatchOptions, OptimizerOptions, LoRAOptions, HardwareOptions, EvaluationOptions, Checked
):
    """Settings of a training run, apart from the model; validated on creation.

    The parts are the headings under which `pocketgpt train --help` shows them.
    """

    def __post_init__(self) -> None:
        self._require_positive_integers("steps", "batch_size", "accumulation", "seq_len", "eval_every", "save_every")
        self._require_positive_integers("max_skipped")
        if self.head_chunk is not None:
            self._require_positive_integers("head_chunk")
        kept = self.keep_every is None or (self.keep_every > 0 and self.keep_every % self.save_every == 0)
        self._require(kept, "keep_every", f"None, or a multiple of save_every, such as {4 * self.save_every}")
        enough = self.eval_tokens is None or self.eval_tokens >= 2
        self._require(enough, "eval_tokens", "None for all, or a whole number of at least 2, such as 100000")
        self._require_choice("objective", ObjectiveName)
        self._require_choice("optimizer", Optimizer)
        self._require_choice("schedule", Schedule)
        self._require_choice("precision", Precision)
        # A gradient scaler checks the gradients of its own rank for overflows, and FSDP gives each only a shard.
        self._require(not (self.fsdp and self.precision == "fp16"), "precision", "bf16 or float32 with fsdp")
        if self.lora_rank is not None:
            self._require_positive_integers("lora_rank")
            self._require(self.optimizer == "adamw", "optimizer", "adamw with lora_rank: Muon is for whole matrices")
            self._require(not self.fsdp, "fsdp", "False with lora_rank: the weights are frozen and not sharded")
        self._require(0 < self.lora_alpha < 1e6, "lora_alpha", "a number above 0, such as 16.0")
        self._require(0 < self.lr < 1, "lr", "a number between 0 and 1, such as 0.003")
        self._require(0 < self.muon_lr < 1, "muon_lr", "a number between 0 and 1, such as 0.02")
        self._require(
            0 <= self.warmup <= LARGEST_INTEGER,
            "warmup",
            "a fraction of the steps, such as 0.05, or a number of steps, such as 200",
        )
        self._require(
            0 < self.decay <= LARGEST_INTEGER,
            "decay",
            "a fraction of the steps, such as 0.2, or a number of steps, such as 1000",
        )
        self._require(0 <= self.final_lr <= 1, "final_lr", "a fraction of the peak from 0 to 1, such as 0.1")
        self._require(0 <= self.weight_decay <= 1, "weight_decay", "a number from 0 to 1, such as 0.1")
        self._require(0 <= self.beta1 < 1, "beta1", "a number from 0 up to 1, such as 0.9")
        self._require(0 <= self.beta2 < 1, "beta2", "a number from 0 up to 1, such as 0.95")
        self._require(self.clip > 0, "clip", "a number above 0, such as 1.0")
        self._require(0 <= self.dropout < 1, "dropout", "a number from 0 up to 1, such as 0.1")
        self._require(0 <= self.repeats <= 1, "repeats", "a number from 0 to 1, such as 0.2")
        self._require_seed("seed")

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one process reads in a step."""
        return self.batch_size * self.accumulation * self.seq_len

    @property
    def warmup_steps(self) -> int:
        return round(self.warmup * self.steps if self.warmup < 1 else self.warmup)

    @property
    def decay_steps(self) -> int:
        return round(self.decay * self.steps if self.decay < 1 else self.decay)


# Brown et al. 2020, GPT-3 (arXiv 2005.14165), table 2.1 and appendix B, for the model of 125M parameters: batches of
# half a million tokens, 375 million tokens of warm-up, a cosine to a tenth. 10 billion tokens are as many as GPT-2's
# text had. On N GPUs, divide accumulation by N.
GPT3_SMALL = TrainConfig(
    corpus="fineweb-edu",
    tokenizer="gpt2",
    steps=19_073,
    batch_size=32,
    accumulation=16,
    seq_len=1024,
    optimizer="adamw",
    lr=6e-4,
    warmup=715.0,
    final_lr=0.1,
    compile=True,
    eval_every=250,
    eval_tokens=1_000_000,
    save_every=1000,
    keep_every=5000,
)

# The recipe of the latent model: fp16 with gradient scaling. Its own vocabulary of 32,000 words is a file that
# `pocketgpt tokenizer wikitext-103 --kind words --vocab-size 32000 --out FILE` makes; --tokenizer FILE uses it.
LATENT = TrainConfig(
    corpus="wikitext-103",
    tokenizer="gpt2",
    steps=15_000,
    batch_size=72,
    accumulation=4,
    seq_len=512,
    optimizer="adamw",
    lr=1e-3,
    warmup=500.0,
    weight_decay=1e-4,
    precision="fp16",
    eval_every=100,
    save_every=500,
)

# A small model on a small corpus: low learning rates, and a sample every 200 steps.
POCKET = TrainConfig(
    tokenizer="gpt2",
    steps=5000,
    batch_size=32,
    optimizer="adamw",
    lr=3e-4,
    warmup=200.0,
    final_lr=0.1,
    eval_every=200,
    save_every=1000,
    prompt="ROMEO:",
)

# The embedded corpus and the small models: about five minutes on two CPU cores for pocket-shakespeare.
QUICK = TrainConfig(steps=800, lr=6e-3, eval_every=200, eval_tokens=50_000, save_every=200, prompt="ROMEO:")

# For each preset its recipes by name; the first one is the default. Presets that are not here use TrainConfig() with
# GPT-2's tokenizer, a starting point and not a tuned recipe.
RECIPES: dict[str, dict[str, TrainConfig]] = {
    "pocket-shakespeare": {
        "quick": QUICK,
        # The weights that ship with the project: the corpus is read 13 times, hence dropout.
        "shipped": TrainConfig(
            steps=10_000,
            lr=6e-3,
            dropout=0.15,
            repeats=0.2,
            eval_every=500,
            eval_tokens=None,
            save_every=500,
            prompt="ROMEO:",
        ),
    },
    "pocket": {
        "published": POCKET,
        # Without a download: the vocabulary of 4,096 tokens that ships with the project.
        "offline": replace(POCKET, tokenizer="shakespeare"),
    },
    "gpt2": {"gpt3-small": GPT3_SMALL},
    "latent": {
        "published": LATENT,
        # Without a download. Its 110 million parameters take seconds a step on a CPU.
        "offline": replace(
            LATENT,
            corpus="shakespeare",
            tokenizer="shakespeare",
            steps=1000,
            batch_size=4,
            accumulation=1,
            warmup=50.0,
            precision="auto",
            eval_tokens=20_000,
            prompt="ROMEO:",
        ),
    },
    "pocket-moe": {"quick": QUICK},
    "pocket-mamba": {"quick": QUICK},
    "pocket-hybrid": {"quick": QUICK},
    "pocket-sparse": {"quick": QUICK},
    "pocket-linear": {"quick": QUICK},
    "pocket-delta": {"quick": QUICK},
    # Every token is predicted from another random part of the text each time, which takes more steps to learn.
    "pocket-diffusion": {"quick": replace(QUICK, objective="masked-diffusion", steps=2000)},
    # Only 15 % of the tokens teach something, so that it learns more slowly. The prompt is a text with gaps.
    "pocket-bert": {
        "quick": replace(
            QUICK,
            objective="masked-words",
            prompt="But soft, what ___ through yonder window breaks? It is the ___, and Juliet is the ___.",
        )
    },
    # A fifth of the tokens of a window are written, so more windows are read in the same time.
    "pocket-t5": {
        "quick": replace(
            QUICK,
            objective="span-corruption",
            steps=2000,
            prompt="ROMEO:\nBut soft, what ___ through yonder ___ breaks?\nIt is the ___, and Juliet ___.",
        )
    },
    # The schedule, betas and weight decay of SmolLM2-135M (Allal et al. 2025, arXiv 2502.02737); a third of its peak
    # rate, for half its batch.
    "llama": {
        "wsd": replace(
            GPT3_SMALL,
            seq_len=2048,
            batch_size=16,
            lr=1e-3,
            schedule="wsd",
            warmup=2000.0,
            final_lr=0.0,
            weight_decay=0.01,
        )
    },
}


# For weights that are trained already: about a tenth of the rates that random weights need.
# Validation loss of pocket-shakespeare after 40 steps of 1,024 tokens, one seed, on a play that it has not seen (3.598
# before) and on Python source (5.660 before):
#
# | lr    | all weights, the play | Python source | pairs of rank 8, the play | Python source |
# |-------|-----------------------|---------------|---------------------------|---------------|
# | 1e-4  |                       | 3.984         |                           |               |
# | 3e-4  | 3.442                 | 3.608         |                           |               |
# | 1e-3  | 3.460                 | 3.256         |                           | 3.927         |
# | 3e-3  | 3.639                 | 3.182         | 3.461                     | 3.682         |
# | 1e-2  |                       |               | 3.489                     | 3.647         |
FINETUNE = TrainConfig(
    steps=300, optimizer="adamw", lr=5e-4, weight_decay=0.0, eval_every=50, eval_tokens=50_000, save_every=100
)
FINETUNING: dict[str, TrainConfig] = {"finetune": FINETUNE, "lora": replace(FINETUNE, lr=3e-3, lora_rank=8)}
"""Recipes of --init-from by name: all weights, and low-rank pairs."""


def finetuning_recipe(name: str | None = None) -> TrainConfig:
    """Look up the recipe of that name for a model that is trained already; without a name "finetune".

    Raises ConfigError for an unknown recipe.
    """
    if name not in (None, *FINETUNING):
        raise ConfigError(f"There is no recipe {name!r} for --init-from: choose one of {', '.join(FINETUNING)}.")
    return FINETUNING[name or "finetune"]


def recipe(preset: str, name: str | None = None) -> TrainConfig:
    """Look up the recipe of that name for a preset; without a name its default one.

    Raises ConfigError for an unknown preset or recipe.
    """
    check_preset(preset)
    recipes = RECIPES.get(preset, {"default": TrainConfig(tokenizer="gpt2")})
    if name is None:
        return next(iter(recipes.values()))
    if name not in recipes:
        raise ConfigError(f"There is no recipe {name!r} for {preset!r}: choose one of {', '.join(recipes)}.")
    return recipes[name]
