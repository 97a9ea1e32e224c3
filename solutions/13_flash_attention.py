# %% [markdown]
# # 13 · FlashAttention
#
# **At the end** you have attention that never makes the T × T matrix, computes exactly the same, and runs in a trained
# model; and you have measured what it saves and what it does not.
#
# **Time**: about 90 minutes, and 25 more for the optional last exercise. **You need**: the safe softmax of chapter 0, and
# what a cache changes about queries and keys (chapter 12).
#
# Here is its place in the model: not a new part, but another way to compute the dashed frame.

# %%
import math
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F

from pocketgpt.course.ch13_flash_attention.experiments import exponent, operator_that_ran
from pocketgpt.course.ch13_flash_attention.experiments import peak_bytes, seconds, visits
from pocketgpt.course.ch13_flash_attention.figures import tiles_in_order, time_and_memory
from pocketgpt.course.lab import before_and_after, check, model_map, pocket_model, predict, recall
from pocketgpt.course.lab import sliders, symptoms, transplant, yours
from pocketgpt.models.presets import preset

torch.set_num_threads(1)
model_map(preset("pocket-shakespeare"), highlight="flash_attention")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. With a cache, one new query meets 2,000 keys. How many scores does a head compute for it, and which of
# them does the causal mask hide?</summary>
#
# 2,000 scores, and none is hidden: every kept key is earlier. A T × T matrix only arises where
# all queries come at once: in training, and for a prompt.
#
# </details>
# <details><summary>2. A safe softmax subtracts the largest score first. What would you see if it subtracted the smallest?</summary>
#
# With small scores, the same result. With scores more than 88 apart, exp overflows in float32, and ∞/∞ is NaN.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(13)

# %% [markdown]
# ## 1 · The smallest example: a softmax that sees one score at a time
#
# The softmax needs the largest score of the row, and the sum to divide by. It seems that all scores must be there first. They need not.
#
# Scores 1, 3, 2 arrive one by one, with the values 10, 20, 30. Carry three numbers: m, the largest score so far; l, the sum
# of exp(score − m); and o, the sum of exp(score − m) · value.
#
# | after | m | factor for the old | l | o |
# |---|---|---|---|---|
# | score 1 | 1 | | 1 | 10 |
# | score 3 | 3 | e¹⁻³ = 0.1353 | 0.1353 · 1 + 1 = 1.1353 | 0.1353 · 10 + 20 = 21.353 |
# | score 2 | 3 | e³⁻³ = 1 | 1.1353 + 0.3679 = 1.5032 | 21.353 + 0.3679 · 30 = 32.390 |
#
# When 3 arrives, everything in l and o was measured against the old maximum 1. One factor, exp(old m − new m), translates it.
# At the end o / l = 32.390 / 1.5032 = 21.547.

# %%
scores, values = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0, 30.0])
m, total, o = -math.inf, 0.0, 0.0
for score, value in zip(scores.tolist(), values.tolist(), strict=True):
    new = max(m, score)
    factor = math.exp(m - new)
    total = factor * total + math.exp(score - new)
    o, m = factor * o + math.exp(score - new) * value, new
    print(f"score {score:.0f}: m = {m:.0f}, l = {total:.4f}, o = {o:.3f}")
print(f"o / l = {o / total:.3f}, plain softmax: {(scores.softmax(0) @ values).item():.3f}")

# %% [markdown]
# This *online softmax* is no approximation: up to rounding the factors cancel. Without rescaling l you get 13.68, without rescaling o 27.30.
#
# ## 2 · The equation
#
# Take pieces instead of single scores, and R queries at once. Each piece has its scores S and values V:
#
# $$m' = \max(m, \max_j S_j), \qquad f = e^{\,m - m'}, \qquad P_j = e^{\,S_j - m'}$$
# $$l' = f\,l + \sum_j P_j, \qquad o' = f\,o + P V$$
#
# | symbol | what, in code | shape |
# |---|---|---|
# | $S$ | the piece's scores, `scores`; −∞ where the mask hides | (…, R, n) |
# | $V$ | its values, `values` | (…, n, d) |
# | $m, m'$ | `largest`, before and after | (…, R) |
# | $f$ | the factor for what was there | (…, R) |
# | $P$ | exps of the piece, not divided by anything | (…, R, n) |
# | $l$ | `total` of the exps | (…, R) |
# | $o$ | `weighted` sum of the values | (…, R, d) |
#
# The start is m = −∞, l = 0, o = 0; the end is o / l. And m + ln l is the **log-sum-exp** of the row, $L = \ln \sum_j e^{S_j}$: one number
# from which every weight can be found again, as exp(S − L).
#
# **The numerical trap.** −∞ − (−∞) is NaN. It happens when a row has seen nothing but hidden keys: then m and m' are both −∞.
# Subtract 0 in that case: exp(−∞ − 0) is 0, as it should be. Replacing the NaN afterwards (`nan_to_num`) mends the value only: on the way
# back autograd multiplies its 0 by NaN, and the gradient is NaN.

