# %% [markdown]
# # 6 · Feed-forward
#
# **At the end** you have written the layer that half of a trained model's parameters belong to. You know how few of its
# hidden numbers count, and what some of them react to.
#
# **Time**: about 80 minutes. **You need**: chapter 5 (norms, and the residual stream that a layer adds to).
#
# Here is the place of this chapter: the second half of every block.

# %%
import math
from copy import deepcopy
from functools import partial

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch06_feed_forward.figures import activation_curves, hidden_histograms
from pocketgpt.course.ch06_feed_forward.figures import loss_against_share, seeds_by_model, strongest
from pocketgpt.course.lab import before_and_after, character_tokenizer, check, hidden_numbers
from pocketgpt.course.lab import model_map, pocket_model, pocket_tokenizer, predict, recall, sibling
from pocketgpt.course.lab import sibling_losses, sliders, symptoms, transplant, yours
from pocketgpt.models.presets import preset

torch.set_num_threads(1)  # models this small are faster on one thread
model_map(preset("pocket-shakespeare"), highlight="feed_forward")

# %% [markdown]
# ## Before you start: three questions
#
# **1.** What do LayerNorm and RMSNorm make of the vector (1, 1, 7, 7), with eps = 0, weight 1 and bias 0?
#
# <details><summary>Answer</summary>
#
# LayerNorm subtracts the mean, 4, and divides by the standard deviation, 3: (−1, −1, 1, 1). RMSNorm only divides by the root
# of the mean square, √((1 + 1 + 49 + 49) / 4) = 5: (0.2, 0.2, 1.4, 1.4).
#
# </details>
#
# **2.** You exchange token 3 of a text of ten tokens, numbered from 0. Behind one layer of causal attention, which positions
# can have another vector? And what would you see behind a layer that works on each token alone?
#
# <details><summary>Answer</summary>
#
# Positions 3 to 9: every query that may look at token 3. Behind a layer that works on each token alone, only position 3.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(6)

# %% [markdown]
# Attention moves information between tokens, and hardly computes with it: each head returns a weighted mean. The
# feed-forward layer is the other half of a block. It sees one token at a time and nothing else, and uses the same weights
# for all. It turns the token's vector into a longer one, changes each number by a function that is not linear, and
# turns the result into a vector of the old length.

# %% [markdown]
# ## 1 · The smallest example: four hidden units
#
# Take a token x = (1, 1), and two matrices, stored as `nn.Linear` stores them, with a row for each number that comes out: `up`
# makes four numbers out of two, `down` makes two out of four. Between them is the **activation**, a function that is applied to
# each number. Here it is $\max(h, 0)^2$, called ReLU².
#
# | hidden unit | its row of `up` | h = row · x | h after ReLU² | its column of `down` |
# |---|---|---|---|---|
# | 0 | (−1, −1) | −2 | 0 | (1, 1) |
# | 1 | (−1, 0) | −1 | 0 | (1, 0) |
# | 2 | (0, 1) | 1 | 1 | (1, 0) |
# | 3 | (1, 1) | 2 | 4 | (1, −1) |
#
# The result is 1 · (1, 0) + 4 · (1, −1) = (5, −4). So a unit reads the token with its row of `up` (*how well do you fit?*)
# and writes its column of `down` into the result, as strongly as it fits. Units 0 and 1 are at zero and write nothing.

# %%
x = torch.tensor([1.0, 1.0])
up = torch.tensor([[-1.0, -1.0], [-1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
down = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, -1.0]])

h = up @ x
print("before the activation:", h.tolist())
print("hidden numbers:       ", h.relu().square().tolist())
print("result:               ", (down @ h.relu().square()).tolist())
print("square before ReLU:   ", (down @ h.square().relu()).tolist())

# %% [markdown]
# The last line is a mistake to remember: a square is never negative, so a ReLU behind it does nothing, and units 0 and 1
# write as well.
#
# Why an activation at all? Without one, `down @ (up @ x)` equals `(down @ up) @ x`: however wide the layer is, it is **one** matrix,
# here with two rows and two columns. What a matrix makes of −x is the negative of what it makes of x, so the two add up to 0,
# whatever its numbers. With ReLU² they do not:

# %%
print("one matrix instead of two:", (down @ up).tolist())
for name, activation in {"none": lambda h: h, "ReLU²": lambda h: h.relu().square()}.items():
    of_x, of_minus_x = (down @ activation(up @ each) for each in (x, -x))
    print(
        f"activation {name:5}: {of_x.tolist()} + {of_minus_x.tolist()} =",
        (of_x + of_minus_x).tolist(),
    )

# %% [markdown]
# ## 2 · The equations
#
# $$\text{FFN}(x) = W_\text{down}\; f(W_\text{up}\, x) \qquad\qquad
# \text{SwiGLU}(x) = W_\text{down}\,\big(\text{SiLU}(W_\text{gate}\, x) \odot W_\text{up}\, x\big)$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$ | the vector of one token | (d_model,) |
# | $W_\text{up}$, $W_\text{gate}$ | a row for each hidden unit | (d_ff, d_model) |
# | $W_\text{down}$ | a column for each hidden unit | (d_model, d_ff) |
# | $f$, SiLU | the activation, applied to each number alone | |
# | $\odot$ | product of two vectors, number by number | (d_ff,) |
# | $f(\ldots)$, $\text{SiLU}(\ldots) \odot \ldots$ | the **hidden numbers**: what $W_\text{down}$ multiplies | (d_ff,) |
#
# d_ff is the number of hidden units, several times d_model. In the second form, that of Llama and many later models, a
# **gate** decides for each unit how much of its number passes: with the gate products (1, −1) and the up products (2, 3),
# the hidden numbers are SiLU(1) · 2 = 1.46 and SiLU(−1) · 3 = −0.81. The activations:
#
# - ReLU²(x) = max(x, 0)²
# - SiLU(x) = x · σ(x), with the sigmoid σ(x) = 1 / (1 + exp(−x))
# - GELU(x) = x · Φ(x), with Φ(x) = ½ (1 + erf(x/√2)), the probability that a standard normal number is below x. `erf` is a
#   function that every library has. The older form ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) is close to it, and GPT-2 was
#   trained with it.
#
# **The numerical trap.** The two forms of GELU differ by at most 0.0005, at x = ±2.7. A loose test does not see that, and weights
# that were trained with one should run with the same one. And a square is large: float16 ends at 65,504, and 256² is more.

# %%
print("ReLU² in float16:", torch.tensor([255.0, 256.0], dtype=torch.float16).square().tolist())
x = torch.linspace(-4, 4, 8001)
gap = (F.gelu(x) - F.gelu(x, approximate="tanh")).abs()
print(f"largest gap of the two GELUs: {gap.max():.5f}, at x = ±{x[gap.argmax()].abs():.1f}")

# %% [markdown]
# ## 3 · Your turn
#
# Compute with tensors, so that gradients flow through 6.1 to 6.3: models train with such functions.
#
# ### Exercise 6.1 · `gelu` · easy, 10 minutes
#
# 1. `x` has any shape; the result has the same one.
# 2. With `approximate="none"`, the default, return x · Φ(x) with the error function: `torch.erf` is allowed, `F.gelu` is not.
# 3. With `approximate="tanh"`, return the tanh form.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# GELU multiplies each number by a factor between 0 and 1, which is near 1 for large numbers and near 0 for very
# negative ones.
#
# </details>
# <details><summary>Hint 2 · the two cases</summary>
#
# One `if` on `approximate`: "none" means not approximated, so the form with `torch.erf`; "tanh" the form with `torch.tanh`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if approximate is "tanh": return half of x times (1 + tanh(root of (2/π) times (x + 0.044715 times x to the power 3))); otherwise
# return half of x times (1 + erf(x divided by the root of 2)).
#
# </details>


# %%
def gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """x: any shape; approximate: "none" or "tanh". Returns the shape of x."""
    ### BEGIN SOLUTION
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    ### END SOLUTION


# %%
check.gelu(gelu)

