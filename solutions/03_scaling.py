# %% [markdown]
# # 3 · Why the scores are divided by √d_head
#
# **At the end** you know what one small square root does for a transformer: you have measured the scores, the weights
# and the gradients without it, trained small models with and without it, and taken it away from a trained one.
#
# **Time**: about 75 minutes. **You need**: chapter 2, and three ideas: variance, a derivative, and that gradients are what
# a model learns from.
#
# Here is the place of the scale: one line inside attention, between the scores and the softmax.

# %%
import math
from functools import partial

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch03_scaling.figures import against_width, entropy_by_layer, jacobians
from pocketgpt.course.ch03_scaling.figures import learning_curves, weights_by_width
from pocketgpt.course.lab import attention_weights, before_and_after, check, model_map, pocket_model
from pocketgpt.course.lab import pocket_tokenizer, predict, sliders, transplant, yours
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare"), highlight="scaling")

# %% [markdown]
# In chapter 2 you divided every score by √d_head because a check wanted it. A constant factor looks like a detail that
# the model could learn by itself: the queries come from a learned matrix, whose numbers could as well be smaller. This
# chapter shows what the factor is for, and also when it matters less than people say.

# %% [markdown]
# ## 1 · The smallest example: coin flips
#
# Let a query and a key consist of +1 and −1, each decided by a coin. Their dot product is a sum of d_head products, and each
# product is +1 or −1, again like a coin. With d_head = 4 there are 16 equally likely results of four coins:
#
# | score | −4 | −2 | 0 | 2 | 4 |
# |---|---|---|---|---|---|
# | in how many of 16 | 1 | 4 | 6 | 4 | 1 |
# | its square | 16 | 4 | 0 | 4 | 16 |
#
# The mean is 0, and the variance, which is then the mean square, is (1·16 + 4·4 + 6·0 + 4·4 + 1·16) / 16 = 64 / 16 = **4**.
# That it equals d_head is no accident. The next cell does the same for every pair of ±1 vectors of several widths.

# %%
for d in (1, 2, 4, 8):
    vectors = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * d).view(-1, d)  # all 2^d
    scores = vectors @ vectors.T
    print(f"d_head {d}: largest score {scores.max():.0f}, variance {scores.square().mean():.0f}")

# %% [markdown]
# The variance is d_head, so a typical score has the size √d_head. Now let the softmax see such scores: two keys, one at
# +√d_head and one at −√d_head. For each width, how is the attention shared, and what becomes of it if the scores are
# divided by √d_head first?

# %%
for d in (1, 4, 16, 64):
    scores = torch.tensor([1.0, -1.0]) * math.sqrt(d)
    bare, scaled = scores.softmax(0), (scores / math.sqrt(d)).softmax(0)
    print(f"d_head {d:2}: second key gets {bare[1]:.7f}, scaled {scaled[1]:.2f}")

# %% [markdown]
# Nothing about the tokens changed: one key fits as well as a random key typically can, the other as badly, and only the
# vectors got wider. At d_head = 64 the softmax is certain, for no reason, before the model has learned anything.
# Divided by √d_head, the same two keys share 0.88 to 0.12 at every width.