# %%
nothing = torch.tensor(-math.inf)
print(
    "exp(−∞ − (−∞)) =",
    (nothing - nothing).exp().item(),
    "  exp(−∞ − 0) =",
    (nothing - 0).exp().item(),
)

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 13.1 · `merge_piece` · medium, 20 minutes
#
# 1. `state` is a tuple (largest, total, weighted) of shapes (…, R), (…, R), (…, R, d). `scores` is (…, R, n), `values` (…, n, d).
# 2. Return the state after the piece, as a tuple of three new tensors in the same order and shapes. Gradients flow through all three.
# 3. `largest` is the largest score that each row has seen. It never falls.
# 4. `total` and `weighted` are relative to the new `largest`, and nothing is divided.
# 5. Hidden scores are −∞. A row that has seen nothing else keeps the state (−∞, 0, 0). There is no NaN, in the results or in their
#    gradients.
# 6. Scores may fall or rise by hundreds from piece to piece.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Both old numbers are rescaled by the same factor, exp(old maximum − new maximum), which is at most 1. The new maximum is the larger
# of the old one and the piece's: `torch.maximum`.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# The piece's maximum is `scores.amax(dim=-1)`, (…, R). Before subtracting: `safe = torch.where(new == -math.inf, 0.0, new)`.
# `safe[..., None]` is (…, R, 1), to subtract from (…, R, n); the factor needs the same for `weighted`. P @ values:
# (…, R, n) @ (…, n, d).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# new = larger of largest and the piece's maximum; safe = new, or 0 where it is −∞; factor = exp(largest − safe); P = exp(scores −
# safe); return new, factor · total + sum of P, factor · weighted + P times values.
#
# </details>

# %%
State = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def merge_piece(state: State, scores: torch.Tensor, values: torch.Tensor) -> State:
    """state: (..., R), (..., R), (..., R, d). scores: (..., R, n), values: (..., n, d)."""
    ### BEGIN SOLUTION
    largest, total, weighted = state
    new = torch.maximum(largest, scores.amax(dim=-1))
    safe = torch.where(new == -math.inf, 0.0, new)
    factor = torch.exp(largest - safe)
    exps = torch.exp(scores - safe[..., None])
    return new, factor * total + exps.sum(dim=-1), factor[..., None] * weighted + exps @ values
    ### END SOLUTION


# %%
check.merge_piece(merge_piece)

# %%
merge_piece = yours("merge_piece")

# %% [markdown]
# ### Exercise 13.2 · `streamed_softmax` · easy, 10 minutes
#
# 1. `pieces` is a list of pairs (scores, values) of shapes (…, R, n) and (…, n, d); n may differ from piece to piece.
# 2. Return softmax(all scores of a row) times all values: (…, R, d).
# 3. A row in which everything is hidden (−∞) gets zeros.
# 4. The scores are never put side by side again: no `torch.cat`, no tensor with all of them.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Make the state before the first piece, merge one piece after the other with your `merge_piece`, and divide at the end.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# R and d are in the first pair. `scores.new_full(scores.shape[:-1], -math.inf)` is (…, R) in the right dtype, `scores.new_zeros(…)`
# fills with 0. Where the total is 0, divide by 1 instead.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# state = (−∞, 0, 0) in the shapes (…, R), (…, R), (…, R, d); for each pair: state = merge_piece(state, scores, values); return weighted / total,
# with 1 for a total of 0.
#
# </details>


