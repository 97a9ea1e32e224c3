"""Exercise `write_batch`: several prompts of different lengths, and each row ends by itself."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from pocketgpt.course.ch11_generation.shared import (
    InTurn,
    ToyModel,
    depends_on_the_scale,
    drawn_ids,
    greedy,
    near_the_best,
    second_best,
    stop_at,
    written_freely,
)
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, returns=("new",))
def write_batch(
    model: nn.Module, prompts: list[list[int]], n: int, choose: Callable, context: int, stop: set[int]
) -> list[list[int]]:
    """The new tokens of each prompt: what a text would get that is written alone."""
    model.eval()
    new = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(n):
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        if not rows:
            break
        with torch.no_grad():
            logits = model(pad_sequence(rows, batch_first=True))
        last = torch.stack([logits[j, len(row) - 1] for j, row in enumerate(rows)])
        chosen = dict(zip(running, choose(last).tolist(), strict=True))
        running = [i for i in running if chosen[i] not in stop]
        for i in running:
            new[i].append(chosen[i])
    return new


@write_batch.inputs
def _(rng):
    def case(lengths, n, choose, context, place=None, row=0):
        while True:  # until texts are varied, and one row meets the stop token at that place, before all others do
            seed, prompts = int(torch.randint(2**31, (), generator=rng)), [drawn_ids(rng, each) for each in lengths]
            free = [written_freely(seed, prompt, n, choose, context) for prompt in prompts]
            if any(len(set(each)) < min(n, 3) for each in free) or min(map(len, free)) < n:
                continue
            if choose is near_the_best and not any(
                depends_on_the_scale(seed, prompt, n, choose, context) for prompt in prompts
            ):
                continue
            if n and len({tuple(each) for each in free}) < len(free):
                continue
            stop = set() if place is None else stop_at([token for each in free for token in each], row * n + place)
            ends = [next((i for i, token in enumerate(each) if token in stop), n) for each in free]
            # Every other row goes on for two tokens at least, and does not end together with this one.
            if place is None or (ends[row] == place and all(e >= place + 2 for i, e in enumerate(ends) if i != row)):
                return ToyModel(seed, n), prompts, n, choose, context, stop

    def all_end(lengths, n, choose, context, places):
        while True:  # until each row ends at its place; the model may not be called again after the last
            seed, prompts = int(torch.randint(2**31, (), generator=rng)), [drawn_ids(rng, each) for each in lengths]
            free = [written_freely(seed, prompt, n, choose, context) for prompt in prompts]
            stop = {each[place] for each, place in zip(free, places, strict=True)}
            ends = tuple(next(i for i, token in enumerate(each) if token in stop) for each in free)
            if ends == places:
                return ToyModel(seed, max(places) + 1), prompts, n, choose, context, stop

    yield case((2, 4), 3, greedy, 16)
    yield case((5, 2, 3), 6, second_best, 16)
    yield case((3, 8, 5), 7, greedy, 6)  # rows that outgrow the context, one of them at once
    yield case((6, 3), 6, greedy, 16, place=2, row=1)
    yield case((2, 5, 4), 7, second_best, 7, place=1)
    yield case((4, 1), 5, greedy, 16, place=0)
    yield case((4,), 4, greedy, 16)
    yield case((5, 3, 2), 7, near_the_best, 16)
    yield case((2, 6), 8, near_the_best, 7)
    yield case((3, 5, 2), 6, InTurn(3), 16)
    yield case((4, 2, 6), 7, InTurn(3), 6, place=1)  # a row that has ended would go on with another token
    yield all_end((5, 2, 3), 8, greedy, 16, places=(1, 3, 4))
    yield case((2, 3), 0, greedy, 16)


def _crop(row, context):
    return row[-context:]


def _own(rows):
    return [len(row) - 1 for row in rows]


def _new(
    model,
    prompts,
    n,
    choose,
    context,
    stop,
    *,
    crop=_crop,
    left=False,
    at=_own,
    keep_stop=False,
    end=True,
    mode=False,
    padding=0,
):
    """Right with these defaults, for the mistakes that change one thing. Rows that have ended are fed no more, as in
    the hint."""
    model.train(mode)
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor(crop(prompts[i] + new[i], context)) for i in running]
        side = "left" if left else "right"
        logits = model(pad_sequence(rows, batch_first=True, padding_side=side, padding_value=padding))
        chosen = choose(logits[torch.arange(len(rows)), torch.tensor(at(rows))]).tolist()
        for i, token in zip(list(running), chosen, strict=True):
            if token in stop and end:
                running.remove(i)
                new[i] += [token] * keep_stop
            else:
                new[i].append(token)
    return new


@write_batch.mistake(hint=2)
def last_column(model, prompts, n, choose, context, stop):
    """The logits of the last column are used, where shorter rows have padding: take each row's own last token."""
    return _new(model, prompts, n, choose, context, stop, at=lambda rows: [-1] * len(rows))


