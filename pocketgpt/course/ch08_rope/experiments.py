"""Experiments of chapter 08: the shipped model on texts longer than it was trained on.

    python -m pocketgpt.course.ch08_rope.experiments        # a quarter of an hour on one idle thread

`losses_by_position()` and `copy_losses()` read the results from experiments.json beside this file. The text is that of
the validation plays, which the model has not read. No weights are changed: the models differ in their angles, or
in how far back a token sees.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pocketgpt.course.lab.pocket import pocket_model, pocket_tokenizer
from pocketgpt.files import write_json
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.corpora import load_corpus

RESULTS = Path(__file__).with_name("experiments.json")
TRAINED = 256  # tokens in a training window of the shipped model
LONG = 1024
BIN = 64  # tokens whose losses are averaged
TEXTS = 48
FACTORS = (2, 4, 8)
COPIED = 48  # tokens of the passage that a text repeats
DISTANCES = (64, 128, 192, 256, 320, 384, 512, 640, 768, 960)

ROPES: dict[str, dict] = {
    "plain": {},
    **{f"linear {n}": {"scaling": "linear", "factor": float(n)} for n in FACTORS},
    **{f"ntk {n}": {"scaling": "ntk", "factor": float(n)} for n in FACTORS},
    **{f"yarn {n}": {"scaling": "yarn", "factor": float(n), "original_max_seq_len": TRAINED} for n in FACTORS},
    "llama3 4": {"scaling": "llama3", "factor": 4.0, "original_max_seq_len": TRAINED},
    "dynamic": {"scaling": "dynamic", "original_max_seq_len": TRAINED},
}
"""Fields of RopeConfig by the name of the variant. The factor is part of the name."""
WINDOWS = {"window 128": 128, "window 256": 256}
"""Variants with plain angles whose tokens see only so many tokens, themselves included."""
COPYING = ("plain", "linear 4", "ntk 4", "yarn 4", "dynamic", "window 256")
"""Variants that read texts with a copy as well."""


def long_model(variant: str = "plain") -> GPT:
    """The shipped model with the angles or the window of a variant, for texts of up to LONG tokens."""
    model = pocket_model()
    mixer = replace(model.config.mixer, window=WINDOWS.get(variant))
    rope = RopeConfig(**ROPES.get(variant, {}))
    longer = GPT(replace(model.config, max_seq_len=LONG, mixer=mixer, rope=rope))
    longer.load_state_dict(model.state_dict())
    return longer.eval()


@torch.inference_mode()
def token_losses(model: GPT, texts: Int[Tensor, "texts seq"]) -> Float[Tensor, "texts seq-1"]:
    """Loss of every token but the first, in nats."""
    losses = []
    for text in texts:
        logits = model(text[None, :-1])[0]
        losses.append(F.cross_entropy(logits, text[1:], reduction="none"))
    return torch.stack(losses)


def binned(model: GPT, texts: Int[Tensor, "texts seq"], growing: bool = False) -> list[float]:
    """Mean loss of every BIN tokens. If `growing`, each is measured where the text ends with it, because angles that
    depend on the length of the text are those of that moment."""
    if not growing:
        return rounded(token_losses(model, texts).view(len(texts), -1, BIN).mean(dim=(0, 2)))
    ends = range(BIN, texts.shape[1], BIN)
    return rounded(torch.stack([token_losses(model, texts[:, : end + 1])[:, -BIN:].mean() for end in ends]))


def rounded(losses: Tensor) -> list[float]:
    return [round(loss, 3) for loss in losses.tolist()]


def long_texts(plays: list[Tensor], rng: torch.Generator) -> Int[Tensor, "texts seq"]:
    """TEXTS excerpts that do not overlap, with one token more than LONG."""
    excerpts = torch.cat([play[: len(play) // (LONG + 1) * (LONG + 1)].view(-1, LONG + 1) for play in plays])
    return excerpts[torch.randperm(len(excerpts), generator=rng)[:TEXTS]]


def texts_with_a_copy(plays: list[Tensor], distance: int, rng: torch.Generator) -> Int[Tensor, "texts seq"]:
    """A passage of COPIED tokens, other text, and the passage again, `distance` tokens after its first beginning."""

    def excerpt(play: Tensor, length: int) -> Tensor:
        start = int(torch.randint(len(play) - length, (), generator=rng))
        return play[start : start + length]

    texts = []
    for i in range(TEXTS):
        passage = excerpt(plays[i % len(plays)], COPIED)
        between = excerpt(plays[(i + 1) % len(plays)], distance - COPIED)
        texts.append(torch.cat((passage, between, passage)))
    return torch.stack(texts)


def losses_by_position() -> dict[str, list[float]]:
    """Mean loss of tokens 1–64, 65–128, … of a text of 1,024, by variant, in nats per token."""
    return json.loads(RESULTS.read_text())["by position"]


def copy_losses() -> dict[str, dict[int, float]]:
    """Mean loss on the second half of a repeated passage, by variant and by distance in tokens."""
    stored = json.loads(RESULTS.read_text())["copies"]
    return {variant: {int(distance): loss for distance, loss in each.items()} for variant, each in stored.items()}


def main() -> None:
    """Measure every variant, and store the losses."""
    torch.set_num_threads(1)
    tokenizer = pocket_tokenizer()
    plays = [torch.tensor(tokenizer.encode(text)) for text in load_corpus("shakespeare", "validation")]
    texts = long_texts(plays, torch.Generator().manual_seed(0))
    by_position, copies = {}, {}
    for variant in tqdm(COPYING, unit="variant"):
        model = long_model(variant)
        copies[variant] = {}
        for distance in DISTANCES:
            repeated = texts_with_a_copy(plays, distance, torch.Generator().manual_seed(distance))
            copies[variant][distance] = round(token_losses(model, repeated)[:, -COPIED // 2 :].mean().item(), 3)
        write_json(RESULTS, {"by position": by_position, "copies": copies})
    for variant in tqdm([*ROPES, *WINDOWS], unit="variant"):
        by_position[variant] = binned(long_model(variant), texts, growing=variant == "dynamic")
        write_json(RESULTS, {"by position": by_position, "copies": copies})


if __name__ == "__main__":
    main()
