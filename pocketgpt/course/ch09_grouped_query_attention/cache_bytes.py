"""Exercise `cache_bytes`: memory of the keys and values of a text."""

import torch

from pocketgpt.course.checking.exercise import exercise

DTYPES = {1: torch.int8, 2: torch.bfloat16, 4: torch.float32}


@exercise(points=1, returns=("bytes",), choices={"bytes_per_number": (2, 4, 1)})
def cache_bytes(n_layers: int, n_kv_heads: int, d_head: int, seq: int, batch: int, bytes_per_number: int) -> int:
    """Counted by PyTorch, on tensors that have a shape and no memory."""
    shape = (n_layers, batch, n_kv_heads, seq, d_head)
    keys, values = (torch.empty(shape, dtype=DTYPES[bytes_per_number], device="meta") for _ in range(2))
    return keys.nbytes + values.nbytes


def _drawn(rng, low, high):
    return low + int(torch.randint(high - low, (), generator=rng))


@cache_bytes.values
def n_layers(rng):
    return _drawn(rng, 5, 40)


@cache_bytes.values
def n_kv_heads(rng):
    return _drawn(rng, 3, 9)


@cache_bytes.values
def d_head(rng):
    return 2 * _drawn(rng, 10, 60)


@cache_bytes.values
def seq(rng):
    return _drawn(rng, 300, 5000)


@cache_bytes.values
def batch(rng):
    return _drawn(rng, 2, 9)


@cache_bytes.inputs
def _(rng):
    yield 4, 2, 32, 256, 3, 2  # the shipped model
    yield 32, 32, 128, 4096, 1, 2  # Llama-2-7B
    yield 18, 1, 256, 8192, 7, 4
    yield 80, 8, 128, 131_072, 5, 1
    yield 35, 7, 119, 4999, 9, 1  # too many digits for float32, too large for int32
    yield 33, 5, 121, 4997, 7, 1  # too many digits, again


def _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Right, for the mistakes that go wrong elsewhere."""
    return 2 * n_layers * n_kv_heads * d_head * seq * batch * bytes_per_number


@cache_bytes.mistake(hint=1)
def keys_alone(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is half of it: keys **and** values are stored, a factor 2."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 2


@cache_bytes.mistake(hint=1)
def twice_too_often(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is twice too much: one factor 2 is for keys and values, and the width of a number is `bytes_per_number`."""
    return 2 * _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def one_layer(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is one layer: each has keys and values of its own."""
    return _right(1, n_kv_heads, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def one_head(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is one key/value head: a layer has `n_kv_heads`."""
    return _right(n_layers, 1, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def one_number_a_head(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """The width of a head is missing: a key has `d_head` numbers."""
    return _right(n_layers, n_kv_heads, 1, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=1)
def one_token(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is one token of each text: every token's keys and values are kept."""
    return _right(n_layers, n_kv_heads, d_head, 1, batch, bytes_per_number)


@cache_bytes.mistake(hint=1)
def one_text(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is one text: a batch has `batch` of them, and they share nothing."""
    return _right(n_layers, n_kv_heads, d_head, seq, 1, bytes_per_number)


@cache_bytes.mistake(hint=2)
def numbers_not_bytes(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is how many numbers there are: multiply by the bytes of each."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, 1)


@cache_bytes.mistake(hint=2)
def two_bytes_always(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Two bytes a number are written into the code: take `bytes_per_number`."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, 2)


@cache_bytes.mistake(hint=3)
def bits(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is in bits, eight times as many: `bytes_per_number` is in bytes already."""
    return 8 * _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=3)
def bytes_taken_for_bits(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is an eighth: `bytes_per_number` is in bytes already."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 8


@cache_bytes.mistake(hint=3)
def in_gibibytes(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is in GiB: return bytes."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) / 2**30


@cache_bytes.mistake(hint=3)
def in_gigabytes(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is in GB: return bytes."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) / 1e9


@cache_bytes.mistake(hint=3)
def a_float(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """The number is right and is a float: bytes are counted, so return an int."""
    return float(_right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number))


@cache_bytes.mistake(hint=1)
def all_pairs_of_tokens(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That grows with the square of the text, as scores do: the cache has one key and one value a token."""
    return _right(n_layers, n_kv_heads, d_head, seq**2, batch, bytes_per_number)


@cache_bytes.mistake(hint=1)
def without_the_last_token(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is one token too few in each text: `seq` tokens are in the cache."""
    return _right(n_layers, n_kv_heads, d_head, seq - 1, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def layers_added(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """The number of layers is added: each of them stores as much, so multiply."""
    return n_layers + _right(1, n_kv_heads, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def heads_of_128(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """A head of 128 numbers is written into the code: take `d_head`."""
    return _right(n_layers, n_kv_heads, 128, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def width_divided_by_heads(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """The width is divided by `n_kv_heads`: `d_head` is the width of one head already."""
    return _right(n_layers, n_kv_heads, d_head // n_kv_heads, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def four_bytes_always(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Four bytes a number are written into the code: take `bytes_per_number`."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, 4)


@cache_bytes.mistake(hint=2)
def four_layers(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Four layers are written into the code, those of the pocket model: take `n_layers`."""
    return _right(4, n_kv_heads, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def two_heads(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Two key/value heads are written into the code, those of the pocket model: take `n_kv_heads`."""
    return _right(n_layers, 2, d_head, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def heads_of_32(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """A head of 32 numbers is written into the code, the pocket model's: take `d_head`."""
    return _right(n_layers, n_kv_heads, 32, seq, batch, bytes_per_number)


@cache_bytes.mistake(hint=2)
def texts_of_256(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """A text of 256 tokens is written into the code: take `seq`."""
    return _right(n_layers, n_kv_heads, d_head, 256, batch, bytes_per_number)


@cache_bytes.mistake(hint=1)
def texts_added(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Tokens and texts are added: each text has `seq` tokens, so multiply."""
    return _right(n_layers, n_kv_heads, d_head, (seq + batch), 1, bytes_per_number)


@cache_bytes.mistake(hint=1)
def queries_too(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is three for each token, queries, keys and values: queries are not kept."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 2 * 3


@cache_bytes.mistake(hint=3)
def two_added(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """Two is added: keys **and** values are as many again, so multiply by 2."""
    return 2 + _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 2


@cache_bytes.mistake(hint=3)
def in_kibibytes(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is in KiB: return bytes."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 1024


@cache_bytes.mistake(hint=3)
def in_whole_gigabytes(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """That is in GB, and whole ones: return bytes."""
    return _right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) // 10**9


@cache_bytes.mistake(hint=3)
def in_32_bits(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    """The product is too large for 32 bits and begins again at −2³¹: Python's own whole numbers have no end."""
    return (_right(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number) + 2**31) % 2**32 - 2**31


@cache_bytes.finished
def one_product(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    numbers_per_token = 2 * n_layers * n_kv_heads * d_head
    return numbers_per_token * seq * batch * bytes_per_number


@cache_bytes.accepted
def summed_over_layers(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    one = batch * n_kv_heads * seq * d_head
    return sum((one + one) * bytes_per_number for _ in range(n_layers))


@cache_bytes.accepted
def product_of_all(n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number):
    import math

    return math.prod((2, n_layers, n_kv_heads, d_head, seq, batch, bytes_per_number))
