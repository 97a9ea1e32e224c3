# %% [markdown]
# # 15 · Training at scale
#
# **At the end** you have trained one model in two processes with the same losses as in one, measured what each technique of large
# trainings costs and saves on your machine, and computed what the final training on a GPU will take: hours, dollars, loss.
#
# **Time**: about 90 minutes. **You need**: chapter 10 (the model, its parameters and FLOPs) and chapter 14 (loss, AdamW, clipping).
#
# The model stays as it is. What grows is the step around it, and here is the place of this chapter's five exercises in it.

# %%
import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.bench.timing import peak_bytes
from pocketgpt.bench.train import build_step, variants
from pocketgpt.course.ch15_training_at_scale.effects import LIVE, effects_table, kept_bytes, timed
from pocketgpt.course.ch15_training_at_scale.figures import agreement, float16_range, memory_bars
from pocketgpt.course.ch15_training_at_scale.figures import training_step_map
from pocketgpt.course.ch15_training_at_scale.two_processes import Plan, train_in_one_process
from pocketgpt.course.ch15_training_at_scale.two_processes import train_in_processes
from pocketgpt.course.lab import character_tokenizer, check, pocket_model, pocket_tokenizer, predict
from pocketgpt.course.lab import recall, sliders, yours
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.recipes import recipe

torch.set_num_threads(1)
training_step_map()

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. Adam divides the mean gradient by the root of the mean squared gradient. Every gradient of a run is twice as large as it
# should be. What does the training show?</summary>
#
# Nearly nothing: the factor cancels. Clipping sees it, as the norm is twice as large, and so does SGD.
#
# </details>
# <details><summary>2. How many FLOPs does the forward pass of a matrix with 1,000 weights cost for one token?</summary>
#
# 2,000: a multiplication and an addition for each weight. That it needs three times as much in training is exercise 15.4.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(15)

# %% [markdown]
# ## 1 · The smallest example: two parts of a batch
#
# A batch that does not fit into memory is read in **parts**, one after the other, and the gradients add up (*gradient accumulation*).
# With several processes, each reads parts of its own, at the same time (*data parallelism*). Both are exact, if you divide by the right
# number.
#
# Four targets, cut into a part of three and a part of one. Texts have different lengths, so parts have, too.
#
# | | losses of its tokens | its mean |
# |---|---|---|
# | part 0 | 1, 1, 1 | 1 |
# | part 1 | 5 | 5 |
# | all four together | 1, 1, 1, 5 | 8 / 4 = **2** |
# | the mean of the means | | (1 + 5) / 2 = **3** |
#
# In the mean of means the single token of part 1 counts three times as much as any other, so its gradient points elsewhere, too. This
# mistake was in large libraries until 2024 (links at the end).

# %%
parts = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([5.0])]
print("mean of all targets:", torch.cat(parts).mean().item())
print("mean of the means:  ", torch.stack([part.mean() for part in parts]).mean().item())
print("weighted by 3/4, 1/4:", 0.75 * parts[0].mean().item() + 0.25 * parts[1].mean().item())

# %% [markdown]
# ## 2 · The equations
#
# $$L = \sum_p \frac{c_p}{\sum_j c_j}\, L_p, \qquad
# \text{MFU} = \frac{\text{FLOPs per token} \cdot \text{tokens per second}}{\text{peak FLOPs per second}}$$
#
# | symbol | what |
# |---|---|
# | $L$, $L_p$ | the mean loss of the whole batch, and of part p |
# | $c_p$ | how many targets part p has: padding does not count |
# | $W$ | *world size*, the number of processes; the *rank* is the number of one of them, from 0 |
# | MFU | *model FLOPs utilization*: the share of what the machine can multiply that the model needed |
#
# DDP (*distributed data parallel*) gives every rank all weights and averages the gradients after each backward pass. FSDP (*fully sharded
# data parallel*) gives each rank a slice of weights, gradients and optimizer, and collects the weights of a block just before they are used.
#
# **The numerical trap** is the range of float16. Its numbers begin at 6 · 10⁻⁸ and end at 65,504. Many gradients are smaller than the
# first. So the loss is multiplied by a **scale** before the backward pass: all gradients grow by it, and are divided by it afterwards, in
# float32. If one of them overflows to infinity, the step is skipped and the scale was too large. bfloat16 has the range of float32 and
# needs no scale; it has fewer digits instead.

