# %% [markdown]
# # 9 · Grouped-query attention
#
# **At the end** you have written attention whose query heads share keys and values, run it in a trained model that is
# built that way, and computed how many gigabytes that saves in published models, and what it costs.
#
# **Time**: about 75 minutes. **You need**: chapter 4 (heads), chapter 8 (the last piece of the model's attention).
#
# Here is the place of this chapter: queries have six heads, keys and values two.

# %%
import math
from functools import partial

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch09_grouped_query_attention.experiments import EVERY, excerpt
from pocketgpt.course.ch09_grouped_query_attention.experiments import first_of_neighbors, train_on
from pocketgpt.course.ch09_grouped_query_attention.experiments import uptraining_losses
from pocketgpt.course.ch09_grouped_query_attention.experiments import with_fewer_kv_heads
from pocketgpt.course.ch09_grouped_query_attention.figures import cache_by_context, loss_by_kv_heads
from pocketgpt.course.ch09_grouped_query_attention.figures import uptraining_curves, who_reads_whom
from pocketgpt.course.lab import before_and_after, character_tokenizer, check, model_map
from pocketgpt.course.lab import pocket_model, pocket_tokenizer, predict, recall, sibling
from pocketgpt.course.lab import sibling_losses, sliders, symptoms, yours
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

torch.set_num_threads(1)  # models this small are faster on one thread
model_map(preset("pocket-shakespeare"), highlight="grouped_query_attention")

# %% [markdown]
# ## Before you start: three questions
#
# **1.** A query is at position 1,003 and a key at 1,000. By which angle are the pairs with the frequencies 1 and 0.01
# turned against each other?
#
# <details><summary>Answer</summary>
#
# By 3 radians and by 0.03: only the distance counts (chapter 8).
#
# </details>
#
# **2.** What would you see if `merge_heads` forgot to exchange tokens and heads, in the trained model?
#
# <details><summary>Answer</summary>
#
# No error. The loss on our page rises from 4.10 to 5.72, and 255 of 255 positions see a later token (chapter 4): rows mix
# pieces of different tokens.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(9)

# %% [markdown]
# ## 1 · The smallest example
#
# When a model writes, it computes the keys and values of a token once and keeps them, for every later token reads them again.
# That store is the **KV cache** (chapter 12 builds it). It fills the memory: each token adds a key and a value **for each
# head in each layer**. Queries are not kept; only the newest token asks.
#
# So let six query heads share two key/value heads, *a* and *b*:
#
# | query head | 0 | 1 | 2 | 3 | 4 | 5 |
# |---|---|---|---|---|---|---|
# | neighbors share (this is meant) | a | a | a | b | b | b |
# | every second one shares | a | b | a | b | a | b |
#
# The two rows are an agreement, like the layouts of chapter 8: neither is better, a model is trained with one. The
# published models of this chapter use the first. Compare them: heads 0, 2, 3 and 5 read the same in both, heads 1 and 4 do not.

# %%
neighbors, alternating = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 0, 1])
rows = {"neighbors share": neighbors, "every second one shares": alternating}
who_reads_whom(
    rows, neighbors, "Trained with the first order, the second is wrong for two heads of six"
)

# %% [markdown]
# What is saved? The pocket model has d_head = 32 and 4 layers. With a key/value head for each query head, a token would leave 2 · 6 · 32 =
# 384 numbers in every layer, keys and values. With two it is 2 · 2 · 32 = 128, a third. In four layers that is 512 numbers, and 1,024 bytes in
# bfloat16, which has two bytes a number.

# %% [markdown]
# ## 2 · The equation
#
# $$y_h = \text{Attention}(q_h,\; k_{\lfloor h/G \rfloor},\; v_{\lfloor h/G \rfloor}), \qquad G = \frac{H}{H_\text{kv}}$$
#
# | symbol | what | shape |
# |---|---|---|
# | $H$, in code `n_heads` | query heads | a whole number |
# | $H_\text{kv}$, `n_kv_heads` | key/value heads, a divisor of $H$ | a whole number |
# | $G$ | query heads in a group, which share a key/value head | a whole number |
# | $\lfloor h/G \rfloor$ | the group of query head $h$: division without the rest, `h // G` in code | 0 … $H_\text{kv} - 1$ |
# | $q_h$ | a query head | (T, d_head) |
# | $k_j, v_j$ | a key/value head | (S, d_head) |
# | $y_h$ | one output for each **query** head, so merging and `o_proj` are those of chapter 4 | (T, d_head) |
#
# It is one dial with three names. $H_\text{kv} = H$ is **multi-head** attention (MHA), $H_\text{kv} = 1$ **multi-query** (MQA), everything
# between **grouped-query** (GQA). Keys and values take 1/G of the memory of MHA. (In papers "GQA-8" has eight **groups**:
# that is our $H_\text{kv}$. Our G counts the heads in one.)
#
# Here is the dial on the pocket model. A projection of a head takes d_model numbers to d_head; `heads` counts those of q, k and
# v.

