"""Exercise `running_bugs`: what is wrong in the way five models are run."""

from pocketgpt.course.ch24_find_the_bug.shared import HINTS, add_form_mistakes, judge_of, right_names
from pocketgpt.course.checking.exercise import exercise


@exercise(points=5, returns=("answer",), hints=HINTS, judge=judge_of("running"))
def running_bugs() -> tuple[int, list[str]]:
    """A seed, and the causes of the five cases that follow from it."""
    return 1, right_names("running", 1)


add_form_mistakes(running_bugs, "running")


@running_bugs.finished
def read_off_the_evidence():
    return 1, [
        "last_of_the_prompt_alone",
        "cache_drops_the_oldest",
        "top_k_filled_with_zeros",
        "positions_restart",
        "one_position_too_few",
    ]


@running_bugs.accepted
def of_another_seed():
    seed = 2024
    names = [
        "temperature_multiplied",
        "last_of_the_prompt_alone",
        "cache_forgets_all",
        "top_k_filled_with_zeros",
        "chunk_without_a_mask",
    ]
    return seed, names


@running_bugs.accepted
def as_a_tuple_of_a_negative_seed():
    names = (
        "last_of_the_prompt_alone",
        "chunk_without_a_mask",
        "temperature_multiplied",
        "one_position_too_few",
        "top_k_filled_with_zeros",
    )
    return -3, names
