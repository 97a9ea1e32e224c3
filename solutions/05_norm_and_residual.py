# %% [markdown]
# # 5 · Norm and residual
#
# **At the end** you have both norms that transformers use and both orders of norm and layer. You know what depth does to
# gradients in each order, because you measured it, and which of the popular sentences about it are true.
#
# **Time**: about 90 minutes. **You need**: chapter 4, and the idea of a gradient.
#
# Here is the place of this chapter in the whole model: the norms in a block, and the line that runs past them.

# %%
import math

import torch
import torch.nn.functional as F
from torch import nn

from pocketgpt.assets import asset
from pocketgpt.course.ch05_norm_and_residual.experiments import BATCH, EVERY, frequencies_loss
from pocketgpt.course.ch05_norm_and_residual.experiments import new_model, next_character_loss
from pocketgpt.course.ch05_norm_and_residual.experiments import random_windows, stored_curves, train
from pocketgpt.course.ch05_norm_and_residual.figures import block_orders, gradients_by_depth
from pocketgpt.course.ch05_norm_and_residual.figures import rearranged_blocks, stream_growth
from pocketgpt.course.ch05_norm_and_residual.figures import training_curves, two_norms
from pocketgpt.course.ch05_norm_and_residual.rare import RARE
from pocketgpt.course.lab import before_and_after, character_tokenizer, check, model_map
from pocketgpt.course.lab import pocket_model, pocket_tokenizer, predict, recall, sibling_losses
from pocketgpt.course.lab import sliders, symptoms, transplant, yours
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare"), highlight="norm_and_residual")

# %% [markdown]
# ## Before you start: three questions
#
# **1.** A model has d_model = 192. How many numbers are in o_proj with 6 heads, and how many with 12?
#
# <details><summary>Answer</summary>
#
# 192 · 192 = 36,864 both times. More heads are narrower heads: d_head falls from 32 to 16.
#
# </details>
#
# **2.** A query's scores are (0, ln 3, 5), and the mask hides the last key. What are the weights?
#
# <details><summary>Answer</summary>
#
# exp gives 1 and 3, and the hidden key gets exactly 0: the weights are (1/4, 3/4, 0).
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(5)

# %% [markdown]
# Attention, and the feed-forward layer of chapter 6, never replace a token's vector. They **add** to it. The vector that
# runs through the model and collects these additions is called the **residual stream**: it begins as the embedding, and
# at the end it is the embedding plus everything that any layer has added. Layers read the stream and write to it; they
# have no other way to talk to each other.
#
# In this chapter a **layer** is one attention or one feed-forward layer, and a **block** is two layers: attention, then
# feed-forward. Depth is counted in blocks.
#
# A sum of many terms grows. So that a layer does not have to care how large the stream has become, it reads the stream
# through a **norm**, which brings every token's vector to a steady size.

# %% [markdown]
# ## 1 · The smallest example: four numbers
#
# One token, x = (2, 2, 14, 14). There are two common norms.
#
# **RMSNorm** divides by the root of the mean square. The squares are 4, 4, 196, 196, their mean is 100, its root is
# **10**: the result is (0.2, 0.2, 1.4, 1.4).
#
# **LayerNorm** first subtracts the mean, 8, which leaves (−6, −6, 6, 6). The mean of these squares, the *variance*, is
# 36, its root is **6**: the result is (−1, −1, 1, 1).

# %%
token = torch.tensor([2.0, 2.0, 14.0, 14.0])
rms = token.square().mean().sqrt()
centered = token - token.mean()
deviation = token.var(correction=0).sqrt()
print("RMS", rms.item(), "gives", [round(number, 2) for number in (token / rms).tolist()])
print("deviation", deviation.item(), "gives", (centered / deviation).tolist())
print("divided by n − 1:", [round(number, 3) for number in (centered / token.std()).tolist()])

# %% [markdown]
# The last line is a trap: PyTorch's `std` and `var` divide by n − 1 unless you say `correction=0`. Norms divide by n.
#
# What does each norm forget? Give them x, then 10 · x, then x + 20.

# %%
vectors = torch.stack([token, 10 * token, token + 20])
by_rms = vectors / vectors.square().mean(-1, keepdim=True).sqrt()
differences = vectors - vectors.mean(-1, keepdim=True)
by_layer = differences / differences.square().mean(-1, keepdim=True).sqrt()
two_norms(vectors, by_rms, by_layer, ["x", "10 · x", "x + 20"])