# %%
print(
    "n_kv_heads  heads of q, k, v     parameters of a layer's attention  cached a token and layer"
)
for n_kv_heads in (6, 3, 2, 1):
    mixer = GPT(preset("pocket-shakespeare", mixer={"n_kv_heads": n_kv_heads})).blocks[0].mixer
    heads = [len(proj.weight) // 32 for proj in (mixer.q_proj, mixer.k_proj, mixer.v_proj)]
    parameters = sum(p.numel() for p in mixer.parameters())
    by_width = f"{parameters:,} = {parameters / 192**2:.2f} · d_model²"
    print(f"{n_kv_heads:6}      {' + '.join(map(str, heads)):>9} = {sum(heads):2}   ", end="")
    print(f"{by_width:>33}  {2 * n_kv_heads * 32:10}")

# %% [markdown]
# From 6 to 2 key/value heads, **18 projections become 10**. The parameters fall by less, from 4 to 2⅔ · d_model², because `o_proj` has not
# changed. And no multiplication of scores is saved: each query head still meets every key. What falls to a third is what has to be
# stored, and read again for every new token.
#
# **The trap** is the order, a a a b b b. Shapes are equal in both, and PyTorch has a function for each: `repeat` and
# `repeat_interleave`. Published code has confused them (links at the end).

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 9.1 · `expand_kv_heads` · easy, 10 minutes
#
# The direct way: give every query head a key/value head of its own again, and call the attention of chapter 2.
#
# 1. `x` has shape (B, H_kv, S, d_head): keys or values. `n_heads` is a multiple of H_kv.
# 2. Return (B, n_heads, S, d_head). Head h of the result is head h // G of `x`, with G = n_heads / H_kv.
# 3. H_kv = 1 and H_kv = n_heads are allowed. Gradients flow to `x`.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Copies of the same head are neighbors. How often does each occur: n_heads times, or fewer?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# H_kv is `x.shape[1]`. For two numbers, `torch.tensor([1, 2]).repeat(3)` is 1 2 1 2 1 2, and `.repeat_interleave(3)` is 1 1 1 2 2 2. On
# a tensor with several axes, `repeat_interleave` also needs to know which one: `dim=…`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# G = n_heads // number of heads of x; return x with each head G times, one copy beside the other, along the axis of heads.
#
# </details>


# %%
def expand_kv_heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """x: (B, H_kv, S, d_head). Returns (B, n_heads, S, d_head)."""
    ### BEGIN SOLUTION
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)
    ### END SOLUTION


# %%
check.expand_kv_heads(expand_kv_heads)

# %% [markdown]
# Head j of the next tensor holds nothing but the number j, so your function's result says which head each query head reads.

# %%
expand_kv_heads = yours("expand_kv_heads")
numbered = torch.arange(4).view(1, 4, 1, 1)
reads = expand_kv_heads(numbered, 12)[0, :, 0, 0]
right = torch.arange(12) // 3
who_reads_whom(
    {"12 query heads, 4 key/value heads": reads}, right, "Your function, by what it returns"
)