# %% [markdown]
# ## 2 · The equation
#
# $$p = \text{softmax}\!\left(\frac{q K^\top}{\sqrt{d_\text{head}}}\right), \qquad
# s_j = \sum_{i=1}^{d_\text{head}} q_i\,k_{ji}$$
#
# | symbol | what | shape |
# |---|---|---|
# | $q$ | one query | (d_head,) |
# | $K$, its rows $k_j$ | the keys | (S, d_head) |
# | $s$ | the bare scores $qK^\top$ | (S,) |
# | $p$ | the weights, which sum to 1 | (S,) |
# | $1/\sqrt{d_\text{head}}$ | the scale | one number |
#
# **Why the square root.** Suppose the numbers in q and k are independent, with mean 0 and variance 1. Then, in three lines:
#
# 1. One product $q_i k_i$ has mean 0 · 0 = 0, and variance $E[q_i^2 k_i^2] = E[q_i^2]\,E[k_i^2]$ = 1 · 1 = 1.
# 2. The score is a sum of d_head independent products. Variances of independent terms add up: the variance is d_head.
# 3. Dividing a number by c divides its variance by c². To get back to variance 1, divide by $\sqrt{d_\text{head}}$.
#
# **Why it matters.** A model learns through derivatives. Raise score j by a little: how much does weight i move? The
# matrix of all these derivatives, with a row for each weight and a column for each score, is the **Jacobian** of the
# softmax:
#
# $$\frac{\partial p_i}{\partial s_j} = p_i\,(\delta_{ij} - p_j), \qquad J = \text{diag}(p) - p\,p^\top \quad\text{of shape (S, S)}$$
#
# with δᵢⱼ = 1 where i = j and 0 elsewhere. Every entry is a product of two numbers, and when one weight is 1 and the others
# are 0, **each of these products is 0**. A softmax that is certain passes no gradient, so the model cannot learn that it
# is wrong. This is called saturation.
#
# <details><summary>Where the formula comes from</summary>
#
# Take logarithms: $\ln p_i = s_i - \ln \sum_k e^{s_k}$. The derivative of the left side by $s_j$ is
# $\frac{1}{p_i} \frac{\partial p_i}{\partial s_j}$. That of the right side is
# $\delta_{ij} - e^{s_j} / \sum_k e^{s_k} = \delta_{ij} - p_j$. Multiply both by $p_i$.
#
# </details>

# %% [markdown]
# **The numerical trap.** In half precision the scale must also be applied at the right *moment*. float16 ends at 65,504. Here is
# one query that meets a key like itself, 128 numbers of size 30:

# %%
q = torch.full((1, 128), 30.0, dtype=torch.float16)
scale = 128**-0.5
print("multiply, then scale:", ((q @ q.T) * scale).item())
print("scale, then multiply:", round(((q * scale) @ q.T).item(), -3))

# %% [markdown]
# One infinity in a row makes the softmax compute ∞ − ∞ = NaN. This is not an invented case: in 2024 a published 7B model,
# run in float16 with plain attention, filled its answers with exclamation marks, because its products overflowed before
# they were scaled. (PyTorch's operator is safe: its plain form scales q and k before they meet, its fused operators add up in
# float32.)
#
# Half precision saturates sooner, too. bfloat16 keeps two to three digits, and a weight of 0.9997 is rounded to 1:

# %%
for dtype in (torch.float32, torch.bfloat16):
    p = torch.tensor([8.0, 0.0], dtype=dtype).softmax(0)[0]
    print(f"{dtype}: p = {p.item():.4f}, derivative p(1 − p) = {(p * (1 - p)).item():.4f}")

# %% [markdown]
# ## 3 · Your turn
#
# Three instruments to measure with, and then the attention function in its final form. As in chapter 2, `yours(...)` puts
# a finished version in place of a function that does not pass its check yet.
#
# ### Exercise 3.1 · `score_variance` · easy, 10 minutes
#
# 1. `q` has shape (T, d_head), `k` has shape (S, d_head).
# 2. Take the dot product of **every** query with **every** key, not scaled by anything: T · S scores.
# 3. Return their variance, a tensor without axes: the mean of (score − mean of all scores)².
# 4. Divide by the number of scores, T · S, not by one less.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# One matrix product gives all scores. Then treat them as a heap of T · S numbers: which query made which does not matter.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (T, d_head) @ (d_head, S) → (T, S) → one number. PyTorch's `var` divides by one less than the count, unless you give it
# `correction=0`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# scores = q times (k transposed); return the mean of (scores minus the mean of scores) squared.
#
# </details>


