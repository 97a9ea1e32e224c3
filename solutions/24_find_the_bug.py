# %% [markdown]
# # 24 · Find the bug
#
# **At the end** you can look at a model that runs without an error and is wrong, and say in which line the mistake is.
#
# **Time**: about 75 minutes, in three sittings. **You need**: chapter 10 (the GPT) for sections 1 to 3, chapter 13 (FlashAttention, and all
# of running a model) for section 4, chapter 15 (training at scale) for section 5.
#
# In the other chapters a check compared your function with a right one. Nobody has that at work. What one has is a loss, a probe, a
# few pictures and a sample of text.

# %%
import json

import torch

from pocketgpt.assets import asset
from pocketgpt.course.lab import causes, check, draw_cases, predict, recall, worked_case

torch.set_num_threads(1)

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. The causality probe of a model is 3. What does that say?</summary>
#
# When the last token is exchanged, the logits of three earlier positions change. So something in the model brings later tokens in, and
# not far: a missing mask would change all of them.
#
# </details>
# <details><summary>2. The attention weights of one query sum to 0.4. Between which two lines is the mistake?</summary>
#
# After the softmax, which makes each row sum to 1, and before the weights meet the values.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(24)

# %% [markdown]
# ## 1 · The smallest example: one case, solved
#
# The check of every exercise knows mistakes by name. Hundreds of those in chapters 0 to 13 run inside a trained model without an error, and the
# loss of each has been measured. **Predict**: what share of them moves the loss by no more than 0.05 nats?

# %%
guess = predict(...)  # a percentage

stored = json.loads(asset("symptoms.json").read_text(encoding="utf-8"))
rows = [
    (each["right"][0], loss if loss is not None else float("inf"))
    for each in stored.values()
    for name, (loss, leaks) in each.items()
    if name != "right" and leaks is not None
]
same = sum(abs(loss - right) <= 0.05 for right, loss in rows)
lower = sum(loss < right - 0.05 for right, loss in rows)
guess.compare(f"{same / len(rows):.0%} ({same} of {len(rows)}); {lower} more lower it")

# %% [markdown]
# Nearly a third. Many of them do no harm in this model, such as an ε in the wrong place or a size that happens to be right. Others are waiting
# for a longer text or a cache. And those that lower the loss all do it in one way: they let the model see what it should predict. So the
# loss is where a search begins, not where it ends.
#
# Here is a case. Everything in orange was measured on the broken model, everything in gray on the right one. The maps are those of one head in layer 1
# and one in layer 3, on the first 24 tokens of a passage; the head in layer 3 looks at the previous token.

# %%
worked_case("model", "mask_after_softmax").show()

# %% [markdown]
# Read it in this order:
#
# 1. **The probe** is far above 0: nearly every earlier position sees the last token. So the mistake lets the future in. That rules out
#    everything that computes one position alone: norms, feed-forward, rotation, the scale.
# 2. **The maps** have nothing above the diagonal. So the mask hides what it should, and still something of the hidden tokens comes through.
# 3. **The rows** do not sum to 1: the first ones sum to almost nothing, the last one to 1. A softmax makes rows that sum to 1. So weight
#    was taken away **after** it.
# 4. **Together**: the softmax ran over all keys, hidden ones too. They are in its denominator, which is how the future gets in, and
#    then their weights were set to 0. The mask came after the softmax.
#
# The loss and the text were not needed. They say that something is wrong, and not what.
#
# ## 2 · An order of looking
#
# A model is a chain. If a quantity is still right, the mistake comes after it; if it is wrong, the mistake comes before. So each look should
# cut the chain in two:
#
# | look at | what you see | where the mistake is |
# |---|---|---|
# | the probe | above 0 | where tokens meet: mask, softmax, cutting of heads |
# | the rows of a map | do not sum to 1 | between softmax and values, or the softmax has the wrong axis |
# | the maps, first layer first | layer 1 differs | before the first softmax: projections, heads, rotation, scale, mask |
# | | layer 3 differs, layer 1 does not | after the first softmax: values, stream, feed-forward |
# | | none differs | behind the last attention, or outside the model |
# | the sample | is that of the right model, word for word | outside of what the sample used: in what is measured, or in a kind of call that it does not make |
# | the loss | | it tells how bad it is, and sometimes decides between the last two |
#
# The right model beside the case is a luxury. Without one, you compare with what must hold: the probe is 0, rows sum to 1, a new model has a loss near ln V,
# logits with a cache are those without.
#
# ## 3 · After chapter 10: the model
#
# These are the causes to choose from. Some of them are never planted. `worked_case("model", key).show()` draws the evidence of any of them, on a
# passage of its own.

