"""Exercise `count_pairs`: count pairs of neighboring tokens."""

from collections import Counter
from itertools import combinations, groupby, pairwise

from pocketgpt.course.ch01_tokens.shared import STEPS, letters
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=STEPS, returns=("counts",))
def count_pairs(words: list[list[bytes]]) -> dict[tuple[bytes, bytes], int]:
    """Count how often each pair of neighbors occurs in the words."""
    return Counter(pair for word in words for pair in pairwise(word))


@count_pairs.inputs
def _(rng):
    a, b, c, d = letters(rng, 4)
    yield ([[a, b, c, a, b]],)
    yield ([[a, b], [b, a, b], [c], []],)
    yield ([[a, a, a, a], [a, a, d]],)
    yield ([[a, b + c, a, d], [a, b, c, a, d], [a, b, c, a, d], [d, a, d, a, b]],)
    yield ([[a, b, a, b, b"o " + c, b" "]],)


@count_pairs.mistake
def across_words(words):
    """The last token of a word and the first of the next are counted as a pair: count inside each word alone."""
    return Counter(pairwise([token for word in words for token in word]))


@count_pairs.mistake(hint=2)
def last_word_only(words):
    """These are the counts of one word: start counting before the loop over the words, not inside it."""
    return next((Counter(pairwise(word)) for word in reversed(words) if len(word) > 1), {})


@count_pairs.mistake
def once_a_word(words):
    """A pair that occurs twice in a word counts twice; here it counts once a word."""
    return Counter(pair for word in words for pair in set(pairwise(word)))


@count_pairs.mistake(hint=3)
def always_one(words):
    """Every count is 1: add 1 to the count so far."""
    return {pair: 1 for word in words for pair in pairwise(word)}


@count_pairs.mistake(hint=3)
def first_not_counted(words):
    """Every count is one too low: a pair that is seen for the first time has the count 1, not 0."""
    return {pair: count - 1 for pair, count in count_pairs.reference(words).items()}


@count_pairs.mistake
def equal_words_once(words):
    """A word that comes twice counts twice: that is what makes frequent words into tokens."""
    return Counter(pair for word in set(map(tuple, words)) for pair in pairwise(word))


@count_pairs.mistake(hint=1)
def without_overlap(words):
    """In a a a the pair (a, a) occurs at two places: count every pair of neighbors, also where two of them overlap."""
    counts = Counter()
    for word in words:
        for pair, run in groupby(pairwise(word)):
            places = len(list(run))
            counts[pair] += (places + 1) // 2 if pair[0] == pair[1] else places
    return counts


@count_pairs.mistake(hint=1)
def every_second_pair(words):
    """Tokens 0 and 1 are a pair, and so are 1 and 2: move on by one token, not by two."""
    return Counter(pair for word in words for pair in zip(word[::2], word[1::2], strict=False))


@count_pairs.mistake(hint=1)
def last_pair_missing(words):
    """The last pair of each word is missing: a word of n tokens has n − 1 pairs."""
    return Counter(pair for word in words for pair in pairwise(word[:-1]))


@count_pairs.mistake(hint=1)
def single_tokens(words):
    """These are the counts of single tokens: count pairs, so that each key is a tuple of two tokens."""
    return Counter(token for word in words for token in word)


@count_pairs.mistake
def joined_keys(words):
    """The keys are the joined bytes, and then (a, bc) and (ab, c) are one: take the tuple of the two tokens as key."""
    return Counter(left + right for word in words for left, right in pairwise(word))


@count_pairs.mistake
def in_either_order(words):
    """Here (a, b) and (b, a) are counted as one pair: the order matters, so leave it as it is in the word."""
    return Counter(tuple(sorted(pair)) for word in words for pair in pairwise(word))


@count_pairs.mistake(hint=1)
def slice_as_key(words):
    """The slice word[i : i + 2] is a list, and a list cannot be a key (TypeError: unhashable): make a
    tuple of the two tokens."""
    counts = {}
    for word in words:
        for i in range(len(word) - 1):
            counts[word[i : i + 2]] = counts.get(word[i : i + 2], 0) + 1
    return counts


@count_pairs.mistake(hint=2)
def first_word_only(words):
    """These are the counts of the first word that has a pair: `return` belongs after the loop, not inside it."""
    return next((Counter(pairwise(word)) for word in words if len(word) > 1), {})


@count_pairs.mistake(hint=3)
def replaced_by_each_word(words):
    """The counts of a word replace those of the words before: add them. A dictionary's update() replaces."""
    counts = {}
    for word in words:
        counts.update(Counter(pairwise(word)))
    return counts


@count_pairs.mistake
def right_then_left(words):
    """The keys are (right, left): the left token comes first."""
    return Counter((right, left) for word in words for left, right in pairwise(word))


