"""Exercise `encode_word`: byte-pair encoding of a word."""

import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise

import torch
from tokenizers import models

from pocketgpt.course.ch01_tokens.shared import STEPS, letters, merged, merged_from_the_right, single_bytes
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.text.byte_tokenizer import BYTE_LETTERS
from pocketgpt.text.tokenizer import load_tokenizer


@exercise(points=3, hints=STEPS, returns=("tokens",))
def encode_word(word: str, ranks: dict[tuple[bytes, bytes], int]) -> list[bytes]:
    """The tokens of a word: from single bytes, the pair of the lowest rank is joined until no pair has a rank."""
    names = {
        token: "".join(BYTE_LETTERS[byte] for byte in token) for pair in ranks for token in (*pair, b"".join(pair))
    }
    names |= {bytes([byte]): letter for byte, letter in enumerate(BYTE_LETTERS)}
    merges = [(names[left], names[right]) for left, right in sorted(ranks, key=ranks.get)]
    library = models.BPE(vocab={name: i for i, name in enumerate(names.values())}, merges=merges)
    tokens = {name: token for token, name in names.items()}
    return [tokens[token.value] for token in library.tokenize("".join(BYTE_LETTERS[byte] for byte in word.encode()))]


REAL_WORDS = ["thrones", "there", "others", "weather", "mother", "thither", "together", "hereafter", "wherefore"]


@cache
def _real_merges() -> list[tuple[bytes, bytes]]:
    return load_tokenizer("shakespeare").merges[:120]


@encode_word.values
def ranks(rng, word):
    """Merges of random pairs of the word, with gaps between their ranks, as large as in real vocabularies."""
    found, tokens = {}, single_bytes(word)
    for step in range(4):
        pairs = [pair for pair in pairwise(tokens) if pair not in found]
        if pairs:
            pair = pairs[int(torch.randint(len(pairs), (), generator=rng))]
            found[pair] = 20_000 * step + int(torch.randint(20_000, (), generator=rng))
            tokens = merged(tokens, pair)
    return found


@encode_word.inputs
def _(rng):
    a, b, c, d = letters(rng, 4)
    x, y, z, w = (token.decode() for token in (a, b, c, d))
    in_order = lambda *pairs: {pair: rank for rank, pair in enumerate(pairs)}  # noqa: E731
    yield x + y + z, in_order((b, c), (a, b))
    yield w + x + y + z + x + y + w, in_order((b, c), (a, b), (d, a))
    yield x + y + z, in_order((b, c), (a, b + c), (a, b))
    yield 5 * x, in_order((a, a))
    yield 4 * x + y, in_order((a, a), (a + a, a + a), (a, b))
    yield x + y + z + w, in_order((a, b), (c, d), (a + b, c + d))
    yield "é" + x + "ü" + y, in_order((a, b), (b"\xc3", b"\xbc"))
    yield "e\u0301" + x, in_order((b"e", b"\xcc"), (b"\xcc", b"\x81"))  # é as two characters
    yield x.upper() + x + y.upper() + y, in_order((a.upper(), a), (b, b), (b.upper(), b))
    yield x + "–" + y, in_order((b"\xe2", b"\x80"))
    yield "é", in_order((b"\xc3", b"\xa9"))  # one character, two bytes
    yield x + y + z + w, in_order((a, b), (a + b, c), (c, d))  # the first join makes a pair that beats a known one
    yield x + y + z, in_order((a, b + c))  # the joined bytes are known, but not as these two tokens
    long = letters(rng, 14)
    yield b"".join(long).decode(), in_order(*((b"".join(long[:i]), long[i]) for i in range(1, 14)))
    merges = _real_merges()[: int(torch.randint(40, 121, (), generator=rng))]
    for i in torch.randperm(len(REAL_WORDS), generator=rng)[:3].tolist():
        yield " " + REAL_WORDS[i], in_order(*merges)