# %%
small, large = torch.tensor([2e-8, 300.0 * 300.0])
print("in float16: ", small.half().item(), large.half().item())
print("in bfloat16:", f"{small.bfloat16().item():.1e}", large.bfloat16().item())
print("1 + 1/512 in bfloat16:", (torch.tensor(1.0) + 1 / 512).bfloat16().item())

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 15.1 · `part_weights` · easy, 10 minutes
#
# 1. `counts` is a list: how many targets each part has. At least one part has some.
# 2. Return a list of floats, one for each part: the factor of its **mean** loss, so that the sum over all parts is the mean over all
#    targets.
# 3. A part without targets gets 0.0.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A part with three of four targets is three quarters of the batch.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# For [3, 1] it is [0.75, 0.25]. The factors always sum to 1.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# total = sum of the counts; return each count divided by the total.
#
# </details>


# %%
def part_weights(counts: list[int]) -> list[float]:
    """counts: targets of each part. Returns the factor of each part's mean loss."""
    ### BEGIN SOLUTION
    return [count / sum(counts) for count in counts]
    ### END SOLUTION


# %%
check.part_weights(part_weights)

# %% [markdown]
# ### Exercise 15.2 · `shard` · medium, 15 minutes
#
# All processes hold the same shuffled order of the texts. Each reads its own share, without a word to the others.
#
# 1. `order` has shape (N,): the indices of all texts, shuffled. `step` and `rank` count from 0; `batch` is what one rank reads in a step;
#    `world` is the number of ranks.
# 2. Return the indices of this rank in this step, shape (batch,), in the order in which it reads them.
# 3. The ranks take turns, one text each: in step 0, rank 0 of 3 reads what stands at the places 0, 3, 6, …, and rank 1 what stands at 1, 4,
#    7, ….
# 4. A step begins where all ranks together have stopped in the step before.
# 5. At its end the order starts over: place N is place 0 again, N + 1 is place 1. `batch` indices come back, always. (The library draws a
#    new order for each epoch, a pass through the texts; here the old one is enough.)
#
# `torch.arange(start, end, step)` makes a row of places; `%` gives a remainder, also of tensors.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Write down the places that 2 ranks with batch 3 read in steps 0 and 1: rank 1 reads 1, 3, 5, then 7, 9, 11.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# The first place is step · batch · world + rank, and there are `batch` of them, `world` apart. Indexing (N,) with (batch,) places gives (batch,).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# places = first + world times (0, 1, …, batch − 1); return the order at (places modulo the length of the order).
#
# </details>


# %%
def shard(order: torch.Tensor, step: int, batch: int, rank: int, world: int) -> torch.Tensor:
    """order: (N,). Returns the indices that this rank reads in this step, (batch,)."""
    ### BEGIN SOLUTION
    places = step * batch * world + rank + world * torch.arange(batch)
    return order[places % len(order)]
    ### END SOLUTION


# %%
check.shard(shard)

# %% [markdown]
# ### Exercise 15.3 · `loss_scale_step` · medium, 15 minutes
#
# Between the backward pass and clipping, when the loss was scaled.
#
# 1. `grads` is a list of float32 tensors: gradients of the **scaled** loss. `scale` is what the loss was multiplied by. `good` is the number
#    of good steps in a row before this one.
# 2. A good step has only finite values in all tensors. It returns three things: the gradients of the loss itself (a new list of
#    new tensors), the scale and the count of the next step.
# 3. After a good step the count is one more. When it reaches `interval`, the scale doubles and the count begins again at 0.
# 4. A step with an infinity or NaN anywhere is skipped: return `None` for the gradients, half the scale, and 0.
#
# `torch.isfinite(x)` is False for infinities and NaN; `.all()` is True if every element is.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The gradients were made with the scale that came in: divide by that one, whatever the next scale is.
#
# </details>
# <details><summary>Hint 2 · the cases</summary>
#
# Three: overflow → (None, scale / 2, 0); good and good + 1 equals interval → (grads, 2 · scale, 0); good otherwise → (grads, scale,
# good + 1). One bad element in any tensor is an overflow.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if any tensor has an element that is not finite: return None, scale / 2, 0; divide each tensor by scale; add 1 to good; if good is interval:
# return the list, twice the scale, 0; return the list, scale, good.
#
# </details>


