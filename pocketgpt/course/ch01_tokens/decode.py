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


@decode.mistake(hint=1)
def one_replacement_a_token(tokens, vocabulary):
    """Each token is decoded on its own, and one that holds half a character becomes �: join the bytes first."""
    text = ""
    for token in tokens:
        try:
            text += vocabulary[token].decode()
        except UnicodeDecodeError:
            text += "�"
    return text


@decode.mistake(hint=3)
def one_replacement_for_all(tokens, vocabulary):
    """If one character is broken, the whole text becomes �: errors="replace" replaces the broken ones alone."""
    try:
        return _joined(tokens, vocabulary).decode()
    except UnicodeDecodeError:
        return "�"


@decode.mistake(hint=3)
def nothing_if_broken(tokens, vocabulary):
    """If one character is broken, the whole text is lost: errors="replace" replaces the broken ones alone."""
    try:
        return _joined(tokens, vocabulary).decode()
    except UnicodeDecodeError:
        return ""


@decode.mistake(hint=3)
def token_by_token_if_broken(tokens, vocabulary):
    """If one character is broken, each token is decoded on its own, and characters in two tokens break, too:
    errors="replace" needs no `except`."""
    try:
        return _joined(tokens, vocabulary).decode()
    except UnicodeDecodeError:
        return "".join(vocabulary[token].decode(errors="replace") for token in tokens)


@decode.mistake(hint=3)
def decoded_as_ascii(tokens, vocabulary):
    """The bytes are read as ASCII, or one by one, and é is two of them: decode all together, as UTF-8."""
    return _joined(tokens, vocabulary).decode("ascii", errors="replace")


@decode.mistake(hint=3)
def surrogates(tokens, vocabulary):
    """Half a character becomes a surrogate, which no file takes: with errors="replace" it becomes U+FFFD."""
    return _joined(tokens, vocabulary).decode(errors="surrogateescape")


@decode.mistake(hint=2)
def representation_of_all(tokens, vocabulary):
    """The result of str(b"To") is the text b'To', with a b and quotation marks: bytes become text by .decode()."""
    return str(_joined(tokens, vocabulary))


@decode.mistake(hint=3)
def still_bytes(tokens, vocabulary):
    """These are the bytes, still: decode them as UTF-8."""
    return _joined(tokens, vocabulary)


@decode.mistake(hint=1)
def bytes_joined_as_text(tokens, vocabulary):
    """The "" in "".join is text, and the tokens are bytes (TypeError): join them with b"", and decode the result."""
    return "".join(vocabulary[token] for token in tokens)


@decode.mistake(hint=2)
def list_of_texts(tokens, vocabulary):
    """These are the texts of the tokens, in a list: join the bytes first, and decode the result."""
    return [vocabulary[token].decode(errors="replace") for token in tokens]


@decode.mistake(hint=2)
def made_anew_for_each_token(tokens, vocabulary):
    """The bytes so far are thrown away at each token, and without tokens there are none: begin before the loop."""
    for token in tokens:
        data = b""
        data += vocabulary[token]
    return data.decode(errors="replace")


@decode.mistake(hint=2)
def last_token_only(tokens, vocabulary):
    """This is the last token alone: add the bytes of each to those before, with +=."""
    return _joined(tokens[-1:], vocabulary).decode(errors="replace")


@decode.mistake(hint=2)
def first_token_only(tokens, vocabulary):
    """This is the first token alone: `return` belongs after the loop, not inside it."""
    return _joined(tokens[:1], vocabulary).decode(errors="replace")


@decode.mistake(hint=2)
def numbers_as_characters(tokens, vocabulary):
    """The ids are taken for numbers of characters: look each one up in the vocabulary."""
    return "".join(map(chr, tokens))


@decode.mistake(hint=2)
def places_for_tokens(tokens, vocabulary):
    """The places 0, 1, 2, … are looked up: look up the token at each place."""
    return _joined(range(len(tokens)), vocabulary).decode(errors="replace")


@decode.mistake(hint=2)
def whole_vocabulary(tokens, vocabulary):
    """This is the whole vocabulary, joined: look up the given tokens."""
    return b"".join(vocabulary).decode(errors="replace")


@decode.mistake
def set_of_tokens(tokens, vocabulary):
    """A set has each token once, in an order of its own: go through the list as it is."""
    return _joined(set(tokens), vocabulary).decode(errors="replace")


@decode.mistake(hint=2)
def looked_up_the_wrong_way(tokens, vocabulary):
    """The method vocabulary.index looks for a byte string and gives its number: vocabulary[token] is what you need."""
    return b"".join(vocabulary.index(token) for token in tokens).decode(errors="replace")


@decode.mistake(hint=2)
def added_up_from_zero(tokens, vocabulary):
    """The function sum starts at the number 0, which no byte string is added to: take b"".join."""
    return sum(vocabulary[token] for token in tokens).decode(errors="replace")


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
