# %% [markdown]
# # 25 · Exam
#
# **At the end** you know what you can do without help: find a bug from its symptoms, write an unknown block from its equation, and say
# beforehand what a model costs.
#
# **Time**: about 90 minutes. **You need**: chapters 0 to 15; above all chapter 5, chapter 8, chapter 9, chapter 10 and
# chapter 15; and chapter 24 for part 1.
#
# | part | exercises | points | minutes |
# |---|---|---|---|
# | 1 · five cases | 25.1, 25.2 | 9 | 30 |
# | 2 · a block from its equation | 25.3, 25.4 | 8 | 35 |
# | 3 · a budget | 25.5 to 25.7 | 8 | 25 |
#
# **The rules.**
#
# - There are no hints. A check says what is wrong, as always, and shows a case; no hint follows.
# - A check may be run as often as you like. In part 1, after five different wrong answers a check says no more until the kernel is restarted.
# - Your notebooks and PyTorch's documentation are allowed, and in answers your earlier functions and all of PyTorch's.
# - The exercises do not depend on each other: where one is missing, later cells take a finished version.
#
# `pocketgpt grade chapters/25_exam.ipynb` prints your points.

# %%
import torch
import torch.nn.functional as F

from pocketgpt.course.ch25_exam.experiments import means, reach, small_config, train
from pocketgpt.course.ch25_exam.figures import reach_map, two_blocks
from pocketgpt.course.ch25_exam.signing import my_cases
from pocketgpt.course.lab import causes, check, earlier, yours
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.models.presets import preset

torch.set_num_threads(1)

# %% [markdown]
# ## Part 1 · Five cases
#
# Five models or trainings, each with one planted mistake. Chapter 24 explains the figures. Your cases follow from your name, so your neighbor
# has others: write it in the place of Ada Lovelace's, and run the cells of this part.

# %%
cases = my_cases("Ada Lovelace")
for case in cases:
    print(f"Case {case.number}: choose from causes({case.part!r})")

# %%
cases[0].show()

# %%
cases[1].show()

# %%
cases[2].show()

# %%
cases[3].show()

# %%
cases[4].show()

# %%
causes("model")

# %%
causes("running")

# %%
causes("training")

# %% [markdown]
# ### Exercise 25.1 · `most_cases` · medium, 25 minutes · 5 points
#
# 1. Return two things: your name, and a list of five keys, the causes of your cases 1 to 5 in this order.
# 2. Write the name as a text into the answer, too: the grader draws your cases from it, and compares it with who handed in. Capitals and
#    additional spaces do not matter.
# 3. At least three of the five are right. The check does not say which.
#
# The form: `return "Ada Lovelace", ["uphill", "no_scale", "uphill", "uphill", "always_the_largest"]`.


# %%
def most_cases() -> tuple[str, list[str]]:
    """Returns your name, and five keys of causes."""
    ### BEGIN SOLUTION
    return "Ada Lovelace", [
        "loss_in_bits",
        "wrong_rope_layout",
        "leaking_mask",
        "no_warm_up",
        "cache_forgets_all",
    ]
    ### END SOLUTION


# %%
check.most_cases(most_cases)

# %% [markdown]
# ### Exercise 25.2 · `all_cases` · hard, 5 minutes · 4 points
#
# The same, and all five are right. If you have nothing to change, `return most_cases()` is enough.


# %%
def all_cases() -> tuple[str, list[str]]:
    """Returns your name, and five keys of causes, all of them right."""
    ### BEGIN SOLUTION
    return most_cases()
    ### END SOLUTION


# %%
check.all_cases(all_cases)

# %% [markdown]
# ## Part 2 · A block from its equation
#
# For parts 2 and 3: functions of earlier chapters, as you saved them, or finished ones. They take what they took there: `rms_norm(x, weight, eps)`,
# `swiglu(x, gate, up, down)`, `apply_rope(x, cos, sin)`, `split_heads(x, n_heads)`, `merge_heads(x)`,
# `causal_mask(query_positions, key_positions)`, `grouped_attention(q, k, v, mask)`.

# %%
# NBVAL_IGNORE_OUTPUT
rms_norm, swiglu, apply_rope = earlier("rms_norm", "swiglu", "apply_rope")
split_heads, merge_heads, causal_mask, grouped_attention = earlier(
    "split_heads", "merge_heads", "causal_mask", "grouped_attention"
)