# %%
def loss_scale_step(
    grads: list[torch.Tensor], scale: float, good: int, interval: int
) -> tuple[list[torch.Tensor] | None, float, int]:
    """Returns (gradients of the unscaled loss or None, next scale, good steps in a row)."""
    ### BEGIN SOLUTION
    if not all(torch.isfinite(g).all() for g in grads):
        return None, scale / 2, 0
    good += 1
    new_scale = scale
    if good == interval:
        new_scale, good = 2 * scale, 0
    return [g / scale for g in grads], new_scale, good
    ### END SOLUTION


# %%
check.loss_scale_step(loss_scale_step)

# %% [markdown]
# ### Exercise 15.4 · `training_flops` · easy, 10 minutes
#
# 1. Return the floating-point operations of a training step **for one token** in texts of `seq` tokens, a whole number.
# 2. Only matrix products count, as in `count_flops` of chapter 10: projections (shared keys and values included), feed-forward, the head, and
#    attention's own two products, over the whole square of seq · seq. The embedding is a lookup.
# 3. The backward pass needs two products for each one of the forward pass: one for the gradient of its input, one for that of its weights.
# 4. Attention's own products have two inputs, and each needs a gradient: two again.
#
# Your `count_flops` of chapter 10 is a good start. Count on these fields alone: `config.n_layers`, `config.d_model`, `config.vocab_size`; `n_heads`,
# `n_kv_heads` and `d_head` of `config.mixer`; `d_ff` and `activation` of `config.feedforward` ("swiglu" has three matrices, all others two).
#
# <details><summary>Hint 1 · a nudge</summary>
#
# One forward, two backward: three times the forward pass. Recomputing something does not count, as the model does not need it.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# 6 FLOPs for each weight that is multiplied, and 12 · n_layers · n_heads · d_head · seq for attention's own products.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# per layer: d_model · (2 · queries + 2 · keys) + (3 or 2) · d_model · d_ff + 2 · queries · seq, where queries and keys are the numbers of heads
# times d_head; return 6 · (n_layers · that + d_model · vocab_size).
#
# </details>


# %%
def training_flops(config, seq: int) -> int:
    """Returns the FLOPs of forward and backward pass for each token."""
    ### BEGIN SOLUTION
    mixer, d = config.mixer, config.d_model
    heads = d * (mixer.n_heads + mixer.n_kv_heads) + mixer.n_heads * seq
    inner = (3 if config.feedforward.activation == "swiglu" else 2) * config.feedforward.d_ff
    return 6 * (config.n_layers * (2 * mixer.d_head * heads + inner * d) + d * config.vocab_size)
    ### END SOLUTION


# %%
check.training_flops(training_flops)

# %% [markdown]
# ### Exercise 15.5 · `training_bytes` · easy, 10 minutes
#
# What a training keeps in memory whatever the batch is.
#
# 1. `n_params` parameters. `recipe` is a dictionary: `"weight_bytes"` (8 for float64, 4 for float32, 2 for bfloat16 and float16), `"buffers"`
#    (numbers that the optimizer keeps for each parameter: 2 for AdamW, 1 for SGD with momentum, 0 for SGD), `"master_copy"` (True or False).
# 2. Return four whole numbers of bytes: weights, gradients, optimizer, master copy.
# 3. A gradient is as wide as its weight.
# 4. A *master copy* is a second set of weights in float32 that the optimizer updates, where the weights themselves are too narrow for small
#    steps. Without one it is 0.
# 5. The buffers are as wide as what the optimizer updates.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Four sums, and none of them replaces another: with a master copy there are weights twice.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# Per parameter, AdamW: all float32 4 + 4 + 8 + 0; bfloat16 with a master copy 2 + 2 + 8 + 4; bfloat16 alone 2 + 2 + 4 + 0.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# updated = 4 if there is a master copy, else weight_bytes; return n_params times (weight_bytes, weight_bytes, buffers · updated, 4 or 0).
#
# </details>


