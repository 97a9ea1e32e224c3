"""Exercise `write`: the loop that writes, one token at a time."""

from collections.abc import Callable

import torch
from torch import nn

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
def write(model: nn.Module, prompt: list[int], n: int, choose: Callable, context: int, stop: set[int]) -> list[int]:
    """Up to n new tokens, each chosen after the last `context` tokens; a stop token ends the text and is left out.

    Equal to the greedy text of transformers with the same weights (the test of this file).
    """
    model.eval()
    tokens = torch.tensor([prompt])
    with torch.no_grad():
        for _ in range(n):
            token = choose(model(tokens[:, -context:])[:, -1])
            if token.item() in stop:
                break
            tokens = torch.cat((tokens, token[:, None]), dim=1)
    return tokens[0, len(prompt) :].tolist()


@write.inputs
def _(rng):
    def case(length, n, choose, context, place=None, ends=False, prompted=False):
        while True:  # until the text is varied, and the stop token is met for the first time at that place
            seed, prompt = int(torch.randint(2**31, (), generator=rng)), drawn_ids(rng, length)
            free = written_freely(seed, prompt, n, choose, context)
            if choose is near_the_best and not depends_on_the_scale(seed, prompt, n, choose, context):
                continue
            if prompted and prompt[-1] in free[:place]:
                continue
            if len(set(free)) >= min(n, 3) and (place is None or free[place] not in [*free[:place], *prompt]):
                break
        return (
            ToyModel(seed, place + 1 if ends else None),
            prompt,
            n,
            choose,
            context,
            set() if place is None else stop_at(free, place) | ({prompt[-1]} if prompted else set()),
        )

    yield case(3, 4, greedy, 16)
    yield case(5, 7, second_best, 16)
    yield case(2, 9, greedy, 6)  # outgrows the context
    yield case(9, 6, greedy, 5)  # the prompt alone is longer
    yield case(7, 5, second_best, 4)
    yield case(4, 8, greedy, 16, place=3)
    yield case(3, 7, second_best, 5, place=4)
    yield case(4, 5, greedy, 16, place=0)
    yield case(3, 7, greedy, 16, place=2, ends=True)  # no pass of the model after the stop token
    yield case(4, 8, greedy, 16, place=3, prompted=True)  # a stop token at the end of the prompt ends nothing
    yield case(4, 8, near_the_best, 16)
    yield case(2, 9, near_the_best, 6)
    yield case(4, 6, InTurn(), 16)
    yield case(3, 7, InTurn(), 5)
    yield case(3, 8, InTurn(), 16, place=2)  # after the stop token, another would be chosen
    yield case(3, 0, greedy, 16)


def _new(model, prompt, n, choose, context, stop, *, crop=None, at=-1, keep_stop=False, end=True, mode=False):
    """Right with these defaults, for the mistakes that change one thing."""
    model.train(mode)
    tokens, new = list(prompt), []
    for _ in range(n):
        fed = tokens[-context:] if crop is None else crop(tokens)
        token = int(choose(model(torch.tensor([fed]))[:, at]))
        if token in stop and end:
            return [*new, token] if keep_stop else new
        new.append(token)
        tokens.append(token)
    return new


@write.mistake(hint=2)
def first_position(model, prompt, n, choose, context, stop):
    """The logits of the first position are used: the next token follows the last one, `[:, -1]`."""
    return _new(model, prompt, n, choose, context, stop, at=0)


@write.mistake(hint=2)
def only_the_last_token(model, prompt, n, choose, context, stop):
    """The model is given only the last token, and knows nothing of the text before it: without a cache, feed all of
    it."""
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: tokens[-1:])


@write.mistake(hint=2)
def only_the_newest_token(model, prompt, n, choose, context, stop):
    """After the prompt, the model is given only the newest token, and knows nothing of the text before it: that needs a
    cache, which comes in chapter 12. Feed all of the text."""
    first = len(prompt)
    return _new(
        model,
        prompt,
        n,
        choose,
        context,
        stop,
        crop=lambda tokens: tokens[-context:] if len(tokens) == first else tokens[-1:],
    )


@write.mistake(hint=2)
def grows_past_the_context(model, prompt, n, choose, context, stop):
    """The text grows past the context that the model was trained for: feed its last `context` tokens."""
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: tokens)


@write.mistake(hint=2)
def newest_tokens_cut(model, prompt, n, choose, context, stop):
    """A text longer than the context loses its newest tokens, so the model never sees what it wrote: feed the last
    tokens, not the first."""
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: tokens[:context])


