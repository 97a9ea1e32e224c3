"""Exercise `embed`: embedding as a lookup."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from pocketgpt.course.checking.exercise import exercise


@exercise(
    points=1,
    returns=("vectors",),
    forbidden=("embedding",),
    sizes={"vocab": (7, 8, 9)},
    gradients=("table",),
)
def embed(
    tokens: Int[Tensor, "batch seq"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "batch seq d_model"]:
    """For each token its row of the table."""
    return F.embedding(tokens, table)


@embed.values
def tokens(rng, shape, vocab):
    """Without the last token: the size of the vocabulary is that of the table, not the largest token plus one."""
    return torch.randint(vocab - 1, shape, generator=rng)


@embed.inputs
def _(rng):
    yield torch.randperm(6, generator=rng).view(2, 3), torch.randn(6, 8, generator=rng)  # every token once
    for length in (50, 40):
        yield torch.randint(300, (4, length), generator=rng), torch.randn(301, 2, generator=rng)  # a larger vocabulary


@embed.mistake(hint=2)
def columns(tokens, table):
    """These are columns of the table: the vector of a token is a row, the first axis counts tokens."""
    return table.T[tokens]


@embed.mistake(hint=2)
def columns_first(tokens, table):
    """Here the tokens pick along the second axis of the table, which is d_model: pick along the first."""
    return table[:, tokens]


@embed.mistake(hint=1)
def one_hot_only(tokens, table):
    """These are one-hot vectors of width vocab: multiply them by the table."""
    return F.one_hot(tokens, len(table)).float()


@embed.mistake(hint=1)
def one_hot_as_wide_as_the_largest_token(tokens, table):
    """F.one_hot makes vectors as wide as the largest token here plus one, and the table may have more rows: pass
    num_classes=len(table). Indexing is simpler."""
    return F.one_hot(tokens).to(table.dtype) @ table


@embed.mistake(hint=3)
def row_of_the_position(tokens, table):
    """The rows are picked by position, 0, 1, 2, …: pick them by the token at that position."""
    return table[torch.arange(tokens.shape[1]) % len(table)].expand(len(tokens), -1, -1)


@embed.mistake(hint=3)
def off_by_one(tokens, table):
    """Each token gets the row before its own: token 0 has row 0."""
    return table[tokens - 1]


@embed.mistake(hint=2)
def flattened(tokens, table):
    """The rows are right and batch and seq have become one axis: keep them, (batch, seq) → (batch, seq, d_model)."""
    return table[tokens.flatten()]


@embed.mistake(hint=2)
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


@embed.mistake(hint=3)
def row_after(tokens, table):
    """Each token gets the row after its own, and the last one raises IndexError: token 0 has row 0."""
    return table[tokens + 1]


@embed.mistake
def added_up(tokens, table):
    """Each text has one vector, the sum of its tokens: every token keeps its own."""
    return table[tokens].sum(1)


@embed.mistake
def length_1(tokens, table):
    """The vectors are scaled to length 1: take the rows as they are."""
    return F.normalize(table[tokens], dim=-1)


@embed.mistake
def softmax_of_the_row(tokens, table):
    """There is a softmax in here: take the rows as they are."""
    return table[tokens].softmax(-1)


@embed.mistake
def position_added(tokens, table):
    """The row of the position is added, which is another table's in GPT: take the row of the token alone."""
    return table[tokens] + table[: tokens.shape[1]]


@embed.mistake(hint=3)
def token_0_is_zeros(tokens, table):
    """Token 0 gets zeros, as if it filled up a text: it is a token like any other."""
    return table[tokens] * (tokens != 0)[..., None]


@embed.mistake(hint=1)
def tokens_times_the_table(tokens, table):
    """The token numbers are multiplied with the table: a token is the number of a row, so index with it."""
    return tokens.float() @ table


@embed.mistake(hint=1)
def numbers_times_rows(tokens, table):
    """The token numbers are multiplied with the rows: a token is the number of a row, so index with it."""
    return tokens[..., None] * table


@embed.mistake(hint=1)
def tokens_as_floats(tokens, table):
    """An index has to consist of whole numbers: table[tokens], with the tokens as they are, and not the other way
    round."""
    return table[tokens.float()]


@embed.mistake(hint=1)
def one_hot_of_integers(tokens, table):
    """F.one_hot makes whole numbers, and a matrix product takes one dtype: convert it with .to(table.dtype)."""
    return F.one_hot(tokens, len(table)) @ table


@embed.mistake(hint=2)
def index_select_of_a_matrix(tokens, table):
    """The function index_select takes a vector of indices, and tokens has two axes: table[tokens] takes any."""
    return table.index_select(0, tokens)


@embed.mistake(hint=2)
def gathered(tokens, table):
    """The function gather needs an index of as many columns as it picks from: table[tokens] picks whole rows."""
    return table.gather(0, tokens)


@embed.mistake(hint=2)
def single_numbers(tokens, table):
    """The function take counts through all numbers of the table and gives one for each token: each gets a whole row."""
    return table.take(tokens)


@embed.mistake(hint=2)
def first_text_only(tokens, table):
    """These are the vectors of the first text: embed all texts of the batch."""
    return table[tokens[0]]


@embed.mistake(hint=2)
def last_text_only(tokens, table):
    """These are the vectors of the last text: the loop makes its result anew each time. Embed all of them."""
    return table[tokens[-1]]


@embed.mistake(hint=2)
def axes_of_size_1_lost(tokens, table):
    """Axes of size 1 are gone: squeeze() removes them all, also a batch of one."""
    return table[tokens].squeeze()


@embed.mistake(hint=2)
def axes_exchanged_by_view(tokens, table):
    """Here view gives the axes in another order, (seq, batch, d_model), and the numbers stay where they were:
    table[tokens] has the right axes already."""
    return table[tokens.flatten()].view(tokens.shape[1], tokens.shape[0], -1)


@embed.mistake(hint=2)
def width_before_seq(tokens, table):
    """The axes seq and d_model have changed places: (batch, seq) → (batch, seq, d_model)."""
    return table[tokens].transpose(1, 2)


@embed.mistake(hint=2)
def list_of_rows(tokens, table):
    """These are the right rows, in lists: table[tokens] makes one tensor of them."""
    return [[table[token] for token in row] for row in tokens]


@embed.finished
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
    return torch.einsum("btv,vd->btd", is_token.to(table.dtype), table)
