# %% [markdown]
# # 10 · The GPT
#
# **At the end** you have a GPT of your own: the functions that you wrote, put together in one file, `my_gpt.py`. It loads
# the weights of the trained model, gives the same scores, and writes.
#
# **Time**: about 100 minutes. **You need**: chapter 4 (heads), chapter 5 (norms, the residual stream), chapter 6
# (feed-forward), chapter 7 and chapter 8 (positions), chapter 9 (shared keys and values).
#
# Here is the model, drawn from its config; the orange parts are what is left.

# %%
import json
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.assets import asset
from pocketgpt.course.ch10_the_gpt.figures import comparison, lens_map, loss_by_depth
from pocketgpt.course.ch10_the_gpt.figures import parameters_by_part
from pocketgpt.course.figures.style import readable
from pocketgpt.course.lab import before_and_after, check, earlier, model_map, pocket_model
from pocketgpt.course.lab import pocket_tokenizer, predict, recall, save_my_gpt, sliders, symptoms
from pocketgpt.course.lab import yours
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset

torch.set_num_threads(1)
model_map(preset("pocket-shakespeare"), highlight="the_gpt")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. The pocket model has 6 query heads and 2 key/value heads of width 32. How many numbers does a cache keep for
# a token in one layer?</summary>
#
# A key and a value for each key/value head: 2 · 2 · 32 = 128. With 6 key/value heads it would be 384.
#
# </details>
# <details><summary>2. What would you see if every block of a trained model replaced its stream in place of adding to it?</summary>
#
# Each layer hands on its own addition only, and what earlier layers wrote is lost. The loss is worse than that of a model that knows
# nothing; the table in section 6 has the number.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(10)

# %% [markdown]
# ## 1 · The smallest example: a model on disk
#
# A trained model is two files. One says **what** to compute, the other **with which numbers**:

# %%
folder = asset("pocket-shakespeare")
for name, value in json.loads((folder / "config.json").read_text()).items():
    if name not in ("norm_order", "causal", "dropout"):
        print(f"{name:15} {value}")

# %%
weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
for name, weight in weights.items():
    if not name.startswith(("blocks.1", "blocks.2", "blocks.3")):
        print(f"{name:38} {tuple(weight.shape)}")

# %% [markdown]
# That is all there is: a **config** and a **dictionary of tensors**. `blocks.0.mixer.q_proj.weight` is the query matrix of
# block 0; the "mixer" is the layer in which tokens exchange information, here attention. blocks.1 to blocks.3 have the same nine
# names. Matrices are stored as (out, in). There is no `head.weight`: the head is *tied*, it is the embedding matrix, used a second time.
#
# Count the numbers by hand, with d_model = 192, heads of width 32, and 512 in the feed-forward:
#
# | part | | parameters |
# |---|---|---|
# | embedding | 4,096 · 192 | 786,432 |
# | q_proj, o_proj | 2 · 192 · 192 | 73,728 |
# | k_proj, v_proj, two heads each | 2 · 64 · 192 | 24,576 |
# | feed-forward, three matrices | 3 · 192 · 512 | 294,912 |
# | two norms | 2 · 192 | 384 |
# | **one block** | | **393,600** |
# | four blocks | | 1,574,400 |
# | the last norm | | 192 |
# | **the model** | | **2,361,024** |

# %%
print("counted by hand:  ", 786_432 + 4 * (73_728 + 24_576 + 294_912 + 384) + 192)
print("in the dictionary:", sum(weight.numel() for weight in weights.values()))

# %% [markdown]
# ## 2 · The equation
#
# $$x^{(0)} = E[\text{tokens}], \qquad
# h = x^{(i)} + \text{attention}(\text{norm}(x^{(i)})), \qquad
# x^{(i+1)} = h + \text{feed-forward}(\text{norm}(h))$$
#
# $$\text{logits} = \text{norm}(x^{(L)})\, W^\top, \qquad
# \text{loss} = -\frac{1}{T-1} \sum_{t=0}^{T-2} \ln \text{softmax}(\text{logits}_t)[\text{token}_{t+1}]$$
#
# | symbol | what | shape |
# |---|---|---|
# | $E$ | the embedding | (vocab, d_model) |
# | $x^{(i)}$ | the residual stream before block i | (B, T, d_model) |
# | $h$ | the stream between attention and feed-forward | (B, T, d_model) |
# | $L$ | number of blocks, `n_layers` | |
# | $W$ | the head; tied: $W = E$ | (vocab, d_model) |
# | logits | a score for each possible next token, at each position | (B, T, vocab) |
#
# Each norm has weights of its own. Models with learned positions add them to $x^{(0)}$; models with RoPE turn queries and keys.
#
# **The numerical trap** is the start. A model that knows nothing should give each of the V tokens the probability 1/V: a loss of
# ln V, 8.32 for V = 4,096. With a tied embedding drawn with the standard deviation 1, as `nn.Embedding` does by itself, the logits are so
# large that the first loss of our model is about 184. With 0.02 it is near ln V (exercise 10.5).

