# %% [markdown]
# # 12 · KV cache
#
# **At the end** you have written the layer that lets a model write without reading its text again, you have measured what
# that saves and what it does not, and you have run the classic mistakes inside a trained model.
#
# **Time**: about 85 minutes. **You need**: chapter 8 (rotation by position), chapter 9 (query heads that share keys and
# values), chapter 11 (the loop that writes).
#
# Here is the place of the cache: inside attention, between the keys and values and the scores.

# %%
import time
from dataclasses import replace

import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch12_kv_cache.figures import exponent, filling, logit_errors, ring
from pocketgpt.course.ch12_kv_cache.figures import time_per_token
from pocketgpt.course.lab import before_and_after, check, model_map, pocket_model, pocket_tokenizer
from pocketgpt.course.lab import predict, read_with_cache, recall, sliders, symptoms, transplant
from pocketgpt.course.lab import yours
from pocketgpt.inference.generate import generate
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

torch.set_num_threads(1)
model_map(preset("pocket-shakespeare"), highlight="kv_cache")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. A loop without a cache writes 3 tokens after a prompt of 4. How many tokens pass through the model?</summary>
#
# 4, then 5, then 6: 15. The last new token is never read.
#
# </details>
# <details><summary>2. A key at position 5 is rotated by the angles of position 5, and then once more. At which position does a
# query see it?</summary>
#
# At 10: turns add up. Its distance is wrong by 5, and that of a key at position 50 by 50.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(12)

# %% [markdown]
# ## 1 · The smallest example
#
# Chapter 11's loop gives the model the whole text for every new token. How much of that is new? Here are the keys that
# enter attention in the four layers of the shipped model: for a text of six tokens, and for the same text with one more.

# %%
model, tokenizer = pocket_model(), pocket_tokenizer()
passage = torch.tensor(tokenizer.encode(asset("held-out.txt").read_text(encoding="utf-8")))
windows = passage[:1280].view(5, 256)  # five texts of 256 tokens


def keys_of(tokens: torch.Tensor) -> torch.Tensor:
    cache = new_cache(model, batch=1)
    with torch.no_grad():
        model(tokens, cache)
    return torch.stack([layer.tensors[0][:, :, : tokens.shape[1]] for layer in cache.layers])


six, seven = keys_of(windows[:1, :6]), keys_of(windows[:1, :7])
print("keys of seven tokens:", tuple(seven.shape), "(layers, B, H_kv, T, d_head)")
print("those of the first six are the same:", torch.allclose(seven[..., :6, :], six, atol=1e-4))

# %% [markdown]
# **The past does not change.** A token sees itself and earlier ones only, in every layer, so nothing about it depends on what comes
# later. Its keys and values can be kept. Its query, its feed-forward and its logits are needed once.
#
# A prompt of 3 tokens and 2 new ones, by hand. The first new token comes out of the pass over the prompt, and the last one is
# never read, so there are two passes:
#
# | | tokens that pass through the model | keys that they read, in each head |
# |---|---|---|
# | no cache | 3, then 4: **7** | 1 + 2 + 3, then 1 + 2 + 3 + 4: **16** |
# | cache | 3, then 1: **4** | 1 + 2 + 3, then 4: **10** |
#
# With a cache every token passes once. But token number n still reads n keys.

# %% [markdown]
# ## 2 · The equation
#
# One layer gets the vectors x of T new tokens; S tokens came before, and the first new one is at position s. In each head:
#
# $$K \leftarrow [\,K\,;\;R_s k\,], \qquad V \leftarrow [\,V\,;\;v\,], \qquad
# y = \text{softmax}\!\left(\frac{(R_s q)\,K^\top}{\sqrt{d_\text{head}}} + M\right) V$$
#
# | symbol | what | shape |
# |---|---|---|
# | $q$, $k$, $v$ | queries, keys, values of the new tokens | (T, d_head) |
# | $R_s$ | rotation of the new tokens, at positions s, s + 1, … s + T − 1 | – |
# | $K$, $V$ | kept keys, rotated already, and kept values; `;` puts the new rows below | (S, d_head), then (S + T, d_head) |
# | $M$ | 0 where a query may look, −∞ elsewhere | (T, S + T) |
#
# **Prefill**: T is the length of the prompt, and S = 0. **Decode**: T = 1. In between are chunks, for example a second question in a conversation: T = 20 after S = 500.
#
# **What is kept**: 2 · n_layers · n_kv_heads · d_head numbers for each token, the formula of chapter 9. For our model that is
# 2 · 4 · 2 · 32 = 512 numbers, 2,048 bytes in float32.
#
# **The trap** is the mask. Chapter 4's triangle, and PyTorch's `is_causal=True`, suppose that the first query is the
# first token. With a cache it is not. Here is one query, at position 4, with five equal keys; values are the five unit vectors, so that
# the output is the weights:

# %%
q, keys, values = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 5, 2), torch.eye(5)[None, None]
for is_causal in (True, False):
    weights = F.scaled_dot_product_attention(q, keys, values, is_causal=is_causal)
    print(f"is_causal={is_causal!s:5}:", [round(w, 2) for w in weights.flatten().tolist()])

# %% [markdown]
# With the flag, the newest token sees the oldest alone, and no error is raised: the triangle begins at the top left corner. Without it, one query is right, since the past is all there is, but a chunk of two is wrong. So with a cache the mask is made **from positions**.

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 12.1 · `append_kv` · easy, 5 minutes
#
# 1. `kept` has shape (B, H, S, d_head), keys or values; S may be 0. `new` has shape (B, H, T, d_head).
# 2. Return (B, H, S + T, d_head): in every head, the kept tokens and then the new ones.
# 3. A new tensor; the inputs stay as they are.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The order is that of the text, and nothing is forgotten.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `torch.cat` makes one axis longer. Tokens are axis 2.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return kept and new, joined along axis 2.
#
# </details>


# %%
def append_kv(kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """kept: (B, H, S, d_head), new: (B, H, T, d_head). Returns (B, H, S + T, d_head)."""
    ### BEGIN SOLUTION
    return torch.cat((kept, new), dim=2)
    ### END SOLUTION


# %%
check.append_kv(append_kv)

# %%
append_kv = yours("append_kv")

# %% [markdown]
# ### Exercise 12.2 · `decode_attention` · medium, 15 minutes
#
# 1. `q` has shape (B, H, T, d_head). `keys` and `values` have shape (B, H_kv, S, d_head), one row for each slot of a cache. H is a
#    multiple of H_kv, and neighboring query heads share one, as in chapter 9.
# 2. `query_positions` (T,) and `key_positions` (S,) are whole numbers: where each is in the text. Slots may be in **any order**, and a
#    slot with key position −1 is empty.
# 3. A query sees keys at its own position and earlier ones, and no empty slots. Its own key is always there.
# 4. `window` is None or a whole number from 1 up. With a window, a query sees at most `window` positions, its own among them:
#    the distance is below `window`.
# 5. Return softmax(scores/√d_head) · values for each query: (B, H, T, d_head). `F.scaled_dot_product_attention` is allowed here.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Everything is in the mask, and the mask is made from distances, query position minus key position. Neither T nor the order of the
# slots says anything.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `query_positions[:, None] - key_positions` has shape (T, S). A boolean mask (T, S) goes in as `attn_mask=`, True where a query may look, and
# `enable_gqa=True` shares the key/value heads. An empty slot at −1 looks like a key from the distant past.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# distance = query positions as a column − key positions as a row; visible = distance ≥ 0 and key position ≥ 0; with a window, also
# distance < window; return the fused attention with this mask.
#
# </details>


# %%
def decode_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    query_positions: torch.Tensor,
    key_positions: torch.Tensor,
    window: int | None,
) -> torch.Tensor:
    """q: (B, H, T, d_head), keys, values: (B, H_kv, S, d_head). Returns (B, H, T, d_head)."""
    ### BEGIN SOLUTION
    distance = query_positions[:, None] - key_positions
    visible = (distance >= 0) & (key_positions >= 0)
    if window is not None:
        visible = visible & (distance < window)
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=visible, enable_gqa=True)
    ### END SOLUTION


# %%
check.decode_attention(decode_attention)

# %%
decode_attention = yours("decode_attention")