@encode_word.composed
def _(word, ranks, *, merge_pair):
    tokens = single_bytes(word)
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        joined = merge_pair(tokens, min(known, key=ranks.get))
        if joined == tokens:
            raise RuntimeError("a loop without an end")
        tokens = joined
    return tokens


def _encoded(word, ranks, *, choose=None, tokens=None):
    """Right, unless told otherwise: which of the known pairs is next, and what the word is at the start."""
    choose = choose or (lambda tokens, known: min(known, key=ranks.get))
    tokens = single_bytes(word) if tokens is None else tokens
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = merged(tokens, choose(tokens, known))
    return tokens


@encode_word.mistake(hint=1)
def in_the_order_of_the_text(word, ranks):
    """The pairs are joined in the order in which they occur in the text: join the one with the lowest rank first,
    wherever it is."""
    return _encoded(word, ranks, choose=lambda tokens, known: known[0])


@encode_word.mistake(hint=2)
def highest_rank_first(word, ranks):
    """The pair with the highest rank is joined first. The lowest comes first: it was found first in training."""
    return _encoded(word, ranks, choose=lambda tokens, known: max(known, key=ranks.get))


@encode_word.mistake
def most_frequent_first(word, ranks):
    """The pair that is most frequent in this word is joined first. Frequencies are for training; encoding goes by
    rank."""
    return _encoded(word, ranks, choose=lambda tokens, known: Counter(known).most_common(1)[0][0])


@encode_word.mistake
def longest_first(word, ranks):
    """The longest token that fits is taken from the left. That is another algorithm: byte-pair encoding joins pairs,
    the lowest rank first."""
    made = {left + right for left, right in ranks}
    data, tokens = word.encode(), []
    while data:
        length = next(n for n in range(len(data), 0, -1) if n == 1 or data[:n] in made)
        tokens.append(data[:length])
        data = data[length:]
    return tokens


@encode_word.mistake(hint=3)
def one_merge(word, ranks):
    """Only one pair is joined: repeat until no two neighbors have a rank."""
    tokens = single_bytes(word)
    known = [pair for pair in pairwise(tokens) if pair in ranks]
    return merged(tokens, min(known, key=ranks.get)) if known else tokens


@encode_word.mistake(hint=2)
def single_bytes_only(word, ranks):
    """Joined tokens are not joined further: after each merge look at the pairs of the new tokens."""
    return _encoded(word, {pair: rank for pair, rank in ranks.items() if len(pair[0]) == len(pair[1]) == 1})


@encode_word.mistake(hint=2)
def every_pair_has_a_rank(word, ranks):
    """Not every pair of neighbors has a rank, and ranks[pair] raises KeyError: look only at pairs that are in ranks."""
    tokens = single_bytes(word)
    while len(tokens) > 1:
        tokens = merged(tokens, min(pairwise(tokens), key=ranks.__getitem__))
    return tokens


@encode_word.mistake(hint=2)
def no_end(word, ranks):
    """When no pair has a rank, the loop has to end: here min() gets nothing to choose from, and raises ValueError."""
    tokens = single_bytes(word)
    while True:
        tokens = merged(tokens, min([pair for pair in pairwise(tokens) if pair in ranks], key=ranks.get))


@encode_word.mistake(hint=2)
def nothing_joined(word, ranks):
    """These are the single bytes of the word: no pair is joined yet."""
    return single_bytes(word)


@encode_word.mistake
def last_place_first(word, ranks):
    """Where a pair occurs at several places, the last is joined first, and a a a becomes a aa: go from left to
    right."""
    tokens = single_bytes(word)
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = merged_from_the_right(tokens, min(known, key=ranks.get))
    return tokens


@encode_word.mistake(hint=1)
def from_characters(word, ranks):
    """The word is cut into characters, and é would have to be one token from the start: cut it into bytes."""
    return _encoded(word, ranks, tokens=[character.encode() for character in word])


