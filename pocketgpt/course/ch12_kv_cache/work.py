"""Exercise `work`: what a cache saves, and what it does not."""

import torch

from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=("a nudge", "the arithmetic", "pseudocode"), returns=("tokens", "reads"))
def work(prompt: int, new: int, cached: bool) -> tuple[int, int]:
    """Counted pass by pass: for each, the tokens that go through the model, and the keys that each of them reads."""
    passes = reads = done = 0
    for length in range(prompt, prompt + new):
        first = done if cached else 0
        passes += length - first
        reads += sum(range(first + 1, length + 1))
        done = length
    return passes, reads


@work.inputs
def _(rng):
    for cached in (True, False):
        yield 3, 2, cached  # the example of section 1, which can be counted by hand
        yield 100, 100, cached
        yield 5, 1, cached
        yield 1, 7, cached
        yield 64, 256, cached
        yield 3_000, 500, cached  # more reads than 32 bits hold
    for i in range(6):
        prompt, new = (torch.randint(2, 60, (2,), generator=rng)).tolist()
        yield prompt, new, i % 2 == 0


def _right(prompt, new, cached):
    """Right, for the mistakes that go wrong elsewhere."""
    last = prompt + new - 1
    if cached:
        return last, last * (last + 1) // 2
    lengths = range(prompt, prompt + new)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)


@work.mistake(hint=1)
def last_token_read_as_well(prompt, new, cached):
    """One pass too many: the first new token comes out of the pass over the prompt, and the last one is never read."""
    last = prompt + new
    if cached:
        return last, last * (last + 1) // 2
    lengths = range(prompt, prompt + new + 1)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)


@work.mistake(hint=1)
def first_pass_only_reads(prompt, new, cached):
    """Without a cache, the pass over the prompt is missing: it gives the first new token. This counts from the second
    pass on, one token longer each."""
    if cached:
        return _right(prompt, new, cached)
    lengths = range(prompt + 1, prompt + new + 1)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)


@work.mistake(hint=1)
def a_step_for_each_new_token(prompt, new, cached):
    """With a cache, a step is counted for each new token: the first one comes out of the prompt's pass."""
    if not cached:
        return _right(prompt, new, cached)
    last = prompt + new
    return last, last * (last + 1) // 2


@work.mistake(hint=1)
def prompt_not_read(prompt, new, cached):
    """With a cache, the pass over the prompt is missing: its tokens must go through the model once."""
    if not cached:
        return _right(prompt, new, cached)
    return new - 1, sum(range(prompt + 1, prompt + new))


@work.mistake(hint=1)
def prompt_for_each_token(prompt, new, cached):
    """Without a cache, every pass has the length of the prompt: the text grows by a token each time."""
    if cached:
        return _right(prompt, new, cached)
    return prompt * new, new * (prompt * (prompt + 1) // 2)


@work.mistake(hint=1)
def last_pass_missing(prompt, new, cached):
    """Without a cache, the last pass is missing: each of the `new` tokens comes out of a pass, and the last one reads
    prompt + new − 1 tokens."""
    if cached:
        return _right(prompt, new, cached)
    lengths = range(prompt, prompt + new - 1)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)


@work.mistake(hint=1)
def from_one_token_on(prompt, new, cached):
    """Without a cache, there are passes over 1, 2, … tokens, too: the first pass reads the whole prompt."""
    if cached:
        return _right(prompt, new, cached)
    lengths = range(1, prompt + new)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)