# %% [markdown]
# ### Exercise 12.3 · `cached_layer` · hard, 25 minutes
#
# The whole layer, for a prompt, a chunk or a single token.
#
# 1. `x` has shape (B, T, d_model): the new tokens. `weights` has "q_proj" (H · d_head, d_model), "k_proj" and "v_proj"
#    (H_kv · d_head, d_model), "o_proj" (d_model, H · d_head), stored as (out, in), so `F.linear(x, weights["q_proj"])`.
# 2. `kept` is the pair (keys, values), each (B, H_kv, S, d_head). The keys in it are rotated already. S is 0 for a prompt.
# 3. `start` is the position of the first new token. The kept tokens are the S before it, at start − S … start − 1. (S is smaller than
#    `start` if the oldest were dropped.)
# 4. `rope(x, positions)` is given: it rotates (B, heads, T, d_head) at `positions`, a tensor (T,) of whole numbers.
# 5. Project x, and split it into heads of width d_head, with the shapes (B, H, T, d_head) and (B, H_kv, T, d_head). Rotate the new queries
#    and the new keys. Append. Attend, without a window. Merge the heads and apply o_proj.
# 6. Return (output, (keys, values)): the output (B, T, d_model), and the longer cache (B, H_kv, S + T, d_head), with H_kv heads.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Only what is new is projected and rotated. What was kept is used as it is.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# d_head is `kept[0].shape[-1]`. `y.unflatten(-1, (-1, d_head)).transpose(1, 2)` splits any of the three projections, and
# `y.transpose(1, 2).flatten(2)` merges. New positions: `torch.arange(start, start + T)`; all key positions begin at start − S.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# q, k, v = projected and split; keys = append_kv(kept keys, rope(k, new positions)); values = append_kv(kept values, v);
# y = decode_attention(rope(q, new positions), keys, values, new positions, all key positions, None);
# return o_proj of the merged y, and (keys, values).
#
# </details>


# %%
def cached_layer(x: torch.Tensor, weights: dict, kept: tuple, start: int, rope):
    """x: (B, T, d_model), kept: two of (B, H_kv, S, d_head). Returns (output, (keys, values))."""
    ### BEGIN SOLUTION
    d_head, stop = kept[0].shape[-1], start + x.shape[1]
    projected = [F.linear(x, weights[name]) for name in ("q_proj", "k_proj", "v_proj")]
    q, k, v = [each.unflatten(-1, (-1, d_head)).transpose(1, 2) for each in projected]
    positions = torch.arange(start, stop)
    keys, values = append_kv(kept[0], rope(k, positions)), append_kv(kept[1], v)
    key_positions = torch.arange(start - kept[0].shape[2], stop)
    y = decode_attention(rope(q, positions), keys, values, positions, key_positions, None)
    return F.linear(y.transpose(1, 2).flatten(2), weights["o_proj"]), (keys, values)
    ### END SOLUTION


# %%
check.cached_layer(cached_layer)

# %% [markdown]
# Let the shipped model read the first twelve tokens of three texts with your layer, and count what the layer hands back.

# %%
cached_layer = yours("cached_layer")


def kept_while_reading(parts) -> list:
    """What your layers hand back, call by call, while the model reads."""
    returned = []

    def watched(*inputs):
        output, kept = cached_layer(*inputs)
        returned.append(kept)
        return output, kept

    watching = transplant(model, cached_layer=watched)
    cache = new_cache(watching, batch=3)
    with torch.no_grad():
        for part in parts:
            watching(part, cache)
    return returned


returned = kept_while_reading(windows[:3, :12].split([5] + [1] * 7, dim=1))  # a prompt, 7 tokens
print("after each call:", [keys.shape[2] for keys, _ in returned[::4]], "tokens in layer 1")

# %%
config, mixer = model.config, model.config.mixer
formula = 2 * config.n_layers * mixer.n_kv_heads * mixer.d_head * 12 * 3 * 4  # tokens, texts, bytes
yours_bytes = sum(each.nbytes for kept in returned[-4:] for each in kept)
print(f"formula {formula:,} bytes, yours {yours_bytes:,} bytes")

static = new_cache(model, batch=3)
with torch.no_grad():
    model(windows[:3, :12], static)
allocated = sum(each.nbytes for layer in static.layers for each in layer.tensors)
slots = static.layers[0].tensors[0].shape[2]
print(f"the library's: {allocated:,} bytes = {slots} slots · {formula // 12:,} bytes per token")

# %% [markdown]
# Yours has exactly the bytes of the formula, and `torch.cat` copies all of them at every step. The library's cache is **static**: it reserves slots, 256 at a time, so nothing moves until they are full; a mask hides the empty ones.

