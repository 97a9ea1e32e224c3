# %% [markdown]
# # 7 · Positions
#
# **At the end** you have written the positions of the Transformer of 2017, added them to a trained model, and seen how
# far four kinds of positions carry.
#
# **Time**: about 75 minutes. **You need**: chapter 2 (attention and its mask), and sine and cosine.
#
# Here is the place of this chapter in a model with sinusoids: the orange parts.

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn

from pocketgpt.course.ch07_positions.experiments import learning_curves, scaling_losses
from pocketgpt.course.ch07_positions.figures import (
    hands,
    losses_by_length,
    repeated,
    similarities,
    size_curves,
    table_image,
)
from pocketgpt.course.figures.style import readable
from pocketgpt.course.lab import (
    attention_weights,
    before_and_after,
    character_tokenizer,
    check,
    model_map,
    predict,
    recall,
    sibling,
    sibling_losses,
    sliders,
    symptoms,
    yours,
)
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare", positions="sinusoidal"), highlight="positions")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. A gated feed-forward layer has three matrices. With d_model = 192, how wide must it be to have as many
# parameters as an ordinary one of two matrices and width 4 · 192?</summary>
#
# 3 · 192 · d_ff = 2 · 192 · 768, so d_ff = 512 = 8/3 · 192.
#
# </details>
# <details><summary>2. You cut one head of width 192 into six of width 32. How many parameters does that add, and how many times as
# many attention weights are there?</summary>
#
# No parameters: the projections are as large as before. Six times as many weights, one (T, S) table per head.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(7)

# %% [markdown]
# ## 1 · The smallest example: a bag of words
#
# *dog bites man* and *man bites dog* consist of the same three words. Give each word a vector, and let attention look at
# all three without a mask. To keep it small, a token is its own query, key and value:
#
# | | vector | score with *bites*, divided by √4 | exp | weight |
# |---|---|---|---|---|
# | dog | (1, 0, 0, 0) | 0 | 1 | 0.27 |
# | bites | (0, 1, 0, 0) | 0.5 | 1.65 | 0.45 |
# | man | (0, 0, 1, 0) | 0 | 1 | 0.27 |
#
# The output of *bites* is (0.27, 0.45, 0.27, 0). Nothing in this table says who stood where, so the other sentence has
# the same table.


# %%
def attend(x: torch.Tensor) -> torch.Tensor:
    """Attention without a mask; every token is its own query, key and value."""
    return (x @ x.mT / math.sqrt(x.shape[-1])).softmax(dim=-1) @ x


dog, bites, man, _ = torch.eye(4)
first, second = torch.stack([dog, bites, man]), torch.stack([man, bites, dog])
print("dog bites man:", [round(v, 2) for v in attend(first)[1].tolist()])
print("man bites dog:", [round(v, 2) for v in attend(second)[1].tolist()])

# %% [markdown]
# To attention a text is a bag. The remedy is to write into each vector where it stands: **add a vector that belongs to
# the position**. Think of two clock hands. One turns by 1 radian per position, the other by 0.01, and we note sine and
# cosine of both:
#
# | position | sin p | cos p | sin 0.01p | cos 0.01p |
# |---|---|---|---|---|
# | 0 | 0 | 1 | 0 | 1 |
# | 1 | 0.841 | 0.540 | 0.010 | 1.000 |
# | 2 | 0.909 | −0.416 | 0.020 | 1.000 |
#
# The fast hand tells neighbors apart, and the slow one says roughly where in the text you are, as the minute and the hour
# hand do.