@count_pairs.mistake(hint=1)
def place_of_the_first_equal_token(words):
    """The position comes from word.index(token), the first place of an equal token, so later places are not seen: take
    zip(word, word[1:])."""
    return Counter((token, word[word.index(token) + 1]) for word in words for token in word[:-1])


@count_pairs.mistake(hint=1)
def one_between(words):
    """These are the pairs with one token between them: the neighbor of token i is token i + 1."""
    return Counter(pair for word in words for pair in zip(word, word[2:], strict=False))


@count_pairs.mistake(hint=1)
def any_two_tokens(words):
    """Any two tokens of a word are counted as a pair: only neighbors are one."""
    return Counter(pair for word in words for pair in combinations(word, 2))


@count_pairs.mistake(hint=1)
def around_the_end(words):
    """The last token of a word and its first are counted as neighbors: word[i − 1] is the last token where i is 0."""
    return Counter((word[i - 1], word[i]) for word in words for i in range(len(word)))


@count_pairs.mistake(hint=1)
def past_the_end(words):
    """The last token has no right neighbor, and word[i + 1] raises IndexError: end at len(word) − 1."""
    return Counter((word[i], word[i + 1]) for word in words for i in range(len(word)))


@count_pairs.mistake
def different_neighbors_only(words):
    """Two equal neighbors are left out: (a, a) is a pair like any other."""
    return Counter(pair for word in words for pair in pairwise(word) if pair[0] != pair[1])


@count_pairs.mistake(hint=2)
def no_count_yet(words):
    """A pair that is new has no count yet, and counts[pair] raises KeyError: counts.get(pair, 0) gives 0 for it."""
    counts = {}
    for word in words:
        for pair in pairwise(word):
            counts[pair] += 1
    return counts


@count_pairs.mistake(hint=2)
def made_anew_for_each_word(words):
    """The dictionary is made anew for each word, and without words there is none: make it before the loops."""
    for word in words:
        counts = {}
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


@count_pairs.mistake(hint=3)
def starts_at_two(words):
    """Every count is one too high: the count so far of a new pair is 0, so counts.get(pair, 0) + 1."""
    return {pair: count + 1 for pair, count in count_pairs.reference(words).items()}


@count_pairs.mistake(hint=3)
def never_added(words):
    """Every count is 0: add 1 to the count so far."""
    return dict.fromkeys(count_pairs.reference(words), 0)


@count_pairs.mistake(hint=1)
def first_pair_missing(words):
    """The first pair of each word is missing: begin at token 0."""
    return Counter(pair for word in words for pair in pairwise(word[1:]))


@count_pairs.mistake(hint=1)
def itself_as_neighbor(words):
    """Each token is paired with itself: the neighbor of token i is token i + 1, so zip(word, word[1:])."""
    return Counter(pair for word in words for pair in zip(word, word, strict=True))


@count_pairs.mistake(hint=2)
def neighbors_of_words(words):
    """These are pairs of words, and a list cannot be a key (TypeError: unhashable): inside the loop over the words,
    loop over the tokens of each."""
    counts = {}
    for pair in pairwise(words):
        counts[pair] = counts.get(pair, 0) + 1
    return counts


@count_pairs.mistake
def right_inside_left(words):
    """There is a dictionary for each left token: make one dictionary, whose keys are pairs."""
    counts = {}
    for word in words:
        for left, right in pairwise(word):
            counts.setdefault(left, Counter())[right] += 1
    return counts


@count_pairs.mistake(hint=3)
def added_at_each_place(words):
    """The count of a pair in its word is added at each of its places: add 1 at each."""
    counts = Counter()
    for word in words:
        pairs = list(pairwise(word))
        for pair in pairs:
            counts[pair] += pairs.count(pair)
    return counts


@count_pairs.mistake
def pairs_of_bytes(words):
    """These are pairs of single bytes, as numbers: a token may have several bytes, so pair the tokens as they are."""
    return Counter(pair for word in words for pair in pairwise(b"".join(word)))


@count_pairs.mistake
def keys_as_text(words):
    """The tokens are decoded, and half a character becomes �, which is every half: the keys are byte strings."""
    text = lambda token: token.decode(errors="replace")  # noqa: E731
    return Counter((text(left), text(right)) for word in words for left, right in pairwise(word))


@count_pairs.finished
def counts_with_zip(words):
    counts = {}
    for word in words:
        for pair in zip(word, word[1:], strict=False):  # noqa: RUF007
            counts[pair] = counts.get(pair, 0) + 1
    return counts


@count_pairs.accepted
def counts_by_index(words):
    counts = Counter()
    for word in words:
        counts.update((word[i], word[i + 1]) for i in range(len(word) - 1))
    return counts


@count_pairs.accepted
def counts_with_list(words):
    pairs = [(word[i - 1], word[i]) for word in words for i in range(1, len(word))]
    return {pair: pairs.count(pair) for pair in pairs}