@encode_word.mistake(hint=1)
def latin_1(word, ranks):
    """The numbers of the characters are taken for bytes (Latin-1), and é is one byte: word.encode() gives UTF-8."""
    return _encoded(word, ranks, tokens=[bytes([byte]) for byte in word.encode("latin-1", errors="replace")])


@encode_word.mistake(hint=1)
def integers(word, ranks):
    """A loop over bytes gives integers, and no pair of integers has a rank: bytes([byte]) makes a token of one."""
    return list(word.encode())


@encode_word.mistake(hint=1)
def zeros(word, ranks):
    """The call bytes(98) makes 98 zero bytes: bytes([98]) is the byte 98."""
    return _encoded(word, ranks, tokens=[bytes(byte) for byte in word.encode()])


@encode_word.mistake(hint=1)
def letters_of_a_string(word, ranks):
    """The word is cut into strings, and the pairs in ranks are byte strings, so none is ever found: start from
    word.encode()."""
    return list(word)


@encode_word.mistake(hint=2)
def in_the_order_of_the_dictionary(word, ranks):
    """The merges are applied in the order of the dictionary: go by rank, the lowest first."""
    tokens = single_bytes(word)
    for pair in ranks:
        tokens = merged(tokens, pair)
    return tokens


@encode_word.mistake(hint=2)
def rank_0_taken_for_none(word, ranks):
    """The pair of rank 0 is never joined, because 0 counts as false: ask `pair in ranks`."""
    return _encoded(word, {pair: rank for pair, rank in ranks.items() if rank})


@encode_word.mistake(hint=3)
def first_place_of_each_pair(word, ranks):
    """A pair is joined at its first place alone, and is never looked for again: join it wherever it occurs."""
    tokens = single_bytes(word)
    for pair in sorted(ranks, key=ranks.get):
        if pair in (pairs := list(pairwise(tokens))):
            i = pairs.index(pair)
            tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


@encode_word.mistake(hint=2)
def round_by_round(word, ranks):
    """All pairs that are found at once are joined, one after the other: a join may make a pair of a lower rank, so
    look anew after each."""
    tokens = single_bytes(word)
    while known := sorted({pair for pair in pairwise(tokens) if pair in ranks}, key=ranks.get):
        for pair in known:
            tokens = merged(tokens, pair)
    return tokens


@encode_word.mistake(hint=2)
def ends_at_a_pair_that_is_not_there(word, ranks):
    """It ends at the lowest rank whose pair is not in the word, and a higher one may be: take the lowest rank of the
    pairs that are there."""
    tokens = single_bytes(word)
    for pair in sorted(ranks, key=ranks.get):
        if pair not in pairwise(tokens):
            break
        tokens = merged(tokens, pair)
    return tokens


@encode_word.mistake(hint=2)
def everything_joined(word, ranks):
    """In the end the word is one token: pairs without a rank are not joined, so end when the lowest one has none."""
    return [word.encode()] if word else []


@encode_word.mistake
def space_cut_off(word, ranks):
    """The spaces around the word are cut off: its own space is part of a word."""
    return _encoded(word.strip(), ranks)


@encode_word.mistake(hint=1)
def composed(word, ranks):
    """The characters are composed first (NFC), and e with an accent of its own becomes é: take the bytes as they
    are."""
    return _encoded(unicodedata.normalize("NFC", word), ranks)


@encode_word.mistake
def lowered(word, ranks):
    """Capitals become small letters: take the word as it is."""
    return _encoded(word.lower(), ranks)


@encode_word.mistake(hint=1)
def ascii_only(word, ranks):
    """The word is encoded as ASCII, which has no é: word.encode() gives UTF-8."""
    return _encoded(word, ranks, tokens=[bytes([byte]) for byte in word.encode("ascii", errors="ignore")])


