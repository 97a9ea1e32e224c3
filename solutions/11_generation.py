# %% [markdown]
# # 11 · Generation
#
# **At the end** you have written everything between logits and text: temperature, top-k, top-p, the draw, the loop, and the loop for
# several prompts at once. And you have measured what each does to the text.
#
# **Time**: about 90 minutes. **You need**: chapter 3 (`entropy`) and chapter 10 (the model as a whole).
#
# Here is the place of this chapter: behind the head, at the very end.

# %%
import math
from functools import partial

import torch
from torch.nn.utils.rnn import pad_sequence

from pocketgpt.assets import asset
from pocketgpt.course.ch11_generation.experiments import SPEAKERS, measured_texts, repeated_4_grams
from pocketgpt.course.ch11_generation.figures import bars, by_temperature, loops, nucleus_sizes
from pocketgpt.course.lab import before_and_after, check, model_map, pocket_model, pocket_tokenizer
from pocketgpt.course.lab import predict, recall, sliders, yours
from pocketgpt.inference import sampling
from pocketgpt.inference.generate import generate
from pocketgpt.models.presets import preset

torch.set_num_threads(1)  # models this small are faster on one thread
model_map(preset("pocket-shakespeare"), highlight="generation")

# %% [markdown]
# ## Before you start: three questions
#
# <details><summary>1. A model reads seven tokens, and its logits have the shape (1, 7, 4096). Where are those of the eighth token?</summary>
#
# In `logits[:, 6]`, or `logits[:, -1]`: each position predicts the token that follows it.
#
# </details>
# <details><summary>2. A distribution has the entropy 3.33 nats. Among how many equally likely tokens is such a choice?</summary>
#
# exp(3.33) = 28. It is the mean entropy of the pocket model on a passage of *Macbeth*: it hesitates as among 28 tokens, of 4,096.
#
# </details>

# %%
# NBVAL_IGNORE_OUTPUT
recall(11)

# %% [markdown]
# ## 1 · The smallest example
#
# A model never writes. It gives probabilities, and a **policy** on top of them picks a token. Four tokens have the
# probabilities p = (0.5, 0.3, 0.1, 0.1). Here is what the usual policies make of them:
#
# | policy | probabilities |
# |---|---|
# | as the model says | 0.5, 0.3, 0.1, 0.1 |
# | temperature 0.5 | 0.694, 0.250, 0.028, 0.028 |
# | temperature 2 | 0.375, 0.290, 0.168, 0.168 |
# | temperature 0, called greedy | 1, 0, 0, 0 |
# | top-k with k = 2: the two most likely | 0.625, 0.375, 0, 0 |
# | top-p with p = 0.7: the fewest that have 0.7 together | 0.625, 0.375, 0, 0 |
# | min-p with 0.25: those with a quarter of the largest, 0.125 | 0.625, 0.375, 0, 0 |
#
# Temperature 0.5 **squares** the probabilities, 0.25 : 0.09 : 0.01 : 0.01, and divides by their sum, 0.36. Temperature 2 takes roots. So
# temperature is a power of the odds: 5 to 3 becomes 25 to 9. For top-p = 0.7, the first token has 0.5, not enough; with the
# second it is 0.8. **The token that crosses p stays.** Without it, top-p = 0.4 would keep no token at all.

# %%
p = torch.tensor([0.5, 0.3, 0.1, 0.1])
for temperature in (0.5, 2.0):
    print(temperature, [round(x, 3) for x in (p.log() / temperature).softmax(0).tolist()])
    powers = p ** (1 / temperature)
    print("  as powers", [round(x, 3) for x in (powers / powers.sum()).tolist()])

