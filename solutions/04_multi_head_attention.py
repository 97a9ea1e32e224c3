# %% [markdown]
# # 4 · Multi-head attention
#
# **At the end** you can cut one wide attention into several narrow ones and join them again, in code that runs in all
# layers of a trained model; and you know, because you silenced each of its 24 heads, which of them the model misses.
#
# **Time**: about 85 minutes. **You need**: chapter 2 (attention) and chapter 3 (the scale).
#
# Here is the place of this chapter: where queries, keys and values become heads, and where the heads become one again. Ignore
# RoPE (chapter 8), the KV cache and the smaller number of key and value heads (chapter 9): this chapter does without.

# %%
import time
from copy import deepcopy
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch04_multi_head_attention.figures import heads_and_one, heads_dropped
from pocketgpt.course.ch04_multi_head_attention.figures import heads_of_tokens, importance_map
from pocketgpt.course.ch04_multi_head_attention.figures import loudness, named_heads
from pocketgpt.course.figures.style import readable
from pocketgpt.course.lab import HEADS, attention_weights, before_and_after, check, earlier_changes
from pocketgpt.course.lab import model_map, pocket_model, pocket_tokenizer, predict, recall, sliders
from pocketgpt.course.lab import symptoms, transplant, yours
from pocketgpt.course.lab.heads import BEHAVIORS, share
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare"), highlight="multi_head_attention")

# %% [markdown]
# ## Before you start: three questions
#
# **1.** Queries and keys of d_head = 64 have independent numbers of mean 0 and variance 1. How large is a typical score
# before it is scaled, and after?
#
# <details><summary>Answer</summary>
#
# √64 = 8 before, and 1 after: variances of independent terms add up (chapter 3).
#
# </details>
#
# **2.** You wrote a softmax in your first chapter. What would you see if it did not subtract the largest score first, and
# a score were 100?
#
# <details><summary>Answer</summary>
#
# e¹⁰⁰ does not fit into float32, so it becomes infinity, and infinity divided by infinity is NaN.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(4)

# %% [markdown]
# ## 1 · The smallest example: two wishes
#
# A head has one row of weights for each query, and the row sums to 1. Suppose a token needs two things, from two earlier
# tokens whose values are 10 and 30. One head can look at both, and returns their mean:
#
# | | weights | answer |
# |---|---|---|
# | one head | (0.5, 0.5) | 0.5 · 10 + 0.5 · 30 = 20 |
# | two heads | (1, 0) and (0, 1) | 10 and 30 |
#
# The 20 could as well come from two values of 20. Two heads, each with weights of its own, keep the answers apart.
#
# Two heads are not twice the numbers: the width is **cut**. Take a text of two tokens, (1, 2, 3, 4) and (5, 6, 7, 8), and
# two heads. Each head gets a narrow version of *every* token:
#
# | | token 0 | token 1 |
# |---|---|---|
# | head 0 | (1, 2) | (5, 6) |
# | head 1 | (3, 4) | (7, 8) |
#
# In a tensor of shape (B, heads, T, d_head), with B texts, T tokens and d_head = 2, that is B = 1, heads = 2, T = 2. It looks
# like a matter of calling `view` with that shape:

# %%
x = torch.arange(1.0, 9.0).view(1, 2, 4)  # (B, T, width)
head_0, head_1 = x.view(1, 2, 2, 2)[0]
print("head 0:", head_0.tolist())
print("head 1:", head_1.tolist())

# %% [markdown]
# The shape is the one asked for, and nothing complains. But head 0 now holds (1, 2) and (3, 4): two halves of **one**
# token, which pose as two tokens. `view` gives new coordinates to numbers in the order in which they lie in memory, and never
# moves one past another. Published code has made this mistake (see the end of the chapter).

