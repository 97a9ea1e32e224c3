# %% [markdown]
# # 0 · Start here
#
# **At the end** you have written one function of two lines, and it runs inside a trained language model: all 24 of
# its attention heads compute with your code, and the model still writes Shakespeare. You also know how the
# chapters of this course work.
#
# **Time**: about 35 minutes. **You need**: Python, and a first look at PyTorch tensors (what a shape is, what an axis
# is). You need to know nothing about language models.
#
# A notebook is made of cells. Click on the gray one below and press **Shift+Enter**: it runs, shows what it prints,
# and moves on to the next. Run every cell in order, from top to bottom. The first one only fetches the tools and the
# model, and prints nothing.

# %%
import math

import torch

from pocketgpt.commands.doctor import CHECKS, findings_of
from pocketgpt.course.ch00_start_here.figures import next_token_bars
from pocketgpt.course.lab import before_and_after, check, model_map, pocket_model, pocket_tokenizer
from pocketgpt.course.lab import predict, sliders, symptoms, yours
from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.presets import preset

model, tokenizer = pocket_model(), pocket_tokenizer()


# %%
def write(speaker: str, temperature: float, length: int) -> None:
    prompt = tokenizer.encode(f"{speaker}:\n")
    sampler = Sampler(temperature=temperature, top_k=None)
    new = generate(model, [prompt], max_new_tokens=length, sampler=sampler, seed=2)[0]
    print(tokenizer.decode(prompt + new))


write("ROMEO", temperature=0.8, length=80)

# %% [markdown]
# Shakespeare did not write that. A small model that ships with this course wrote it, just now, on your machine. It
# has read 35 of his 38 plays, over and over, and nothing else. It consists of 2.4 million numbers, its *parameters*; the largest models
# have about a hundred thousand times as many. It is small and often wrong, and it has **every part** that is on the
# map below.
#
# Play with it. `speaker` is who talks first, `length` how much to write. What `temperature` does you will find out by
# moving it, and understand in section 5.

# %%
# NBVAL_IGNORE_OUTPUT
sliders(write, speaker="JULIET", temperature=(0.1, 2.0, 0.1, 0.8), length=(40, 200))

# %% [markdown]
# ## The map
#
# Here is that model, all of it. Do not try to understand the picture yet: it is the map of the course. The number on
# each part is the chapter in which you write that part yourself. When all of it has been yours, you know how a GPT (a
# generative pre-trained transformer) works, because you have built one.

# %%
model_map(preset("pocket-shakespeare"))

# %% [markdown]
# Read it from left to right, as three magnifications.
#
# - **The model.** Text becomes whole numbers, called *tokens* (chapter 1). Each token becomes a list of 192 numbers,
#   a *vector*. The vectors go through four *blocks*, one after the other. At the end each vector becomes 4,096
#   *scores*, one for every token that could come next.
# - **One block** has two parts: *attention*, where the vectors of different words exchange what they know, and a
#   *feed-forward* layer, which works on each word alone.
# - **Its attention** holds most of the ideas, and the first chapters. Today you write part of the box *mask, softmax*:
#   look for the 0.
#
# Every later chapter opens with this map and shows where its piece belongs. The names in parentheses are shapes of
# tensors:
#
# | name | what it counts | here |
# |---|---|---|
# | `batch` | texts that are read side by side | 1 or more |
# | `seq` | tokens of a text | up to 256 |
# | `d_model` | numbers in the vector of a token | 192 |
# | `vocab` | different tokens | 4,096 |