# %% [markdown]
# ## 3 · Your turn
#
# First, collect what you have. `earlier` reads your answers out of the notebooks in this folder, as they were last saved, and
# checks them. For one that is missing it takes a finished version.

# %%
# NBVAL_IGNORE_OUTPUT
rms_norm, layer_norm = earlier("rms_norm", "layer_norm")
gelu, relu_squared, swiglu = earlier("gelu", "relu_squared", "swiglu")
rope_frequencies, apply_rope, add_positions = earlier(
    "rope_frequencies", "apply_rope", "add_positions"
)
split_heads, merge_heads, causal_mask, grouped_attention = earlier(
    "split_heads", "merge_heads", "causal_mask", "grouped_attention"
)

# %% [markdown]
# Models differ in details: a bias here, another norm there. Three given functions look these up, so that you need not. `name` is the
# part of a name before ".weight".


# %%
def linear(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Multiply by the matrix of that name, and add its bias if there is one."""
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def norm(x: torch.Tensor, weights: dict[str, torch.Tensor], name: str, config) -> torch.Tensor:
    """RMSNorm or LayerNorm, as the config says. Without weights the scale is 1."""
    scale = weights[f"{name}.weight"] if config.norm_weight else x.new_ones(x.shape[-1])
    if config.norm == "rmsnorm":
        return rms_norm(x, scale, config.norm_eps)
    shift = weights.get(f"{name}.bias", x.new_zeros(x.shape[-1]))
    return layer_norm(x, scale, shift, config.norm_eps)


# %%
def feed_forward(x: torch.Tensor, weights: dict[str, torch.Tensor], config) -> torch.Tensor:
    """The feed-forward of a block: SwiGLU, ReLU² or GELU, as the config says."""
    kind = config.feedforward.activation
    up, down = weights["feedforward.up_proj.weight"], weights["feedforward.down_proj.weight"]
    if kind == "swiglu":
        return swiglu(x, weights["feedforward.gate_proj.weight"], up, down)
    if kind == "relu2":
        return relu_squared(x, up, down)
    hidden = linear(x, weights, "feedforward.up_proj")
    hidden = gelu(hidden, "tanh" if kind == "gelu_tanh" else "none")
    return linear(hidden, weights, "feedforward.down_proj")


# %% [markdown]
# ### Exercise 10.1 · `transformer_block` · medium, 20 minutes
#
# 1. `x` has shape (B, T, d_model): the stream. Return the stream after the block, same shape and dtype. Leave `x` as it is.
# 2. `weights` has the tensors of **this block**, without "blocks.0.": `mixer_norm`, `mixer.q_proj`, `mixer.k_proj`,
#    `mixer.v_proj`, `mixer.o_proj`, `feedforward_norm`, `feedforward.…`, each with ".weight" and perhaps ".bias".
# 3. The order is that of the equation: attention reads through `mixer_norm`, the feed-forward through `feedforward_norm`, and each
#    is added to the stream.
# 4. Queries have `config.mixer.n_heads` heads, keys and values `config.mixer.n_kv_heads`.
# 5. `rope` is `(cos, sin)`, each (T, d_head/2), or `None` in a model that does not rotate. Queries and keys are rotated
#    after they are split into heads.
# 6. Attention is causal. The merged heads go through `mixer.o_proj`.
#
# You have `norm(x, weights, name, config)`, `linear(x, weights, name)`, `feed_forward(x, weights, config)`, and your own
# `split_heads(x, n_heads)`, `apply_rope(x, cos, sin)`, `causal_mask(query_positions, key_positions)`,
# `grouped_attention(q, k, v, mask)`, which takes (B, heads, T, d_head) and returns (B, n_heads, T, d_head), and `merge_heads(x)`.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Two halves of the same form, `x = x + something(norm(x))`. What the norm returns needs another name than `x`.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `linear(h, weights, "mixer.k_proj")` is (B, T, n_kv_heads · d_head); split, it is (B, n_kv_heads, T, d_head). The positions
# for the mask are `torch.arange(T)`, for queries and keys alike.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# normed = norm of x with mixer_norm; make queries, keys, values from normed and split each; rotate queries and keys if there is rope;
# add o_proj of the merged grouped attention to x; add feed_forward of (norm of the new x with feedforward_norm) to it; return it.
#
# </details>


# %%
def transformer_block(
    x: torch.Tensor, weights: dict[str, torch.Tensor], rope, config
) -> torch.Tensor:
    """x: (B, T, d_model), rope: (cos, sin) or None. Returns the new stream, (B, T, d_model)."""
    ### BEGIN SOLUTION
    h = norm(x, weights, "mixer_norm", config)
    q = split_heads(linear(h, weights, "mixer.q_proj"), config.mixer.n_heads)
    k = split_heads(linear(h, weights, "mixer.k_proj"), config.mixer.n_kv_heads)
    v = split_heads(linear(h, weights, "mixer.v_proj"), config.mixer.n_kv_heads)
    if rope is not None:
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
    positions = torch.arange(x.shape[1], device=x.device)
    y = grouped_attention(q, k, v, causal_mask(positions, positions))
    x = x + linear(merge_heads(y), weights, "mixer.o_proj")
    return x + feed_forward(norm(x, weights, "feedforward_norm", config), weights, config)
    ### END SOLUTION


# %%
check.transformer_block(transformer_block)

# %%
transformer_block = yours("transformer_block")

# %% [markdown]
# ### Exercise 10.2 · `gpt` · medium, 25 minutes
#
# 1. `tokens` has shape (B, T). Return the logits of all positions, (B, T, vocab): no softmax, in the
#    dtype of the weights, and with a gradient for each of them.
# 2. The stream begins as the rows of `weights["embedding.weight"]` at the tokens.
# 3. If `config.positions` is "learned", add the table `weights["positions.embedding.weight"]`, with position 0 at the first token
#    (your `add_positions(x, table, start)`), and give the blocks `None` for `rope`. If it is "rope", add nothing: the blocks get
#    `(cos, sin)` of position times frequency, with `rope_frequencies(config.mixer.d_head, config.rope.theta)`.
# 4. If `config.embedding_norm` is True, the stream, positions included, passes through `norm` with the name
#    "embedding_norm" before the blocks.
# 5. `config.n_layers` blocks, one after the other. Block i gets the tensors whose names begin with "blocks.i.", under the
#    names without that.
# 6. Then `norm` with the name "final_norm", then the head: `weights["head.weight"]` if there is one, else the embedding; both are
#    (vocab, d_model).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Indexing a matrix with `tokens` gives its rows: (B, T, d_model). cos and sin are the same in all blocks, so make them once, before the
# loop.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `torch.arange(T)[:, None] * frequencies` is (T, d_head/2). For the names of a block: `name.startswith(f"blocks.{i}.")` and
# `name.removeprefix(f"blocks.{i}.")`, in a dictionary comprehension over `weights.items()`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# x = embedding rows; rope = none; if learned: add positions, else: rope = cos and sin of the angles; normalize if the config says so; for
# each i: x = transformer_block(x, its weights, rope, config); x = final norm of x; return x times the transposed head.
#
# </details>


# %%
def gpt(tokens: torch.Tensor, weights: dict[str, torch.Tensor], config) -> torch.Tensor:
    """tokens: (B, T). Returns logits (B, T, vocab)."""
    ### BEGIN SOLUTION
    x = weights["embedding.weight"][tokens]
    rope = None
    if config.positions == "learned":
        x = add_positions(x, weights["positions.embedding.weight"], 0)
    else:
        frequencies = rope_frequencies(config.mixer.d_head, config.rope.theta).to(x.device)
        angles = torch.arange(tokens.shape[1], device=x.device)[:, None] * frequencies
        rope = angles.cos(), angles.sin()
    if config.embedding_norm:
        x = norm(x, weights, "embedding_norm", config)
    for i in range(config.n_layers):
        start = f"blocks.{i}."
        block = {n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)}
        x = transformer_block(x, block, rope, config)
    x = norm(x, weights, "final_norm", config)
    return x @ weights.get("head.weight", weights["embedding.weight"]).T
    ### END SOLUTION


# %%
check.gpt(gpt)

# %% [markdown]
# Now the shipped weights, and a page that the model has never seen. `config` is section 1's JSON as an object.

# %%
gpt = yours("gpt")

config = pocket_model().config
passage = pocket_tokenizer().encode(asset("held-out.txt").read_text(encoding="utf-8"))
tokens = torch.tensor(passage[:1280]).view(5, 256)
with torch.no_grad():
    logits, theirs = gpt(tokens, weights, config), pocket_model()(tokens)
print("logits:", tuple(logits.shape))
print("yours = pocketgpt:", torch.allclose(logits, theirs, atol=1e-4))

# %% [markdown]
# ### Exercise 10.3 · `next_token_loss` · easy, 10 minutes
#
# 1. `logits` has shape (B, T, vocab), `tokens` (B, T): the very tokens that were read.
# 2. The logits at position t are scores for token t + 1. So a text of T tokens has T − 1 predictions.
# 3. Return the mean of −ln(probability of the right token) over all predictions of all texts, a tensor without axes.
# 4. The token −100 marks padding, where a short text is filled up at its end. It is not predicted: it counts neither in the sum nor
#    in the number of predictions.
#
# `F.cross_entropy(scores, targets)` takes scores (N, vocab) and targets (N,). It does the softmax and the logarithm, takes the mean, and
# leaves out targets that are −100.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The last logits have nothing to predict, and the first token is predicted by nobody. Cut both off, and what is left lies at the
# same places.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# (B, T − 1, vocab) and (B, T − 1). `flatten(0, 1)` and `flatten()` make (N, vocab) and (N,) of them.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return cross_entropy of the logits without the last position, flattened, and the tokens without the first, flattened.
#
# </details>


# %%
def next_token_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """logits: (B, T, vocab), tokens: (B, T). Returns the mean loss in nats, without axes."""
    ### BEGIN SOLUTION
    predictions, targets = logits[:, :-1], tokens[:, 1:]
    return F.cross_entropy(predictions.flatten(0, 1), targets.flatten())
    ### END SOLUTION


# %%
check.next_token_loss(next_token_loss)

# %% [markdown]
# A wrong shift raises no error. It has a number, and the number is worth knowing:

# %%
next_token_loss = yours("next_token_loss")


def shifted_by(n: int) -> float:
    """Loss of the logits at t against token t + n; n = 1 is right."""
    first, last = max(0, -n), 256 - max(0, n)
    return F.cross_entropy(
        logits[:, first:last].flatten(0, 1), tokens[:, first + n : last + n].flatten()
    ).item()


print(f"yours {next_token_loss(logits, tokens):.2f}")
for n, what in ((1, "right"), (0, "not shifted"), (2, "twice"), (-1, "the wrong way")):
    print(f"shifted by {n:2}: {shifted_by(n):5.2f}  {what}")

# %% [markdown]
# 8.45, 9.30 and 10.74 are worse than a model that knows nothing (8.32). A loss **above ln V** says that something is wrong, not that
# something is not yet learned. (Models of `transformers` have shifted twice: the model and its caller.)
#
# ### Exercise 10.4 · `count_parameters` · medium, 15 minutes
#
# From the numbers in the config alone, without a model to count on:
#
# 1. The embedding has vocab_size rows. A head of its own has as many, where `tie_embeddings` is False; tied, it counts once.
# 2. A table of positions with `max_seq_len` rows, where `positions` is "learned". RoPE has no parameters.
# 3. Each of the `n_layers` blocks: q_proj and o_proj for `mixer.n_heads` heads of width `mixer.d_head`, k_proj and v_proj for
#    `mixer.n_kv_heads`. Biases: for each row of q, k, v where `mixer.bias`, and of o_proj where `mixer.output_bias`.
# 4. Its feed-forward of width `feedforward.d_ff`: up_proj and down_proj, and gate_proj where `feedforward.activation` is "swiglu". A
#    bias for each row of each, where `feedforward.bias`.
# 5. Norms: two a block, one before the head, and one after the embedding where `embedding_norm`. Each has d_model scales where
#    `norm_weight`, and d_model shifts where `norm_bias`.
#
# Return a whole number.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Count one block, multiply by n_layers, and add what occurs once. True counts as 1 in Python, so `has_bias * rows` is a number.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# With queries = n_heads · d_head and keys = n_kv_heads · d_head, attention has d_model · (2 · queries + 2 · keys) weights. q, k and v
# have queries + 2 · keys rows, o_proj and down_proj d_model rows, up_proj and gate_proj d_ff.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# norm = d_model · (norm_weight + norm_bias); attention = weights + biases; feed-forward = (3 or 2) · d_model · d_ff + biases; block = attention +
# feed-forward + 2 norms; return embedding (twice if not tied) + table + n_layers · block + norm (+ norm after the embedding).
#
# </details>


# %%
def count_parameters(config) -> int:
    """Returns the number of parameters of the model that a config describes."""
    ### BEGIN SOLUTION
    mixer, ff, d = config.mixer, config.feedforward, config.d_model
    queries, keys = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    scales = d * (config.norm_weight + config.norm_bias)
    attention = d * 2 * (queries + keys)
    attention += mixer.bias * (queries + 2 * keys) + mixer.output_bias * d
    inward = 2 if ff.activation == "swiglu" else 1
    inner = (inward + 1) * d * ff.d_ff + ff.bias * (inward * ff.d_ff + d)
    total = config.n_layers * (attention + inner + 2 * scales) + scales
    total += config.vocab_size * d * (1 if config.tie_embeddings else 2)
    total += config.max_seq_len * d * (config.positions == "learned")
    return total + scales * config.embedding_norm
    ### END SOLUTION


# %%
check.count_parameters(count_parameters)

# %% [markdown]
# **Predict**: `pocket`, a small model with GPT-2's 50,257 tokens, d_model 384, 6 layers and a head that is not tied. Which share of its
# parameters is embedding and head? (In the model that you loaded it is a third.)

# %%
count_parameters = yours("count_parameters")
guess = predict(...)  # such as 40, in percent

names = ("gpt2", "llama", "brain", "pocket", "pocket-shakespeare", "smollm2-135m")
configs = {name: preset(name).resolved() for name in names}
for name, each in configs.items():
    at_both_ends = each.vocab_size * each.d_model * (1 if each.tie_embeddings else 2)
    total = count_parameters(each)
    print(f"{name:19} {total:12,} parameters, embedding and head {at_both_ends / total:.0%}")
share = 2 * configs["pocket"].vocab_size * 384 / count_parameters(configs["pocket"])
guess.compare(f"{share:.0%}")


# %%
def by_part(config: ModelConfig) -> dict[str, int]:
    """PyTorch's own count: the model's tensors by the part they belong to, as shapes only."""
    parts: dict[str, int] = {}
    with torch.device("meta"):
        for name, parameter in GPT(config).named_parameters():
            words = (("norm", "norms"), ("mixer", "attention"), ("feedforward", "feed-forward"))
            part = next((part for word, part in words if word in name), name.split(".")[0])
            parts[part] = parts.get(part, 0) + parameter.numel()
    return parts


counted = {name: by_part(each) for name, each in configs.items()}
same = all(sum(counted[name].values()) == count_parameters(configs[name]) for name in names)
print("yours = PyTorch's, for all six:", same)
parameters_by_part(counted, "A small model with a large vocabulary is mostly embedding and head")

# %% [markdown]
# Four fifths of `pocket`'s parameters translate between tokens and vectors. Tying would save one of the two matrices: vocab · d_model
# numbers, 19.3 million here. So this course's model has a vocabulary of 4,096.
#
# ### Exercise 10.5 · `init_std` · easy, 5 minutes
#
# GPT-2's rule for a new model. `name` is the name of a tensor, as above, and `n_layers` the number of blocks.
#
# 1. Matrices ("embedding.weight", positions, head, projections) are drawn from a normal distribution with mean 0. Return its standard
#    deviation: 0.02.
# 2. Except for the two matrices of a block that **write into the stream**, those that come last in attention and in the feed-forward:
#    0.02/√(2 · n_layers).
# 3. Biases start at 0 and weights of norms at 1. They are not drawn: return 0.0.
#
# Why rule 2: the stream is a sum of 2 · n_layers additions, and sizes of independent numbers add up as squares. Measured on new models of
# this width with 4, 12 and 48 blocks, three of each: after the last block the stream is 1.7 to 2.2 times as long as before the
# first. With 0.02 everywhere it is about 6, 12 and 26 times as long.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Which two matrices make what is added to the stream? Look at the names in section 1.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# With 8 layers: 0.02 / √16 = 0.005. Norms have "norm" in their names; biases end in ".bias".
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if it is of a norm or a bias: return 0.0; if it is o_proj or down_proj: return 0.02 divided by the root of 2 · n_layers; return 0.02.
#
# </details>


# %%
def init_std(name: str, n_layers: int) -> float:
    """Returns the standard deviation of a new tensor of that name; 0.0 if it is not random."""
    ### BEGIN SOLUTION
    if "norm" in name or name.endswith(".bias"):
        return 0.0
    writes = name.endswith(("o_proj.weight", "down_proj.weight"))
    return 0.02 / (2 * n_layers) ** 0.5 if writes else 0.02
    ### END SOLUTION


# %%
check.init_std(init_std)

# %% [markdown]
# A new model, from your rule. Its loss should be near 8.32. **Predict** which token it finds most probable as the next one: a random one, the
# most frequent one, or the one that it has just read?

# %%
init_std = yours("init_std")
guess = predict(...)  # "random", "most frequent" or "just read"

rng = torch.Generator().manual_seed(0)
new = {
    name: init_std(name, config.n_layers) * torch.randn(w.shape, generator=rng) + ("norm" in name)
    for name, w in weights.items()
}
with torch.no_grad():
    first = gpt(tokens, new, config)
copies = (first.argmax(-1) == tokens).float().mean()
print(f"loss of a new model: {next_token_loss(first, tokens):.1f}")
guess.compare(f"just read, in {copies:.0%} of all places")

# %% [markdown]
# The stream begins as the token's row of the embedding, and the small first additions hardly change its direction. The tied head compares
# it with all rows of the same matrix, and the row that fits best is the row itself. Tying makes a new model a copier; training undoes it. Its loss is still near ln V, because all scores are small.
#
# ### Exercise 10.6 · `count_flops` · medium, 10 minutes
#
# 1. Return the floating-point operations of a forward pass over **one** text of `seq` tokens, a whole number.
# 2. Only matrix products count: (n × k) times (k × m) is 2 · n · k · m, a multiplication and an addition each.
# 3. All projections, the feed-forward and the head, for every token. The embedding is a lookup: 0.
# 4. Attention: for every query head queries times keys, and weights times values, over the whole square of seq · seq, hidden places
#    included.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A matrix costs 2 FLOPs per weight and token. A tied head is multiplied like any other.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# Scores of one head: 2 · seq · d_head · seq. As much for weights times values. Shared keys save no products: each of the n_heads heads
# has its own.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# per token: block = d_model · (2 · queries + 2 · keys) + (3 or 2) · d_model · d_ff + 2 · queries · seq; return 2 · seq · (n_layers · block + d_model · vocab).
#
# </details>


# %%
def count_flops(config, seq: int) -> int:
    """Returns the FLOPs of a forward pass over one text of seq tokens."""
    ### BEGIN SOLUTION
    mixer, d = config.mixer, config.d_model
    queries, keys = mixer.n_heads * mixer.d_head, mixer.n_kv_heads * mixer.d_head
    matrices = 3 if config.feedforward.activation == "swiglu" else 2
    per_layer = d * 2 * (queries + keys) + matrices * d * config.feedforward.d_ff
    per_layer += 2 * queries * seq  # scores, and weights times values
    return 2 * seq * (config.n_layers * per_layer + d * config.vocab_size)
    ### END SOLUTION


# %%
check.count_flops(count_flops)

# %% [markdown]
# PyTorch can count, too, while your `gpt` runs:

# %%
count_flops = yours("count_flops")
with torch.no_grad(), FlopCounterMode(display=False) as counter:
    gpt(tokens[:1], weights, config)
print("yours = PyTorch's:", count_flops(config, 256) == counter.get_total_flops())
print(f"{count_flops(config, 256) / 1e9:.2f} billion for 256 tokens")

for name, seq in (("pocket-shakespeare", 256), ("gpt2", 1024), ("smollm2-135m", 8192)):
    each, per_token = configs[name], count_flops(configs[name], seq) / seq
    attention = 4 * each.n_layers * each.mixer.n_heads * each.mixer.d_head * seq
    rule = 2 * count_parameters(each)
    print(f"{name:19} at {seq:5}: attention {attention / per_token:.0%}, "
          f"in all {per_token / rule:.2f} times 2N")  # fmt: skip

# %% [markdown]
# The rule of thumb *2 FLOPs per parameter and token* (6 in training, as the backward pass costs twice the forward pass) leaves out
# attention. For the pocket model at 256 tokens that is 14 %; for SmolLM2 at its full 8,192 tokens 68 %, and the rule is off by a factor
# of three. It can also be too high: N contains an untied embedding, which costs nothing.
#
# ## 4 · The same number, three ways
#
# Your `gpt` gives the logits of `pocketgpt`, and your counts are PyTorch's. Now GPT-2, LLaMA, and two more presets, side by side,
# **computed from their configs**:

# %%
side_by_side = {name: configs[name] for name in ("gpt2", "llama", "brain", "pocket")}
comparison(side_by_side, parameters=count_parameters)

# %% [markdown]
# `brain` is GPT-2's block with rotary positions that stretch for long texts (chapter 8's *dynamic NTK*). Three rows that such tables often have
# are missing: whether there is a KV cache, FlashAttention, and export. They are properties of the **code** that runs a model, and every
# column can have them (chapters 12, 13 and 23).
#
# Does **your** function run all four? With random weights, smaller, and against `pocketgpt`, whose GPT-2 and LLaMA equal those of
# `transformers` in our tests:

# %%
for name in side_by_side:
    small = preset(name, vocab_size=97, d_model=48, n_layers=3, max_seq_len=32).resolved()
    torch.manual_seed(0)
    model = GPT(small).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so large that no bias can be forgotten
    own, few = dict(model.named_parameters()), torch.randint(97, (2, 32))
    with torch.no_grad():
        same = torch.allclose(gpt(few, own, small), model(few), atol=1e-3, rtol=1e-4)
    print(f"{name:8} {len(own):3} tensors, yours = pocketgpt: {same}")

# %% [markdown]
# ## 5 · Predict, then run: when does it know?
#
# A model that is cut off after n blocks is your `gpt` with `n_layers = n`: final norm and head then read the stream at that place. (The *logit lens*.) The whole model has a loss of 4.10 on our page. **Predict** the loss after the embedding, without any
# block, and after blocks 0, 1 and 2. A model that knows nothing has 8.32.


# %%
guess = predict(...)  # four numbers, such as 8.3, 7, 6, 5


def cut_after(n: int, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of the model without the blocks from n on."""
    with torch.no_grad():
        return gpt(tokens, weights, SimpleNamespace(**vars(config) | {"n_layers": n}))


by_depth = [cut_after(n, tokens) for n in range(config.n_layers + 1)]
losses = torch.stack([next_token_loss(each, tokens) for each in by_depth])
copies = torch.stack([(each.argmax(-1) == tokens).float().mean() for each in by_depth])
guess.compare(", ".join(f"{loss:.1f}" for loss in losses[:4]))

# %%
title = "Read off early, the model repeats what it read, and is worse than one that knows nothing"
loss_by_depth(losses, copies, 8.32, title)

# %% [markdown]
# 43.0, then 9.1: worse than knowing nothing. It is still a copier: after the embedding the most probable token is in 38 % of the places
# the one just read, after block 0 in 52 %. The stream begins as *what I read* and has to end as *what comes next*.
#
# The lens reads early streams with a head made for the last one: it shows what can be **read off**, not all that is **known**.
# Position by position, for one line:

# %%
line = "ROMEO:\nWhat lady is that, which doth enrich the hand"


def show_line(text: str) -> None:
    tokenizer = pocket_tokenizer()
    ids = torch.tensor([tokenizer.encode(text or " ")[:16]])
    lens = torch.stack([cut_after(n, ids)[0] for n in range(config.n_layers + 1)]).softmax(-1)
    sure, top = lens.max(-1)
    words = [readable(tokenizer.decode([id])) for id in ids[0].tolist()]
    tops = [[readable(tokenizer.decode([id])) for id in row] for row in top.tolist()]
    title = "Where the embedding is sure, it repeats what was read; block 3 predicts what follows"
    lens_map(tops, sure, words, title)


show_line(line)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_line, text=line)

