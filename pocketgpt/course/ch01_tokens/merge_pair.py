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
    yield [a, b, a, b, c], (a, b)
    yield [c, a, b, d, a, b, c], (a, b)
    yield [a, a, a, c, a, a], (a, a)
    yield [b, a, b, d, b, a], (a, b)
    yield [a, b, c, a, b + c, d, a], (a, b + c)
    yield [a + b, c, a, b + c, d], (a + b, c)
    yield [b"".join([a, b]), c, d, b"".join([a, b]), c], (b"".join([a, b]), c)  # equal tokens that are not one object
    yield [a, a, c, b, b, d, b, a], (a, b)
    yield [c + a, b, a + c, b, a, b + c, a, c + b], (a, b)  # tokens that begin and end like those of the pair
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
    """Nothing is joined: is your comparison ever true? The slice tokens[i : i + 2] is a list and never equals a tuple,
    and `is` asks for the same object. Compare (tokens[i], tokens[i + 1]) == pair."""
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


@merge_pair.mistake
def same_objects(tokens, pair):
    """Two equal byte strings may be two objects, and `is` asks for the same object: compare with ==."""
    return merged(tokens, pair, matches=lambda left, right: left is pair[0] and right is pair[1])


@merge_pair.mistake(hint=2)
def any_two_of_the_pair(tokens, pair):
    """Two neighbors are joined as soon as each is one of the pair, also (b, b) and (b, a): compare the left token with
    pair[0] and the right one with pair[1]."""
    return merged(tokens, pair, matches=lambda left, right: left in pair and right in pair)


@merge_pair.mistake(hint=2)
def any_two_become_the_pair(tokens, pair):
    """Two neighbors become the pair as soon as each is one of it, also (b, b) and (b, a): compare the left token with
    pair[0] and the right one with pair[1]."""
    return merged(tokens, pair, matches=lambda left, right: left in pair and right in pair, joined=pair[0] + pair[1])


@merge_pair.mistake(hint=2)
def swapped_becomes_the_pair(tokens, pair):
    """The neighbors (b, a) become ab: the order of the pair matters, so leave them."""
    return merged(tokens, pair, matches=lambda *both: both in (pair, pair[::-1]), joined=pair[0] + pair[1])


@merge_pair.mistake(hint=2)
def left_token_only(tokens, pair):
    """Only the left token is compared, and it is joined with whatever follows: compare the right one, too."""
    return merged(tokens, pair, matches=lambda left, right: left == pair[0])


@merge_pair.mistake(hint=2)
def left_token_becomes_the_pair(tokens, pair):
    """Only the left token is compared, and whatever follows it is replaced: compare the right one, too."""
    return merged(tokens, pair, matches=lambda left, right: left == pair[0], joined=pair[0] + pair[1])


@merge_pair.mistake(hint=2)
def right_token_only(tokens, pair):
    """Only the right token is compared, and it is joined with whatever comes before: compare the left one, too."""
    return merged(tokens, pair, matches=lambda left, right: right == pair[1])


@merge_pair.mistake
def placeholders_left(tokens, pair):
    """Empty tokens are left in the result, in the place of each right half: leave them out."""
    result = []
    for token in merged(tokens, pair, joined=pair):
        result += [b"".join(token), b""] if token is pair else [token]
    return result


@merge_pair.mistake(hint=3)
def rest_dropped(tokens, pair):
    """Everything after the first joined pair is gone: continue to the end of the tokens."""
    for i in range(len(tokens) - 1):
        if (tokens[i], tokens[i + 1]) == pair:
            return [*tokens[:i], pair[0] + pair[1]]
    return list(tokens)


@merge_pair.mistake(hint=1)
def always_two_on(tokens, pair):
    """After every place you move on by two, and tokens are skipped: move on by two after a joined pair, and by one
    elsewhere."""
    places = range(0, len(tokens), 2)
    return [b"".join(pair) if tuple(tokens[i : i + 2]) == pair else tokens[i] for i in places]


@merge_pair.mistake(hint=1)
def every_second_place(tokens, pair):
    """The pairs are looked for at places 0, 2, 4, … alone: one may begin at any place that is not used up."""
    places = (tokens[i : i + 2] for i in range(0, len(tokens), 2))
    return [token for two in places for token in ([b"".join(two)] if tuple(two) == pair else two)]


@merge_pair.mistake(hint=3)
def pair_removed(tokens, pair):
    """The pair is taken out, and nothing is put in its place: put in left + right."""
    return [token for token in merged(tokens, pair, joined=pair) if token is not pair]


@merge_pair.mistake(hint=3)
def left_token_in_its_place(tokens, pair):
    """The left token alone is put in the place of the pair: put in left + right."""
    return merged(tokens, pair, joined=pair[0])


@merge_pair.mistake(hint=3)
def joined_and_kept(tokens, pair):
    """The joined token is put in, and the left one before it stays: put in one or the other."""
    result = merged(tokens, pair, joined=pair)
    return [part for token in result for part in ([pair[0], b"".join(pair)] if token is pair else [token])]


@merge_pair.mistake(hint=2)
def next_token_unseen(tokens, pair):
    """After a joined pair the next token is appended without a look at it, and it may begin another pair: put the
    second append into `else`."""
    result, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            result.append(b"".join(pair))
            i += 2
        result += tokens[i : i + 1]
        i += 1
    return result


@merge_pair.mistake(hint=2)
def bytes_added_as_numbers(tokens, pair):
    """A list += a byte string adds its bytes as numbers: use append."""
    result = merged(tokens, pair, joined=pair)
    return [part for token in result for part in (b"".join(pair) if token is pair else [token])]


@merge_pair.mistake(hint=2)
def one_of_the_two_is_enough(tokens, pair):
    """Two neighbors are joined as soon as one of them fits: both have to, `and` in place of `or`."""
    joined = b"".join(pair)
    return merged(tokens, pair, joined=joined, matches=lambda left, right: left == pair[0] or right == pair[1])


@merge_pair.mistake(hint=1)
def replaced_in_a_text_with_spaces(tokens, pair):
    """The tokens are joined with spaces and split again, and a token may hold a space itself: go through the list."""
    return b" ".join(tokens).replace(b" ".join(pair), b"".join(pair)).split(b" ")


@merge_pair.mistake(hint=1)
def replaced_and_split_at_any_space(tokens, pair):
    """The tokens are joined with spaces and split at every white space, which a token may hold itself: go through the
    list."""
    return b" ".join(tokens).replace(b" ".join(pair), b"".join(pair)).split()


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
