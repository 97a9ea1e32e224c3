"""Evidence about a planted mistake, and in which of its features two causes differ."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.assets import asset
from pocketgpt.course.lab import bug_plants
from pocketgpt.course.lab.bug_causes import PLANTS, RIGHT
from pocketgpt.course.lab.bug_plants import PROMPTS, Setting
from pocketgpt.course.lab.reporting import trained
from pocketgpt.errors import PocketError

FILE = "bug_runs.json"
HEADS = ((0, 0), (2, 1))  # one of the first layer; in the third layer a head that looks at the previous token
SAMPLER = ("temper", "keep_top_k", "draw")
RUNS = 3  # seeds of the stored trainings
EVERY, STEPS = 5, 120  # steps between the stored numbers of a training, and in all


def differ_by(gap: float) -> Callable[[float, float], bool]:
    return lambda a, b: not abs(a - b) < gap and not (math.isnan(a) and math.isnan(b))


def one_is_zero(a: float, b: float) -> bool:
    return (abs(a) < 1e-3) != (abs(b) < 1e-3)


def differ_by_factor(factor: float, smallest: float = 1e-2) -> Callable[[float, float], bool]:
    return lambda a, b: max(a, b) > factor * max(min(a, b), smallest)


@dataclass(frozen=True)
class Feature:
    """A number that is read off the evidence. `says` names it in a sentence with {there}, its value for a wrong cause,
    and {here}; `differs` is True for values that nobody confuses; `shown` puts a value into words."""

    says: str
    differs: Callable[[float, float], bool]
    shown: Callable[[float], str | float] = float

    def sentence(self, there: float, here: float) -> str:
        return self.says.format(there=self.shown(there), here=self.shown(here))


FEATURES = {
    "model": {
        "probe": Feature(
            "with it, {there:.0f} earlier positions would see the last token, and here {here:.0f} do.", one_is_zero
        ),
        "future": Feature(
            "with it, {there:.0%} of the first map's weight would be above the diagonal, and here {here:.0%} is.",
            differ_by(0.04),
        ),
        "reach": Feature(
            "with it, {there:.0f} earlier positions would see the last token, and here {here:.0f} do.", differ_by(100.0)
        ),
        "largest_row": Feature(
            "with it, some row of the first map would sum to {there:.1f}, and here the largest sum is {here:.1f}.",
            differ_by(0.2),
        ),
        "smallest_row": Feature(
            "with it, some row of the first map would sum to {there:.1f}, and here the smallest sum is {here:.1f}.",
            differ_by(0.2),
        ),
        "first": Feature(
            "with it, the largest change in the map of layer 1 would be {there:.2f}, and here it is {here:.2f}.",
            one_is_zero,
        ),
        "later": Feature(
            "with it, the largest change in the map of layer 3 would be {there:.2f}, and here it is {here:.2f}.",
            one_is_zero,
        ),
        "same_text": Feature(
            "compare the sample with that of the right model. A cause in the model would change it, and one in the "
            "loss would not.",
            differ_by(1.0),
        ),
        "entropy": Feature(
            "with it, the rows of the first map would have a mean entropy of {there:.1f} nats, and here {here:.1f}.",
            differ_by(0.35),
        ),
        "loss": Feature("with it, the loss would be {there:.1f}, and here it is {here:.1f}.", differ_by(0.8)),
    },
    "running": {
        "first": Feature(
            "with it, the logits would first be wrong {there}, and here they are first wrong {here}.",
            differ_by(1.0),
            lambda position: "nowhere" if position < 0 else f"at position {position:.0f}",
        ),
        "probe": Feature(
            "with it, {there:.0f} earlier positions would see the last token, and here {here:.0f} do.", one_is_zero
        ),
        "late": Feature(
            "with it, the logits of positions 40 to 55 would be off by {there:.1f} (median), and here by {here:.1f}.",
            differ_by_factor(2.0),
        ),
        "beyond": Feature(
            "with it, {there:.0%} of the drawn tokens would be beyond the top 20, and here {here:.0%} are.",
            differ_by(0.2),
        ),
        "largest": Feature(
            "with it, {there:.0%} of the drawn tokens would be the most probable one, and here {here:.0%} are.",
            differ_by(0.14),
        ),
    },
    "training": {
        "probe": Feature(
            "with it, {there:.0f} earlier positions would see the last token, and here {here:.0f} do.", one_is_zero
        ),
        "first_rate": Feature(
            "with it, the learning rate would begin at {there:.1e}, and here at {here:.1e}.",
            differ_by_factor(2.0, 1e-6),
        ),
        "lowest_rate": Feature(
            "with it, the lowest learning rate would be {there:.1e}, and here it is {here:.1e}.",
            lambda a, b: (a < 0) != (b < 0),
        ),
        "start": Feature(
            "with it, the training loss would begin at {there:.1f}, and here at {here:.1f}.", differ_by(0.8)
        ),
        "training": Feature(
            "with it, the training loss would end at {there:.1f}, and here at {here:.1f}.", differ_by(0.4)
        ),
        "held_out": Feature(
            "with it, the held-out loss would end at {there:.1f}, and here at {here:.1f}.", differ_by(0.4)
        ),
        "weights": Feature(
            "with it, the norm of the weights would change by the factor {there:.2f}, and here by {here:.2f}.",
            differ_by_factor(1.3),
        ),
        "gradient": Feature(
            "with it, the norm of the gradient would end near {there:.2g}, and here near {here:.2g}.",
            differ_by_factor(4.0),
        ),
    },
}
"""Features by part, in the order in which a sentence about a wrong name looks for one that speaks against it."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is seen of a case. `features` are numbers that a reader could read off the rest.

    part       "model", "running" or "training"
    sample     a text that was written
    maps       of the part "model": attention weights of the heads HEADS
    words      the tokens along their axes
    gaps       of "running": how far the logits with a cache are from those without, by position
    ranks      of "running": the rank of each drawn token, 0 for the most probable
    log        of "training": curves by name
    """

    part: str
    features: dict[str, float]
    sample: str
    maps: Float[Tensor, "maps seq seq"] | None = None
    words: tuple[str, ...] = ()
    gaps: Float[Tensor, " seq"] | None = None
    ranks: Int[Tensor, " drawn"] | None = None
    log: dict[str, Any] | None = None

    def differences(self, other: "Evidence") -> list[str]:
        """Names of the features in which two cases differ so much that nobody confuses them."""
        features = FEATURES[self.part].items()
        return [name for name, each in features if each.differs(self.features[name], other.features[name])]

    def unlike(self, here: "Evidence") -> str | None:
        """The first of these differences as the end of a sentence, where `here` is the case; None if there is none."""
        names = self.differences(here)
        if not names:
            return None
        return FEATURES[self.part][names[0]].sentence(self.features[names[0]], here.features[names[0]])


def evidence(part: str, cause: str, number: int) -> Evidence:
    """The evidence of a cause, or of "right". The number decides on which text it is measured."""
    if part == "training":
        return _of_training(cause, number % RUNS)
    setting = Setting(number % bug_plants.starts(), PROMPTS[number % len(PROMPTS)], number % 1000)
    try:
        return {"model": _of_model, "running": _of_running}[part](cause, setting)
    except KeyError as error:
        raise PocketError(f"The cases need the exercises of the earlier chapters: {error.args[0]}") from None


@cache
@torch.inference_mode()
def _of_model(cause: str, setting: Setting) -> Evidence:
    plant = None if cause == RIGHT else PLANTS["model"][cause]
    loss, probe = bug_plants.reading(plant, setting.start)
    maps = bug_plants.maps(plant, setting.start, HEADS)
    text = bug_plants.writing(plant, setting)
    right = None if cause == RIGHT else _of_model(RIGHT, setting)
    changes = [0.0, 0.0] if right is None else (maps - right.maps).abs().amax((1, 2)).tolist()
    ids = bug_plants.windows(setting.start)[0, : bug_plants.MAP_TOKENS].tolist()
    features = {
        "probe": float(probe),
        "reach": float(probe),
        "future": float(maps[0].triu(1).sum() / maps[0].sum()),
        "largest_row": float(maps[0].sum(-1).max()),
        "smallest_row": float(maps[0].sum(-1).min()),
        "first": changes[0],
        "later": changes[1],
        "same_text": float(right is None or text == right.sample),
        "entropy": bug_plants.entropy(maps[0]),
        "loss": loss,
    }
    words = tuple(trained().tokenizer.decode([each]) for each in ids)
    return Evidence(part="model", features=features, sample=text, maps=maps, words=words)


@cache
@torch.inference_mode()
def _of_running(cause: str, setting: Setting) -> Evidence:
    plant = None if cause == RIGHT else PLANTS["running"][cause]
    of_sampler = plant is not None and plant[0] in SAMPLER
    sampler = {plant[0]: bug_plants.mistake(*plant)} if of_sampler else {}
    in_model = None if of_sampler else plant
    loss, probe, gaps = bug_plants.cached_reading(in_model, setting.start)
    written = bug_plants.cached_writing(in_model, sampler, setting)
    wrong = (gaps > 1e-3).nonzero().flatten().tolist()
    features = {
        "first": float(wrong[0] if wrong else -1),
        "probe": float(probe),
        "late": float(gaps[40:56].median()),
        "beyond": float((written.ranks >= bug_plants.TOP_K).float().mean()),
        "largest": float((written.ranks == 0).float().mean()),
        "loss": loss,
    }
    return Evidence(part="running", features=features, sample=written.text, gaps=gaps, ranks=written.ranks)


@cache
def _of_training(cause: str, run: int) -> Evidence:
    log = json.loads(asset(FILE).read_text(encoding="utf-8"))[f"{cause} {run}"]
    numbers = {name: [math.nan if x is None else x for x in log[name]] for name in log if isinstance(log[name], list)}
    features = {
        "probe": float(log["probe"]),
        "first_rate": numbers["rate"][0],
        "lowest_rate": min(numbers["rate"]),
        "start": numbers["training"][0],
        "training": numbers["training"][-1],
        "held_out": numbers["held_out"][-1],
        "weights": numbers["weights"][-1] / numbers["weights"][0],
        "gradient": sum(numbers["gradient"][-4:]) / 4,
    }
    return Evidence(part="training", features=features, sample=log["sample"], log=log | numbers)
