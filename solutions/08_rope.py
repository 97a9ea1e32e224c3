# %% [markdown]
# # 8 · RoPE
#
# **At the end** you have written the rotation that Llama, Qwen and Mistral use for positions, put it into a trained
# model, and measured how far it carries.
#
# **Time**: about 90 minutes. **You need**: chapter 3 (scores), chapter 7 (frequencies, `shift_matrix`), sine and cosine.
#
# Here is the place of the rotation: inside attention, on queries and keys, before they meet.

# %%
import math
from copy import deepcopy
from dataclasses import replace

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch08_rope.experiments import copy_losses, losses_by_position
from pocketgpt.course.ch08_rope.figures import angles_by_position, clocks, copies_by_distance
from pocketgpt.course.ch08_rope.figures import errors_by_position, layouts, loss_by_position
from pocketgpt.course.ch08_rope.figures import scores_by_distance
from pocketgpt.course.ch08_rope.rare import RARE
from pocketgpt.course.lab import before_and_after, check, model_map, pocket_model, pocket_tokenizer
from pocketgpt.course.lab import predict, recall, sliders, symptoms, transplant, yours
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare"), highlight="rope")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. Sinusoids with d_model 4 and the frequencies 1 and 0.01: what is the dot product of the rows of
# positions 5 and 7?</summary>
#
# Two apart, wherever they are: cos(2 · 1) + cos(2 · 0.01) = −0.416 + 1.000 = 0.584.
#
# </details>
# <details><summary>2. RMSNorm without a weight and with eps = 0: what does it make of (3, 4)?</summary>
#
# The mean square is 12.5 and its root 3.54, so (0.85, 1.13). It has changed the length, and not the direction. A rotation
# does the opposite.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(8)

# %% [markdown]
# ## 1 · The smallest example
#
# Chapter 7 ended with a matrix: $M_n$ moves sinusoids by n steps, and it is a rotation. A model that **adds** positions to
# its tokens gains little from that, because scores are made of the sum. So RoPE adds nothing. It takes the rotation
# itself and applies it to each query and each key, at its own position.
#
# A head has four coordinates here, two pairs: (x₀, x₂) turns by 1 radian per token, (x₁, x₃) by 0.01. Let query and key
# both be (1, 1, 1, 1). Turning (1, 1) by an angle a gives (cos a − sin a, cos a + sin a):
#
# | | fast pair | slow pair |
# |---|---|---|
# | query at position 2 | (−1.325, 0.493) | (0.980, 1.020) |
# | key at position 1 | (−0.301, 1.382) | (0.990, 1.010) |
# | their dot product | 1.081 = 2 cos 1 | 2.000 = 2 cos 0.01 |
#
# The score is 3.08. Without positions it is 4. And at other places?


# %%
def turned(pair: torch.Tensor, angle: float) -> torch.Tensor:
    first, second = pair
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.stack((first * cos - second * sin, second * cos + first * sin))


pair = torch.ones(2)
for m, n in ((2, 1), (102, 101), (5, 5), (7, 5), (8, 5), (11, 5)):
    products = [turned(pair, m * f) @ turned(pair, n * f) for f in (1.0, 0.01)]
    print(f"query at {m:3}, key at {n:3}: {sum(products):.2f}")

# %% [markdown]
# (2, 1) and (102, 101) have the same score. And six tokens apart, the score is nearly back at 4, because the fast pair has made almost a full turn. Only the slow pair knows that six is far.