# %% [markdown]
# ### Exercise 9.2 · `grouped_attention` · medium, 20 minutes
#
# Expanding makes the copies that sharing was to save: for a moment, keys and values are as large as with MHA. Without copies:
# the query heads of a group meet the same keys, so to a matrix product they are **one taller matrix**, G · T queries in place
# of T.
#
# 1. `q` has shape (B, H, T, d_head); `k` and `v` (B, H_kv, S, d_head), H a multiple of H_kv.
# 2. `mask` is boolean, (T, S), True where looking is allowed. Every query has at least one allowed key.
# 3. Return the output (B, H, T, d_head), heads in the order of `q`: softmax of the scores, scaled by 1/√d_head, times the
#    values. Query head h reads key/value head h // G.
# 4. Don't copy `k` or `v`: the check looks for new tensors as large as n_heads key/value heads. PyTorch's own attention is refused.
# 5. It must work for every H_kv from 1 to H. Gradients flow to q, k and v.
#
# `unflatten(axis, (a, -1))` cuts an axis in two, the first of size a; `flatten(i, j)` merges axes i to j.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Cut the axis of query heads in two. Which comes first, H_kv or G, so that heads 0, 1, 2 are one group?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# q as (B, H_kv, G, T, d_head), then axes 2 and 3 merged: (B, H_kv, G · T, d_head) @ (B, H_kv, d_head, S) → (B, H_kv, G · T, S). Unflatten to
# (B, H_kv, G, T, S), and a (T, S) mask broadcasts. The softmax runs over S. Flatten again before you multiply with v.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# folded = q with heads cut as (H_kv, G), G and T merged; scores = folded times k transposed / √d_head; give G and T their own axes; −∞ where
# the mask is False; softmax over the last axis; merge G and T; times v; give the result the shape of q.
#
# </details>


# %%
def grouped_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """q: (B, H, T, d_head), k, v: (B, H_kv, S, d_head), mask: (T, S). Returns (B, H, T, d_head)."""
    ### BEGIN SOLUTION
    kv_heads, d_head = k.shape[1], q.shape[-1]
    folded = q.unflatten(1, (kv_heads, -1)).flatten(2, 3)
    scores = folded @ k.transpose(-2, -1) / math.sqrt(d_head)
    scores = scores.unflatten(2, (-1, q.shape[2])).masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1).flatten(2, 3)
    return (weights @ v).reshape(q.shape)
    ### END SOLUTION


# %%
check.grouped_attention(grouped_attention)

# %%
grouped_attention = yours("grouped_attention")

# %% [markdown]
# Did you write `k[:, :, None]` and let `@` broadcast it over the group? The numbers are the same, and the check allows it. But `@` makes
# the copies by itself: for one new token with 32 query heads, 8 key/value heads, 4,096 keys and d_head = 128 in float32 (32 MiB of keys
# and values), PyTorch's profiler counted 130 MiB of new tensors with broadcasting, as many with `repeat_interleave`, and 2 with the
# taller matrix.
#
# ### Exercise 9.3 · `cache_bytes` · easy, 10 minutes
#
# 1. Six whole numbers: layers, key/value heads, d_head, tokens of a text `seq`, texts in a `batch`, bytes of one number.
# 2. Return the bytes, an int, of all keys and values that are kept.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# What does one token leave in one layer? Then: who else leaves as much?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# In every layer, keys are (batch, n_kv_heads, seq, d_head), and values as well.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return the product of all six, times two. bytes_per_number is in bytes, not in bits: 2 for bfloat16.
#
# </details>


# %%
def cache_bytes(
    n_layers: int, n_kv_heads: int, d_head: int, seq: int, batch: int, bytes_per_number: int
) -> int:
    """Bytes of the keys and values of `batch` texts of `seq` tokens."""
    ### BEGIN SOLUTION
    numbers_per_token = 2 * n_layers * n_kv_heads * d_head
    return numbers_per_token * seq * batch * bytes_per_number
    ### END SOLUTION


# %%
check.cache_bytes(cache_bytes)

# %% [markdown]
# Does the formula say what is really allocated? The pocket model reads three texts of 256 tokens into a cache, in float32:

# %%
cache_bytes = yours("cache_bytes")
cache = new_cache(pocket_model(), batch=3, capacity=256)
with torch.no_grad():
    pocket_model()(torch.zeros(3, 256, dtype=torch.long), cache)
allocated = sum(tensor.nbytes for layer in cache.layers for tensor in layer.tensors)
print(f"allocated {allocated:,} bytes, by your formula {cache_bytes(4, 2, 32, 256, 3, 4):,}")