# %%
rows = [[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in range(8)]
by_hand = torch.tensor(rows)
print("dog bites man:", [round(v, 2) for v in attend(first + by_hand[:3])[1].tolist()])
print("man bites dog:", [round(v, 2) for v in attend(second + by_hand[:3])[1].tolist()])
for distance in (1, 2, 3):
    products = [(by_hand[p] @ by_hand[p + distance]).item() for p in (0, 2, 4)]
    print(f"{distance} apart, from 0, 2 and 4:", [round(v, 3) for v in products])

# %% [markdown]
# Now the sentences differ. And the last three lines show something nobody asked for: the dot product of two positions
# depends on how far apart they are, and not on where. Section 3 finds out why.

# %% [markdown]
# ## 2 · The equation
#
# $$S_{p,\,2i} = \sin(p\,\omega_i), \qquad S_{p,\,2i+1} = \cos(p\,\omega_i), \qquad \omega_i = 10000^{-2i/d_\text{model}}$$
#
# $$x_p = \sqrt{d_\text{model}}\;e_p + S_p$$
#
# | symbol | what | shape |
# |---|---|---|
# | $p$ | the position: 0, 1, 2, … | a whole number |
# | $i$ | the pair of columns: 0 … d_model/2 − 1 | a whole number |
# | $\omega_i$ | the frequency of pair i, in radians per position | one number |
# | $S$ | the table of sinusoids | (T, d_model) |
# | $e_p$ | the embedding of the token at position p | (d_model,) |
# | $x_p$ | what the first block reads | (d_model,) |
#
# The first pair turns by one radian per position, the last by a little more than 1/10,000. The factor √d_model is in the
# paper of 2017, in half a sentence; section 5 shows what happens without it.
#
# **Why order is invisible, in three lines.** Let $P$ be a permutation matrix: $PX$ has the rows of $X$ in another order.
# Queries, keys and values are made row by row, so they become $PQ$, $PK$, $PV$.
#
# 1. The scores become $PQ(PK)^\top = P\,QK^\top P^\top$: the same numbers, rows and columns reordered.
# 2. A softmax works on each row by itself, whatever the order in it, so the weights $A$ become $PAP^\top$.
# 3. The output becomes $PAP^\top PV = P\,AV$, because $P^\top P$ is the identity. It is the old output, reordered.
#
# Norms and feed-forward layers treat each row alone, so a whole stack of blocks is as blind. A mask $M$ ends the proof:
# $PMP^\top$ is another mask.
#
# **The numerical trap.** bfloat16 keeps 8 binary digits, so whole numbers above 256 are rounded:

# %%
print(torch.tensor([255, 256, 257, 258, 259]).bfloat16().tolist())

# %% [markdown]
# Positions 256 and 257 would get one and the same vector. So compute angles in float32 and round the result, even in a model
# that runs in bfloat16.

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 7.1 · `order_error` · easy, 10 minutes
#
# An instrument: how much does a layer care about the order of its tokens?
#
# 1. `layer` is a function that takes and returns a tensor of shape (B, T, d_model).
# 2. `order` has shape (T,) and contains each of 0 … T − 1 once: new place t gets the token from place `order[t]`.
# 3. Reorder the tokens and apply the layer; apply the layer and reorder its output. Return the largest difference
#    between the two, in size, as a float. A layer that is blind to order gives 0 (or some 10⁻⁷, from rounding).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two ways from x to the result: first reorder, then the layer; or first the layer, then reorder. Both are reordered once,
# so the same token is compared with itself.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Positions are the second axis of (B, T, d_model): `x[:, order]` reorders them.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# difference = layer(x reordered) minus (layer(x) reordered in the same way); return the largest absolute value as a float.
#
# </details>


# %%
def order_error(layer, x: torch.Tensor, order: torch.Tensor) -> float:
    """layer: (B, T, d_model) → the same shape, x: (B, T, d_model), order: (T,). Returns a float."""
    ### BEGIN SOLUTION
    difference = layer(x[:, order]) - layer(x)[:, order]
    return difference.abs().max().item()
    ### END SOLUTION


# %%
check.order_error(order_error)

# %% [markdown]
# Measure PyTorch's own Transformer layer with it: as it is, with a causal mask, and with positions added first.

# %%
order_error = yours("order_error")

torch.manual_seed(0)
block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True).eval()
x, order = torch.randn(2, 6, 64), torch.tensor([3, 0, 4, 5, 1, 2])
causal = nn.Transformer.generate_square_subsequent_mask(6)
where = torch.randn(6, 64)
with torch.no_grad():
    print(f"no mask        {order_error(block, x, order):.3f}")
    print(f"causal mask    {order_error(lambda x: block(x, src_mask=causal), x, order):.1f}")
    print(f"with positions {order_error(lambda x: block(x + where), x, order):.1f}")

# %% [markdown]
# The proof holds to the third digit and beyond, and the mask does end it: a causal layer is **not** blind. Its first token
# sees one token and its last sees all, so it can tell early from late. Keep that in mind for section 5.
#
# ### Exercise 7.2 · `sinusoids` · medium, 15 minutes
#
# 1. `positions` has shape (T,): whole numbers, which need not begin at 0. `d_model` is even.
# 2. Return a float32 tensor of shape (T, d_model), a row for each position.
# 3. Column 2i is sin(p · ω), column 2i + 1 is cos(p · ω), with the same ω = 10000^(−2i/d_model): they alternate.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# First all angles, one for each position and pair, then sine and cosine of them. Counting 0, 2, 4, … gives 2i at once:
# do not double it again.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# positions (T, 1) times frequencies (d_model/2,) → angles (T, d_model/2). `torch.stack` of sine and cosine along a new last
# axis gives (T, d_model/2, 2), and `flatten(1)` puts the two of a pair side by side.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# exponents = 0, 2, 4, … below d_model, divided by d_model; angles = positions as a column times 10000 to the power of minus the
# exponents; return sine and cosine of the angles, stacked on a new last axis and flattened.
#
# </details>