@write_batch.mistake(hint=2)
def padding_on_the_left(model, prompts, n, choose, context, stop):
    """The padding is on the left, where the model reads it as text: pad on the right, or hide the padding with a mask,
    which this model does not take."""
    return _new(model, prompts, n, choose, context, stop, left=True, at=lambda rows: [-1] * len(rows))


@write_batch.mistake(hint=2)
def cut_to_the_shortest(model, prompts, n, choose, context, stop):
    """All prompts are cut to the length of the shortest, so the long ones lose text: pad the short ones."""
    shortest = min(map(len, prompts))
    return _new(model, [prompt[-shortest:] for prompt in prompts], n, choose, context, stop)


@write_batch.mistake(hint=2)
def padding_between(model, prompts, n, choose, context, stop):
    """The prompts are padded once and new tokens come after the padding, so the model reads it in the middle of the
    text: keep rows as lists, and pad them anew at each step."""
    longest = max(map(len, prompts))
    model.eval()
    texts, new, ended = [prompt + [0] * (longest - len(prompt)) for prompt in prompts], [[] for _ in prompts], set()
    for step in range(n):
        if len(ended) == len(prompts):
            break
        logits = model(torch.tensor([text[-context:] for text in texts]))
        at = [min(len(prompt), context) - 1 if step == 0 else -1 for prompt in prompts]
        chosen = choose(torch.stack([logits[i, each] for i, each in enumerate(at)])).tolist()
        for i, token in enumerate(chosen):
            texts[i].append(token)
            if token in stop:
                ended.add(i)
            if i not in ended:
                new[i].append(token)
    return new


@write_batch.mistake(hint=3)
def all_end_with_the_first(model, prompts, n, choose, context, stop):
    """The first stop token ends all rows: it ends its own row, and the others continue."""
    new = _new(model, prompts, n, choose, context, stop)
    return [row[: min(map(len, new))] for row in new]


@write_batch.mistake(hint=3)
def row_continues_after_its_stop(model, prompts, n, choose, context, stop):
    """A row that has met its stop token continues while others are still writing: it has ended."""
    free = _new(model, prompts, n, choose, context, stop, end=False)
    return [[token for token in row if token not in stop] for row in free]


@write_batch.mistake(hint=3)
def never_stops(model, prompts, n, choose, context, stop):
    """A stop token ends nothing."""
    return _new(model, prompts, n, choose, context, stop, end=False)


@write_batch.mistake(hint=3)
def stop_token_returned(model, prompts, n, choose, context, stop):
    """The stop token is returned: it ends its row and is no part of it."""
    return _new(model, prompts, n, choose, context, stop, keep_stop=True)


@write_batch.mistake(hint=3)
def cut_afterwards(model, prompts, n, choose, context, stop):
    """All n tokens are written first and the rows are cut afterwards: when all rows have ended, stop calling the
    model."""
    free = _new(model, prompts, n, choose, context, stop, end=False)
    return [row[: next((i for i, token in enumerate(row) if token in stop), n)] for row in free]