# %% [markdown]
# Your GELU beside the others, and the slope of each, which autograd finds: it is the factor that a gradient is multiplied
# by on its way back through the unit.

# %%
gelu = yours("gelu")

curves = {"ReLU": F.relu, "SiLU": F.silu, "GELU": gelu, "ReLU²": lambda x: F.relu(x).square()}
activation_curves(curves)

# %% [markdown]
# ReLU and ReLU² are exactly 0 for every negative number, and so is their slope: a unit at 0 writes nothing and learns nothing from
# this token. GELU and SiLU come close to 0 without reaching it, and even turn around. Find the lowest point of each with the
# slider: there, its dot on the right crosses 0.
#
# <details><summary>Answer</summary>
#
# At about −0.75 for GELU, and −1.28 for SiLU.
#
# </details>


# %%
# NBVAL_IGNORE_OUTPUT
def mark(x: float) -> None:
    activation_curves(curves, marked=x)


sliders(mark, x=(-4.0, 3.0, 0.01, -1.0))

# %% [markdown]
# ### Exercise 6.2 · `relu_squared` · easy, 10 minutes
#
# The layer of section 1, for any number of tokens. It is the feed-forward of Primer (So et al. 2021).
#
# 1. `x` (…, d_model); `up` (d_ff, d_model); `down` (d_model, d_ff). No biases.
# 2. Return `down` applied to the squared ReLU of `up` applied to x: (…, d_model).
# 3. The residual connection is not part of the layer: the block adds it.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Four steps in the order of the table in section 1: up, ReLU, square, down.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Tokens are rows, so multiply by the transpose: x (…, d_model) @ up.T (d_model, d_ff) → (…, d_ff), then @ down.T (d_ff, d_model).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# hidden = x times (up transposed), negative numbers replaced by 0, then each squared; return hidden times (down transposed).
#
# </details>


