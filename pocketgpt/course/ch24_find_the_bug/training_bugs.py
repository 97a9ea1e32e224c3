"""Exercise `training_bugs`: what went wrong in five trainings."""

from pocketgpt.course.ch24_find_the_bug.shared import HINTS, add_form_mistakes, judge_of, right_names
from pocketgpt.course.checking.exercise import exercise


@exercise(points=5, returns=("answer",), hints=HINTS, judge=judge_of("training"))
def training_bugs() -> tuple[int, list[str]]:
    """A seed, and the causes of the five cases that follow from it."""
    return 1, right_names("training", 1)


add_form_mistakes(training_bugs, "training")


@training_bugs.finished
def read_off_the_evidence():
    return 1, [
        "long_gradients_dropped",
        "decay_without_the_rate",
        "targets_not_shifted",
        "targets_two_ahead",
        "no_warm_up",
    ]


@training_bugs.accepted
def of_another_seed():
    seed = 2024
    names = [
        "decay_without_the_rate",
        "long_gradients_dropped",
        "cosine_without_the_one",
        "no_warm_up",
        "targets_not_shifted",
    ]
    return seed, names


@training_bugs.accepted
def as_a_tuple_of_a_negative_seed():
    names = (
        "softmax_twice",
        "loss_in_bits",
        "decay_without_the_rate",
        "leaking_mask",
        "long_gradients_dropped",
    )
    return -3, names