# %% [markdown]
# ## 2 · The equation
#
# $$\text{MultiHead}(x) = \big[\,y_0 \;\; y_1 \;\cdots\; y_{H-1}\big]\, W_o^\top, \qquad
# y_h = \text{Attention}(q_h, k_h, v_h)$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$ | the tokens of a text, a row each | (T, d_model) |
# | $H$ | the number of heads; each is $d_\text{head} = d_\text{model} / H$ wide | |
# | $W_q, W_k, W_v$ | three learned matrices, stored as (out, in) | (d_model, d_model) |
# | $q_h, k_h, v_h$ | head h's piece of $xW_q^\top$, $xW_k^\top$, $xW_v^\top$ | (T, d_head) |
# | $y_h$ | what head h returns: chapter 2, with the scale of chapter 3 | (T, d_head) |
# | $[\,\cdots]$ | the heads side by side | (T, d_model) |
# | $W_o$ | the output matrix, `o_proj` in code | (d_model, d_model) |
#
# The heads side by side, times a matrix, are a sum with a term for each head. Let $W_{o,h}$ be the d_head **columns** of $W_o$ that meet head h:
#
# $$\text{MultiHead}(x) = \sum_{h=0}^{H-1} y_h\, W_{o,h}^\top$$
#
# So every head computes alone, writes a vector of width d_model, and **the vectors are added**. You will take the sum apart
# in exercise 4.4.
#
# **The trap**, besides the order in memory, is a convention. In `F.scaled_dot_product_attention` and in this course a mask
# is True where looking is *allowed*; in `nn.MultiheadAttention`, True *hides*. Both are PyTorch. The same causal mask in both:

# %%
torch.manual_seed(0)
x = torch.randn(1, 5, 8)
allowed = torch.ones(5, 5).tril().bool()
layer = torch.nn.MultiheadAttention(8, 2, bias=False, batch_first=True)
fused = F.scaled_dot_product_attention(x, x, x, attn_mask=allowed)
print("scaled_dot_product_attention, NaN:", fused.isnan().any().item())
print("nn.MultiheadAttention, NaN:", layer(x, x, x, attn_mask=allowed)[0].isnan().any().item())
print("the same, mask turned, NaN:", layer(x, x, x, attn_mask=~allowed)[0].isnan().any().item())

# %% [markdown]
# Here the NaN gives it away: read as *hidden*, the mask leaves nothing for the last token to look at. The others would see
# their future only, without any error.

# %% [markdown]
# ## 3 · Your turn
#
# Cut, join, the whole layer, an instrument to look into it, and a count. Gradients must flow through what you write, since
# models are trained through it: no `detach`, no NumPy. As before, `yours(...)` puts a finished version in place of a function
# that does not pass its check yet.
#
# ### Exercise 4.1 · `split_heads` · easy, 10 minutes
#
# 1. `x` has shape (B, T, width), and `n_heads` divides the width.
# 2. Return shape (B, n_heads, T, d_head), with d_head = width / n_heads.
# 3. Head h holds, of every token, the d_head numbers from number h · d_head on.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two steps. First give each number of a token two coordinates, head and place in the head: only the last axis changes. Then
# exchange two axes.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (B, T, n_heads · d_head) → (B, T, n_heads, d_head) → (B, n_heads, T, d_head). The first step is `unflatten` or `view`, the second
# `transpose(1, 2)`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# cut = x with its last axis unflattened into (n_heads, −1); return cut with axes 1 and 2 exchanged.
#
# </details>


