"""The report of a transplant finds wrong numbers by the loss, leaks by the causality probe, and echoes predictions."""

import pytest
import torch

from pocketgpt.course.lab import predict
from pocketgpt.course.lab.caching import assembled_layer
from pocketgpt.course.lab.pocket import pocket_model
from pocketgpt.course.lab.reporting import before_and_after, earlier_changes
from pocketgpt.course.lab.transplanting import transplant
from pocketgpt.course.siblings.family import TRAINED_LENGTH
from pocketgpt.course.syllabus import find_exercise

WINDOW = torch.arange(60)[None] + 300


def scores(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def everything(queries, keys):
    return torch.ones(len(queries), len(keys), dtype=torch.bool)


def one_too_far(queries, keys):
    return keys[None] <= queries[:, None] + 1


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_report_tells_a_right_function_from_a_wrong_one(capsys):
    before_and_after(attention_scores=scores, new_tokens=5)
    assert "✓ The same loss and the same words" in last_line(capsys)
    before_and_after(attention_scores=lambda q, k: q @ k.mT, new_tokens=5)
    assert "The loss rose from" in last_line(capsys)


def test_the_report_does_not_praise_the_finished_version(capsys):
    before_and_after(attention_scores=find_exercise("attention_scores").finished_answer, new_tokens=5)
    printed = capsys.readouterr().out
    assert "With the finished attention_scores" in printed and "The same loss" in printed and "✓" not in printed


def test_the_report_counts_the_positions_that_see_a_later_token(capsys):
    before_and_after(causal_mask=everything, new_tokens=1)
    printed = capsys.readouterr().out
    assert "later token: 0 of 255" in printed and "later token: 255 of 255" in printed


@pytest.mark.parametrize("function", [{}, {"attention_scores": lambda q, k: 3 * scores(q, k)}])
def test_no_earlier_position_of_a_causal_model_changes(function):
    assert earlier_changes(transplant(pocket_model(), **function), WINDOW) == 0


def test_the_probe_sees_a_mask_that_reaches_one_token_too_far():
    reached = earlier_changes(transplant(pocket_model(), causal_mask=one_too_far), WINDOW)
    assert 1 <= reached <= pocket_model().config.n_layers  # each layer carries it one position back, and weakens it


def test_rounding_is_no_leak():
    def maximum_of_all(x, dim):
        raised = (x - x.max()).exp()
        return raised / raised.sum(dim, keepdim=True)

    assert earlier_changes(transplant(pocket_model(), softmax=maximum_of_all), WINDOW) == 0


@pytest.mark.parametrize(("guess", "echo"), [(0.5, "0.5"), (("a", "c"), "('a', 'c')"), (..., "none yet")])
def test_a_prediction_is_echoed_beside_its_outcome_and_keeps_both(capsys, guess, echo):
    prediction = predict(guess)
    prediction.compare("0.71")
    said, computed = capsys.readouterr().out.splitlines()
    assert said.startswith(f"Your prediction: {echo}")
    assert computed == "The outcome:     0.71"
    assert (prediction.guess, prediction.outcome) == (guess, "0.71")


def test_several_guesses_are_given_with_commas_or_as_a_list(capsys):
    assert predict(60, 60, 60).guess == predict([60, 60, 60]).guess == [60, 60, 60]
    assert predict().guess is predict(...).guess is ...
    predict(1.7, 4.2).compare([1.98, 4.17])
    assert capsys.readouterr().out == "Your prediction: [1.7, 4.2]\nThe outcome:     [1.98, 4.17]\n"


def test_the_report_puts_a_prediction_beside_its_verdict(capsys):
    before_and_after(causal_mask=everything, guess=predict("fall"), new_tokens=1)
    said, computed = capsys.readouterr().out.splitlines()[-2:]
    assert said == "Your prediction: fall"
    assert computed.startswith("The outcome:     The loss ")


def attention_without_a_mask(q, keys, values, query_positions, key_positions, window):
    return torch.nn.functional.scaled_dot_product_attention(q, keys, values, enable_gqa=True)


def test_a_function_that_works_with_a_cache_is_measured_in_a_model_that_reads_with_one(capsys):
    before_and_after(model="gqa", cached_layer=assembled_layer, new_tokens=5)
    assert "✓ The same loss and the same words" in last_line(capsys)
    before_and_after(model="gqa", decode_attention=attention_without_a_mask, new_tokens=5)
    printed = capsys.readouterr().out
    last = TRAINED_LENGTH - 1
    assert f"later token: 0 of {last}" in printed and f"later token: 7 of {last}" in printed  # in the chunk at the end