# %% [markdown]
# ### Exercise 12.4 · `ring_positions` · medium, 15 minutes
#
# With a sliding window of W tokens, a cache needs W slots, however long the text becomes. The token at position p goes to slot p mod W,
# where it replaces the one that has left the window. No other token moves. To make the mask, one must know which position is in
# which slot.
#
# 1. `n_seen` tokens, at positions 0 … n_seen − 1, were written into a ring of `window` slots. `n_seen` may be 0.
# 2. Return a tensor of shape (window,), whole numbers: the position in each slot, −1 if it is empty.
# 3. Example: ring_positions(6, 4) is (4, 5, 2, 3), and ring_positions(2, 4) is (0, 1, −1, −1).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Write them one by one, as the cache does. A slot has the last position that was written to it.
#
# </details>
# <details><summary>Hint 2 · the arithmetic</summary>
#
# Without a loop: the newest position is n_seen − 1. How far back from it is the last position that belongs to slot i? Between 0 and
# window − 1, and it is (n_seen − 1 − i) mod window. A negative result means that nothing came yet.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# slots = (−1, −1, …); for position from 0 to n_seen − 1: slots[position mod window] = position; return slots as a tensor.
#
# </details>


# %%
def ring_positions(n_seen: int, window: int) -> torch.Tensor:
    """Returns (window,): the position in each slot of a ring, -1 if it is empty."""
    ### BEGIN SOLUTION
    slots = torch.arange(window)
    newest = n_seen - 1
    return (newest - (newest - slots) % window).clamp(min=-1)
    ### END SOLUTION


# %%
check.ring_positions(ring_positions)

# %% [markdown]
# Both caches as they fill: a prompt of 5 tokens, then 7 steps. Left are the first 14 slots of the library's cache; right is your ring of 6. A number marks a write.

# %%
ring_positions = yours("ring_positions")

cache, written = new_cache(model, batch=1), []
with torch.no_grad():
    for part in windows[:1, :12].split([5] + [1] * 7, dim=1):
        model(part, cache)
        filled = cache.layers[0].tensors[0][0, 0].any(dim=-1)  # slots with a key
        written.append(torch.arange(len(filled)).where(filled, -1)[:14])
turning = torch.stack([ring_positions(n, 6) for n in range(5, 13)])
title = "A static cache fills up; a ring writes over the token that leaves the window"
filling({"static: slot p has position p": torch.stack(written), "ring of 6": turning}, title)

# %%
rings = {n: ring_positions(n, 6) for n in (4, 6, 7, 9)}
ring(rings, "The ring turns: the arrow points to the slot that is written next")


# %%
# NBVAL_IGNORE_OUTPUT
def turn(tokens_seen: int, window: int) -> None:
    seen = (tokens_seen, tokens_seen + 1, tokens_seen + 2)
    ring({n: ring_positions(n, window) for n in seen}, "Three steps of a ring")


sliders(turn, tokens_seen=(0, 30), window=(2, 12))

# %% [markdown]
# ### Exercise 12.5 · `work` · easy, 10 minutes
#
# 1. A prompt of `prompt` tokens (1 or more), and `new` tokens (1 or more, 10,000 in a cell below) written after it. The first new token comes out of the pass
#    over the prompt; the last one is never read.
# 2. `cached` is True: each token passes through the model once. False: every pass reads the whole text so far.
# 3. Return two whole numbers. **Tokens**: how many go through the model, in all passes together. **Reads**: how many keys they
#    look at in one head, counted by the causal mask: token number n looks at n keys, itself among them.
# 4. Examples, from section 1: work(3, 2, False) is (7, 16), and work(3, 2, True) is (4, 10).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Without a cache the passes have the lengths prompt, prompt + 1, … prompt + new − 1. With one, all of these tokens pass once.
#
# </details>
# <details><summary>Hint 2 · the arithmetic</summary>
#
# A pass over N tokens from the beginning reads 1 + 2 + … + N = N(N + 1)/2 keys. Use `//` to stay with whole numbers.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# last = prompt + new − 1; with a cache: (last, last · (last + 1) / 2); without: add up N, and N(N + 1)/2, for N from prompt to last.
#
# </details>