# %%
def training_bytes(n_params: int, recipe: dict) -> tuple[int, int, int, int]:
    """Returns the bytes of weights, gradients, optimizer and master copy."""
    ### BEGIN SOLUTION
    width = recipe["weight_bytes"]
    master = 4 if recipe["master_copy"] else 0
    optimizer = recipe["buffers"] * (master or width)
    return n_params * width, n_params * width, n_params * optimizer, n_params * master
    ### END SOLUTION


# %%
check.training_bytes(training_bytes)

# %%
part_weights, shard = yours("part_weights"), yours("shard")
loss_scale_step, training_flops = yours("loss_scale_step"), yours("training_flops")
training_bytes = yours("training_bytes")

kinds = {"float32": (4, 2, False), "bf16, master copy": (2, 2, True), "bf16 alone": (2, 2, False)}
for name, (width, buffers, copy) in kinds.items():
    kind = {"weight_bytes": width, "buffers": buffers, "master_copy": copy}
    print(f"{name:18} {sum(training_bytes(1, kind)):2} bytes a parameter")

# %% [markdown]
# "Half precision halves the memory" is wrong as soon as there is a master copy: 16 bytes a parameter either way. What shrinks is what is
# kept for the backward pass (section 6), and the time. This course's trainer stores no narrow weights: with *autocast*, weights stay
# float32 and each product rounds its inputs to bf16.
#
# ## 4 · The same number, three ways
#
# The gradient of two texts: at once, in two parts with **your** weights, and by the library's loss, which divides each part's **sum** by the
# number of all targets.


# %%
model = pocket_model()
weights = list(model.parameters())
tokens = torch.tensor(pocket_tokenizer().encode(asset("held-out.txt").read_text(encoding="utf-8")))