# %% [markdown]
# ## 2 · The equations
#
# $$\text{RMSNorm}(x) = \frac{x}{\sqrt{\frac{1}{d}\sum_i x_i^2 + \epsilon}} \odot w, \qquad
# \text{LayerNorm}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$ | the vectors, one for each token | (…, d_model) |
# | $d$ | d_model: each token is normalized **alone**, over its own numbers | one number |
# | $\mu$, $\sigma^2$ | mean and variance of one token's numbers, divided by $d$ | (…, 1) |
# | $\epsilon$ | a small number, written `eps`, so that a token of zeros stays finite | one number |
# | $w$, $b$ | learned scale and shift | (d_model,) |
# | $\odot$ | product number by number | |
#
# A model has a norm for each layer, and there are two classical **orders** of norm, layer and addition:
#
# $$\text{pre-norm: } x + \text{layer}(\text{norm}(x)) \qquad\qquad \text{post-norm: } \text{norm}(x + \text{layer}(x))$$

# %%
block_orders()

# %% [markdown]
# Post-norm is the order of 2017. Pre-norm came with GPT-2, and nearly every model since uses it or a relative of it. In
# pre-norm nothing ever acts on the stream but addition: from the last layer a gradient can run down the stream to the
# first, unchanged. In post-norm it passes through every norm on the way.
#
# **The numerical traps.** Where eps stands decides what happens to small vectors. And a square overflows early:
# float16 ends at 65,504, so no number from 256 on can be squared in it.

# %%
small, eps = torch.full((4,), 0.1), 0.1
print("eps inside the root: ", round((small / (small.square().mean() + eps).sqrt())[0].item(), 3))
print("eps outside the root:", round((small / (small.square().mean().sqrt() + eps))[0].item(), 3))
print("300² in float16:", torch.tensor(300.0, dtype=torch.float16).square().item())

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 5.1 · `layer_norm` · easy, 10 minutes
#
# 1. `x` has shape (…, d_model), `weight` and `bias` have shape (d_model,), `eps` is a number.
# 2. Normalize each token over the last axis: subtract its mean, divide by √(variance + eps).
# 3. The variance is the mean of (x − mean)², divided by d_model. eps is **inside** the root.
# 4. Then multiply by `weight` and add `bias`. The result has the shape of `x`.
# 5. The check refuses `F.layer_norm`, `nn.LayerNorm` and their relatives.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Every token has its own mean and its own variance. eps joins the variance before the root is taken.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `x.mean(dim=-1, keepdim=True)` and `x.var(dim=-1, correction=0, keepdim=True)` have shape (…, 1) and broadcast over the numbers
# of a token.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# centered = x − mean; return centered / square root of (variance + eps), times weight, plus bias.
#
# </details>


# %%
def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    """x: (..., d_model), weight and bias: (d_model,). Returns the shape of x."""
    ### BEGIN SOLUTION
    centered = x - x.mean(dim=-1, keepdim=True)
    variance = centered.square().mean(dim=-1, keepdim=True)
    return centered / torch.sqrt(variance + eps) * weight + bias
    ### END SOLUTION


# %%
check.layer_norm(layer_norm)

# %% [markdown]
# ### Exercise 5.2 · `rms_norm` · easy, 10 minutes
#
# 1. `x` has shape (…, d_model), `weight` has shape (d_model,), `eps` is a number.
# 2. Divide each token by √(mean of x² + eps), over the last axis. The mean of `x` is not subtracted.
# 3. Multiply by `weight`. The result has the shape of `x`.
# 4. `x` may be float16 with numbers beyond 256. Square in float32, and return float16.
# 5. The check refuses `F.rms_norm`, `nn.RMSNorm` and their relatives.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Root of the mean of the squares: apply the three words from right to left.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `x.float()` is in float32. `.square().mean(dim=-1, keepdim=True)` has shape (…, 1); without `keepdim` it would be lined up with
# d_model. `.to(x.dtype)` converts back.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# wide = x in float32; root = square root of (mean of wide² + eps); return (wide / root, in the dtype of x) times weight.
#
# </details>


