"""What an exercise says about itself for messages: the order in which results are made, and traits of its inputs."""

import pytest

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


def sentence(name, answer) -> str:
    return diagnose(find_exercise(name), answer, seed=0).sentence


def step_with(change):
    """An update of AdamW in which `change` is applied to m, v and the direction."""

    def adamw_step(p, grad, m, v, step, lr, beta1, beta2, eps, decay):
        m = change("m", beta1 * m + (1 - beta1) * grad)
        v = change("v", beta2 * v + (1 - beta2) * grad.square())
        direction = change("p", m / (1 - beta1**step) / ((v / (1 - beta2**step)).sqrt() + eps))
        return p * (1 - lr * decay) - lr * direction, m, v

    return adamw_step


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("m", "Your `m` is wrong, and the rest follows from it: look at the line that makes it."),
        ("v", "Your `m` is right, and your `v` is wrong: look at what is done after them."),
        ("p", "Your `m` and `v` are right, and your `p` is wrong: look at what is done after them."),
    ],
)
def test_the_result_that_is_wrong_first_is_told(wrong, said):
    answer = step_with(lambda name, x: x * (1.5 + x.sin()) if name == wrong else x)
    assert sentence("adamw_step", answer) == said.replace("after them", "after it" if wrong == "v" else "after them")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda step, warmup, steps: step < warmup, "This is right, except where `step` < `warmup`."),
        (lambda step, warmup, steps: step >= warmup, "This is right only where `step` < `warmup`."),
        (lambda step, warmup, steps: step >= steps, "This is right, except where `step` ≥ `steps`."),
        (lambda step, warmup, steps: step == warmup, "This is right, except where `step` = `warmup`."),
    ],
)
def test_traits_that_an_exercise_adds_are_told(wrong, said):
    finished = find_exercise("learning_rate").finished_answer

    def learning_rate(step, peak, floor, warmup, steps):
        rate = finished(step, peak, floor, warmup, steps)
        return rate + 0.017 * (1 + step % 3) if wrong(step, warmup, steps) else rate

    assert sentence("learning_rate", learning_rate) == said