# %%
def work(prompt: int, new: int, cached: bool) -> tuple[int, int]:
    """Returns (tokens that pass through the model, keys that they read in one head)."""
    ### BEGIN SOLUTION
    last = prompt + new - 1
    if cached:
        return last, last * (last + 1) // 2
    lengths = range(prompt, prompt + new)
    return sum(lengths), sum(n * (n + 1) // 2 for n in lengths)
    ### END SOLUTION


# %%
check.work(work)

# %% [markdown]
# The cache makes writing *linear*, one reads. **Predict**: if the text becomes ten times as long, by which factor do the tokens that go through the model, and the reads,
# **with a cache** grow?

# %%
work = yours("work")
guess = predict(...)  # two numbers, such as 10, 10

for new in (100, 1_000, 10_000):
    for kind, cached in (("none", False), ("cache", True)):
        passing, reads = work(100, new, cached)
        print(f"{new:6,} new, {kind:5}: {passing:12,} tokens, {reads:19,} reads")
growth = [f"{b / a:.0f}" for a, b in zip(work(1, 1_000, True), work(1, 10_000, True), strict=True)]
guess.compare(f"tokens × {growth[0]}, reads × {growth[1]}")

# %% [markdown]
# The tokens grow with the text, the reads with its square. So the cache takes one power off both: tokens from quadratic to linear, reads from cubic to quadratic. **Linear is what one more token costs**: a single pass, and reads that grow
# with what came before. The whole text stays quadratic.

# %% [markdown]
# ## 4 · The same number, three ways
#
# Compare **logits**, not text and not loss; section 6 shows why. A full pass, your layer with its cache, the library's cache. `read_with_cache` reads 16 tokens in one pass, then one at a time, and the last 8 in one pass.

# %%
mine = transplant(model, cached_layer=cached_layer)
with torch.no_grad():
    full = model(windows)
print("yours = full pass:", torch.allclose(read_with_cache(mine, windows), full, atol=1e-3))
print("library = full pass:", torch.allclose(read_with_cache(model, windows), full, atol=1e-3))

windowed = GPT(replace(config, mixer=replace(mixer, window=64)))
cache = new_cache(windowed, batch=1)
with torch.no_grad():
    windowed(windows[:1, :200], cache)
theirs = cache.layers[0].newest(cache.lengths)[0]  # the position in each of its slots
same = torch.equal(theirs, ring_positions(200, 64))
print("your ring = the library's, after 200 tokens:", same)

# %% [markdown]
# ### Prefill and decode
#
# The same 512 tokens, read in one pass and one at a time, by a model of the shipped one's shape with random weights.


# %%
def milliseconds(step, repeats: int = 5) -> float:
    """Processor time of the fastest of a few runs: other programs only make it slower."""
    times = []
    with torch.no_grad():
        for _ in range(repeats):
            begin = time.process_time()
            step()
            times.append(1000 * (time.process_time() - begin))
    return min(times)


torch.manual_seed(0)
roomy = GPT(preset("pocket-shakespeare", max_seq_len=4096)).eval()
text = torch.randint(4096, (1, 2048))

# %%
# NBVAL_IGNORE_OUTPUT
prefill = milliseconds(lambda: roomy(text[:, :512], new_cache(roomy, 1)), repeats=3) / 512
cache = new_cache(roomy, 1)
decode = milliseconds(lambda: [roomy(token, cache) for token in text[:, :512].split(1, 1)], 1) / 512
times = f"{decode / prefill:.0f} times as much"
print(f"per token: prefill {prefill:.3f} ms, decode {decode:.3f} ms, {times}")
assert decode > 3 * prefill, "this machine is very busy: run the cell again"

# %% [markdown]
# The multiplications are nearly the same. But a pass over 512 tokens uses each weight 512 times once it is fetched from memory, and a step
# uses it once. Prefill is limited by arithmetic, decode by memory, and in a small model by the overhead of each operation. So servers decode many texts **together**: weights are fetched once for all. Caches are not: each text has its own.

# %% [markdown]
# ## 5 · Predict, then run: one more token
#
# How long does one more token take after 1, 4, 16, … 2,048 others? **Predict** how many times longer it takes without a cache at
# 2,048, on your machine.

# %%
# NBVAL_IGNORE_OUTPUT
guess = predict(...)  # a number

contexts = (1, 4, 16, 64, 256, 512, 1024, 2048)
your_roomy = transplant(roomy, cached_layer=cached_layer)
curves = {"no cache": [], "your cache": [], "the library's cache": []}
for n in contexts:
    curves["no cache"].append(milliseconds(lambda n=n: roomy(text[:, :n]), 3))
    for name, each in (("your cache", your_roomy), ("the library's cache", roomy)):
        cache = new_cache(each, batch=1)
        with torch.no_grad():
            each(text[:, :n], cache)
        curves[name].append(
            milliseconds(lambda each=each, cache=cache: each(text[:, :1], cache), 20)
        )

none, kept = curves["no cache"], curves["your cache"]
crossover = next(n for n, a, b in zip(contexts, none, kept, strict=True) if a > 2 * b)
print(f"no cache takes more than twice as long from {crossover} tokens on")
slopes = {name: round(exponent(contexts, values, since=512), 1) for name, values in curves.items()}
print("exponents:", slopes)
guess.compare(f"{none[-1] / kept[-1]:.0f} times")
assert none[-1] > 5 * kept[-1] and slopes["no cache"] > slopes["your cache"] + 0.3

# %%
# NBVAL_IGNORE_OUTPUT
time_per_token(contexts, curves, since=512)

# %% [markdown]
# **Up to about ten tokens a cache gains nothing**: a pass over a few tokens takes as long as over one. Where
# this text was written (one core, 2.4 million parameters) the upper curve reaches twice the cached time between 16 and 64 tokens, and
# is more than 50 times as high at 2,048.
#
# Its exponent from 512 on is about 1.3, not 2. Attention, whose work per pass grows with the square, is only a part of it: the linear layers, whose work grows with the number of tokens, are larger at first. The cached curves are nearly flat, with exponents below 0.4 in our runs: the growing reads are still small beside the constant cost of a step. In the limit the two exponents are 2 and 1.

# %% [markdown]
# ## 6 · Yours in the real model

# %%
before_and_after(cached_layer=cached_layer)

# %% [markdown]
# Both read and wrote with a cache, the first with the library's.
#
# ### The classic mistakes, inside the model
#
# Four of these are **your** layer with a wrong position in one place, the fifth is the mask of section 2. Published code
# had such mistakes; reports are listed below.
#
# - **off by one**: every token after the prompt is one position too far.
# - **prompt added**: every token after the prompt is too far by the prompt's length, 16.
# - **not offset**: every single token is rotated as if it were the first of the text.
# - **rotated again**: kept keys are rotated once more at every step.
# - **is_causal**: the flag, with one query.
#
# **Predict** which of the five have a loss within 0.1 of the right one, over texts of 256 tokens.


# %%
def shifted(shift):
    """Your layer, whose new tokens are shift(start) positions too far."""

    def layer(x, weights, kept, start, rope):
        def moved(x, positions):
            return rope(x, positions + shift(start))

        return cached_layer(x, weights, kept, start, moved)

    return layer


def rotated_again(x, weights, kept, start, rope):
    keys = rope(kept[0], torch.arange(kept[0].shape[2]))
    return cached_layer(x, weights, (keys, kept[1]), start, rope)


def is_causal(q, keys, values, query_positions, key_positions, window):
    return F.scaled_dot_product_attention(q, keys, values, is_causal=True, enable_gqa=True)


models = {
    "right": mine,
    "off by one": transplant(model, cached_layer=shifted(lambda start: int(start > 0))),
    "prompt added": transplant(model, cached_layer=shifted(lambda start: 16 * int(start > 0))),
    "not offset": transplant(model, cached_layer=shifted(lambda start: -start)),
    "rotated again": transplant(model, cached_layer=rotated_again),
    "is_causal": transplant(model, decode_attention=is_causal),
}

# %%
guess = predict(...)  # such as "off by one", "not offset"

targets = windows[:, 1:]
errors, losses = {}, {}
for name, each in models.items():
    logits = read_with_cache(each, windows)
    errors[name] = (logits - full).abs().amax(dim=(0, 2))  # (256,)
    by_token = F.cross_entropy(logits[:, :-1].mT, targets, reduction="none")
    losses[name] = by_token.mean().item()
    soon, error = by_token[:, 16:48].mean(), errors[name][16:].mean()
    print(f"{name:14} loss {losses[name]:.2f}, soon {soon:.2f}, logits off by {error:.1f}")
guess.compare([name for name, loss in losses.items() if 0 < loss - losses["right"] < 0.1])

# %%
logit_errors(errors, losses, prompt=16)

# %% [markdown]
# "Soon" is the loss of the 32 tokens after the prompt, and "logits off by" the largest difference in the five texts, averaged over the positions after it. **Two mistakes are nearly invisible in the loss**: 4.11 and 4.15 beside 4.10. The reason is in the
# picture: their errors shrink. All tokens after the prompt are moved by the same amount, so the distances among them are right, and only those to the prompt
# are wrong. As the text goes on, the prompt matters less. Soon after it, "prompt added" costs 0.25; over the last 128 tokens less than 0.01. In the
# logits both are plain from the first step on: 0.7 or more in each text, where rounding makes less than 0.0001.
#
# **Not offset** has 5.24, nearly the loss of chapter 8's model without any rotation: every token that is read alone is at position 0. **Rotated again** is
# worse than no order, since old keys keep turning. And **is_causal** leaves each single query the oldest key alone.
#
# What they write, with the same prompt and seed:

# %%
prompt = tokenizer.encode("ROMEO:\nO, she doth teach the torches to burn bright!\n")
sampler = Sampler(temperature=0.8, top_k=40)
for name, each in models.items():
    (new,) = generate(each, [prompt], max_new_tokens=36, sampler=sampler, seed=1)
    print(f"--- {name}\n{tokenizer.decode(new).strip()}\n")

# %% [markdown]
# One reads what the average hides: "prompt added" writes debris, because here the prompt is near. "Off by one" writes well, and is wrong. So test a cache by its logits: a prompt, some steps, and a chunk, against a full pass.
#
# ### Fewer slots, and smaller numbers
#
# Two ways to a smaller cache. A window: each query sees the newest W tokens. Rounding: a few bits for a number, and one scale for a vector.
# **Predict** the shortest of the windows 4, 8, 16, 32, 64 whose loss is within 0.15 of the whole context's, 4.10.


# %%
def loss_of(changed: GPT) -> float:
    with torch.no_grad():
        return F.cross_entropy(changed(windows)[:, :-1].mT, targets).item()


def within(window: int):
    return lambda *inputs: decode_attention(*inputs[:-1], window)


guess = predict(...)  # 4, 8, 16, 32 or 64
by_window = {w: loss_of(transplant(model, decode_attention=within(w))) for w in (4, 8, 16, 32, 64)}
print({window: round(loss, 2) for window, loss in by_window.items()})
guess.compare(min(w for w, loss in by_window.items() if loss < losses["right"] + 0.15))


# %%
def in_bits(bits: int):
    def append(kept: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        step = new.abs().amax(dim=-1, keepdim=True) / (2 ** (bits - 1) - 1)
        return append_kv(kept, (new / step).round() * step)

    return append


for bits in (8, 4, 3, 2):
    loss = loss_of(transplant(model, append_kv=in_bits(bits)))
    print(f"{bits} bits: loss {loss:.2f}, {512 * bits // 8} + 16 · 4 bytes per token")  # 16 scales

# %% [markdown]
# A window of 32 tokens costs less than 0.1 here; do not take that for a rule. A window in the mask alone saves no memory. That takes a cache which forgets: a ring, or yours with its oldest rows dropped:


# %%
def forgetful(x, weights, kept, start, rope):
    output, kept = cached_layer(x, weights, kept, start, rope)
    return output, tuple(each[:, :, -31:] for each in kept)  # the next token is the 32nd


by_steps = read_with_cache(transplant(model, cached_layer=forgetful), windows)
with torch.no_grad():
    by_mask = transplant(model, decode_attention=within(32))(windows)
same = torch.allclose(by_steps[:, :248], by_mask[:, :248], atol=1e-3)  # up to the chunk at the end
print("31 rows kept = a window of 32 in the mask:", same)

# %% [markdown]
# Rounding to 4 bits costs 0.01 in loss, for 320 bytes a token in place of 2,048, less than a sixth; 2 bits, three values for a number, break the model.
#
# ### What the model notices, and what not
#
# The known mistakes, put one by one into the model, which reads as in section 4. A step with
# one query cannot see a later token, but a chunk can: 7 leaks are the 7 earlier tokens of the last chunk.

# %%
symptoms("append_kv")

# %%
symptoms("decode_attention")

# %%
symptoms("cached_layer")

# %% [markdown]
# **It notices** is_causal for single queries (6.26), a cache that is not handed on (5.14 to 5.45), keys rotated again (5.72 and more), not rotated (6.74), or kept unrotated (6.88), and queries one position off their own keys (5.94).
#
# **It does not notice** anything about windows and empty slots, since it has none; a position off by one in queries and keys (4.11), or taken from the number of rows, since nothing is dropped; the order of the rows, as long as single
# queries see all of them: attention does not know in which slot a key is. And some mistakes look **better** than right: without a mask the loss falls to 3.88, because
# prompt and chunk see the future. Only the probe says so. The checks find all of them.
#
# Three mistakes are in no single function: a cache not emptied before the next text, one layer's cache given to another, one `start` for rows of different lengths.
#
# ## 7 · What to remember
#
# - The past does not change, so its keys and values are kept: 2 · n_layers · n_kv_heads · d_head numbers for each token of each text.
# - A new token is projected and rotated **once**, at its own position; what was kept is never touched again.
# - With a cache the mask is made from positions. `is_causal` is for queries that begin with the text.
# - One more token costs one pass and reads that grow with the text; the whole text stays quadratic.
# - Prefill reads many tokens in one pass, decode one; a ring keeps the newest W tokens in W slots.
# - Compare logits with those of a full pass. Loss and text pass mistakes through.
#
# ### Three questions
#
# <details><summary>1. Llama 3 8B has 32 layers, 8 key/value heads and d_head 128. How large is the cache of one text of 8,192 tokens in
# bf16, and of 16 such texts?</summary>
#
# 2 · 32 · 8 · 128 = 65,536 numbers, 131,072 bytes per token. Times 8,192: 1 GiB. 16 texts: 16 GiB, more than
# the model's 8 billion weights in bf16, 15 GiB.
#
# </details>
# <details><summary>2. GPT-2 adds learned positions to its embedding and rotates nothing. Does it need `start`?</summary>
#
# Yes, in another place: the new token must get row `start` of the table, not row 0. A cache is possible for every causal model,
# whatever its positions are; and each kind of position must know where the new token is.
#
# </details>
# <details><summary>3. A bidirectional encoder, such as BERT, reads a text that grows by a token at a time. What can be kept?</summary>
#
# Nothing beyond the first layer's keys and values: earlier tokens see the new one, so all their vectors change in every layer after.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/inference/kv_cache.py`: the clock, and three stores, `Slots`, `Ring` and `States`. `pocketgpt/layers/attention.py`: rotate,
# `cache.update`, attend. `pocketgpt/layers/attention_backends.py`: `causal_mask` from positions. `pocketgpt/inference/generate.py`: prefill, then
# decode.
#
# ### Papers
#
# - Shazeer 2019, *Fast Transformer Decoding: One Write-Head is All You Need*, [arXiv 1911.02150](https://arxiv.org/abs/1911.02150): decoding
#   is limited by reading keys and values from memory.
# - Pope et al. 2022, *Efficiently Scaling Transformer Inference*, [arXiv 2211.05102](https://arxiv.org/abs/2211.05102): prefill and decode.
# - Jiang et al. 2023, *Mistral 7B*, [arXiv 2310.06825](https://arxiv.org/abs/2310.06825), section 2: the ring.
# - Kwon et al. 2023, *Efficient Memory Management for Large Language Model Serving with PagedAttention*,
#   [arXiv 2309.06180](https://arxiv.org/abs/2309.06180): slots in pages, so that little is reserved in vain.
# - The mistakes: is_causal, [pytorch #103082](https://github.com/pytorch/pytorch/issues/103082) and
#   [#108108](https://github.com/pytorch/pytorch/issues/108108); not offset, [mlx-vlm #1983](https://github.com/Blaizzy/mlx-vlm/issues/1983); off by one, in all
#   layers but the first, [flash-linear-attention #766](https://github.com/fla-org/flash-linear-attention/issues/766); prompt added,
#   [tiny-llm #46](https://github.com/skyzh/tiny-llm/pull/46); position from the number of rows,
#   [VeloxQuant-MLX #389](https://github.com/rajveer43/VeloxQuant-MLX/issues/389).
#
# **Next**: chapter 13 computes the same attention without ever storing its weights.