# %% [markdown]
# ## How a chapter works
#
# You will do six things, again and again.
#
# 1. **Run** cells, and look at the pictures. Change a number and run them again. You can't break anything that
#    *Kernel → Restart* won't fix.
# 2. **Predict.** Now and then a cell asks for your guess before it computes the answer. Write it into `predict(...)`,
#    in place of the three dots. The cell prints it beside the outcome. A wrong guess is worth more than a right one,
#    since it shows you where to look.
# 3. **Write** a function, between `# YOUR CODE HERE` and the end of the cell.
# 4. **Check** it: the cell below it is one line. It tries your function on new random inputs every time, and when the
#    answer is wrong, it tells you which mistake it resembles. `check.example("softmax")` then returns the inputs that
#    failed.
# 5. **Hint**: three of them are folded up under each exercise. Open them one at a time, and as late as you can bear.
# 6. **See your code in the real model**: your function takes the place of the model's own (a *transplant*), and the
#    model reads and writes with it. If you are right, it cannot tell the difference.
#
# You can be stuck on an exercise and still continue: all later cells fall back on a finished version.
#
# ### Is everything here?
#
# The next cell examines your installation. A ✗ is followed by what to do about it. It may take ten seconds.

# %%
# NBVAL_IGNORE_OUTPUT
for examine in CHECKS:
    findings = list(findings_of(examine))
    mark = "✓" if all(finding.ok for finding in findings) else "✗"
    print(mark, examine.__name__.replace("_", " "))
    for finding in findings:
        if not finding.ok:
            print("   ", finding)

# %% [markdown]
# <details><summary>What to do about a ✗, in more words</summary>
#
# | line | what to do |
# |---|---|
# | python | The course needs Python 3.11 or newer. If you have it, this notebook runs on another one: *Kernel → Change Kernel*, or start it with `make lab`. |
# | torch | `pip install --upgrade torch`, then *Kernel → Restart*. |
# | devices | Some graphics processors compute attention wrongly in some number formats. The course computes on the CPU, so continue; remember it when you train. |
# | shipped files | The trained model or its vocabulary is missing or damaged. In a clone: `git checkout assets`. Otherwise install again. |
# | corpus | The plays are not fetched yet. You need them from chapter 14 on: `pocketgpt fetch shakespeare`. |
# | jupyter | The sliders may not show: `pip install ipywidgets`, then reload the page in the browser. Each slider has a picture above it that says the same. |
#
# The long form of this list is the command `pocketgpt doctor` in a terminal.
#
# </details>

# %% [markdown]
# ## 1 · The smallest example: from scores to probabilities
#
# The model does not write sentences. It does one thing only: it reads a text and says, for each of its 4,096 tokens,
# how likely that token is to come next. To write, one token is drawn from these probabilities, appended to the
# text, and the model is asked again.
#
# The model does not return probabilities, though, but **scores** (*logits* in code): any numbers, negative ones too,
# where larger means likelier. Suppose there were only three tokens. Follow the numbers by hand:
#
# | token | score | exp(score) | divided by the sum |
# |---|---|---|---|
# | lord | 2 | 7.39 | 7.39 / 11.11 = **0.67** |
# | friend | 1 | 2.72 | 2.72 / 11.11 = **0.24** |
# | sword | 0 | 1.00 | 1.00 / 11.11 = **0.09** |
# | | | sum 11.11 | sum 1 |
#
# exp makes every score positive, whatever its sign, and the division makes them sum to 1. This is the **softmax**.
# Raising a score by 1 makes its token e ≈ 2.72 times as likely, compared with the others.
#
# And the same for the real model, with 4,096 scores:

# %%
prompt = "Good morrow, my"
with torch.no_grad():
    scores = model(torch.tensor([tokenizer.encode(prompt)]))[0, -1]
print("scores:", tuple(scores.shape), f"from {scores.min():.1f} to {scores.max():.1f}")

# %%
title = f"After “{prompt}”, ten of the 4,096 tokens have most of the probability"
next_token_bars(scores.softmax(dim=0), tokenizer, title)

# %% [markdown]
# (The dot in front of a word is a space: most tokens bring their own.) The model has learned whom people in
# Shakespeare's plays bid good morrow.

