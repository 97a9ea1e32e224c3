"""Exercise `decode`: token ids to text."""

import codecs
import unicodedata

import tiktoken
import torch

from pocketgpt.course.ch01_tokens.shared import STEPS, letters
from pocketgpt.course.checking.exercise import exercise


@exercise(points=1, hints=STEPS, returns=("text",))
def decode(tokens: list[int], vocabulary: list[bytes]) -> str:
    """The text of some ids; bytes that are not UTF-8 become U+FFFD."""
    ranks = {token: i for i, token in enumerate(vocabulary)}
    return tiktoken.Encoding("exercise", pat_str=".", mergeable_ranks=ranks, special_tokens={}).decode(tokens)


@decode.values
def vocabulary(rng, pool):
    return [pool[i] for i in torch.randperm(len(pool), generator=rng).tolist()]


@decode.values
def tokens(rng, length, vocabulary):
    return torch.randint(len(vocabulary), (length,), generator=rng).tolist()


@decode.inputs
def _(rng):
    def write(*tokens):
        parts = list(dict.fromkeys([*tokens, b"\xf0"]))
        vocabulary = [parts[i] for i in torch.randperm(len(parts), generator=rng).tolist()]
        return [vocabulary.index(token) for token in tokens], vocabulary

    a, b, c, _ = letters(rng, 4)
    yield write(b" " + a, b" " + b + c)
    yield write(b" it", a, b"\n", b" To")
    yield write(b"\xc3", b"\xa9", a, b"\xc3")  # a character in two tokens, and half of one
    yield write(b, b"\xc3", b"\xa9", c, "é".encode(), b" it")
    yield write(b" be", b"\xf0\x9f", b"\x8c\xb9", c)
    yield write(b, b"\xc3", c, b"\xa9", b" be", b"\xe2\x80")
    yield write(b, c, b"\xe2\x80", b)  # the last token comes earlier, too
    yield write(b"\xef\xbb\xbf", a, b)  # U+FEFF, which opens some files
    yield write(a, b"e\xcc", b"\x81", b)  # é as two characters
    yield write(a, "Ġ".encode(), b)  # a letter that stands for a space in other vocabularies
    yield write(b"\n", a, b" ")
    yield write(b, b"\n ")
    yield write(a, b"\r", b"\n", b, b"\r\n", c)
    many = [bytes([ord("a") + i // 26, ord("a") + i % 26]) for i in torch.randperm(26 * 26, generator=rng).tolist()]
    yield torch.randint(256, len(many), (5,), generator=rng).tolist(), many


def _joined(tokens, vocabulary):
    return b"".join(vocabulary[token] for token in tokens)


@decode.mistake(hint=1)
def token_by_token(tokens, vocabulary):
    """Each token is decoded on its own, and a character that is spread over two tokens is lost: join the bytes
    first."""
    return "".join(vocabulary[token].decode(errors="replace") for token in tokens)


@decode.mistake(hint=1)
def token_by_token_strictly(tokens, vocabulary):
    """Each token is decoded on its own, and one that holds half a character raises UnicodeDecodeError: join the bytes
    of all tokens first."""
    return "".join(vocabulary[token].decode() for token in tokens)


@decode.mistake(hint=2)
def strictly(tokens, vocabulary):
    """Half a character raises UnicodeDecodeError: a model may write one at any time, so decode with
    errors="replace"."""
    return b"".join(vocabulary[token] for token in tokens).decode()


@decode.mistake(hint=3)
def halves_ignored(tokens, vocabulary):
    """Half a character vanishes: with errors="replace" it becomes U+FFFD, and the reader sees that something is
    missing."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="ignore")


@decode.mistake(hint=3)
def halves_spelled_out(tokens, vocabulary):
    """Half a character is spelled out as \\x…: with errors="replace" it becomes U+FFFD."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="backslashreplace")


@decode.mistake
def decoded_as_latin_1(tokens, vocabulary):
    """The bytes are read as Latin-1, one character each, and é becomes Ã©: they are UTF-8."""
    return b"".join(vocabulary[token] for token in tokens).decode("latin-1")


@decode.mistake(hint=2)
def with_spaces(tokens, vocabulary):
    """Spaces are put between the tokens: a token brings its own space, so join them as they are."""
    return b" ".join(vocabulary[token] for token in tokens).decode(errors="replace")


@decode.mistake
def stripped(tokens, vocabulary):
    """Spaces or line breaks at the ends are cut off: they are part of the text."""
    return b"".join(vocabulary[token] for token in tokens).decode(errors="replace").strip()


@decode.mistake(hint=2)
def representation(tokens, vocabulary):
    """The result of str(b"To") is the text b'To', with quotation marks: bytes become text by .decode()."""
    return "".join(str(vocabulary[token]) for token in tokens)


@decode.mistake(hint=2)
def ids_as_bytes(tokens, vocabulary):
    """The ids themselves are taken for bytes: look each one up in the vocabulary."""
    return bytes(tokens).decode(errors="replace")


@decode.mistake(hint=3)
def half_at_the_end_lost(tokens, vocabulary):
    """An incremental decoder waits for the other half of a character, which never comes: tell it that the text ends,
    final=True, or join the bytes first."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return "".join(decoder.decode(vocabulary[token]) for token in tokens)


@decode.mistake
def token_0_lost(tokens, vocabulary):
    """Token 0 is lost, because 0 counts as false: take every token, without `if token`."""
    return _joined(filter(None, tokens), vocabulary).decode(errors="replace")


@decode.mistake(hint=3)
def latin_1_instead_of_an_error(tokens, vocabulary):
    """Where the bytes are not UTF-8 all of them are read as Latin-1, and every é of the text breaks: errors="replace"
    replaces the broken ones alone."""
    try:
        return _joined(tokens, vocabulary).decode()
    except UnicodeDecodeError:
        return _joined(tokens, vocabulary).decode("latin-1")


@decode.mistake(hint=3)
def one_replacement_a_byte(tokens, vocabulary):
    """There is a � for every broken byte: the bytes of one broken character become one, as errors="replace" does it."""
    text = _joined(tokens, vocabulary).decode(errors="surrogateescape")
    return "".join("�" if "\ud800" <= character <= "\udfff" else character for character in text)


@decode.mistake(hint=3)
def question_marks(tokens, vocabulary):
    """Half a character becomes a question mark: it is � (U+FFFD), as errors="replace" gives it."""
    return _joined(tokens, vocabulary).decode(errors="replace").replace("�", "?")


@decode.mistake
def mark_dropped(tokens, vocabulary):
    """The bytes EF BB BF at the start vanish, which the encoding utf-8-sig takes for a mark: decode as utf-8."""
    return _joined(tokens, vocabulary).decode("utf-8-sig", errors="replace")


@decode.mistake
def composed(tokens, vocabulary):
    """The characters are composed (NFC), and e with an accent of its own becomes é: return the text as it is."""
    return unicodedata.normalize("NFC", _joined(tokens, vocabulary).decode(errors="replace"))


@decode.mistake
def letter_for_a_space(tokens, vocabulary):
    """The letter Ġ becomes a space. In GPT-2's files it stands for one; here tokens are bytes, and Ġ is a letter."""
    return _joined(tokens, vocabulary).decode(errors="replace").replace("Ġ", " ")


@decode.mistake
def line_ends_translated(tokens, vocabulary):
    """The two characters of a Windows line end, \\r\\n, become one: return the text as it is."""
    return _joined(tokens, vocabulary).decode(errors="replace").replace("\r\n", "\n")


@decode.mistake
def stripped_at_the_start(tokens, vocabulary):
    """Spaces or line breaks at the start are cut off: they are part of the text."""
    return _joined(tokens, vocabulary).decode(errors="replace").lstrip()


@decode.mistake
def stripped_at_the_end(tokens, vocabulary):
    """Spaces or line breaks at the end are cut off: they are part of the text."""
    return _joined(tokens, vocabulary).decode(errors="replace").rstrip()


@decode.mistake
def first_token_missing(tokens, vocabulary):
    """The first token is missing: start at index 0."""
    return _joined(tokens[1:], vocabulary).decode(errors="replace")


@decode.mistake
def last_token_missing(tokens, vocabulary):
    """The last token is missing: go to the end of the list."""
    return _joined(tokens[:-1], vocabulary).decode(errors="replace")


@decode.mistake
def tokens_backwards(tokens, vocabulary):
    """The tokens come out in reverse order: put each one after those before it."""
    return _joined(reversed(tokens), vocabulary).decode(errors="replace")


@decode.mistake
def each_token_once(tokens, vocabulary):
    """A token that comes twice is written once: write it as often as it comes."""
    return _joined(dict.fromkeys(tokens), vocabulary).decode(errors="replace")


@decode.mistake
def one_too_low(tokens, vocabulary):
    """Each token is looked up one place too low: token 0 is vocabulary[0]."""
    return _joined((token - 1 for token in tokens), vocabulary).decode(errors="replace")


@decode.finished
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
