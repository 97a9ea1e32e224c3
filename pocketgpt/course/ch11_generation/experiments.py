"""Experiments of chapter 11: what a temperature or a filter does to the text that the shipped model writes.

    python -m pocketgpt.course.ch11_generation.experiments        # two minutes on one idle thread

`measured_texts()` reads the results from experiments.json beside this file. A setting writes the speeches of four
speakers with three seeds; Shakespeare's own are speeches of the validation plays, which the model has not read.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from pocketgpt.course.lab.pocket import pocket_model, pocket_tokenizer
from pocketgpt.files import write_json
from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.text.corpora import load_corpus

RESULTS = Path(__file__).with_name("experiments.json")
SPEAKERS = ("ROMEO:\n", "MACBETH:\n", "KING JOHN:\n", "JULIET:\n")
NEW_TOKENS = 120
SEEDS = range(3)
EXCERPTS = 64  # of Shakespeare

SETTINGS: dict[str, dict] = {
    **{f"T = {t:g}": {"temperature": float(t)} for t in (0, 0.5, 0.8, 1, 1.5, 2)},
    **{
        f"T = {t:g}, {name}": {"temperature": float(t), **options}
        for t in (1, 1.5)
        for name, options in {
            "top-k 40": {"top_k": 40},
            "top-p 0.9": {"top_p": 0.9},
            "min-p 0.1": {"min_p": 0.1},
        }.items()
    },
    "T = 0.8, top-k 40": {"temperature": 0.8, "top_k": 40},
}
"""Options of the Sampler by the name of the setting. No filter is set but those that are named."""
SHAKESPEARE = "Shakespeare"
"""The name of the last row: speeches of the validation plays."""

Text = tuple[list[int], list[int]]
"""A prompt, and the tokens that were written after it."""


@dataclass(frozen=True)
class Measured:
    """Measurements of some texts: means, and of a sampled setting the lowest and the highest of its seeds.

    repeated   share of a text's 4-grams of tokens that occurred in it before
    surprise   −ln of the probability that the model gives to a token that was written, in nats, at temperature 1
    entropy    of the model's distribution at the same places, in nats, at temperature 1
    """

    repeated: float
    surprise: float
    entropy: float
    repeated_range: list[float]
    surprise_range: list[float]


def repeated_4_grams(tokens: list[int]) -> float:
    """Share of the 4-grams of a text that occurred in it before."""
    grams = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    return 1 - len(set(grams)) / len(grams)


@torch.no_grad()
def surprise_and_entropy(
    model: GPT, prompt: list[int], written: list[int]
) -> tuple[Float[Tensor, " new"], Float[Tensor, " new"]]:
    """Surprise and entropy at every token that was written after the prompt, in nats."""
    tokens = torch.tensor([prompt + written])
    log_p = model(tokens[:, :-1])[0, len(prompt) - 1 :].log_softmax(dim=-1)
    surprise = -log_p.gather(-1, tokens[0, len(prompt) :, None])[:, 0]
    return surprise, -(log_p.exp() * log_p).sum(dim=-1)


def speeches(plays: list[str], rng: torch.Generator) -> list[Text]:
    """Random excerpts of plays: a speaker's name with its colon and line break, and NEW_TOKENS tokens after it."""
    tokenizer = pocket_tokenizer()
    places = [(play, match) for play in plays for match in re.finditer(r"(?<=\n\n)[A-Z ]+:\n", play)]
    places = [(play, match) for play, match in places if match.end() + 8 * NEW_TOKENS < len(play)]
    order = torch.randperm(len(places), generator=rng)[:EXCERPTS].tolist()
    return [
        (tokenizer.encode(match.group()), tokenizer.encode(play[match.end() :][: 8 * NEW_TOKENS])[:NEW_TOKENS])
        for play, match in (places[i] for i in order)
    ]


def written_by(model: GPT, sampler: Sampler, seed: int) -> list[Text]:
    """The model's own speeches, one for each speaker."""
    prompts = [pocket_tokenizer().encode(speaker) for speaker in SPEAKERS]
    written = generate(model, prompts, max_new_tokens=NEW_TOKENS, sampler=sampler, seed=seed)
    return list(zip(prompts, written, strict=True))


def measure(model: GPT, texts: list[Text]) -> list[float]:
    """Mean repeated 4-grams, surprise and entropy of texts."""
    rows = []
    for prompt, written in texts:
        surprise, entropy = surprise_and_entropy(model, prompt, written)
        rows.append((repeated_4_grams(written), surprise.mean().item(), entropy.mean().item()))
    return torch.tensor(rows).mean(dim=0).tolist()


def summary(by_seed: list[list[float]]) -> dict[str, float | list[float]]:
    """The fields of Measured: the mean over seeds, and the lowest and highest seed."""
    table = torch.tensor(by_seed)
    repeated, surprise, entropy = (round(mean, 3) for mean in table.mean(dim=0).tolist())
    lowest, highest = (torch.round(x, decimals=3).tolist() for x in (table.amin(dim=0), table.amax(dim=0)))
    return {
        "repeated": repeated,
        "surprise": surprise,
        "entropy": entropy,
        "repeated_range": [round(lowest[0], 3), round(highest[0], 3)],
        "surprise_range": [round(lowest[1], 3), round(highest[1], 3)],
    }


def measured_texts() -> dict[str, Measured]:
    """The stored measurements, by the name of the setting; those of Shakespeare are the last."""
    return {name: Measured(**each) for name, each in json.loads(RESULTS.read_text()).items()}


def main() -> None:
    """Measure every setting, and Shakespeare, and store the results."""
    torch.set_num_threads(1)
    model, results = pocket_model(), {}
    for name, options in tqdm(SETTINGS.items(), unit="setting"):
        sampler = Sampler(**{"top_k": None, **options})
        seeds = SEEDS if sampler.temperature else SEEDS[:1]
        results[name] = summary([measure(model, written_by(model, sampler, seed)) for seed in seeds])
    plays = load_corpus("shakespeare", "validation")
    results[SHAKESPEARE] = summary([measure(model, speeches(plays, torch.Generator().manual_seed(0)))])
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
