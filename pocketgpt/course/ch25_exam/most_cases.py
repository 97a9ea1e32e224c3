"""Exercise `most_cases`: at least three of the five causes of the reader's own cases."""

from pocketgpt.course.ch25_exam.signing import add_wrong_answers, guess, judge_of, right_answer
from pocketgpt.course.checking.exercise import exercise


@exercise(points=5, hints=(), returns=("answer",), judge=judge_of(3), guess=guess, signed=True)
def most_cases() -> tuple[str, list[str]]:
    """A name, and the causes of the cases that follow from it."""
    return right_answer("Ada Lovelace")


add_wrong_answers(most_cases, needed=3)


@most_cases.finished
def of_ada() -> tuple[str, list[str]]:
    return "Ada Lovelace", ["loss_in_bits", "wrong_rope_layout", "leaking_mask", "no_warm_up", "cache_forgets_all"]


@most_cases.accepted
def three_of_alan_in_capitals():
    return "ALAN  TURING", [
        "softmax_over_queries",
        "gate_without_activation",
        "targets_not_shifted",
        "no_scale",
        "one_position_too_few",
    ]


@most_cases.accepted
def a_list_of_grace():
    return [
        "Grace Hopper",
        [
            "cosine_without_the_one",
            "targets_two_ahead",
            "chunk_without_a_mask",
            "long_gradients_dropped",
            "gate_without_activation",
        ],
    ]
