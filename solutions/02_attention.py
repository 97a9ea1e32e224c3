# %% [markdown]
# # 2 · Attention
#
# **At the end** you have a function of a dozen lines, `attention`, that runs inside a trained model: it reads
# Shakespeare with your code, and you watch which word looks at which.
#
# **Time**: about 75 minutes. **You need**: chapter 1 (tokens, and the table that turns each into a vector), and what a
# matrix product is.
#
# Run the cells from top to bottom with Shift+Enter. Here is the place of this chapter in the whole model: the orange parts.

# %%
import math

import torch
import torch.nn.functional as F

from pocketgpt.course.ch02_attention.figures import attention_grid, attention_map, looks_at
from pocketgpt.course.ch02_attention.figures import soft_lookup
from pocketgpt.course.figures.style import readable
from pocketgpt.course.lab import HEADS, attention_weights, before_and_after, check, model_map
from pocketgpt.course.lab import pocket_model, pocket_tokenizer, predict, sliders, symptoms, yours
from pocketgpt.models.presets import preset

model_map(preset("pocket-shakespeare"), highlight="attention")

# %% [markdown]
# After the embedding, each token is a vector that knows one thing: which token it is. In *"Romeo loved Juliet, and **she**
# wept"*, the vector of *she* has no idea of Juliet. Something has to carry information from one position to another. In a
# transformer that something is attention, and it is the **only** part that does: every other layer works on each token
# alone.

# %% [markdown]
# ## 1 · The smallest example: a soft lookup
#
# A Python dictionary finds the one key that equals your query, and returns its value:
#
# ```python
# {"king": 10, "queen": 20, "sword": 30}["king"]   # 10
# ```
#
# Attention is a dictionary for vectors, where no key ever equals the query. So it asks of **every** key *how well do you
# fit?*, and returns a mean of **all** values in which a key that fits better counts for more.
#
# Follow one query by hand. It is a vector of four numbers, and so is each of the three keys. How well they fit is their
# dot product, divided by 2 (which is √4; chapter 3 is about that 2).
#
# | | vector | dot product with the query | divided by 2 |
# |---|---|---|---|
# | **query** | (2, 0, 0, 2) | | |
# | key 0 | (1, 0, 0, 1) | 2·1 + 2·1 = 4 | 2 |
# | key 1 | (0, 1, 1, 0) | 0 | 0 |
# | key 2 | (1, 0, 0, 0) | 2·1 = 2 | 1 |
#
# The softmax turns the scores (2, 0, 1) into weights that are positive and sum to 1: exp gives (7.39, 1.00, 2.72), their
# sum is 11.11, and each divided by the sum gives (0.67, 0.09, 0.24). With the values 10, 20 and 30 the answer is
# 0.67 · 10 + 0.09 · 20 + 0.24 · 30 = 15.8: most like the value of key 0, with some of the others mixed in.

# %%
query = torch.tensor([2.0, 0.0, 0.0, 2.0])
keys = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
values = torch.tensor([10.0, 20.0, 30.0])

scores = keys @ query / 2
weights = scores.softmax(dim=0)
print("scores ", scores.tolist())
print("weights", [round(w, 2) for w in weights.tolist()])
print("answer ", round((weights @ values).item(), 2))

# %%
soft_lookup(scores, weights, values)

# %% [markdown]
# Two things to notice. Nothing was decided: key 1 does not fit at all and still got 9 %. And every step has a derivative,
# so a model can **learn** which queries, keys and values to make. That is the reason to prefer a soft lookup to an exact
# one.
#
# In a model each token makes all three vectors out of its own, with three learned matrices: a *query* (what am I looking
# for?), a *key* (what do I offer?) and a *value* (what do I hand over?). Then all queries are answered at once.