# %%
def streamed_softmax(pieces: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """pieces: pairs of scores (..., R, n) and values (..., n, d). Returns (..., R, d)."""
    ### BEGIN SOLUTION
    scores, values = pieces[0]
    largest = scores.new_full(scores.shape[:-1], -math.inf)
    total = scores.new_zeros(scores.shape[:-1])
    state = largest, total, scores.new_zeros(*scores.shape[:-1], values.shape[-1])
    for scores, values in pieces:
        state = merge_piece(state, scores, values)
    _, total, weighted = state
    return weighted / torch.where(total == 0, 1.0, total)[..., None]
    ### END SOLUTION


# %%
check.streamed_softmax(streamed_softmax)

# %% [markdown]
# ### Exercise 13.3 · `visited_tiles` · medium, 10 minutes
#
# Now cut the T × T square of scores into **tiles**, `rows` queries high and `columns` keys wide. Tile (a, b) begins at query a · rows and key
# b · columns; the last ones may be partial. With a causal mask, many tiles are hidden as a whole, and need not be computed.
#
# 1. `seq`, `rows`, `columns` are whole numbers: seq = T, and the size of a tile, which need not be a square.
# 2. Return a boolean tensor of shape (⌈seq/rows⌉, ⌈seq/columns⌉), with partial tiles counted.
# 3. True where at least one query of the tile may look at one of its keys. Query t sees the keys 0 … t.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Which query of the tile sees most, and which key of the tile is seen by most? Compare these two.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `torch.arange(0, seq, rows)` are the first queries of the rows of tiles, ⌈seq/rows⌉ of them; the last query of each is rows − 1 later. A column
# `[:, None]` compared with a row `[None, :]` gives all pairs.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# last query = (0, rows, 2 · rows, …) + rows − 1, as a column; first key = (0, columns, …), as a row; return first key ≤ last query.
#
# </details>


# %%
def visited_tiles(seq: int, rows: int, columns: int) -> torch.Tensor:
    """Returns bool (ceil(seq / rows), ceil(seq / columns)), True where a tile is needed."""
    ### BEGIN SOLUTION
    last_query = torch.arange(0, seq, rows)[:, None] + rows - 1
    first_key = torch.arange(0, seq, columns)[None, :]
    return first_key <= last_query
    ### END SOLUTION


# %%
check.visited_tiles(visited_tiles)

# %%
visited_tiles = yours("visited_tiles")

# %% [markdown]
# Here are 48 queries and keys in tiles of 12 × 8, in the order of the visit. On the right, m and l of the last query in the present row
# of tiles, computed by your `merge_piece`: the filled dots are known so far.

# %%
torch.manual_seed(4)
q, k = 1.5 * torch.randn(2, 48, 8)


def show(step: int, rows: int = 12, columns: int = 8) -> None:
    order = visits(merge_piece, q, k, rows, columns)
    step = min(step, len(order)) - 1
    tiles_in_order(visited_tiles(48, rows, columns), order, step, 48, rows, columns)


show(13)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show, step=(1, 78), rows=[4, 8, 12, 24, 48], columns=[4, 8, 12, 24, 48])

# %% [markdown]
# Tiles on the diagonal are partly hidden, so they still need a mask. The smaller the tiles, the closer the visited part comes to one half:

# %%
for tile in (1024, 256, 64, 16):
    share = visited_tiles(1024, tile, tile).float().mean().item()
    print(f"1,024 tokens, tiles of {tile:4}: {share:.0%} visited")