# %% [markdown]
# ### Exercise 9.4 · `pool_kv_heads` · medium, 15 minutes
#
# A model that was trained with many key/value heads can be turned into one with few: each new head is the **mean** of those it
# replaces, and then the model is trained on for a while (Ainslie et al. 2023 call that *uptraining*). The mean is taken in the weights.
#
# 1. `weight` is a k_proj or v_proj with `old` key/value heads, (old · d_head, d_model): the rows of a head are next to each other, head
#    after head.
# 2. Return (n_kv_heads · d_head, d_model): new heads, each of a group of old ones. `old` is a multiple of n_kv_heads; here
#    G = old / n_kv_heads.
# 3. Row i of new head j is the mean of the rows i of the old heads j·G, …, j·G + G − 1. So neighbors are pooled, those whose queries will
#    share.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Nothing is averaged within a head: its rows are coordinates. Give groups, heads and coordinates an axis each.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `weight.unflatten(0, (a, -1, c))` cuts the rows in three. You need (n_kv_heads, G, d_head, d_model), and the mean over axis 1.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# rows as (n_kv_heads, G, d_head); mean over G; merge the first two axes.
#
# </details>


# %%
def pool_kv_heads(weight: torch.Tensor, n_kv_heads: int, d_head: int) -> torch.Tensor:
    """weight: (old · d_head, d_model). Returns (n_kv_heads · d_head, d_model)."""
    ### BEGIN SOLUTION
    groups = weight.unflatten(0, (n_kv_heads, -1, d_head))
    return groups.mean(dim=1).flatten(0, 1)
    ### END SOLUTION


# %%
check.pool_kv_heads(pool_kv_heads)

# %%
pool_kv_heads = yours("pool_kv_heads")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Yours without copies, yours with copies, and PyTorch's fused operator, which knows groups (`enable_gqa`). One code path for the
# whole dial, from MHA to MQA. (Our tests also hold `expand_kv_heads` equal to the function in `transformers`, and
# `cache_bytes` to the cache that a Llama fills there.)

# %%
torch.manual_seed(0)
q, mask = torch.randn(2, 6, 5, 8), torch.ones(5, 7, dtype=torch.bool).tril(2)
for n_kv_heads in (6, 3, 2, 1):
    k, v = torch.randn(2, 2, n_kv_heads, 7, 8)
    mine = grouped_attention(q, k, v, mask)
    wide_k, wide_v = expand_kv_heads(k, 6), expand_kv_heads(v, 6)
    copied = F.scaled_dot_product_attention(q, wide_k, wide_v, mask)
    fused = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    equal = [torch.allclose(mine, other, atol=1e-5) for other in (copied, fused)]
    print(f"{n_kv_heads} key/value heads: yours = expanded {equal[0]}, yours = fused {equal[1]}")

# %% [markdown]
# ## 5 · Predict, then run: whose cache is the largest?
#
# A text of 32,768 tokens, in bfloat16. **Predict** which of these models needs the most memory for its keys and values: Llama-2-7B, Llama-3-8B,
# Llama-2-70B, or DeepSeek-V3 with 671 billion parameters.

# %%
guess = predict(...)  # such as "DeepSeek-V3"

published = {  # layers, key/value heads, d_head
    "Llama-2-7B": (32, 32, 128),
    "Llama-2-70B": (80, 8, 128),
    "Llama-3-8B": (32, 8, 128),
    "Qwen2.5-7B": (28, 4, 128),
    "Gemma-2B": (18, 1, 256),
    "DeepSeek-V3": (61, 1, 288),  # not heads: see below
}
at_32k = {name: cache_bytes(*shape, 32_768, 1, 2) for name, shape in published.items()}
for name, size in at_32k.items():
    print(f"{name:12} {size / 2**30:5.2f} GiB = {size / 1e9:5.2f} GB")
guess.compare(max(at_32k, key=at_32k.get))

# %% [markdown]
# The smallest of the four. Llama-2-7B has MHA with 32 heads, and its cache for that text is larger than its 6.7 billion weights
# (12.6 GiB in bfloat16). Llama-2-70B, ten times the model, has 8 key/value heads for 64 query heads. Gemma-2B is an MQA. DeepSeek-V3 keeps
# neither keys nor values but 512 + 64 numbers, from which both are made (chapter 17); we wrote these as 2 · 288.
#
# The numbers come from the papers at the end and the models' published configs (chapter 10). Two cautions. d_head is **not** d_model / n_kv_heads: Llama-3-8B has
# 4,096 / 32 = 128. And a GiB is 1,073,741,824 bytes, a GB 10⁹: 16 GiB are 17.18 GB.

# %%
contexts = [2**i for i in range(10, 18)]


