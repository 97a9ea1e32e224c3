# %% [markdown]
# # 14 · Training
#
# **At the end** you have a training loop of your own. It turns random numbers into a model that writes Shakespeare-like text, in
# about two minutes, and you can tell a training that works from one that only looks so.
#
# **Time**: about 100 minutes. **You need**: chapter 10 (the GPT). The first run downloads Shakespeare's plays (2 MB).
#
# Training surrounds the model: it feeds tokens in at the bottom, and what it changes is every weight in between.

# %%
import math
import tempfile
from pathlib import Path

import torch

from pocketgpt.course.ch14_training import experiments, figures
from pocketgpt.course.lab import ProgressLine, character_tokenizer, check, earlier_changes
from pocketgpt.course.lab import model_map, my_gpt, pocket_tokenizer, predict, recall, save_trained
from pocketgpt.course.lab import sliders, yours
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.text.corpora import load_corpus
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.trainer import Trainer

torch.set_num_threads(1)
model_map(preset("pocket-shakespeare"), highlight="training")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. A new model reads characters, 77 different ones. Which loss do you expect before its training?</summary>
#
# Near ln 77 = 4.34 nats: it gives each character about the same probability. A loss far above that means that the start is too large.
#
# </details>
# <details><summary>2. The gradient of one block has the norm 6, that of the other 8. Which norm has the gradient of both together?</summary>
#
# 10: the squares add up, 36 + 64 = 100.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(14)

# %% [markdown]
# ## 1 · The smallest example: a loss to be proud of
#
# A tiny model (2 layers, d_model 48, one token a character) learns from Shakespeare's plays for 300 steps. It has one bug: its causal
# mask reaches one position too far. The loss is measured twice, on the training plays and on three plays that the model never reads
# in training. **Predict** the two losses, in nats per character. Without the bug the same training ends at 2.3 on both.

# %%
# NBVAL_IGNORE_OUTPUT
guess = predict(...)  # two numbers, such as 2.3, 2.3

leaky = experiments.with_leak(experiments.new_model(seed=0))
*_, last = experiments.train(leaky, peak=1e-2, steps=300)
guess.compare(f"{last.training:.2f} on training plays, {last.held_out:.2f} on held-out plays")

# %% [markdown]
# Both are below 0.1, and nearly equal: by the usual rule nothing is memorized, and all is well. Now the model writes:


# %%
def speak(logits_of, tokenizer, prompt: str, n: int, temperature: float = 0.8) -> str:
    """Continue a prompt by n tokens, each drawn from the 40 most probable ones."""
    tokens, rng = torch.tensor([tokenizer.encode(prompt)]), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(n):
            top, ids = (logits_of(tokens[:, -64:])[:, -1] / temperature).topk(40)
            drawn = torch.multinomial(top.softmax(-1), 1, generator=rng)
            tokens = torch.cat((tokens, ids.gather(1, drawn)), dim=1)
    return tokenizer.decode(tokens[0].tolist())


# %%
# NBVAL_IGNORE_OUTPUT
print(repr(speak(leaky, character_tokenizer(), "ROMEO:\nWhat lady is that", 70)))

# %%
print("loss with only the beginning of a text to see above 4:", experiments.writing_loss(leaky) > 4)
probe = earlier_changes(leaky, experiments.held_out()[:1, :-1])
print(f"positions that see the last token: {probe} of 63\n\nthree seeds of the same training:")
for name, losses in experiments.stored()["leak"].items():
    print(
        f"{name:13} training {losses[0]:.2f}   held-out {losses[1]:.2f}   writing {losses[2]:.2f}"
    )