# %%
def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x: (..., d_model), weight: (d_model,). Returns shape and dtype of x."""
    ### BEGIN SOLUTION
    wide = x.float()
    root = torch.sqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return (wide / root).to(x.dtype) * weight
    ### END SOLUTION


# %%
check.rms_norm(rms_norm)

# %% [markdown]
# ### Exercise 5.3 · `pre_norm` · easy, 5 minutes
#
# 1. `x` has shape (…, T, d_model): the stream. `norm` and `layer` are functions (or modules): call them, such as `norm(x)`.
# 2. The layer reads the normalized stream. What it returns is added to the stream **as it came in**.
# 3. Return the new stream, of the shape of `x`. Do not change `x` itself.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# In the left drawing, follow both ways from x to the plus.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# x, norm(x) and layer(norm(x)) all have the shape (…, T, d_model). Only one of them goes past the layer.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return x plus (the layer of (the norm of x)).
#
# </details>


# %%
def pre_norm(x: torch.Tensor, norm, layer) -> torch.Tensor:
    """x: (..., T, d_model), norm and layer: functions. Returns the new stream."""
    ### BEGIN SOLUTION
    return x + layer(norm(x))
    ### END SOLUTION


# %%
check.pre_norm(pre_norm)

# %% [markdown]
# ### Exercise 5.4 · `post_norm` · easy, 5 minutes
#
# 1. Arguments as in `pre_norm`.
# 2. The layer reads the stream as it is. What it returns is added to the stream, and the **sum** is normalized.
# 3. Return the new stream, of the shape of `x`.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# In the right drawing, the norm comes last, after the plus.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# x + layer(x) has the shape (…, T, d_model). The norm takes all of it, once.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return the norm of (x plus (the layer of x)).
#
# </details>


# %%
def post_norm(x: torch.Tensor, norm, layer) -> torch.Tensor:
    """x: (..., T, d_model), norm and layer: functions. Returns the new stream."""
    ### BEGIN SOLUTION
    return norm(x + layer(x))
    ### END SOLUTION


# %%
check.post_norm(post_norm)

# %%
layer_norm, rms_norm = yours("layer_norm"), yours("rms_norm")
pre_norm, post_norm = yours("pre_norm"), yours("post_norm")

# %% [markdown]
# ### Exercise 5.5 · `gradient_norms` · medium, 10 minutes
#
# How much would a step of training move each block? That is the size of the loss's gradient in its parameters: put all of them
# side by side as one long vector, and take its length.
#
# 1. `loss` is a tensor without axes that was computed with `blocks`, an `nn.ModuleList`.
# 2. Return a tensor of shape (n_blocks,): for each block the root of the sum of the squares of all gradients of its parameters.
# 3. Gradients that an earlier backward pass left in `.grad` must not count.
# 4. A parameter that the loss does not use has no gradient: its `.grad` is None, and it counts as 0. So the number of a block that
#    the loss does not use at all is 0.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# `loss.backward()` adds to every `.grad`. `blocks.zero_grad()` clears them first.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Each parameter's `.grad` has the shape of the parameter; its `.square().sum()` has none. Begin with `torch.zeros(len(blocks))`, add
# these numbers to the entry of their block, and take all roots at the end.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# clear all gradients; loss.backward(); sums = a zero for each block; for each block: add to its sum the squares of p.grad for all its
# parameters p whose .grad is not None; return the roots of the sums.
#
# </details>


# %%
def gradient_norms(loss: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
    """Returns (n_blocks,): the size of the gradient in each block."""
    ### BEGIN SOLUTION
    blocks.zero_grad()
    loss.backward()
    sums = torch.zeros(len(blocks))
    for i, block in enumerate(blocks):
        for p in block.parameters():
            if p.grad is not None:
                sums[i] += p.grad.square().sum()
    return sums.sqrt()
    ### END SOLUTION


# %%
check.gradient_norms(gradient_norms)

# %% [markdown]
# ### Exercise 5.6 · `stream_share` · easy, 5 minutes
#
# How much does a layer change the stream? Compare the length of what it adds with the length of what is there.
#
# 1. `before`, the stream, and `added`, what a layer adds to it, have shape (…, T, d_model).
# 2. Return for each token the length of `added` divided by the length of `before`: shape (…, T).
# 3. A length is the root of the sum of squares. No eps: the stream is never zero.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two lengths for every token, and one division. The stream is measured before the addition.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (…, T, d_model) → (…, T): the length runs over the last axis only, and nothing is averaged over tokens.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return root(sum of added² over the last axis) / root(sum of before² over the last axis).
#
# </details>


# %%
def stream_share(before: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """before, added: (..., T, d_model). Returns (..., T)."""
    ### BEGIN SOLUTION
    return added.norm(dim=-1) / before.norm(dim=-1)
    ### END SOLUTION


# %%
check.stream_share(stream_share)

# %%
gradient_norms, stream_share = yours("gradient_norms"), yours("stream_share")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Your norms, the equations as loops over single numbers, and PyTorch's operators must agree. And so must a whole block:
# `nn.TransformerEncoderLayer` has both orders, `norm_first=True` and `False`. Two calls of yours with its own parts do
# the same.


# %%
def norms_in_loops(row: list[float], eps: float) -> tuple[list[float], list[float]]:
    """LayerNorm and RMSNorm of one token, without scale and shift."""
    mean = sum(row) / len(row)
    variance = sum((number - mean) ** 2 for number in row) / len(row)
    mean_square = sum(number**2 for number in row) / len(row)
    by_layer = [(number - mean) / math.sqrt(variance + eps) for number in row]
    return by_layer, [number / math.sqrt(mean_square + eps) for number in row]


# %%
torch.manual_seed(0)
x, one, zero = torch.randn(5, 16) + 1, torch.ones(16), torch.zeros(16)
loops = torch.tensor([norms_in_loops(row, 1e-5) for row in x.tolist()]).transpose(0, 1)
mine = layer_norm(x, one, zero, 1e-5), rms_norm(x, one, 1e-5)
fused = F.layer_norm(x, (16,), one, zero, 1e-5), F.rms_norm(x, (16,), one, 1e-5)
for i, name in enumerate(("LayerNorm", "RMSNorm")):
    print(f"{name}: yours = loops", torch.allclose(mine[i], loops[i], atol=1e-5), end=", ")
    print("yours = PyTorch", torch.allclose(mine[i], fused[i], atol=1e-5))


# %%
def with_your_order(x: torch.Tensor, order, theirs: nn.TransformerEncoderLayer) -> torch.Tensor:
    """PyTorch's block, its parts put together by your function."""
    x = order(x, theirs.norm1, lambda h: theirs.self_attn(h, h, h, need_weights=False)[0])
    return order(x, theirs.norm2, lambda h: theirs.linear2(F.relu(theirs.linear1(h))))