# %% [markdown]
# ### Exercise 13.4 · `tiled_attention` · hard, 30 minutes
#
# 1. `q`, `k`, `v` are (…, T, d_head); `rows` and `columns` are the size of a tile: the scores of a whole one are (…, rows, columns). T need
#    not be a multiple of either.
# 2. Return causal attention: the output (…, T, d_head), and the log-sum-exp of each query's visible, scaled scores, (…, T).
# 3. The scores are divided by √d_head, once.
# 4. For each row of tiles, begin a new state, merge the tiles that it needs, and divide at the end. Tiles in which everything is hidden
#    are not computed.
# 5. Positions are those in the whole text: row r of a tile that begins at query i is query i + r.
# 6. No tensor has an entry for each of T · T pairs: neither scores nor mask. PyTorch's own attention is not allowed.
# 7. Gradients must reach `q`, `k` and `v`.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two loops, over i in range(0, T, rows) and, inside, over j in steps of `columns`. How far must j go for the tiles that begin at query i? The
# state is made between the two `for` lines.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `q[..., i : i + rows, :]` is (…, R, d), at the end of the text with fewer rows: a slice ends by itself. Scores: (…, R, C). With
# `torch.arange` make the positions (R, 1) and (C,) of this tile, and hide where key > query with `masked_fill(…, -math.inf)`. Results go into tensors made before the loops,
# `output[..., i : i + rows, :] = …`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# for i in 0, rows, 2·rows, … below T: queries = a slice of q, divided by √d_head; state = (−∞, 0, 0) for them; for j in 0, columns, … below min(i +
# rows, T): scores = queries times the slice of k, transposed; hide later keys; merge_piece with the slice of v; then output = weighted / total,
# log-sum-exp = largest + log(total).
#
# </details>


# %%
def tiled_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """q, k, v: (..., T, d_head). Returns the output (..., T, d_head) and log-sum-exp (..., T)."""
    ### BEGIN SOLUTION
    seq, d_head = q.shape[-2:]
    output, log_sum_exp = torch.zeros_like(q), q.new_zeros(q.shape[:-1])
    for i in range(0, seq, rows):
        queries = q[..., i : i + rows, :] / math.sqrt(d_head)
        largest = queries.new_full(queries.shape[:-1], -math.inf)
        state = largest, torch.zeros_like(largest), torch.zeros_like(queries)
        query_positions = torch.arange(i, min(i + rows, seq))[:, None]
        for j in range(0, min(i + rows, seq), columns):
            scores = queries @ k[..., j : j + columns, :].transpose(-2, -1)
            later = torch.arange(j, min(j + columns, seq)) > query_positions
            scores = scores.masked_fill(later, -math.inf)
            state = merge_piece(state, scores, v[..., j : j + columns, :])
        largest, total, weighted = state
        output[..., i : i + rows, :] = weighted / total[..., None]
        log_sum_exp[..., i : i + rows] = largest + total.log()
    return output, log_sum_exp
    ### END SOLUTION


# %%
check.tiled_attention(tiled_attention)

# %%
tiled_attention = yours("tiled_attention")

# %% [markdown]
# ### Exercise 13.5 · `attention_numbers` · easy, 5 minutes
#
# How many numbers does one head hold at once? Count what comes on top of q, k and v.
#
# 1. `seq`, `d_head`, `rows`, `columns` are whole numbers, the tile no larger than the square. Return two whole numbers, (naive, tiled).
# 2. Naive, that is step by step: scores **and** weights, because the scores are still there while the softmax makes the weights; and the output.
# 3. Tiled: the output and one log-sum-exp for each query; the state (largest, total, weighted) of one row of tiles; and the scores and
#    exps of one tile.
# 4. Count numbers, not bytes.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# In which of the two does seq appear squared?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Squares (T, T), two of them. Output (T, d_head). State (R,), (R,), (R, d_head). Tiles (R, C), two of them.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# naive = two squares + output; tiled = output + seq + rows times (d_head + 2) + two tiles.
#
# </details>


# %%
def attention_numbers(seq: int, d_head: int, rows: int, columns: int) -> tuple[int, int]:
    """Numbers that one head holds at once beyond q, k, v: (naive, tiled)."""
    ### BEGIN SOLUTION
    naive = 2 * seq**2 + seq * d_head
    tiled = seq * d_head + seq + rows * (d_head + 2) + 2 * rows * columns
    return naive, tiled
    ### END SOLUTION


# %%
check.attention_numbers(attention_numbers)

# %% [markdown]
# **Predict**: a layer with 12 heads of 64 reads 16,384 tokens in float32, four bytes a number. How much memory do the heads take step by step,
# and how much in tiles of 64 × 64?

# %%
attention_numbers = yours("attention_numbers")
guess = predict(...)  # two sizes, such as "300 MiB, 100 MiB"

naive, tiled = (12 * 4 * n for n in attention_numbers(16_384, 64, 64, 64))
guess.compare(f"{naive / 2**30:.1f} GiB, {tiled / 2**20:.0f} MiB")