# %% [markdown]
# The model has learned to copy its neighbor on the right. When it writes there is no such neighbor, and with a loss of 4.3 to 4.8 it knows
# nothing (ln 77 = 4.34). Held-out text finds a model that has memorized. It cannot find a leak, which is in the held-out text as
# well. Two things find it: the causality probe of chapter 4, which must be 0 (here the last token reaches two positions back, one in each
# layer), and reading what the model writes. Keep both beside the loss.
#
# ## 2 · The equation
#
# A step of training has five parts: draw a **batch**; compute the **loss** and its gradient; **clip** the gradient; look up the
# **learning rate**; **update** each weight.
#
# $$\mathcal{L} = -\frac{1}{N} \sum_{b,t} \ln \text{softmax}(z_{bt})[y_{bt}], \qquad
# g \leftarrow g \cdot \min\!\left(1, \frac{c}{\lVert g \rVert}\right)$$
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\, g, \qquad v \leftarrow \beta_2 v + (1-\beta_2)\, g^2$$
#
# $$p \leftarrow p - \eta\,\lambda\, p - \eta\, \frac{\hat m}{\sqrt{\hat v} + \varepsilon}, \qquad
# \hat m = \frac{m}{1-\beta_1^{\,s}}, \quad \hat v = \frac{v}{1-\beta_2^{\,s}}$$
#
# | symbol | what | shape |
# |---|---|---|
# | $z$, $y$ | logits, and targets | (B, T, vocab), (B, T) |
# | $N$ | number of targets that count; the sum runs over these | |
# | $g$, $c$ | gradient of the loss; longest norm allowed, `limit` | all parameters |
# | $p$ | a parameter tensor | any |
# | $m$, $v$ | averages of the gradient and of its square, at first 0 | as $p$ |
# | $\beta_1, \beta_2$ | how much of the old average stays, 0.9 and 0.95 | |
# | $s$ | number of the update, from 1 | |
# | $\eta$, $\lambda$ | learning rate, weight decay | |
# | $\varepsilon$ | a small number against division by 0 | |
#
# This is **AdamW**. $\hat m / \sqrt{\hat v}$ has no unit: however large gradients are, a weight moves by about $\eta$ per step.
#
# **By hand.** Two tensors of one number each have the gradients 3 and 4. The norm of both is 5. Clipped to 1 they become 0.6 and 0.8,
# still in the same direction. Clipped each on its own, they would become 1 and 1: another direction.
#
# **The numerical trap** is the beginning. m and v start at 0, so the first averages are too small, by the factors $1-\beta_1$ and
# $1-\beta_2$. Without the division by $1-\beta^s$ the first step is not $\eta$:

# %%
for beta1, beta2 in ((0.9, 0.95), (0.9, 0.999)):
    m, v = (1 - beta1) * 1.0, (1 - beta2) * 1.0**2  # after a first gradient of 1
    corrected = (m / (1 - beta1)) / math.sqrt(v / (1 - beta2))
    print(
        f"betas {beta1}, {beta2}: first step {m / math.sqrt(v):.3f} η, corrected {corrected:.3f} η"
    )

# %% [markdown]
# With PyTorch's default betas, 0.9 and 0.999, the first step without correction is three times too long, when nothing is known yet.
#
# ## 3 · Your turn
#
# ### Exercise 14.1 · `make_batch` · easy, 5 minutes
#
# 1. `tokens` has shape (N,): the whole text. `starts` has shape (B,): places in it. `seq` is a number T.
# 2. Return `(inputs, targets)`, each (B, T), with the dtype of `tokens`.
# 3. Row b of the inputs is the T tokens from `starts[b]` on. Its targets are, at each place, the token **after** the input.
# 4. The largest start that occurs is N − T − 1. Its last target is the last token of the text.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A window of T + 1 tokens has T inputs and T targets, which overlap.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `starts[:, None] + torch.arange(seq)` is (B, T): the place of each input. Indexing a tensor with a matrix of places gives a matrix.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# places = starts as a column plus 0, 1, …, T − 1; return tokens at places, and tokens at places + 1.
#
# </details>