@work.mistake(hint=1)
def last_pass_for_all(prompt, new, cached):
    """Without a cache, every pass has the length of the last one: the text grows by a token each time, from `prompt`
    on."""
    last = prompt + new - 1
    return (last, last * (last + 1) // 2) if cached else (new * last, new * (last * (last + 1) // 2))


@work.mistake(hint=1)
def calls_counted(prompt, new, cached):
    """This is how often the model is called, once for each new token: count the tokens that go through it in all of
    these calls."""
    return new, _right(prompt, new, cached)[1]


@work.mistake(hint=1)
def a_token_a_call(prompt, new, cached):
    """With a cache, one token is counted for each call of the model: the first call is the pass over the prompt, and
    has all of its tokens."""
    passes, reads = _right(prompt, new, cached)
    return (new if cached else passes), reads


@work.mistake(hint=1)
def last_query_of_each_call(prompt, new, cached):
    """With a cache, only one query is counted for each call of the model: in the first call every token of the prompt
    has one, and reads."""
    return (new, sum(range(prompt, prompt + new))) if cached else _right(prompt, new, cached)


@work.mistake(hint=2)
def one_query_a_pass_without_a_cache(prompt, new, cached):
    """Without a cache, the reads are those of the last query of each pass: every token that passes through the model
    has a query, and it reads."""
    passes, reads = _right(prompt, new, cached)
    return passes, reads if cached else passes


@work.mistake(hint=2)
def one_read_for_each_token_of_the_prompt(prompt, new, cached):
    """With a cache, each token of the prompt is counted as one read: token number n reads n keys, which makes
    prompt · (prompt + 1)/2."""
    if not cached:
        return _right(prompt, new, cached)
    return prompt + new - 1, prompt + sum(range(prompt + 1, prompt + new))


@work.mistake(hint=2)
def step_without_its_own_key(prompt, new, cached):
    """With a cache, each step reads one key too few: its token's own key is in the cache when its query reads."""
    if not cached:
        return _right(prompt, new, cached)
    return prompt + new - 1, prompt * (prompt + 1) // 2 + sum(range(prompt, prompt + new - 1))


@work.mistake(hint=2)
def steps_read_the_prompt(prompt, new, cached):
    """With a cache, every step reads the prompt alone: it reads the new tokens before it, and itself, too."""
    if not cached:
        return _right(prompt, new, cached)
    return prompt + new - 1, prompt * (prompt + 1) // 2 + (new - 1) * prompt


@work.mistake(hint=2)
def steps_read_the_whole_text(prompt, new, cached):
    """With a cache, every step reads as many keys as the last one: the cache grows by a key at each step."""
    if not cached:
        return _right(prompt, new, cached)
    last = prompt + new - 1
    return last, prompt * (prompt + 1) // 2 + (new - 1) * last


@work.mistake(hint=2)
def whole_square_with_a_cache(prompt, new, cached):
    """With a cache, the reads are the square of the text: token number n reads n keys, not all of them, so it is
    N(N + 1)/2."""
    last = prompt + new - 1
    return (last, last**2) if cached else _right(prompt, new, cached)


@work.mistake(hint=2)
def triangle_of_all_passes(prompt, new, cached):
    """Without a cache, N(N + 1)/2 is taken of all passes together: each pass begins at the first token again, so add up
    N(N + 1)/2 pass by pass."""
    passes, reads = _right(prompt, new, cached)
    return passes, reads if cached else passes * (passes + 1) // 2


@work.mistake(hint=2)
def halved_too_early(prompt, new, cached):
    """Without a cache, `//` comes before the multiplication, and drops a half where the sum is odd: multiply first."""
    passes, reads = _right(prompt, new, cached)
    return (passes if cached else (prompt + prompt + new - 1) // 2 * new), reads


@work.mistake(hint=2)
def only_queries_that_choose(prompt, new, cached):
    """The reads are those of the last query of each pass only: every token that passes through the model has a
    query, and it reads."""
    lengths = range(prompt, prompt + new)
    return _right(prompt, new, cached)[0], sum(lengths)


@work.mistake(hint=2)
def whole_square(prompt, new, cached):
    """The reads are N² for a pass over N tokens: the causal mask leaves token number n with n keys, so it is
    N(N + 1)/2."""
    passes = _right(prompt, new, cached)[0]
    lengths = range(prompt, prompt + new)
    return passes, passes**2 if cached else sum(n * n for n in lengths)


@work.mistake(hint=2)
def whole_square_for_the_prompt(prompt, new, cached):
    """With a cache, the prompt's pass is counted as N² reads: its tokens see no later ones, so it is N(N + 1)/2."""
    if not cached:
        return _right(prompt, new, cached)
    return prompt + new - 1, prompt**2 + sum(range(prompt + 1, prompt + new))


@work.mistake(hint=2)
def itself_not_read(prompt, new, cached):
    """A token's own key is not counted: it looks at itself, too, so token number n reads n keys."""
    last = prompt + new - 1
    if cached:
        return last, last * (last - 1) // 2
    lengths = range(prompt, prompt + new)
    return sum(lengths), sum(n * (n - 1) // 2 for n in lengths)


@work.mistake
def keys_and_values(prompt, new, cached):
    """The reads are doubled: only keys are asked for, not keys and values."""
    passes, reads = _right(prompt, new, cached)
    return passes, 2 * reads


@work.mistake(hint=1)
def always_with_a_cache(prompt, new, cached):
    """The argument `cached` is not used: without a cache every pass begins at the first token."""
    return _right(prompt, new, True)


@work.mistake(hint=1)
def never_with_a_cache(prompt, new, cached):
    """The argument `cached` is not used: with a cache a token goes through the model once."""
    return _right(prompt, new, False)


@work.mistake(hint=1)
def the_other_way_round(prompt, new, cached):
    """With and without a cache are exchanged."""
    return _right(prompt, new, not cached)


@work.mistake
def results_exchanged(prompt, new, cached):
    """The two results are exchanged: the tokens come first, then the reads."""
    return _right(prompt, new, cached)[::-1]


@work.mistake(hint=2)
def reads_as_without_a_cache(prompt, new, cached):
    """With a cache the reads are those without one: a token that is not computed again asks nothing again."""
    return _right(prompt, new, cached)[0], _right(prompt, new, False)[1]


@work.mistake(hint=2)
def a_read_for_each_pass(prompt, new, cached):
    """With a cache each token is counted as one read: its query still reads every key that is kept. The cache saves
    computing them again."""
    passes, reads = _right(prompt, new, cached)
    return (passes, passes) if cached else (passes, reads)


@work.mistake
def as_floating_point(prompt, new, cached):
    """These are floating-point numbers: count in whole ones, `//` in place of `/`."""
    passes, reads = _right(prompt, new, cached)
    return float(passes), float(reads)


@work.finished
def pass_by_pass(prompt, new, cached):
    passes, reads = 0, 0
    for length in range(prompt, prompt + new):
        first_pass = length == prompt
        queries = range(1, length + 1) if first_pass or not cached else [length]
        passes += len(queries)
        reads += sum(queries)
    return passes, reads


@work.accepted
def closed_form(prompt, new, cached):
    last = prompt + new - 1
    if cached:
        return last, last * (last + 1) // 2
    passes = new * (prompt + last) // 2
    reads = (last * (last + 1) * (last + 2) - (prompt - 1) * prompt * (prompt + 1)) // 6
    return passes, reads


@work.accepted
def sums_of_lengths(prompt, new, cached):
    lengths = list(range(prompt, prompt + new))
    if not cached:
        return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)
    return lengths[-1], sum(range(lengths[-1] + 1))


@work.accepted
def by_tensors(prompt, new, cached):
    seen = torch.arange(1, prompt + new)  # keys that token number n reads
    if cached:
        return len(seen), int(seen.sum())
    passes_of_each = torch.arange(new, 0, -1)
    often = torch.cat((torch.full((prompt - 1,), new), passes_of_each))
    return int(often.sum()), int((often * seen).sum())