@write_batch.mistake(hint=2)
def softmax_before_choose(model, prompts, n, choose, context, stop):
    """Probabilities are given to `choose`: it takes the logits, unchanged, and does the rest itself."""
    return _new(model, prompts, n, lambda logits: choose(logits.softmax(dim=-1)), context, stop)


@write_batch.mistake(hint=2)
def choose_called_for_each_row(model, prompts, n, choose, context, stop):
    """There is a call of `choose` for one row after the other: give it the logits of all rows at once, (B, V), so that
    one call is one step."""
    by_row = lambda logits: torch.cat([choose(logits[i : i + 1]) for i in range(len(logits))])  # noqa: E731
    return _new(model, prompts, n, by_row, context, stop)


@write_batch.mistake(hint=2)
def padding_outside_of_the_vocabulary(model, prompts, n, choose, context, stop):
    """The padding is no id of the vocabulary, so the embedding raises an error: pad with any id, such as 0."""
    return _new(model, prompts, n, choose, context, stop, padding=-1)


@write_batch.mistake(hint=3)
def stop_skipped_in_its_row(model, prompts, n, choose, context, stop):
    """A row leaves its stop token out and goes on: it has ended, and gets no further token."""
    model.eval()
    new = [[] for _ in prompts]
    for _ in range(n):
        rows = [torch.tensor((prompt + more)[-context:]) for prompt, more in zip(prompts, new, strict=True)]
        logits = model(pad_sequence(rows, batch_first=True))
        chosen = choose(torch.stack([logits[i, len(row) - 1] for i, row in enumerate(rows)])).tolist()
        for more, token in zip(new, chosen, strict=True):
            if token not in stop:
                more.append(token)
    return new


@write_batch.mistake(hint=1)
def prompts_returned(model, prompts, n, choose, context, stop):
    """The prompts are returned as well: return the new tokens alone."""
    new = _new(model, prompts, n, choose, context, stop)
    return [prompt + row for prompt, row in zip(prompts, new, strict=True)]


@write_batch.mistake(hint=1)
def one_list_for_all(model, prompts, n, choose, context, stop):
    """All rows share one list, as `[[]] * B` makes it, so every row has the tokens of all: make a list for each."""
    new = _new(model, prompts, n, choose, context, stop)
    mixed = [row[step] for step in range(n) for row in new if step < len(row)]
    return [list(mixed) for _ in prompts]


@write_batch.mistake(hint=2)
def grows_past_the_context(model, prompts, n, choose, context, stop):
    """A row grows past the context that the model was trained for: feed its last `context` tokens."""
    return _new(model, prompts, n, choose, context, stop, crop=lambda row, context: row)


@write_batch.mistake(hint=2)
def newest_tokens_cut(model, prompts, n, choose, context, stop):
    """A row longer than the context loses its newest tokens: feed the last tokens, not the first."""
    return _new(model, prompts, n, choose, context, stop, crop=lambda row, context: row[:context])


@write_batch.mistake(hint=1)
def always_the_largest(model, prompts, n, choose, context, stop):
    """The largest logit is taken at every step: which token it is decides `choose`."""
    return _new(model, prompts, n, greedy, context, stop)


@write_batch.mistake(hint=1)
def dropout_on(model, prompts, n, choose, context, stop):
    """Dropout is on, and it deletes numbers inside the model: switch it off with `model.eval()`."""
    return _new(model, prompts, n, choose, context, stop, mode=True)


@write_batch.mistake(hint=1)
def one_text_after_the_other(model, prompts, n, choose, context, stop):
    """The texts are written one after the other, with a pass of the model for each: one pass gives every row its next
    token."""
    return [_new(model, [prompt], n, choose, context, stop)[0] for prompt in prompts]


@write_batch.mistake(hint=3)
def shortest_first(model, prompts, n, choose, context, stop):
    """The rows come back ordered by the length of their prompts: keep the order of `prompts`."""
    return _new(model, sorted(prompts, key=len), n, choose, context, stop)