# %%
causes("model")

# %%
for case in draw_cases("model", seed=1):
    case.show()

# %% [markdown]
# ### Exercise 24.1 · `model_bugs` · medium, 20 minutes
#
# 1. Look at five cases, and name the cause of each. No cause occurs twice among the five.
# 2. Return `(seed, names)`: the seed that the cases were drawn with, and a list of five keys, in the order of the cases.
# 3. The function takes no arguments and computes nothing. What matters is how you found the names: write one line for each into the cell.
#
# A wrong name is answered by what the figure would have shown with it, and that for one case at a time. After four wrong answers about one seed the
# check stops giving reasons. Any whole number is a seed, and gives five cases of its own; change it above and in your answer.
#
# <details><summary>Hint 1 · the form of an answer</summary>
#
# `return 1, ["no_scale", ...]` with five keys of the list above, each a text, has the right form.
#
# </details>
# <details><summary>Hint 2 · where to look first</summary>
#
# Sort the five by the probe: 0 or not. Then ask of each map of layer 1 whether it changed at all ("largest change 0.00").
#
# </details>
# <details><summary>Hint 3 · a table</summary>
#
# | probe | then | |
# |---|---|---|
# | above 0 | weight above the diagonal, a few positions see the last token | the mask reaches one too far |
# | | weight above the diagonal, all positions do | no mask |
# | | rows sum to more and less than 1 | softmax over the queries |
# | | rows sum to at most 1 | mask after the softmax |
# | | maps look allowed, rows sum to 1 | the heads mix positions |
# | 0 | layer 1 changes, rows are sharper | no scale |
# | | layer 1 changes a little, the previous token is lost in layer 3 | rotation |
# | | layer 1 as it was, layer 3 not; loss a little higher | feed-forward |
# | | layer 1 as it was, layer 3 not; loss near 9 or above | residual |
# | | no map changes, the text is broken | final norm |
# | | no map changes, the text is the same | the loss itself |
#
# </details>


# %%
def model_bugs() -> tuple[int, list[str]]:
    """The seed of five cases of the part "model", and the key of the cause of each."""
    ### BEGIN SOLUTION
    # 1: the probe is 255, and half of the weight is above the diagonal: nothing is hidden.
    # 2: both maps are those of the right model, and the text breaks down: behind the attention.
    # 3: the probe is 0. In layer 1 most rows have one bright key: the scores are too large.
    # 4: layer 1 is as it was, and layer 3 is not. A loss of 4.4 is no lost stream: feed-forward.
    # 5: the probe is 255, but nothing is above the diagonal. Rows sum to 0.03 and to 4.3.
    return 1, [
        "no_causal_mask",
        "final_norm_forgotten",
        "no_scale",
        "gate_without_activation",
        "softmax_over_queries",
    ]
    ### END SOLUTION


# %%
check.model_bugs(model_bugs)

# %% [markdown]
# ## 4 · After chapter 13: running it
#
# A model is right, and runs wrongly: with a cache, or with a sampler. Texts of 64 tokens are read in three ways: a **prompt** of 16 tokens in one
# call, then **one token at a time**, then a **chunk** of 8 in one call, as a second question in a conversation comes. At each position the logits with the
# cache should be those without it, so the first panel should be empty.
#
# Then the model writes eight texts of 40 tokens, with a cache, top-k with k = 20 and a temperature of 0.6. The last panel counts which rank each drawn
# token had in the logits of that step. The loss is measured with the cache and without a sampler.