# %% [markdown]
# Three published changes of the block, in one:
#
# - **Parallel**: attention and feed-forward read the same norm, at the same time (GPT-J, PaLM).
# - **QK-norm**: queries and keys are normalized, so that scores cannot grow without end (Henry et al.; ViT-22B; Qwen 3).
# - **A sliding window**: a token sees itself and the window − 1 tokens before it (Longformer, Mistral).

# %%
two_blocks()

# %% [markdown]
# $$n = \text{RMSNorm}(x;\, g, \varepsilon), \qquad y = x + \text{attention}(n) + \text{feed-forward}(n)$$
#
# $$\hat q_t = R_t\, \text{RMSNorm}(q_t;\, g_q, \varepsilon), \qquad
# \hat k_s = R_s\, \text{RMSNorm}(k_s;\, g_k, \varepsilon), \qquad
# \text{RMSNorm}(z;\, g, \varepsilon) = g \odot \frac{z}{\sqrt{\text{mean}(z^2) + \varepsilon}}$$
#
# $$o_t = \sum_{0\, \le\, t-s\, <\, w} a_{ts}\, v_s, \qquad
# a_{ts} = \text{softmax}_s\!\left(\frac{\hat q_t \cdot \hat k_s}{\sqrt{d_\text{head}}}\right)
# \text{ over the } s \text{ of this sum}$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$, $n$, $y$ | the stream, its norm, the stream after the block | (B, T, d_model) |
# | $g$ | weight of the norm of the stream | (d_model,) |
# | $q_t$, $k_s$, $v_s$ | query, key and value of one head at a position | (d_head,) |
# | $g_q$, $g_k$ | weights of QK-norm, the same for all heads | (d_head,) |
# | $R_t$ | the rotation of position t (RoPE) | |
# | $w$ | the window, a whole number from 1 up | |
# | $o_t$ | what a head returns at position t | (d_head,) |
#
# For T = 5 and w = 3, the rows being queries:
#
# ```
# ■ · · · ·
# ■ ■ · · ·
# ■ ■ ■ · ·
# · ■ ■ ■ ·
# · · ■ ■ ■
# ```
#
# ### Exercise 25.3 · `window_attention` · medium, 20 minutes · 4 points
#
# 1. `q` has shape (B, n_heads, T, d_head), `k` and `v` have (B, n_kv_heads, T, d_head): projected and split. n_heads is a multiple of
#    n_kv_heads, and neighboring query heads share a key/value head, as in chapter 9. Return the $o_t$, (B, n_heads, T, d_head).
# 2. Each query and each key is normalized over its own d_head numbers and multiplied by `q_weight` or `k_weight`, both (d_head,). `eps` is
#    $\varepsilon$.
# 3. Then queries and keys are rotated: `rope` is (cos, sin), each (T, d_head/2), in the layout of your `apply_rope`. Values are neither
#    normalized nor rotated.
# 4. Scores are divided by √d_head. With large weights they can be some thousands, and the result is still finite.
# 5. `window` is $w$; it may be larger than T.


# %%
def window_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_weight: torch.Tensor,
    k_weight: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
    window: int,
    eps: float,
) -> torch.Tensor:
    """q: (B, n_heads, T, d_head), k, v: (B, n_kv_heads, T, d_head). Returns the shape of q."""
    ### BEGIN SOLUTION
    q = apply_rope(rms_norm(q, q_weight, eps), *rope)
    k = apply_rope(rms_norm(k, k_weight, eps), *rope)
    positions = torch.arange(q.shape[2], device=q.device)
    near = positions[:, None] - positions < window
    return grouped_attention(q, k, v, causal_mask(positions, positions) & near)
    ### END SOLUTION


# %%
check.window_attention(window_attention)

# %%
window_attention = yours("window_attention")

# %% [markdown]
# ### Exercise 25.4 · `parallel_block` · medium, 15 minutes · 4 points
#
# 1. `x` has shape (B, T, d_model). Return $y$, same shape and dtype; leave `x` as it is.
# 2. `weights` is a dictionary; matrices are stored as (out, in), and there are no biases:
#
# | name | shape |
# |---|---|
# | `norm.weight` | (d_model,) |
# | `mixer.q_proj.weight` | (n_heads · d_head, d_model) |
# | `mixer.k_proj.weight`, `mixer.v_proj.weight` | (n_kv_heads · d_head, d_model) |
# | `mixer.q_norm.weight`, `mixer.k_norm.weight` | (d_head,) |
# | `mixer.o_proj.weight` | (d_model, n_heads · d_head) |
# | `feedforward.gate_proj.weight`, `feedforward.up_proj.weight` | (d_ff, d_model) |
# | `feedforward.down_proj.weight` | (d_model, d_ff) |
#
# 3. attention(n): project $n$ to queries, keys and values; split into heads; `window_attention`; merge the heads; o_proj.
# 4. feed-forward(n): SwiGLU, as in chapter 6. SiLU acts on the gate.
# 5. `rope` is (cos, sin), as above. The config has `config.mixer.n_heads`, `config.mixer.n_kv_heads`, `config.mixer.d_head`,
#    `config.mixer.window`, and one `config.norm_eps` for all three norms.