# %% [markdown]
# ## 2 · The equation
#
# $$\text{softmax}(x)_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}} \qquad\text{with}\qquad m = \max_j x_j$$
#
# | symbol | what | shape |
# |---|---|---|
# | $x$ | scores | any, such as (2, 3) |
# | $i$, $j$ | places along **one** axis of $x$, called `dim` | |
# | $m$ | the largest score along `dim` | that of $x$, with 1 in place of `dim` |
# | softmax(x) | probabilities | that of $x$; sums to 1 along `dim` |
#
# **The axis.** In a tensor with several axes, `dim` says which numbers compete with each other. Look at the two sums:

# %%
x = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
print("dim=1, each row sums to 1:   ", x.softmax(dim=1).sum(dim=1))
print("dim=0, each column sums to 1:", x.softmax(dim=0).sum(dim=0))

# %% [markdown]
# **The numerical trap.** Why the $m$? It changes nothing: $e^{x_i - m} = e^{x_i} / e^m$, and $e^m$ cancels, as it is in
# the numerator and in the denominator. But a computer has a largest number, about 10³⁸ for float32, and exp grows
# fast. See what happens without it:

# %%
large = torch.tensor([1000.0, 999.0])
print("exp:        ", large.exp())
print("divided:    ", large.exp() / large.exp().sum())
print("half precision, exp(12):", torch.tensor(12.0, dtype=torch.float16).exp().item())

# %% [markdown]
# Infinity divided by infinity is NaN, *not a number*, and whatever is computed from a NaN is NaN as well. In half
# precision (float16), which ends at 65,504, a score of 12 is enough. When the largest score is subtracted first, the
# largest exp is $e^0 = 1$, and nothing can overflow.

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 0.1 · `softmax` · easy, 10 minutes
#
# 1. `x` has any shape; `dim` is one of its axes, and may be negative, which counts from the end.
# 2. Return a tensor of the shape and dtype of `x`. Along `dim` it sums to 1, in the proportions of exp(x).
# 3. Scores of 1000 and of −1000 must not give NaN. Not even in different rows of one `x`.
# 4. A score of −∞ gets probability 0. (If you subtract the right thing, you need no extra code.)
# 5. `torch.softmax` and its relatives are not allowed, as they would be the whole exercise.
#
# Replace the two lines under `def` and run the cell, then the check. Hand in a wrong answer first if you like: leave
# out the division, and read what the check says.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Three steps: subtract the largest, take exp, divide by the sum. The tools are `x.amax(…)`, `.exp()` and `.sum(…)`.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# With x of shape (2, 3), `x.amax(1)` has the shape (2,), and (2, 3) − (2,) does not fit. `x.amax(1, keepdim=True)`
# keeps the axis with size 1: (2, 3) − (2, 1) fits, and subtracts from each row its own maximum. The sum needs the
# same.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# raised = exp of (x minus the maximum of x along dim, axis kept); return raised divided by (the sum of raised along
# dim, axis kept).
#
# </details>


# %%
def softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """x: scores of any shape. Returns probabilities of that shape, which sum to 1 along `dim`."""
    ### BEGIN SOLUTION
    raised = (x - x.amax(dim, keepdim=True)).exp()
    return raised / raised.sum(dim, keepdim=True)
    ### END SOLUTION


# %%
check.softmax(softmax)

# %% [markdown]
# You will meet the next line after every exercise. If the function passes its check, it stays yours; if not, a
# finished one takes its place for the rest of the notebook, and the cell says so.

# %%
softmax = yours("softmax")

# %% [markdown]
# ## 4 · The same numbers, three ways
#
# A check compares your function with another one. So should you. Here are the formula as a plain loop over one list,
# your function, and PyTorch's own `torch.softmax`, which is what real models call. All must agree.


# %%
def softmax_in_a_loop(scores: list[float]) -> list[float]:
    largest = max(scores)
    raised = [math.exp(score - largest) for score in scores]
    return [each / sum(raised) for each in raised]