# %%
causes("running")

# %%
for case in draw_cases("running", seed=1):
    case.show()

# %% [markdown]
# ### Exercise 24.2 · `running_bugs` · medium, 20 minutes
#
# 1. Look at five cases, and name the cause of each.
# 2. Return `(seed, names)` as before.
#
# <details><summary>Hint 1 · the form of an answer</summary>
#
# `return 1, [...]` with five of the keys above, as texts.
#
# </details>
# <details><summary>Hint 2 · where to look first</summary>
#
# If the first panel is empty, the cache is right, and the ranks tell what the sampler does. If not: at which position does it begin, 0, 16, 17
# or 56? That is the kind of call in which the mistake first does harm.
#
# </details>
# <details><summary>Hint 3 · a table</summary>
#
# | the logits differ | then | |
# |---|---|---|
# | nowhere | all drawn tokens have rank 1 | no draw |
# | | ranks 6 to 20 are too frequent, and none is beyond 20 | temperature |
# | | many are beyond 20 | top-k |
# | from 0 on | the prompt is wrong, and so is the chunk | what enters the cache |
# | from 16 on | as much at the end as at the beginning | positions: every new token is wrong |
# | | large at first, then fading, and small in the chunk | the distance is wrong by one: that is much for neighbors, and little far away |
# | | small at first, then growing, and large in the chunk | each step loses a little more of the text |
# | from 17 on | | the first step is right, and what it leaves behind is not |
# | from 56 on | the probe is above 0 | no mask in the chunk |
# | | the probe is 0 | a mask in the wrong corner |
#
# </details>


# %%
def running_bugs() -> tuple[int, list[str]]:
    """The seed of five cases of the part "running", and the key of the cause of each."""
    ### BEGIN SOLUTION
    # 1: the prompt is wrong from position 0, and the chunk again: calls with several tokens.
    # 2: it begins at 16, small, and grows: the text before is lost piece by piece.
    # 3: the logits are right, and half of the drawn tokens are beyond the top 20.
    # 4: it begins at 16, and the last differences are as large as the first.
    # 5: it begins at 16, large, and fades. The loss hardly moves.
    return 1, [
        "last_of_the_prompt_alone",
        "cache_drops_the_oldest",
        "top_k_filled_with_zeros",
        "positions_restart",
        "one_position_too_few",
    ]
    ### END SOLUTION


# %%
check.running_bugs(running_bugs)

# %% [markdown]
# ## 5 · After chapter 15: training it
#
# The model, the text and the loop are those of chapter 14: 60,000 parameters, one token a character, 120 steps with a peak rate of 0.003 and 20 steps
# of warm-up. Each mistake was trained with three seeds, and the logs are stored. The held-out loss is always computed by right code. The
# norm of the gradient is that before clipping, which shortens it to 1. The norm of the weights counts the matrices that weight decay acts on.

# %%
causes("training")

# %%
for case in draw_cases("training", seed=1):
    case.show()

# %% [markdown]
# ### Exercise 24.3 · `training_bugs` · medium, 20 minutes
#
# 1. Look at five cases, and name the cause of each.
# 2. Return `(seed, names)` as before.
#
# <details><summary>Hint 1 · the form of an answer</summary>
#
# `return 1, [...]` with five of the keys above, as texts.
#
# </details>
# <details><summary>Hint 2 · where to look first</summary>
#
# The learning rate and the probe: each is right or wrong at a glance. Then compare the two losses of the case with each other: do they begin
# at the same place, and do they part?
#
# </details>
# <details><summary>Hint 3 · a table</summary>
#
# | look at | what you see | |
# |---|---|---|
# | the learning rate | begins at its peak | no warm-up |
# | | falls below 0, and the loss explodes | the schedule |
# | the probe | above 0, both losses low | the mask |
# | both losses | rise from the first step, with a right rate | the sign of the update |
# | | do not move at all | no update arrives |
# | | differ by one factor from the first step | units |
# | the training loss alone | falls to nearly 0 within 60 steps | it copies: targets are inputs |
# | | falls to about 0.5, slowly | it memorizes one batch |
# | | hardly falls, small gradient, bad text | it is flat where the loss should be steep |
# | | falls to about 3, held-out loss higher, weights as they should be | another question is being learned |
# | the weights | shrink | decay |
#
# </details>