# %% [markdown]
# ## 2 · The equation
#
# $$P_i = \frac{e^{z_i/T}}{\sum_j e^{z_j/T}}, \qquad \text{token } i \text{ if } \; P_0 + \dots + P_{i-1} \le u < P_0 + \dots + P_i$$
#
# | symbol | what | shape |
# |---|---|---|
# | $z$ | logits after the last token of each text | (B, V) |
# | $T$ | the temperature, 0 or more | one number |
# | $P$ | probabilities of the next token | (B, V) |
# | $u$ | a random number between 0 and 1 for each text, 1 excluded | (B,) |
#
# A **filter** sits between: it sets the logit of a token to −∞, so its probability is e^(−∞) = 0, and the softmax shares the rest
# among the others. A filter takes logits and returns logits; so filters can follow each other.
#
# **The numerical traps.** T = 0 divides by zero, and a tiny T in its place overflows in float16, which ends at 65,504. And 4,096 rounded
# probabilities need not sum to exactly 1, so u can lie above their last sum. What T = 0 gives:

# %%
z = torch.tensor([3.0, 1.0], dtype=torch.float16)
print("float16, T = 1e-8:", (z / 1e-8).softmax(0).tolist())
print("float32, T = 0:   ", (z.float() / 0).softmax(0).tolist())

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 11.1 · `temper` · easy, 10 minutes
#
# 1. `logits` has shape (B, V), `temperature` is 0 or more.
# 2. Return the probabilities softmax(logits / temperature) of each row: (B, V), in the dtype of `logits`.
# 3. At temperature 0 the largest logit of each row has probability 1, all others 0. It must work in float16, too.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Temperature 0 is a case of its own, with its own `if`.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `logits.argmax(dim=-1, keepdim=True)` has the shape (B, 1). `zeros.scatter(-1, places, 1.0)` returns a copy of `zeros` with 1 at
# those places of each row.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# if temperature is 0: return zeros like logits, with 1 at each row's largest; return the softmax over the vocabulary of logits / temperature.
#
# </details>