torch.manual_seed(0)
x = torch.randn(2, 6, 9, 9)  # the shape of the scores inside the model: (batch, heads, seq, keys)
mine = softmax(x, -1)
loop = torch.tensor(softmax_in_a_loop(x[1, 4, 7].tolist()))
print("yours = loop, for one row:", torch.allclose(mine[1, 4, 7], loop))
print("yours = torch.softmax:", torch.allclose(mine, torch.softmax(x, -1), atol=1e-6))

# %% [markdown]
# ## 5 · Predict, then run: temperature
#
# Here is what the slider at the top did: it **divides** all scores by the temperature, before the softmax. A division
# by 0.5 doubles every difference between two scores; a division by 2 halves it.
#
# At temperature 1 the model's favorite has the probability that you saw in the bars above. How much will it have at
# temperature 0.5? Replace the three dots by your guess, then run the cell.

# %%
guess = predict(...)  # a number between 0 and 1

for temperature in (1.0, 0.5):
    probability = softmax(scores / temperature, 0).max().item()
    print(f"temperature {temperature}: {probability:.2f}")
guess.compare(f"{probability:.2f}")

# %% [markdown]
# Doubling the differences **squares** the ratios: a token that was three times as likely as another becomes nine
# times as likely. So the favorite gains, at the expense of all others. Toward 0, only the favorite is left and the
# model always writes the same; above 1, the differences shrink, and unlikely words get their chance. The bars at
# temperature 2, and a slider:


# %%
def show(temperature: float) -> None:
    probabilities = softmax(scores / temperature, 0)
    title = f"At temperature {temperature:.1f} the favorite has {probabilities.max():.0%}"
    next_token_bars(probabilities, tokenizer, title)


show(2.0)

# %%
# NBVAL_IGNORE_OUTPUT
sliders(show, temperature=(0.1, 3.0, 0.1, 1.0))

# %% [markdown]
# Now go back to the first slider and let JULIET speak at 0.2 and at 1.8. You can hear the softmax.

# %% [markdown]
# ## 6 · Yours in the real model
#
# The softmax is not only at the model's end. In each of the four blocks, six *attention heads* score which earlier
# tokens are worth looking at, and a softmax turns those scores into shares of attention, for every token. That is
# where your function goes now: into all 24 heads.
#
# `before_and_after` reports three things, first for the model with its own parts, then with yours:
#
# - the **loss** on a page of *Macbeth*, a play the model was not trained on. At each token of the page it looks up
#   the probability that the model gave to that token, *before* seeing it, and takes −ln of it; the loss is the mean.
#   It is called *cross-entropy*, and because of the natural logarithm its unit is the *nat*. Lower is better. A model
#   that knows nothing and gives each of 4,096 tokens the same chance has −ln(1/4096) = 8.32 nats.
# - **positions that see a later token**: we change the last token of the page's first 256, and count at how many
#   earlier positions any score changes. It must be 0, since a model that predicts must not see what it predicts.
# - how the model continues `ROMEO:`, drawn with the same random numbers both times.

# %%
before_and_after(softmax=softmax)

# %% [markdown]
# ### And now on purpose: no division
#
# Suppose you had forgotten to divide by the sum. Predict the loss: will it be nearer to the one above, or to 8.32?

# %%
guess = predict(...)  # a loss


def no_division(x: torch.Tensor, dim: int) -> torch.Tensor:
    return (x - x.amax(dim, keepdim=True)).exp()


before_and_after(softmax=no_division, guess=guess)

# %% [markdown]
# A model that knows nothing has 8.32, because it gives every token the same chance. To do worse than that, a model
# must be sure of itself, and wrong. (If you see a �: that is half a character, and chapter 1 explains it.)
#
# ### The wrong axis
#
# Attention's scores have the shape (batch, heads, seq, keys): a row contains the scores that **one** token gives to
# all the tokens it may look at (its `keys`). The next function lets the columns compete instead. It returns the right
# shape, its numbers lie between 0 and 1, and along one axis they even sum to 1. Will the model still write words?
# Will it write sentences?