# %%
x = torch.randn(3, 5, 16)
for order, first in ((pre_norm, True), (post_norm, False)):
    theirs = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=first)
    same = torch.allclose(with_your_order(x, order, theirs), theirs(x), atol=1e-5)
    print(f"norm_first={first}: two of yours = theirs", same)

# %% [markdown]
# ## 5 · Predict, then run: two popular sentences
#
# You will read that *"post-norm's gradient vanishes in deep models"*, and that *"post-norm cannot be trained without
# warm-up"*. Test both on small character models: d_model 48, LayerNorm, 2 to 48 blocks, with two kinds of starting weights.
#
# - **GPT-2's start**: weights with standard deviation 0.02; the projections that write into the stream (o_proj in attention,
#   down_proj in the feed-forward) are smaller by 1/√(number of layers).
# - **Xavier's start**: each matrix with variance 2 / (rows + columns), the usual start of models in the order of 2017 (Xiong et
#   al. 2020). At this width a square matrix gets the standard deviation 0.14: seven times as large.
#
# First, new models that have learned nothing. Your `pre_norm` and `post_norm` are in all blocks, your `gradient_norms`
# measures. The text is our page of *Macbeth*.
#
# **Predict**: GPT-2's start, post-norm. By what factor does the gradient in the *first* block change from 2 blocks to 48?
# (1: not at all; 0.01: it falls to a hundredth.)

# %%
guess = predict(...)  # a factor

torch.set_num_threads(1)  # models this small are faster on one thread
page = torch.tensor(character_tokenizer().encode(asset("held-out.txt").read_text()))


def gradients_at_start(start: str, name: str, n_blocks: int) -> torch.Tensor:
    order = pre_norm if name == "pre" else post_norm
    model = transplant(new_model(name, start, n_blocks), block_order=order)
    return gradient_norms(next_character_loss(model, random_windows(page, BATCH)), model.blocks)