# %%
def temper(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """logits: (B, V). Returns (B, V), probabilities."""
    ### BEGIN SOLUTION
    if temperature == 0:
        largest = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(logits).scatter(-1, largest, 1.0)
    return (logits / temperature).softmax(dim=-1)
    ### END SOLUTION


# %%
check.temper(temper)

# %% [markdown]
# Here is yours on the logits of the pocket model after *Good morrow, my*:

# %%
temper = yours("temper")
model, tokenizer = pocket_model(), pocket_tokenizer()
words = [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


@torch.no_grad()
def logits_after(text: str) -> torch.Tensor:
    """(1, V): the logits of the token that follows the text."""
    return model(torch.tensor([tokenizer.encode(text)]))[:, -1]


logits = logits_after("Good morrow, my")
settings = {f"T = {t:g}": temper(logits, t)[0] for t in (1.0, 0.5, 2.0)}
bars(settings, words, "Low temperature gives to the rich, high temperature to the many")

# %% [markdown]
# At T = 2 the gray bar has most of the probability: thousands of tokens, each of them nearly impossible, are together likelier than
# *lord*. That is why hot text falls apart. On 1,275 tokens of *Macbeth*, the exp of the mean entropy grows from 28 tokens at T = 1 to 918 at
# T = 2, and the less likely half of the vocabulary gets 8.6 % of the probability instead of 0.3 %.
#
# ### Exercise 11.2 · `keep_top_k` · easy, 5 minutes
#
# 1. `logits` has shape (B, V), `k` is at least 1 and may be larger than V.
# 2. Return (B, V): the k largest logits of each row unchanged and in their places, −∞ at all others.
# 3. Some logits may be −∞ already, from another filter; of the others, no two are equal in a row.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# All logits below the k-th largest go, and the k-th itself stays. `-math.inf` is −∞.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `logits.topk(k, dim=-1).values` has shape (B, k), largest first; `[:, -1:]` is the k-th, (B, 1). topk wants k ≤ V.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# k = the smaller of k and V; threshold = the k-th largest of each row; return logits with −∞ where they are below the threshold (`masked_fill`).
#
# </details>


# %%
def keep_top_k(logits: torch.Tensor, k: int) -> torch.Tensor:
    """logits: (B, V). Returns (B, V), −inf at all but the k largest of each row."""
    ### BEGIN SOLUTION
    k = min(k, logits.shape[-1])
    kth = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < kth, -math.inf)
    ### END SOLUTION


# %%
check.keep_top_k(keep_top_k)

# %% [markdown]
# ### Exercise 11.3 · `keep_top_p` · medium, 15 minutes
#
# The fewest tokens that together have probability p are called the nucleus.
#
# 1. `logits` has shape (B, V), 0 < p < 1.
# 2. Sort each row's probabilities, the largest first. A token stays if those **before** it have less than p together.
# 3. So the first always stays, the one that crosses p stays, and after a sum of exactly p none does.
# 4. Return (B, V): logits in the order of the vocabulary, unchanged where a token stays, −∞ elsewhere. Some may be −∞ already.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# The sum before a token is the sum up to it minus its own probability. Compare that with p.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `x.sort(dim=-1, descending=True)` returns values and `order`, both (B, V); `order` holds the ids. `cumsum(dim=-1)` adds up. A mask in sorted
# order goes back to the vocabulary by `torch.zeros_like(mask).scatter(-1, order, mask)`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# probabilities, order = softmax(logits), sorted; before = running sums minus probabilities; ruled out = (before ≥ p), scattered back by order; return
# logits with −∞ where ruled out.
#
# </details>


# %%
def keep_top_p(logits: torch.Tensor, p: float) -> torch.Tensor:
    """logits: (B, V). Returns (B, V), −inf outside of the nucleus of each row."""
    ### BEGIN SOLUTION
    probabilities, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
    before = probabilities.cumsum(dim=-1) - probabilities
    ruled_out = torch.zeros_like(before >= p).scatter(-1, order, before >= p)
    return logits.masked_fill(ruled_out, -math.inf)
    ### END SOLUTION


# %%
check.keep_top_p(keep_top_p)

# %% [markdown]
# The fourth filter is two lines, so here it is. Tokens stay that have at least `share` of the largest probability. A quotient of
# probabilities is a difference of logits, so it needs no softmax and no sorting:


# %%
def keep_min_p(logits: torch.Tensor, share: float) -> torch.Tensor:
    """logits: (B, V). Returns (B, V), −inf below `share` of the row's largest probability."""
    largest = logits.max(dim=-1, keepdim=True).values
    return logits.masked_fill(logits < largest + math.log(share), -math.inf)


keep_top_k, keep_top_p = yours("keep_top_k"), yours("keep_top_p")
settings = {
    "no filter": logits,
    "top-k 5": keep_top_k(logits, 5),
    "top-p 0.5": keep_top_p(logits, 0.5),
    "min-p 0.1": keep_min_p(logits, 0.1),
}
settings = {name: filtered.softmax(-1)[0] for name, filtered in settings.items()}
bars(settings, words, "A filter rules out the tail and gives its share to the others")

# %% [markdown]
# A × marks a token that is ruled out. Move the sliders, and write a text of your own. The temperature comes first here, then the three filters. Which of the filters notices the
# temperature?
#
# <details><summary>Answer</summary>
#
# top-p and min-p: a higher temperature makes the distribution flatter, so more tokens pass. top-k keeps k, whatever the temperature.
#
# </details>


# %%
# NBVAL_IGNORE_OUTPUT
def show(text: str, T: float, k: int, p: float, min_p: float) -> None:
    first = temper(logits_after(text or " "), T).log()  # log-probabilities are logits, too
    kept = keep_min_p(keep_top_p(keep_top_k(first, k), p), min_p)
    both = {f"T = {T:g}": first.softmax(-1)[0], "and filtered": kept.softmax(-1)[0]}
    bars(both, words, "Temperature, then filters")


sliders(
    show,
    text="Good morrow, my",
    T=(0.0, 2.0, 0.1, 1.0),
    k=(1, 100),
    p=(0.05, 0.95, 0.05, 0.95),
    min_p=(0.001, 0.5, 0.001, 0.001),
)

# %% [markdown]
# ### Exercise 11.4 · `draw` · medium, 10 minutes
#
# Lay the probabilities end to end, in the order of the vocabulary. They cover [0, 1), and a number u falls into the slice of one token.
#
# 1. `probabilities` has shape (B, V), `u` has shape (B,): one number for each row, 0 ≤ u < 1.
# 2. Return (B,), int64: the id whose slice contains u. A slice contains its lower end and not its upper end.
# 3. Probabilities of 0 occur, and their tokens are never drawn, also not for u = 0.
# 4. If rounding leaves the last sum at or below u, take the last token with a probability above 0.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# How many tokens end at or below u? That number is the id you want.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Running sums (B, V), from `cumsum(dim=-1)`. `u[:, None]` has the shape (B, 1). A comparison gives (B, V), and `.sum(dim=-1)` counts its Trues.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# sums = running sums; return, for each row, how many sums are at most u times the last sum. (With that factor, requirement 4 is met by itself.)
#
# </details>


# %%
def draw(probabilities: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """probabilities: (B, V), u: (B,). Returns (B,), ids."""
    ### BEGIN SOLUTION
    sums = probabilities.cumsum(dim=-1)
    return (sums <= u[:, None] * sums[:, -1:]).sum(dim=-1)
    ### END SOLUTION


# %%
check.draw(draw)

# %% [markdown]
# Now a policy is complete. `chooser` puts your functions together: it returns a function from logits (B, V) to ids (B,).

# %%
draw = yours("draw")


def chooser(temperature: float, *filters, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)

    def choose(logits: torch.Tensor) -> torch.Tensor:
        logits = temper(logits, temperature).log()
        for keep in filters:
            logits = keep(logits)
        return draw(logits.softmax(dim=-1), torch.rand(len(logits), generator=rng))

    return choose


drawn = chooser(1.0, partial(keep_top_k, k=2))(p.log().repeat(10_000, 1))
print("10,000 draws, top-k 2:", [round(x, 1) for x in (drawn.bincount(minlength=4) / 1e4).tolist()])

# %% [markdown]
# ### Exercise 11.5 · `write` · medium, 15 minutes
#
# 1. `model(tokens)` takes ids of shape (1, T) and returns logits (1, T, V). It may be in training mode, in which *dropout* (random zeros, against memorizing) is on: call
#    `model.eval()` first.
# 2. `prompt` is a list of ids. At each step the model reads prompt and new tokens, but only the **last** `context` of them.
# 3. `choose` takes the logits (1, V) of the last position and returns a tensor (1,): the next id. Call it once at
#    each step, with logits as the model gives them.
# 4. `stop` is a set of ids. If one of them is chosen, the text ends: the model is not called again, and the stop token is not part of it.
# 5. Return the list of new ids, at most `n`, without the prompt. Leave `prompt` as it is.
#
# Nothing is learned here: inside `with torch.no_grad():` the model is faster.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A loop of n steps, and a list that starts empty. What does the model read in step 2?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `(prompt + new)[-context:]` is what the model reads, as a tensor in brackets, (1, T). Logits (1, T, V) → `[:, -1]` → (1, V) → choose → (1,) → `.item()`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# new = []; n times: logits of the last position after the last `context` tokens; token = choose(logits); if it is in stop: leave the loop; append it.
# Return new.
#
# </details>


# %%
def write(model, prompt: list[int], n: int, choose, context: int, stop: set[int]) -> list[int]:
    """Returns the new ids, at most n."""
    ### BEGIN SOLUTION
    model.eval()
    new = []
    for _ in range(n):
        tokens = torch.tensor([(prompt + new)[-context:]])
        with torch.no_grad():
            logits = model(tokens)[:, -1]
        token = choose(logits).item()
        if token in stop:
            break
        new.append(token)
    return new
    ### END SOLUTION


# %%
check.write(write)

# %%
write = yours("write")
prompt, line_break = tokenizer.encode("ROMEO:\n"), tokenizer.encode("\n")[0]
for stop in (set(), {line_break}):
    new = write(model, prompt, 30, chooser(0.8, partial(keep_top_k, k=40)), 256, stop)
    print(f"{len(new)} tokens: {tokenizer.decode(new)!r}")

# %% [markdown]
# The second text is the first line of the first: same seed, and a line break as the stop token. Models are usually stopped by a token that
# ended each document in training, end-of-text; here that was the end of a whole play.
#
# ### Exercise 11.6 · `write_batch` · hard, 15 minutes
#
# Several prompts at once. A tensor has no rows of different lengths, so short rows are filled up with **padding**. If it is
# on the right, a causal model never looks at it from a real token. But then the last column is not everybody's last token.
#
# 1. `prompts` is a list of lists of ids, of different lengths. `model`, `n`, `choose`, `context` and `stop` are as in 11.5, with B rows.
# 2. Call the model **at most n times**: one pass gives every row its next token. It takes no mask.
# 3. Each row's logits are those after its **own** last token. `choose` is called once at each step, with a row of
#    logits for each text that still runs (or for all: those of ended texts are ignored).
# 4. A stop token ends its own row and is left out; the others continue. When all have ended, stop.
# 5. Return a list of lists, in the order of `prompts`: what each prompt would get alone, if `choose` leaves nothing to chance.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Keep the texts as lists, and pad them anew at each step. Never append to a padded tensor.
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# `pad_sequence(rows, batch_first=True)` from `torch.nn.utils.rnn` makes (B, T) out of tensors of different lengths, with zeros on the right. With
# `last` of shape (B,), `logits[torch.arange(B), last]` takes one position from each row: (B, V).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# new = a list for each prompt; n times, while some run: rows = last `context` of prompt + new, of the rows that run; logits at len(row) − 1 of each; for each
# row and its chosen token: if it is in stop, the row no longer runs, else append it.
#
# </details>


# %%
def write_batch(
    model, prompts: list[list[int]], n: int, choose, context: int, stop: set[int]
) -> list[list[int]]:
    """Returns the new ids of each prompt, at most n."""
    ### BEGIN SOLUTION
    model.eval()
    new = [[] for _ in prompts]
    running = list(range(len(prompts)))
    for _ in range(n):
        if not running:
            break
        rows = [torch.tensor((prompts[i] + new[i])[-context:]) for i in running]
        last = torch.tensor([len(row) - 1 for row in rows])
        with torch.no_grad():
            logits = model(pad_sequence(rows, batch_first=True))
        chosen = choose(logits[torch.arange(len(rows)), last]).tolist()
        for i, token in zip(list(running), chosen, strict=True):
            if token in stop:
                running.remove(i)
            else:
                new[i].append(token)
    return new
    ### END SOLUTION


# %%
check.write_batch(write_batch)

# %%
write_batch = yours("write_batch")
starts = "The king is", "ROMEO:\nI will", "To be, or not to"
prompts = [tokenizer.encode(start) for start in starts]
written = write_batch(model, prompts, 30, chooser(0), 256, {line_break})
for prompt, new in zip(prompts, written, strict=True):
    print(f"{len(new):2} new tokens: {tokenizer.decode(prompt + new)!r}")

# %% [markdown]
# ### What goes wrong with padding
#
# Three prompts of 3, 21 and 23 tokens. For each, three distributions of the next token are compared with that of the prompt alone: (a)
# right padding, own last token; (b) right padding, last column; (c) left padding, last column, no mask. The distance is the relative
# entropy in nats, $\sum_i P_i \ln (P_i / Q_i)$ with $P$ of the prompt alone and $Q$ of the batch: 0 if they are equal.

# %%
texts = (
    "ROMEO:\n",
    "O, she doth teach the torches to burn bright. It seems she hangs upon the cheek of",
    "MACBETH:\nIs this a dagger which I see before me, the handle toward",
)
prompts = [tokenizer.encode(text) for text in texts]
rows = [torch.tensor(prompt) for prompt in prompts]
last = torch.tensor([len(row) - 1 for row in rows])
with torch.no_grad():
    alone = torch.stack([model(row[None])[0, -1] for row in rows]).log_softmax(-1)
    right = model(pad_sequence(rows, batch_first=True)).log_softmax(-1)
    left = model(pad_sequence(rows, batch_first=True, padding_side="left")).log_softmax(-1)
ways = {"a": right[torch.arange(3), last], "b": right[:, -1], "c": left[:, -1]}
for way, log_q in ways.items():
    distance = (alone.exp() * (alone - log_q)).sum(-1)
    print(way, [f"{abs(x):.2f}" for x in distance.tolist()])

# %% [markdown]
# (b) is a prediction of what follows padding: 4.7 and 2.9 nats away, which is a different text. (c) is the quiet one. The model reads
# 20 exclamation marks (token 0) before `ROMEO:`, and is 0.30 nats off; with two of them, 0.04. The text looks fine, and is not what the
# prompt alone would get. Left padding is right **with a mask** that hides the padding, and, if the model adds positions to its embedding, with
# positions that start at each row's first real token. Libraries pad on the left because then all rows end in the same column. Ours pads on the right.
#
# ## 4 · The same number, three ways
#
# Your filters and the library's; your loop, the library's (which has a cache) and your batch. In our tests they are also equal to
# `transformers`: filters to its `LogitsWarper`s, both loops to its greedy `generate` with the same weights.

# %%
torch.manual_seed(0)
z = 3 * torch.randn(5, 100)
print("top-k:", torch.equal(keep_top_k(z, 7), sampling.top_k(z, 7)), end=", ")
print("top-p:", torch.equal(keep_top_p(z, 0.8), sampling.top_p(z, 0.8)), end=", ")
print("min-p:", torch.equal(keep_min_p(z, 0.1), sampling.min_p(z, 0.1)))

starts = [tokenizer.encode(speaker) for speaker in SPEAKERS]
alone = [write(model, start, 40, chooser(0), 256, set()) for start in starts]
together = write_batch(model, starts, 40, chooser(0), 256, set())
library = generate(model, starts, max_new_tokens=40, sampler=sampling.Sampler(temperature=0))
print("alone = batch:", alone == together, " batch = library:", together == library)

# %% [markdown]
# ## 5 · Predict, then run: is the most probable text the best?
#
# Greedy takes the most probable token at each step. Is its text then most like Shakespeare's? Two measurements, over 120 tokens:
#
# - **repeated 4-grams**: the share of sequences of four tokens that occurred before in the same text;
# - **surprise**: −ln of the probability that the model gives (at T = 1) to the token that was written, on average. For a text that
#   somebody else wrote, that is the loss.
#
# **Predict** the order, from the least surprising text to the most: greedy (`0`), temperature 0.8, temperature 1, Shakespeare (`S`), in plays
# that the model has never seen.

# %%
guess = predict(...)  # such as "S, 0, 0.8, 1"

# From experiments.py: four speakers, three seeds; 64 speeches of Shakespeare.
measured = measured_texts()
print("                repeated  surprise  entropy")
for name in ("T = 0", "T = 0.5", "T = 0.8", "T = 1", "T = 1.5", "T = 2", "Shakespeare"):
    each = measured[name]
    print(f"{name:15} {each.repeated:8.1%} {each.surprise:9.2f} {each.entropy:8.2f}")
names = {"0": "T = 0", "0.8": "T = 0.8", "1": "T = 1", "S": "Shakespeare"}
guess.compare(", ".join(sorted(names, key=lambda each: measured[names[each]].surprise)))

# %%
by_temperature(measured)

# %% [markdown]
# **Real text is less probable to the model than its own.** Shakespeare surprises it by 3.81 nats per token, its own text at T = 1 by 3.44, greedy text
# by 0.54. A text in which every word is the likeliest is no likely text; people do not write so. The last column is the mean entropy of the
# model's distribution while it reads. At T = 1 it nearly equals the surprise (3.41 and 3.44), and it must, on average: the surprise at a token
# drawn from P has the mean $-\sum_i P_i \ln P_i$, which is the entropy. Colder, the surprise is below the entropy; hotter, above. At T = 2
# the model would not have expected what it wrote (8.64 nats, more than the 8.32 of an even choice among 4,096).
#
# This was one model of 2.4 million parameters; the finding is Holtzman et al.'s, on GPT-2. Now the column T = 0 live, with your functions.

# %%
greedy_texts = write_batch(model, starts, 120, chooser(0), 256, set())
print(f"repeated 4-grams: {sum(map(repeated_4_grams, greedy_texts)) / 4:.0%}")
print(tokenizer.decode(starts[2] + greedy_texts[2][:48]))

# %% [markdown]
# A loop. Whatever was written once makes itself likelier: the model has heads that copy (chapter 2). The picture shows the three kinds of
# text, 120 tokens each; below it is the surprise along the loop.

# %%
passage = tokenizer.encode(asset("held-out.txt").read_text())
sampled = generate(model, starts[2:3], max_new_tokens=120, sampler=sampling.Sampler(), seed=1)[0]
loops(
    {
        "greedy": greedy_texts[2],
        "temperature 0.8, top-k 40": sampled,
        "Shakespeare": passage[600:720],
    }
)


# %%
@torch.no_grad()
def surprises(tokens: list[int]) -> torch.Tensor:
    """The surprise at each token but the first, in nats."""
    log_p = model(torch.tensor([tokens[:-1]]))[0].log_softmax(-1)
    return -log_p.gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]


by_token = surprises(starts[2] + greedy_texts[2])[3:]
for first in (0, 15, 30, 60):
    print(
        f"tokens {first + 1:2} to {first + 15}: {by_token[first : first + 15].mean():.1f} nats each"
    )

# %% [markdown]
# ## 6 · Yours in the real model

# %%
before_and_after(choose=chooser(0.8, partial(keep_top_k, k=40), seed=1))

# %% [markdown]
# The loss is the same, of course: a policy is no part of the model. Now four policies with one seed. (These texts depend on your processor's rounding.)

# %%
# NBVAL_IGNORE_OUTPUT
policies = {
    "T = 1": chooser(1.0),
    "T = 1, top-p 0.9": chooser(1.0, partial(keep_top_p, p=0.9)),
    "T = 1.5, min-p 0.1": chooser(1.5, partial(keep_min_p, share=0.1)),
    "T = 2": chooser(2.0),
}
for name, choose in policies.items():
    text = tokenizer.decode(write(model, starts[0], 40, choose, 256, set()))
    print(f"{name}\n    " + text.replace("\n", "\n    "))

# %% [markdown]
# ### What a filter forbids
#
# Let the model read 1,275 tokens of *Macbeth*, and ask at each: would top-k 40 have allowed what Shakespeare wrote? **Predict** the share of
# his tokens that it forbids, in percent.

# %%
guess = predict(...)  # percent

windows = torch.tensor(passage)[:1280].view(5, 256)
with torch.no_grad():
    z, written = model(windows)[:, :-1].flatten(0, 1), windows[:, 1:].flatten()
filtered = {
    "top-k 40": keep_top_k(z, 40),
    "top-p 0.9": keep_top_p(z, 0.9),
    "min-p 0.1": keep_min_p(z, 0.1),
}
forbids = {}
for name, kept in filtered.items():
    forbids[name] = kept.gather(-1, written[:, None]).isinf().float().mean().item()
    sizes = kept.isfinite().sum(-1)
    rounded = f"about {round(sizes.max().item(), -1)}"
    largest = sizes.max() if sizes.max() == sizes.min() else rounded
    print(f"{name}: forbids {forbids[name]:.0%}, keeps {sizes.min()} to {largest} tokens")
guess.compare(f"{100 * forbids['top-k 40']:.0f}")

# %%
nucleus_sizes(filtered["top-p 0.9"].isfinite().sum(-1), p=0.9, k=40)

# %% [markdown]
# More than a quarter, and min-p 0.1 nearly half. Filters do not make text more like the author's. They cut off a tail in which a small model is often wrong, and much of what is
# rare and right goes with it. Top-p does adapt to the place, and the picture says how far: one token alone has 0.9 at 11 % of the places, where the "drop the
# crossing token" mistake would leave nothing. At the median place the nucleus has 67 tokens, and at 1 % of the places a thousand or more.
#
# And the texts they give, again over four speakers and three seeds:

# %%
filters = ("top-k 40", "top-p 0.9", "min-p 0.1")
rows = [f"T = {t}{rest}" for t in ("1", "1.5") for rest in ("", *(f", {each}" for each in filters))]
for name in [*rows, "Shakespeare"]:
    each = measured[name]
    low, high = each.surprise_range
    print(f"{name:18} repeated {each.repeated:6.1%}", end="  ")
    print(f"surprise {each.surprise:.2f} ({low:.2f} to {high:.2f})")

# %% [markdown]
# A filter works like a lower temperature: the surprise falls (3.44 to between 1.9 and 2.7) and repetition rises. At T = 1.5 they differ: top-p lets most of
# the heat through (5.45), because the nucleus grows with it, and min-p little (2.69).
#
# **What the model notices** of your policy: everything that it writes, because it reads it again. **What it does not notice**: its loss and its
# causality are those of before, for any policy, right or wrong. A `draw` that is off by one token, or a batch read at the padding, shows in no
# loss, only in the text, and left padding hardly there. The checks find them.
#
# ## 7 · What to remember
#
# - A model gives probabilities; writing is a policy on top. Temperature is a power of the odds: below 1 it favors the likely, 0 is greedy.
# - Filters work on logits and set −∞; the softmax afterwards shares the rest. The token that crosses p stays.
# - The most probable text is not the best: greedy loops, and real text is less probable to the model than its own.
# - At T = 1 surprise and entropy agree. Far below it a text repeats itself, far above it falls apart.
# - A batch of prompts: pad on the right and read each row at its own last token, or pad on the left with a mask. Stop tokens end rows, not the batch.
#
# ### Three questions
#
# <details><summary>1. Two tokens have the logits 2 and 0. What are their odds at T = 1, 0.5 and 2?</summary>
#
# e² = 7.4 to 1, e⁴ = 54.6 to 1, and e¹ = 2.7 to 1: the difference of the logits is divided by T.
#
# </details>
# <details><summary>2. One program applies top-p before the temperature, another after it. At T = 2, whose text is wilder?</summary>
#
# After: the temperature has flattened the distribution, so the nucleus is larger. Before: the nucleus is that of T = 1, and the temperature only flattens
# what is inside. For top-k the order does not matter. Our library, like `transformers`, applies the temperature first.
#
# </details>
# <details><summary>3. A batch of chat answers ends in nonsense for all but the longest prompt. What do you look at first?</summary>
#
# The padding: on which side it is, whether a mask hides it, and from which column the logits are read.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/inference/sampling.py`: filters and `Sampler`, which draws by an exponential race: no sums, nothing to round at the end.
# `pocketgpt/inference/generate.py`: `generate` for batches, `stream` for one text.
#
# ### Papers
#
# - Holtzman et al. 2019, *The Curious Case of Neural Text Degeneration*, [arXiv 1904.09751](https://arxiv.org/abs/1904.09751): top-p, and the loops.
# - Fan et al. 2018, *Hierarchical Neural Story Generation*, [arXiv 1805.04833](https://arxiv.org/abs/1805.04833): top-k.
# - Nguyen et al. 2024, *Turning Up the Heat: Min-p Sampling*, [arXiv 2407.01082](https://arxiv.org/abs/2407.01082).
# - Real mistakes: the crossing token dropped, [llama.cpp PR 1953](https://github.com/ggml-org/llama.cpp/pull/1953); the last column of a padded batch,
#   [transformers #3021](https://github.com/huggingface/transformers/issues/3021); temperature 0,
#   [nanoGPT #738](https://github.com/karpathy/nanoGPT/issues/738).
#
# **Next**: chapter 12. Your loop reads the whole text again for every token. It need not.