# %%
def make_batch(
    tokens: torch.Tensor, starts: torch.Tensor, seq: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """tokens: (N,), starts: (B,). Returns inputs and targets, (B, seq) each."""
    ### BEGIN SOLUTION
    places = starts[:, None] + torch.arange(seq)
    return tokens[places], tokens[places + 1]
    ### END SOLUTION


# %%
check.make_batch(make_batch)

# %% [markdown]
# ### Exercise 14.2 · `cross_entropy` · medium, 15 minutes
#
# Chapter 10 called PyTorch's function. This time write it, without `F.cross_entropy` and `F.nll_loss`.
#
# 1. `logits` has shape (B, T, vocab), `targets` (B, T). The batch is shifted already: the logits at t belong to the target at t.
# 2. Return the mean of −ln(probability of the target) over all targets of the batch, a tensor without axes.
# 3. The target −100 does not count, neither in the sum nor in the number that you divide by.
# 4. Logits of ±1000 must give the right loss, which can be 2000. A softmax rounds such small probabilities to 0, whose logarithm
#    is −infinity. `x.log_softmax(dim)` and `x.logsumexp(dim)` compute the logarithm without that.
#
# `x.gather(-1, index)` picks one number from each row of the last axis; `index` has as many axes as `x`, and no negative numbers.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# −100 is no place in the vocabulary: replace it by any token before you gather, and leave the result out afterwards.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `targets.clamp(min=0)[..., None]` is (B, T, 1), and so is what `gather` returns; take its last axis off. `x[mask]` keeps the
# places where a mask (B, T) is True.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# counts = targets are not −100; log_p = log_softmax of the logits over the vocabulary; chosen = log_p at the targets; return minus the mean of
# chosen where counts.
#
# </details>


# %%
def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """logits: (B, T, vocab), targets: (B, T). Returns the mean loss in nats, without axes."""
    ### BEGIN SOLUTION
    counts = targets != -100
    log_p = logits.log_softmax(dim=-1)
    chosen = log_p.gather(-1, targets.clamp(min=0)[..., None]).squeeze(-1)
    return -chosen[counts].mean()
    ### END SOLUTION


# %%
check.cross_entropy(cross_entropy)

# %% [markdown]
# ### Exercise 14.3 · `learning_rate` · easy, 10 minutes
#
# The rate rises in a straight line, then falls along half a cosine.
#
# 1. `step` counts updates from 0. For step < warmup the rate is peak · (step + 1)/(warmup + 1). So no update is wasted on a rate of 0,
#    and step `warmup` is the first at the peak. `warmup` may be 0, and is less than `steps`.
# 2. From step `warmup` on it falls from the peak to the floor: floor + (peak − floor) · (1 + cos(π · progress))/2. The progress goes in
#    a straight line from 0 at step `warmup` to 1 at step `steps`, one past the last update.
# 3. At `steps` and later it is the floor. Return a float.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Three cases. How many steps are there between the end of the warm-up and the end of all?
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# peak 1, floor 0, warmup 4, steps 24: the rates of steps 0 to 4 are 0.2, 0.4, 0.6, 0.8, 1; at step 14 the rate is 0.5.
# `math.cos` expects radians.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if still warming up: return the line; progress = (step − warmup)/(steps − warmup), at most 1; return floor plus the part of (peak − floor).
#
# </details>


# %%
def learning_rate(step: int, peak: float, floor: float, warmup: int, steps: int) -> float:
    """Returns the learning rate of update number `step`, counted from 0."""
    ### BEGIN SOLUTION
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / (steps - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
    ### END SOLUTION


# %%
check.learning_rate(learning_rate)

# %%
learning_rate = yours("learning_rate")
rates = {
    f"warm-up {n}": [learning_rate(step, 3e-3, 3e-4, n, 150) for step in range(160)]
    for n in (20, 0)
}
figures.schedule(rates, "With and without warm-up: the same peak, the same floor")

# %% [markdown]
# ### Exercise 14.4 · `adamw_step` · medium, 20 minutes
#
# One update of one tensor.
#
# 1. `p`, `grad`, `m`, `v` have the same shape, any. `step` is the number of this update, **from 1**. The rest are numbers.
# 2. Return `(p, m, v)`: all three new, with their old shape and dtype. Leave the inputs as they are.
# 3. m and v first take in this step's gradient; then they are corrected, and the corrected ones move p. The corrected ones are not
#    returned: the next step continues from m and v.
# 4. eps is added to the root of the corrected v.
# 5. The decay shrinks p by lr · decay · p, with the p from before the step. It is not part of the gradient: that is the W in AdamW.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The last three formulas of section 2, in the order of requirement 3. All operations go number by number.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# All tensors have one shape, and 1 − beta1^step is a plain number: `1 - beta1**step`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# m = beta1 · m + (1 − beta1) · grad; v the same with beta2 and the square; divide each by its correction, under new names; p = p − lr · decay · p − lr
# · corrected m / (root of corrected v + eps); return p, m, v.
#
# </details>


# %%
def adamw_step(
    p: torch.Tensor,
    grad: torch.Tensor,
    m: torch.Tensor,
    v: torch.Tensor,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """p, grad, m, v: tensors of one shape. Returns the new p, m and v."""
    ### BEGIN SOLUTION
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad.square()
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    p = p - lr * decay * p - lr * m_hat / (v_hat.sqrt() + eps)
    return p, m, v
    ### END SOLUTION


# %%
check.adamw_step(adamw_step)

# %% [markdown]
# ### Exercise 14.5 · `clip_gradients` · easy, 10 minutes
#
# 1. `grads` is a list of tensors of any shapes: the gradient of the whole model. `limit` is a number.
# 2. The norm is the root of the sum of all squares, over **all** tensors.
# 3. If it is above `limit`, multiply every tensor by limit/norm. Else the tensors stay as they are, also if all are 0.
#    Leave the inputs as they are: no operation in place, and a new list.
# 4. Return `(grads, norm)`: a list of tensors, and the norm **before** the clipping, a tensor without axes.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# One factor for all tensors keeps the direction.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `grad.square().sum()` has no axes; `torch.stack` makes (n,) of a list of n such tensors.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# norm = root of the sum over the tensors of their sums of squares; factor = limit/norm if norm > limit, else 1; return each times the factor, and
# norm.
#
# </details>


# %%
def clip_gradients(
    grads: list[torch.Tensor], limit: float
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """grads: tensors of any shapes. Returns the clipped ones, and the norm before clipping."""
    ### BEGIN SOLUTION
    norm = torch.stack([grad.square().sum() for grad in grads]).sum().sqrt()
    factor = limit / norm if norm > limit else 1.0
    return [grad * factor for grad in grads], norm
    ### END SOLUTION


# %%
check.clip_gradients(clip_gradients)

# %% [markdown]
# ### Exercise 14.6 · `perplexity` · easy, 5 minutes
#
# A loss in nats says little by itself. e to the loss does: the model is as unsure as one that chooses among that many equally likely
# tokens.
#
# 1. `losses` is a list with the mean loss of each batch, `counts` a list with its number of targets. The last batch is often smaller.
# 2. Return the perplexity of the whole text, a float: e to the mean loss over all **tokens**.
# 3. e to the **sum** over thousands of tokens is too large for a float, so it must not occur on the way.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The mean comes first, and e to the power last. A batch counts as often as it has targets.
#
# </details>
# <details><summary>Hint 2 · the numbers</summary>
#
# Losses 2 and 4 with counts 10 and 10: e³ = 20.1. With counts 30 and 10: e to 2.5.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# total = sum of loss times count; return exp of total divided by the sum of the counts.
#
# </details>


# %%
def perplexity(losses: list[float], counts: list[int]) -> float:
    """Returns the perplexity of a text, from the mean losses of its batches."""
    ### BEGIN SOLUTION
    total = sum(loss * n for loss, n in zip(losses, counts, strict=False))
    return math.exp(total / sum(counts))
    ### END SOLUTION


# %%
check.perplexity(perplexity)

# %% [markdown]
# The mean of the two perplexities would be (e² + e⁴)/2 = 31.0 in place of 20.1: never average after the exponential.

# %%
make_batch, cross_entropy = yours("make_batch"), yours("cross_entropy")
adamw_step, clip_gradients = yours("adamw_step"), yours("clip_gradients")
perplexity = yours("perplexity")

# %% [markdown]
# ## 4 · The same number, three ways
#
# The checks compared you with PyTorch: `unfold`, `F.cross_entropy`, `LinearLR` and `CosineAnnealingLR`, one step of
# `torch.optim.AdamW`, `clip_grad_norm_`, and NumPy's weighted average. Now all of it in one loop. The state of a training is weights,
# their m and v, and the number of steps; everything else follows from that.

# %%
# NBVAL_IGNORE_OUTPUT
mine = my_gpt()


# %%
class Run:
    """A training: what it reads, the recipe, and the state."""

    def __init__(self, text, config, batch=8, seq=64, peak=3e-3, warmup=20, steps=150):
        self.text, self.config, self.batch_size, self.seq = text, config, batch, seq
        self.peak, self.warmup, self.steps = peak, warmup, steps
        like = dict(GPT(config).named_parameters())
        weights = mine.new_weights(like, config.n_layers, seed=0)
        zeros = [{name: torch.zeros_like(w) for name, w in weights.items()} for _ in "mv"]
        self.state = {"step": 0, "weights": weights, "m": zeros[0], "v": zeros[1]}

    def batch(self, step: int):
        """Batch number `step`: the same whenever it is asked for."""
        rng = torch.Generator().manual_seed(step)
        starts = torch.randint(len(self.text) - self.seq, (self.batch_size,), generator=rng)
        return make_batch(self.text, starts, self.seq)


# %% [markdown]
# `batch(step)` draws from a generator that is seeded with the step. So a training that stops can continue with the very batch that would
# have been next. The two functions of a step:


# %%
def loss_and_gradients(run: Run) -> tuple[float, list[torch.Tensor]]:
    """The loss of this step's batch, and the clipped gradient of every weight."""
    inputs, targets = run.batch(run.state["step"])
    weights = {name: w.detach().requires_grad_() for name, w in run.state["weights"].items()}
    loss = cross_entropy(mine.gpt(inputs, weights, run.config), targets)
    grads, _ = clip_gradients(list(torch.autograd.grad(loss, list(weights.values()))), 1.0)
    return loss.item(), grads


def train_step(run: Run) -> float:
    """Updates every weight. Returns the loss before it."""
    loss, grads = loss_and_gradients(run)
    old, new = run.state, {"step": run.state["step"] + 1, "weights": {}, "m": {}, "v": {}}
    rate = learning_rate(old["step"], run.peak, run.peak / 10, run.warmup, run.steps)
    for name, grad in zip(old["weights"], grads, strict=True):
        decay = 0.1 if grad.ndim == 2 and "embedding" not in name else 0.0
        before = (old["weights"][name], grad, old["m"][name], old["v"][name])
        after = adamw_step(*before, new["step"], rate, 0.9, 0.95, 1e-8, decay)
        new["weights"][name], new["m"][name], new["v"][name] = after
    run.state = new  # all at once: a stop in the middle leaves the old state whole
    return loss


# %% [markdown]
# Norms and biases are not decayed: shrinking a scale loses signal and gains nothing. Neither is the
# embedding, by custom. Decay keeps matrices from growing.
#
# The library's `Trainer` gets the same weights, batches and recipe, and uses its own code: `torch.optim.AdamW`, SDPA, its own schedule.
# Both train the tiny character model for twenty steps, in float64.

# %%
config = experiments.new_model().config.resolved()
run = Run(experiments.characters("train"), config, seq=32, warmup=5, steps=20)
theirs = GPT(config).double()
run.state = {key: {n: w.double() for n, w in value.items()} if isinstance(value, dict) else value
             for key, value in run.state.items()}  # fmt: skip
with torch.no_grad():
    for name, parameter in theirs.named_parameters():
        parameter.copy_(run.state["weights"][name])
recipe = TrainConfig(optimizer="adamw", lr=3e-3, warmup=5, final_lr=0.1, steps=20, batch_size=8,
                     seq_len=32, precision="float32", device="cpu")  # fmt: skip
with tempfile.TemporaryDirectory() as folder:
    # The third argument is asked for batch(step); `run` has that.
    trainer = Trainer(theirs, pocket_tokenizer(), run, run.text.numpy(), recipe, Path(folder))
    pairs = [(train_step(run), trainer.train_step()["train_loss"]) for _ in range(20)]
print("loss of steps 0, 10, 19:", ", ".join(f"{pairs[n][0]:.2f}" for n in (0, 10, 19)))
print("yours = the trainer's to 1e-6, twenty times:", all(abs(a - b) < 1e-6 for a, b in pairs))

# %% [markdown]
# ## 5 · Predict, then run: the learning rate
#
# Six peak rates, from 0.0003 to 0.1, for the tiny model: 150 steps, warm-up 20, gradients clipped at 1, three seeds each. **Predict**
# the best rate, and the worst.

# %%
guess = predict(...)  # two numbers, such as 0.001, 0.1

warm, cold = experiments.stored_curves(warmup=20), experiments.stored_curves(warmup=0)
final = warm[..., -1].mean(1)
best, worst = (experiments.RATES[int(i)] for i in (final.argmin(), final.argmax()))
guess.compare(f"best {best:g}, worst {worst:g}")

# %%
title = (
    "Ten times too small costs as much as ten times too large; thirty times too small costs most"
)
names = ("warm-up 20", "no warm-up")
figures.rate_curves(warm, experiments.RATES, experiments.EVERY, title, cold, names)

# %%
# NBVAL_IGNORE_OUTPUT


def show_rate(rate: str, warm_up: str) -> None:
    shown = experiments.stored_curves(int(warm_up))
    title = f"Peak rate {rate}, warm-up {warm_up}"
    figures.rate_curves(
        shown,
        experiments.RATES,
        experiments.EVERY,
        title,
        names=(f"warm-up {warm_up}",) * 2,
        chosen=float(rate),
    )


sliders(show_rate, rate=[f"{rate:g}" for rate in experiments.RATES], warm_up=["20", "0"])

# %%
print("peak rate   loss after 150 steps, three seeds")
for rate, with_it, without in zip(experiments.RATES, warm[..., -1], cold[..., -1], strict=True):
    first, second = (", ".join(f"{x:.2f}" for x in each) for each in (with_it, without))
    print(f"{rate:9g}   warm-up 20: {first}   none: {second}")

# %% [markdown]
# With warm-up 0.01 is best, and 0.0003 is worst: it is too slow to arrive anywhere in 150 steps. Even 0.1 trains. A step of AdamW is
# bounded: however large gradients are, a weight moves by about η. A rate that is too **small** costs as much as
# one that is too large by the same factor (ten times: 2.87 and 2.89), and it looks harmless: its curve is smooth.
#
# "Warm-up is for stability", texts say. Up to 0.003 it changes nothing here (0.02 at most). At 0.01 it gains 0.3 to 0.6, and 0.01 with
# warm-up beats the best rate without, 0.003, by 0.09. So it **makes room for a larger rate**. A likely reason is in section 2: the first
# step is η for every weight, in the direction of one noisy batch. With 0.01 that is half of 0.02, the size at which matrices start. (All this
# for 60,000 parameters and 150 steps; larger models need smaller rates.)

# %%
norms = experiments.stored()["norms"]
figures.gradient_norms(
    {f"peak rate {rate}": values for rate, values in norms.items()},
    1.0,
    "Clipping acts in the first 30 steps, and hardly later",
)

# %% [markdown]
# These two are without warm-up. Clipping is an insurance: it acts at the start, and on the single batch whose gradient is far from the
# others. The norm is worth logging for itself: a jump shows a broken batch, or a step too far. It does not rank trainings: after six
# steps the worse one of these two, 0.1, always has the smaller norm.
#
# ## 6 · Yours in the real model
#
# ### What a training notices, and what not
#
# What a wrong training function does shows only after training. So each row is a training of the tiny model, 60 steps at the rate 0.003,
# with one known mistake of this chapter. The loss is measured correctly, on held-out text.

# %%
experiments.training_mistakes("adamw_step", "clip_gradients")

# %%
experiments.training_mistakes("make_batch", "cross_entropy", "learning_rate")

# %% [markdown]
# **It notices** what makes the targets wrong (shifted twice: 3.29, not shifted: 5.58), the wrong sign (11.61), averages that are lost between
# steps (3.16).
#
# **It does not notice** most mistakes. Many leave the loss within what another seed does to it; some make it **better**, down to 2.67. Those
# make the steps longer, and 0.003 is too small for 60 steps: a bug that acts like a larger learning rate looks like progress. AdamW also
# hides every constant factor of the loss, since m and √v grow alike: the sum in place of the mean, or bits in place of nats. "The loss goes
# down, so it is right" is wrong. The checks compare numbers, and so should you.
#
# ### Kill it in the middle
#
# A training of 40 steps stops after step 27: the machine went off. On the disk is the state after 20 steps, a *checkpoint*. It is resumed in three ways:
# (a) with the whole state, (b) with the weights alone, so that m, v and step are 0 again, (c) with weights and step, but m and v at 0.
# **Predict** for each: are its losses **equal** to those of the training that never stopped, to the last bit?

# %%
guess = predict(...)  # such as "a no, b yes, c no"


def save(state, file: Path) -> None:
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)  # so that the file is never half written


file = Path(tempfile.mkdtemp()) / "state.pt"
whole = Run(experiments.characters("train"), config, steps=40, warmup=10)
never_stopped = [train_step(whole) for _ in range(40)]
killed = Run(whole.text, config, steps=40, warmup=10)
for step in range(27):
    train_step(killed)
    if (step + 1) % 10 == 0:
        save(killed.state, file)


# %%
def resume(**forgotten) -> list[float]:
    """Losses of the next 20 steps from the file, with parts of its state replaced."""
    run = Run(whole.text, config, steps=40, warmup=10)
    run.state = torch.load(file, weights_only=True) | forgotten
    return [train_step(run) for _ in range(20)]


def zeros() -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(w) for name, w in whole.state["weights"].items()}


resumed = {
    "a": resume(),
    "b": resume(m=zeros(), v=zeros(), step=0),
    "c": resume(m=zeros(), v=zeros()),
}
guess.compare({name: losses == never_stopped[20:] for name, losses in resumed.items()})

# %%
# NBVAL_IGNORE_OUTPUT
for name, losses in {"never stopped": never_stopped[20:], **resumed}.items():
    print(f"{name:14}", " ".join(f"{loss:.2f}" for loss in losses[:10]))

# %% [markdown]
# Only (a) is equal, and bit for bit. But look at the losses: (c) is a little worse for a while, and (b), which reads the first 20 batches a
# second time, not even that. Batches differ by more. A resume is right if it continues **exactly**; a loss that goes on falling proves
# nothing. Three things make it exact: the state is complete (weights, m, v, step), batch and rate follow from the step, and the file on the
# disk is whole, because it is written beside the old one and then renamed. The state in memory is as safe: `train_step` fills a new one, and
# puts it in place when it is complete. A stop in the middle of an update loses that update, and nothing else.
#
# ### Capstone 2: your GPT, your loop, two minutes
#
# The model is the pocket model at half its width and half its depth, with your `my_gpt.py` as its code. It reads the course's own tokens, so that
# words come ready-made.

# %%
tokenizer = pocket_tokenizer()
plays, unread = ("\n".join(load_corpus("shakespeare", split)) for split in ("train", "validation"))
train_tokens = torch.tensor(tokenizer.encode(plays))
unread_tokens = torch.tensor(tokenizer.encode(unread[:60_000]))
config = preset("pocket-shakespeare", d_model=96, n_layers=2, feedforward={"d_ff": 256},
                mixer={"n_heads": 4, "n_kv_heads": 2}).resolved()  # fmt: skip
run = Run(train_tokens, config, peak=4e-3, warmup=60, steps=2000)
print(f"{sum(w.numel() for w in run.state['weights'].values()):,} parameters")


# %%
def held_out_loss(run: Run) -> tuple[float, float]:
    """Loss and perplexity on plays that the model never reads, 16 windows at a time."""
    rows = unread_tokens[: len(unread_tokens) // 65 * 65].view(-1, 65)
    losses, counts = [], []
    with torch.no_grad():
        for part in rows.split(16):
            logits = mine.gpt(part[:, :-1], run.state["weights"], config)
            losses.append(cross_entropy(logits, part[:, 1:]).item())
            counts.append(part[:, 1:].numel())
    answer = perplexity(losses, counts)
    return math.log(answer), answer


def text_now(run: Run) -> str:
    prompt = "ROMEO:\nWhat lady is that"
    return speak(lambda x: mine.gpt(x, run.state["weights"], config), tokenizer, prompt, 80)


# %% [markdown]
# Every 250 steps the state goes to the file `my_gpt_training.pt`, with what was measured. Stop the training when you like, and run its
# cell again: it goes on where it was. After a restart of the kernel it goes on from the file. (To begin anew, delete the file.)

# %%
# NBVAL_IGNORE_OUTPUT
losses, measured, texts = {}, {}, {}  # by step
file = Path("my_gpt_training.pt")
if file.exists():
    run.state, losses, measured, texts = torch.load(file, weights_only=True)
    print(f"{file}: {run.state['step']} steps are done, the training goes on from there.")

# %%
# NBVAL_IGNORE_OUTPUT
moments = (0, 20, 100, 500, run.steps)
line = ProgressLine(run.steps, tokens_per_step=8 * 64, done=run.state["step"])
for step in range(run.state["step"], run.steps + 1):
    if step in moments:
        texts[step] = text_now(run)
    if step in moments or step % 250 == 0:
        measured[step] = held_out_loss(run)[0]
        save((run.state, losses, measured, texts), file)
    if step < run.steps:
        losses[step] = train_step(run)
        line.step(losses[step])

# %%
# NBVAL_IGNORE_OUTPUT
for step, text in texts.items():
    print(f"--- after {step} steps, held-out loss {measured[step]:.2f}\n{text}\n")

# %%
# NBVAL_IGNORE_OUTPUT
title = "Two thirds of the gain come in the first 100 of 2,000 steps"
figures.whole_run(list(losses.values()), measured, math.log(4096), title)

# %% [markdown]
# At step 0 all tokens are equally likely. After 20 steps the model knows which tokens are frequent, after 100 some of the form of a play. After
# 500 there are speakers with a colon, and pairs of words that belong together. The last 1,500 steps improve what stands inside. Whole sentences
# seldom make sense: the model has 600,000 parameters, and has drawn a million tokens from a text of 1.5 million, some of them twice.
#
# Now keep it. The folder `my_gpt/` gets config, weights, tokenizer, and a card that says which functions are yours:

# %%
# NBVAL_IGNORE_OUTPUT
loss, unsure = held_out_loss(run)
trained = save_trained(
    run.state["weights"],
    config,
    tokenizer,
    step=run.steps,
    loss=loss,
    perplexity=unsure,
    sample=texts[run.steps],
)
file.unlink(missing_ok=True)  # the training is complete
print(Path("my_gpt/README.md").read_text())

# %%
weights, loaded = mine.load("my_gpt")
first = unread_tokens[None, :64]
with torch.no_grad():
    same = torch.allclose(mine.gpt(first, weights, loaded), trained(first), atol=1e-4)
print("loaded = trained:", same)
print("positions that see a later token:", earlier_changes(trained, first))
print("held-out loss below 5.2:", held_out_loss(run)[0] < 5.2)

# %% [markdown]
# Every command of the library reads the folder. In a terminal, in this folder:
# `pocketgpt generate --model my_gpt "ROMEO:"`.
#
# ## 7 · What to remember
#
# - A step: batch, loss, gradient, clip, rate, update. The state: weights, m, v, and the number of steps.
# - Loss and validation loss do not find a leak: 0.06 and 0.07, and 4.3 when writing. The causality probe does.
# - AdamW moves each weight by about η, whatever the size of its gradient. Without bias correction the first steps have another length.
# - Too small a rate costs as much as too large a one, and looks harmless. Warm-up makes room for a larger one.
# - Most mistakes in a training loop leave a model that trains. Compare numbers with a second implementation.
# - Perplexity is e to the mean over tokens. The mean comes first.
# - A resumed training is right if its losses are equal, not if they are similar.
#
# ### Three questions
#
# <details><summary>1. A model has the perplexity 132 over 4,096 tokens. What is its loss, and what would a model have that knows nothing?</summary>
#
# ln 132 = 4.88 nats. A model that knows nothing has ln 4,096 = 8.32, and the perplexity 4,096.
#
# </details>
# <details><summary>2. You multiply the loss by 1,000. What changes for AdamW with clipping at 1, and without clipping?</summary>
#
# Without clipping nearly nothing: m and √v both grow by 1,000, and eps counts even less. With clipping nearly every gradient is now above the limit:
# all get the norm 1, so batches with a large gradient lose their larger weight. In our table the sum of 512 losses in place of their mean
# trained as well as the mean.
#
# </details>
# <details><summary>3. A colleague resumes a training and sees that the loss continues to fall. What do you ask?</summary>
#
# Whether the losses are those of the training that did not stop. Otherwise m and v, the step (and with it rate and batches) may have begun anew,
# as in (b).
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/training/`: `step.py` and `trainer.py` (the loop), `loss.py`, `optimizer.py` (which weights are decayed, and Muon for matrices),
# `schedule.py`, `evaluate.py`, `checkpoint.py` and `training_state.py` (killed and resumed bit for bit), `recipes.py` (all settings). `pocketgpt train`
# starts it. The stored trainings: `pocketgpt/course/ch14_training/experiments.py`.
#
# ### Papers
#
# - Kingma and Ba 2014, *Adam*, [arXiv 1412.6980](https://arxiv.org/abs/1412.6980): two averages, and their bias correction (section 3).
# - Loshchilov and Hutter 2017, *Decoupled Weight Decay Regularization*, [arXiv 1711.05101](https://arxiv.org/abs/1711.05101): the W.
# - Loshchilov and Hutter 2016, *SGDR*, [arXiv 1608.03983](https://arxiv.org/abs/1608.03983): the cosine.
# - Goyal et al. 2017, *Accurate, Large Minibatch SGD*, [arXiv 1706.02677](https://arxiv.org/abs/1706.02677): warm-up.
# - Pascanu, Mikolov and Bengio 2012, *On the difficulty of training recurrent neural networks*,
#   [arXiv 1211.5063](https://arxiv.org/abs/1211.5063): clipping by the norm.
#
# **Next**: chapter 15 takes the same loop to many tokens, low precision, and several machines.