@write_batch.mistake(hint=1)
def one_too_many(model, prompts, n, choose, context, stop):
    """There is one token too many: at most n for each row."""
    return _new(model, prompts, n + 1, choose, context, stop)


@write_batch.mistake(hint=2)
def last_but_one(model, prompts, n, choose, context, stop):
    """The logits of each row's last token but one are used: the last token of a row has the index len(row) − 1."""
    return _new(model, prompts, n, choose, context, stop, at=lambda rows: [len(row) - 2 for row in rows])


@write_batch.mistake(hint=2)
def last_of_the_prompt(model, prompts, n, choose, context, stop):
    """The logits after the last token of the prompt are used at every step: a row grows, and its last token with it."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        last = torch.tensor([min(len(prompts[i]), context) - 1 for i in running])
        chosen = choose(model(pad_sequence(rows, batch_first=True))[torch.arange(len(rows)), last]).tolist()
        running = _appended(new, running, chosen, stop)
    return new


def _appended(new, running, chosen, stop, place=None):
    """Append what was chosen; the rows that go on are returned. With `place`, to the row of that number."""
    on = []
    for j, (i, token) in enumerate(zip(running, chosen, strict=True)):
        if token not in stop:
            new[j if place else i].append(token)
            on.append(i)
    return on


@write_batch.mistake(hint=2)
def all_positions_of_all_rows(model, prompts, n, choose, context, stop):
    """The index `logits[:, last]` takes every row's last place from every row, (B, B, V): row i needs its own,
    `logits[torch.arange(B), last]`."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        chosen = choose(model(pad_sequence(rows, batch_first=True))[:, torch.tensor(_own(rows))]).tolist()
        running = _appended(new, running, chosen, stop)
    return new


@write_batch.mistake(hint=2)
def padded_along_the_first_axis(model, prompts, n, choose, context, stop):
    """The model is given (T, B): `pad_sequence` makes (B, T) with `batch_first=True`."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        chosen = choose(model(pad_sequence(rows))[torch.arange(len(rows)), torch.tensor(_own(rows))]).tolist()
        running = _appended(new, running, chosen, stop)
    return new


@write_batch.mistake(hint=3)
def appended_to_another_row(model, prompts, n, choose, context, stop):
    """After a row has ended, tokens are appended to the wrong rows: the j-th row that runs is not row j of `new`."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        last = torch.tensor(_own(rows))
        chosen = choose(model(pad_sequence(rows, batch_first=True))[torch.arange(len(rows)), last]).tolist()
        running = _appended(new, running, chosen, stop, place=True)
    return new


@write_batch.mistake(hint=2)
def zeros_taken_for_padding(model, prompts, n, choose, context, stop):
    """The tokens that are not 0 are counted for the length of a row, and 0 is a token, too: take the lengths of the
    lists."""
    by_zeros = lambda rows: [int((row != 0).sum()) - 1 for row in rows]  # noqa: E731
    return _new(model, prompts, n, choose, context, stop, at=by_zeros)


@write_batch.mistake(hint=2)
def beginnings_alone(model, prompts, n, choose, context, stop):
    """All prompts are cut to the beginning that the shortest is long, so the long ones lose their ends: pad the short
    ones."""
    shortest = min(map(len, prompts))
    return _new(model, [prompt[:shortest] for prompt in prompts], n, choose, context, stop)


@write_batch.mistake(hint=2)
def only_the_prompts_cut(model, prompts, n, choose, context, stop):
    """The prompts are cut to the context once, and then the rows grow past it: cut at every step."""
    return _new(model, [prompt[-context:] for prompt in prompts], n, choose, 10**6, stop)


