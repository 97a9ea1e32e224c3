"""The pictures of chapter 13 can be drawn and say what to see; its instruments measure what they say."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from pocketgpt.course.ch13_flash_attention import experiments, figures
from pocketgpt.course.ch13_flash_attention.shared import right_merge, whole_square
from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


@pytest.fixture
def drawn(monkeypatch):
    """The figure that a function drew."""
    matplotlib.use("agg")
    monkeypatch.setattr(plt, "show", lambda: plt.gcf().canvas.draw())
    yield plt.gcf
    plt.close("all")


def draw_all():
    q, k = torch.randn(2, 24, 4, generator=torch.Generator().manual_seed(0))
    visited = find_exercise("visited_tiles").finished_answer(24, 8, 5)
    visits = experiments.visits(right_merge, q, k, 8, 5)
    curves = {name: [1.0, 2.0, 4.0] for name in "abc"}
    return {
        "tiles_in_order": lambda: figures.tiles_in_order(visited, visits, 3, 24, 8, 5),
        "time_and_memory": lambda: figures.time_and_memory([256, 512, 1024], curves, curves),
    }


@pytest.mark.parametrize("name", draw_all())
def test_a_picture_says_what_to_see_and_names_its_axes(name, drawn):
    draw_all()[name]()
    figure = drawn()
    assert figure.get_suptitle()
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)


def test_the_visits_are_the_tiles_of_the_exercise_and_end_in_the_whole_softmax():
    q, k = torch.randn(2, 13, 4, generator=torch.Generator().manual_seed(0))
    found = experiments.visits(right_merge, q, k, 4, 3)
    visited = find_exercise("visited_tiles").finished_answer(13, 4, 3)
    assert [[each.row, each.column] for each in found] == visited.nonzero().tolist()
    scores = q[-1] @ k.T / 2
    assert found[-1].largest == pytest.approx(scores.max().item())
    assert found[-1].total == pytest.approx((scores - scores.max()).exp().sum().item(), rel=1e-5)


def test_peak_memory_is_what_a_call_holds_at_once():
    def three_and_then_one(x):
        first = x + 1
        second = first + 1
        del first
        return second + 1

    found = experiments.peak_bytes(three_and_then_one, torch.zeros(100_000))
    assert found == pytest.approx(2 * 400_000, abs=100)  # a few bytes for the number 1


def test_peak_memory_of_the_tiled_form_is_the_closed_form():
    q, k, v = torch.randn(3, 1, 1, 1024, 32)
    tiled = find_exercise("tiled_attention").finished_answer
    _, counted = find_exercise("attention_numbers").finished_answer(1024, 32, 64, 32)
    measured = experiments.peak_bytes(tiled, q, k, v, 64, 32) / 4
    assert counted <= measured < 1.3 * counted


def test_the_operator_that_ran_is_named():
    q = torch.randn(1, 2, 16, 8)
    attend = F.scaled_dot_product_attention
    assert experiments.operator_that_ran(attend, q, q, q) == "flash_attention_for_cpu"
    assert experiments.operator_that_ran(attend, q, q, q, dropout_p=0.1) == "attention_math"


def test_an_exponent_is_fitted():
    assert experiments.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def whole_matrix(q, k, v, rows, columns):
    hidden = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
    return scores.softmax(-1) @ v, scores.logsumexp(-1)


def test_right_values_by_the_whole_square_are_refused():
    assert "one entry for each pair of tokens" in diagnose(find_exercise("tiled_attention"), whole_matrix).sentence
    assert whole_square(lambda: torch.zeros(3, 2), 3) is None


def in_tiles(high, wide, end):
    """The finished answer with a size of its own, and with the keys up to `end` of a row of tiles that begins at i."""

    def answer(q, k, v, rows, columns):
        seq, (rows, columns) = q.shape[-2], (high(rows, columns), wide(rows, columns))
        outputs, sums = [], []
        for i in range(0, seq, rows):
            queries = q[..., i : i + rows, :] / q.shape[-1] ** 0.5
            largest = queries.new_full(queries.shape[:-1], -torch.inf)
            state = largest, torch.zeros_like(largest), torch.zeros_like(queries)
            for j in range(0, min(end(i, rows), seq), columns):
                scores = queries @ k[..., j : j + columns, :].mT
                later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(i - j + 1)
                state = right_merge(state, scores.masked_fill(later, -torch.inf), v[..., j : j + columns, :])
            outputs.append(state[2] / state[1][..., None])
            sums.append(state[0] + state[1].log())
        return torch.cat(outputs, dim=-2), torch.cat(sums, dim=-1)

    return answer


@pytest.mark.parametrize(
    ("high", "wide", "end", "said"),
    [
        (lambda r, c: r, lambda r, c: c, lambda i, r: i + r, None),
        (lambda r, c: c, lambda r, c: r, lambda i, r: i + r, "rows and columns are exchanged"),
        (lambda r, c: r, lambda r, c: 99, lambda i, r: i + r, "in steps of `columns`"),
        (lambda r, c: 99, lambda r, c: c, lambda i, r: i + r, "in steps of `rows`"),
        (lambda r, c: 1, lambda r, c: 1, lambda i, r: i + r, "no tile has scores of shape (5, 4)"),
        (lambda r, c: r, lambda r, c: c, lambda i, r: 99, "tiles are computed that are hidden as a whole"),
        (lambda r, c: r, lambda r, c: c, lambda i, r: i + r + 1, "tiles are computed that are hidden as a whole"),
    ],
)
def test_tiles_of_another_size_and_hidden_ones_are_refused(high, wide, end, said):
    diagnosis = diagnose(find_exercise("tiled_attention"), in_tiles(high, wide, end))
    assert diagnosis is None if said is None else said in diagnosis.sentence


def test_tiles_skipped_by_the_mask_and_cut_at_the_last_query_pass():
    def answer(q, k, v, rows, columns):
        outputs, sums = [], []
        for i, queries in enumerate(q.split(rows, dim=-2)):
            largest = queries.new_full(queries.shape[:-1], -torch.inf)
            state = largest, torch.zeros_like(largest), torch.zeros_like(queries)
            for j, (keys, values) in enumerate(zip(k.split(columns, -2), v.split(columns, -2), strict=True)):
                at = torch.arange(queries.shape[-2])[:, None] + i * rows
                later = torch.arange(keys.shape[-2]) + j * columns > at
                seen = int((~later).any(0).sum())
                if seen:
                    scores = (queries @ keys.mT / q.shape[-1] ** 0.5).masked_fill(later, -torch.inf)
                    state = right_merge(state, scores[..., :seen], values[..., :seen, :])
            outputs.append(state[2] / state[1][..., None])
            sums.append(state[0] + state[1].log())
        return torch.cat(outputs, dim=-2), torch.cat(sums, dim=-1)

    assert diagnose(find_exercise("tiled_attention"), answer) is None


def test_all_scores_side_by_side_are_refused():
    def in_one(pieces):
        widths = [scores.shape[-1] for scores, _ in pieces]
        everything = pieces[0][0].new_zeros(*pieces[0][0].shape[:-1], sum(widths))
        output, at = 0, 0
        for (scores, _), width in zip(pieces, widths, strict=True):
            everything[..., at : at + width] = scores
            at += width
        weights = everything.softmax(-1).nan_to_num()
        for (_, values), part in zip(pieces, weights.split(widths, dim=-1), strict=True):
            output = output + part @ values
        return output

    assert "put side by side again" in diagnose(find_exercise("streamed_softmax"), in_one).sentence