# %% [markdown]
# ## 2 · The equation
#
# At position m, pair i of a head turns by the angle $m\,\omega_i$. With $h$ = d_head/2 pairs:
#
# $$x'_i = x_i \cos m\omega_i - x_{i+h} \sin m\omega_i, \qquad
# x'_{i+h} = x_{i+h} \cos m\omega_i + x_i \sin m\omega_i, \qquad
# \omega_i = \theta^{-2i/d_\text{head}}$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$ | a query or a key of one head; never a value | (d_head,) |
# | $m$ | its position | a whole number |
# | $i$ | the pair, 0 … h − 1 | a whole number |
# | $\omega_i$ | the frequency of pair i, radians per token | one number |
# | $\theta$ | the base, 10,000 in our model | one number |
#
# Write $R_m$ for all these turns together, a matrix. (Chapter 7 put the sine before the cosine in each
# pair, so its $M_m$ turns the other way.) **Why only the distance counts, in three lines:**
#
# 1. Turning back is transposing: $R_m^\top = R_{-m}$.
# 2. Turns add up: $R_a R_b = R_{a+b}$.
# 3. So $(R_m q) \cdot (R_n k) = q^\top R_m^\top R_n\,k = q^\top R_{n-m}\,k$.
#
# The positions are gone and their difference is left, for every q and k. There is nothing to learn, no length changes,
# and nobody multiplies by a matrix: four products per pair do it.
#
# **The numerical trap.** An angle is position times frequency, and it must be right to a fraction of a radian. bfloat16
# counts exactly only to 256, so its angles are wrong long before a text of 1,000 tokens ends. You measure it below.

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 8.1 · `rope_frequencies` · easy, 10 minutes
#
# 1. `d_head` is even, `theta` is a number such as 10,000.
# 2. Return a tensor of shape (d_head/2,): the frequency $\theta^{-2i/d_\text{head}}$ of each pair i.
# 3. Radians per token, fastest first, in float32.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The first is 1, whatever theta is. From pair to pair the ratio is the same. The two coordinates of a pair share one
# frequency, so it occurs once.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `torch.arange(0, d_head, 2)` has d_head/2 entries and is 2i already. Divided by d_head, the last exponent is
# (d_head − 2)/d_head, a little less than 1.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# exponents = (0, 2, 4, … below d_head) / d_head; return theta to the power of minus the exponents.
#
# </details>


# %%
def rope_frequencies(d_head: int, theta: float) -> torch.Tensor:
    """Returns (d_head/2,): radians per token of each pair, fastest first."""
    ### BEGIN SOLUTION
    exponents = torch.arange(0, d_head, 2) / d_head
    return theta**-exponents
    ### END SOLUTION


# %%
check.rope_frequencies(rope_frequencies)

# %% [markdown]
# A head of the pocket model has 32 coordinates, 16 pairs. Here is each as the hand of a clock, at five positions. (Hands turn clockwise
# from twelve, the equation counterclockwise; the angles are the same.)

# %%
rope_frequencies = yours("rope_frequencies")
frequencies = rope_frequencies(32, 10_000.0)
clocks(frequencies, [[0], [1], [8], [64], [255]], "Fast hands race, slow hands hardly move")

# %% [markdown]
# Move the position. Which hand is the last one that completes a turn before 1,023, and at which position?
#
# <details><summary>Answer</summary>
#
# That of pair 8: its frequency is 0.01, and 2π/0.01 = 628. Pair 9 needs 1,117.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
sliders(
    lambda position: clocks(frequencies, [[position]], f"Sixteen hands at position {position}"),
    position=(0, 1023),
)

# %%
angles_by_position(frequencies, trained=256, longest=4096)

# %% [markdown]
# Left: the pocket model was trained on texts of 256 tokens. Seven pairs go round at least once in that time, so the model
# has met all of their angles. The other nine have not come round: between a query at 300 and a key at 0 their hands
# open an angle **that was never met** in training.
#
# And the reason for all this: take a query and a key three tokens apart, and slide both along the text. Gray is
# the angle between their hands.

# %%
rows = [[3, 0], [103, 100], [60_003, 60_000]]
title = (
    "Three tokens apart: the hands (blue, orange) differ by row, the angle between them does not"
)
clocks(frequencies, rows, title)


# %%
# NBVAL_IGNORE_OUTPUT
def show(query: int, distance: int) -> None:
    title = f"{distance} tokens apart: move the query, and the gray angles stay"
    clocks(frequencies, [[query, query - distance]], title)


sliders(show, query=(64, 1023), distance=(0, 64))

