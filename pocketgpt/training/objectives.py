"""Objectives: what a model learns from text, as a table of what training, evaluation and samples need of each."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from pocketgpt.checked import ConfigError
from pocketgpt.inference import diffusion
from pocketgpt.inference.gaps import GAP, encode_gaps, fill_gaps
from pocketgpt.inference.generate import generate
from pocketgpt.inference.spans import SPAN_TOKENS, encode_spans, fill_spans, write_spans
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.stack import Stack
from pocketgpt.models.t5 import T5Config
from pocketgpt.text.chunks import well_formed
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.masked_diffusion import MaskedDiffusionLoss
from pocketgpt.training.masked_words import MaskedWordsLoss
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.span_corruption import SpanCorruptionLoss, flops_per_corrupted_token


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a model learns, and what is particular to it."""

    loss: Callable[..., nn.Module]
    """Builds the loss from a model. It is called as loss(tokens, targets, n_targets), like NextTokenLoss, and its
    attribute `model` is the model. It draws from PyTorch's global random numbers, which a checkpoint saves, so that a
    resumed run draws the same."""
    sample: Callable[[Stack, Tokenizer, str, int], str]
    """Writes a sample: sample(model, tokenizer, prompt, seed); the same seed gives the same text."""
    causal: bool
    """ModelConfig.causal of the models that learn it."""
    extra_tokens: tuple[str, ...] = ()
    """Names of special tokens that it needs beyond the tokenizer's: the last ids of the model's vocabulary, the first
    of them is tokenizer.vocab_size."""
    in_chunks: bool = False
    """The loss takes TrainConfig.head_chunk as its second argument."""
    unit: str = "nats per token"
    """What the loss measures, for people."""
    scores_text: bool = True
    """The loss is −log p of the whole text, or a bound on it, so that it can be given in bits per byte."""
    encoder: bool = False
    """The models that learn it have an encoder beside the decoder."""
    flops_per_token: Callable[[Stack, int], float] = lambda model, seq: model.flops_per_token(seq)
    """Floating-point operations of a forward pass per token of a window, from the model and the window's length."""

    def build_loss(self, model: nn.Module, chunk: int | None = None) -> nn.Module:
        """Build the loss of a model, in chunks if `chunk` is given."""
        return self.loss(model) if chunk is None else self.loss(model, chunk)