def gradient(start: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over some targets of the held-out page, and its gradient as one long vector."""
    text = tokens[start : start + targets + 1][None]
    loss = F.cross_entropy(model(text[:, :-1])[0], text[0, 1:])
    return loss.detach(), torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])


# %%
counts = [244, 12]
part_grads = [gradient(0, 244)[1], gradient(600, 12)[1]]
accumulated = sum(w * g for w, g in zip(part_weights(counts), part_grads, strict=True))

first, second = tokens[:245][None], tokens[600:613][None]
padding = torch.full((1, 232), -100)
rows = torch.cat([first[:, :-1], torch.cat([second[:, :-1], padding.clamp(min=0)], dim=1)])
targets = torch.cat([first[:, 1:], torch.cat([second[:, 1:], padding], dim=1)])
whole = F.cross_entropy(model(rows).flatten(0, 1), targets.flatten(), ignore_index=-100)
whole = torch.cat([g.flatten() for g in torch.autograd.grad(whole, weights)])

loss = NextTokenLoss(model)
shares = loss(first[:, :-1], first[:, 1:], 256) + loss(second[:, :-1], second[:, 1:], 256)
library = torch.cat([g.flatten() for g in torch.autograd.grad(shares, weights)])
print("yours = both at once:", torch.allclose(accumulated, whole, atol=1e-6))
print("yours = the library: ", torch.allclose(accumulated, library, atol=1e-6))

# %% [markdown]
# Does your shard read every text? 24 texts, three ranks, batches of 4, two steps:

# %%
order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
read = [shard(order, step, 4, rank, 3) for step in range(2) for rank in range(3)]
print("every text once:", sorted(torch.cat(read).tolist()) == list(range(24)))

# %% [markdown]
# ## 5 · Predict, then run: how far off is the mean of means?
#
# Your two parts have 244 and 12 targets. Add their gradients with a half each, as if they were equal. **Predict** the cosine between this
# gradient and the right one: 1 is the same direction, 0 a right angle. And how many times as long is it?

# %%
guess = predict(...)  # a cosine and a factor, such as 0.95, 1.1


def compared(wrong: torch.Tensor, right: torch.Tensor) -> tuple[float, float]:
    """Cosine of the angle between two gradients, and the length of the first by the second's."""
    return F.cosine_similarity(wrong, right, dim=0).item(), (wrong.norm() / right.norm()).item()


halves = 0.5 * part_grads[0] + 0.5 * part_grads[1]
guess.compare("{:.2f}, {:.2f} times as long".format(*compared(halves, whole)))

# %%
found = []
for small in (4, 12, 32, 64, 96, 128):
    a, b = gradient(0, 256 - small)[1], gradient(600, small)[1]
    w = part_weights([256 - small, small])
    found.append(compared(0.5 * a + 0.5 * b, w[0] * a + w[1] * b))
agreement([4, 12, 32, 64, 96, 128], *zip(*found, strict=True), total=256)

# %% [markdown]
# The gradient of a few tokens is large and noisy, and the mean of means gives it half the vote. With equal parts the difference is 0:
# the mistake hides in tests with full windows and appears with padded texts.
#
# **Not dividing at all** is another mistake. On these two parts it has the direction of the halves and twice the length. With equal parts the
# direction is right, and Adam cancels the length: only the clipping, and the loss that is printed, give it away.
#
# ### What does float16 lose?
#
# The gradient of the model on 256 targets, rounded to float16. **Predict** the share that becomes exactly 0, in percent, and the share with a
# scale of 65,536.

# %%
guess = predict(...)  # two percentages

grads = gradient(0, 256)[1]
lost = [((grads * scale).half() == 0).double().mean().item() for scale in (1.0, 65536.0)]
guess.compare(f"{100 * lost[0]:.0f} % become 0; with the scale {100 * lost[1]:.1f} %")

# %%
float16_range(grads, 1.0)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(lambda power: float16_range(grads, 2.0**power), power=(0, 24))

# %% [markdown]
# Another 30 % lies where float16 loses digits. Move the scale: every doubling shifts the picture by one bar, and at 2¹⁹ the first gradients
# overflow. Nobody knows the best scale, and it changes during training, so `loss_scale_step` searches for it. Here it is at work, from a scale
# that is far too large, on this one gradient again and again:

# %%
scale, good, scales = 2.0**24, 0, []
for _ in range(40):
    scaled = [(grads * scale).half().float()]  # as a backward pass in float16 would give it
    _, scale, good = loss_scale_step(scaled, scale, good, interval=10)
    scales.append(int(torch.tensor(scale).log2().item()))
print("scale, as a power of 2:", scales)

# %% [markdown]
# It falls to 2¹⁸, and every ten good steps tries 2¹⁹ again, at the cost of a skipped step. (PyTorch's interval is 2,000.)
#
# ### Weights in bfloat16
#
# AdamW moves a weight by about the learning rate. Store the weights in bfloat16, without a master copy, and move each by 10⁻⁴, up or down.
# **Predict** the share of weights that change at all.

# %%
guess = predict(...)  # a percentage

narrow = torch.cat([w.detach().flatten() for w in weights]).bfloat16()
moved = (narrow.float() - 1e-4 * grads.sign()).bfloat16()
guess.compare(f"{100 * (moved != narrow).double().mean().item():.0f} %")

# %% [markdown]
# bfloat16 has 8 significant bits: near 0.05 its numbers are 0.0002 apart, and steps below half of that are rounded away, however often you take them.
# Hence float32 master copies, or weights in float32 and autocast.
#
# ## 6 · Yours in two processes
#
# Now a training that is small enough: a character model of two layers, on lines of a play. Lines differ in length, so
# batches differ in targets. `torchrun` starts the same program twice and tells each its rank; gloo carries
# gradients between them (on GPUs, NCCL). What a rank reads comes from your `shard`, and how much it counts from your `part_weights`.

# %%
page = asset("held-out.txt").read_text(encoding="utf-8")
texts = [character_tokenizer().encode(line)[:64] for line in page.splitlines() if len(line) > 1]
order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(1))
steps, batch, world = 12, 4, 2

rows = [[shard(order, s, batch, r, world).tolist() for r in range(world)] for s in range(steps)]
counts = [[sum(len(texts[i]) - 1 for i in part) for part in step] for step in rows]
plan = Plan(texts, rows, [part_weights(each) for each in counts])
print("targets of the two ranks in the first steps:", counts[:3])

# %%
one = train_in_one_process(plan)  # accumulation: the parts of a step one after the other
two = train_in_processes(plan)  # torchrun: the parts side by side, with DDP and with FSDP
if two.problem:
    print(f"No processes here, so one process stands in: {two.problem}.")
    two.losses = {mode: one.losses["one"] for mode in ("ddp", "fsdp")}