# %%
def sinusoids(positions: torch.Tensor, d_model: int) -> torch.Tensor:
    """positions: (T,), whole numbers. Returns (T, d_model): sin, cos, sin, cos, …"""
    ### BEGIN SOLUTION
    frequencies = 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = positions[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    ### END SOLUTION


# %%
check.sinusoids(sinusoids)

# %%
sinusoids = yours("sinusoids")
table = sinusoids(torch.arange(100), 48)
table_image(table)

# %% [markdown]
# A row of this image is what gets added to the token at that position. Over 100 tokens the right half hardly moves: it is
# there for texts of thousands.
#
# And the dot products? Here they are for four starting points, as four curves. Beside them the same for a table that a
# small model **learned**, which you meet below.

# %%
learned_table = sibling("learned").positions.embedding.weight.detach()
panels = {"sinusoids, d_model 48": table, "a learned table, d_model 48": learned_table}
similarities(
    panels,
    starts=[0, 5, 20, 40],
    title="Sinusoids: four curves lie on each other, so only distance counts. Learned: they do not",
)

# %% [markdown]
# On the left, similarity is largest at distance 0 and falls, though not steadily. On the right every start has its own
# curve: nothing in training asks for more.
#
# Try other widths and bases. Do the curves ever part? And what does a small base cost?
#
# <details><summary>Answer</summary>
#
# They never part. With base 10 even the slowest pair turns fast: at d_model 256 the similarity falls within a few tokens to
# a small value and then swings around 0, so that near and far hardly differ any more. A large base keeps slow pairs, which
# still tell far from farther.
#
# </details>


# %%
# NBVAL_IGNORE_OUTPUT
def show(d_model: int, base: int) -> None:
    frequencies = float(base) ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(140)[:, None] * frequencies
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    title = "The four curves lie on each other for every width and base"
    similarities({f"d_model {d_model}, base {base:,}": waves}, [0, 5, 20, 40], title)


sliders(show, d_model=[48, 4, 16, 256], base=[10_000, 10, 100, 1_000_000])

# %% [markdown]
# ### Exercise 7.3 · `add_positions` · easy, 10 minutes
#
# 1. `x` has shape (B, T, d_model). `table` has shape (N, d_model), a row for each position from 0 on.
# 2. `start` is the position of the first token of `x`. It is 0 for a text that begins; a model that writes token by token
#    (chapter 12) calls with T = 1 and a larger `start`.
# 3. Return x plus rows start … start + T − 1 of the table, the same rows for every text of the batch.
# 4. If the table has too few rows, raise `IndexError`. Nothing else may happen silently.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Beware of slices: a slice past the end is shorter, not an error. If one row is left, it broadcasts to all tokens.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# T is `x.shape[1]`; `len(x)` is B. Rows (T, d_model) broadcast over the batch by themselves.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# end = start + T; if end is more than the number of rows: raise IndexError; return x plus rows start to end of the table.
#
# </details>


# %%
def add_positions(x: torch.Tensor, table: torch.Tensor, start: int) -> torch.Tensor:
    """x: (B, T, d_model), table: (N, d_model), start: position of x[:, 0]. Returns (B, T, d_model)."""
    ### BEGIN SOLUTION
    end = start + x.shape[1]
    if end > len(table):
        raise IndexError(f"position {end - 1} is past the end of a table with {len(table)} rows")
    return x + table[start:end]
    ### END SOLUTION


# %%
check.add_positions(add_positions)

# %% [markdown]
# The table may be sinusoids, or **learned**: N rows that start at random and are trained like an embedding, as in GPT-2.
#
# From here on we need models that differ in their positions and in nothing else. The course ships some, the *siblings*:
# small GPTs (3 layers, d_model 48, 4 heads, about 90,000 parameters) that read Shakespeare character by character, all
# trained for the same 2,000 steps on windows of 64 characters. The one with learned positions has a table of 64 rows.
# What does it do with character number 65?

# %%
add_positions = yours("add_positions")

x = torch.zeros(1, 65, 48)
try:
    add_positions(x, learned_table, start=0)
except (IndexError, ValueError) as error:
    print(f"{type(error).__name__}: {error}")

with torch.no_grad():
    logits = sibling("sinusoidal")(torch.zeros(1, 65, dtype=torch.long))
print("the sibling with sinusoids returns", tuple(logits.shape))

# %% [markdown]
# A learned table ends, and tells you. Sinusoids are defined for every position and return something for all of them;
# whether it is any good, section 5 measures.
#
# ### Exercise 7.4 · `shift_matrix` · hard, 20 minutes
#
# Why do the curves lie on each other? Because moving by k steps is **one fixed matrix**, wherever you start. Find it.
#
# 1. `steps` is a whole number k, also 0 or negative; `d_model` is even.
# 2. Return M of shape (d_model, d_model) with sinusoids(p + k) = M · sinusoids(p) for **every** position p, where
#    sinusoids(p) is a column of d_model numbers.
# 3. In closed form: no fitting.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Take one pair, with the angle a = pω, and look up sin(a + b) and cos(a + b). Both are made of sin a and cos a, with factors
# that know b = kω only. Every pair has its own b.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# A block of 2 × 2 for each pair on the diagonal, zeros elsewhere: block i fills rows and columns 2i and 2i + 1. Its rows
# belong to the new sine and the new cosine, its columns to the old ones.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# sin(a + b) = cos b · sin a + sin b · cos a; cos(a + b) = −sin b · sin a + cos b · cos a. For each pair: b = steps times its
# frequency; put ((cos b, sin b), (−sin b, cos b)) on the diagonal.
#
# </details>


# %%
def shift_matrix(steps: int, d_model: int) -> torch.Tensor:
    """Returns M, (d_model, d_model), with sinusoids(p + steps) = M @ sinusoids(p) for every p."""
    ### BEGIN SOLUTION
    matrix = torch.zeros(d_model, d_model)
    for column in range(0, d_model, 2):
        angle = steps * 10_000 ** (-column / d_model)
        cos, sin = math.cos(angle), math.sin(angle)
        matrix[column : column + 2, column : column + 2] = torch.tensor([[cos, sin], [-sin, cos]])
    return matrix
    ### END SOLUTION


# %%
check.shift_matrix(shift_matrix)

# %%
shift_matrix = yours("shift_matrix")
three = shift_matrix(3, 8)
places = sinusoids(torch.arange(4), 8)
hands(places, places @ three.T, steps=3)

# %% [markdown]
# Each clock is a pair of columns, and each color a starting position, drawn on its own radius. Within a clock all arcs are
# equally long: that is what *one fixed matrix* means.
#
# Two lines follow, and they lead to chapter 8. Write $M_k$ for your matrix.
#
# - $M_k$ is a **rotation**, so $M_k^\top M_k$ is the identity: it changes no length and no dot product.
# - $S_p = M_p S_0$. So $S_p \cdot S_q = S_0^\top M_p^\top M_q\,S_0 = S_0^\top M_{q-p}\,S_0$: only the distance q − p is left.
#
# That is the flat overlap in the picture. But a model never takes dot products of positions alone. It takes those of queries
# and keys, made of sums of token and position by learned matrices, and there the absolute position comes back in.
# RoPE drops the sum: it multiplies the **query** at position p by $M_p$ and the **key** at q by $M_q$. Their dot product is then
# $q^\top M_{q-p}\,k$, whatever the tokens are.

# %%
q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
for p in (0, 7, 500):
    turned_q, turned_k = shift_matrix(p, 8) @ q, shift_matrix(p + 5, 8) @ k
    print(f"query at {p}, key at {p + 5}: {turned_q @ turned_k:.3f}")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Your table, the equation as plain loops, and complex numbers, for which a pair is one number and a shift one
# multiplication, $e^{-ik\omega}$. Your matrix against one that `torch.linalg.lstsq` fits to positions without knowing any
# trigonometry. And your sum against PyTorch's `F.embedding`.

# %%
positions, d = torch.arange(5, 25), 8
loops = [[p / 10_000 ** (c / d) for c in range(0, d, 2)] for p in positions.tolist()]
loops = torch.tensor([[f(a) for a in row for f in (math.sin, math.cos)] for row in loops])
turning = torch.polar(torch.ones(4), -(10_000.0 ** (-torch.arange(0, d, 2) / d)))  # one step
pairs = torch.view_as_real(1j * turning ** positions[:, None]).flatten(1)
mine = sinusoids(positions, d)
print("sinusoids, yours = loops:  ", torch.allclose(mine, loops, atol=1e-4))
print("sinusoids, yours = complex:", torch.allclose(mine, pairs, atol=1e-4))

# %%
far = torch.arange(0, 20_000, 7)
before, after = sinusoids(far, 4).double(), sinusoids(far + 3, 4).double()
fitted = torch.linalg.lstsq(before, after).solution.T.float()
print("shift_matrix, yours = fitted:", torch.allclose(shift_matrix(3, 4), fitted, atol=1e-3))

x = torch.randn(2, 6, 48)
looked_up = x + F.embedding(torch.arange(10, 16), learned_table)
print("add_positions, yours = F.embedding:", torch.equal(add_positions(x, learned_table, 10), looked_up))
