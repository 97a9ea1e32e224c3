"""The one table of chapters. Whatever shows a chapter's number, name, order or exercises takes it from here.

A chapter that is not written yet has no exercises and no minutes. Nothing heavy is imported: an exercise's file only
when it is asked for.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal


@dataclass(frozen=True)
class Chapter:
    """One chapter; its number is its position in `CHAPTERS`.

    name        of the notebook without its number: "attention" is chapters/02_attention.ipynb
    title       its heading in the notebook
    minutes     a learner needs for it; None if it is not written yet
    needs       numbers of the chapters it builds on
    exercises   names, in their order
    place       panel of the model map in which its part is drawn; None if it has no place there
    """

    name: str
    title: str
    minutes: int | None = None
    needs: tuple[int, ...] = ()
    exercises: tuple[str, ...] = ()
    place: Literal["model", "block", "attention"] | None = None

    @property
    def number(self) -> int:
        return CHAPTERS.index(self)

    @property
    def file(self) -> str:
        """Name of its files, without an ending: "02_attention"."""
        return f"{self.number:02}_{self.name}"

    @property
    def package(self) -> str:
        """Name of its Python package."""
        return f"pocketgpt.course.ch{self.file}"


CHAPTERS = (
    Chapter("start_here", "Start here", 35, (), ("softmax",), "model"),
    Chapter("tokens", "Tokens", 80, (0,), ("count_pairs", "merge_pair", "encode_word", "decode", "embed"), "model"),
    Chapter(
        "attention",
        "Attention",
        75,
        (1,),
        ("attention_scores", "masked_softmax", "causal_mask", "attention"),
        "attention",
    ),
    Chapter(
        "scaling",
        "Why the scores are divided by √d_head",
        75,
        (2,),
        ("score_variance", "entropy", "softmax_jacobian", "scaled_attention"),
        "attention",
    ),
    Chapter("multi_head_attention", "Multi-head attention", place="attention"),
    Chapter("norm_and_residual", "Norms and the residual stream", place="block"),
    Chapter("feed_forward", "The feed-forward layer", place="block"),
    Chapter("positions", "Positions", place="model"),
    Chapter("rope", "RoPE", place="attention"),
    Chapter("grouped_query_attention", "Grouped-query attention", place="attention"),
    Chapter("the_gpt", "The whole GPT", place="model"),
    Chapter("generation", "Generation", place="model"),
    Chapter("kv_cache", "The KV cache", place="attention"),
    Chapter("flash_attention", "FlashAttention", place="attention"),
    Chapter("training", "Training", place="model"),
    Chapter("training_at_scale", "Training at scale"),
    Chapter("long_context", "Long context"),
    Chapter("latent_attention", "Latent attention"),
    Chapter("mixture_of_experts", "Mixture of experts"),
    Chapter("mamba", "Mamba"),
    Chapter("diffusion", "Masked diffusion"),
    Chapter("encoders", "BERT and T5"),
    Chapter("a_real_llm", "A real LLM"),
    Chapter("shipping", "Shipping"),
)


def written_chapters() -> tuple[Chapter, ...]:
    """The chapters that have notebooks."""
    return tuple(chapter for chapter in CHAPTERS if chapter.exercises)


def find_chapter(name: str) -> Chapter | None:
    """The chapter of that name, with ("02_attention") or without ("attention") its number; None if there is none."""
    return next((chapter for chapter in CHAPTERS if name in (chapter.name, chapter.file)), None)


def exercise_names() -> tuple[str, ...]:
    """Names of all exercises, in their order."""
    return tuple(name for chapter in CHAPTERS for name in chapter.exercises)


def find_exercise(name: str) -> Any:
    """The `Exercise` of that name; only its own file is imported. Raises KeyError if there is none."""
    for chapter in CHAPTERS:
        if name in chapter.exercises:
            return getattr(import_module(f"{chapter.package}.{name}"), name)
    raise KeyError(f"There is no exercise {name!r}. There are: {', '.join(exercise_names())}.")


def exercise_number(name: str) -> str:
    """The number of an exercise, "2.3" for the third one of chapter 2. Raises KeyError if there is none."""
    for chapter in CHAPTERS:
        if name in chapter.exercises:
            return f"{chapter.number}.{chapter.exercises.index(name) + 1}"
    raise KeyError(f"There is no exercise {name!r}.")


def all_exercises() -> dict[str, Any]:
    """Every `Exercise` by name, in their order."""
    return {name: find_exercise(name) for name in exercise_names()}