# %%
def parallel_block(
    x: torch.Tensor,
    weights: dict[str, torch.Tensor],
    rope: tuple[torch.Tensor, torch.Tensor],
    config,
) -> torch.Tensor:
    """x: (B, T, d_model). Returns the stream after the block, (B, T, d_model)."""
    ### BEGIN SOLUTION
    mixer, eps = config.mixer, config.norm_eps
    n = rms_norm(x, weights["norm.weight"], eps)
    q = split_heads(F.linear(n, weights["mixer.q_proj.weight"]), mixer.n_heads)
    k = split_heads(F.linear(n, weights["mixer.k_proj.weight"]), mixer.n_kv_heads)
    v = split_heads(F.linear(n, weights["mixer.v_proj.weight"]), mixer.n_kv_heads)
    norms = weights["mixer.q_norm.weight"], weights["mixer.k_norm.weight"]
    y = merge_heads(window_attention(q, k, v, *norms, rope, mixer.window, eps))
    gate, up, down = (weights[f"feedforward.{name}_proj.weight"] for name in ("gate", "up", "down"))
    return x + F.linear(y, weights["mixer.o_proj.weight"]) + swiglu(n, gate, up, down)
    ### END SOLUTION


# %%
check.parallel_block(parallel_block)

# %% [markdown]
# ## Part 3 · A budget
#
# A model of your blocks: how large is it, how many texts does a GPU serve, and how long does the training take? The units:
#
# | unit | is | of what |
# |---|---|---|
# | 1 GiB | 2³⁰ bytes | memory of a GPU: `gpu["gib"]`, `gpu["reserved_gib"]`, whole numbers |
# | 1 GB | 10⁹ bytes | text on a disk: `run["text_gb"]`, a whole number |
# | 1 TFLOP/s | 10¹² FLOPs per second | a GPU's peak: `gpu["tflops"]` |
#
# Of the memory `reserved_gib` is taken. All the rest can be filled, to the last byte.
#
# ### Exercise 25.5 · `model_size` · easy, 6 minutes · 2 points
#
# 1. The model: an embedding, `config.n_layers` of your parallel blocks, one RMSNorm with a weight, and a head (vocab_size, d_model).
# 2. If `config.tie_embeddings` is True, the head is the embedding matrix; else it has a matrix of its own.
# 3. Return the number of parameters, a whole number. There are no biases, and RoPE has no weights.
# 4. The fields are `config.n_layers`, `config.d_model`, `config.vocab_size`, `config.tie_embeddings`; `n_heads`, `n_kv_heads` and `d_head`
#    of `config.mixer`; `config.feedforward.d_ff`. n_heads · d_head need not be d_model.


# %%
def model_size(config) -> int:
    """Returns the number of parameters of a model of parallel blocks."""
    ### BEGIN SOLUTION
    mixer, d = config.mixer, config.d_model
    projections = 2 * d * mixer.d_head * (mixer.n_heads + mixer.n_kv_heads)
    block = d + 2 * mixer.d_head + projections + 3 * d * config.feedforward.d_ff
    embeddings = (1 if config.tie_embeddings else 2) * config.vocab_size * d
    return config.n_layers * block + embeddings + d
    ### END SOLUTION


# %%
check.model_size(model_size)

# %% [markdown]
# ### Exercise 25.6 · `serving_plan` · medium, 8 minutes · 3 points
#
# One GPU serves texts, all of the same length. What is the widest form of the weights that fits, and how many texts fit beside it?
#
# 1. `n_params` weights take 4, 2 or 1 bytes each (float32, bf16, int8), once, however many texts there are. (The number is given; it need not
#    be the size of this config's model.)
# 2. Every text of `context` tokens has a cache of its own: a key and a value for each token, in each layer, for each of `n_kv_heads`
#    heads, `d_head` numbers each. A number of the cache takes 2 bytes, whatever the weights take.
# 3. The cache is a ring, as in chapter 12: a layer keeps at most `config.mixer.window` tokens of a text.
# 4. Nothing else takes memory.
# 5. Return two whole numbers: the largest of the widths 4, 2, 1 with which at least one text fits, and the largest number of texts with it.
#    If not even one text fits with width 1, return (0, 0).