# %% [markdown]
# ## 2 · The equation
#
# $$\text{Attention}(Q, K, V) = \text{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_\text{head}}} + M\right) V$$
#
# | symbol | what | shape |
# |---|---|---|
# | $Q$ | one query per row | (T, d_head) |
# | $K$ | one key per row | (S, d_head) |
# | $V$ | one value per row | (S, d_head) |
# | $QK^\top$ | the score of every query with every key | (T, S) |
# | $M$ | the mask: 0 where a query may look, −∞ where not | (T, S) |
# | softmax(…) | the weights: each **row** sums to 1 | (T, S) |
# | the result | for every query the mean of the values | (T, d_head) |
#
# T counts queries and S counts keys. When a text looks at itself they are equal; when a model writes token by token
# (chapter 12) there is one query and many keys. Other axes may come first, such as batch and heads: write your functions
# with `...` or negative axes, and they accept any number of them.
#
# **The mask.** A model that predicts the next token must not see it. So position t may look at positions 0 … t and at
# nothing later. In code, a mask is a boolean tensor that is **True where looking is allowed**, and −∞ appears only when
# it is used.
#
# **The numerical trap.** exp(−∞) is 0, so a hidden key gets the weight 0, exactly. But a row in which *everything* is
# hidden becomes 0/0. The next cell shows what that does.

# %%
nothing_allowed = torch.full((1, 3), -math.inf)
print(nothing_allowed.softmax(dim=-1))

# %% [markdown]
# One NaN is enough to turn a whole model's output into NaN, layer by layer. Rows without any allowed key do occur, for
# instance with *padding*, which fills up the shorter texts of a batch. We say: such a query gets **zeros**.

# %% [markdown]
# ## 3 · Your turn
#
# Four functions, each a few lines. Write each one where it says `YOUR CODE HERE`, run it, then run the check below it.
# A check draws new random inputs every time, and when an answer is wrong it tells you which mistake it resembles. Use
# PyTorch's operations throughout, so that gradients flow: chapter 3 trains with such functions.
#
# ### Exercise 2.1 · `attention_scores` · easy, 10 minutes
#
# 1. `q` has shape (…, T, d_head), `k` has shape (…, S, d_head), with the same axes in front.
# 2. Return the dot product of every query with every key, divided by √d_head: shape (…, T, S).
# 3. Row t belongs to query t, column s to key s.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A matrix product of rows with columns computes all dot products at once. The keys are rows; you need them as columns.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (…, T, d_head) @ (…, d_head, S) → (…, T, S). Swap only the last two axes of `k`: `k.transpose(-2, -1)`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# scores = q times (k with its last two axes swapped); return scores divided by the square root of the size of the last axis of q.
#
# </details>


# %%
def attention_scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """q: (..., T, d_head), k: (..., S, d_head). Returns (..., T, S)."""
    ### BEGIN SOLUTION
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    ### END SOLUTION


# %%
check.attention_scores(attention_scores)

# %% [markdown]
# ### Exercise 2.2 · `masked_softmax` · medium, 20 minutes
#
# 1. `scores` has shape (…, T, S); `mask` is boolean and has the shape (T, S) or that of the scores.
# 2. Return weights of the shape and dtype of `scores`. Where the mask is False the weight is exactly 0.
# 3. In each row, the weights of the allowed keys sum to 1, in the proportions of the softmax.
# 4. A row with nothing allowed is all zeros, not NaN.
# 5. Scores of any size must give right weights, such as 1000 or −20,000. `torch.softmax` takes care of that, and you may
#    use it.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Hide first, softmax second. A score of −∞ becomes a weight of 0, and the others share the 1 among themselves.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `scores.masked_fill(~mask, -math.inf)` keeps (…, T, S), and a (T, S) mask broadcasts over the axes in front. The softmax runs
# over the keys, `dim=-1`. Rows of NaN remain where nothing was allowed: `nan_to_num` or `torch.where` replaces them.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# hidden = scores with −∞ wherever the mask is False; weights = softmax of hidden over the last axis; return weights with every
# NaN replaced by 0.
#
# </details>