# %%
guess = predict(...)  # two of "yes" and "no": for words, for sentences


def wrong_axis(x: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.softmax(x, dim - 1)


before_and_after(softmax=wrong_axis, guess=guess)

# %% [markdown]
# Words, yes: each token is a word or a piece of one, whatever the order. Sentences, no. And look at the loss, which
# rose by much less than the text suffered. The count above the text says why: positions see later tokens. The model
# reads the page of *Macbeth* as a whole, and along the wrong axis each token competes with those that come **after**
# it. So a little of what the model should predict leaks into its sums. When it writes, nothing comes after, and
# nothing leaks.
#
# Two broken models, and no error message: **the right shapes, the wrong numbers**. That is how mistakes in a neural
# network look. So from here on you will not trust a function because it runs, nor a loss because it is low. You will
# check, compare with another way to compute the same, and listen to the model.
#
# ### More mistakes, measured
#
# Here are other mistakes that are easily made in this exercise, each put into the model. "leaks" is the count of
# positions that see a later token, here at the end of a short text.

# %%
quiet = "exp_overflows", "always_the_last_axis", "largest_of_everything", "powers_of_two"
loud = "infinity_as_zero", "sum_of_everything", "multiplied_by_the_sum", "smallest_subtracted"
symptoms("softmax", only=quiet + loud)

# %% [markdown]
# The first three show nothing at all: this model's scores are small enough for exp, and attention always asks for its
# last axis. The check finds them, because it also draws inputs that this model never meets. The NaN has a simple
# reason: attention hides later tokens with scores of −∞ (chapter 2), and then −∞ is the smallest.

# %% [markdown]
# ## 7 · What to remember
#
# - A language model turns a text into one score for every token that could come next. It writes by drawing one, again
#   and again.
# - Softmax: exp, divided by the sum of the exps, **along one axis**. Differences of scores become ratios of
#   probabilities.
# - Subtract the largest score first, along the same axis, and nothing overflows.
# - Temperature divides the scores: small means sure and dull, large means wild.
# - Wrong numbers raise no error, and one number that looks good proves little. Check, compare, and listen to the
#   model.
#
# ### Three questions
#
# <details><summary>1. You add 100 to every score. What happens to the probabilities?</summary>
#
# Nothing. exp(x + 100) = exp(x) · exp(100), and the factor cancels. Only differences of scores count, which is why you
# may subtract the largest.
#
# </details>
# <details><summary>2. x has the shape (2, 6, 9, 9). How many sums equal 1 after a softmax along the last axis, and along the second last?</summary>
#
# 2 · 6 · 9 = 108 both times: the product of the sizes of the other axes. The count does not tell you that the axis
# is wrong; the sums do.
#
# </details>
# <details><summary>3. The scores are (2, 1, 0). Which probabilities does a temperature near 0 give, and which a very large one?</summary>
#
# Near 0: (1, 0, 0), the favorite alone. Very large: (1/3, 1/3, 1/3), since all differences vanish.
#
# </details>
#
# ### Where the finished code lives
#
# `torch.softmax` in PyTorch. In the library: `pocketgpt/layers/attention_backends.py` and
# `pocketgpt/inference/sampling.py` call it; `pocketgpt/course/lab/transplanting.py` puts yours in their
# place. The answer to the exercise is in `solutions/00_start_here.ipynb`.
#
# ### Papers
#
# - Bridle 1990, *Probabilistic Interpretation of Feedforward Classification Network Outputs, with Relationships to
#   Statistical Pattern Recognition*: where the name softmax comes from.
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*: GPT-2, the model whose parts are on
#   the map.
#
# **Next**: the model reads whole numbers, and you typed letters. Chapter 1 builds what is in between: open
# `01_tokens.ipynb`.