# %%
def serving_plan(n_params: int, config, gpu: dict, context: int) -> tuple[int, int]:
    """gpu: "gib" and "reserved_gib". Returns (bytes of a weight, number of texts)."""
    ### BEGIN SOLUTION
    usable = (gpu["gib"] - gpu["reserved_gib"]) * 2**30
    mixer, tokens = config.mixer, min(context, config.mixer.window)
    text = 2 * config.n_layers * mixer.n_kv_heads * mixer.d_head * tokens * 2
    for width in (4, 2, 1):
        if width * n_params + text <= usable:
            return width, (usable - width * n_params) // text
    return 0, 0
    ### END SOLUTION


# %%
check.serving_plan(serving_plan)

# %% [markdown]
# ### Exercise 25.7 · `training_plan` · hard, 11 minutes · 3 points
#
# A training with AdamW. How many texts does each GPU hold at once, and how many hours does the run take? `run` is a dictionary with
# `"text_gb"`, `"bytes_per_token"`, `"seq"`, `"gpus"`, `"mfu"`, `"bf16"` and `"sharded"`.
#
# **Memory** of each GPU:
#
# 1. For each of the `n_params` parameters that it holds: the weight, its gradient, two buffers of AdamW, and with `run["bf16"]` a master copy. Their widths are
#    those of chapter 15: without bf16 all are float32; with it weights and gradients are bf16, master copy and buffers are float32.
# 2. With `run["sharded"]` (FSDP) each of the `run["gpus"]` GPUs holds n_params divided by their number, rounded up; without it (DDP) each holds
#    all.
# 3. For each token of the texts that it works on at once: the input of every block, d_model numbers of 2 bytes (checkpointing keeps nothing
#    else of a block), and the logits, vocab_size numbers of 4 bytes. A text has `run["seq"]` tokens. What is needed for one
#    block at a time is part of the reserve.
# 4. The number of texts is the largest that fits on one GPU, a whole number.
#
# **Time**:
#
# 5. The text has `text_gb` GB and is read once; a token has `bytes_per_token` bytes on average.
# 6. FLOPs per token are those of chapter 15: forward and backward pass, the products with weights (projections, feed-forward, head) and
#    attention's own two, over the whole square of seq · seq, although a window hides most of it. They follow from `config`, for the model of
#    exercise 25.5, and not from `n_params`. What is computed a second time does not count.
# 7. All GPUs together reach the share `mfu` of their peak.
# 8. Return (texts, hours), hours as a float. If not even one text fits, return (0, inf); `float("inf")` makes one.


