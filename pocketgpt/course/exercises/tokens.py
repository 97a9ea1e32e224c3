"""Exercises of chapter 01: count pairs, merge a pair, encode a word, decode, embed."""

import codecs
from collections import Counter
from functools import cache
from itertools import groupby, pairwise

import tiktoken
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from tokenizers import models
from torch import Tensor

from pocketgpt.course.exercise import exercise
from pocketgpt.text.tokenizer import BYTE_LETTERS, Tokenizer

STEPS = ("a nudge", "the steps", "pseudocode")


def _letters(rng, count: int) -> list[bytes]:
    """Different lower-case letters, in a random order."""
    return [bytes([ord("a") + i]) for i in torch.randperm(26, generator=rng)[:count].tolist()]


def _single_bytes(word: str) -> list[bytes]:
    return [bytes([byte]) for byte in word.encode()]


# 1.1 count_pairs


@exercise("1.1", points=1, hints=STEPS, returns=("counts",))
def count_pairs(words: list[list[bytes]]) -> dict[tuple[bytes, bytes], int]:
    """How often each pair of neighbors stands in the words."""
    return Counter(pair for word in words for pair in pairwise(word))


@count_pairs.inputs
def _(rng):
    a, b, c, d = _letters(rng, 4)
    yield ([[a, b, c, a, b]],)
    yield ([[a, b], [b, a, b], [c], []],)
    yield ([[a, a, a, a], [a, a, d]],)
    yield ([[a, b + c, a, d], [a, b, c, a, d], [a, b, c, a, d], [d, a, d, a, b]],)
    yield ([_letters(rng, 7) for _ in range(5)],)


@count_pairs.mistake
def across_words(words):
    """The last token of a word and the first of the next are counted as a pair: count inside each word alone."""
    return Counter(pairwise([token for word in words for token in word]))


@count_pairs.mistake
def last_word_only(words):
    """These are the counts of one word: start counting before the loop over the words, not inside it."""
    return next((Counter(pairwise(word)) for word in reversed(words) if len(word) > 1), {})


@count_pairs.mistake
def once_a_word(words):
    """A pair that stands twice in a word counts twice; here it counts once a word."""
    return Counter(pair for word in words for pair in set(pairwise(word)))


@count_pairs.mistake
def always_one(words):
    """Every count is 1: add 1 to the count so far."""
    return {pair: 1 for word in words for pair in pairwise(word)}


@count_pairs.mistake
def first_not_counted(words):
    """Every count is one too low: a pair that is seen for the first time has the count 1, not 0."""
    return {pair: count - 1 for pair, count in count_pairs.reference(words).items()}


@count_pairs.mistake
def equal_words_once(words):
    """A word that comes twice counts twice: that is what makes frequent words into tokens."""
    return Counter(pair for word in set(map(tuple, words)) for pair in pairwise(word))


@count_pairs.mistake
def without_overlap(words):
    """In a a a the pair (a, a) stands at two places: count every pair of neighbors, also where two of them overlap."""
    counts = Counter()
    for word in words:
        for pair, run in groupby(pairwise(word)):
            places = len(list(run))
            counts[pair] += (places + 1) // 2 if pair[0] == pair[1] else places
    return counts


@count_pairs.mistake
def every_second_pair(words):
    """Tokens 0 and 1 are a pair, and so are 1 and 2: move on by one token, not by two."""
    return Counter(pair for word in words for pair in zip(word[::2], word[1::2], strict=False))


@count_pairs.mistake
def last_pair_missing(words):
    """The last pair of each word is missing: a word of n tokens has n − 1 pairs."""
    return Counter(pair for word in words for pair in pairwise(word[:-1]))


@count_pairs.mistake
def single_tokens(words):
    """These are the counts of single tokens: count pairs, so that each key is a tuple of two tokens."""
    return Counter(token for word in words for token in word)


@count_pairs.mistake
def joined_keys(words):
    """The keys are the joined bytes, and then (a, bc) and (ab, c) are one: take the tuple of the two tokens as key."""
    return Counter(left + right for word in words for left, right in pairwise(word))


@count_pairs.mistake
def in_either_order(words):
    """Here (a, b) and (b, a) are counted as one pair: the order matters, so leave it as it stands in the word."""
    return Counter(tuple(sorted(pair)) for word in words for pair in pairwise(word))


@count_pairs.accepted
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


# 1.2 merge_pair


