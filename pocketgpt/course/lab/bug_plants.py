"""Mistakes planted into the trained model, and what a practitioner would then see: losses, probe, maps, ranks, text.

The wrong functions come from the catalogues of the exercises. Three causes change something else than a function that
the model calls, and are planted by hand.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.course.lab.attention_adapters import assembled_attention, backend
from pocketgpt.course.lab.caching import read_with_cache
from pocketgpt.course.lab.reporting import earlier_changes, trained
from pocketgpt.course.lab.transplanting import transplant
from pocketgpt.course.syllabus import find_exercise
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.attention_backends import causal_mask
from pocketgpt.models.gpt import GPT
from pocketgpt.models.stack import sharing_weights

RIGHT = "right"
STEPS = {"attention_scores": "scores", "masked_softmax": "masked_softmax"}
PROMPTS = ("ROMEO:\n", "KING HENRY:\n", "JULIET:\nO ", "My lord, ", "What is ", "The king ")
MAP_TOKENS = 24
NEW_TOKENS = 40
TEXTS, TEMPERATURE, TOP_K = 8, 0.6, 20
CACHED_LENGTH, PROMPT, CHUNK = 64, 16, 8  # tokens of a text that is read with a cache, of its first and last part


@dataclass(frozen=True)
class Setting:
    """What a case is measured on: a window of the held-out passage, a prompt, and a seed for the text."""

    start: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Written:
    """What a model wrote, and the rank of each drawn token in the logits that it was drawn from, 0 for the largest."""

    text: str
    ranks: Int[Tensor, " drawn"]


def mistake(exercise: str, name: str) -> Callable:
    """A wrong function of a catalogue. Raises KeyError if the exercise is not installed, or has no such mistake."""
    return {each.name: each.function for each in find_exercise(exercise).mistakes}[name]


@cache
def windows(start: int) -> Int[Tensor, "windows seq"]:
    """Two windows of the held-out passage, the first one beginning at `start`."""
    every = trained().windows
    passage, length = every.flatten(), every.shape[1]
    return torch.stack([passage[start : start + length], passage[start + length : start + 2 * length]])


def starts() -> int:
    """The number of places that two windows can begin at."""
    every = trained().windows
    return every.numel() - 2 * every.shape[1] + 1


def planted(plant: tuple[str, str] | None, record: Callable[[Tensor], None] | None = None) -> GPT:
    """The shipped model with a mistake of a catalogue, (exercise, name); `record` gets the attention weights of every
    layer. ("gpt", "final_norm_forgotten") is planted into the layers, so that its weights can be recorded, too."""
    model, steps, mask_of = trained().model, {}, causal_mask
    if plant == ("gpt", "final_norm_forgotten"):
        model = sharing_weights(model)
        model.final_norm = nn.Identity()
    elif plant and plant[0] == "causal_mask":
        mask_of = mistake(*plant)
    elif plant and plant[0] in STEPS:
        steps = {STEPS[plant[0]]: mistake(*plant)}
    elif plant and plant[0] != "next_token_loss":
        model = transplant(model, **{plant[0]: mistake(*plant)})
    else:
        model = sharing_weights(model)
    if record or steps or mask_of is not causal_mask:
        model = sharing_weights(model) if model is trained().model else model
        model.use_attention(backend(partial(_recording, partial(assembled_attention, **steps), record), mask_of))
    return model


def _recording(
    attention: Callable, record: Callable | None, q: Tensor, k: Tensor, v: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    output, weights = attention(q, k, v, mask)
    if record:
        record(weights)
    return output, weights


def loss_of(logits: Tensor, tokens: Tensor, plant: tuple[str, str] | None = None) -> float:
    """The loss, computed with the mistake if it is one of the loss itself."""
    if plant and plant[0] == "next_token_loss":
        return float(mistake(*plant)(logits, tokens))
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()


@torch.inference_mode()
def maps(
    plant: tuple[str, str] | None, start: int, heads: tuple[tuple[int, int], ...]
) -> Float[Tensor, "maps seq seq"]:
    """Attention weights of some heads, (layer, head), as the model reads the first tokens of the window."""
    found: list[Tensor] = []
    planted(plant, found.append)(windows(start)[:1, :MAP_TOKENS])
    return torch.stack([found[layer][0, head] for layer, head in heads])


@torch.inference_mode()
def reading(plant: tuple[str, str] | None, start: int) -> tuple[float, int]:
    """Loss, and causality probe on the first window."""
    model, tokens = planted(plant), windows(start)
    return loss_of(model(tokens), tokens, plant), earlier_changes(model, tokens[:1])


@torch.inference_mode()
def writing(plant: tuple[str, str] | None, setting: Setting) -> str:
    """The continuation of the prompt without a cache, drawn from the 40 most probable tokens at temperature 0.8."""
    subject, rng = trained(), torch.Generator().manual_seed(setting.seed)
    model, tokens = planted(plant), torch.tensor([subject.tokenizer.encode(setting.prompt)])
    for _ in range(NEW_TOKENS):
        top, ids = (model(tokens)[:, -1] / 0.8).nan_to_num(0.0).topk(40)
        tokens = torch.cat((tokens, ids.gather(1, torch.multinomial(top.softmax(-1), 1, generator=rng))), dim=1)
    return subject.tokenizer.decode(tokens[0].tolist())


@torch.inference_mode()
def cached_reading(plant: tuple[str, str] | None, start: int) -> tuple[float, int, Float[Tensor, " seq"]]:
    """With a cache: the loss, the causality probe, and the largest difference from the logits without a cache, by
    position. Short texts are read as a prompt, single tokens, and a chunk at the end."""
    tokens = windows(start).view(-1, CACHED_LENGTH)
    probed = tokens[:1].clone()
    probed[:, -1] = (probed[:, -1] + 1) % trained().model.config.vocab_size
    logits = read_with_cache(planted(plant), torch.cat((tokens, probed)), PROMPT, CHUNK)
    gaps = (logits[:-1] - trained().model(tokens)).abs().amax(dim=(0, 2))
    seen = (logits[0] - logits[-1]).abs().amax(dim=-1)[:-1] > 1e-4
    return loss_of(logits[:-1], tokens), int(seen.sum()), gaps


@torch.inference_mode()
def cached_writing(plant: tuple[str, str] | None, sampler: dict[str, Callable], setting: Setting) -> Written:
    """Continue the prompt in several texts with a cache: top-k, temperature and a draw, each the finished function of
    chapter 11 or the mistake in `sampler`."""
    subject, rng = trained(), torch.Generator().manual_seed(setting.seed)
    parts = {name: find_exercise(name).finished_answer for name in ("keep_top_k", "temper", "draw")} | sampler
    model, prompt = planted(plant), torch.tensor([subject.tokenizer.encode(setting.prompt)])
    tokens = unread = prompt.expand(TEXTS, -1)
    store, ranks = new_cache(model, TEXTS), []
    for _ in range(NEW_TOKENS):
        logits = model(unread, store)[:, -1]
        probabilities = parts["temper"](parts["keep_top_k"](logits, TOP_K), TEMPERATURE)
        ids = parts["draw"](probabilities, torch.rand(TEXTS, generator=rng))
        ranks.append((logits > logits.gather(1, ids[:, None])).sum(-1))
        unread = ids[:, None]
        tokens = torch.cat((tokens, unread), dim=1)
    return Written(subject.tokenizer.decode(tokens[0].tolist()), torch.stack(ranks).flatten())


def entropy(weights: Float[Tensor, "seq seq"]) -> float:
    """Mean entropy of the rows of a map, in nats, as if each summed to 1."""
    shares = weights / weights.sum(-1, keepdim=True)
    return float(torch.special.entr(shares).sum(-1).mean()) if math.isfinite(float(shares.sum())) else math.nan
