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
    for length, seq in [(31, 6), (23, 9), (14, 11)]:
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


@make_batch.mistake(hint=1)
def two_ahead_and_beyond_the_end(tokens, starts, seq):
    """The targets are two tokens ahead of the inputs, and leave the text at its end: it is one."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[places + 2]


@make_batch.mistake(hint=1)
def two_ahead_and_cut_off(tokens, starts, seq):
    """The targets are two tokens ahead of the inputs, except at the end of the text: it is one everywhere."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[(places + 2).clamp(max=len(tokens) - 1)]


@make_batch.mistake(hint=1)
def targets_one_before(tokens, starts, seq):
    """The targets are the tokens before the inputs: at each place the target is the token after it."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[places - 1]


@make_batch.mistake(hint=1)
def targets_one_before_cut_off(tokens, starts, seq):
    """The targets are the tokens before the inputs, except at the first token: the target is the token after it."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[(places - 1).clamp(min=0)]


@make_batch.mistake(hint=1)
def last_target_does_not_count(tokens, starts, seq):
    """The last target of each row is −100: the text goes on, so that it has a target as well. A window needs seq + 1
    tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, torch.cat((rows[:, 1:], torch.full_like(rows[:, :1], -100)), 1)


@make_batch.mistake(hint=1)
def last_target_zero(tokens, starts, seq):
    """The last target of each row is 0: it is the next token of the text. A window needs seq + 1 tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, torch.cat((rows[:, 1:], torch.zeros_like(rows[:, :1])), 1)


@make_batch.mistake(hint=1)
def last_target_repeated(tokens, starts, seq):
    """The last target of each row is its last input: it is the next token of the text. A window needs seq + 1
    tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, torch.cat((rows[:, 1:], rows[:, -1:]), 1)


@make_batch.mistake(hint=1)
def last_target_of_the_next_row(tokens, starts, seq):
    """The last target of each row is the first token of the next row: `roll` without an axis goes through all rows.
    The target is the next token of the text, so a window needs seq + 1 tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, rows.roll(-1)


@make_batch.mistake(hint=1)
def rows_rolled(tokens, starts, seq):
    """The targets of a row are the inputs of the next row: `roll` goes along the wrong axis, and would bring the wrong
    last token along the right one. A window needs seq + 1 tokens."""
    rows = _rows(tokens, starts, seq)
    return rows, rows.roll(-1, 0)


@make_batch.mistake(hint=1)
def last_token_never_a_target(tokens, starts, seq):
    """The last token of the text is never a target: the largest place of a target is N − 1."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[(places + 1).clamp(max=len(tokens) - 2)]


@make_batch.mistake(hint=1)
def first_token_for_the_last(tokens, starts, seq):
    """Where the last token of the text is the target, the first one is taken: the places are counted modulo N − 1, and
    need no modulo."""
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[(places + 1) % (len(tokens) - 1)]


@make_batch.mistake(hint=1)
def one_added_to_the_tokens(tokens, starts, seq):
    """There is 1 added to the tokens: add it to their places, since the target is the next token of the text."""
    rows = _rows(tokens, starts, seq)
    return rows, rows + 1


@make_batch.mistake(hint=1)
def places_returned(tokens, starts, seq):
    """These are the places of the tokens: return the tokens that stand there, `tokens[places]`."""
    places = starts[:, None] + torch.arange(seq)
    return places, places + 1


@make_batch.mistake(hint=2)
def starts_counted_in_windows_beyond_the_end(tokens, starts, seq):
    """The starts are multiplied by seq, which leads beyond the text: they are places in the text, not numbers of
    windows."""
    places = starts[:, None] * seq + torch.arange(seq)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def starts_counted_in_windows_modulo(tokens, starts, seq):
    """The starts are multiplied by seq and counted modulo N − 1: they are places in the text, not numbers of
    windows."""
    places = (starts[:, None] * seq + torch.arange(seq)) % (len(tokens) - 1)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def first_start_only_beyond_the_end(tokens, starts, seq):
    """The windows follow each other from the first start, and beyond the end of the text: each has its own start."""
    places = starts[0] + torch.arange(len(starts) * seq).view(-1, seq)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def first_start_only_cut_off(tokens, starts, seq):
    """The windows follow each other from the first start, until the end of the text: each has its own start."""
    places = (starts[0] + torch.arange(len(starts) * seq).view(-1, seq)).clamp(max=len(tokens) - 2)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def one_later_and_beyond_the_end(tokens, starts, seq):
    """The windows begin one token too late, and leave the text at its end: the first input is `tokens[start]`."""
    places = starts[:, None] + torch.arange(1, seq + 1)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def one_later_and_cut_off(tokens, starts, seq):
    """The windows begin one token too late, and are cut off at the end: the first input is `tokens[start]`."""
    places = starts[:, None] + torch.arange(1, seq + 1)
    return tokens[places], tokens[(places + 1).clamp(max=len(tokens) - 1)]


@make_batch.mistake(hint=2)
def one_too_early(tokens, starts, seq):
    """The windows begin one token too early, with the one before the start: the first input is `tokens[start]`."""
    places = starts[:, None] + torch.arange(-1, seq - 1)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def one_too_early_cut_off(tokens, starts, seq):
    """The windows begin one token before the start, where there is one: the first input is `tokens[start]`."""
    places = (starts[:, None] + torch.arange(-1, seq - 1)).clamp(min=0)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def starts_not_as_a_column(tokens, starts, seq):
    """The starts, (B,), and the places of a window, (T,), do not go together: make a column of the starts,
    `starts[:, None]`, so that each of its B numbers is added to all T places."""
    places = starts + torch.arange(seq)
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def window_without_a_column(tokens, starts, seq):
    """The places of a window, (T,), and the starts, (B,), do not go together: make a column of the starts,
    `starts[:, None]`, so that each of its B numbers is added to all T places."""
    places = torch.arange(seq) + starts
    return tokens[places], tokens[places + 1]


@make_batch.mistake(hint=2)
def one_slice_for_all(tokens, starts, seq):
    """A slice begins at one place, and `starts` has B of them: cut one slice for each start, or index with a matrix of
    places."""
    return tokens[starts : starts + seq], tokens[starts + 1 : starts + seq + 1]


@make_batch.mistake(hint=2)
def filled_by_columns(tokens, starts, seq):
    """The places are made as (T, B) and reshaped to (B, T), which mixes the windows: make a column of the starts."""
    places = (starts + torch.arange(seq)[:, None]).reshape(len(starts), seq)
    return tokens[places], tokens[places + 1]


@make_batch.mistake
def in_eight_bits(tokens, starts, seq):
    """The tokens are stored in 8 bits, which hold no number above 255: keep the dtype of `tokens`."""
    rows = _rows(tokens, starts, seq + 1).to(torch.uint8)
    return rows[:, :-1], rows[:, 1:]


@make_batch.demand
def keeps_the_dtype(call, inputs):
    """An embedding takes int64 and int32 alone."""
    for name, got in zip(("inputs", "targets"), call().value, strict=True):
        if got.dtype != inputs[0].dtype:
            return f"`{name}` should have the dtype of `tokens`, {inputs[0].dtype}; yours has {got.dtype}."
    return None


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