@write_batch.mistake(hint=2)
def last_before_the_cut(model, prompts, n, choose, context, stop):
    """The length of a row is taken before it is cut to the context: its last token is at len(row) − 1 after the cut."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [prompts[i] + new[i] for i in running]
        tokens = pad_sequence([torch.tensor(row[-context:]) for row in rows], batch_first=True)
        chosen = choose(model(tokens)[torch.arange(len(rows)), torch.tensor(_own(rows))]).tolist()
        running = _appended(new, running, chosen, stop)
    return new


@write_batch.mistake(hint=2)
def cut_after_the_padding(model, prompts, n, choose, context, stop):
    """The padded tensor is cut to the context, so short rows lose tokens and keep padding: cut each row before you pad
    it."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor(prompts[i] + new[i]) for i in running]
        last = torch.tensor([min(len(row), context) - 1 for row in rows])
        tokens = pad_sequence(rows, batch_first=True)[:, -context:]
        running = _appended(new, running, choose(model(tokens)[torch.arange(len(rows)), last]).tolist(), stop)
    return new


@write_batch.mistake(hint=2)
def at_another_temperature(model, prompts, n, choose, context, stop):
    """The logits are divided before `choose` gets them: give them as they are, the temperature is its own affair."""
    return _new(model, prompts, n, lambda logits: choose(logits / 0.8), context, stop)


@write_batch.mistake(hint=2)
def choose_called_twice(model, prompts, n, choose, context, stop):
    """There are two calls of `choose` at a step: a choice that draws gives other tokens the second time."""
    return _new(model, prompts, n, lambda logits: (choose(logits), choose(logits))[1], context, stop)


@write_batch.mistake(hint=2)
def all_positions_to_choose(model, prompts, n, choose, context, stop):
    """The logits of all positions are given to `choose`: it takes one row of logits for each text, (B, V)."""
    model.eval()
    new, running = [[] for _ in prompts], list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        logits = model(pad_sequence(rows, batch_first=True))
        ids = choose(logits.flatten(0, 1)).view(logits.shape[:2])
        running = _appended(new, running, [ids[j, at].item() for j, at in enumerate(_own(rows))], stop)
    return new


@write_batch.finished
def rows_that_run(model, prompts, n, choose, context, stop):
    model.eval()
    new = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        tokens = pad_sequence(rows, batch_first=True)
        last = torch.tensor([len(row) - 1 for row in rows])
        with torch.no_grad():
            logits = model(tokens)[torch.arange(len(rows)), last]
        chosen = choose(logits).tolist()
        for i, token in zip(list(running), chosen, strict=True):
            if token in stop:
                running.remove(i)
            else:
                new[i].append(token)
    return new


@write_batch.accepted
def all_rows_to_the_end(model, prompts, n, choose, context, stop):
    model.eval()
    texts = [list(prompt) for prompt in prompts]
    for _ in range(n):
        new = [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
        if all(stop.intersection(row) for row in new):
            break
        rows = [text[-context:] for text in texts]
        longest = max(len(row) for row in rows)
        logits = model(torch.tensor([row + [0] * (longest - len(row)) for row in rows]))
        last = torch.stack([logits[i, len(row) - 1].detach() for i, row in enumerate(rows)])
        for text, token in zip(texts, choose(last).tolist(), strict=True):
            text.append(token)
    new = [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
    ends = [min([i for i, token in enumerate(row) if token in stop] + [len(row)]) for row in new]
    return [row[:end] for row, end in zip(new, ends, strict=True)]


@write_batch.accepted
def with_a_flag_for_each_row(model, prompts, n, choose, context, stop):
    model.eval()
    new = [[] for _ in prompts]
    done = [False] * len(prompts)
    for _ in range(n):
        rows = [(prompt + more)[-context:] for prompt, more in zip(prompts, new, strict=True)]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        ends = torch.tensor([[[len(row) - 1]] for row in rows])
        with torch.no_grad():
            logits = model(tokens)
        logits = logits.gather(1, ends.expand(-1, 1, logits.shape[-1]))[:, 0]
        for i, token in enumerate(choose(logits).tolist()):
            done[i] = done[i] or token in stop
            if not done[i]:
                new[i].append(token)
        if all(done):
            break
    return new