# %%
def training_bugs() -> tuple[int, list[str]]:
    """The seed of five cases of the part "training", and the key of the cause of each."""
    ### BEGIN SOLUTION
    # 1: no loss moves, and the weights hardly do. The gradient is there, and never arrives.
    # 2: the norm of the weights falls to a third in ten steps. Later the losses turn up again.
    # 3: the training loss goes to 0 in 60 steps, and the held-out loss above 7: it copies.
    # 4: the training loss stops near 3, the held-out loss above it; rate and weights are right.
    # 5: all is as it should be, except the first twenty learning rates.
    return 1, [
        "long_gradients_dropped",
        "decay_without_the_rate",
        "targets_not_shifted",
        "targets_two_ahead",
        "no_warm_up",
    ]
    ### END SOLUTION


# %%
check.training_bugs(training_bugs)

# %% [markdown]
# ## 6 · What no figure shows
#
# A missing warm-up does little harm here: with 60,000 parameters the losses even fall faster at first, and end where they should. Only the curve of the
# rate shows it. Other mistakes do not even have such a curve. An ε outside the root, or gradients clipped tensor by tensor: at these sizes you could
# not tell their figures from those of the right one (chapters 5 and 14 measured it). For those there is another tool: compare the function with a right one on
# inputs where it matters, as the checks of the course do. Evidence finds the place, and a test makes sure that the mistake does not come back.
#
# ## 7 · What to remember
#
# - First the probe, then where the difference begins, then the sample. The loss last.
# - Look for what must hold without a reference: probe 0, rows that sum to 1, logits with a cache as without, a first loss near ln V.
# - The first place that is wrong names the cause. What comes after is wrong anyway.
# - Text that is right, word for word, acquits everything that it used. Then the mistake is in the measurement, or in a kind of call that the
#   text does not need, such as the chunk of section 4.
# - A loss that falls too far is a finding, too.
#
# ### Three questions
#
# <details><summary>1. A model reads well without a cache. With it, the first new token is right and the second is not. What was wrong in the
# first step?</summary>
#
# Not its output: that was right. So what it left in the cache, or how the second step takes it up.
#
# </details>
# <details><summary>2. Training loss and held-out loss agree, both are 1.44 times what a colleague reports for the same model, from the first step on. What
# do you ask?</summary>
#
# In which unit. 1/ln 2 = 1.44: one of you reports bits, the other nats.
#
# </details>
# <details><summary>3. The maps of all layers are right, and the text is broken. Name two places where the mistake can be.</summary>
#
# Behind the last attention: the last feed-forward, the final norm, the head. Or in how the text is drawn.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/course/lab/bug_causes.py` has the causes, `bug_plants.py` puts them into the model, `bug_evidence.py` measures. `pocketgpt/course/ch24_find_the_bug/experiments.py`
# runs the trainings.
#
# ### Papers
#
# - Islam et al. 2019, *A Comprehensive Study on Deep Learning Bug Characteristics*, [arXiv 1906.01388](https://arxiv.org/abs/1906.01388): which
#   bugs are reported, and where.
# - Humbatova et al. 2020, *Taxonomy of Real Faults in Deep Learning Systems*, [arXiv 1910.11015](https://arxiv.org/abs/1910.11015): the same from
#   interviews with people who train models.
#
# **Next**: chapter 25 is the exam, with cases from all three parts. Until then, chapter 11 follows section 3, chapter 14 follows section 4,
# and chapter 16 follows section 5.