# %%
def training_plan(n_params: int, config, gpu: dict, run: dict) -> tuple[int, float]:
    """gpu: "gib", "reserved_gib", "tflops". Returns (texts on each GPU, hours of the run)."""
    ### BEGIN SOLUTION
    mixer, d, seq = config.mixer, config.d_model, run["seq"]
    held = -(-n_params // run["gpus"]) if run["sharded"] else n_params
    each = 2 + 2 + 8 + 4 if run["bf16"] else 4 + 4 + 8
    text = seq * (2 * config.n_layers * d + 4 * config.vocab_size)
    texts = ((gpu["gib"] - gpu["reserved_gib"]) * 2**30 - held * each) // text
    if texts < 1:
        return 0, float("inf")
    projections = 2 * d * mixer.d_head * (mixer.n_heads + mixer.n_kv_heads)
    block = projections + 3 * d * config.feedforward.d_ff + 2 * mixer.n_heads * mixer.d_head * seq
    flops = 6 * (config.n_layers * block + d * config.vocab_size)
    tokens = run["text_gb"] * 10**9 / run["bytes_per_token"]
    seconds = tokens * flops / (run["gpus"] * gpu["tflops"] * 10**12 * run["mfu"])
    return texts, seconds / 3600
    ### END SOLUTION


# %%
check.training_plan(training_plan)

# %% [markdown]
# ## After the exam
#
# The rest earns no points. Three of your blocks with random weights read a text, and a second time with another token in one place. How far
# does the change travel?

# %%
parallel_block = yours("parallel_block")
changes = reach(parallel_block, small_config(n_layers=3, window=5), seq=24, changed=4)
print("last position that changes:", [int(row.gt(1e-5).nonzero().max()) for row in changes])
print("nothing before it changes: ", not changes[:, :4].any())

# %%
reach_map(changes, changed=4, window=5)

# %% [markdown]
# A window of 5 does not limit a model to five tokens: each block hands information 4 positions on, three blocks 12. The farther, the weaker,
# as the colors show.
#
# Do such blocks learn? Two of them, a token a character, one page of Shakespeare, 60 steps of AdamW:

# %%
losses = means(train(parallel_block, small_config(), steps=60), 3)
print("loss below 2.7 after 60 steps:", losses[-1] < 2.7)

# %% [markdown]
# A model that knows nothing has ln 77 = 4.34. (One page is soon known by heart: only the gradients are tested here.)
#
# And your budget, for the shape of Llama 3 8B with your blocks and a window of 4,096:

# %%
model_size, serving_plan = yours("model_size"), yours("serving_plan")
training_plan = yours("training_plan")

mixer = AttentionConfig(n_heads=32, n_kv_heads=8, window=4096)
large = preset("llama", vocab_size=128_256, d_model=4096, n_layers=32, mixer=mixer,
               feedforward={"d_ff": 14_336}, tie_embeddings=False).resolved()  # fmt: skip
size = model_size(large)
print(f"{size:,} parameters")
for gib in (16, 24, 48, 80):
    width, texts = serving_plan(size, large, {"gib": gib, "reserved_gib": 1}, context=32_768)
    print(f"{gib} GiB: weights of {width} bytes, {texts} texts of 32,768 tokens")

# %%
gpu = {"gib": 80, "reserved_gib": 4, "tflops": 989}
run = {"text_gb": 100, "bytes_per_token": 4.4, "seq": 4096, "gpus": 8, "mfu": 0.4, "bf16": True}
for sharded in (False, True):
    texts, hours = training_plan(size, large, gpu, run | {"sharded": sharded})
    print(f"sharded: {sharded!s:5}  texts on each GPU: {texts:2}  hours: {hours:.0f}")

# %% [markdown]
# Without the window a text would take eight times as much memory. With DDP each GPU needs 16 bytes for each of 8 billion parameters, 128 GB,
# and no number of such GPUs helps; FSDP divides them. Without bf16 it is 16 bytes as well, 4 + 4 + 8 in place of 2 + 2 + 8 + 4: of these,
# bf16 saves nothing.
#
# ### What to repeat
#
# | you missed | look at |
# |---|---|
# | 25.1, 25.2 | chapter 24, with another seed |
# | 25.3 | chapter 5, `rms_norm`; chapter 8, `apply_rope`; chapter 9, `grouped_attention`; chapter 12, the window of `decode_attention` |
# | 25.4 | chapter 4, `split_heads`; chapter 6, `swiglu`; chapter 10, `transformer_block` |
# | 25.5 | chapter 10, `count_parameters` |
# | 25.6 | chapter 9, `cache_bytes`; chapter 12, the ring |
# | 25.7 | chapter 15, `training_bytes` and FSDP; `training_flops` and MFU |
#
# `pocketgpt progress` lists the mistakes that your checks have met, by name.
#
# ### Where the finished code lives
#
# `pocketgpt/layers/attention.py` has QK-norm and the window (the library's blocks are not parallel), `pocketgpt/models/stack.py` the sums,
# `pocketgpt/inference/kv_cache.py` the ring. The attention of part 2 agrees with `Qwen3Attention` of transformers, and the block with its parallel
# `Cohere2DecoderLayer`, given Qwen 3's attention, norm and feed-forward.
#
# ### Papers
#
# - Wang and Komatsuzaki 2021, *GPT-J-6B*; Chowdhery et al. 2022, *PaLM*, [arXiv 2204.02311](https://arxiv.org/abs/2204.02311): the parallel block.
# - Henry et al. 2020, *Query-Key Normalization for Transformers*, [arXiv 2010.04245](https://arxiv.org/abs/2010.04245): unit length and a learned
#   factor in place of 1/√d_head. Dehghani et al. 2023, *Scaling Vision Transformers to 22 Billion Parameters*,
#   [arXiv 2302.05442](https://arxiv.org/abs/2302.05442): a norm with weights, and the scale stays, as here.
# - Beltagy et al. 2020, *Longformer*, [arXiv 2004.05150](https://arxiv.org/abs/2004.05150), and Jiang et al. 2023, *Mistral 7B*,
#   [arXiv 2310.06825](https://arxiv.org/abs/2310.06825): windows, and how far they reach in depth.