# %% [markdown]
# Read a column from top to bottom; bright means sure. Before the first block the model is sure of commas, line breaks and *the*, and would
# repeat them. (� is a piece of a character.) After the last it is seldom sure, and what it says could follow.
#
# ## 6 · Yours in the real model
#
# All of it, this time: nothing of the model is left but its weights.

# %%
before_and_after(gpt=gpt)

# %% [markdown]
# ### What the model notices, and what not

# %%
symptoms("gpt")

# %%
symptoms("transformer_block")

# %% [markdown]
# **It notices** most of what is done to the stream: an addition forgotten (10.28 and 8.37), norms exchanged (8.45), blocks backward
# (13.98), the last norm missing (7.21). A feed-forward beside attention (4.67) is milder; models trained that way exist, such as GPT-J.
# Only wrong masks and heads merged by `reshape` leak.
#
# **It does not notice** what it does not have: biases, learned positions, an untied head, a twelfth block, another eps. Nor log-probabilities in place of
# logits, since a second log_softmax changes nothing; and LayerNorm in place of RMSNorm costs 0.01. The checks find all of them, because they
# draw four kinds of configs.
#
# ### Capstone 1: your own GPT, in one file

# %%
# NBVAL_IGNORE_OUTPUT
mine = save_my_gpt()