for mode, losses in two.losses.items():
    apart = max(abs(a - b) for a, b in zip(one.losses["one"], losses, strict=True))
    print(f"{mode:5} the same losses as in one process: {apart < 1e-3}")

# %% [markdown]
# The same losses, step after step: cut in time (accumulation), across processes (DDP), or with each process holding half of every weight
# (FSDP), it is one gradient. (DDP averages over the ranks, so the program multiplies your weights by W: an average of W times as much is the
# sum.) What differs is time and memory:

# %%
# NBVAL_IGNORE_OUTPUT
for result in (one, two):
    for mode, seconds in result.seconds.items():
        held = result.weight_bytes[mode]
        print(f"{mode:5} {1000 * seconds:5.0f} ms a step, {held:8,} bytes of weights")

# %% [markdown]
# FSDP halves the bytes in each process and pays with communication. Do not expect twice the speed: on two busy cores, one process took 28 ms,
# DDP 30 and FSDP 61; on less busy ones 19, 13 and 56. Waiting for the other process takes about as long as the step itself. The gain comes when
# a step computes much longer than it sends.
#
# ### What the training notices, and what not

# %%
same_data = [[shard(order, s, batch, 0, 1).tolist()] * 2 for s in range(steps)]
plans = {
    "right": plan,
    "W times once too often": Plan(texts, rows, [[2 * w for w in each] for each in plan.weights]),
    "the same data on both": Plan(texts, same_data, [[0.5, 0.5]] * steps),
}
for name, each in plans.items():
    last = train_in_one_process(each).losses["one"][-1]
    seen = {i for step in each.rows for part in step for i in part}
    print(f"{name:22} last loss {last:.2f}, texts read: {len(seen)}")

# %% [markdown]
# **It notices** a loss that is printed twice as large; the weights hardly do, as Adam cancels the factor: half of the loss is what it should
# be. **It does not notice** that both ranks read the same: half of the work is wasted, and only a count of what was read shows it. (Its last
# loss is that of other texts, so the two cannot be compared.) Nor does a loss show that steps were skipped, or that weights stand still.
# Count them: texts read, steps skipped, weights moved.
#
# Three more that no loss shows at once. With accumulation, DDP must be told before the **forward** pass whether this part communicates. A
# block that is computed a second time must draw the same dropout. And a resumed run must go on in the order, not begin it again.
#
# ### Where the bytes go, and what each technique does
#
# `kept_bytes` adds up what a forward pass keeps for the backward pass. *Activation checkpointing* keeps only the input of each block and computes
# the block again in the backward pass. A *chunked loss* never holds the logits of all tokens at once. A new model of the pocket's shape, 8
# texts of 256 tokens:

# %%
config = preset("pocket-shakespeare").resolved()
drawn = torch.randint(config.vocab_size, (8, 257), generator=torch.Generator().manual_seed(0))
windows = drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()

n_params = sum(w.numel() for w in weights)
fixed = training_bytes(n_params, {"weight_bytes": 4, "buffers": 2, "master_copy": False})
sizes = dict(zip(("weights", "gradients", "optimizer", "master copy"), fixed, strict=True))

# %%
bars, kept = {}, {}
for name, narrow, recompute, chunk in (
    ("float32", False, False, None), ("bf16 products", True, False, None),
    ("… checkpointed", True, True, None), ("… and loss in chunks", True, True, 512),
):  # fmt: skip
    new = GPT(config)
    new.recompute_blocks = recompute
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
        kept[name] = kept_bytes(NextTokenLoss(new, chunk), *windows)
    all_sizes = sizes | {"kept for the backward pass": kept[name]}
    bars[name] = {part: size / 2**20 for part, size in all_sizes.items()}

print("bf16 keeps less than float32:", kept["bf16 products"] < 0.9 * kept["float32"])
print("checkpointing, less than half:", kept["… checkpointed"] < 0.5 * kept["bf16 products"])

# %%
memory_bars(bars, "Most of the memory is kept for the backward pass, and most of that can go")

# %% [markdown]
# Only the light blue part depends on the batch. The blocks of this model are small beside its vocabulary: after checkpointing, three
# quarters of what is left is logits, and the chunked loss removes them.
#
# Now all techniques in one table. A row is a whole step: forward, backward, clipping, AdamW. The right half was measured once, with
# `torch.compile`, which takes a minute. If your machine is busy, run the cell again.