# %% [markdown]
# ### Exercise 8.2 · `apply_rope` · medium, 20 minutes
#
# 1. `x` has shape (…, T, d_head): queries or keys. `cos` and `sin` have shape (T, d_head/2), or more axes in front that
#    broadcast: the model passes (1, 1, T, d_head/2).
# 2. Row t of them has the cosines and sines of all angles at the position of token t. They are computed for you.
# 3. The pairs are **half-split**: $x_i$ and $x_{i+h}$, with h = d_head/2.
# 4. Return a new tensor of the shape and dtype of x, every pair turned as in the equation. Gradients flow through it to x.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The first halves of all pairs are the first half of the head. Cut x into two, and treat all pairs at once.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `x.chunk(2, dim=-1)` gives two tensors (…, T, d_head/2), which broadcast with cos and sin. Compute both new halves from the
# old ones, then `torch.cat` along the last axis.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# first, second = the halves of x; return (first · cos − second · sin) followed by (second · cos + first · sin).
#
# </details>


# %%
def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x: (..., T, d_head), cos, sin: (..., T, d_head/2). Returns x with every pair turned."""
    ### BEGIN SOLUTION
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    ### END SOLUTION


# %%
check.apply_rope(apply_rope)

# %%
apply_rope = yours("apply_rope")

# %% [markdown]
# ### Exercise 8.3 · `score_at` · easy, 10 minutes
#
# 1. `q` and `k` have shape (d_head,). q is at position `m`, k at position `n`, two whole numbers.
# 2. `frequencies` has shape (d_head/2,).
# 3. Return the dot product of the turned q and the turned k, a tensor without axes, with the dtype of q. No scale.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two calls of `apply_rope`, one with the angles of m, one with those of n. Both turn forward. (Or one call, with m − n.)
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `m * frequencies` are the angles of q, (d_head/2,). Your `apply_rope` wants (T, d_head): add an axis with `q[None]`, and to
# cosines and sines too.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# turned q = apply_rope(q, cos(m · frequencies), sin(m · frequencies)); the same for k with n; return the sum of their products.
#
# </details>


# %%
def score_at(
    q: torch.Tensor, k: torch.Tensor, m: int, n: int, frequencies: torch.Tensor
) -> torch.Tensor:
    """q, k: (d_head,), at positions m and n. Returns a tensor without axes."""
    ### BEGIN SOLUTION
    angles_q, angles_k = m * frequencies, n * frequencies
    turned_q = apply_rope(q[None], angles_q.cos()[None], angles_q.sin()[None])
    turned_k = apply_rope(k[None], angles_k.cos()[None], angles_k.sin()[None])
    return (turned_q * turned_k).sum()
    ### END SOLUTION


# %%
check.score_at(score_at)

# %% [markdown]
# One fixed query and key, 0 to 150 tokens apart, with the query at five places. And, on the right, 100 random vectors that
# are query and key at once: the mean of all, and twelve of them.

# %%
score_at = yours("score_at")

torch.manual_seed(0)
q, k = torch.randn(2, 32)
starts = (150, 300, 1_000, 5_000, 50_000)
scores = [[score_at(q, k, m, m - d, frequencies) for d in range(150)] for m in starts]
curves = dict(zip(starts, torch.tensor(scores), strict=True))
samples = [[score_at(x, x, d, 0, frequencies) for d in range(150)] for x in torch.randn(100, 32)]
scores_by_distance(curves, torch.tensor(samples))

# %% [markdown]
# The five curves lie on each other: relative, seen. The right panel corrects a sentence that is often read, *scores decay with
# distance*. The **mean** over many vectors that equal their partner falls over the first 50 tokens, from 32 to 12, and then swings
# too: 7 at distance 85, 19 at 100. For a query and key that do not resemble each other, there is nothing to fall from.
#
# How exact is it? Here is the largest error of 100 scores, three tokens apart, with angles in float32 and in bfloat16. Right is
# what float64 says.


# %%
def with_angles_in(dtype: torch.dtype, x: torch.Tensor, position: int) -> torch.Tensor:
    angles = torch.tensor(float(position)).to(dtype) * frequencies.to(dtype)
    return apply_rope(x.double(), angles.double().cos(), angles.double().sin())


pairs = torch.randn(2, 100, 32, generator=torch.Generator().manual_seed(0))
places = [10**i for i in range(1, 8)]
right = (with_angles_in(torch.float64, pairs[0], 3) * pairs[1]).sum(-1)
errors = {}
for name, dtype in {"float32": torch.float32, "bfloat16": torch.bfloat16}.items():
    found = []
    for p in places:
        two = [with_angles_in(dtype, x, p + 3 * (i == 0)) for i, x in enumerate(pairs)]
        found.append(((two[0] * two[1]).sum(-1) - right).abs().max())
    errors[name] = torch.tensor(found)
errors_by_position(places, errors)

# %% [markdown]
# These scores have sizes up to 18. float32 is off by 10⁻⁵ at position 100 and still by less than 0.1 at a million. bfloat16 is off
# by 0.4 at position 100, and at 1,000 by as much as the scores themselves. Inside the pocket model such angles cost 0.002 nats if
# the text begins at position 0, and 0.68 if it begins at 1,000. So models that run in bfloat16 usually keep positions, frequencies
# and angles in float32. Rounding cosines and sines later is milder: that error does not grow with the position.

# %% [markdown]
# ### Exercise 8.4 · `to_half_split` · easy, 10 minutes
#
# Which coordinates form a pair is a convention, and there are two:

# %%
layouts(8)

# %% [markdown]
# The paper, Meta's own Llama files and DeepSeek use neighbors (**interleaved**). Llama's files on Hugging Face, Qwen, Mistral and
# our model use halves. Neither is better: row j of `q_proj` makes coordinate j, so reordering the **rows** turns one layout into
# the other. Weights of one with code of the other load without any error.
#
# 1. `weight` has shape (n_heads · d_head, d_model): a q_proj or k_proj made for interleaved pairs.
# 2. Return it with the rows of each head reordered, so that code for halves computes the same scores: rows 0, 2, 4, … of the
#    head first, then rows 1, 3, 5, ….
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Rows of different heads must not mix. Give the heads an axis of their own first.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `weight.unflatten(0, (n_heads, -1, 2))` has shape (n_heads, d_head/2, 2, d_model): pair, and which of the two. In the result the two
# come before the pairs.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# rows as (heads, pairs, 2, d_model); swap pairs and 2; flatten the first three axes.
#
# </details>


# %%
def to_half_split(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """weight: (n_heads · d_head, d_model). Returns it with the rows of each head reordered."""
    ### BEGIN SOLUTION
    pairs = weight.unflatten(0, (n_heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
    ### END SOLUTION


# %%
check.to_half_split(to_half_split)

# %% [markdown]
# Now play the published checkpoint. The next cell writes the pocket model's weights in the interleaved layout, loads them as
# they are, and then through your function. Six heads make queries, and only two make keys (chapter 9). **Predict** the loss
# of the weights as they are. (The model's own is 4.10; one that knows nothing has 8.32.)

# %%
to_half_split = yours("to_half_split")
guess = predict(...)  # the loss of the weights as they are

tokens = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text()))
windows, model = tokens[: len(tokens) // 256 * 256].view(-1, 256), pocket_model()


@torch.no_grad()
def loss_of(model) -> float:
    logits = model(windows)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()


# %%
def loaded(convert) -> torch.nn.Module:
    """The pocket model, published with interleaved pairs and loaded through `convert`."""
    published = deepcopy(model)
    for mixer in published.mixers():
        for proj, heads in ((mixer.q_proj, 6), (mixer.k_proj, 2)):
            halves = proj.weight.data.unflatten(0, (heads, 2, -1))
            interleaved = halves.transpose(1, 2).flatten(0, 2)  # the rows of a pair are neighbors
            proj.weight.data = convert(interleaved, heads)
    return published


as_it_is, converted = loaded(lambda weight, heads: weight), loaded(to_half_split)
print(f"through to_half_split: {loss_of(converted):.2f}")
guess.compare(round(loss_of(as_it_is), 2))

# %% [markdown]
# No error and no NaN, and the loss is far below guessing: 5.22, about what the model has without any rotation (5.24, section 6). It
# happened to TinyLlama and to Llama 2 70B in llama.cpp (links at the end). Permuting twice is the same trap, and permuting k_proj
# with the number of **query** heads.

# %% [markdown]
# ### Exercise 8.5 · `stretch` · medium, 20 minutes
#
# To read a text `factor` times as long with angles that the model knows, make the pairs slower. Two ways:
#
# 1. `frequencies` has shape (d_head/2,), d_head ≥ 4, fastest first and equal to 1 for pair 0. Return the new ones.
# 2. `kind == "linear"` (position interpolation): all are divided by `factor`. With factor 4, position 1,000
#    gets the angles of 250.
# 3. `kind == "ntk"` (NTK-aware): the frequencies of a larger theta, theta · factor^(d_head/(d_head − 2)). The fastest pair is
#    unchanged, the slowest divided by exactly `factor`, the ratios between are even.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# You need no theta for "ntk". By which power of `factor` is pair 0 divided? And the last one?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Put theta · factor^(d/(d − 2)) into $\theta^{-2i/d}$: pair i is divided by factor^(2i/(d − 2)), and with d = 2h the exponent is
# i/(h − 1). That is a tensor (h,) from 0 to 1.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if kind is linear: return frequencies / factor; ramp = (0, 1, … h − 1) / (h − 1); return frequencies · factor^(−ramp).
#
# </details>


# %%
def stretch(frequencies: torch.Tensor, factor: float, kind: str) -> torch.Tensor:
    """frequencies: (d_head/2,). kind: "linear" or "ntk". Returns (d_head/2,)."""
    ### BEGIN SOLUTION
    if kind == "linear":
        return frequencies / factor
    ramp = torch.arange(len(frequencies)) / (len(frequencies) - 1)
    return frequencies * factor**-ramp
    ### END SOLUTION


# %%
check.stretch(stretch)

# %%
stretch = yours("stretch")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Your rotation; chapter 7's form, one matrix for each token, for halves made of four diagonal h × h blocks; and complex numbers, for
# which a turn is one multiplication. (Our tests also hold the five functions equal to those of `transformers`.)

# %%
x = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0))
angles = torch.arange(5, 12)[:, None] * rope_frequencies(8, 10_000.0)
cos, sin = angles.cos(), angles.sin()
mine = apply_rope(x, cos, sin)

as_complex = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(7, 4), angles)
halves = torch.cat((as_complex.real, as_complex.imag), dim=-1)
print("yours = complex:", torch.allclose(mine, halves, atol=1e-5))

by_matrix = torch.zeros_like(x)
for t in range(7):
    c, s = torch.diag(cos[t]), torch.diag(sin[t])
    by_matrix[..., t, :] = x[..., t, :] @ torch.cat((torch.cat((c, -s), 1), torch.cat((s, c), 1))).T
print("yours = matrices:", torch.allclose(mine, by_matrix, atol=1e-5))
print("lengths unchanged:", torch.allclose(mine.norm(dim=-1), x.norm(dim=-1), atol=1e-5))

# %% [markdown]
# ## 5 · Predict, then run: how far does it carry?
#
# *RoPE extrapolates*, one reads, because its scores are relative. The pocket model was trained on 256 tokens. Let it read 1,024
# from plays it has never seen, 48 excerpts, without further training, in six ways:
#
# - **plain**: the trained frequencies.
# - **linear** and **NTK**: yours, with factor 4.
# - **dynamic NTK**: NTK with the factor that the present length needs, so that nothing changes up to 256. Each 64 tokens
#   are measured as the end of a text.
# - **YaRN**: fast pairs unchanged, slow ones divided by 4, a ramp between, and scores a little sharper.
# - **window**: plain angles, but each token sees only itself and the 255 before it.
#
# **Predict** the order from the smallest mean loss to the largest.

# %%
guess = predict(...)  # such as "yarn, ntk, dynamic, linear, window, plain"

measured = losses_by_position()  # from experiments.py, beside the chapter's figures
ways = ["plain", "linear 4", "ntk 4", "dynamic", "yarn 4", "window 256"]
print("mean loss of tokens   1–256  257–512  513–1024      all")
for way in ways:
    by_64 = torch.tensor(measured[way])
    parts = by_64[:4].mean(), by_64[4:8].mean(), by_64[8:].mean(), by_64.mean()
    print(f"{way:18}" + "".join(f"{part:9.2f}" for part in parts))
best_first = sorted(ways, key=lambda way: sum(measured[way]))
guess.compare(", ".join(way.split()[0] for way in best_first))

# %%
title = "Past 256 tokens plain RoPE fails; the best way to read on is to forget"
loss_by_position({way: measured[way] for way in ways}, trained=256, size=64, title=title)

# %% [markdown]
# Two surprises. **Linear is worst of all, from the first token on.** The model knows every angle and has met no step so small:
# neighbors are a quarter of a token apart. Its authors train further (*fine-tune*) for up to 1,000 steps; without that it is worse than nothing here.
# And **the best way to read on is to forget.** With a window no distance is new, and the loss stays where it was.
#
# Between the two: plain angles hold to about 320 and have failed by 450. NTK with factor 4 gives out at about 700, not at 1,024,
# because its middle pairs are stretched by less than 4; and it is not free before 256 either. YaRN is nearly level over the whole
# text.
#
# ### What "extrapolates" means
#
# Three claims hide in the word. (1) It computes: plain RoPE does, for any length. (2) The loss stays level: YaRN and the window do. (3)
# The model **uses** what is far away, and of that a mean loss says nothing: the next word of a play seldom depends on one 500 tokens ago.
#
# So here is a text where it does depend: 48 tokens, then something else, then the same 48 tokens again. The pocket model has heads that
# copy (chapter 2), and we measure the loss on the second half of the copy, over 48 texts. Without a first copy it would be about 4.1.
# **Predict** at which of five distances YaRN copies best.

# %%
guess = predict(...)  # 64, 128, 192, 320 or 640

found, distances = copy_losses(), (64, 128, 192, 320, 640)
for way in ways:
    print(f"{way:10}", {distance: found[way][distance] for distance in distances})
guess.compare(min(distances, key=lambda distance: found["yarn 4"][distance]))

# %%
title = "YaRN finds copies up to about 800 tokens away, plain angles hardly at 192"
copies_by_distance({way: found[way] for way in ways}, trained=256, no_copy=4.1, title=title)

# %% [markdown]
# YaRN copies over 320 tokens (1.54) as well as plain angles do over 128 (1.58), and pays with its near copies: 2.33 at 64, where
# plain has 1.38. The window, best a moment ago, is blind here: the first copy is out of its sight. And look at plain angles
# **before** 256: at 192 they hardly copy any more (3.29). The weights can: with the same ones, NTK (1.75) and YaRN (1.84) copy over
# 192. A text of 256 tokens has 192 pairs of tokens that are 64 apart and 64 that are 192 apart; whether that is the reason was not
# tested.
#
# So ask of any "extrapolates": over which distance, on which task, and at what price for short texts? This was one model of 2.4 million
# parameters. The same order on large ones is not implied; Peng et al. take Llama 2 from 4,096 to 128,000 tokens with YaRN **and** some
# hundred steps of fine-tuning.
#
# With the slider: how far does each factor carry, and what does it cost on the first 256?


# %%
# NBVAL_IGNORE_OUTPUT
def show_factor(factor: str) -> None:
    scaled = {way: measured[f"{way} {factor}"] for way in ("linear", "ntk", "yarn")}
    title = f"Factor {factor}: how far it carries, and what it costs on the first 256 tokens"
    loss_by_position({"plain": measured["plain"], **scaled}, trained=256, size=64, title=title)


sliders(show_factor, factor=["2", "4", "8"])

# %% [markdown]
# And live, with your functions, on one excerpt of *Macbeth*:


# %%
def reads_on(kind: str) -> torch.nn.Module:
    """The pocket model for 1,024 tokens, with your frequencies, stretched by 4 (or "plain")."""

    def of_this_kind(d_head: int, theta: float) -> torch.Tensor:
        own = rope_frequencies(d_head, theta)
        return own if kind == "plain" else stretch(own, 4.0, kind)

    longer = transplant(pocket_model(), apply_rope=apply_rope, rope_frequencies=of_this_kind)
    longer.config = replace(longer.config, max_seq_len=1024)
    return longer


for kind in ("plain", "linear", "ntk"):
    with torch.no_grad():
        logits = reads_on(kind)(tokens[None, :1024])[0]
    by_token = F.cross_entropy(logits, tokens[1:1025], reduction="none")
    print(f"{kind:7}", [f"{part.mean():.1f}" for part in by_token.split(256)])

# %% [markdown]
# Past the first quarter, NTK is below plain and linear above it.
#
# ## 6 · Yours in the real model

# %%
before_and_after(apply_rope=apply_rope)

# %% [markdown]
# ### Half a rotation
#
# Now turn the queries and leave the keys as they are. Without any rotation the model has a loss of 5.24: it knows
# no order, except what the mask gives away. **Predict** the loss with half a rotation: below 5.24, the same, or above?

# %%
guess = predict(...)  # "below", "the same" or "above"


def only_queries(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    is_query = x.shape[1] == 6  # six heads make queries, two make keys
    return apply_rope(x, cos, sin) if is_query else x


before_and_after(apply_rope=only_queries, guess=guess)

# %% [markdown]
# Above, by far: 6.74. Every score now contains the query's absolute position, as if all keys stood at 0: token 200 looks at its neighbor as
# at something 200 tokens away. A wrong order is worse than none.
#
# ### Moved, and frozen
#
# The same text, but its first token is at position 1,000, or at 10 million. And: some of the pairs stop turning. **Predict** in
# which of the five cases below the loss rises by more than 0.1.

# %%
guess = predict(...)  # such as "starts at 10,000,000, six slowest stopped"


def starting_at(start: int):
    own = (start + torch.arange(256))[:, None] * frequencies
    return lambda x, cos, sin: apply_rope(x, own.cos(), own.sin())


def stopped(pairs: slice):
    still = frequencies.clone()
    still[pairs] = 0
    return lambda d_head, theta: still


outcomes = {
    "starts at 1,000": loss_of(transplant(model, apply_rope=starting_at(1_000))),
    "starts at 10,000,000": loss_of(transplant(model, apply_rope=starting_at(10_000_000))),
    "four slowest stopped": loss_of(transplant(model, rope_frequencies=stopped(slice(12, 16)))),
    "six slowest stopped": loss_of(transplant(model, rope_frequencies=stopped(slice(10, 16)))),
    "four fastest stopped": loss_of(transplant(model, rope_frequencies=stopped(slice(0, 4)))),
}
for name, loss in outcomes.items():
    print(f"{name:21} {loss:.2f}")
guess.compare(", ".join(name for name, loss in outcomes.items() if loss > 4.2))

# %% [markdown]
# Where the text begins does not matter. (At 10 million float32 is off by more than 1 in some scores, see 8.3; divided by √32, this
# does not show in the loss.) The six slowest pairs turn by at most 0.8 radians in 256 tokens, and the model does not miss them. The
# fast pairs are the ones that it reads with. That is a small model with short texts. Llama 3, for longer ones, raised theta to
# 500,000.
#
# ### What the model notices, and what not
#
# The known mistakes of `apply_rope` and `rope_frequencies`, put into the model one by one.

# %%
symptoms("apply_rope", without=RARE)

# %%
symptoms("rope_frequencies", without=RARE)

# %% [markdown]
# **It notices** the other layout (5.36), a missing minus (5.33), a doubled exponent (5.19). (In 8.4 the weights have the other
# layout, here the code: other coordinates meet, hence 5.22 there.) cos and sin exchanged are a turn
# backward and the same quarter turn for query and key (5.61); the first token's angles are zero, which turns nothing (5.24). The three errors gave 32 frequencies, not 16.
#
# **It does not notice** a reordering that happens to queries and keys alike, halves exchanged or pairs returned side by side, because a dot
# product does not care about the order of its terms; frequencies rounded to bfloat16, or ending at 1/theta, within 256 tokens;
# a theta written into the code that happens to be its own. Nor does one pass show what a cache does (chapter 12). The checks find all the others.
#
# ## 7 · What to remember
#
# - RoPE turns each pair of a query and a key by position times frequency. Values stay as they are, and nothing is learned.
# - The score then depends on the distance only: $R_m^\top R_n = R_{n-m}$. Compute the angles in float32.
# - Fast pairs tell neighbors apart, slow pairs regions. Scores swing with the distance, and so does their mean past 50 tokens.
# - Half-split or interleaved is a convention, a permutation of the rows of q_proj and k_proj. Mixing them raises no error.
# - Relative is not far: the model does not know angles between query and key that were never trained. Stretching avoids many, and
#   costs something on short texts too.
#
# ### Three questions
#
# <details><summary>1. d_head = 128, theta = 10,000, trained on 4,096 tokens. How many of the 64 pairs make no full turn?</summary>
#
# Those with 4,096 · ω < 2π, that is ω < 0.001534. ω = 10,000^(−i/64), so i > 64 · ln(652)/ln(10,000) = 45.03: pairs 46 to 63, which
# are 18. YaRN divides exactly these by the whole factor.
#
# </details>
# <details><summary>2. Why are keys usually turned before they are put into a cache (chapter 12), and why is dynamic NTK then wrong?</summary>
#
# The position of a key never changes, so it is turned once. A cached key that is turned again at the next step has the wrong
# angle. Dynamic NTK changes all frequencies as the text grows: the keys in the cache have old angles, new queries the new
# ones, and their difference is no longer a distance.
#
# </details>
# <details><summary>3. Somebody divides all positions by 2 in place of the frequencies. Which kind of stretching is it, and what would the
# loss of a text of 256 tokens be?</summary>
#
# Linear with factor 2: only the product counts. Neighbors are then half a token apart, which was never trained, so short texts
# suffer too: over 256 tokens the stored losses are 4.53 on average, against 3.68.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/rope.py`: `apply_rope`, `frequencies`, both layouts. `pocketgpt/layers/rope_scaling.py`: linear, NTK, dynamic, YaRN
# and Llama 3's, chosen in a config by `rope=RopeConfig(scaling="yarn", factor=4.0, original_max_seq_len=256)`.
#
# ### Papers
#
# - Su et al. 2021, *RoFormer*, [arXiv 2104.09864](https://arxiv.org/abs/2104.09864): eq. 34 is `apply_rope`, with interleaved pairs.
# - Chen et al. 2023, *Extending Context Window of Large Language Models via Positional Interpolation*,
#   [arXiv 2306.15595](https://arxiv.org/abs/2306.15595): "linear", with 1,000 steps of fine-tuning.
# - Peng et al. 2023, *YaRN*, [arXiv 2309.00071](https://arxiv.org/abs/2309.00071).
# - Barbero et al. 2024, *Round and Round We Go! What Makes Rotary Positional Encodings Useful?*,
#   [arXiv 2410.06205](https://arxiv.org/abs/2410.06205): which pairs a large model uses.
# - Press et al. 2021, *Train Short, Test Long*, [arXiv 2108.12409](https://arxiv.org/abs/2108.12409): ALiBi.
# - Layouts: [transformers #25199](https://github.com/huggingface/transformers/issues/25199),
#   [TinyLlama #24](https://github.com/jzhang38/TinyLlama/issues/24),
#   [llama.cpp #2376](https://github.com/ggml-org/llama.cpp/issues/2376). Dynamic NTK with a cache:
#   [transformers #25104](https://github.com/huggingface/transformers/issues/25104).
#
# **Next**: chapter 9 lets several query heads share keys and values, as in the model that you used here.