def caches(batch: int = 1, width: int = 2) -> dict[str, list[int]]:
    """Bytes of every model's cache at each context."""
    return {
        name: [cache_bytes(*shape, context, batch, width) for context in contexts]
        for name, shape in published.items()
    }


title = "One text in bfloat16: two models of 7 billion parameters differ by a factor of nine"
cache_by_context(contexts, caches(), 16 * 2**30, title)

# %% [markdown]
# (Llama-2 was trained on texts of 4,096 tokens, Llama-3-8B and Gemma on 8,192: beyond, the curves say what it would take.) Both
# axes are logarithmic, so all are straight lines of the same slope: twice the context, twice the bytes. Only the height differs. With the sliders: at which batch does Llama-3-8B fill
# an accelerator of 80 GiB, with texts of 32k tokens?


# %%
# NBVAL_IGNORE_OUTPUT
def show(batch: int, bytes_per_number: str) -> None:
    title = f"Batch {batch}, bytes per number: {bytes_per_number}"
    cache_by_context(contexts, caches(batch, int(bytes_per_number)), 80 * 2**30, title)


sliders(show, batch=(1, 64), bytes_per_number=["2", "4", "1"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# At 20, without counting the weights.
#
# </details>
#
# This is what grouped heads are for: more texts at once, or longer ones.
#
# ### What does it cost?
#
# Three of the course's siblings, character models of 4 query heads, have 4, 2 and 1 key/value heads. The budget is equal: same text,
# same steps, and **the same 87,024 parameters**: the rows that keys and values lose went to the feed-forward layers, which are 192, 216
# and 228 wide. So the question is not "are fewer heads as good?" but "are the parameters better elsewhere?".
#
# Each was trained with three seeds. **Predict** by how much the mean loss of MQA is above that of MHA, in nats per character. (For
# comparison: without positions, a sibling is worse by 0.32.)

# %%
guess = predict(...)  # such as 0.2

names = {4: "base", 2: "gqa", 1: "mqa"}
losses = {heads: sibling_losses()[name][64] for heads, name in names.items()}
for heads, seeds in losses.items():
    size = sum(p.numel() for p in sibling(names[heads]).parameters())
    seeds_by_size = "  ".join(f"{loss:.3f}" for loss in sorted(seeds))
    print(
        f"{heads} key/value heads, {size:,} parameters: {seeds_by_size}, mean {sum(seeds) / 3:.3f}"
    )
guess.compare(round(sum(losses[1]) / 3 - sum(losses[4]) / 3, 3))

# %%
loss_by_kv_heads(losses, "GQA overlaps with MHA; MQA is above MHA with every seed")

# %% [markdown]
# Between MHA and GQA the means differ by 0.007, and seeds of the **same** model by about 0.02: three seeds cannot tell the two apart. MQA
# is above MHA with every seed, by 0.025 on average. So at this size sharing in pairs costs nothing that we can see, sharing among all four a
# little. That is a small model with four heads. "GQA has no quality loss" would be more than anybody has shown: Ainslie et al. write
# *close to* MHA, and DeepSeek-V2's authors, with models of 7 billion parameters, found MHA ahead of GQA and MQA on harder benchmarks (their appendix D).

# %% [markdown]
# ## 6 · Yours in the real model
#
# The pocket model was trained with six query heads and two key/value heads. Your functions get its keys and values as it makes
# them, two heads.

# %%
before_and_after(grouped_attention=grouped_attention)

# %% [markdown]
# Now the wrong order, a b a b a b, for keys and values. Four of the six heads in each layer still read what they were trained to read.
# **Predict** the loss (4.10 as trained; 8.32 knows nothing).

# %%
guess = predict(...)  # a loss


def tiled(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    return x.repeat(1, n_heads // x.shape[1], 1, 1)


before_and_after(expand_kv_heads=tiled, guess=guess)

# %% [markdown]
# From 4.10 to 4.36, and the text still looks like a play: a loss that one would put down to a small model or to bad luck. Nothing
# complains, and the probe sees no leak. Only the check, or a comparison with another implementation, can tell.
#
# ### What the model notices, and what not

# %%
symptoms("expand_kv_heads")

# %%
# Without slips that have nothing to do with groups
others = ["mask_added", "softmax_over_the_texts", "exponentials_alone", "sigmoid"]
others += ["multiplied_by_the_root", "scale_of_the_keys", "scale_of_the_queries"]
symptoms("grouped_attention", without=others)

# %% [markdown]
# **It notices** every order that is not its own: groups in reverse, where all six heads read the wrong one (6.16), more than the
# alternating order, where two do (4.36). Keys alone in the wrong order cost 0.13, values alone 0.29. Leaving one head for all costs
# 0.74. A mean of a group's queries costs 0.38: heads that share keys still ask for different things. In `grouped_attention`,
# output heads in the wrong order cost about 0.6, although each was computed rightly: `o_proj` expects them elsewhere.
#
# **It does not notice** a group of three, two key/value heads, six query heads or a d_head of 32 written into the code, because these
# are its own sizes, nor a causal mask of your own making, because a whole text read at once has that mask. With a cache it would
# (chapter 12). Hidden scores of −10 leave the loss at 4.10, and only the probe sees 38 leaks. With −100, or with exponentials that could
# overflow, not even the probe sees anything: on this page, allowed scores lie between −31 and 13. The checks find all of them.
#
# ### From many heads to few
#
# Now your `pool_kv_heads`. First on the pocket model: its two key/value heads become one. Three ways to make it: the **mean** of the two, the **first**
# alone, or the **second** alone. **Predict** which is best, before any further training.

# %%
guess = predict(...)  # "mean", "first" or "second"


def second_of_two(weight: torch.Tensor, n_kv_heads: int, d_head: int) -> torch.Tensor:
    return weight[d_head:]


@torch.no_grad()
def loss_on_the_page(model, tokenizer, length: int) -> float:
    page = torch.tensor(tokenizer.encode(asset("held-out.txt").read_text()))
    windows = page[: len(page) // length * length].view(-1, length)
    return F.cross_entropy(model(windows)[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).item()


ways = {"mean": pool_kv_heads, "first": first_of_neighbors, "second": second_of_two}
found = {}
for way, pool in ways.items():
    one_head = with_fewer_kv_heads(pocket_model(), 1, pool)
    found[way] = loss_on_the_page(one_head, pocket_tokenizer(), 256)
    print(f"{way:7}: {found[way]:.2f}")
guess.compare(min(found, key=found.get))

# %% [markdown]
# The mean is the worst of the three. A possible reason, which we did not test: a group that keeps its own head still reads what it
# was trained to read, while the mean of two heads that have learned different things disturbs both groups. All three losses are far above 4.10, and
# far below 8.32.
#
# That is the loss at once. **Uptraining** repairs it. The next experiment is stored (`experiments.py`, beside the chapter's figures): the
# sibling with four key/value heads, trained for 2,000 steps, gets two heads or one, and 200 more steps, a tenth of its training. Three starts: the mean,
# the first head of each group, and new random numbers; three orders of the text each. The **control** keeps its four heads and
# takes the same steps. Even its loss rises at first, because the learning rate (chapter 14) begins at its peak again.

# %%
curves = {n: {} for n in (2, 1)}
for (start, n), runs in uptraining_losses().items():
    for count in curves if start == "control" else (n,):
        curves[count][start] = torch.tensor(runs)
from_scratch = {n: sum(losses[n]) / 3 for n in (2, 1)}
title = "Training on closes most of the gap in 20 steps, and not all of it in 200"
uptraining_curves(curves, EVERY, from_scratch, title)

# %%
print("key/value heads  start        0    20   100   200 steps")
for count, starts in curves.items():
    for start, runs in starts.items():
        mean = runs.mean(0)
        print(
            f"{count:15}  {start:7}", *(f"{mean[step // EVERY]:.3f}" for step in (0, 20, 100, 200))
        )

# %% [markdown]
# Read it in four steps.
#
# - **Most of the gap closes at once.** With one head left, the mean begins 1.62 above the model with four heads. After 20 steps the distance to the control is
#   0.57, after 200 it is 0.22. With two heads it ends at 0.10.
# - **The rest does not close in a tenth of the training.** A sibling that had two heads or one from its first step, and a wider
#   feed-forward for them, is at 1.70 and 1.72 (dashed): better than any uptrained one here.
# - **A better start is not a better end.** Here the mean begins lower than the first head, after 20 steps the first head is ahead, and after 200 the
#   two are within 0.01. On the pocket model the mean was even the worst start. In the paper, with T5 and 5 % of
#   the steps, the mean ended ahead of the first head, and both ahead of random numbers.
# - **What was trained is worth keeping.** Random rows end 0.2 to 0.3 above the other two.
#
# And live, with your function: the sibling's four heads become one, and 40 steps on a piece of Shakespeare's plays follow. The control
# keeps all four heads and takes the same steps. The losses are those of our page, a shorter text than the one above, on which the
# sibling itself is at 1.88 and not at 1.69: so the distances are not the same.

# %%
characters = partial(loss_on_the_page, tokenizer=character_tokenizer(), length=64)
before, after = {}, {}
for heads in (4, 1):
    model = with_fewer_kv_heads(sibling("base"), heads, pool_kv_heads)
    before[heads] = characters(model)
    for _ in train_on(model, excerpt()):
        pass
    after[heads] = characters(model)
gap, left = before[1] - before[4], after[1] - after[4]
print(f"above the model with four heads: {gap:.1f} nats at once, {left:.1f} after 40 steps of both")

# %% [markdown]
# Most of it is back after 40 steps. For a small model that is no bargain, as training it anew takes about two minutes. For a large one, 5 %
# of the training bought a cache of a fraction of the size, which is how the paper made its models.
#
# ## 7 · What to remember
#
# - Many query heads, few key/value heads: what is shared is not stored. The cache takes 1/G of the bytes.
# - Query head h reads key/value head h // G: neighbors share. The other order raises no error.
# - Bytes: 2 · layers · n_kv_heads · d_head · tokens · texts · bytes of a number. n_heads does not occur.
# - Sharing needs no copies: the queries of a group are one taller matrix.
# - In the pocket model 18 projections of q, k and v became 10, and a layer's parameters 2⅔ in place of 4 · d_model². Scores cost as
#   much as before.
# - At equal parameters and three seeds, our GQA cannot be told from MHA, and MQA is a little worse. Uptraining recovers most of
#   what pooling breaks, and here not all.
#
# ### Three questions
#
# <details><summary>1. A model has d_model = 4,096, 32 layers, 32 query heads and 8 key/value heads. How many bytes does one token leave in bfloat16?</summary>
#
# d_head = 4,096 / 32 = 128, and 2 · 32 · 8 · 128 · 2 = 131,072 bytes, 128 KiB. With 4,096 / 8 for d_head you would be off by a factor 4.
#
# </details>
# <details><summary>2. RoPE turns keys. Does it matter whether you turn them before or after they are expanded?</summary>
#
# Not for the numbers: the angle depends on the position, and copies of a key have the same. Before, it is 1/G of the work, and the cache
# keeps the turned key once.
#
# </details>
# <details><summary>3. Somebody tests grouped attention with one key/value head, and with as many as query heads. Both pass. Which mistake can
# hide?</summary>
#
# The order of the groups: a a a is the same tiled or interleaved, and so is a b c with groups of one. It takes at least two key/value heads
# and groups of at least two.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention.py`: `n_kv_heads` in `AttentionConfig`. `pocketgpt/layers/attention_backends.py`: `expand_kv_heads`, and the taller
# matrix in `short_attention`. `GPT.cache_bytes` counts the cache of any model of the library.
#
# ### Papers
#
# - Shazeer 2019, *Fast Transformer Decoding: One Write-Head is All You Need*, [arXiv 1911.02150](https://arxiv.org/abs/1911.02150): MQA.
# - Ainslie et al. 2023, *GQA*, [arXiv 2305.13245](https://arxiv.org/abs/2305.13245): groups, and uptraining with 5 % of the steps.
# - DeepSeek-AI 2024, *DeepSeek-V2*, [arXiv 2405.04434](https://arxiv.org/abs/2405.04434): MHA, GQA and MQA compared, appendix D.
# - Configs: Llama 2 ([2307.09288](https://arxiv.org/abs/2307.09288)), Llama 3 ([2407.21783](https://arxiv.org/abs/2407.21783)),
#   Qwen2.5 ([2412.15115](https://arxiv.org/abs/2412.15115)), Gemma ([2403.08295](https://arxiv.org/abs/2403.08295)), DeepSeek-V3
#   ([2412.19437](https://arxiv.org/abs/2412.19437)), and each model's `config.json` on Hugging Face.
# - The wrong order: [onnx #7274](https://github.com/onnx/onnx/pull/7274), [axlearn #842](https://github.com/apple/axlearn/pull/842).
#
# **Next**: chapter 10 puts all pieces together, and the model is yours.