# %%
# NBVAL_IGNORE_OUTPUT
cpu = torch.device("cpu")
options = {name: each for name, each in variants(cpu, False, 1024).items() if name in LIVE}
half = [each[:4] for each in windows]  # 4 texts, to save time; the stored part has 8
built = {name: build_step(config, each, half, cpu) for name, each in options.items()}
peaks = {
    name: peak_bytes(step, cpu) for name, step in built.items()
}  # the first step warms up, too
seconds = {name: timed(step) for name, step in built.items()}
print(effects_table(seconds, peaks, one, two, lost))

# %% [markdown]
# The stored half, on 8 texts and one thread of a machine busy with other work (half of the float32 steps took between 1.2 and 1.6 seconds, so
# only large ratios count):
#
# - bf16 products: 1.3 times as fast, and hardly less memory at the peak, as the operating system counts it (the tensors alone need a fifth less).
#   On a GPU with units for bf16 the ratio is far larger.
# - Two parts: a third less memory at the same speed. Checkpointed blocks: 30 % less, and 1.3 times the time; 8/6 is what the FLOPs say.
# - The loss in chunks: a quarter less memory, and no slower at this vocabulary.
# - `torch.compile`: a third of the memory, 1.2 times as fast. With an attention for short texts: twice as fast as float32, and an MFU of
#   30 % in place of 15.
#
# ## 7 · The final training: one command
#
# GPT-2's smallest model, 124 million parameters, on 10 billion tokens of FineWeb-Edu. On one GPU, and on eight:
#
# ```
# pocketgpt train --preset gpt2 --out runs/gpt2
# torchrun --nproc-per-node 8 -m pocketgpt train --preset gpt2 --accumulation 2 --out runs/gpt2
# ```
#
# What to expect is **computed from published numbers, not measured by us**. The GPT-2 replication in llm.c needed 45 minutes on eight H100
# for 10 billion tokens ([modded-nanogpt](https://github.com/KellerJordan/modded-nanogpt)): 463,000 tokens a second on each. We take 460,000.
# An H100 multiplies 989 · 10¹² FLOPs a second in bf16 (its data sheet; twice that with *sparsity*, which training does not use). Your
# functions do the rest.


# %%
def expect(name: str, tokens: float, per_second: float, peak: float, gpus: int, dollars: int):
    """Print hours, dollars and MFU of a training; per_second and peak are those of one GPU."""
    config, hours = preset(name).resolved(), tokens / (per_second * gpus) / 3600
    n_params = sum(w.numel() for w in GPT(config).parameters())
    print(
        f"{gpus} GPU: {hours:.1f} hours, {hours * gpus * dollars:.0f} dollars at {dollars} an hour"
    )
    flops = training_flops(config, 1024), 6 * n_params
    counted, rule = (each * per_second / peak for each in flops)
    print(f"MFU {counted:.1%} with attention counted, {rule:.1%} by the rule 6N: the same run")
    kept = training_bytes(n_params, {"weight_bytes": 4, "buffers": 2, "master_copy": False})
    million, size = n_params / 1e6, sum(kept) / 1e9
    print(f"{million:.0f} million parameters: {size:.1f} GB before the first activation")


expect("gpt2", tokens=10e9, per_second=460_000, peak=989e12, gpus=1, dollars=3)
ours = recipe("gpt2")
print(f"recipe: {ours.steps:,} steps of {ours.tokens_per_step:,} tokens")

# %% [markdown]
# The price is an assumption: put in yours. The speed is that of hand-written CUDA. If your MFU is half of it, the hours double.
#
# **The loss.** llm.c reached 3.28 on FineWeb. A [PyTorch reproduction](https://debtirthasaha.github.io/blog/2026/gpt2-124m/) on eight A100
# reports 1.1 million tokens a second, 61 dollars, and 3.40 after 19,073 steps on FineWeb-Edu. Losses on two data sets cannot be compared.
# Expect a first loss near ln 50,257 = 10.8, and about 3.3 to 3.4 at the end.
#
# **An MFU needs its conditions**: with attention or 6N, of which peak, for how many GPUs.
#
# ### Capstone 3: your model, your budget
#
# Change the model and the numbers to fit your weekend; the last line is the command. The speed is a guess until you
# have measured it: `pocketgpt bench train --preset llama` does, with the preset's 12 layers: multiply by the ratio of `training_flops`.
# The checkpoints load with `GPT.load`, and with `load` of your `my_gpt.py`.