@write.mistake(hint=2)
def only_the_prompt_cut(model, prompt, n, choose, context, stop):
    """The prompt is cut to the context once, and then the text grows past it: cut at every step."""
    first = max(len(prompt) - context, 0)
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: tokens[first:])


@write.mistake(hint=2)
def context_too_short_by_one(model, prompt, n, choose, context, stop):
    """The model is given one token less than the context holds."""
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: tokens[-(context - 1) :])


@write.mistake(hint=1)
def not_fed_back(model, prompt, n, choose, context, stop):
    """The model reads the prompt at every step, without what it has written: a new token is part of the text that it
    reads next."""
    return _new(model, prompt, n, choose, context, stop, crop=lambda tokens: prompt[-context:])


@write.mistake(hint=1)
def never_stops(model, prompt, n, choose, context, stop):
    """A stop token does not end the text."""
    return _new(model, prompt, n, choose, context, stop, end=False)


@write.mistake(hint=3)
def stop_token_returned(model, prompt, n, choose, context, stop):
    """The stop token is returned: it ends the text and is no part of it."""
    return _new(model, prompt, n, choose, context, stop, keep_stop=True)


@write.mistake(hint=3)
def stop_token_skipped(model, prompt, n, choose, context, stop):
    """A stop token is left out, and the writing continues: it ends the text."""
    new = _new(model, prompt, n, choose, context, stop, end=False)
    return [token for token in new if token not in stop]


@write.mistake(hint=3)
def stop_continues(model, prompt, n, choose, context, stop):
    """After a stop token the model is called again, and the text may go on: the first stop token ends it, so leave the
    loop with `break`."""
    model.eval()
    new = []
    for _ in range(n):
        token = int(choose(model(torch.tensor([(prompt + new)[-context:]]))[:, -1]))
        if token not in stop:
            new.append(token)
    return new


@write.mistake(hint=3)
def cut_afterwards(model, prompt, n, choose, context, stop):
    """All n tokens are written first and the text is cut afterwards: the stop token ends the writing itself."""
    new = _new(model, prompt, n, choose, context, stop, end=False)
    return new[: next((i for i, token in enumerate(new) if token in stop), n)]


@write.mistake(hint=2)
def softmax_before_choose(model, prompt, n, choose, context, stop):
    """Probabilities are given to `choose`: it takes the logits, unchanged, and does the rest itself."""
    return _new(model, prompt, n, lambda logits: choose(logits.softmax(dim=-1)), context, stop)


@write.mistake(hint=2)
def all_positions_to_choose(model, prompt, n, choose, context, stop):
    """The logits of all positions are given to `choose`: it takes those of the last one, (1, V)."""
    model.eval()
    new = []
    for _ in range(n):
        token = int(choose(model(torch.tensor([(prompt + new)[-context:]]))[0])[-1])
        if token in stop:
            break
        new.append(token)
    return new


@write.mistake(hint=2)
def choose_called_twice(model, prompt, n, choose, context, stop):
    """There are two calls of `choose` at a step: a choice that draws gives another token the second time, so
    call it once and keep the id."""
    return _new(model, prompt, n, lambda logits: (choose(logits), choose(logits))[1], context, stop)


@write.mistake(hint=3)
def prompt_returned(model, prompt, n, choose, context, stop):
    """The prompt is returned as well: return the new tokens alone."""
    return prompt + _new(model, prompt, n, choose, context, stop)


@write.mistake(hint=1)
def n_in_all(model, prompt, n, choose, context, stop):
    """The number n is taken for the length of the whole text: it counts the new tokens."""
    return _new(model, prompt, max(n - len(prompt), 0), choose, context, stop)


@write.mistake(hint=3)
def one_too_many(model, prompt, n, choose, context, stop):
    """There is one token too many: at most n."""
    return _new(model, prompt, n + 1, choose, context, stop)


@write.mistake(hint=3)
def one_too_few(model, prompt, n, choose, context, stop):
    """There is one token too few: up to n."""
    return _new(model, prompt, max(n - 1, 0), choose, context, stop)


@write.mistake(hint=1)
def always_the_largest(model, prompt, n, choose, context, stop):
    """The largest logit is taken at every step: which token it is decides `choose`."""
    return _new(model, prompt, n, greedy, context, stop)