# %% [markdown]
# For **one** layer. In training without tiles the weights of every layer are kept for the backward pass. The tiled form keeps q, k, v, the
# output and one log-sum-exp for each query, and computes the weights again (exercise 13.6).

# %% [markdown]
# ## 4 · The same number, three ways
#
# Yours in tiles that fit and that do not; the formula step by step; PyTorch's fused operator; and `torch.logsumexp`.


# %%
def step_by_step(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention with the whole square of scores."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(dim=-1) @ v


torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 6, 100, 32)
fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
for rows, columns in ((50, 50), (16, 7), (128, 128)):
    output, log_sum_exp = tiled_attention(q, k, v, rows, columns)
    same = [torch.allclose(output, other, atol=1e-5) for other in (step_by_step(q, k, v), fused)]
    print(f"tiles of {rows} × {columns}: yours = step by step {same[0]}, yours = fused {same[1]}")

scores = (q @ k.mT / math.sqrt(32)).masked_fill(torch.ones(100, 100).triu(1) > 0, -math.inf)
print("log-sum-exp:", torch.allclose(log_sum_exp, scores.logsumexp(-1), atol=1e-5))

# %% [markdown]
# With a right answer they differ by rounding, about 10⁻⁶: FlashAttention is exact.

# %% [markdown]
# ## 5 · Predict, then run
#
# ### Does it multiply less?
#
# Take a pass in which no tile is skipped, with tiles of 64 × 64 and d_head = 64. Step by step, the forward pass has two matrix products
# (scores, weighted sum), and the backward pass four. The tiled form also rescales its state at every tile, and its backward pass makes the scores
# again. **Predict** its multiplications, relative to step by step: forward, and forward with backward.

# %%
guess = predict(...)  # two percentages, such as "−50 %, −50 %"

tile_rows = tile_columns = width = 64
product = tile_rows * tile_columns * width  # multiply-adds of one product, for one tile
rescaling = tile_rows * (width + 1)  # the state: weighted and total
forward = (2 * product + rescaling) / (2 * product)
both = (7 * product + rescaling) / (6 * product)
guess.compare(f"forward {forward - 1:+.1%}, forward and backward {both - 1:+.0%}")

# %% [markdown]
# More, not less. What tiles save is **traffic**: numbers that
# travel between the large, slow memory and the small, fast one beside the processor. Step by step, every square goes out and comes back: scores written, read, weights written, read. In tiles, each is used where
# it was made; but k and v are read again for each row of tiles. Counted, without skipping, if a tile and its state fit into the fast memory:

# %%
seq, width = 4096, 64
whole = 4 * seq**2 + 4 * seq * width  # four passes over squares; q, k, v read, output written
for tile in (16, 64, 128, 256):
    moved = 2 * seq * width + 2 * seq * width * (
        seq // tile
    )  # q, output once; k, v per row of tiles
    print(f"tiles of {tile:3}: {moved / whole:5.0%} of the numbers moved step by step")

# %% [markdown]
# Half at tiles of 64; with tiles of 16 rows, twice as many as step by step. Taller tiles move less, and the size of the fast memory limits them.
#
# ### Time and memory
#
# Four heads of 64, 256 to 4,096 tokens, one thread: your Python loop with some ten small operations for each tile, a few vectorized lines, and
# PyTorch's fused operator (SDPA). **Predict** the order at 4,096 tokens, fastest first, and by what factor the
# memory of each grows when the tokens double.
#
# The memory is measured: PyTorch's profiler notes every block that the allocator hands out and gets back, and `peak_bytes` takes the
# largest sum held at once.

# %%
# NBVAL_IGNORE_OUTPUT
guess = predict(...)  # such as "SDPA, step by step, yours; 2, 4, 2 times"