def continue_prompt(model: Stack, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Continue the prompt by 100 tokens, without dropout."""
    prompt = well_formed(prompt)
    tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    [written] = generate(model, [tokens], max_new_tokens=100, stop_tokens=(tokenizer.end_of_text,), seed=seed)
    return prompt + tokenizer.decode(written)


def denoise_prompt(model: Stack, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Continue the prompt by 100 tokens, or up to the end of the text, by denoising."""
    prompt = well_formed(prompt)
    tokens = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    stop = (tokenizer.end_of_text,)
    return prompt + tokenizer.decode(diffusion.write(model, tokens, max_new_tokens=100, stop_tokens=stop, seed=seed))


def with_gap(prompt: str) -> str:
    """The prompt, with a gap after it if it has none."""
    return well_formed(prompt if GAP in prompt else f"{prompt} {GAP}")


def fill_prompt(model: Stack, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Fill the gaps of the prompt, or one after it if there is none; brackets show what was filled in."""
    mask_id = tokenizer.vocab_size
    tokens = encode_gaps(with_gap(prompt), tokenizer, mask_id)
    filled = fill_gaps(model, tokens[: model.config.max_seq_len], mask_id)
    words = [tokenizer.token_bytes(token) for token in filled]
    shown = [b" [%b]" % new.strip() if old == mask_id else new for old, new in zip(tokens, words, strict=False)]
    return b"".join(shown).decode(errors="replace")


def write_missing_spans(model: Stack, tokenizer: Tokenizer, prompt: str, seed: int) -> str:
    """Write the missing spans of the prompt, or one after it if there is none; brackets show what was written."""
    text = with_gap(prompt)
    return fill_spans(tokenizer, text, write_spans(model, tokenizer, text, seed=seed), brackets=True)


OBJECTIVES: dict[str, Objective] = {
    "next-token": Objective(loss=NextTokenLoss, sample=continue_prompt, causal=True, in_chunks=True),
    "masked-diffusion": Objective(
        loss=MaskedDiffusionLoss,
        sample=denoise_prompt,
        causal=False,
        extra_tokens=("[MASK]",),
        unit="nats per token, an upper bound",
    ),
    "masked-words": Objective(
        loss=MaskedWordsLoss,
        sample=fill_prompt,
        causal=False,
        extra_tokens=("[MASK]",),
        unit="nats per hidden token",
        scores_text=False,
    ),
    "span-corruption": Objective(
        loss=SpanCorruptionLoss,
        sample=write_missing_spans,
        causal=True,
        extra_tokens=SPAN_TOKENS,
        unit="nats per token of the output",
        scores_text=False,
        encoder=True,
        flops_per_token=flops_per_corrupted_token,
    ),
}
"""Objectives by their names in TrainConfig.objective."""


def find_objective(config: TrainConfig, model: ModelConfig, tokenizer: Tokenizer) -> Objective:
    """Look up the objective of a recipe. Raises PocketError if the recipe, the model or its vocabulary cannot work with
    it."""
    name, objective = config.objective, OBJECTIVES[config.objective]
    if objective.encoder and not isinstance(model, T5Config):
        raise ConfigError(
            f"TrainConfig.objective = {name!r} cannot work without an encoder: use a T5, such as --preset pocket-t5."
        )
    if isinstance(model, T5Config) and not objective.encoder:
        raise ConfigError(
            f"TrainConfig.objective = {name!r} cannot work with a T5, whose encoder it gives nothing to read: use "
            "'span-corruption'."
        )
    if model.causal and not objective.causal:
        raise ConfigError(
            f"TrainConfig.objective = {name!r} cannot work with ModelConfig.causal = True: it fills in a hidden token "
            "from the tokens on both sides. Use causal = False, which is --model.no-causal."
        )
    if objective.causal and not model.causal:
        raise ConfigError(
            f"TrainConfig.objective = {name!r} cannot work with ModelConfig.causal = False: the model would see the "
            "tokens that it is to predict. Use causal = True, which is --model.causal, or another objective."
        )
    if config.head_chunk is not None and not objective.in_chunks:
        raise ConfigError(
            f"TrainConfig.head_chunk = {config.head_chunk} cannot work with the objective {name!r}: use None."
        )
    if objective.extra_tokens:  # found by their place in the vocabulary
        check_vocabulary(name, model, tokenizer)
    if objective.encoder:  # the gaps belong to the whole text, so that a sample cannot read its end only
        n_tokens = len(encode_spans(with_gap(config.prompt), tokenizer, tokenizer.vocab_size))
        if n_tokens > model.max_seq_len:
            raise ConfigError(
                f"TrainConfig.prompt has {n_tokens} tokens, and the model reads at most {model.max_seq_len}, its "
                "max_seq_len: use a shorter prompt."
            )
    return objective


def check_vocabulary(name: str, model: ModelConfig, tokenizer: Tokenizer) -> None:
    """Raises ConfigError if the model's vocabulary is not the tokenizer's, followed by the objective's extra tokens.

    Without extra tokens a model may have more rows than the tokenizer has tokens, as some published ones have.
    """
    extra = OBJECTIVES[name].extra_tokens
    tokens, rows = tokenizer.vocab_size, model.vocab_size
    if tokens + len(extra) > rows or (extra and tokens + len(extra) < rows):
        names = ", ".join(extra) if len(extra) <= 3 else f"{len(extra)} ({extra[0]} to {extra[-1]})"
        beside = f" and its objective {name!r} adds {names}" if extra else ""
        raise ConfigError(f"The tokenizer has {tokens} tokens{beside}; the vocabulary of the model has {rows}.")