@exercise("1.2", points=2, hints=STEPS, returns=("tokens",))
def merge_pair(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """The tokens with every occurrence of the pair joined into one, from left to right."""
    known = [*dict.fromkeys([*tokens, *pair, pair[0] + pair[1]])]
    letter = {token: chr(i) for i, token in enumerate(known)}  # one character a token, so that str.replace does it
    text = "".join(map(letter.get, tokens)).replace(letter[pair[0]] + letter[pair[1]], letter[pair[0] + pair[1]])
    return [known[ord(character)] for character in text]


@merge_pair.inputs
def _(rng):
    a, b, c, d = _letters(rng, 4)
    yield [a, b, c], (a, b)
    yield [c, a, b, d, a, b, c], (a, b)
    yield [a, a, a, c, a, a], (a, a)
    yield [b, a, b, d, b, a], (a, b)
    yield [a, b, c, a, b + c, d, a], (a, b + c)
    yield [a + b, c, a, b + c, d], (a + b, c)
    yield [a], (a, b)
    yield [], (a, b)


def _merged(tokens, pair, *, joined=None, matches=None, step=2):
    """Right, unless told otherwise: what stands for the pair, what counts as the pair, and how far to move on."""
    matches = matches or (lambda left, right: (left, right) == pair)
    result, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and matches(tokens[i], tokens[i + 1]):
            result.append(joined or tokens[i] + tokens[i + 1])
            i += step
        else:
            result.append(tokens[i])
            i += 1
    return result


@merge_pair.mistake
def first_only(tokens, pair):
    """Only the first occurrence of the pair is joined: go on to the end of the tokens."""
    for i in range(len(tokens) - 1):
        if (tokens[i], tokens[i + 1]) == pair:
            return [*tokens[:i], pair[0] + pair[1], *tokens[i + 2 :]]
    return list(tokens)


@merge_pair.mistake
def second_part_stays(tokens, pair):
    """After a joined pair its second token is looked at again: move on by two."""
    return _merged(tokens, pair, step=1)


@merge_pair.mistake
def overlapping(tokens, pair):
    """Two joined pairs overlap: in a a a the middle token goes into the first pair and is gone for the next."""
    starts = {i for i in range(len(tokens) - 1) if (tokens[i], tokens[i + 1]) == pair}
    result = []
    for i, token in enumerate(tokens):
        if i in starts:
            result.append(pair[0] + pair[1])
        elif i - 1 not in starts:
            result.append(token)
    return result


@merge_pair.mistake
def right_to_left(tokens, pair):
    """The pairs are joined from right to left, and a a a becomes a aa: start at the left."""
    left, right = pair
    joined = left + right
    matches = lambda one, other: (other, one) == pair  # noqa: E731
    return _merged(tokens[::-1], pair, joined=joined, matches=matches)[::-1]


@merge_pair.mistake
def compared_joined(tokens, pair):
    """The joined bytes are compared, and then (ab, c) passes for (a, bc): compare the two tokens one by one."""
    return _merged(tokens, pair, matches=lambda left, right: left + right == pair[0] + pair[1])


@merge_pair.mistake
def merged_in_either_order(tokens, pair):
    """Here (b, a) is joined like (a, b): the order of the pair matters."""
    return _merged(tokens, pair, matches=lambda left, right: (left, right) in (pair, pair[::-1]))


@merge_pair.mistake
def joined_backwards(tokens, pair):
    """The pair is joined back to front: the new token is left + right."""
    return _merged(tokens, pair, joined=pair[1] + pair[0])


@merge_pair.mistake
def pair_kept_as_tuple(tokens, pair):
    """The pair itself is put in, a tuple: the new token is one byte string, left + right."""
    return _merged(tokens, pair, joined=pair)


@merge_pair.mistake
def last_token_lost(tokens, pair):
    """The last token is lost where it is not part of a pair: it has no right neighbor, and still belongs in the
    result."""
    result = _merged(tokens, pair)
    return result[:-1] if tokens and result[-1] == tokens[-1] else result


@merge_pair.mistake
def loop_over_pairs(tokens, pair):
    """A loop over the pairs of neighbors moves on by one after a merge, and never copies the last token: take a while
    loop, and move on by two after a merge."""
    return [left + right if (left, right) == pair else left for left, right in pairwise(tokens)]


@merge_pair.mistake
def no_right_neighbor(tokens, pair):
    """The last token has no right neighbor, and tokens[i + 1] raises IndexError: ask for i + 1 < len(tokens) first."""
    result, i = [], 0
    while i < len(tokens):
        is_pair = (tokens[i], tokens[i + 1]) == pair
        result.append(tokens[i] + tokens[i + 1] if is_pair else tokens[i])
        i += 2 if is_pair else 1
    return result


@merge_pair.mistake
def half_a_pair_at_the_end(tokens, pair):
    """Where the last token is the left half of the pair, tokens[i + 1] raises IndexError: ask for i + 1 < len(tokens)
    first."""
    result, i = [], 0
    while i < len(tokens):
        is_pair = tokens[i] == pair[0] and tokens[i + 1] == pair[1]
        result.append(tokens[i] + tokens[i + 1] if is_pair else tokens[i])
        i += 2 if is_pair else 1
    return result


@merge_pair.mistake
def others_dropped(tokens, pair):
    """The tokens that are not part of the pair are gone: copy them as they are."""
    return [token for token in _merged(tokens, pair) if token == pair[0] + pair[1]]


@merge_pair.accepted
def with_a_while_loop(tokens, pair):
    return _merged(tokens, pair)


@merge_pair.accepted
def with_a_stack(tokens, pair):
    result, fresh = [], False  # fresh: the token on top was made here, and cannot be the left of the next pair
    for token in tokens:
        if result and not fresh and (result[-1], token) == pair:
            result[-1], fresh = result[-1] + token, True
        else:
            result.append(token)
            fresh = False
    return result


@merge_pair.accepted
def by_splitting_recursively(tokens, pair):
    for i in range(len(tokens) - 1):
        if tuple(tokens[i : i + 2]) == pair:
            return [*tokens[:i], b"".join(pair), *by_splitting_recursively(tokens[i + 2 :], pair)]
    return tokens[:]


# 1.3 encode_word


@exercise("1.3", points=3, hints=STEPS, returns=("tokens",))
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
    return Tokenizer.load("shakespeare").merges[:120]


@encode_word.inputs
def _(rng):
    a, b, c, d = _letters(rng, 4)
    x, y, z, w = (token.decode() for token in (a, b, c, d))
    in_order = lambda *pairs: {pair: rank for rank, pair in enumerate(pairs)}  # noqa: E731
    yield x + y + z, in_order((b, c), (a, b))
    yield w + x + y + z + x + y + w, in_order((b, c), (a, b), (d, a))
    yield x + y + z, in_order((b, c), (a, b + c), (a, b))
    yield 5 * x, in_order((a, a))
    yield 4 * x + y, in_order((a, a), (a + a, a + a), (a, b))
    yield x + y + z + w, in_order((a, b), (c, d), (a + b, c + d))
    yield "é" + x + "ü" + y, in_order((a, b), (b"\xc3", b"\xbc"))
    yield x + "–" + y, in_order((b"\xe2", b"\x80"))
    merges = _real_merges()[: int(torch.randint(40, 121, (), generator=rng))]
    for i in torch.randperm(len(REAL_WORDS), generator=rng)[:3].tolist():
        yield " " + REAL_WORDS[i], in_order(*merges)


def _encoded(word, ranks, *, choose=None, tokens=None):
    """Right, unless told otherwise: which of the known pairs is next, and what the word is at the start."""
    choose = choose or (lambda tokens, known: min(known, key=ranks.get))
    tokens = _single_bytes(word) if tokens is None else tokens
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = _merged(tokens, choose(tokens, known))
    return tokens


@encode_word.mistake
def in_the_order_of_the_text(word, ranks):
    """The pairs are joined in the order in which they stand in the text: join the one with the lowest rank first,
    wherever it stands."""
    return _encoded(word, ranks, choose=lambda tokens, known: known[0])


@encode_word.mistake
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


@encode_word.mistake
def one_merge(word, ranks):
    """Only one pair is joined: repeat until no two neighbors have a rank."""
    tokens = _single_bytes(word)
    known = [pair for pair in pairwise(tokens) if pair in ranks]
    return _merged(tokens, min(known, key=ranks.get)) if known else tokens


@encode_word.mistake
def single_bytes_only(word, ranks):
    """Joined tokens are not joined further: after each merge look at the pairs of the new tokens."""
    return _encoded(word, {pair: rank for pair, rank in ranks.items() if len(pair[0]) == len(pair[1]) == 1})


@encode_word.mistake
def every_pair_has_a_rank(word, ranks):
    """Not every pair of neighbors has a rank, and ranks[pair] raises KeyError: look only at pairs that are in ranks."""
    tokens = _single_bytes(word)
    while len(tokens) > 1:
        tokens = _merged(tokens, min(pairwise(tokens), key=ranks.__getitem__))
    return tokens


@encode_word.mistake
def no_end(word, ranks):
    """When no pair has a rank, the loop has to end: here min() gets nothing to choose from, and raises ValueError."""
    tokens = _single_bytes(word)
    while True:
        tokens = _merged(tokens, min([pair for pair in pairwise(tokens) if pair in ranks], key=ranks.get))


@encode_word.mistake
def nothing_joined(word, ranks):
    """These are the single bytes of the word: no pair is joined yet."""
    return _single_bytes(word)


@encode_word.mistake
def last_place_first(word, ranks):
    """Where a pair stands at several places, the last is joined first, and a a a becomes a aa: go from left to
    right."""
    tokens = _single_bytes(word)
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = right_to_left(tokens, min(known, key=ranks.get))
    return tokens


@encode_word.mistake
def from_characters(word, ranks):
    """The word is cut into characters, and é would have to be one token from the start: cut it into bytes."""
    return _encoded(word, ranks, tokens=[character.encode() for character in word])


@encode_word.mistake
def latin_1(word, ranks):
    """The numbers of the characters are taken for bytes (Latin-1), and é is one byte: word.encode() gives UTF-8."""
    return _encoded(word, ranks, tokens=[bytes([byte]) for byte in word.encode("latin-1", errors="replace")])


@encode_word.mistake
def integers(word, ranks):
    """A loop over bytes gives integers, and no pair of integers has a rank: bytes([byte]) makes a token of one."""
    return list(word.encode())


@encode_word.accepted
def lowest_rank_again_and_again(word, ranks):
    return _encoded(word, ranks)


@encode_word.accepted
def merge_after_merge(word, ranks):
    """As training went: every merge once, in order."""
    tokens = _single_bytes(word)
    for pair in sorted(ranks, key=ranks.get):
        if pair in pairwise(tokens):
            tokens = _merged(tokens, pair)
    return tokens


@encode_word.accepted
def one_place_at_a_time(word, ranks):
    tokens = _single_bytes(word)
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
        joined = min((left + right for left, right in pairwise(tokens)), key=lambda token: made.get(token, len(made)))
        i = next(i for i in range(len(tokens)) if tokens[i] + tokens[i + 1] == joined)
        tokens = [*tokens[:i], joined, *tokens[i + 2 :]]
    return tokens


# 1.4 decode


@exercise("1.4", points=1, hints=STEPS, returns=("text",))
def decode(tokens: list[int], vocabulary: list[bytes]) -> str:
    """The text of some ids; bytes that are not UTF-8 become U+FFFD."""
    ranks = {token: i for i, token in enumerate(vocabulary)}
    return tiktoken.Encoding("exercise", pat_str=".", mergeable_ranks=ranks, special_tokens={}).decode(tokens)


@decode.inputs
def _(rng):
    def write(*tokens):
        parts = list(dict.fromkeys([*tokens, b"\xf0"]))
        vocabulary = [parts[i] for i in torch.randperm(len(parts), generator=rng).tolist()]
        return [vocabulary.index(token) for token in tokens], vocabulary

    a, b, c, _ = _letters(rng, 4)
    yield write(b" " + a, b" " + b + c)
    yield write(b" it", a, b"\n", b" To")
    yield write(b, b"\xc3", b"\xa9", c, "é".encode(), b" it")
    yield write(b" be", b"\xf0\x9f", b"\x8c\xb9", c)
    yield write(b, b"\xc3", c, b"\xa9", b" be", b"\xe2\x80")
    yield write()
    many = [bytes([ord("a") + i // 26, ord("a") + i % 26]) for i in torch.randperm(26 * 26, generator=rng).tolist()]
    yield torch.randint(256, len(many), (5,), generator=rng).tolist(), many


@decode.mistake
def token_by_token(tokens, vocabulary):
    """Each token is decoded on its own, and a character that is spread over two tokens is lost: join the bytes
    first."""
    return "".join(vocabulary[token].decode(errors="replace") for token in tokens)


@decode.mistake
def token_by_token_strictly(tokens, vocabulary):
    """Each token is decoded on its own, and one that holds half a character raises UnicodeDecodeError: join the bytes
    of all tokens first."""
    return "".join(vocabulary[token].decode() for token in tokens)


@decode.mistake
def strictly(tokens, vocabulary):
    """Half a character raises UnicodeDecodeError: a model may write one at any time, so decode with
    errors="replace"."""
    return b"".join(vocabulary[token] for token in tokens).decode()


@decode.mistake
def halves_ignored(tokens, vocabulary):
    """Half a character vanishes: with errors="replace" it becomes U+FFFD, and the reader sees that something is
    missing."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="ignore")


@decode.mistake
def halves_spelled_out(tokens, vocabulary):
    """Half a character is spelled out as \\x…: with errors="replace" it becomes U+FFFD."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="backslashreplace")


@decode.mistake
def decoded_as_latin_1(tokens, vocabulary):
    """The bytes are read as Latin-1, one character each, and é becomes Ã©: they are UTF-8."""
    return b"".join(vocabulary[token] for token in tokens).decode("latin-1")


@decode.mistake
def with_spaces(tokens, vocabulary):
    """Spaces are put between the tokens: a token brings its own space, so join them as they are."""
    return b" ".join(vocabulary[token] for token in tokens).decode(errors="replace")


@decode.mistake
def stripped(tokens, vocabulary):
    """Spaces or line breaks at the ends are cut off: they are part of the text."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="replace").strip()


@decode.mistake
def representation(tokens, vocabulary):
    """The result of str(b"To") is the text b'To', with quotation marks: bytes become text by .decode()."""
    return "".join(str(vocabulary[token]) for token in tokens)


@decode.mistake
def ids_as_bytes(tokens, vocabulary):
    """The ids themselves are taken for bytes: look each one up in the vocabulary."""
    return bytes(tokens).decode(errors="replace")


@decode.accepted
def joined_then_decoded(tokens, vocabulary):
    return b"".join([vocabulary[token] for token in tokens]).decode("utf-8", errors="replace")


@decode.accepted
def added_up(tokens, vocabulary):
    data = b""
    for token in tokens:
        data += vocabulary[token]
    return str(data, "utf-8", "replace")


@decode.accepted
def as_a_stream(tokens, vocabulary):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return "".join(decoder.decode(vocabulary[token]) for token in tokens) + decoder.decode(b"", final=True)


# 1.5 embed


@exercise("1.5", points=1, returns=("vectors",), forbidden=("embedding",))
def embed(
    tokens: Int[Tensor, "batch seq"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch seq d_model"]:
    """For each token its row of the table."""
    return F.embedding(tokens, table)


@embed.inputs
def _(rng):
    for batch, seq, vocab, d_model in [(2, 3, 4, 5), (3, 5, 7, 8), (1, 4, 6, 9)]:
        yield torch.randint(vocab, (batch, seq), generator=rng), torch.randn(vocab, d_model, generator=rng)


@embed.mistake
def columns(tokens, table):
    """These are columns of the table: the vector of a token is a row, the first axis counts tokens."""
    return table.T[tokens]


@embed.mistake
def columns_first(tokens, table):
    """Here the tokens pick along the second axis of the table, which is d_model: pick along the first."""
    return table[:, tokens]


@embed.mistake
def one_hot_only(tokens, table):
    """These are one-hot vectors of width vocab: multiply them by the table."""
    return F.one_hot(tokens, len(table)).float()


@embed.mistake
def row_of_the_position(tokens, table):
    """The rows are picked by position, 0, 1, 2, …: pick them by the token that stands there."""
    return table[torch.arange(tokens.shape[1]) % len(table)].expand(len(tokens), -1, -1)


@embed.mistake
def off_by_one(tokens, table):
    """Each token gets the row before its own: token 0 has row 0."""
    return table[tokens - 1]


@embed.mistake
def flattened(tokens, table):
    """The rows are right and batch and seq have become one axis: keep them, (batch, seq) → (batch, seq, d_model)."""
    return table[tokens.flatten()]


@embed.mistake
def seq_first(tokens, table):
    """The axes batch and seq have changed places: (batch, seq) → (batch, seq, d_model)."""
    return table[tokens.T]


@embed.mistake
def averaged(tokens, table):
    """Each text has one vector, the mean of its tokens: every token keeps its own."""
    return table[tokens].mean(1)


@embed.mistake
def scaled_up(tokens, table):
    """The vectors are multiplied by √d_model, as in the Transformer of 2017: GPT takes the rows as they are."""
    return table[tokens] * table.shape[1] ** 0.5


@embed.accepted
def by_index(tokens, table):
    return table[tokens]


@embed.accepted
def by_one_hot(tokens, table):
    return F.one_hot(tokens, num_classes=table.shape[0]).to(table.dtype) @ table


@embed.accepted
def by_index_select(tokens, table):
    return table.index_select(0, tokens.reshape(-1)).view(*tokens.shape, -1)


@embed.accepted
def in_loops(tokens, table):
    return torch.stack([torch.stack([table[int(token)] for token in row]) for row in tokens])


@embed.accepted
def by_comparison(tokens, table):
    is_token = tokens[..., None] == torch.arange(len(table))
    return torch.einsum("btv,vd->btd", is_token.double(), table.double())