# %%
def masked_softmax(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """scores: (..., T, S), mask: bool, True where allowed. Returns weights (..., T, S)."""
    ### BEGIN SOLUTION
    hidden = scores.masked_fill(~mask, -math.inf)
    return hidden.softmax(dim=-1).nan_to_num()
    ### END SOLUTION


# %%
check.masked_softmax(masked_softmax)

# %% [markdown]
# ### Exercise 2.3 · `causal_mask` · easy, 10 minutes
#
# 1. `query_positions` has shape (T,) and `key_positions` shape (S,): whole numbers, the place of each in the text.
# 2. Return a boolean tensor of shape (T, S): True where the query may look at the key.
# 3. A query may look at its own position and at earlier ones, never at later ones.
# 4. Positions need not start at 0, and T and S need not be equal: when a model writes token number 7, there is one
#    query, at position 7, and eight keys, at positions 0 to 7.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# No loop and no `tril` is needed: it is one comparison between two positions, made for all pairs.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `query_positions[:, None]` has shape (T, 1) and `key_positions[None, :]` has shape (1, S). Comparing them gives (T, S).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return (key positions as a row) ≤ (query positions as a column).
#
# </details>


# %%
def causal_mask(query_positions: torch.Tensor, key_positions: torch.Tensor) -> torch.Tensor:
    """query_positions: (T,), key_positions: (S,). Returns bool (T, S), True where allowed."""
    ### BEGIN SOLUTION
    return key_positions[None, :] <= query_positions[:, None]
    ### END SOLUTION


# %%
check.causal_mask(causal_mask)

# %% [markdown]
# ### Exercise 2.4 · `attention` · medium, 10 minutes
#
# Put the pieces together. If one of them does not pass its check, the next cell puts a finished version in its place, here
# and in all later chapters: being stuck on one exercise never locks the rest.

# %%
attention_scores = yours("attention_scores")
masked_softmax = yours("masked_softmax")
causal_mask = yours("causal_mask")

# %% [markdown]
# 1. `q` (…, T, d_head), `k` and `v` (…, S, d_head), `mask` boolean (T, S).
# 2. Return **two** tensors: the output (…, T, d_head), and the weights (…, T, S), which the pictures below need.
# 3. The weights are computed from queries and keys; the output is the weighted mean of the **values**.
# 4. PyTorch's own attention is not allowed, as it would be the whole exercise.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Three lines: scores, weights, sum. The weighted sum over all keys is again a matrix product.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# weights (…, T, S) @ v (…, S, d_head) → (…, T, d_head).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# weights = masked_softmax(attention_scores(q, k), mask); return weights times v, and weights.
#
# </details>


# %%
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """q: (..., T, d_head), k, v: (..., S, d_head). Returns the output and weights (..., T, S)."""
    ### BEGIN SOLUTION
    weights = masked_softmax(attention_scores(q, k), mask)
    return weights @ v, weights
    ### END SOLUTION


# %%
check.attention(attention)

# %%
attention = yours("attention")

# %% [markdown]
# ## 4 · The same number, three ways
#
# Yours works on whole matrices. Written as plain loops, one query and one key at a time, the equation reads like the
# table in section 1. And PyTorch has it as one fused operator, `F.scaled_dot_product_attention`, which is what real
# models call. All three must agree.


# %%
def attention_in_loops(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention of one head, one query at a time."""
    output = torch.zeros_like(q)
    for t in range(len(q)):
        scores = [q[t] @ k[s] / math.sqrt(q.shape[1]) for s in range(t + 1)]  # only 0 … t
        total = sum(math.exp(score) for score in scores)
        for s, score in enumerate(scores):
            output[t] += math.exp(score) / total * v[s]
    return output


# %%
torch.manual_seed(0)
q, k, v = (torch.randn(7, 16) for _ in range(3))
positions = torch.arange(7)

mine, _ = attention(q, k, v, causal_mask(positions, positions))
loops = attention_in_loops(q, k, v)
fused = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
print("yours = loops:", torch.allclose(mine, loops, atol=1e-5))
print("yours = fused:", torch.allclose(mine, fused, atol=1e-5))

# %% [markdown]
# ## 5 · Predict, then run: does attention know the order of words?
#
# Take six random token vectors, let each look at all the others (no mask), and keep the output of the **last** token. Now
# shuffle the first five and do it again. The last token is the same, and so is the *set* of the others.
#
# By how much will the last token's output change, relative to its length? Write a number into the cell: 0 means *not at
# all*, and 1 that the change is as long as the vector itself.

# %%
guess = predict(...)  # a number between 0 and 1

torch.manual_seed(1)
x = torch.randn(6, 16)
shuffled = x[[3, 0, 4, 2, 1, 5]]
everything = torch.ones(6, 6, dtype=torch.bool)
before, after = (attention(tokens, tokens, tokens, everything)[0][-1] for tokens in (x, shuffled))
change = ((after - before).norm() / before.norm()).item()
guess.compare(f"{change:.3f}")

# %% [markdown]
# Nothing changes: a weighted mean does not care in which order its terms are added. To attention without positions,
# *"Romeo loves Juliet"* and *"Juliet loves Romeo"* are the same bag of words. A causal mask gives a little order away
# (each token sees a different set), but where a word stood *within* that set stays unknown. Chapters 7 and 8 put
# positions in; the trained model below has them.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The model that ships with the course is a small GPT that has read Shakespeare's plays: 4 layers, each with 6 attention
# heads that look at the text side by side (chapter 4). Here is what its heads look at when it reads a line, **computed by
# your `attention`**, which replaces the model's own in all 24 places.
#
# Change the text in the first line as you like.

# %%
text = "ROMEO:\nWhat lady is that, which doth enrich the hand\nOf yonder knight?"

tokenizer = pocket_tokenizer()
tokens = torch.tensor([tokenizer.encode(text or " ")])
words = [readable(tokenizer.decode([token])) for token in tokens[0].tolist()]
maps = attention_weights(pocket_model(), tokens, attention)[:, 0]
print("tokens:", len(words))
print("weights:", tuple(maps.shape), "= (layers, heads, queries, keys)")

# %%
title = "Heads look at different tokens: each square is one head, bright where it looks"
attention_grid(maps, title, HEADS)

# %% [markdown]
# Read one square: row = the token that looks, column = the token looked at, dark = weight 0. Everything above the diagonal
# is dark: that is your causal mask.
#
# Nobody told these heads what to do, and some have specialized. The names are ours, given for what a head does on average
# over a page of *Macbeth* (`pocketgpt/course/lab/heads.py`); in a single line it may do something else.
#
# - **previous token**: a bright line below the diagonal.
# - **start of line**: bright columns at line breaks. Verse has lines, and whoever writes it must know where one began.
# - **induction**: what followed earlier occurrences of the token that looks, so that the head can guess what comes now.
#   Little occurs twice in our line, so head 3.0 mostly rests on the first line break. Try a text that repeats itself.
# - The heads of layer 0 have no favorites: they spread their weight over all that came before, and pass on its mean.
#
# Here is one head, larger, and below it all of them, with sliders.


# %%
def show(layer: int, head: int) -> None:
    title = f"Layer {layer}, head {head}: a row looks at the columns where it is bright"
    attention_map(maps[layer, head], words, title)


show(2, 1)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show, layer=(0, 3), head=(0, 5))

# %% [markdown]
# ### Which word does this token look at?
#
# One row of such a map, as bars: what *·hand* looks at. Before you run the cell, predict the token with the tallest bar
# for head 2.1, a previous-token head, and how tall it is.


# %%
guess = predict(...)  # a token and a weight


def show_row(layer: int, head: int, position: int) -> None:
    row = maps[layer, head, position, : position + 1]
    most = words[row.argmax()]
    title = f"Layer {layer}, head {head}: {words[position]} looks at {most} most ({row.max():.0%})"
    looks_at(row, words[: position + 1], title)


position = words.index("·hand") if "·hand" in words else len(words) - 1
show_row(2, 1, position)
show_row(0, 0, position)
weight, place = maps[2, 1, position].max(dim=0)
guess.compare((words[place], round(weight.item(), 2)))

# %% [markdown]
# Here head 2.1 does what its name says: nearly all of its weight is on the token before. A name is true on average,
# though, and a row need not obey it; look for one with the slider. Head 0.0 looks at everything a little: with weights this even it computes, for
# every position, nearly the mean of all values so far.

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_row, layer=(0, 3), head=(0, 5), position=(0, len(words) - 1))

# %% [markdown]
# ### Does it still write?
#
# Pictures can look right and be wrong. So now the test that counts: the trained model predicts a page of *Macbeth*, which
# it has never seen, and continues a prompt. First with its own attention, then with yours in every layer. The loss is the
# mean of −ln(probability of the right next token), in nats: lower is better, and a model that knows nothing has
# ln(4096) = 8.32. The line also counts positions whose scores change when a later token does: it must be 0.

# %%
before_and_after(attention=attention)

# %% [markdown]
# And now a transplant that must go wrong. Suppose `causal_mask` let every token see the whole text, the future included.
# The right answer is then in plain sight, one position to the right. Predict: will the trained model's loss **fall**,
# because it can peek, or **rise**?

# %%
guess = predict(...)  # "fall" or "rise"


def sees_everything(query_positions: torch.Tensor, key_positions: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(query_positions), len(key_positions), dtype=torch.bool)


before_and_after(causal_mask=sees_everything, guess=guess)

# %% [markdown]
# It rises, and every position now sees a later token. The weights were trained where no future exists: a head that has
# learned *look at the token most like what I need* now finds it anywhere in the text, and the mean it returns is one that
# the next layers have never met. A model **trained** without the mask is another matter: it can learn to copy the answer
# from the right, which makes its loss small, and then it cannot write, because when it writes there is nothing to the
# right. So a low loss does not prove the mask right. The count does.
#
# Here is what each known mistake in a causal mask does to the trained model. "leaks" is that count, at the end of a short text:

# %%
twins = "both_as_columns", "both_as_rows", "axes_not_separated_queries_first", "one_row_for_all"
sizes = "square_of_the_queries", "square_of_the_keys", "counted_from_the_first_query"
corners = "rows_and_columns_above_the_diagonal", "rows_and_columns_from_the_diagonal_on"
symptoms("causal_mask", without=twins + sizes + corners)  # these repeat other rows

# %% [markdown]
# A mask that reaches one token too far **lowers** the loss, from 4.10 to 2.88: each token sees the one it has to predict. Only the count
# gives it away. Nine mistakes change nothing at all, because here positions start at 0 and come in order; with a cache (chapter 12) they will
# not. That is why the check draws other positions: the model shows what a mask is for, and the check whether yours is right.

# %% [markdown]
# ## 7 · What to remember
#
# - Attention is a soft lookup: scores (how well do query and key fit), weights (softmax over the **keys**),
#   a weighted mean of the **values**.
# - The mask is True where looking is allowed. It acts on the scores, **before** the softmax, as −∞.
# - Causal means *key position ≤ query position*. Compare positions, not rows and columns, and the same function serves a
#   model that writes token by token.
# - Without positions, attention sees a set and not a sequence.
# - It is the only place where tokens exchange anything.
#
# ### Three questions
#
# <details><summary>1. You multiply the weights by the mask after the softmax. Hidden keys get weight 0. What is wrong?</summary>
#
# The rows no longer sum to 1: hidden keys took part in the softmax and kept their share. The output of early positions,
# which have many hidden keys, shrinks most. And those shares still depend on the future.
#
# </details>
# <details><summary>2. T = S = 1,000 and d_head = 64. How many numbers are in Q, K, V and the output together, and how many in the weights?</summary>
#
# 4 · 1,000 · 64 = 256,000, against 1,000 · 1,000 = 1,000,000. The weights grow with the square of the length. Chapter 13 computes
# the output without ever storing them.
#
# </details>
# <details><summary>3. Why can the weights never be all zero, even if no key fits, and what do trained heads do about it?</summary>
#
# Each row of a softmax sums to 1, so something must be looked at. Heads of large models learn to look at the very first token
# when they have nothing to say, an *attention sink* (Xiao et al. 2023). Our small model has one: head 3.0, which finds
# nothing to copy in the line above, rests on the first line break.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention_backends.py`: `causal_mask`, `attention` (the readable form, as yours), `fused_attention` (what the model
# runs). `F.scaled_dot_product_attention` in PyTorch.
#
# ### Papers
#
# - Vaswani et al. 2017, *Attention Is All You Need*, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762): eq. 1 is the
#   equation of this chapter.
# - Bahdanau, Cho and Bengio 2014, *Neural Machine Translation by Jointly Learning to Align and Translate*,
#   [arXiv 1409.0473](https://arxiv.org/abs/1409.0473): where the soft lookup comes from.
# - Xiao et al. 2023, *Efficient Streaming Language Models with Attention Sinks*,
#   [arXiv 2309.17453](https://arxiv.org/abs/2309.17453): a bright first column, in models much larger than ours.
#
# **Next**: chapter 3 asks why the scores are divided by √d_head, and what happens to a model that forgets it.