# %%
def relu_squared(x: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """x: (..., d_model), up: (d_ff, d_model), down: (d_model, d_ff). Returns (..., d_model)."""
    ### BEGIN SOLUTION
    hidden = (x @ up.T).relu().square()
    return hidden @ down.T
    ### END SOLUTION


# %%
check.relu_squared(relu_squared)

# %% [markdown]
# ### Exercise 6.3 · `swiglu` · medium, 10 minutes
#
# 1. `x` (…, d_model); `gate` and `up` (d_ff, d_model); `down` (d_model, d_ff).
# 2. SiLU is applied to the product with `gate`, and to nothing else.
# 3. It multiplies the product with `up`, number by number; `down` is applied to the result: (…, d_model).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A gate multiplies. The product with `up` is never activated: it may be of any size and sign.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# x @ gate.T and x @ up.T are both (…, d_ff). Their product with `*` is (…, d_ff), and @ down.T makes it (…, d_model).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# gates = x times (gate transposed); hidden = gates times sigmoid(gates) times (x times (up transposed)); return hidden times
# (down transposed).
#
# </details>


# %%
def swiglu(
    x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """x: (..., d_model); gate, up: (d_ff, d_model); down: (d_model, d_ff). Returns as x."""
    ### BEGIN SOLUTION
    hidden = F.silu(x @ gate.T) * (x @ up.T)
    return hidden @ down.T
    ### END SOLUTION


# %%
check.swiglu(swiglu)

# %% [markdown]
# ### Exercise 6.4 · `hidden_size` · easy, 5 minutes
#
# Since 2017 the usual width is d_ff = 4 · d_model: two matrices, 8 · d_model² parameters. A gated layer has three, and for the same
# number of parameters it must be narrower: 3 · d_model · d_ff = 8 · d_model² gives d_ff = 8/3 · d_model. Hardware likes widths that are
# multiples of a number such as 64, so the width is rounded **up** to one.
#
# 1. `d_model` is an int, `gated` a bool; `multiple` an int, such as 64.
# 2. Return the smallest multiple of `multiple` that is at least 4 · d_model, or 8/3 · d_model if `gated`: an int.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# First the factor, 4 or 8/3, then the rounding.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# d_model = 100 with a gate and multiples of 64: 266.7, which is 4.17 multiples, so 5 · 64 = 320. In Python, `8 // 3` is 2.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# width = 8 times d_model / 3 if gated, otherwise 4 times d_model; return (width / multiple, rounded up with math.ceil) times multiple.
#
# </details>


# %%
def hidden_size(d_model: int, gated: bool, multiple: int) -> int:
    """Returns d_ff: 4 or 8/3 times d_model, rounded up to a multiple."""
    ### BEGIN SOLUTION
    width = 8 * d_model / 3 if gated else 4 * d_model
    return math.ceil(width / multiple) * multiple
    ### END SOLUTION


# %%
check.hidden_size(hidden_size)

# %%
hidden_size = yours("hidden_size")

for name, d_model, gated, multiple, published in [
    ("GPT-2", 768, False, 64, 3072),
    ("Llama 2 7B", 4096, True, 256, 11008),
    ("Llama 2 13B", 5120, True, 256, 13824),
    ("SmolLM2 135M", 576, True, 64, 1536),
    ("ours", 192, True, 64, 512),
]:
    print(f"{name:12} {hidden_size(d_model, gated, multiple):6,}, published {published:6,}")

# %% [markdown]
# People say that feed-forward layers hold two thirds of a model's parameters. Count before you repeat it:

# %%
model = pocket_model()
inside = sum(weight.numel() for block in model.blocks for weight in block.feedforward.parameters())
total = sum(weight.numel() for weight in model.parameters())
print(f"feed-forward: {inside:,} of {total:,} parameters, {inside / total:.0%}")

# %% [markdown]
# Two thirds is the share of a **block** whose attention has four square matrices. Ours shares keys and values among heads
# (chapter 9), which makes attention smaller, and a third of its parameters are the embedding.

# %% [markdown]
# ### Exercise 6.5 · `keep_largest` · medium, 15 minutes
#
# An instrument for the next section: keep the largest hidden numbers of each token, and see what the model misses.
#
# 1. `hidden` (…, d_ff); `share` is a number above 0 and at most 1.
# 2. For each token, keep the share · d_ff numbers that are largest **in size**, so −5 before 3. Round the count up.
#    Ties do not matter.
# 3. Kept numbers stay as they are and where they are; all others become 0. Same shape.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# What counts is how far a number is from 0. Order by size, keep the first so many, and let the numbers themselves be.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# The count is `math.ceil(share * hidden.shape[-1])`. `hidden.abs().topk(count, dim=-1)` has shapes (…, count), with values and
# indices. The smallest of these values, `[..., -1:]`, is the threshold of each token.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# sizes = absolute values of hidden; threshold = the last of the count largest sizes of each token; return hidden where sizes ≥
# threshold, otherwise 0 (`torch.where`).
#
# </details>


# %%
def keep_largest(hidden: torch.Tensor, share: float) -> torch.Tensor:
    """hidden: (..., d_ff); 0 < share <= 1. Returns hidden with all but the largest set to 0."""
    ### BEGIN SOLUTION
    count = math.ceil(share * hidden.shape[-1])
    threshold = hidden.abs().topk(count, dim=-1).values[..., -1:]
    return torch.where(hidden.abs() >= threshold, hidden, 0.0)
    ### END SOLUTION


# %%
check.keep_largest(keep_largest)

# %%
relu_squared, swiglu = yours("relu_squared"), yours("swiglu")
keep_largest = yours("keep_largest")

# %% [markdown]
# ## 4 · The same numbers, three ways
#
# Yours works on whole matrices. In loops, the layer reads like the table in section 1, one unit after the other. And the
# trained model has its own, a module with three `nn.Linear`. All three must agree, here with the weights of its first
# block.


# %%
def swiglu_in_loops(x, gate, up, down) -> torch.Tensor:
    """One token, one hidden unit at a time."""
    result = torch.zeros(len(x))
    for i in range(len(up)):  # read with row i, write column i
        g = (gate[i] @ x).item()
        hidden = g / (1 + math.exp(-g)) * (up[i] @ x)
        result += hidden * down[:, i]
    return result


# %%
layer = model.blocks[0].feedforward
weights = [each.weight.detach() for each in (layer.gate_proj, layer.up_proj, layer.down_proj)]
torch.manual_seed(0)
x = torch.randn(3, 192)
mine, theirs = swiglu(x, *weights), layer(x).detach()
loops = torch.stack([swiglu_in_loops(token, *weights) for token in x])
print("yours = loops:          ", torch.allclose(mine, loops, atol=1e-4))
print("yours = the model's own:", torch.allclose(mine, theirs, atol=1e-4))
print("gelu = PyTorch's:       ", torch.allclose(gelu(x), F.gelu(x), atol=1e-6))

# %% [markdown]
# ## 5 · Predict, then run: how many hidden numbers are at work?
#
# First look at all of them. The trained model reads a page of *Macbeth* that it has never seen: 1,280 tokens, with 512
# hidden numbers in each of four layers.

# %%
tokenizer = pocket_tokenizer()
page = asset("held-out.txt").read_text()
tokens = torch.tensor(tokenizer.encode(page))
windows = tokens[: len(tokens) // 256 * 256].view(-1, 256)
hidden = hidden_numbers(model, windows)
print(tuple(hidden.shape), "= (layers, windows, positions, d_ff)")
print(f"exact zeros: {(hidden == 0).sum()}, negative: {(hidden < 0).float().mean():.0%}")

# %%
unused = (hidden.abs().amax(dim=(1, 2)) < 0.001).sum(dim=-1)
print("units that never reach 0.001, by layer:", unused.tolist())

hidden_histograms({"pocket": hidden}, "No exact zeros, and sizes over many powers of ten")

# %% [markdown]
# Nothing is exactly zero, but look at the bar at the left of layers 1 to 3: there, one unit in seven is unused, on
# this page and on 15,360 other tokens that we tried; in layer 0, nine are. The rows and the column of each of these units are less
# than a hundredth as long as a typical unit's. The likely cause is weight decay (chapter 14), which shrinks every weight that no gradient holds in place.
#
# And the axis is logarithmic: most numbers are far smaller than a few. Do the small ones matter? Put
# `keep_largest` in front of every `down` and measure the loss on the page. With all 512 numbers it is 4.10.
#
# **Predict** the loss with the largest 64 of 512, chosen for each token and layer. (A model that knows nothing has 8.32.)

# %%
guess = predict(...)  # a loss


def loss_with(model, windows, **functions) -> float:
    """Loss of a trained model on windows of a text, with functions in place of its parts."""
    with torch.no_grad():
        logits = transplant(model, **functions)(windows)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()


# %%
shares = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
by_size = []
for share in shares:
    by_size.append(loss_with(model, windows, hidden=partial(keep_largest, share=share)))
    print(f"{512 * share:3.0f} of 512: loss {by_size[-1]:.2f}")
guess.compare(round(by_size[2], 2))

# %% [markdown]
# An eighth of the numbers does nearly all of the work: with 64 of 512 the loss rises by 0.03, with 256 not at all. Which 64, every
# token decides anew. And what if the largest are chosen **by value**, so that negative numbers go first? This is a
# mistake that the check of `keep_largest` knows by name.


# %%
def keep_largest_by_value(hidden: torch.Tensor, share: float) -> torch.Tensor:
    threshold = hidden.topk(math.ceil(share * hidden.shape[-1])).values[..., -1:]
    return torch.where(hidden >= threshold, hidden, 0.0)


by_value = [
    loss_with(model, windows, hidden=partial(keep_largest_by_value, share=share))
    for share in shares
]
curves_of_loss = {"largest in size": by_size, "largest by value": by_value}
title = "By size, an eighth is enough; by value, even half is too little"
loss_against_share(shares, curves_of_loss, title)

# %% [markdown]
# In a SwiGLU a negative hidden number says as much as a positive one: half of them are negative, and without these the
# model loses a nat. How does the model write with 16 of 512? With how many does it write as before?


# %%
# NBVAL_IGNORE_OUTPUT
def show_share(share: float) -> None:
    kept = partial(keep_largest, share=share)
    title = f"With {share:.1%} of them, the loss is {loss_with(model, windows, hidden=kept):.2f}"
    loss_against_share(shares, curves_of_loss, title, marked=share)
    before_and_after(hidden=kept, model="pocket")


sliders(show_share, share=(1 / 32, 1.0, 1 / 32, 1 / 32))

# %% [markdown]
# ### Three activations, trained alike
#
# To compare activations, models must differ in nothing else. The course ships such **siblings**: three layers, d_model 48,
# trained on Shakespeare character by character in windows of 64, with equally many parameters. "base" has GELU with 192 hidden
# units, "relu_squared" 192 as well, "swiglu" 128 because of its third matrix.
#
# **Predict** how much of ReLU²'s hidden numbers are exactly 0, in percent, in layers 0, 1 and 2. (A new model, with random weights,
# has half of them.)

# %%
guess = predict(...)  # three percentages, with commas between

names = {"base": "GELU", "relu_squared": "ReLU²", "swiglu": "SwiGLU"}
characters = torch.tensor(character_tokenizer().encode(page))
characters = characters[: len(characters) // 64 * 64].view(-1, 64)
siblings_hidden = {
    title: hidden_numbers(sibling(name), characters) for name, title in names.items()
}
zeros = (siblings_hidden["ReLU²"] == 0).float().mean(dim=(1, 2, 3))
guess.compare([round(100 * zero) for zero in zeros.tolist()])

hidden_histograms(
    siblings_hidden, "Only ReLU² has exact zeros (orange); the others have small numbers"
)

# %% [markdown]
# Training made the zeros more, though nobody asked for them. A number that is exactly 0 need not be multiplied, nor its column of
# `down` be read, which is what sparse operators use. GELU has about half of its numbers in one bar, most of them between −0.1 and −0.17,
# near its lowest point. Can a sibling do without its small numbers, as the pocket model can?


# %%
def mean_for_the_rest(hidden: torch.Tensor, share: float) -> torch.Tensor:
    """As keep_largest, with the mean of a token's other numbers in place of 0."""
    dropped = keep_largest(hidden, share) == 0
    mean = (hidden * dropped).sum(-1, keepdim=True) / dropped.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(dropped, mean, hidden)


for name, title in names.items():
    ways = {"all": partial(keep_largest, share=1), "a quarter": partial(keep_largest, share=1 / 4)}
    ways["a quarter and the mean of the rest"] = partial(mean_for_the_rest, share=1 / 4)
    for way, function in ways.items():
        print(f"{title:6} {way:34}: {loss_with(sibling(name), characters, hidden=function):.2f}")

# %% [markdown]
# ReLU² loses nothing, since most of what is left out is 0 anyway. SwiGLU loses less than 0.1, and GELU 0.32. But its small
# numbers are alike, and what the zeros take away is mostly what they share: with a token's mean in their place, the loss is 1.93.
#
# And which of the three is best? Here is every seed on *King John*, another held-out play, which is easier than our page of *Macbeth*;
# `[64]` is the length of the windows.

# %%
losses = {title: sibling_losses()[name][64] for name, title in names.items()}
for title, seeds in losses.items():
    print(f"{title:7}", [f"{loss:.2f}" for loss in sorted(seeds)])

seeds_by_model(losses, "ReLU² and SwiGLU are ahead of GELU with every seed")

# %% [markdown]
# Every seed of ReLU² and of SwiGLU is ahead of every seed of GELU, by about 0.05. Between the two, the difference is smaller than
# between seeds.
#
# "SwiGLU is better" depends on sizes and budgets: Shazeer found it on T5, at equal parameters, by a little; Zhang et al. recommend
# ReLU² where sparsity is wanted. Often a little better: measure.

# %% [markdown]
# ## 6 · Yours in the real model
#
# Your `swiglu` in all four layers, and your `relu_squared` in the sibling that was trained with it:

# %%
before_and_after(swiglu=swiglu)

# %%
before_and_after(relu_squared=relu_squared, new_tokens=80)

# %% [markdown]
# Now mistakes. Each row is an answer that the check of `swiglu` refuses, measured inside the model: the loss on the page, and how
# many positions see a later token (none of these mistakes mixes tokens, so none leaks).

# %%
symptoms("swiglu")

# %% [markdown]
# **What the model notices**: gate and up exchanged, SiLU around the product, a sigmoid alone, `gate` or `up` unused: a nat or more.
# **What it hardly notices**: gates cut off at ±10, not at all; GELU in place of SiLU, 0.02, although the two curves differ by up to 0.2;
# SiLU twice, 0.05; ReLU, 0.09. Such a loss would not tell you that the activation is the wrong one. Your `gelu` in the gate:

# %%
before_and_after(activation=gelu, model="pocket")

# %% [markdown]
# Is an activation so unimportant? Do the same the other way round. The sibling "base" was trained with GELU, without a gate;
# now it gets SiLU. Its loss on the page is 1.88. **Predict** it with SiLU.

# %%
guess = predict(...)  # a loss

for name in ("swiglu", "base"):
    for put_in, activation in {"SiLU": F.silu, "GELU": gelu, "ReLU": F.relu}.items():
        loss = loss_with(sibling(name), characters, activation=activation)
        print(f"{names[name]:6} sibling with {put_in}: {loss:.3f}")
guess.compare(round(loss_with(sibling("base"), characters, activation=F.silu), 2))

# %% [markdown]
# In the gate of the SwiGLU sibling the exchange costs 0.043, and without a gate 0.353. SiLU lies below GELU everywhere, so without a gate
# every hidden number is shifted the same way. In a gate, the shift is multiplied by an up product of either sign, and partly cancels:
# of the error in the layers' results, at most 37 % is the same for all tokens, and over 80 % without a gate.

# %% [markdown]
# ### What single hidden units react to
#
# A unit is one row of `gate`, one of `up`, and one column of `down`. Which tokens of the page make its hidden number
# largest in size? Here are ten of them, for unit 13 of layer 0.

# %%
words = [tokenizer.decode([token]) for token in windows.flatten().tolist()]


def show_unit(layer: int, unit: int) -> None:
    title = f"Layer {layer}, unit {unit}: the ten tokens where it is largest in size"
    strongest(hidden[layer].flatten(0, 1)[:, unit], words, title)


show_unit(0, 13)

# %% [markdown]
# The page has seven exclamation marks, and they are the seven largest. Another held-out play has 84 in its first 15,360 tokens, and 83 of
# the unit's 84 largest numbers are on them. But it is no *exclamation mark* unit: the next bars are **colons**, and on most colons of
# both texts it is near −3, more than half as strong.
#
# Most units have no such name; the slider below shows all 2,048. These two are in the last layer, and
# both are largest, nearly always, on the **last piece of a speaker's name**, where a colon comes next.

# %%
show_unit(3, 132)
show_unit(3, 255)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_unit, layer=(0, 3), unit=(0, 511))

# %% [markdown]
# Do such units help to write the colon? To silence a unit, set its column of `down` to zero. We silence two of the 2,048 in the model, 132
# and 66, which looks much the same. **Predict** the loss where the next token is a colon, which is 1.66 with all units, and
# everywhere else, where it is 4.17.

# %%
guess = predict(...)  # two losses, with a comma between

followed_by_colon = windows[:, 1:].flatten() == tokenizer.encode(":")[0]


def losses_without(units: list[int]) -> list[float]:
    """Mean loss before a colon, and elsewhere, with units of layer 3 silenced."""
    silenced = deepcopy(model)
    silenced.blocks[3].feedforward.down_proj.weight.data[:, units] = 0
    with torch.no_grad():
        logits = silenced(windows)[:, :-1].flatten(0, 1)
    loss = F.cross_entropy(logits, windows[:, 1:].flatten(), reduction="none")
    return [loss[where].mean().item() for where in (followed_by_colon, ~followed_by_colon)]


# %%
guess.compare([round(loss, 2) for loss in losses_without([66, 132])])
for units in ([], [66], [132], [255]):
    before, elsewhere = losses_without(units)
    print(f"without {units}: before a colon {before:.2f}, elsewhere {elsewhere:.1f}")

# %% [markdown]
# Two of 2,048 units, and the harm is where they react; elsewhere, on average, there is none. On 15,360 tokens of *King John* they cost
# 0.12 before a colon, and elsewhere nothing.
#
# Unit 255 fooled us: without it, the colon is even a little more probable. Nor was its name right. In *King John*, 50 of the 100
# tokens on which unit 132 is largest are followed by a colon (of all tokens, 2 in 100 are), and of unit 255's 100 **none**: it is
# largest inside names such as *Touraine* or *Richmond*, and our page opens with witches. A name from one page is a guess.

# %% [markdown]
# ## 7 · What to remember
#
# - Attention moves information between tokens; the feed-forward layer computes on each token alone.
# - A hidden unit reads with its row of `up` (and of `gate`), and writes its column of `down`, times its hidden number.
# - Without an activation, two matrices are one. First ReLU, then square.
# - SwiGLU: SiLU on the gate alone, times up, then down. Three matrices, so d_ff = 8/3 · d_model in place of 4.
# - In the pocket model an eighth of a token's hidden numbers is enough, the largest **in size**.
# - What a unit reacts to is not yet what it does: silence it, and measure.
# - GELU for SiLU in the gate costs 0.02: a loss does not prove an activation right.
#
# ### Three questions
#
# <details><summary>1. d_model = 1,024. How many parameters has a feed-forward layer with ReLU², and one with SwiGLU, with the usual widths and multiples of 64?</summary>
#
# Without a gate: 2 · 1,024 · 4,096 = 8,388,608. With one: 8/3 · 1,024 = 2,730.7, rounded up to 2,752, and 3 · 1,024 · 2,752 = 8,454,144: the same but for
# the rounding.
#
# </details>
# <details><summary>2. You multiply a row of `up` by 10 and divide the same unit's column of `down` by 10. What changes in a SwiGLU, and what with ReLU² or GELU?</summary>
#
# In a SwiGLU nothing: the hidden number is proportional to the product with `up`. With ReLU² the unit writes 10²/10 = 10 times as much. With
# GELU it is another function: GELU(10h)/10 is closer to ReLU.
#
# </details>
# <details><summary>3. With ReLU², a unit's hidden number is exactly 0 on every token of your data. What does it cost, and can it learn?</summary>
#
# It costs its parameters and its arithmetic, and does nothing. Its slope is 0, so its row of `up` gets no gradient, and its column of
# `down` gets none because it is multiplied by 0: such a unit is called dead. With GELU or SiLU a small slope remains.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/feedforward.py`: `FeedForward` (GELU, ReLU²), `SwiGLU`, and `FeedForwardConfig`, whose `resolved` is your `hidden_size`.
# `F.gelu`, `F.silu` in PyTorch. `pocketgpt/course/lab/recording.py`: `hidden_numbers`.
#
# ### Papers
#
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762): section 3.3, with ReLU and
#   d_ff = 4 · d_model.
# - Hendrycks and Gimpel 2016, *Gaussian Error Linear Units*, [arXiv 1606.08415](https://arxiv.org/abs/1606.08415): GELU, and the tanh form.
# - Shazeer 2020, *GLU Variants Improve Transformer*, [arXiv 2002.05202](https://arxiv.org/abs/2002.05202): SwiGLU and the 2/3.
# - So et al. 2021, *Primer*, [arXiv 2109.08668](https://arxiv.org/abs/2109.08668): ReLU², found by search.
# - Geva et al. 2020, *Transformer Feed-Forward Layers Are Key-Value Memories*, [arXiv 2012.14913](https://arxiv.org/abs/2012.14913):
#   rows of `up` as keys, columns of `down` as values.
# - Zhang et al. 2024, *ReLU² Wins*, [arXiv 2402.03804](https://arxiv.org/abs/2402.03804): activations compared by the sparsity
#   that they allow.
#
# **Next**: chapter 7 gives the model something it has lacked until here: the order of the tokens.