# %%
def split_heads(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    """x: (B, T, n_heads · d_head). Returns (B, n_heads, T, d_head)."""
    ### BEGIN SOLUTION
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
    ### END SOLUTION


# %%
check.split_heads(split_heads)

# %% [markdown]
# Yours, above the bare `view`, for the two tokens of section 1:

# %%
split_heads = yours("split_heads")

x = torch.arange(1.0, 9.0).view(1, 2, 4)
heads_of_tokens(x[0], {"yours": split_heads(x, 2)[0], "view alone": x.view(1, 2, 2, 2)[0]})

# %% [markdown]
# ### Exercise 4.2 · `merge_heads` · easy, 5 minutes
#
# 1. `x` has shape (B, n_heads, T, d_head).
# 2. Return shape (B, T, n_heads · d_head): for each token the heads side by side, head 0 first.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The steps of the split, backward. Joining axes is only right when they are neighbors, so the exchange comes first.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (B, n_heads, T, d_head) → (B, T, n_heads, d_head) → (B, T, n_heads · d_head). After a `transpose` the numbers are not in
# order in memory, and `view` refuses; `flatten` and `reshape` copy where they must.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return x with axes 1 and 2 exchanged, flattened from axis 2 on.
#
# </details>


# %%
def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """x: (B, n_heads, T, d_head). Returns (B, T, n_heads · d_head)."""
    ### BEGIN SOLUTION
    return x.transpose(1, 2).flatten(2)
    ### END SOLUTION


# %%
check.merge_heads(merge_heads)

# %% [markdown]
# A test that suggests itself is *merge what you split, and see if x comes back*. It is not enough. Here it is, for yours and
# for a pair that is wrong twice:

# %%
merge_heads = yours("merge_heads")


def bare_split(x: torch.Tensor, n_heads: int) -> torch.Tensor:
    return x.reshape(x.shape[0], n_heads, x.shape[1], -1)


def bare_merge(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)


x = torch.randn(2, 5, 12)
print("yours, back again:", torch.equal(merge_heads(split_heads(x, 3)), x))
print("bare, back again: ", torch.equal(bare_merge(bare_split(x, 3)), x))
print("bare = yours:     ", torch.equal(bare_split(x, 3), split_heads(x, 3)))

# %% [markdown]
# Two mistakes cancel, and what attention does between them is wrong all the same. That is why the checks compare each
# function with the places where numbers belong, and not with the other.
#
# ### Exercise 4.3 · `multi_head_attention` · medium, 25 minutes
#
# 1. `x` has shape (B, T, d_model); `weights` is a dictionary with the matrices "q_proj", "k_proj", "v_proj" and "o_proj", in any
#    order, so take them by name. Each is (d_model, d_model), stored as (out, in); `n_heads` divides d_model.
# 2. Make queries, keys and values, and split them into heads.
# 3. In each head: scores scaled by 1/√d_head, a causal mask, softmax, weighted mean, for scores of any size. `F.scaled_dot_product_attention` may
#    do this step, as you have written it twice; `nn.MultiheadAttention` may not, as it is the whole exercise.
# 4. Merge the heads, multiply by o_proj, and return (B, T, d_model).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Five steps, a line or two each: project, split, attend, merge, project. The number of heads appears in the
# split, and nowhere else.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `F.linear(x, weights["q_proj"])` is x @ Wᵀ, of shape (B, T, d_model). Split: (B, n_heads, T, d_head). Attention keeps that shape. With
# `is_causal=True` the fused operator masks and scales by itself.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# q, k, v = split(x times each of the three matrices transposed); y = causal attention of q, k, v; return merge(y) times
# o_proj transposed.
#
# </details>


# %%
def multi_head_attention(
    x: torch.Tensor, weights: dict[str, torch.Tensor], n_heads: int
) -> torch.Tensor:
    """x: (B, T, d_model), weights: q_proj, k_proj, v_proj, o_proj. Returns (B, T, d_model)."""
    ### BEGIN SOLUTION
    q = split_heads(F.linear(x, weights["q_proj"]), n_heads)
    k = split_heads(F.linear(x, weights["k_proj"]), n_heads)
    v = split_heads(F.linear(x, weights["v_proj"]), n_heads)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(merge_heads(y), weights["o_proj"])
    ### END SOLUTION


# %%
check.multi_head_attention(multi_head_attention)

# %%
multi_head_attention = yours("multi_head_attention")

# %% [markdown]
# ### Exercise 4.4 · `head_contributions` · medium, 15 minutes
#
# The second equation of section 2, as an instrument: what does each head alone add to the output?
#
# 1. `heads` has shape (B, H, T, d_head), what the heads return, before the merge; `o_weight` has shape (d_model, H · d_head).
# 2. Return shape (B, H, T, d_model): for each head $y_h W_{o,h}^\top$.
# 3. Added up over the heads, the contributions are the output of the layer.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Rows of `o_weight` belong to numbers of the output, columns to numbers of the merged heads. Which columns does head h meet?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `o_weight[:, h * d_head : (h + 1) * d_head]` is (d_model, d_head). (B, T, d_head) @ (d_head, d_model) → (B, T, d_model), for each
# head; then `torch.stack(…, dim=1)`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# for each head h: head h times (its columns of o_weight, transposed); return the results stacked along axis 1.
#
# </details>


# %%
def head_contributions(heads: torch.Tensor, o_weight: torch.Tensor) -> torch.Tensor:
    """heads: (B, H, T, d_head), o_weight: (d_model, H · d_head). Returns (B, H, T, d_model)."""
    ### BEGIN SOLUTION
    columns = o_weight.unflatten(1, (heads.shape[1], -1))  # (d_model, H, d_head)
    return torch.einsum("bhtc,mhc->bhtm", heads, columns)
    ### END SOLUTION


# %%
check.head_contributions(head_contributions)

# %%
head_contributions = yours("head_contributions")

torch.manual_seed(0)
heads, o_weight = torch.randn(2, 3, 5, 4), torch.randn(12, 12)
layer = F.linear(merge_heads(heads), o_weight)
added = head_contributions(heads, o_weight).sum(dim=1)
print("sum of the contributions = the layer:", torch.allclose(added, layer, atol=1e-5))

# %% [markdown]
# ### Exercise 4.5 · `attention_costs` · easy, 10 minutes
#
# What does it cost to cut? Count three whole numbers for one layer of multi-head attention and one text of `seq` tokens:
#
# 1. `parameters`: the numbers in the four matrices, which have no biases.
# 2. `multiply_adds`: one for each product of two numbers that is added to a sum, in all matrix products: four projections, the
#    scores, the weighted means. Scale, mask and softmax are not counted. Each head computes the whole square of seq · seq
#    pairs, hidden ones included.
# 3. `weights`: the numbers that come out of the softmax, in all heads together.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The heads share d_model between them. Count for one head, with d_head = d_model / n_heads, then multiply by n_heads. In
# which of the three numbers does n_heads remain?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# A product of (a, b) with (b, c) takes a · b · c multiply-adds. A projection: (seq, d_model) with (d_model, d_model). Scores of a head:
# (seq, d_head) with (d_head, seq). Weighted means of a head: (seq, seq) with (seq, d_head).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# parameters = 4 · d_model²; multiply_adds = 4 · seq · d_model² + 2 · seq² · d_model; weights = n_heads · seq².
#
# </details>


# %%
def attention_costs(d_model: int, n_heads: int, seq: int) -> tuple[int, int, int]:
    """Returns parameters, multiply-adds and numbers in the weights of one layer, one text."""
    ### BEGIN SOLUTION
    parameters = 4 * d_model**2
    multiply_adds = seq * parameters + 2 * seq**2 * d_model
    return parameters, multiply_adds, n_heads * seq**2
    ### END SOLUTION


# %%
check.attention_costs(attention_costs)

# %%
attention_costs = yours("attention_costs")

print("heads  parameters  multiply-adds     weights")
for n_heads in (1, 6, 48):
    parameters, multiply_adds, weights = attention_costs(192, n_heads, seq=256)
    print(f"{n_heads:5}  {parameters:10,}  {multiply_adds:13,}  {weights:10,}")

# %% [markdown]
# Parameters and products do not depend on the number of heads at all. The weights do: each head has a square of its own.
# The check counted on PyTorch's layer, with its own counter of FLOPs (floating-point operations), where a multiply-add is two.

# %% [markdown]
# ## 4 · The same number, three ways
#
# Yours, plain loops, and PyTorch's layer, which stores the first three matrices in one and wants its mask turned. The loops
# show how little the heads have to do with each other: the line with `+=` adds each head's contribution to the output.


# %%
def in_loops(x: torch.Tensor, weights: dict[str, torch.Tensor], n_heads: int) -> torch.Tensor:
    """One text, one head at a time, one query at a time."""
    output, d_head = torch.zeros_like(x), x.shape[1] // n_heads
    for h in range(n_heads):
        piece = slice(h * d_head, (h + 1) * d_head)
        q, k, v = (x @ weights[name][piece].T for name in ("q_proj", "k_proj", "v_proj"))
        for t in range(len(x)):
            p = (k[: t + 1] @ q[t] / d_head**0.5).softmax(0)
            output[t] += weights["o_proj"][:, piece] @ (p @ v[: t + 1])
    return output


# %%
torch.manual_seed(0)
names = ("q_proj", "k_proj", "v_proj", "o_proj")
weights = {name: torch.randn(24, 24) / 24**0.5 for name in names}
x, hidden = torch.randn(2, 7, 24), torch.ones(7, 7).triu(1).bool()

layer = torch.nn.MultiheadAttention(24, 4, bias=False, batch_first=True)
in_proj = torch.cat([weights[name] for name in names[:3]])
layer.load_state_dict({"in_proj_weight": in_proj, "out_proj.weight": weights["o_proj"]})
theirs = layer(x, x, x, attn_mask=hidden, need_weights=False)[0]

mine = multi_head_attention(x, weights, 4)
loops = torch.stack([in_loops(text, weights, 4) for text in x])
print("yours = loops:", torch.allclose(mine, loops, atol=1e-5))
print("yours = nn.MultiheadAttention:", torch.allclose(mine, theirs, atol=1e-5))

# %% [markdown]
# ## 5 · Predict, then run: what does it cost to cut?
#
# One head of width 192, or 48 heads of width 4: the same parameters, the same multiply-adds. We time the attention inside
# the heads for 512 tokens, written out in three lines, and fused. The table above has two answers: by its multiply-adds, 48
# heads take as long as one; by its weights, 48 times as long. **Predict** for the three lines: how many times as long?

# %%
guess = predict(...)  # a factor


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    mask = torch.ones(q.shape[2], k.shape[2]).tril().bool()
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1) @ v


