"""Exercise `merge_pair`: merge one pair."""

from itertools import pairwise

from pocketgpt.course.ch01_tokens.shared import STEPS, letters, merged, merged_from_the_right
from pocketgpt.course.checking.exercise import exercise


@exercise(points=2, hints=STEPS, returns=("tokens",))
def merge_pair(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """The tokens with every occurrence of the pair joined into one, from left to right."""
    known = [*dict.fromkeys([*tokens, *pair, pair[0] + pair[1]])]
    letter = {token: chr(i) for i, token in enumerate(known)}  # one character a token, so that str.replace does it
    text = "".join(map(letter.get, tokens)).replace(letter[pair[0]] + letter[pair[1]], letter[pair[0] + pair[1]])
    return [known[ord(character)] for character in text]


@merge_pair.inputs
def _(rng):
    a, b, c, d = letters(rng, 4)
    yield [a, b, c], (a, b)
    yield [c, a, b, d, a, b, c], (a, b)
    yield [a, a, a, c, a, a], (a, a)
    yield [b, a, b, d, b, a], (a, b)
    yield [a, b, c, a, b + c, d, a], (a, b + c)
    yield [a + b, c, a, b + c, d], (a + b, c)
    yield [a], (a, b)
    yield [], (a, b)


@merge_pair.mistake(hint=3)
def first_only(tokens, pair):
    """Only the first occurrence of the pair is joined: continue to the end of the tokens."""
    for i in range(len(tokens) - 1):
        if (tokens[i], tokens[i + 1]) == pair:
            return [*tokens[:i], pair[0] + pair[1], *tokens[i + 2 :]]
    return list(tokens)


@merge_pair.mistake(hint=1)
def second_part_stays(tokens, pair):
    """After a joined pair its second token is looked at again: move on by two."""
    return merged(tokens, pair, step=1)


@merge_pair.mistake(hint=1)
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
    return merged_from_the_right(tokens, pair)


@merge_pair.mistake(hint=2)
def compared_joined(tokens, pair):
    """The joined bytes are compared, and then (ab, c) passes for (a, bc): compare the two tokens one by one."""
    return merged(tokens, pair, matches=lambda left, right: left + right == pair[0] + pair[1])


@merge_pair.mistake
def merged_in_either_order(tokens, pair):
    """Here (b, a) is joined like (a, b): the order of the pair matters."""
    return merged(tokens, pair, matches=lambda left, right: (left, right) in (pair, pair[::-1]))


@merge_pair.mistake(hint=3)
def joined_backwards(tokens, pair):
    """The pair is joined back to front: the new token is left + right."""
    return merged(tokens, pair, joined=pair[1] + pair[0])


@merge_pair.mistake(hint=3)
def pair_kept_as_tuple(tokens, pair):
    """The pair itself is put in, a tuple: the new token is one byte string, left + right."""
    return merged(tokens, pair, joined=pair)


@merge_pair.mistake(hint=2)
def last_token_lost(tokens, pair):
    """The last token is lost where it is not part of a pair: it has no right neighbor, and still belongs in the
    result."""
    result = merged(tokens, pair)
    return result[:-1] if tokens and result[-1] == tokens[-1] else result


@merge_pair.mistake(hint=1)
def loop_over_pairs(tokens, pair):
    """A loop over the pairs of neighbors moves on by one after a merge, and never copies the last token: take a while
    loop, and move on by two after a merge."""
    return [left + right if (left, right) == pair else left for left, right in pairwise(tokens)]


@merge_pair.mistake(hint=2)
def no_right_neighbor(tokens, pair):
    """The last token has no right neighbor, and tokens[i + 1] raises IndexError: ask for i + 1 < len(tokens) first."""
    result, i = [], 0
    while i < len(tokens):
        is_pair = (tokens[i], tokens[i + 1]) == pair
        result.append(tokens[i] + tokens[i + 1] if is_pair else tokens[i])
        i += 2 if is_pair else 1
    return result


@merge_pair.mistake(hint=2)
def half_a_pair_at_the_end(tokens, pair):
    """Where the last token is the left half of the pair, tokens[i + 1] raises IndexError: ask for i + 1 < len(tokens)
    first."""
    result, i = [], 0
    while i < len(tokens):
        is_pair = tokens[i] == pair[0] and tokens[i + 1] == pair[1]
        result.append(tokens[i] + tokens[i + 1] if is_pair else tokens[i])
        i += 2 if is_pair else 1
    return result


@merge_pair.mistake(hint=2)
def others_dropped(tokens, pair):
    """The tokens that are not part of the pair are gone: copy them as they are."""
    return [token for token in merged(tokens, pair) if token == pair[0] + pair[1]]


@merge_pair.mistake(hint=2)
def list_against_tuple(tokens, pair):
    """Nothing is joined: tokens[i : i + 2] is a list and the pair is a tuple, and a list never equals a tuple. Compare
    (tokens[i], tokens[i + 1])."""
    return merged(tokens, pair, matches=lambda left, right: [left, right] == pair)


@merge_pair.mistake(hint=1)
def shortened_while_looping(tokens, pair):
    """The list becomes shorter inside the loop, which still counts to its old length, and the index runs past the end:
    build a new list, with `while` and your own index."""
    result = list(tokens)
    for i in range(len(result) - 1):
        if (result[i], result[i + 1]) == pair:
            result[i : i + 2] = [pair[0] + pair[1]]
    return result


@merge_pair.finished
def with_a_while_loop(tokens, pair):
    result, i = [], 0
    while i < len(tokens):
        found = tuple(tokens[i : i + 2]) == pair
        result.append(tokens[i] + tokens[i + 1] if found else tokens[i])
        i += 2 if found else 1
    return result


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