# %%
def score_variance(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """q: (T, d_head), k: (S, d_head). Returns a tensor without axes."""
    ### BEGIN SOLUTION
    scores = q @ k.transpose(0, 1)
    return (scores - scores.mean()).square().mean()
    ### END SOLUTION


# %%
check.score_variance(score_variance)

# %% [markdown]
# Now measure with it, first for standard normal numbers. Then **predict** the standard
# deviation of the scores at d_head = 64 if the numbers in q and k are spread evenly between −1 and 1 (variance 1/3).

# %%
score_variance = yours("score_variance")
guess = predict(...)  # a number

torch.manual_seed(0)
for d in (1, 4, 16, 64, 256, 1024):
    variance = score_variance(torch.randn(1000, d), torch.randn(1000, d))
    print(f"d_head {d:4}: variance / d_head = {variance / d:.1f}, deviation {variance.sqrt():.0f}")

torch.manual_seed(0)
even_q, even_k = 2 * torch.rand(2, 1000, 64) - 1
guess.compare(f"{score_variance(even_q, even_k).sqrt():.1f}")

# %% [markdown]
# Line 1 of the derivation gives the variance 1/3 · 1/3 = 1/9 to each product, so the deviation is √(64/9) = 8/3. The
# derivation never asked for coins or for normal numbers, only for independence and mean 0.

# %% [markdown]
# ### Exercise 3.2 · `entropy` · medium, 15 minutes
#
# How sure is a row of weights? Its entropy says it in one number, $H = -\sum_j p_j \ln p_j$, in *nats*, as a loss is. Equal
# weights on S keys have the largest entropy, ln S; a weight of 1 on a single key has entropy 0. And exp(H) counts the
# keys the query looks at: ln 5 = 1.61 nats are like five equal ones.
#
# 1. `weights` has shape (…, S), and each row sums to 1.
# 2. Return the entropy of each row, with the natural logarithm: shape (…).
# 3. A weight of 0 adds **nothing** (p ln p goes to 0 with p), although ln 0 is −∞. Causal masks make many.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Write the formula down first, then look at what it does with the row (1, 0). The computer's 0 · (−∞) is NaN.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# weights (…, S) → terms (…, S) → sum over `dim=-1` → (…). Before the logarithm, replace the zeros by something whose
# logarithm is harmless: `torch.where(weights > 0, weights, 1.0)`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# safe = weights with every 0 replaced by 1; return minus the sum over the last axis of weights times log(safe).
#
# </details>


# %%
def entropy(weights: torch.Tensor) -> torch.Tensor:
    """weights: (..., S), rows sum to 1. Returns (...), in nats."""
    ### BEGIN SOLUTION
    safe = torch.where(weights > 0, weights, 1.0)
    return -(weights * safe.log()).sum(dim=-1)
    ### END SOLUTION


# %%
check.entropy(entropy)

# %% [markdown]
# Look at what it measures. Eight keys, one fixed pattern of scores; at width d_head the bare scores are this pattern times
# √d_head. Upper row: softmax of the bare scores. Lower row: divided by √d_head again.

# %%
entropy = yours("entropy")

pattern = torch.tensor([0.7, -0.8, 1.3, 0.0, -1.8, 0.3, -0.8, 1.1])  # mean 0, standard deviation 1
for d in (1, 16, 64, 256):
    h = entropy((math.sqrt(d) * pattern).softmax(0)).item()
    print(f"d_head {d:3}: entropy {h:.2f} nats, like {math.exp(h):.1f} of 8 keys")

weights_by_width(pattern, [1, 16, 64, 256])

# %% [markdown]
# Move the middle column with the slider. At which width does the second-best key, number 7, fall below a weight of 0.1?
#
# <details><summary>Answer</summary>
#
# Without the scale, at d_head = 121. With it, never: its weight stays 0.25.
#
# </details>


# %%
# NBVAL_IGNORE_OUTPUT
def show(d_head: int) -> None:
    weights_by_width(pattern, [1, d_head, 1024])


sliders(show, d_head=(1, 256))

# %% [markdown]
# ### Exercise 3.3 · `softmax_jacobian` · medium, 20 minutes
#
# 1. `weights` has shape (…, S): rows p that came out of a softmax.
# 2. Return the Jacobian of each row, J with $J_{ij} = \partial p_i / \partial s_j = p_i(\delta_{ij} - p_j)$: shape (…, S, S).
# 3. Row i belongs to weight i, column j to score j.
# 4. By hand: no `torch.autograd`. It is what we compare with.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# For one row it is the difference of two matrices: one has p on its diagonal and zeros elsewhere, the other is the outer
# product of p with itself.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `torch.diag_embed(weights)` makes (…, S, S) with each row on a diagonal. The outer product is
# `weights[..., :, None] * weights[..., None, :]`, of shape (…, S, 1) times (…, 1, S).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return (a matrix with weights on the diagonal) minus (weights as a column times weights as a row).
#
# </details>


# %%
def softmax_jacobian(weights: torch.Tensor) -> torch.Tensor:
    """weights: (..., S). Returns (..., S, S), the derivative of weight i by score j."""
    ### BEGIN SOLUTION
    return torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    ### END SOLUTION


# %%
check.softmax_jacobian(softmax_jacobian)

# %% [markdown]
# Here is yours, for five keys of the pattern. A square is the effect of one score on one weight: purple raises it, orange
# lowers it. Columns sum to 0 because the weights always sum to 1: what one gains, others lose. Rows sum to 0 because
# adding the same number to every score changes no weight.

# %%
softmax_jacobian = yours("softmax_jacobian")

rows = torch.stack([(math.sqrt(d) * pattern[:5]).softmax(0) for d in (1, 4, 16, 64)])
jacobians(softmax_jacobian(rows), [f"d_head = {d}" for d in (1, 4, 16, 64)])

# %% [markdown]
# ### The three together
#
# Now the whole chain, for random queries that each look at 64 random keys, at widths from 1 to 1024, with the scale and
# without. For the size of the gradient we take the diagonal of your Jacobian, added up: $\sum_i p_i(1 - p_i)$, how much all the
# weights answer to their own scores. It is close to 1 for a soft mean and 0 for a certain choice.

# %%
torch.manual_seed(0)
widths = [2**i for i in range(11)]
variances, (entropies, gradients) = torch.zeros(2, 11), torch.zeros(2, 2, 11, 512)
for i, d in enumerate(widths):
    q, k = torch.randn(2, 8, 64, d)  # 8 groups of 64 queries, which share 64 keys
    for j, scale in enumerate((1.0, 1 / math.sqrt(d))):
        weights = (q * scale @ k.mT).softmax(dim=-1)
        variances[j, i] = score_variance(q.flatten(0, 1) * scale, k.flatten(0, 1))
        entropies[j, i] = entropy(weights).flatten()
        gradients[j, i] = softmax_jacobian(weights).diagonal(dim1=-2, dim2=-1).sum(-1).flatten()

against_width(widths, variances, entropies, gradients, n_keys=64)

# %% [markdown]
# Left to right, one thing causes the next. The blue dots, with the scale, are flat: **the width of a head no longer decides
# how sure it is**. The orange dots fall. Look at the right picture closely, because here is a fine point that most texts
# leave out: the *mean* gradient falls only like 1/√d_head. It comes from the few queries for which two keys are nearly
# tied. The *typical* query, the dotted line, loses its gradient exponentially: at d_head = 1024 next to nothing is left.
#
# Each dashed curve is drawn where it is close. In the middle, ln S − d/2 fits at width 1 and is 0.2 too low at 2, since it
# belongs to very many keys; 1.6 c/√d (c = 2.34, see below) is a fifth too low at 64 and gets better. On the right, c/√d fits from 16 on. With
# the scale, the flat curves fit at every width.
#
# <details><summary>Where the dashed curves come from (for those who like integrals)</summary>
#
# Let S scores be normal with variance σ² (σ² is d_head without the scale, and 1 with it). For many keys
# and σ² well below 2 ln S (beyond that, a few terms decide the sum), Σ exp(s) ≈ S · E[exp(s)] = S exp(σ²/2), and the mean of s under the weights is E[s exp(s)] / E[exp(s)] = σ². The entropy is
# ln Σ exp(s) − mean of s = ln S + σ²/2 − σ² = **ln S − σ²/2**. In the same way Σ p² ≈ exp(σ²)/S, so Σ p(1 − p) ≈ 1 − exp(σ²)/S,
# which is **1 − e/S** for σ = 1.
#
# For large σ, only the best two keys count. The gap between them is near 0 with probability density c/σ, where c depends on S
# only (2.34 for 64 keys). With p = 1/(1 + exp(−gap)), the gradient is 2p(1 − p), whose integral over all gaps from 0 to ∞ is 1: on
# average **c/σ = c/√d_head**. The entropy of two weights has the integral π²/6 = 1.6. The typical gap grows like √d_head, and a
# gap g lets through only exp(−g).
#
# </details>

# %% [markdown]
# ### Exercise 3.4 · `scaled_attention` · medium, 20 minutes
#
# Attention with the scale as an argument, as PyTorch's operator has it, and safe in half precision.
#
# 1. `q` (B, heads, T, d_head), `k` and `v` (B, heads, S, d_head), where B counts the texts of a batch; `mask` boolean (T, S),
#    True where looking is allowed; every query has at least one allowed key.
# 2. The scores are multiplied by `scale`. If `scale` is None, it is 1/√d_head. 0.0 and negative scales are allowed.
# 3. Return two tensors in `q`'s dtype: the output (B, heads, T, d_head) and the weights (B, heads, T, S).
# 4. In float16, products of q and k may be larger than 65,504 although the scaled scores are not. The result must be
#    right, without NaN. PyTorch's own attention is not allowed.
# 5. Gradients must reach `q`, `k` and `v`.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Scaling the product is the same as scaling one of its factors. Which of the two keeps every number small?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# d_head is `q.shape[-1]`, not d_model = heads · d_head. (q · scale) (B, heads, T, d_head) @ (B, heads, d_head, S) → (B, heads, T, S).
# The mask broadcasts over B and heads. Scale first, hide second: −∞ · 0 is NaN.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if scale is None: scale = 1 / square root of the last axis of q; scores = (q times scale) times (k with its last two axes
# swapped); weights = softmax over the keys of the scores, with −∞ where the mask is False; return weights times v, and weights.
#
# </details>


# %%
def scaled_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """q: (B, heads, T, d_head), k, v: (B, heads, S, d_head). Returns the output and weights."""
    ### BEGIN SOLUTION
    if scale is None:
        scale = 1 / math.sqrt(q.shape[-1])
    scores = (q * scale) @ k.transpose(-2, -1)
    weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
    return weights @ v, weights
    ### END SOLUTION


# %%
check.scaled_attention(scaled_attention)

# %%
scaled_attention = yours("scaled_attention")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Yours, the equation as plain loops, and PyTorch's fused operator, which takes the same `scale`. And your Jacobian against
# the one that `torch.autograd` finds by itself.


# %%
def attention_in_loops(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
) -> torch.Tensor:
    """Causal attention of one head, one query at a time."""
    output = torch.zeros_like(q)
    for t in range(len(q)):
        scores = [scale * (q[t] * k[s]).sum() for s in range(t + 1)]
        total = sum(math.exp(score) for score in scores)
        for s, score in enumerate(scores):
            output[t] += math.exp(score) / total * v[s]
    return output


# %%
torch.manual_seed(0)
q, k, v = torch.randn(3, 1, 1, 7, 16)
mask = torch.ones(7, 7).tril().bool()
for scale in (1 / math.sqrt(16), 0.9):
    mine, weights = scaled_attention(q, k, v, mask, scale)
    loops = attention_in_loops(q[0, 0], k[0, 0], v[0, 0], scale)
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    print(f"scale {scale}: yours = loops", torch.allclose(mine[0, 0], loops, atol=1e-5), end=", ")
    print("yours = fused", torch.allclose(mine, fused, atol=1e-5))

# %%
scores = torch.randn(6)
by_autograd = torch.autograd.functional.jacobian(lambda s: s.softmax(0), scores)
by_formula = softmax_jacobian(scores.softmax(0))
print("Jacobian, yours = autograd:", torch.allclose(by_formula, by_autograd, atol=1e-6))

# %% [markdown]
# ## 5 · Predict, then run: does a model learn without it?
#
# A small GPT with two layers and one head of d_head = 64 gets a task that only attention can solve: eight random letters,
# then the same eight again. To predict the second half means to find the letter's place in the first half, and to copy
# what came after it. Only the second half counts; guessing among 16 letters has the loss ln 16 = 2.77.
#
# We start from two kinds of random weights. **Large**: q and k begin with variance 1, the assumption of section 2. **Small**: the
# weights have the standard deviation 0.02, as in GPT-2, which makes q and k begin at about 0.16.


# %%
def new_model(seed: int, std: float) -> GPT:
    """A GPT whose queries and keys come from random weights of standard deviation `std`."""
    torch.manual_seed(seed)
    parts = {"mixer": AttentionConfig(n_heads=1), "feedforward": FeedForwardConfig(d_ff=64)}
    model = GPT(ModelConfig(vocab_size=16, d_model=64, n_layers=2, max_seq_len=16, **parts))
    for block in model.blocks:
        torch.nn.init.normal_(block.mixer.q_proj.weight, std=std)
        torch.nn.init.normal_(block.mixer.k_proj.weight, std=std)
    return model


# %%
def train(model: GPT, steps: int = 100) -> list[float]:
    """Learn to repeat eight letters; returns the loss of every step."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(steps):
        half = torch.randint(16, (32, 8))
        text = torch.cat([half, half], dim=1)
        loss = F.cross_entropy(model(text[:, :-1])[:, 7:].flatten(0, 1), text[:, 8:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %% [markdown]
# Every model runs **your** attention, once with its own scale and once with `scale=1.0`, which `partial` fixes: it makes a
# function from another one by setting an argument. Three seeds (random starts) each, 100 steps, twelve models: less than a minute.
#
# **Predict** the loss of a typical seed at the end, for four cases: large start without and with the scale, small start
# without and with. (0 is perfect, 2.77 is guessing.)

# %%
guess = predict(...)  # four losses

torch.set_num_threads(1)  # models this small are faster on one thread
unscaled = partial(scaled_attention, scale=1.0)
losses = torch.zeros(2, 2, 3, 100)
print("of twelve models, trained:", end=" ")
for i, std in enumerate((1 / math.sqrt(64), 0.02)):
    for j, attention in enumerate((unscaled, scaled_attention)):
        for seed in range(3):
            model = new_model(seed, std)
            losses[i, j, seed] = torch.tensor(train(transplant(model, attention=attention)))
            print(6 * i + 3 * j + seed + 1, end=" ", flush=True)

# %%
starts = ["Large start: q and k have variance 1", "Small start: weights of 0.02"]
learning_curves(losses, starts, chance=math.log(16))

# %%
# NBVAL_IGNORE_OUTPUT
final = losses[..., -10:].mean(-1)
guess.compare([round(loss, 2) for loss in final.median(-1).values.flatten().tolist()])

# %%
(without, with_scale), small = final
print("large start, with the scale, every seed has learned it:", (with_scale < 0.3).all().item())
print("large start, each is ahead of all without:", (with_scale.max() < without.min()).item())
print("small start, every model is better than guessing:", (small < math.log(16)).all().item())

# %% [markdown]
# The left panel is the textbook. Without the scale the scores start at ±8 and the softmax is nearly certain of a random key. We
# trained eight seeds for 120 steps: two had learned the task (below 0.4), two were still near guessing, and four in between,
# falling slowly. So a model can learn without it, late and by luck. With the scale all eight had learned it by step 80.
#
# The right panel adds a caveat. With the small start the bare scores begin at √64 · 0.16² ≈ 0.2, far from saturation. By
# step 80, five of eight seeds **without** the scale had learned the task, and none **with** it: the missing 1/8 works like
# a larger step for queries and keys. But two of the other three got worse again later, to 1.2 and 1.3 at step 120. With
# the scale the scores begin at 0.03 and have to grow first; by step 120 all eight were below 0.8.
#
# So 1/√d_head is no magic number. What counts is the **size of the scores when training begins**: not much above 1.
# There are several ways to get there: the scale, a small start, normalizing q and k themselves (QK-norm, which many
# recent models use in addition). The scale is the one that works for every d_head without tuning.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The trained pocket model has d_head = 32. First your function as it should be, in all 24 heads.

# %%
before_and_after(attention=scaled_attention)

# %% [markdown]
# Now the trained weights stay as they are, and only the scale changes. **Predict** the order of these three, from the smallest
# loss to the largest:
#
# - (a) 1: the scale is forgotten, and every score is √32 = 5.7 times as large;
# - (b) 1/32: the root is forgotten, and every score is 5.7 times as small;
# - (c) 0: all scores are 0, so every token looks at all earlier ones equally.

# %%
guess = predict(...)  # such as "cab"

tokens = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text()))
windows, model = tokens[: len(tokens) // 256 * 256].view(-1, 256), pocket_model()
found = {}
for name, scale in {"as trained": 32**-0.5, "a": 1.0, "b": 1 / 32, "c": 0.0}.items():
    rescaled = transplant(model, attention=partial(scaled_attention, scale=scale))
    with torch.no_grad():
        logits = rescaled(windows)[:, :-1]
    found[name] = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    print(f"{name:10}: loss {found[name]:.2f}")
guess.compare("".join(sorted("abc", key=found.get)))

# %% [markdown]
# Surprised? Forgetting the scale does far less harm here than flattening the weights. Every head still prefers the same key as
# before and is only surer of it, whereas flat weights mix in all that the head had learned to ignore. How sure were
# the heads, and how sure are they without the scale? Your `entropy`, layer by layer:

# %%
maps = [attention_weights(model, windows[:1, :128], each) for each in (unscaled, scaled_attention)]
by_layer = torch.stack([entropy(weights).mean(dim=(1, 2, 3)) for weights in maps])
for i, (without, with_scale) in enumerate(by_layer.T.tolist()):
    print(f"layer {i}: {with_scale:.2f} nats, without the scale {without:.2f}")

largest = torch.arange(1, 129).log().mean().item()  # position t has t tokens to look at
entropy_by_layer(by_layer, largest)

# %% [markdown]
# And does it still write, without the scale?

# %%
before_and_after(attention=unscaled)

# %% [markdown]
# After training, all layers but the first are far from equal weights, scale or no scale. That is no contradiction to
# section 5: a certain softmax may well be **right**, but it hardly **learns**. A model has to begin undecided, so that
# gradients flow, and earns its certainty on the way. The scale is there for the beginning.

# %% [markdown]
# ## 7 · What to remember
#
# - A dot product of d_head independent terms of variance 1 has variance d_head: scores have the size √d_head.
# - Scores that are too large make the softmax certain, and a certain softmax passes no gradient: $J = \text{diag}(p) - p\,p^\top$
#   vanishes.
# - Multiply by 1/√d_head, **before** the softmax, with d_head the width of one head. In half precision, before the product.
# - The typical gradient falls exponentially with the size of the scores; the mean only like 1/√d_head.
# - What counts is the size of the scores when training begins. The scale makes it independent of the width. A trained
#   model may be sure; a new one must not.
#
# ### Three questions
#
# <details><summary>1. A model has d_model = 768 and 12 heads. What are the scores divided by, and by how much are they too small if you take d_model?</summary>
#
# d_head = 768 / 12 = 64, so by 8. √768 = 27.7: the scores would be √12 = 3.5 times too small, and attention close to a plain mean
# until q and k have grown.
#
# </details>
# <details><summary>2. You apply the scale to the weights instead, after the softmax. What is wrong, and does it help the gradient?</summary>
#
# The rows sum to 1/√d_head, so the output is too small. And the softmax has seen the bare scores: it is saturated, its Jacobian
# is near 0, and a factor on top makes the gradient smaller still.
#
# </details>
# <details><summary>3. The derivation assumes that q and k are independent. Does that hold in a trained model?</summary>
#
# No: training makes queries and the keys they look for similar. For a pair that points the same way, the products all have the
# same sign, and their sum grows like d_head, not √d_head. That is why Yang et al. divide by d_head when they carry
# settings from a narrow model to a wide one, and why large models add QK-norm: there scores kept growing during training
# until the softmax saturated after all.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention_backends.py`: the division in `attention_weights`, and `fused_attention`, which leaves it to
# `F.scaled_dot_product_attention` (argument `scale`). QK-norm: `qk_norm=True` in `AttentionConfig`.
#
# ### Papers
#
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762): section 3.2.1, and
#   footnote 4, which is line 2 of our derivation.
# - Yang et al. 2022, *Tensor Programs V*, [arXiv 2203.03466](https://arxiv.org/abs/2203.03466): 1/d_head instead of its root.
# - Dehghani et al. 2023, *Scaling Vision Transformers to 22 Billion Parameters*,
#   [arXiv 2302.05442](https://arxiv.org/abs/2302.05442): attention that saturates during training, and QK-norm against it.
# - Zhai et al. 2023, *Stabilizing Transformer Training by Preventing Attention Entropy Collapse*,
#   [arXiv 2303.06296](https://arxiv.org/abs/2303.06296): your entropy, watched while large models train.
# - Derrida 1981, *Random-energy model*, Physical Review B 24: ln S − σ²/2.
# - The float16 overflow: [transformers #33317](https://github.com/huggingface/transformers/pull/33317),
#   [Qwen3 #910](https://github.com/QwenLM/Qwen3/issues/910).
#
# **Next**: chapter 4 cuts d_model into several heads, each with a d_head of its own.