def milliseconds(function, *inputs: torch.Tensor) -> float:
    times = [time.perf_counter()]
    for _ in range(6):
        function(*inputs)
        times.append(time.perf_counter())
    return 1000 * min(end - start for start, end in pairwise(times))


# %%
# NBVAL_IGNORE_OUTPUT
torch.set_num_threads(1)
fused = partial(F.scaled_dot_product_attention, is_causal=True)
taken = {}
for n_heads in (1, 6, 48):
    inputs = [split_heads(each, n_heads) for each in torch.randn(3, 1, 512, 192)]
    taken[n_heads], quick = milliseconds(written_out, *inputs), milliseconds(fused, *inputs)
    print(f"{n_heads:2} heads: written out {taken[n_heads]:.1f} ms, fused {quick:.1f} ms")
guess.compare(f"{taken[48] / taken[1]:.0f}")

# %% [markdown]
# On two computers 48 heads took forty to sixty times as long as one, more on a busy one, with the same count of multiply-adds. The time goes into
# the weights: 48 · 512² = 12.6 million numbers, which are written to memory and read again for the scale, the mask, the
# softmax and the mean, against 0.26 million for one head. The fused operator never stores the weights, and was six to eight times
# as fast at 48 heads. It still has to raise e to 12.6 million scores.
#
# So neither "more heads cost more" nor "heads are free" is the whole truth. GPT-2 chose d_head = 64 and Llama 128, and as many
# heads as fit. That is a convention, not a law about language.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The trained pocket model has 4 layers with 6 query heads each, d_head = 32. Its keys and values have only 2 heads, each of which
# serves three query heads; that is chapter 9. Your `split_heads` is told: `n_heads` is 6 for queries, 2 for keys and
# values.

