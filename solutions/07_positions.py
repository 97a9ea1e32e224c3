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
from pocketgpt.course.ch07_positions.rare import RARE
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
# The first pair turns by one radian per position, the last by more than 1/10,000: by 0.01 at d_model 4, by 0.00011 at
# 192. The factor √d_model is in the paper of 2017, in half a sentence; section 5 shows what happens without it.
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
# **The numerical trap.** bfloat16 keeps 8 binary digits, so odd numbers above 256 are rounded:

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
    """layer takes and returns x: (B, T, d_model). order: (T,). Returns a float."""
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
x, where, order = torch.randn(2, 6, 64), torch.randn(6, 64), torch.tensor([3, 0, 4, 5, 1, 2])
block = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True).eval()
causal = nn.Transformer.generate_square_subsequent_mask(6)
with torch.no_grad():
    print(f"no mask        {order_error(block, x, order):.3f}")
    print(f"causal mask    {order_error(lambda x: block(x, src_mask=causal), x, order):.1f}")
    print(f"with positions {order_error(lambda x: block(x + where), x, order):.1f}")

# %% [markdown]
# The proof holds, and the mask does end it: a causal layer is **not** blind. Its first token
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
# A row of this image is what gets added to the token at that position. Over 100 tokens the right third hardly moves: it is
# there for texts of thousands.
#
# And the dot products? Here they are for four starting points, as four curves. Beside them the same for a table that a
# small model **learned**, which you meet below. Each panel has its own scale.