@write.mistake(hint=1)
def dropout_on(model, prompt, n, choose, context, stop):
    """Dropout is on, and it deletes numbers inside the model: switch it off with `model.eval()`."""
    return _new(model, prompt, n, choose, context, stop, mode=True)


@write.mistake(hint=2)
def last_but_one(model, prompt, n, choose, context, stop):
    """The logits of the last position but one are used: the next token follows the last one, `[:, -1]`."""
    return _new(model, prompt, n, choose, context, stop, at=-2)


@write.mistake(hint=3)
def tensors_in_the_list(model, prompt, n, choose, context, stop):
    """Tensors are in the list, and `token in stop` is never true of one: `.item()` makes a number of it."""
    model.eval()
    new = []
    for _ in range(n):
        token = choose(model(torch.tensor([(prompt + new)[-context:]]))[:, -1])
        if token in stop:
            break
        new.append(token)
    return new


@write.mistake(hint=2)
def without_the_axis_of_the_texts(model, prompt, n, choose, context, stop):
    """The model is given ids of the shape (T,): it wants (1, T), so put brackets around the list."""
    model.eval()
    return [choose(model(torch.tensor(prompt[-context:]))[-1:]).item() for _ in range(n)]


@write.mistake(hint=2)
def one_axis_to_choose(model, prompt, n, choose, context, stop):
    """The logits that `choose` gets have the shape (V,): it takes (1, V), `[:, -1]`."""
    model.eval()
    return [choose(model(torch.tensor([prompt[-context:]]))[0, -1]).item() for _ in range(n)]


@write.mistake(hint=1)
def dropout_off_too_late(model, prompt, n, choose, context, stop):
    """The first token is chosen with dropout on: call `model.eval()` before the loop."""
    model.train()
    new = []
    for _ in range(n):
        token = int(choose(model(torch.tensor([(prompt + new)[-context:]]))[:, -1]))
        model.eval()
        if token in stop:
            break
        new.append(token)
    return new


@write.mistake(hint=2)
def at_another_temperature(model, prompt, n, choose, context, stop):
    """The logits are divided before `choose` gets them: give them as they are, the temperature is its own affair."""
    return _new(model, prompt, n, lambda logits: choose(logits / 0.8), context, stop)


@write.mistake(hint=3)
def first_stop_token_only(model, prompt, n, choose, context, stop):
    """Only one of the stop tokens ends the text: `stop` is a set, and each id in it does."""
    return _new(model, prompt, n, choose, context, set(list(stop)[:1]))


@write.mistake(hint=3)
def nothing_after_a_stop_token(model, prompt, n, choose, context, stop):
    """A stop token at the end of the prompt ends the text before it has begun: only one that is chosen does."""
    return [] if prompt[-1] in stop else _new(model, prompt, n, choose, context, stop)


@write.mistake(hint=3)
def stop_tokens_of_the_prompt(model, prompt, n, choose, context, stop):
    """The stop token is returned, and one at the end of the prompt ends the text: look at the chosen id before
    you append it."""
    tokens = list(prompt)
    model.eval()
    for _ in range(n):
        if tokens[-1] in stop:
            break
        tokens.append(int(choose(model(torch.tensor([tokens[-context:]]))[:, -1])))
    return tokens[len(prompt) :]


@write.finished
def a_list_that_grows(model, prompt, n, choose, context, stop):
    model.eval()
    new = []
    for _ in range(n):
        tokens = torch.tensor([(prompt + new)[-context:]])
        with torch.no_grad():
            logits = model(tokens)[:, -1]
        token = choose(logits).item()
        if token in stop:
            break
        new.append(token)
    return new


@write.accepted
def a_tensor_that_grows(model, prompt, n, choose, context, stop):
    model.eval()
    tokens = torch.tensor(prompt).unsqueeze(0)
    while tokens.shape[1] < len(prompt) + n:
        window = tokens[:, max(0, tokens.shape[1] - context) :]
        token = choose(model(window).detach()[:, -1, :])
        if int(token) in stop:
            break
        tokens = torch.hstack((tokens, token.view(1, 1)))
    return tokens[0].tolist()[len(prompt) :]


@write.accepted
def a_call_for_each_token(model, prompt, n, choose, context, stop):
    if n == 0:
        return []
    model.eval()
    token = int(choose(model(torch.tensor([prompt[-context:]]))[:, -1]))
    if token in stop:
        return []
    return [token, *a_call_for_each_token(model, [*prompt, token], n - 1, choose, context, stop)]