# %%
n_layers, tokens, per_second, peak = 8, 3e9, 100_000, 165e12  # such as one consumer card
mine = preset("llama", n_layers=n_layers, max_seq_len=1024).resolved()
hours = tokens / per_second / 3600
print(f"{hours:.1f} hours, MFU {training_flops(mine, 1024) * per_second / peak:.0%}")
print(f"pocketgpt train --preset llama --model.n-layers {n_layers} --seq-len 1024 "
      f"--batch-size 16 --accumulation 16 --steps {int(tokens / (16 * 16 * 1024))}")  # fmt: skip

# %% [markdown]
# ## 8 · What to remember
#
# - A batch may be cut in time and across processes, if each part counts by its number of targets.
# - The ranks take turns in one shuffled order, and all must agree on it.
# - float16 needs a scale, which halves after an overflow and doubles after many good steps. Unscale before clipping. bfloat16 needs
#   none, and float32 weights to add small steps to.
# - AdamW costs 16 bytes a parameter, in float32 and in half precision with a master copy. Activations depend on the batch: checkpointing
#   trades them for one more forward pass, 8/6 of the FLOPs.
# - 6 FLOPs a weight and token, plus attention. Say how you count an MFU.
#
# ### Three questions
#
# <details><summary>1. Four ranks with DDP, which averages gradients. By what do you multiply a rank's mean loss, if it has c of the C targets of the
# step?</summary>
#
# By 4c/C. The average divides by 4, and c/C is left.
#
# </details>
# <details><summary>2. A run with float16 and SGD shows a norm above 10⁵ before clipping at every step, and learns nothing. What was forgotten?</summary>
#
# To unscale before clipping. The scaled gradient is always clipped, and dividing it by the scale afterwards leaves next to nothing. AdamW
# cancels the factor and learns, but more slowly: its eps of 10⁻⁸ is not small beside such gradients.
#
# </details>
# <details><summary>3. A 7-billion-parameter model, AdamW, bfloat16 with a master copy. How many GPUs of 80 GB does FSDP need for weights, gradients and
# optimizer alone?</summary>
#
# 7 · 10⁹ · 16 = 112 GB: two, and more for the activations. With DDP it would not fit on any number of them, as each holds everything.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/training/step.py`: accumulation, unscaling, clipping. `pocketgpt/training/distributed.py`: DDP, FSDP2 and when they communicate.
# `pocketgpt/text/batches.py`: shards. `pocketgpt/training/prepare.py`: autocast, the scaler, torch.compile. `pocketgpt/training/recipes.py`: the
# recipe of section 7, and with `--preset latent` one for float16: a scaler, 72 texts a GPU, 4 parts.
#
# ### Papers
#
# - Micikevicius et al. 2017, *Mixed Precision Training*, [arXiv 1710.03740](https://arxiv.org/abs/1710.03740): the scale and the master copy.
# - Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*, [arXiv 1604.06174](https://arxiv.org/abs/1604.06174): checkpointing.
# - Li et al. 2020, *PyTorch Distributed*, [arXiv 2006.15704](https://arxiv.org/abs/2006.15704): DDP.
# - Rajbhandari et al. 2019, *ZeRO*, [arXiv 1910.02054](https://arxiv.org/abs/1910.02054), and Zhao et al. 2023, *PyTorch FSDP*,
#   [arXiv 2304.11277](https://arxiv.org/abs/2304.11277): shards of the optimizer, gradients and weights.
# - Chowdhery et al. 2022, *PaLM*, [arXiv 2204.02311](https://arxiv.org/abs/2204.02311): MFU, in its section 4.1.
# - The mean of means: [transformers #34191](https://github.com/huggingface/transformers/pull/34191),
#   [torchtune #1875](https://github.com/pytorch/torchtune/pull/1875).
#
# **Next**: chapter 16 makes texts long, where attention is most of the FLOPs. Before that, find the bug: chapter 24,
# section 5.