depths, cases = (2, 4, 8, 16, 48), [(s, o) for s in ("gpt2", "xavier") for o in ("pre", "post")]
gradients = {case: {n: gradients_at_start(*case, n) for n in depths} for case in cases}
first = {n: norms[0].item() for n, norms in gradients["gpt2", "post"].items()}
guess.compare(f"{first[48] / first[2]:.2f}")

# %%
gradients_by_depth(gradients)

# %% [markdown]
# Look at the right column. With GPT-2's start, post-norm's gradient is small, about a fifteenth of pre-norm's, but it is the
# same in every block and at every depth. A constant factor is not vanishing, and the usual optimizer, AdamW (chapter 14), divides it
# away. With Xavier's start it is between 0.5 and about 4 in every block, at every depth. (Two other seeds gave the same picture.) So in **new** models
# post-norm's gradient does not vanish.
#
# The gradient that does fall with depth is pre-norm's from Xavier's start, bottom left: in the last block from 1.1 with 2
# blocks to 0.2 with 48. Xiong et al. (2020) derived this: from that start, near the output, it falls like 1/√(blocks) in
# pre-norm, and stays large in post-norm. Their argument for warm-up is that post-norm's first steps are too **large** there,
# not too small. GPT-2's factor nearly removes the fall (top left).

# %% [markdown]
# ### Which of the four learns?
#
# Now training: 12 blocks, AdamW (chapter 14) with a learning rate of 3e-3 from the first step on, 100 steps of 12 × 48 characters, on Shakespeare's
# plays. Warm-up means that the rate grows from 0 to 3e-3 during the first 40 steps. We ran each combination with three seeds
# (with 8 and 24 blocks: one), with and without it, and stored the losses (`python -m pocketgpt.course.ch05_norm_and_residual.experiments` trains all of
# them again, in ten minutes). A model that knows how frequent each character is, and nothing
# else, has the loss 3.37. In the pictures a line is the median of the seeds, and a band their range.
#
# **Predict** the order of these four without warm-up, from the smallest loss to the largest:
#
# - (a) GPT-2's start, pre-norm
# - (b) GPT-2's start, post-norm
# - (c) Xavier's start, pre-norm
# - (d) Xavier's start, post-norm

# %%
guess = predict(...)  # such as "abcd"

names = {"a": "GPT-2, pre", "b": "GPT-2, post", "c": "Xavier, pre", "d": "Xavier, post"}
curves = {warmup: stored_curves(12, warmup).flatten(0, 1) for warmup in (0, 40)}
for i, (letter, name) in enumerate(names.items()):
    rows = ["  ".join(f"{loss:.2f}" for loss in curves[w][i, :, -1].tolist()) for w in (0, 40)]
    print(f"({letter}) {name:13} {rows[0]}   with warm-up {rows[1]}")
medians = curves[0][..., -1].median(-1).values
guess.compare("".join("abcd"[i] for i in medians.argsort()))


# %%
def show_curves(depth: int) -> None:
    curves = {warmup: stored_curves(depth, warmup) for warmup in (0, 40)}
    training_curves(curves, EVERY, frequencies_loss(), depth)


show_curves(12)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_curves, depth=[12, 4, 8, 24])

# %% [markdown]
# The second sentence does not hold as it stands.
#
# - **Post-norm from GPT-2's start** trains without warm-up, with 4, 8, 12 and 24 blocks, and in these 100 steps it is ahead of
#   pre-norm: 2.41 to 2.42 against 2.60 to 2.74 with 12 blocks, 2.43 against 3.00 with 24.
# - **Post-norm from Xavier's start** trains with 4 blocks (2.45). With 8, 12 and 24 it learns within 100 steps how frequent
#   characters are, 3.38, and nothing else, with warm-up and without.
# - **Warm-up** helps in one place only: pre-norm from GPT-2's start with 8 blocks or more (3.00 becomes 2.64 with 24). Elsewhere
#   it costs a little or changes nothing.
#
# So it is the order *and* the start. But 100 steps cannot tell stuck from late: with 24 blocks, pre-norm from GPT-2's start leaves the same plateau at step 60.
# The end of training is another question: the course's two siblings of three blocks, trained for 2,000 steps with warm-up from
# GPT-2's start, differ in the order alone. The best of three seeds, on windows (pieces of text) of 64 characters:

# %%
for name in ("base", "post_norm"):
    losses = sibling_losses()[name][64]
    print(f"{name:9}: {min(losses):.2f} nats per character on held-out plays")

# %% [markdown]
# There *base*, the one with pre-norm, is ahead.

# %% [markdown]
# ### What is stuck?
#
# Train the stuck one here, for 60 steps on our page of *Macbeth* (its last tenth held out), and look inside. How much do
# its predictions differ from one position to another? 0 means that it says the same everywhere, whatever it reads.


# %%
def prediction_spread(model: nn.Module) -> float:
    """How far the probabilities at a position are from their mean over positions, 0 to 1."""
    with torch.no_grad():
        probabilities = model(held_out[:, :-1]).flatten(0, 1).softmax(-1)
    return (probabilities - probabilities.mean(0)).abs().sum(-1).mean().item() / 2


def trained_on_the_page(model: nn.Module) -> float:
    """Train for 60 steps; returns the held-out loss."""
    *_, last = train(model, learning, held_out, steps=60)
    return last.loss


learning, held_out = page[:3300], page[3300:].unfold(0, 49, 24)
stuck = transplant(new_model("post", "xavier", 12), block_order=post_norm)
print(f"before: spread {prediction_spread(stuck):.2f}")
loss = trained_on_the_page(stuck)
print(f"after:  spread {prediction_spread(stuck):.2f}, loss {loss:.1f}")

# %% [markdown]
# It says the same at **every** position: it has learned how frequent characters are, and stopped reading. Is its gradient
# still what it was?

# %%
new = transplant(new_model("post", "xavier", 12), block_order=post_norm)
for name, model in (("new", new), ("stuck", stuck)):
    norms = gradient_norms(next_character_loss(model, held_out), model.blocks)
    small = (norms[0] < norms[-1] / 100).item()
    print(f"{name:5}: last block {norms[-1]:.1f}, first block below a hundredth of that: {small}")

# %% [markdown]
# Now it does vanish on the way to the first block. There it was 0.8 in the new model, and is 0.01 after 5 steps, 0.0001 after 20
# and 0.00002 after 60 (two other seeds: 0.00006 and 0.0001). Post-norm from GPT-2's start has 0.06 there after 60 steps. So the first popular sentence describes this model **as it gets stuck**. But why does it get
# stuck? Measure with your `stream_share` how much the first layer (attention) and the last (feed-forward) of a *new* model add.


# %%
def follow(model: nn.Module, order, windows: torch.Tensor) -> tuple[list, list]:
    """The streams and additions of every layer."""
    streams, additions = [], []

    def recording(x: torch.Tensor, norm, layer) -> torch.Tensor:
        streams.append(x)
        return order(x, norm, lambda h: additions.append(layer(h)) or additions[-1])

    with torch.no_grad():
        transplant(model, block_order=recording).features(windows[:, :-1])
    return streams, additions


# %%
for start, name in (("gpt2", "pre"), ("gpt2", "post"), ("xavier", "pre"), ("xavier", "post")):
    order = pre_norm if name == "pre" else post_norm
    streams, additions = follow(new_model(name, start, 12), order, held_out)
    first, last = (stream_share(streams[i], additions[i]).median().item() for i in (0, -1))
    print(f"{start:6} {name:4}: the first layer adds {first:.3f}, the last {last:.3f}")

# %% [markdown]
# With Xavier's start and post-norm, the 24 layers add from a quarter of what is there to all of it; half is typical. And
# the norm shrinks the sum back to size 1, the old part included: each layer rewrites the stream. With GPT-2's start it adds a
# few thousandths. In pre-norm from Xavier's start the first layer overwhelms the embedding, but the stream grows, and by the
# last layer the share is small. From GPT-2's start no pre-norm layer adds more than a fifth. Liu et al. (2020) argue that large
# shares are what makes post-norm hard to train: a step changes all layers at once, and each passes on, amplified, what the
# layers before it changed.
#
# If that is the reason, then smaller additions must free the stuck model, with everything else left as it was. **Predict** its
# loss if o_proj and down_proj, the projections that write into the stream, start at a fifth of Xavier's size.

