"""Exercise `make_batch`: windows of a text, and the tokens that follow theirs."""

import torch
from jaxtyping import Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, returns=("inputs", "targets"), sizes={"length": (29, 37, 41)})
def make_batch(
    tokens: Int[Tensor, " length"], starts: Int[Tensor, " batch"], seq: int
) -> tuple[Int[Tensor, "batch _"], Int[Tensor, "batch _"]]:
    """PyTorch's `unfold`, which makes all windows, and a choice among them."""
    windows = tokens.unfold(0, seq + 1, 1)[starts]
    return windows[:, :-1], windows[:, 1:]


@make_batch.values
def tokens(rng, shape):
    return torch.randint(500, shape, generator=rng)


@make_batch.values
def seq(rng):
    return 5 + int(torch.randint(5, (), generator=rng))


@make_batch.values
def starts(rng, shape, tokens, seq):
    return 2 + torch.randperm(len(tokens) - seq - 5, generator=rng)[: shape[0]]


@make_batch.inputs
def _(rng):
    for length, seq in [(31, 6), (23, 9), (12, 11)]:
        tokens = torch.randint(500, (length,), generator=rng)
        yield tokens, torch.tensor([length - seq - 1, 0]), seq  # the last window that has a target for each place
    yield torch.randint(500, (35,), generator=rng), torch.tensor([9, 3, 9, 20]), 1


def _rows(tokens, starts, n):
    """n tokens from each start."""
    return torch.stack([tokens[start : start + n] for start in starts.tolist()])


@make_batch.mistake(hint=1)
def targets_are_the_inputs(tokens, starts, seq):
    """The targets are the inputs: at each place the target is the token after it."""
    rows = _rows(tokens, starts, seq)
    return rows, rows.clone()


@make_batch.mistake(hint=1)
def targets_two_ahead(tokens, starts, seq):
    """The targets are two tokens ahead of the inputs: it is one."""
    return _rows(tokens, starts, seq), _rows(torch.cat((tokens, tokens[:1])), starts + 2, seq)


@make_batch.mistake(hint=1)
def targets_behind(tokens, starts, seq):
    """Inputs and targets are exchanged in time: the target is the token after the input, not before it."""
    return _rows(tokens, starts + 1, seq), _rows(tokens, starts, seq)


@make_batch.mistake(hint=2)
def window_too_short(tokens, starts, seq):
    """The window has seq tokens in all, so that inputs and targets have seq − 1: take seq + 1."""
    rows = _rows(tokens, starts, seq)
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=2)
def window_too_long(tokens, starts, seq):
    """Each row has one token too many: seq inputs, and seq targets."""
    rows = _rows(torch.cat((tokens, tokens[:1])), starts, seq + 2)
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=1)
def last_target_rolled(tokens, starts, seq):
    """The last target of each row is the row's first token: `roll` brings it there. The target is the next token of
    the text, so a window needs seq + 1 tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, rows.roll(-1, 1)


@make_batch.mistake(hint=1)
def one_target_a_window(tokens, starts, seq):
    """There is one target for each window: every place of it has one, the token after it."""
    return _rows(tokens, starts, seq), tokens[starts + seq]


@make_batch.mistake(hint=2)
def starts_ignored(tokens, starts, seq):
    """The starts are not used: the windows follow each other from the first token."""
    windows = torch.cat((tokens, tokens)).unfold(0, seq + 1, seq)[: len(starts)]
    return windows[:, :-1].clone(), windows[:, 1:].clone()


@make_batch.mistake(hint=2)
def first_start_only(tokens, starts, seq):
    """Only the first start is used, and the windows follow each other from there: each window has its own start."""
    windows = torch.cat((tokens, tokens, tokens))[int(starts[0]) :].unfold(0, seq + 1, seq)[: len(starts)]
    return windows[:, :-1].clone(), windows[:, 1:].clone()


@make_batch.mistake(hint=2)
def same_window_in_every_row(tokens, starts, seq):
    """Every row is the window of the first start: each row has a start of its own."""
    rows = _rows(tokens, starts[:1].expand(len(starts)), seq + 1)
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=2)
def starts_counted_in_windows(tokens, starts, seq):
    """The starts are multiplied by seq: they are places in the text, not numbers of windows."""
    rows = torch.stack([tokens[(start * seq + torch.arange(seq + 1)) % len(tokens)] for start in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=2)
def starts_counted_from_1(tokens, starts, seq):
    """The windows begin one token too late: a start of 0 is the first token."""
    rows = _rows(torch.cat((tokens, tokens[:1])), starts + 1, seq + 1)
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=2)
def windows_around_their_starts(tokens, starts, seq):
    """The windows end at their starts: they begin there."""
    rows = torch.stack([tokens[(start - seq + torch.arange(seq + 1)) % len(tokens)] for start in starts.tolist()])
    return rows[:, :-1], rows[:, 1:]


@make_batch.mistake(hint=2)
def columns_for_rows(tokens, starts, seq):
    """The windows are the columns: they are the rows, so the shape is (B, seq)."""
    rows = _rows(tokens, starts, seq + 1)
    return rows[:, :-1].T, rows[:, 1:].T


@make_batch.mistake(hint=2)
def flattened(tokens, starts, seq):
    """The windows stand behind each other in one row: the shape is (B, seq)."""
    rows = _rows(tokens, starts, seq + 1)
    return rows[:, :-1].flatten(), rows[:, 1:].flatten()


@make_batch.mistake
def as_floats(tokens, starts, seq):
    """The tokens have become floating-point numbers: token ids stay whole numbers."""
    rows = _rows(tokens, starts, seq + 1).float()
    return rows[:, :-1], rows[:, 1:]


@make_batch.finished
def by_index(tokens, starts, seq):
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[places + 1]


@make_batch.accepted
def by_slices(tokens, starts, seq):
    inputs, targets = [], []
    for start in starts:
        inputs.append(tokens[start : start + seq])
        targets.append(tokens[start + 1 : start + seq + 1])
    return torch.stack(inputs), torch.stack(targets)


@make_batch.accepted
def one_window_cut_twice(tokens, starts, seq):
    windows = torch.stack([tokens.narrow(0, int(start), seq + 1) for start in starts])
    return windows[:, :seq], windows[:, 1:]