def in_tiles(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return tiled_attention(q, k, v, 128, 128)[0]


fused = partial(F.scaled_dot_product_attention, is_causal=True)
forms = {"step by step": step_by_step, "yours": in_tiles, "SDPA": fused}
lengths = (256, 512, 1024, 2048, 4096)
inputs = {n: torch.randn(3, 1, 4, n, 64) for n in lengths}
peaks = {name: [peak_bytes(form, *inputs[n]) for n in lengths] for name, form in forms.items()}
times = {name: [seconds(form, *inputs[n]) for n in lengths] for name, form in forms.items()}
for name in forms:
    pairs = zip(times[name], peaks[name], strict=True)
    print(f"{name:12}", *(f"{1e3 * t:5.0f} ms {b / 1e6:6.1f} MB" for t, b in pairs))
order = sorted(forms, key=lambda name: times[name][-1])
growth = ", ".join(f"{peaks[name][-1] / peaks[name][-2]:.1f}" for name in order)
guess.compare(f"{', '.join(order)}; {growth} times")

# %%
# NBVAL_IGNORE_OUTPUT
time_and_memory(lengths, times, peaks)

# %% [markdown]
# The exponents in the legends are fitted to the last three lengths. On a quiet machine 4,096 tokens took 0.9 s step by step,
# 0.25 in tiles and 0.12 in SDPA, with 558, 6 and 5 MB. The loop wins although it is Python: it skips nearly half of the tiles, and a tile
# fits into the processor's cache, which we think is the rest. At 256 tokens it lost, with 2 ms to 1. On a GPU we expect it to lose: every
# small operation is a launch of its own. FlashAttention is one kernel.
#
# **"Linear"** is the memory (below 2 times here, because the tile's own share stays as it is). The time has the square in it.
#
# The memory, tested:

# %%
most = {name: peaks[name][-1] for name in forms}
slopes = {name: exponent(lengths[-3:], peaks[name][-3:]) for name in forms}
assert most["step by step"] > 20 * most["yours"] and most["step by step"] > 20 * most["SDPA"]
assert slopes["step by step"] > 1.8 and slopes["yours"] < 1.3 and slopes["SDPA"] < 1.3
print(f"tiles visited: {visited_tiles(4096, 128, 128).float().mean():.0%}")
counted = [4 * 4 * n for n in attention_numbers(4096, 64, 128, 128)]
for name, each in zip(("step by step", "yours"), counted, strict=True):
    print(f"{name}: measured within 25 % of 13.5's count: {abs(most[name] / each - 1) < 0.25}")

# %% [markdown]
# ### Which one ran?
#
# `F.scaled_dot_product_attention` is a door with several rooms behind it: FlashAttention, a memory-efficient form and cuDNN's on GPUs, a
# flash form for CPUs, and "math", which is step by step. Which one runs depends on the inputs. **Predict** which of these
# seven calls do not get the flash form here.

# %%
guess = predict(...)  # such as "mask, one query"

q, k, v = torch.randn(3, 1, 6, 64, 32)
mask = torch.ones(64, 64, dtype=torch.bool).tril()
calls = {
    "causal": ((q, k, v), {"is_causal": True}),
    "mask": ((q, k, v), {"attn_mask": mask}),
    "one query": ((q[:, :, -1:], k, v), {}),
    "fewer key heads": ((q, k[:, :2], v[:, :2]), {"is_causal": True, "enable_gqa": True}),
    "dropout": ((q, k, v), {"is_causal": True, "dropout_p": 0.1}),
    "no batch axis": ((q[0], k[0], v[0]), {"is_causal": True}),
    "narrow values": ((q, k, v[..., :16]), {"is_causal": True}),
}
attend = F.scaled_dot_product_attention
ran = {name: operator_that_ran(attend, *tensors, **more) for name, (tensors, more) in calls.items()}
for name, operator in ran.items():
    print(f"{name:16} {operator}")
guess.compare(", ".join(name for name, operator in ran.items() if "flash" not in operator))

# %% [markdown]
# A mask, a single query (a decode step with a cache) and grouped heads keep it. Dropout, a missing batch axis and values of another
# width lose it silently. This is torch 2.13 on a CPU; each version has its own rules. `torch.nn.attention.sdpa_kernel` demands one room, and raises an
# error where it cannot serve.
#
# If this machine has a GPU that PyTorch sees, the next cell asks it; ours had none, so no output is stored.

# %%
# NBVAL_IGNORE_OUTPUT
if torch.cuda.is_available():
    for dtype in (torch.float32, torch.bfloat16):
        for name, (tensors, more) in calls.items():
            there = [x.to("cuda", dtype) for x in tensors]
            more = {key: x.cuda() if torch.is_tensor(x) else x for key, x in more.items()}
            print(f"{dtype}, {name:16} {operator_that_ran(attend, *there, **more)}")

# %% [markdown]
# ## 6 · Yours in the real model
#
# All 24 heads, six in each of four layers, in tiles of 64 × 32.

# %%
before_and_after(tiled_attention=tiled_attention)

# %% [markdown]
# And the memory of a forward pass, at 256 tokens and at 2,048, which the model was not trained for:


# %%
def forward_peak(seq: int, **functions) -> int:
    model = transplant(pocket_model(), **functions)
    if not functions:
        model.use_attention("step_by_step")
    model.config = replace(model.config, max_seq_len=seq)
    return peak_bytes(model, torch.zeros(1, seq, dtype=torch.long))


for seq in (256, 2048):
    whole, yours_there = forward_peak(seq), forward_peak(seq, tiled_attention=tiled_attention)
    print(f"{seq:5} tokens: memory step by step, divided by yours: {whole / yours_there:.0f}")

# %% [markdown]
# At 2,048 the squares of one layer's six heads decide. The rest is mostly logits: 34 MB.
#
# ### What the model notices, and what not
#
# The known mistakes of `tiled_attention`, put into the model one by one, without some whose row is like another's:

# %%
like = "state_of_whole_tiles state_carried_and_cut state_of_whole_tiles_carried in_base_ten"
like += " log_of_one_more maximum_times_log log_of_the_sum_of_both maximum_not_below_zero"
like += " in_base_two total_without_log maximum_for_log_sum_exp earlier_tiles_and_the_first"
symptoms("tiled_attention", without=like.split())

# %% [markdown]
# **The loss misleads here.** Seven mistakes let a query see later keys of its own row of tiles, and with five of them the loss **falls**, from 4.10 to between 4.01 and 2.89: the next
# token is often in sight. With the whole future in sight (chapter 2) it rises, to 5.38. The probe finds them all: up to 63 earlier positions, those in the last token's row of tiles.
#
# **It does not notice** anything about the log-sum-exp, which a forward pass does not use; partial tiles, as 256 is a multiple of 64 and 32; a scale that happens to be its own;
# another maximum (carried on, or that of the tile alone), because o / l is right in any unit, until scores are 88 apart.
#
# ## 7 · For those who want more: the backward pass
#
# ### Exercise 13.6 · `tiled_gradients` · hard, 25 minutes, optional
#
# Autograd can go through your loop, but it keeps the exps of every tile, a square again. FlashAttention keeps the output and the log-sum-exp only, and
# makes each tile's weights a second time. With $S$ the scaled scores, $G$ the gradient of the loss by the output $O$, and
# $s = 1/\sqrt{d_\text{head}}$:
#
# $$P = e^{\,S - L}, \quad dV = P^\top G, \quad dP = G V^\top, \quad D_t = \textstyle\sum_c G_{tc} O_{tc}, \quad dS = P \circ (dP - D),
# \quad dQ = s\, dS\, K, \quad dK = s\, dS^\top Q$$
#
# $\circ$ multiplies element by element. $D$, one number for each query, is what the Jacobian of chapter 3 subtracts: $\sum_j P_{tj}\, dP_{tj}$, which equals $G_t \cdot O_t$
# because $O_t = \sum_j P_{tj} V_j$.
#
# 1. `q`, `k`, `v`, `output`, `grad` (this is G) are (…, T, d_head), `log_sum_exp` is (…, T).
# 2. Return (dq, dk, dv) of causal attention, each (…, T, d_head), tile by tile. Hidden pairs have P = 0.
# 3. Every tile adds to a slice of all three. No tensor has an entry for each of T · T pairs. No autograd.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The weights of a tile are exp(scores − log_sum_exp), at once and without a state: the row's sum is known. Mask them as in the forward pass.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# D = (grad · output) summed over the last axis with keepdim: (…, T, 1). In a tile, P, dP and dS are (…, R, C), and D's slice is (…, R, 1). dK's slice gets dSᵀ (…, C, R) @
# queries (…, R, d).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# dq, dk, dv = zeros; D; for each visited tile: P = exp(scaled scores − log-sum-exp), 0 where hidden; dS = P · (G times vᵀ − D); dq's slice += dS times k's slice,
# scaled; dk's slice += dSᵀ times q's slice, scaled; dv's slice += Pᵀ times G's slice.
#
# </details>


# %%
def tiled_gradients(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    output: torch.Tensor,
    log_sum_exp: torch.Tensor,
    grad: torch.Tensor,
    rows: int,
    columns: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All (..., T, d_head), log_sum_exp (..., T). Returns dq, dk, dv."""
    ### BEGIN SOLUTION
    seq, scale = q.shape[-2], 1 / math.sqrt(q.shape[-1])
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    delta = (grad * output).sum(dim=-1, keepdim=True)
    for i in range(0, seq, rows):
        row = slice(i, min(i + rows, seq))
        for j in range(0, row.stop, columns):
            column = slice(j, min(j + columns, seq))
            scores = q[..., row, :] @ k[..., column, :].transpose(-2, -1) * scale
            later = torch.arange(j, column.stop) > torch.arange(i, row.stop)[:, None]
            p = torch.exp(scores - log_sum_exp[..., row, None]).masked_fill(later, 0.0)
            dp = grad[..., row, :] @ v[..., column, :].transpose(-2, -1)
            ds = p * (dp - delta[..., row, :]) * scale
            dq[..., row, :] += ds @ k[..., column, :]
            dk[..., column, :] += ds.transpose(-2, -1) @ q[..., row, :]
            dv[..., column, :] += p.transpose(-2, -1) @ grad[..., row, :]
    return dq, dk, dv
    ### END SOLUTION


# %%
check.tiled_gradients(tiled_gradients)

# %%
tiled_gradients = yours("tiled_gradients")

q, k, v, grad = torch.randn(4, 1, 2, 50, 16)
mine = tiled_gradients(q, k, v, *tiled_attention(q, k, v, 16, 12), grad, 16, 12)
leaves = [x.clone().requires_grad_() for x in (q, k, v)]
by_autograd = torch.autograd.grad(attend(*leaves, is_causal=True), leaves, grad)
for name, one, other in zip(("dq", "dk", "dv"), mine, by_autograd, strict=True):
    print(f"{name}: yours = autograd {torch.allclose(one, other, atol=1e-5)}")

# %% [markdown]
# ## 8 · What to remember
#
# - A softmax can be computed in pieces: carry the maximum, the sum and the weighted sum, and rescale by exp(old m − new m).
# - So attention in tiles is exact without a T × T tensor. Its memory grows with T, its time still with T².
# - It does not multiply less. It moves less between slow and fast memory.
# - A causal mask hides whole tiles; skipping them is a gain of its own, up to one half.
# - The log-sum-exp is all that the backward pass needs to make the weights again: more computing for less memory.
# - SDPA is several programs: ask which ran.
#
# ### Three questions
#
# <details><summary>1. In training, the kept weights of all layers take 6 GiB. The sequence doubles, the batch is halved. And now?</summary>
#
# T² · 4, batch / 2: 12 GiB. With tiles, what is kept has T · batch numbers: as before.
#
# </details>
# <details><summary>2. Your maximum only sees the present piece, and all tests with random numbers pass. Which input shows it?</summary>
#
# Scores that fall by more than 88, such as 1000 and then 0: exp(1000 − 0) overflows. With smaller falls the state is in other units, and
# o / l is still right.
#
# </details>
# <details><summary>3. Why does decoding with a cache gain little from tiles over the queries?</summary>
#
# There is one query: S scores, not T · S. Keys and values are read once whatever one does.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention_backends.py`: `fused_attention`, which the model runs, and a table of which backend wins when.
#
# ### Papers
#
# - Milakov and Gimelshein 2018, *Online normalizer calculation for softmax*, [arXiv 1805.02867](https://arxiv.org/abs/1805.02867): m and l.
# - Rabe and Staats 2021, *Self-attention Does Not Need O(n²) Memory*, [arXiv 2112.05682](https://arxiv.org/abs/2112.05682).
# - Dao et al. 2022, *FlashAttention*, [arXiv 2205.14135](https://arxiv.org/abs/2205.14135): tiles chosen for the fast memory, and the backward pass.
# - Dao 2023, *FlashAttention-2*, [arXiv 2307.08691](https://arxiv.org/abs/2307.08691): the order of loops that you wrote, and one division at the end.
#
# **Next**: chapter 14 trains a model, with every piece that you have. Before that, find the bug: chapter 24,
# section 4.