# %% [markdown]
# Open `my_gpt.py` in the file browser at the left, and read it from top to bottom: it is the whole model. Above each function and its helpers is its chapter, and
# whether it is yours or a stand-in. It imports nothing of this course. When you have solved more exercises, run the cell again; changes
# that you made by hand are never overwritten.
#
# It loads the weights by itself, and writes:

# %%
weights, config = mine.load(folder)
with torch.no_grad():
    largest = (mine.gpt(tokens, weights, config) - theirs).abs().max()
print("same logits as pocketgpt:", bool(largest < 1e-4))
prompt = torch.tensor([pocket_tokenizer().encode("ROMEO:\n")])
print(pocket_tokenizer().decode(mine.write(prompt, weights, config, new_tokens=40)[0].tolist()))

# %% [markdown]
# It always takes the most probable token, so it writes the same text each time. Later chapters find this file with
# `my_gpt()` of the lab.
#
# ## 7 · What to remember
#
# - A model is a config and a dictionary of tensors. The same lines run GPT-2, LLaMA and the pocket model.
# - A block adds twice to the stream, each time read through a norm of its own. After the last block: a norm, and the head.
# - The logits at t predict token t + 1. A loss above ln V means a bug.
# - A new model has a loss near ln V, if its embedding is drawn with 0.02. Tied, it starts as a copier.
# - Small models with large vocabularies are mostly embedding. 2N FLOPs per token leaves attention out.
#
# ### Three questions
#
# <details><summary>1. You load weights from a file without "head.weight" into a model with a head of its own, and ignore the warning about a missing
# name. What is the loss?</summary>
#
# Near ln V: the stream is good, and the random head makes random scores of it. Six random heads, drawn with 0.02, gave 8.3 to 8.4.
#
# </details>
# <details><summary>2. `blocks = [block] * 4` in place of four new blocks. What do you see in the number of parameters, and in the loss of
# trained weights?</summary>
#
# All four are the same module, so the count has three blocks too few: 1,180,800 parameters in the pocket model. When four blocks' weights are
# loaded, each overwrites the one before, and the last block runs four times: 9.49 in the table above.
#
# </details>
# <details><summary>3. A model has 12 layers and d_model = 768. At which length does attention cost as much as all projections and feed-forwards with d_ff = 4 · d_model and no gate?</summary>
#
# Per token and layer 4 · d_model · seq against 2 · 12 · d_model². Equal at seq = 6 · d_model = 4,608.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/models/gpt.py` and `pocketgpt/models/stack.py`: the model, with a table of its random start. `pocketgpt/layers/block.py`: the block.
# `pocketgpt/models/presets.py`: all configs. `pocketgpt/course/lab/finished_gpt.py`: `my_gpt.py` with nobody's functions.
#
# ### Papers
#
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners* (GPT-2): the pre-norm block, and the start.
# - Touvron et al. 2023, *LLaMA*, [arXiv 2302.13971](https://arxiv.org/abs/2302.13971): RMSNorm, SwiGLU, RoPE.
# - Press and Wolf 2016, *Using the Output Embedding to Improve Language Models*, [arXiv 1608.05859](https://arxiv.org/abs/1608.05859): tying.
# - Kaplan et al. 2020, *Scaling Laws for Neural Language Models*, [arXiv 2001.08361](https://arxiv.org/abs/2001.08361): 6N FLOPs per token.
# - nostalgebraist 2020, *interpreting GPT: the logit lens*; Belrose et al. 2023, *Eliciting Latent Predictions from Transformers with the Tuned
#   Lens*, [arXiv 2303.08112](https://arxiv.org/abs/2303.08112): what the plain lens misses.
#
# **Next**: chapter 11 lets the model write, and asks how to choose the next token. Before that, find the bug: chapter 24,
# sections 1 to 3.