# %%
guess = predict(...)  # a loss; frequencies alone give 3.3 on this page

freed = transplant(new_model("post", "xavier", 12), block_order=post_norm)
for part in freed.parts():
    for weight in part.output_weights():
        weight.data *= 0.2
guess.compare(f"{trained_on_the_page(freed):.1f}")
print(f"spread {prediction_spread(freed):.1f}")

# %% [markdown]
# It learns (and so do two other seeds: 2.5 each, with spread 0.5). In post-norm, where every sum is shrunk again, what counts is
# how much a layer adds **beside what is there** when training begins: it needs a start that is small enough. Pre-norm from
# Xavier's start learns although its first layer adds three times what is there: nothing shrinks the sum, so later additions
# are a smaller share. DeepNet (Wang et al. 2022) trains post-norm with 1,000 blocks by a factor on the stream and smaller
# starting weights.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The shipped model uses RMSNorm and pre-norm. Both are yours now:

# %%
before_and_after(rms_norm=rms_norm, block_order=pre_norm)

# %% [markdown]
# Your `post_norm` runs in a sibling, a character model of three blocks that was trained in that order:

# %%
before_and_after(model="post_norm", block_order=post_norm, prompt="ROMEO:\nWhat ", new_tokens=60)

# %% [markdown]
# Now your `layer_norm` goes where RMSNorm was, in the shipped model, which has never met it. **Predict** by how much the loss on the page of *Macbeth* rises (4.11 as trained, on windows
# of 256 tokens).

# %%
guess = predict(...)  # a difference

