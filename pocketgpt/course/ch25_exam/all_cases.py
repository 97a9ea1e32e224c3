"""Exercise `all_cases`: all causes of the reader's own cases."""

from pocketgpt.course.ch25_exam.signing import add_wrong_answers, guess, judge_of, right_answer
from pocketgpt.course.checking.exercise import exercise


@exercise(points=4, hints=(), returns=("answer",), judge=judge_of(5), guess=guess, signed=True)
def all_cases() -> tuple[str, list[str]]:
    """A name, and the causes of the cases that follow from it."""
    return right_answer("Ada Lovelace")


add_wrong_answers(all_cases, needed=5)


@all_cases.finished
def of_ada() -> tuple[str, list[str]]:
    return "Ada Lovelace", ["loss_in_bits", "wrong_rope_layout", "leaking_mask", "no_warm_up", "cache_forgets_all"]


@all_cases.accepted
def of_alan_in_capitals():
    return "ALAN  TURING", (
        "softmax_over_queries",
        "gate_without_activation",
        "targets_not_shifted",
        "wrong_rope_layout",
        "positions_restart",
    )


@all_cases.accepted
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