@encode_word.mistake(hint=2)
def one_pass_from_the_left(word, ranks):
    """This goes through the word once, and joins each pair that has a rank as it comes: take the lowest rank of the
    whole word, and begin again after each join."""
    tokens = []
    for token in single_bytes(word):
        if tokens and (tokens[-1], token) in ranks:
            tokens[-1] += token
        else:
            tokens.append(token)
    return tokens


@encode_word.mistake(hint=2)
def rank_0_taken_for_none_so_far(word, ranks):
    """A lowest rank of 0 counts as false, so the next pair takes its place: ask `is None`."""

    def choose(tokens, known):
        best = None
        for pair in known:
            if not best or not ranks[best] or ranks[pair] < ranks[best]:
                best = pair
        return best

    return _encoded(word, ranks, choose=choose)


@encode_word.mistake(hint=2)
def first_in_the_alphabet(word, ranks):
    """Without a key, min(known) takes the pair that is first in the alphabet: go by rank, min(known, key=ranks.get)."""
    return _encoded(word, ranks, choose=lambda tokens, known: min(known))


@encode_word.mistake(hint=2)
def one_merge_or_an_error(word, ranks):
    """Only one pair is joined, and where none has a rank, min() raises ValueError: put it into a loop, which ends where
    none is known."""
    tokens = single_bytes(word)
    return merged(tokens, min([pair for pair in pairwise(tokens) if pair in ranks], key=ranks.get))


@encode_word.mistake(hint=2)
def none_compared(word, ranks):
    """A pair without a rank gives None in ranks.get(pair), which no number is compared with: look only at pairs that
    are in ranks."""
    tokens = single_bytes(word)
    while len(tokens) > 1:
        tokens = merged(tokens, min(pairwise(tokens), key=ranks.get))
    return tokens


@encode_word.mistake(hint=1)
def numbers_of_the_characters(word, ranks):
    """The number of a character is taken for a byte, and beyond 255 bytes() raises ValueError: word.encode() gives
    UTF-8."""
    return _encoded(word, ranks, tokens=[bytes([ord(character)]) for character in word])


@encode_word.mistake
def tokens_as_text(word, ranks):
    """The tokens are decoded to strings, and half a character becomes �: return byte strings."""
    return [token.decode(errors="replace") for token in _encoded(word, ranks)]


@encode_word.finished
def lowest_rank_again_and_again(word, ranks):
    tokens = [bytes([byte]) for byte in word.encode()]
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        best = min(known, key=ranks.get)
        i = 0
        while i < len(tokens) - 1:
            if (tokens[i], tokens[i + 1]) == best:
                tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
            i += 1
    return tokens


@encode_word.accepted
def merge_after_merge(word, ranks):
    """As training went: every merge once, in order."""
    tokens = single_bytes(word)
    for pair in sorted(ranks, key=ranks.get):
        if pair in pairwise(tokens):
            tokens = merged(tokens, pair)
    return tokens


@encode_word.accepted
def one_place_at_a_time(word, ranks):
    tokens = single_bytes(word)
    while len(tokens) > 1:
        i = min(range(len(tokens) - 1), key=lambda i: ranks.get((tokens[i], tokens[i + 1]), float("inf")))
        if (tokens[i], tokens[i + 1]) not in ranks:
            break
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


@encode_word.accepted
def by_rank_of_the_result(word, ranks):
    """As tiktoken does it: a token's rank is that of the merge that makes it."""
    made = {left + right: rank for (left, right), rank in ranks.items()}
    tokens = [word.encode()[i : i + 1] for i in range(len(word.encode()))]
    while any(left + right in made for left, right in pairwise(tokens)):
        joined = min(
            (left + right for left, right in pairwise(tokens)), key=lambda token: made.get(token, float("inf"))
        )
        i = next(i for i in range(len(tokens)) if tokens[i] + tokens[i + 1] == joined)
        tokens = [*tokens[:i], joined, *tokens[i + 2 :]]
    return tokens