tokens = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text()))
passages = tokens[: len(tokens) // 257 * 257].view(-1, 257)


def loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        return next_character_loss(model, passages).item()


def with_mean_removed(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return layer_norm(x, weight, torch.zeros_like(weight), eps)


as_trained = loss_of(pocket_model())
rise = loss_of(transplant(pocket_model(), rms_norm=with_mean_removed)) - as_trained
guess.compare(f"{rise:.2f}")

# %% [markdown]
# Nearly nothing happens. The mean of a token's 192 numbers turns out to be 0.07 of their size (printed below), hardly more
# than random numbers would have (0.8/√192 = 0.06): there is little to remove. That is the case for RMSNorm: the same effect for less work. What do other mistakes do?

# %%
symptoms("rms_norm", "pre_norm", without=RARE)

# %% [markdown]
# **What the model does not notice**: eps outside the root or missing, the mean removed, the deviation for the RMS, and what goes
# wrong in float16 (squares there, a float32 result), as it computes in float32. **What it does**: nearly every other order of norm, layer and addition costs more than
# 1 nat, and a norm with a mean over the tokens leaks: each
# position sees all later ones.
#
# ### The stream, layer by layer
#
# `follow` records the stream of the shipped model on the page.

# %%
streams, additions = follow(pocket_model(), pre_norm, passages)
streams.append(streams[-1] + additions[-1])
sizes = torch.stack([x.square().mean(-1).sqrt().mean() for x in streams])
shares = torch.stack([stream_share(x, y).mean() for x, y in zip(streams, additions, strict=False)])
means = torch.stack([(x.mean(-1).abs() / x.square().mean(-1).sqrt()).mean() for x in streams])
total = streams[0] + sum(additions)
print("embedding + all additions = stream:", torch.allclose(total, streams[-1], atol=1e-4))
print(f"the mean of a token is {means.mean():.2f} of its size")

# %%
stream_growth(sizes, shares)

# %% [markdown]
# The stream is never normalized, whatever the word "pre-norm" may suggest: it grows fivefold. The feed-forward layer of block 0
# adds about twice as much as was there, every other layer between a third and a half. That in pre-norm later layers count
# less holds for a new model from Xavier's start (above, 3.1 and 0.15). In this trained one the additions have grown with the stream.
#
# ### Blocks as edits
#
# If every block only adds a correction, then it may matter little which blocks run, and how often. **Predict**
# two losses (4.11 as trained, on these windows): without block 1, and with block 1 run **twice**.

# %%
guess = predict(...)  # two losses, without block 1 and with it twice: such as [6, 4.5]

rearranged = {
    "without 0": [1, 2, 3],
    "without 1": [0, 2, 3],
    "without 2": [0, 1, 3],
    "without 3": [0, 1, 2],
    "0 and 1 exchanged": [1, 0, 2, 3],
    "1 and 2 exchanged": [0, 2, 1, 3],
    "2 and 3 exchanged": [0, 1, 3, 2],
    "0 twice": [0, 0, 1, 2, 3],
    "1 twice": [0, 1, 1, 2, 3],
    "2 twice": [0, 1, 2, 2, 3],
    "3 twice": [0, 1, 2, 3, 3],
}
losses = {}
for name, order in rearranged.items():
    model = transplant(pocket_model())  # a copy with the same weights
    model.blocks = nn.ModuleList(model.blocks[i] for i in order)
    losses[name] = loss_of(model)
guess.compare((round(losses["without 1"], 2), round(losses["1 twice"], 2)))

# %%
rearranged_blocks(losses, as_trained, math.log(4096))

# %% [markdown]
# Any block may make its correction twice, for less than 0.2 nats. Blocks 1
# and 2, or 2 and 3, can trade places for 0.4 to 0.6 nats. Leaving out one of these three costs 0.4 to 1.0. Block 0 is the
# exception. It turns the embedding into what all others read: without it, or after block 1, the model does worse than
# guessing.
#
# ## 7 · What to remember
#
# - The residual stream is a running sum: the embedding plus everything the layers add. Layers read it through a norm.
# - LayerNorm removes mean and size of each token, RMSNorm the size alone. Divide by n, eps inside the root, squares in
#   float32.
# - pre-norm: x + layer(norm(x)). post-norm: norm(x + layer(x)).
# - In new models post-norm's gradient does not vanish with depth; in one that is stuck it does. Whether a deep post-norm model
#   trains depends on the start: how much a layer adds beside what is there.
# - Pre-norm never normalizes the stream: it grows with depth, and each layer's share depends on how much it adds.
#
# ### Three questions
#
# <details><summary>1. x = (3, 4) and eps = 0. What do RMSNorm and LayerNorm make of it?</summary>
#
# The mean square is 12.5, its root 3.54: (0.85, 1.13). LayerNorm: the mean is 3.5, the deviation 0.5: (−1, 1). With two numbers that
# differ it is always (−1, 1) or (1, −1).
#
# </details>
# <details><summary>2. Why does a pre-norm model need one more norm before the head, and a post-norm model not?</summary>
#
# The pre-norm stream has grown, and nobody has normalized it. A post-norm block ends with a norm.
#
# </details>
# <details><summary>3. You multiply all weights of o_proj and down_proj of a trained pre-norm model and its embedding by 10. What happens to the
# logits?</summary>
#
# Nothing, apart from eps: the stream is 10 times as large everywhere, and whoever reads it, reads it through a norm. (If the head shares its
# weights with the embedding, the logits grow by 10.)
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/norm.py`: `RMSNorm` and LayerNorm; `pocketgpt/layers/block.py`: `pre_norm`, `post_norm` and the block that calls them. In a config:
# `norm="layernorm"`, `norm_order="post"`.
#
# ### Papers
#
# - Ba, Kiros and Hinton 2016, *Layer Normalization*, [arXiv 1607.06450](https://arxiv.org/abs/1607.06450).
# - Zhang and Sennrich 2019, *Root Mean Square Layer Normalization*, [arXiv 1910.07467](https://arxiv.org/abs/1910.07467).
# - He et al. 2015, *Deep Residual Learning for Image Recognition*, [arXiv 1512.03385](https://arxiv.org/abs/1512.03385): the
#   addition.
# - Xiong et al. 2020, *On Layer Normalization in the Transformer Architecture*,
#   [arXiv 2002.04745](https://arxiv.org/abs/2002.04745): gradients of both orders.
# - Liu et al. 2020, *Understanding the Difficulty of Training Transformers*,
#   [arXiv 2004.08249](https://arxiv.org/abs/2004.08249): not the gradient, but how much each layer adds.
# - Wang et al. 2022, *DeepNet: Scaling Transformers to 1,000 Layers*, [arXiv 2203.00555](https://arxiv.org/abs/2203.00555).
# - Glorot and Bengio 2010, *Understanding the difficulty of training deep feedforward neural networks*: Xavier's start.
#
# **Next**: chapter 6 looks into the feed-forward layer, which adds so much in block 0.