# %%
before_and_after(split_heads=split_heads, merge_heads=merge_heads)

# %% [markdown]
# Now the bare `reshape` in place of your merge, and everything else right. **Predict**: when the last token of 256 changes, at
# how many of the 255 earlier positions do the model's scores change?

# %%
guess = predict(...)  # 0 to 255

before_and_after(merge_heads=bare_merge)
wrong = transplant(pocket_model(), merge_heads=bare_merge)
passage = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text()))
windows = passage[: len(passage) // 256 * 256].view(-1, 256)  # the page behind every loss here
guess.compare(earlier_changes(wrong, windows[:1]))

# %% [markdown]
# All of them, although every head masked correctly. In the first layer, the pieces of the last token land in 6 rows, of which 5
# belong to earlier tokens: one row in each sixth of the text. In the next layer, causal attention carries a changed row to
# all later rows, and the merge carries those to earlier ones: 6, 218, 254 and 256 rows have changed after the four layers. A causal mask guarantees nothing if the rows that leave
# attention are not the rows that entered it.
#
# The loss of 5.72 is still far below the ln 4096 = 8.32 of a model that knows nothing. Training does not have to reveal such a merge,
# either: one published repository had it, and its training test passed (see the end). Here are the catalogued mistakes
# of both exercises that leave each text by itself, and one that does not, measured in the same way:

# %%
left_out = [
    *("view_straight_to_the_shape", "view_without_transposing"),  # in the model the same as reshape
    *("first_text_alone", "first_text_without_its_axis"),  # seen with several texts only
]
symptoms("split_heads", "merge_heads", without=left_out)

# %% [markdown]
# The mistakes that stop with an error are the harmless ones. Those with the right shape cost 1.0 to 2.2 nats, and the loss tells
# them apart badly. The second column, *leaks*, sorts them better. This *causality probe* counts, as before, the
# earlier positions that change with the last token of 256: where tokens are mixed, the future leaks; where numbers are shuffled inside
# a token, it does not. (The 6.31 mixes the texts of a batch, and the count reads a single text.)
#
# **What the model does not notice** is the order of the heads, as long as split and merge agree on it. Reversed in both:

# %%
before_and_after(
    split_heads=lambda x, n_heads: split_heads(x, n_heads).flip(1),
    merge_heads=lambda x: merge_heads(x.flip(1)),
)

# %% [markdown]
# A head's number is only a name: heads compute alone and their contributions are added, in any order. (Reversed queries still
# meet their own keys, because keys and values are reversed, too.) The check insists on head 0 first, since the stored
# `o_proj` does.
#
# ### All 24 heads
#
# Here is what each head looks at, in the model that splits and merges with your functions. Change the text as you like, up to 256 tokens; one
# that repeats itself shows more.

# %%
text = "Double, double, toil and trouble;\nFire burn, and cauldron bubble.\n" * 2

model = transplant(pocket_model(), split_heads=split_heads, merge_heads=merge_heads)
tokenizer = pocket_tokenizer()
tokens = tokenizer.encode(text or " ")
words = [tokenizer.decode([token]) for token in tokens]
maps = attention_weights(model, torch.tensor([tokens]))[:, 0]
labels = [readable(word) for word in words]
heads_and_one(maps, labels, (3, 2), HEADS)


# %%
# NBVAL_IGNORE_OUTPUT
def enlarge(layer: int, head: int) -> None:
    heads_and_one(maps, labels, (layer, head), HEADS)


sliders(enlarge, layer=(0, 3), head=(0, 5))

# %% [markdown]
# The picture shows head 3.2 on two lines that are spoken twice. In the second half of the text it has a diagonal of its own: at
# *·burn* it looks at the comma that followed the first *·burn*, and a comma is what comes next.
#
# Eight heads have names in this course (chapter 2), given for what they did on a page of *Macbeth*. A name is a claim, so measure it
# on **your** text: which share of a head's weight falls on the tokens of its name, over all queries that have such a
# token? `BEHAVIORS` marks these tokens, and `share` adds up.

# %%
shares = {}
for (layer, head), name in HEADS.items():
    each = share(maps, BEHAVIORS[name](words))  # (layers, heads)
    shares[f"{layer}.{head} {name}"] = each[layer, head].item(), each.mean().item()
named_heads(shares)

# %% [markdown]
# In our two lines every named head is above the mean of all heads, by factors of 1.8 to 6.2. The names are not the whole
# story: head 1.1 has none, and is ahead of 1.2 and 2.2 at previous tokens here; the two induction heads spend most of
# their weight elsewhere. And that a head *looks* somewhere does not say that the model needs it. So take heads away, one at a time.
#
# ### Silence
#
# A head adds $y_h W_{o,h}^\top$ to the output of its layer. Set its columns of $W_o$ to zero, and it adds nothing, while all
# others work as before. The rise of the loss on the held-out page measures how much the model misses it.


# %%
@torch.no_grad()
def loss_of(model: torch.nn.Module) -> float:
    logits = model(windows)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()


@torch.no_grad()
def without(heads: list[tuple[int, int]]) -> torch.nn.Module:
    """A copy of the model in which these (layer, head) add nothing: their columns are 0."""
    silent = deepcopy(model)
    for layer, head in heads:
        silent.blocks[layer].mixer.o_proj.weight[:, 32 * head : 32 * (head + 1)] = 0
    return silent


# %%
base = loss_of(model)
every = [(layer, head) for layer in range(4) for head in range(6)]
rises = {head: loss_of(without([head])) - base for head in every}
print(f"all heads at work: {base:.2f}; the 24 rises added up: {sum(rises.values()):.2f}")

# %% [markdown]
# One at a time, the 24 heads cost 0.48 nats together. **Predict** the rise when all 24 are silent at once.

# %%
guess = predict(...)  # the rise, in nats

rise = loss_of(without(every)) - base
guess.compare(f"{rise:.2f}")

# %% [markdown]
# More than three times the sum. While one head is silent, 23 others are at work, and some look at the same tokens: four have the
# name *previous token*. What one of them fails to write, another may, until it is gone as well. The map shows it layer by layer.

# %%
deltas = torch.tensor(list(rises.values())).view(4, 6)
layers = [loss_of(without([(layer, head) for head in range(6)])) - base for layer in range(4)]
importance_map(deltas, HEADS, torch.tensor(layers))

# %% [markdown]
# On the left, head 3.0 is missed most, which has the name *induction*. Head 3.5 is not missed at all, and without 0.2 this page goes a
# little better. On the right, layer 1 loses less than 0.1 nats when its heads are silenced one by one, added up (gray), and
# 0.60 as a whole, more than any other layer. **Importance measured one at a time says little about a group.**
#
# How many heads can go? Take the order of the map, least important first, and for comparison the other way around.

# %%
order = sorted(every, key=rises.get)
curves = {}
for label, heads in {"least important first": order, "most important first": order[::-1]}.items():
    curves[label] = {n: loss_of(without(heads[:n])) for n in (0, 4, 8, 12, 16, 20, 24)}
for n, loss in curves["least important first"].items():
    print(f"{n:2} silenced: loss {loss:.2f}, rise {loss - base:.3f}")
heads_dropped(curves, base)

# %% [markdown]
# Four of 24 heads can go for 0.008 nats, eight for 0.073; the last eight cost more than the first sixteen. With all 24
# gone the loss is 5.76: what the model knows about the next token from the current one alone. Compare the table of mistakes:
# **in this model, heads split by a bare `reshape` are worth no more than no attention at all**, 5.76 as well.
#
# **Predict**: what hurts more, silencing all 24 heads, or only the feed-forward layer of
# block 0, one of four such layers?

# %%
guess = predict(...)  # "heads" or "feed-forward"

silent = deepcopy(model)
silent.blocks[0].feedforward.down_proj.weight.data.zero_()
losses = {"heads": loss_of(without(every)), "feed-forward": loss_of(silent)}
print({name: round(loss, 2) for name, loss in losses.items()})
guess.compare(max(losses, key=losses.get))

# %% [markdown]
# The single feed-forward layer, by far: 8.58 is worse than the 8.32 of knowing nothing. Everything later was trained on what this
# layer writes (chapter 6), and silencing takes a layer away from a model that was never trained without it. It does not
# measure what a model without that layer could learn.
#
# One last question about heads: is a head that **writes much** also one that is missed? Your `head_contributions` gives the vector
# that each head adds, for every token of the page; we take its mean length.

# %%
recorded = []


def recording(x: torch.Tensor) -> torch.Tensor:
    recorded.append(x)
    return merge_heads(x)


with torch.no_grad():
    transplant(model, merge_heads=recording)(windows)
    o_weights = [block.mixer.o_proj.weight for block in model.blocks]
    added = [head_contributions(*pair) for pair in zip(recorded, o_weights, strict=True)]
lengths = torch.stack([each.norm(dim=-1).mean(dim=(0, 2)) for each in added])  # (layers, heads)
loudness(lengths, deltas, [(3, 0), (3, 3), (3, 5), (0, 2)])

# %% [markdown]
# The five longest are all in layer 3, and the longest of all, 3.0, is missed most. But 3.5 writes as much as its neighbors and is
# not missed: **length is only a rough guide**. Over the 24 heads, length and rise have a correlation of 0.61. Taking the head
# away measures importance itself, with the caveat about groups.

# %% [markdown]
# ## 7 · What to remember
#
# - A head is a run of d_head neighbors in the width. Split the last axis, **then** exchange tokens and heads; merge in the opposite
#   order.
# - The right shape proves nothing: a bare `view` gives the same shape with tokens mixed, and a bare merge leaks the future past a
#   correct mask.
# - Heads compute alone, and o_proj **adds** what they write: the layer is the sum of its heads' contributions.
# - The number of heads changes neither parameters nor multiply-adds, only the number of weights, H · T².
# - Silenced one at a time, hardly a head of the pocket model is missed; all together they are worth 1.66 nats.
#
# ### Three questions
#
# <details><summary>1. d_model = 768 and 12 heads. How many parameters has the layer, and how many with 24 heads?</summary>
#
# 4 · 768² = 2,359,296 both times. d_head goes from 64 to 32.
#
# </details>
# <details><summary>2. Your merge is wrong, and your test says merge(split(x)) = x. How can that be, and which test would have told you?</summary>
#
# The split is wrong in the opposite way, and the two cancel. Test each alone on numbers that spell their own place, such as
# 100 · token + number, or change the last token and count the earlier outputs that change.
#
# </details>
# <details><summary>3. You silence a head and the loss does not move. May you remove it together with nine others of that kind?</summary>
#
# Not without measuring all ten together: other heads may have stood in for it. Here the 24 single rises add up to 0.48, and
# together they are 1.66.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention.py`: `split_heads`, `merge_heads` and `forward` of `Attention`. Behaviors of heads:
# `pocketgpt/course/lab/heads.py`. In PyTorch: `nn.MultiheadAttention`, and `F.multi_head_attention_forward`, with which your
# function was compared.
#
# ### Papers
#
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762): section 3.2.2.
# - Michel, Levy and Neubig 2019, *Are Sixteen Heads Really Better than One?*,
#   [arXiv 1905.10650](https://arxiv.org/abs/1905.10650): heads silenced in a
#   translation model and in BERT.
# - Voita et al. 2019, *Analyzing Multi-Head Self-Attention: Specialized Heads Do the Heavy Lifting, the Rest Can Be Pruned*,
#   [arXiv 1905.09418](https://arxiv.org/abs/1905.09418).
# - Olsson et al. 2022, *In-context Learning and Induction Heads*, [arXiv 2209.11895](https://arxiv.org/abs/2209.11895).
# - The mistakes of this chapter in published code: heads split without the exchange,
#   [FuxiCTR #30](https://github.com/reczoo/FuxiCTR/issues/30); merged without it, in a repository whose training test still
#   passed, [transformer-from-scratch #6](https://github.com/jsbaan/transformer-from-scratch/pull/6).
#
# **Next**: chapter 5 asks what the layers add their vectors to, the residual stream, and what keeps its size in bounds.
