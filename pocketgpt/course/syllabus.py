"""The table of chapters: the only place that fixes their numbers, their order and their exercises.

An exercise's number follows from its chapter and its position: the third exercise of chapter 02 is "2.3".
The exercises themselves are imported one at a time, when they are asked for.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Chapter:
    """One chapter, written or planned.

    topic      "attention": the name after the number
    title      the heading of the notebook, without the number
    minutes    time to work through it, or None while it is planned
    needs      numbers of the chapters it builds on
    exercises  names in the order of the notebook; empty while it is planned
    on_map     whether the model map shows a part with its number
    hints      whether its exercises have hints: those of an exam have none
    """

    number: int
    topic: str
    title: str
    minutes: int | None = None
    needs: tuple[int, ...] = ()
    exercises: tuple[str, ...] = ()
    on_map: bool = False
    hints: bool = True

    @property
    def name(self) -> str:
        """'02_attention': the name of its files in chapters/ and solutions/."""
        return f"{self.number:02d}_{self.topic}"

    @property
    def room(self) -> str:
        """'ch02_attention': the name of its package in pocketgpt/course."""
        return f"ch{self.name}"

    @property
    def written(self) -> bool:
        return bool(self.exercises)

    @property
    def installed(self) -> bool:
        """True if its exercises are on this machine. A hand-out contains only the chapters it was made for."""
        return self.written and (Path(__file__).parent / self.room).is_dir()


CHAPTERS = (
    # Part I: the model
    Chapter(0, "start_here", "Start here", 35, (), ("softmax",), on_map=True),
    Chapter(
        1, "tokens", "Tokens", 80, (0,), ("count_pairs", "merge_pair", "encode_word", "decode", "embed"), on_map=True
    ),
    Chapter(
        2,
        "attention",
        "Attention",
        75,
        (1,),
        ("attention_scores", "masked_softmax", "causal_mask", "attention"),
        on_map=True,
    ),
    Chapter(
        3,
        "scaling",
        "Why the scores are divided by √d_head",
        75,
        (2,),
        ("score_variance", "entropy", "softmax_jacobian", "scaled_attention"),
        on_map=True,
    ),
    Chapter(
        4,
        "multi_head_attention",
        "Multi-head attention",
        85,
        (2, 3),
        ("split_heads", "merge_heads", "multi_head_attention", "head_contributions", "attention_costs"),
        on_map=True,
    ),
    Chapter(
        5,
        "norm_and_residual",
        "Norm and residual",
        90,
        (4,),
        ("layer_norm", "rms_norm", "pre_norm", "post_norm", "gradient_norms", "stream_share"),
        on_map=True,
    ),
    Chapter(
        6,
        "feed_forward",
        "Feed-forward",
        80,
        (5,),
        ("gelu", "relu_squared", "swiglu", "hidden_size", "keep_largest"),
        on_map=True,
    ),
    Chapter(
        7,
        "positions",
        "Positions",
        75,
        (2,),
        ("order_error", "sinusoids", "add_positions", "shift_matrix"),
        on_map=True,
    ),
    Chapter(
        8,
        "rope",
        "RoPE",
        90,
        (3, 7),
        ("rope_frequencies", "apply_rope", "score_at", "to_half_split", "stretch"),
        on_map=True,
    ),
    Chapter(
        9,
        "grouped_query_attention",
        "Grouped-query attention",
        75,
        (4, 8),
        ("expand_kv_heads", "grouped_attention", "cache_bytes", "pool_kv_heads"),
        on_map=True,
    ),
    Chapter(
        10,
        "the_gpt",
        "The GPT",
        100,
        (4, 5, 6, 7, 8, 9),
        ("transformer_block", "gpt", "next_token_loss", "count_parameters", "init_std", "count_flops"),
        on_map=True,
    ),
    # Part II: running it
    Chapter(
        11,
        "generation",
        "Generation",
        90,
        (3, 10),
        ("temper", "keep_top_k", "keep_top_p", "draw", "write", "write_batch"),
        on_map=True,
    ),
    Chapter(
        12,
        "kv_cache",
        "KV cache",
        85,
        (8, 9, 11),
        ("append_kv", "decode_attention", "cached_layer", "ring_positions", "work"),
        on_map=True,
    ),
    Chapter(
        13,
        "flash_attention",
        "FlashAttention",
        90,
        (0, 12),
        (
            "merge_piece",
            "streamed_softmax",
            "visited_tiles",
            "tiled_attention",
            "attention_numbers",
            "tiled_gradients",
        ),
        on_map=True,
    ),
    # Part III: training it
    Chapter(
        14,
        "training",
        "Training",
        100,
        (10,),
        ("make_batch", "cross_entropy", "learning_rate", "adamw_step", "clip_gradients", "perplexity"),
        on_map=True,
    ),
    Chapter(
        15,
        "training_at_scale",
        "Training at scale",
        90,
        (10, 14),
        ("part_weights", "shard", "loss_scale_step", "training_flops", "training_bytes"),
    ),
    # Part IV: beyond
    Chapter(16, "long_context", "Long context"),
    Chapter(17, "latent_attention", "Latent attention"),
    Chapter(18, "mixture_of_experts", "Mixture of experts"),
    Chapter(19, "mamba", "Mamba"),
    Chapter(20, "diffusion", "Diffusion"),
    Chapter(21, "encoders", "Encoders"),
    Chapter(22, "a_real_llm", "A real LLM"),
    Chapter(23, "shipping", "Shipping"),
    # Beside the parts: one section after each of the first three
    Chapter(
        24,
        "find_the_bug",
        "Find the bug",
        75,
        (10, 13, 15),
        ("model_bugs", "running_bugs", "training_bugs"),
    ),
    Chapter(
        25,
        "exam",
        "Exam",
        90,
        (5, 8, 9, 10, 15, 24),
        (
            "most_cases",
            "all_cases",
            "window_attention",
            "parallel_block",
            "model_size",
            "serving_plan",
            "training_plan",
        ),
        hints=False,
    ),
)


def exercise_names() -> tuple[str, ...]:
    """The names of all exercises on this machine, in order. Imports none of them."""
    return tuple(name for chapter in CHAPTERS if chapter.installed for name in chapter.exercises)


def chapter_of(exercise: str) -> Chapter:
    """The chapter that asks an exercise. Raises KeyError if none does."""
    for chapter in CHAPTERS:
        if exercise in chapter.exercises:
            return chapter
    raise KeyError(f"There is no exercise {exercise!r}. There are: {', '.join(exercise_names())}.")


@cache
def find_exercise(name: str) -> Any:
    """The Exercise of that name. Imports its file and no other exercise. Raises KeyError if there is none."""
    chapter = chapter_of(name)
    if not chapter.installed:
        raise KeyError(f"The exercise {name!r} belongs to chapter {chapter.name}, which is not installed.")
    exercise = getattr(import_module(f"{__package__}.{chapter.room}.{name}"), name)
    exercise.number = f"{chapter.number}.{chapter.exercises.index(name) + 1}"
    return exercise


def all_exercises() -> dict[str, Any]:
    """Every exercise on this machine by name, in order. Imports them all."""
    return {name: find_exercise(name) for name in exercise_names()}