# %%
learned_table = sibling("learned").positions.embedding.weight.detach()
similarities(
    {"sinusoids, d_model 48": table, "a learned table, d_model 48": learned_table},
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
# still tell far from farther. Too large a base wastes pairs: they barely move.
#
# </details>


# %%
# NBVAL_IGNORE_OUTPUT
def show(d_model: int, base: int) -> None:
    frequencies = float(base) ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(140)[:, None] * frequencies
    waves = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    title = "The dot product against the distance, from four starting points"
    similarities({f"d_model {d_model}, base {base:,}": waves}, [0, 5, 20, 40], title)


sliders(show, d_model=[48, 4, 16, 256], base=[10_000, 10, 100, 1_000_000])

# %% [markdown]
# ### Exercise 7.3 · `add_positions` · easy, 10 minutes
#
# 1. `x` has shape (B, T, d_model). `table` has shape (N, d_model), a row for each position from 0 on.
# 2. `start`, 0 or more, is the position of the first token of `x`. It is 0 for a text that begins; a model that writes
#    token by token (chapter 12) calls with T = 1 and a larger `start`.
# 3. Return x plus rows start … start + T − 1 of the table, the same rows for every text of the batch.
# 4. If the table has too few rows, raise `IndexError` (`ValueError` is fine, too). Nothing may happen silently.
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
    """x: (B, T, d_model), table: (N, d_model). Returns (B, T, d_model)."""
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
# small GPTs (3 layers, d_model 48, 4 heads, about 87,000 parameters) that read Shakespeare character by character, all
# trained for the same 2,000 steps on windows of 64 characters. The one with learned positions has a table of 64 rows.
# What does it do with character number 65?

# %%
add_positions = yours("add_positions")


def error_of(function, *inputs) -> str:
    """The error that a call raises, or "no error"."""
    try:
        function(*inputs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


print("your function:  ", error_of(add_positions, torch.zeros(1, 65, 48), learned_table, 0))
print("with sinusoids: ", error_of(sibling("sinusoidal"), torch.zeros(1, 65, dtype=torch.long)))

# %% [markdown]
# A learned table ends, and tells you. Sinusoids are defined for every position and return something for all of them;
# whether it is any good, section 5 measures.
#
# ### Exercise 7.4 · `shift_matrix` · hard, 20 minutes
#
# Why do the curves lie on each other? Because moving by n steps is **one fixed matrix**, wherever you start. Find it.
#
# 1. `steps` is a whole number n, also 0 or negative; `d_model` is even.
# 2. Return M in float32, of shape (d_model, d_model), with sinusoids(p + n) = M · sinusoids(p) for **every** position p,
#    where sinusoids(p) is a column of d_model numbers.
# 3. In closed form: no fitting.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Take one pair, with the angle a = pω, and look up sin(a + b) and cos(a + b). Both are made of sin a and cos a, with factors
# that know b = nω only. Every pair has its own b.
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
# frequency; put ((cos b, sin b), (−sin b, cos b)) on the diagonal (`torch.block_diag` joins blocks).
#
# </details>


# %%
def shift_matrix(steps: int, d_model: int) -> torch.Tensor:
    """Returns M, (d_model, d_model), with sinusoids(p + steps) = M @ sinusoids(p) for every p."""
    ### BEGIN SOLUTION
    angles = steps * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    cos, sin = angles.cos(), angles.sin()
    blocks = torch.stack((cos, sin, -sin, cos), dim=1).view(-1, 2, 2)  # one for each pair
    return torch.block_diag(*blocks)
    ### END SOLUTION


# %%
check.shift_matrix(shift_matrix)

# %%
shift_matrix = yours("shift_matrix")
three = shift_matrix(3, 8)
places = sinusoids(torch.arange(4), 8)
hands(places, places @ three.T, steps=3)

# %% [markdown]
# Each clock is a pair of columns, and each color a starting position, drawn on its own radius. Within a clock all arcs
# span the same angle: that is what *one fixed matrix* means.
#
# Two facts follow, and they lead to chapter 8. Write $M_n$ for your matrix, p and r for two positions, and
# $S_p$ for row p of the table, as a column.
#
# - $M_n$ is a **rotation**, so $M_n^\top M_n$ is the identity: it changes no length, and undoing n steps is transposing.
# - $S_p = M_p S_0$. So $S_p \cdot S_r = S_0^\top M_p^\top M_r\,S_0 = S_0^\top M_{r-p}\,S_0$: only the distance r − p is left.
#
# That is why the curves lie on each other. But a model never takes dot products of positions alone. It takes those of
# queries and keys, which learned matrices make of the **sum** of token and position, and there the absolute position comes
# back in. RoPE drops the sum: it multiplies the **query** q at position p by $M_p$ and the **key** k at position r by $M_r$.
# Their dot product is $q^\top M_{r-p}\,k$, whatever the tokens are.

# %%
q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
for p in (0, 7, 500):
    turned_q, turned_k = shift_matrix(p, 8) @ q, shift_matrix(p + 5, 8) @ k
    print(f"query at {p}, key at {p + 5}: {turned_q @ turned_k:.3f}")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Your table, the equation as plain loops, and complex numbers, for which a pair is one number, sin a + i cos a =
# i e^(−ia), and a shift one multiplication. Your matrix against one that `torch.linalg.lstsq` fits to positions without
# knowing any trigonometry. And your sum against PyTorch's `F.embedding`.

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
looked_up = F.embedding(torch.arange(10, 16), learned_table)
same = torch.equal(add_positions(x, learned_table, 10), x + looked_up)
print("add_positions, yours = F.embedding:", same)

# %% [markdown]
# ## 5 · Predict, then run
#
# ### How much are positions worth?
#
# The four siblings: no positions at all, a learned table, sinusoids, and RoPE (queries and keys rotated, as above; chapter
# 8). Each was trained three times, with different random weights, on windows of 64 characters, and measured on *King John*,
# which it had not read. A model that knows only how often each character occurs has a loss of 3.3 nats per character, and
# RoPE reaches 1.69 at 64 characters.
#
# **Predict** the loss of the model without positions at 64 characters, and the one of the four that is best at 256, four
# times the trained length.

# %%
guess = predict(...)  # a loss, and a name

kinds = ("no_positions", "learned", "sinusoidal", "base")  # base: RoPE
losses = {kind: sibling_losses()[kind] for kind in kinds}
means = {k: {n: sum(s) / len(s) for n, s in each.items()} for k, each in losses.items()}
for kind, each in means.items():
    print(f"{kind:12}", {length: round(loss, 2) for length, loss in each.items()})
at_256 = {kind: each[256] for kind, each in means.items() if 256 in each}
guess.compare((round(means["no_positions"][64], 2), min(at_256, key=at_256.get)))

# %%
losses_by_length(losses)

# %% [markdown]
# Two surprises. First, the model without positions is not lost. Its mask gives each token another set, so it
# can learn to count how many tokens came before. It is about 0.3 nats behind RoPE, and about 0.2 behind the learned
# table.
#
# Second, past the trained length it is the **best** of the four, at 256 by far. It gets worse, too, but its count drifts
# gently. The learned table refuses. Sinusoids and RoPE compute on, without a warning, with angles they were never trained
# on. And these losses are means over the whole window, the trained first 64 characters included. On characters 97 to 128
# alone, the first seeds reach 2.32 without positions, 3.30 with RoPE, and 3.84 with sinusoids. So a formula that is defined
# for every position is no promise for every length. Chapter 8 mends this for RoPE.
#
# These are models of 87,000 parameters on one text, and three seeds.
#
# ### The forgotten √d_model
#
# A new embedding has numbers of about 0.02, as all weights in GPT-2's start. The sinusoids' are of about 0.7. If they are
# simply added, a token is a whisper beside its position. We trained siblings for 300 steps, three seeds each, that
# differ in the first sum only (`pocketgpt/course/ch07_positions/experiments.py`). Without positions they reach 2.39 on
# *King John*, at 64 characters. **Predict** the loss with sinusoids added at full size.

# %%
guess = predict(...)  # a loss

final = scaling_losses()
for variant, seeds in final.items():
    print(f"{variant:40} {sum(seeds) / 3:.2f}   (seeds {min(seeds):.2f} to {max(seeds):.2f})")
seeds = final["sinusoids added, embedding of 0.02"]
guess.compare(round(sum(seeds) / 3, 2))

# %%
curves = {name: each for name, each in learning_curves().items() if "shrunk" not in name}
size_curves(
    curves,
    step=10,
    title="Sinusoids at full size drown the token: from step 20 to 120 the loss stands still",
)

# %% [markdown]
# Worse than no positions at all, in every seed. For a hundred steps the orange curves lie near 3.34, the loss on the training
# plays of a model that has noticed how often each character occurs, and reads none. (The shrunk sinusoids are left out:
# they soon follow the gray curves.)
#
# Multiplying the embedding by √48 = 6.9 cures it, and so does shrinking the sinusoids: either way the token can be heard.
# The paper of 2017 does the first, and its published code begins with an embedding of 1/√d_model, so that the product has
# numbers of about 1. On average that start is the best of the five here, by a few hundredths. When you take sinusoids
# from one code and the embedding from another, this factor is what gets lost, and nothing raises an error.
#
# After 300 steps even cured sinusoids hardly beat no positions; after 2,000, above, they led by 0.12.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The pocket model has RoPE, so your functions go into the siblings. First the sinusoidal one: your table, and your sum,
# which gets the embedding already multiplied by √d_model. (The loss is that of a page of *Macbeth*;
# section 5 measured on *King John*.)

# %%
before_and_after(sinusoids=sinusoids, add_positions=add_positions)

# %% [markdown]
# Then `add_positions` with the learned table:

# %%
before_and_after(model="learned", add_positions=add_positions)

# %% [markdown]
# ### A sentence, three times
#
# What does a head see in a text that repeats itself? Here the last character of *to be or not, to be or not, to be or
# not,* looks back, in layer 0, with positions and without. Each panel of the figure has its own scale.

# %%
text = "to be or not, " * 3
tokens = torch.tensor([character_tokenizer().encode(text)])
maps = {name: attention_weights(sibling(name), tokens)[:, 0] for name in kinds}
for name, weights in maps.items():
    copies = weights[0, 0, -1].view(3, -1).sum(dim=1)  # layer 0, head 0, the last query
    print(f"{name:12} weight on the three copies:", [round(c, 2) for c in copies.tolist()])


def show_repeated(layer: int, head: int, model: str) -> None:
    rows = {name: maps[name][layer, head, -1] for name in ("no_positions", model)}
    seen = "only without positions equal characters get equal weights"
    if layer > 0:
        seen = "what the last character looks at"
    title = f"Layer {layer}, head {head}: {seen}"
    repeated(rows, [readable(character) for character in text], copies=3, title=title)


show_repeated(0, 0, "sinusoidal")

# %% [markdown]
# Without positions every copy gets exactly a third, down to the single letter: in layer 0 a key knows its character and
# nothing else, so equal characters get equal weights. With positions nearly all weight is on the last copy, mostly on the
# characters just before. Move the layer to 1 and 2: there the copies differ even without positions, a little in layer 1,
# clearly in layer 2 (0.41, 0.31, 0.28 in head 0). That is the count, which layer 0 has passed on.

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_repeated, layer=(0, 2), head=(0, 3), model=["sinusoidal", "learned", "base"])

# %% [markdown]
# ### A shift by 32
#
# Now the trained model gets every position 32 too large: 32 to 95 in place of 0 to 63. All distances are as they were, and
# your `shift_matrix` says that this is one rotation of the table. **Predict** the loss (before: 2.03).

# %%
guess = predict(...)  # a loss


def moved(positions: torch.Tensor, d_model: int) -> torch.Tensor:
    return sinusoids(positions + 32, d_model)


before_and_after(sinusoids=moved, guess=guess)

# %% [markdown]
# A rotation of the **table** is no rotation of the sum: the model adds tokens to positions and multiplies both by matrices
# that know where they stand, up to 63. Part of the damage is positions never met. The other part is not: windows of 32
# characters that begin at 32 in place of 0, all of it trained, rise from 2.06 to 2.18. With RoPE such a shift changes
# nothing at all.
#
# ### What the model notices, and what not
#
# The known mistakes of your two functions, put into this model one by one. The last line counts those that stop with an
# error. Similar ones are left out.

# %%
symptoms("sinusoids", without=RARE)

# %%
symptoms("add_positions", without=RARE)

# %% [markdown]
# **It notices** another layout, another base, a doubled exponent, although a model could as well have been trained
# with such a table. **It does not notice** that positions begin at 1 (0.003 nats) or are rounded, that the exponents
# end at 1 (0.01), nor anything about `start` and the end of the table, because one pass over 64 characters begins at
# 0 and ends in time. Those mistakes wait for chapter 12, where a model writes with a cache. The check finds them
# today.
#
# ## 7 · What to remember
#
# - Attention without a mask is blind to order: reorder its input, and its output is reordered. A causal mask gives some of
#   the order back: tokens see different sets.
# - A position is a vector that is added to the token's. Mind the sizes: 2017 multiplies the embedding by √d_model.
# - Sinusoids: pairs of sine and cosine, from one radian per position down toward 1/10,000: the wider the model, the nearer.
#   Moving by n steps is one fixed rotation, so the dot product of two rows depends on distance alone.
# - The sum does not inherit that. RoPE rotates queries and keys instead.
# - Learned positions end with an error. Sinusoids do not end, and past the trained length they fail in silence.
#
# ### Three questions
#
# <details><summary>1. A text is padded in front with three empty tokens, and the model has learned positions. Which position should
# the first real token have?</summary>
#
# Position 0. Padding is no text: count real tokens only, otherwise every token gets a row that it was not trained with.
#
# </details>
# <details><summary>2. A model with 1,024 learned positions is trained on windows of 1,024 tokens, cut into inputs `window[:-1]` and targets
# `window[1:]`. Which row of the table is never trained?</summary>
#
# The last one: inputs have 1,023 tokens, so position 1,023 never occurs. The model looks fine until somebody uses its full
# length.
#
# </details>
# <details><summary>3. Is $M_2 M_3 = M_5$? And what is $M_{-3}$?</summary>
#
# Yes: angles add up, two steps and three steps are five. $M_{-3}$ is the inverse of $M_3$ and also its transpose, because rotations
# are undone by their transpose.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/positions.py`: `sinusoids`, `SinusoidalPositions` (with the factor √d_model), `LearnedPositions`. In a config:
# `positions="sinusoidal"`, `"learned"`, `"rope"` or `"none"`.
#
# ### Papers
#
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762): sinusoids in
#   section 3.5, √d_model in 3.4.
# - Haviv et al. 2022, *Transformer Language Models without Positional Encodings Still Learn Positional Information*,
#   [arXiv 2203.16634](https://arxiv.org/abs/2203.16634).
# - Kazemnejad et al. 2023, *The Impact of Positional Encoding on Length Generalization in Transformers*,
#   [arXiv 2305.19466](https://arxiv.org/abs/2305.19466): no positions, past the trained length.
# - Su et al. 2021, *RoFormer*, [arXiv 2104.09864](https://arxiv.org/abs/2104.09864): your `shift_matrix`, applied to queries
#   and keys.
#
# **Next**: chapter 8 writes that rotation so that it costs next to nothing, and asks how far it carries.
