"""Exercise `model_bugs`: what is wrong inside five trained models."""

from pocketgpt.course.ch24_find_the_bug.shared import HINTS, add_form_mistakes, judge_of, right_names
from pocketgpt.course.checking.exercise import exercise


@exercise(points=5, returns=("answer",), hints=HINTS, judge=judge_of("model"))
def model_bugs() -> tuple[int, list[str]]:
    """A seed, and the causes of the five cases that follow from it."""
    return 1, right_names("model", 1)


add_form_mistakes(model_bugs, "model")


@model_bugs.finished
def read_off_the_evidence():
    return 1, [
        "no_causal_mask",
        "final_norm_forgotten",
        "no_scale",
        "gate_without_activation",
        "softmax_over_queries",
    ]


@model_bugs.accepted
def of_another_seed():
    seed = 2024
    names = [
        "wrong_rope_layout",
        "no_causal_mask",
        "loss_shifted_twice",
        "heads_cut_by_view",
        "softmax_over_queries",
    ]
    return seed, names


@model_bugs.accepted
def as_a_tuple_of_a_negative_seed():
    names = (
        "wrong_rope_layout",
        "loss_shifted_twice",
        "no_causal_mask",
        "final_norm_forgotten",
        "softmax_over_queries",
    )
    return -3, names
