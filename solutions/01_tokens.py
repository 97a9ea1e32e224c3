# %% [markdown]
# # 1 · Tokens
#
# **At the end** you have a tokenizer that you wrote: it learns its pieces from a page of Shakespeare, it splits text
# exactly as the libraries in production do, and the trained model reads what yours encodes and writes what yours
# decodes.
#
# **Time**: about 80 minutes. **You need**: chapter 0, and Python's lists and dictionaries.
#
# Here is the place of this chapter in the whole model: at its very beginning. (And at the end: the next token becomes
# text again.)

# %%
import math
from itertools import pairwise

import regex
import tokenizers
import torch
import torch.nn.functional as F

from pocketgpt.assets import asset
from pocketgpt.course.ch01_tokens.figures import colored_tokens, compression, nearest, neighbors
from pocketgpt.course.lab import check, model_map, pocket_model, pocket_tokenizer, predict, sliders
from pocketgpt.course.lab import yours
from pocketgpt.inference.generate import generate
from pocketgpt.models.presets import preset
from pocketgpt.text.byte_tokenizer import WORD_PATTERN, ByteTokenizer, train_tokenizer

model_map(preset("pocket-shakespeare"), highlight="tokens")

# %% [markdown]
# A model computes with numbers, and you have a text. Between the two is a list of pieces, the **vocabulary**, fixed
# before training and never changed: the text is cut into pieces from the list, and each piece is replaced by its
# position in it. That number is a **token**.
#
# Which pieces? Single letters make a short list, but long sequences, and the model spends its effort on spelling.
# Whole words make short sequences, but an endless list, and the first name that is not on it cannot be written.
# **Byte-pair encoding** takes the middle, and finds it by counting: neighbors that occur often become one piece.

# %% [markdown]
# ## 1 · The smallest example: two merges by hand
#
# Take a text of four words, `the the that hat`, and start from letters. Count how often each pair of neighbors occurs
# in the words:
#
# | pair | where | count |
# |---|---|---|
# | **t h** | **th**e, **th**e, **th**at | **3** |
# | h e | t**he**, t**he** | 2 |
# | h a | t**ha**t, **ha**t | 2 |
# | a t | th**at**, h**at** | 2 |
#
# The most frequent pair becomes a new piece, `th`, and replaces its two parts wherever they are neighbors:
#
# | | word 1 | word 2 | word 3 | word 4 |
# |---|---|---|---|---|
# | letters | t h e | t h e | t h a t | h a t |
# | merge 0: t + h | **th** e | **th** e | **th** a t | h a t |
# | merge 1: a + t | th e | th e | th **at** | h **at** |
#
# Count again: `th e` and `a t` both occur twice. A tie needs a fixed rule; by ours, older pieces go first, so `a t`
# wins. That is the whole training: count, merge, count again, until the vocabulary is
# as large as you want it.
#
# Now **encode** a word that was not in the text, `bath`. Its letters are b a t h, and two merges would fit: a + t,
# and t + h. Both at once is impossible, since they share the t. The merge that was found *first* goes first: merge 0
# gives `b a th`. In the order of the text it would have been `b at h`. Remember this example: it is the mistake that
# section 6 makes on purpose.

# %% [markdown]
# ### Letters, or bytes?
#
# Unicode knows about 150,000 characters. A list that begins with all of them would be mostly unused. But every text
# is stored as **bytes**, numbers from 0 to 255, and the usual way to do that is UTF-8: an English letter is one byte,
# é is two, a rose is four.

# %%
for text in ("Romeo", "é", "—", "🌹"):
    print(text, list(text.encode()))

# %% [markdown]
# So start from the 256 bytes in place of letters, and any text in any language can be written, without a piece for
# *unknown*. In code a piece is a byte string, such as `b"th"`; adding two of them joins them.

# %% [markdown]
# ## 2 · The rules
#
# | | rule |
# |---|---|
# | **split** | The text is cut into words, each with the space before it. Merges never cross from one word into the next. |
# | **train** | Start from single bytes. Repeat: join the pair (a, b) with the largest count. The merge with number $r$ (its **rank**) makes token number $256 + r$. |
# | **encode** | Start from single bytes. Repeat: of all pairs in the word that have a rank, join the one with the **lowest** rank. Stop when none has. |
# | **decode** | Look each token up in the vocabulary, join the bytes, read them as UTF-8. |
#
# After that, a token is a number without any meaning: token 300 is not larger than token 200 in any useful sense. So
# the model's first act is to replace each by a vector that it has learned, from a table with a row for every token.
# This is the **embedding**:
#
# $$X_{b,t} = E_{\,\text{tokens}_{b,t}}$$
#
# | symbol | what | shape |
# |---|---|---|
# | tokens | whole numbers, `batch` texts of `seq` tokens | (batch, seq) |
# | $E$ | the table: one learned row for each token | (vocab, d_model) |
# | $X$ | for each token its row | (batch, seq, d_model) |
#
# **Words.** The splitting is one regular expression, from GPT-2. Read it as a list of alternatives between the signs |:
# English endings such as *'s*; letters (`\p{L}`), digits (`\p{N}`) or other signs, each with the space before them;
# white space. Without it, *dog.* and *dog!* and *dog,* could each become one token.

# %%
print(WORD_PATTERN)
print(regex.findall(WORD_PATTERN, "O Romeo, Romeo! wherefore art thou Romeo?"))

# %% [markdown]
# **The trap.** Every text is a row of bytes, but not every row of bytes is a text. The two bytes of é may end up in
# two tokens, and a model that writes token by token may stop between them. Half a character is not valid UTF-8;
# Python raises an error, or puts � (U+FFFD) in its place if you ask for it:

# %%
print(b"caf\xc3\xa9".decode(), b"caf\xc3".decode(errors="replace"))

# %% [markdown]
# ## 3 · Your turn
#
# ### Exercise 1.1 · `count_pairs` · easy, 10 minutes
#
# 1. `words` is a list of words; a word is a list of tokens; a token is a byte string, such as `[b"th", b"a", b"t"]`.
# 2. Return a dictionary: the key is a pair of neighbors, `(b"th", b"a")`, the value is how often it occurs in the
#    words.
# 3. Pairs lie inside a word. The last token of a word and the first token of the next are not a pair.
# 4. Every place counts: in `a a a` the pair (a, a) occurs twice, and a word that occurs twice counts twice.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Neighbors in a list: `zip(word, word[1:])`, or `itertools.pairwise(word)`.
#
# </details>
# <details><summary>Hint 2 · the steps</summary>
#
# An empty dictionary before the loops. A loop over the words; inside it a loop over the pairs of the word.
# `counts.get(pair, 0)` is the count so far, and 0 for a pair that is new. `collections.Counter` does the same.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# counts = empty; for each word: for each pair of neighbors in it: counts[pair] = (counts[pair], or 0 if it is new) +
# 1; return counts.
#
# </details>


# %%
def count_pairs(words: list[list[bytes]]) -> dict[tuple[bytes, bytes], int]:
    """Count how often each pair of neighbors occurs."""
    ### BEGIN SOLUTION
    counts = {}
    for word in words:
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + 1
    return counts
    ### END SOLUTION


# %%
check.count_pairs(count_pairs)

# %% [markdown]
# ### Exercise 1.2 · `merge_pair` · medium, 15 minutes
#
# 1. `tokens` is a list of byte strings, `pair` a tuple of two of them.
# 2. Return a new list, also if nothing is joined. In it each occurrence of the pair (left token, then right token) is
#    one token, `left + right`.
# 3. Go from left to right. A token that was joined is used up: with the pair (a, a), the tokens `a a a` become
#    `aa a`.
# 4. Everything else stays as it is and where it is.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A `for` loop moves on by one, and after a merge you need to move on by two. Use `while` and your own index.
#
# </details>
# <details><summary>Hint 2 · the steps</summary>
#
# At place i: is there a token at i + 1, and are the two tokens the pair? Then append the joined token and move on by
# 2. If not, append the token at i and move on by 1. Compare `(tokens[i], tokens[i + 1]) == pair`, not the joined
#    bytes: (a, bc) and (ab, c) are different pairs.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# result = empty, i = 0; while i < number of tokens: if i + 1 < number of tokens and (token i, token i + 1) is the
# pair: append left + right, i += 2; else: append token i, i += 1; return result.
#
# </details>


# %%
def merge_pair(tokens: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Join every occurrence of the pair into one token, from left to right."""
    ### BEGIN SOLUTION
    result, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            result.append(pair[0] + pair[1])
            i += 2
        else:
            result.append(tokens[i])
            i += 1
    return result
    ### END SOLUTION


# %%
check.merge_pair(merge_pair)

# %% [markdown]
# With these two functions you can **train** a tokenizer. The text is a page of *Macbeth*. The rule for a tie is that
# of the library which trains real tokenizers: the pair with the lower token numbers wins, so the older pieces go
# first.

# %%
count_pairs, merge_pair = yours("count_pairs"), yours("merge_pair")

page = asset("held-out.txt").read_text()
words = regex.findall(WORD_PATTERN, page)
words = [[bytes([byte]) for byte in word.encode()] for word in words]
vocabulary, merges = pocket_tokenizer().vocabulary[:256], []  # the single bytes, in GPT-2's order

for _ in range(100):
    counts, number = count_pairs(words), vocabulary.index
    pair = max(counts, key=lambda pair: (counts[pair], -number(pair[0]), -number(pair[1])))
    words = [merge_pair(word, pair) for word in words]
    merges.append(pair)
    vocabulary.append(pair[0] + pair[1])

# %%
print("first:", *vocabulary[256:268])
print("last: ", *vocabulary[-8:])
by_library = train_tokenizer([page], 257 + 100)  # 256 bytes, the end of text, and 100 merges
print("the same 100 merges as the library:", merges == by_library.merges)

# %% [markdown]
# From one page, by counting alone: *th*, soon *the*, and toward the end whole words: *And*, and *Sergeant*, who speaks
# on this page. (The `b` in front is Python's sign for a byte string. The library counts one token more, which marks
# the end of a text and consists of no bytes.)
#
# ### Exercise 1.3 · `encode_word` · hard, 20 minutes
#
# 1. `word` is a string, with its space; `ranks` is a dictionary from pair to rank:
#    `{(b"t", b"h"): 0, (b"a", b"t"): 1}`.
# 2. Start from the single bytes of the word in UTF-8.
# 3. Of all pairs of neighbors that are in `ranks`, join the one with the lowest rank, wherever it occurs, with your
#    `merge_pair`.
# 4. Repeat, also with the new tokens, until no pair of neighbors has a rank. Return the list of tokens.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# A loop over `word.encode()` gives integers; `bytes([byte])` makes a token of one. And think of *bath*.
#
# </details>
# <details><summary>Hint 2 · the steps</summary>
#
# Inside `while True`: collect the pairs that are in `ranks`; if there are none, stop; pick the one with the lowest
# rank, `min(known, key=ranks.get)`; merge it.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# tokens = a byte string of length 1 for each byte of the word; loop: known = pairs of neighbors in tokens that are in
# ranks; if known is empty: return tokens; tokens = merge_pair(tokens, the pair in known with the lowest rank).
#
# </details>


# %%
def encode_word(word: str, ranks: dict[tuple[bytes, bytes], int]) -> list[bytes]:
    """Split one word into tokens."""
    ### BEGIN SOLUTION
    tokens = [bytes([byte]) for byte in word.encode()]
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = merge_pair(tokens, min(known, key=ranks.get))
    return tokens
    ### END SOLUTION


# %%
check.encode_word(encode_word)

# %% [markdown]
# ### Exercise 1.4 · `decode` · easy, 5 minutes
#
# 1. `tokens` is a list of numbers, `vocabulary` a list of byte strings: token i means `vocabulary[i]`.
# 2. Return the text. A character may be spread over several tokens.
# 3. Bytes that are not UTF-8, such as half a character, become � (U+FFFD). No error.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# Which comes first, joining or decoding? Only one order keeps é together.
#
# </details>
# <details><summary>Hint 2 · the steps</summary>
#
# Look up each token; `b"".join(…)`; `.decode(…)` has an argument `errors`.
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# join the byte strings vocabulary[token] of all tokens; decode the result as UTF-8 with errors="replace".
#
# </details>


# %%
def decode(tokens: list[int], vocabulary: list[bytes]) -> str:
    """Convert tokens to text; half a character becomes U+FFFD."""
    ### BEGIN SOLUTION
    return b"".join(vocabulary[token] for token in tokens).decode(errors="replace")
    ### END SOLUTION


# %%
check.decode(decode)

# %% [markdown]
# ### Exercise 1.5 · `embed` · easy, 5 minutes
#
# 1. `tokens` are whole numbers of shape (batch, seq), `table` has the shape (vocab, d_model).
# 2. Return shape (batch, seq, d_model): for each token its row of the table, unchanged.
# 3. Use PyTorch's operations, so that gradients reach the table: a model learns it.
# 4. `F.embedding` and `nn.Embedding` are not allowed, as they would be the whole exercise.
#
# <details><summary>Hint 1 · a nudge</summary>
#
# `table[3]` is row 3. What is `table[[3, 1, 3]]`?
#
# </details>
# <details><summary>Hint 2 · the shapes</summary>
#
# Indexing the first axis of a (vocab, d_model) tensor with a (batch, seq) tensor of integers replaces that axis by
# (batch, seq): (batch, seq, d_model).
#
# </details>
# <details><summary>Hint 3 · pseudocode</summary>
#
# return table, indexed with tokens.
#
# </details>


# %%
def embed(tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """tokens: int (batch, seq), table: (vocab, d_model). Returns (batch, seq, d_model)."""
    ### BEGIN SOLUTION
    return table[tokens]
    ### END SOLUTION


# %%
check.embed(embed)

# %%
encode_word, decode, embed = yours("encode_word"), yours("decode"), yours("embed")

# %% [markdown]
# ## 4 · The same tokens, four ways
#
# The pocket model has a vocabulary of 4,096: the 256 bytes, 3,839 merges learned from 35 of the 38 plays, and one
# special token that marks the end of a text. *Macbeth* is one of the three plays held out, so its page is new to the
# tokenizer and to the model. With **those** merges, your `encode_word` must cut the page exactly as three others do: a loop that applies all merges one after the other, as training did; `tiktoken`, which encodes for GPT
# models; and `tokenizers`, which encodes for most others. Both are written in Rust.

# %%
tokenizer = pocket_tokenizer()
ranks = {pair: rank for rank, pair in enumerate(tokenizer.merges)}
number = {token: i for i, token in enumerate(tokenizer.vocabulary)}


def encode(text: str) -> list[int]:
    words = regex.findall(WORD_PATTERN, text)
    return [number[token] for word in words for token in encode_word(word, ranks)]


def encode_as_in_training(word: str) -> list[bytes]:
    tokens = [bytes([byte]) for byte in word.encode()]
    for pair in tokenizer.merges:
        tokens = merge_pair(tokens, pair)
    return tokens


# %%
mine = encode(page)
print(f"{len(page.encode())} bytes, {len(mine)} tokens")
print("yours = tiktoken:  ", mine == tokenizer.encode(page))
print("yours = tokenizers:", mine == tokenizer.to_library().encode(page).ids)
some = regex.findall(WORD_PATTERN, page)[:100]
same = [encode_word(word, ranks) == encode_as_in_training(word) for word in some]
print("yours = the loop:  ", all(same))
print("decoded again:     ", decode(mine, tokenizer.vocabulary) == page)

# %% [markdown]
# And the embedding. There is a second way to write it, that of the textbooks: a **one-hot** vector has 4,096 numbers,
# a 1 at the place of the token and 0 everywhere else. Times the table, it picks one row, and the 4,095 others are
# multiplied by zero. Indexing gives the same and does not do that work:

# %%
tokens = torch.tensor(mine[:1024]).view(4, 256)
table = pocket_model().embedding.weight.detach()
print("shapes:", tuple(tokens.shape), "→", tuple(embed(tokens, table).shape))
mine_embedded, one_hot = embed(tokens, table), F.one_hot(tokens, 4096).float()
print("yours = one-hot @ table:", torch.equal(mine_embedded, one_hot @ table))
print("yours = F.embedding:    ", torch.equal(mine_embedded, F.embedding(tokens, table)))

# %% [markdown]
# Here is a passage of the page in tokens, cut by your function. Each block is one token; a dot is a space, ↵ a line
# break. The colors take turns, to show where one token ends and the next begins; they mean nothing else. Frequent words
# are one token, with their space; rare names are spelled in pieces.


# %%
def show_tokens(text: str, title: str) -> None:
    colored_tokens([tokenizer.token_bytes(token) for token in encode(text)], title)


passage = page[page.index("DUNCAN:\n") : page.index("As two spent")]
show_tokens(passage, "Frequent words are one token, rare ones several")

# %% [markdown]
# ## 5 · Predict, then run: how many tokens?
#
# The vocabulary was learned from Shakespeare. Two sentences, of ten words and of seven:
#
# - *To be, or not to be: that is the question*
# - *I ordered a pizza on my smartphone*
#
# How many tokens will each one be? (Punctuation counts, too.) Write two numbers into the cell, then run it.

# %%
guess = predict(...)  # two numbers

sentences = "To be, or not to be: that is the question", "I ordered a pizza on my smartphone"
guess.compare(tuple(len(encode(sentence)) for sentence in sentences))

# %%
show_tokens("\n".join(sentences), "Words that are rare in Shakespeare fall into pieces")

# %% [markdown]
# A vocabulary fits the text it was learned from. Elsewhere it cuts words into small pieces, and the same meaning costs
# more tokens, so more computation and more of the **context**: the tokens that a model can read at once, 256 in ours.
# GPT-2's vocabulary, learned from English web
# pages, does that to every other language (Petrov et al. 2023). Type your own sentence:


# %%
# NBVAL_IGNORE_OUTPUT
def count_tokens(text: str) -> None:
    show_tokens(text, f"{len(encode(text))} tokens for {len(text.split())} words")


sliders(count_tokens, text="Café au lait, my liege — 🌹?")

# %% [markdown]
# ### How large should a vocabulary be?
#
# The merges are in order, so their first part is the vocabulary that training would have given if it had stopped
# earlier. A few of these prefixes show what each doubling buys (4,095 is all but the special token):

# %%
sizes = [256, 512, 1024, 2048, 4095]
prefixes = [ByteTokenizer(tokenizer.vocabulary[:size]) for size in sizes]
bytes_per_token = [len(page.encode()) / len(each.encode(page)) for each in prefixes]
compression(sizes, bytes_per_token, "Each doubling of the vocabulary buys less")

# %% [markdown]
# Every token needs a row of the table, and later doublings make the tokens longer by less. With a large model and a
# lot of text the table is cheap, and vocabularies have 50,257 entries (GPT-2, and the preset `pocket` of this
# course), 128,256 (Llama 3), or more. For our small model 4,096 rows of 192 numbers are a third of all its parameters
# already.

# %% [markdown]
# ### Vocabularies of another kind
#
# You will meet tokenizers with **special tokens**, which represent no text and steer the model: `[PAD]` fills up the
# shorter texts of a batch, `[UNK]` replaces what cannot be written, `[BOS]` and `[EOS]` mark begin and end, and BERT
# (chapter 21) has `[CLS]`, `[SEP]` and `[MASK]`. Many also split at white space and throw the spaces away, and begin
# with the characters they saw in place of bytes. `min_frequency=2` stops training early when no pair
# occurs twice. Trained on our page with a limit of 32,000 tokens, it gives:

# %%
old_style = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
old_style.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "[EOS]"]
trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=32_000, min_frequency=2, special_tokens=special, show_progress=False
)
old_style.train_from_iterator([page], trainer)

encoded = old_style.encode("What café,  my lord?")
print(old_style.get_vocab_size(), "tokens, not 32,000: no other pair occurs twice on the page")
print(encoded.tokens)
print(old_style.decode(encoded.ids))

# %% [markdown]
# The é is lost, and so is how many spaces there were. Byte-level encoding, as yours, loses nothing: decoding gives
# back the text, byte for byte. That is why nearly all language models use it, or something like it, today.

# %% [markdown]
# ## 6 · Yours in the real model
#
# A tokenizer is not part of the model, so nothing has to be transplanted: your `encode` reads the prompt, the model
# continues it, your `decode` writes the text.

# %%
prompt = encode("JULIET:\nO Romeo,")
new = generate(pocket_model(), [prompt], max_new_tokens=60, seed=0)[0]
print(decode(prompt + new, tokenizer.vocabulary))

# %%
own_prompt = tokenizer.encode("JULIET:\nO Romeo,")
own = generate(pocket_model(), [own_prompt], max_new_tokens=60, seed=0)[0]
same = decode(prompt + new, tokenizer.vocabulary) == "JULIET:\nO Romeo," + tokenizer.decode(own)
print("the same text as with its own tokenizer:", same)

# %% [markdown]
# ### And now with the mistake: merges in the order of the text
#
# The function below joins the first pair that fits, in place of the one with the lowest rank. Every token it makes is
# in the vocabulary, and decoding gives back the page, byte for byte. By that test it is right. How does it look to
# the model? Losses per token do not compare, as the tokens differ. So take the loss of chapter 0 (`F.cross_entropy`,
# in nats per token), add it up over the page, divide by ln 2 (one *bit*, a yes-or-no question, is ln 2 = 0.69 nats)
# and by the number of bytes. **Bits per byte** is comparable however the text is cut.


# %%
def in_the_order_of_the_text(word: str) -> list[bytes]:
    tokens = [bytes([byte]) for byte in word.encode()]
    while known := [pair for pair in pairwise(tokens) if pair in ranks]:
        tokens = merge_pair(tokens, known[0])
    return tokens


@torch.no_grad()
def bits_per_byte(tokens: list[int]) -> float:
    windows = torch.tensor(tokens[: len(tokens) // 256 * 256]).view(-1, 256)
    logits = pocket_model()(windows)[:, :-1]
    nats = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).item()
    return nats / math.log(2) * len(tokens) / len(page.encode())


print(f"by rank: {len(mine)} tokens, {bits_per_byte(mine):.2f} bits per byte")

# %% [markdown]
# Now predict the bits per byte for the wrong tokens.

# %%
guess = predict(...)  # a number

words = regex.findall(WORD_PATTERN, page)
wrong = [number[token] for word in words for token in in_the_order_of_the_text(word)]
print("decodes to the page:", decode(wrong, tokenizer.vocabulary) == page)
guess.compare(f"{len(wrong)} tokens, {bits_per_byte(wrong):.2f} bits per byte")

# %%
words = regex.findall(WORD_PATTERN, passage)
cuts = [token for word in words for token in in_the_order_of_the_text(word)]
colored_tokens(cuts, "Merged in the order of the text, even common words fall into pieces")

# %% [markdown]
# Compare the two pictures: *the*, for one, has fallen into pieces. The model learned from text that was cut by rank,
# and the words it knows reach it in parts that it has hardly seen side by side. The weights are the same, the text is
# the same, and nothing raised an error. It happens in practice when a model is used with a tokenizer that is almost
# its own.

# %% [markdown]
# ### What the table has learned
#
# At the start of training all rows of the table are random. Here are the rows of the trained model. Two vectors are
# alike when they point in the same direction (the cosine of their angle is near 1). Nobody told the model what any
# token means. Which token will be nearest to *king*?

# %%
guess = predict(...)  # a word
closest, _ = nearest(table, encode(" king")[0])[0]
guess.compare(tokenizer.decode([closest]).strip())

chosen = [encode(word)[0] for word in (" king", " father", " three", "ROMEO")]
title = "Tokens that are used alike have learned vectors that are alike"
neighbors(table, chosen, tokenizer, title)


# %%
def show_neighbors(word: str) -> None:
    neighbors(table, encode(word or " ")[:1], tokenizer)  # of its first token


# %%
# NBVAL_IGNORE_OUTPUT
sliders(show_neighbors, word=" love")

# %% [markdown]
# Tokens that can occur in the same places have learned vectors that are close, pieces of words as well; try to guess
# the other half. That is all the model could see, and it is a great deal. But the vector of *she* is the same in every
# sentence. Which one is meant, the model must learn from the neighbors in the text: that is chapter 2.

# %% [markdown]
# ## 7 · What to remember
#
# - A token is the number of a byte string in a fixed list. Training finds the list by counting: the most frequent
#   pair becomes one piece, again and again.
# - Encoding goes by **rank**, the order in which training found the merges, not by the order of the text. With any
#   other order the text survives, and the model is lost.
# - Start from bytes, and nothing is unknown. Join bytes before you decode them, and expect half a character.
# - The vocabulary belongs to the model: its tokens are row numbers of its table.
# - Embedding is a lookup: (batch, seq) → (batch, seq, d_model).
#
# ### Three questions
#
# <details><summary>1. Why do language models find it hard to count the letters r in a word?</summary>
#
# They do not see letters. *strawberry* reaches the model as two or three row numbers; how its pieces are spelled it
# has to learn from text that happens to mention it.
#
# </details>
# <details><summary>2. You train a vocabulary on a text in which “ing” is frequent. Can “ing” become a token before “in” or “ng” is one?</summary>
#
# No: a merge joins two tokens that exist. First “in” or “ng” must be found, then “in” + “g” or “i” + “ng”. That is
# why each token can be traced to the merge that made it.
#
# </details>
# <details><summary>3. One model has 4,096 tokens and a loss of 4.5 per token, another has 50,257 tokens and a loss of 6 per token. Which is better?</summary>
#
# You cannot tell: the second says more with each token, and pays more for each. Divide by the bytes that a token
# represents (bits per byte), and then compare.
#
# </details>
#
# ### Where the finished code lives
#
# `pocketgpt/text/byte_tokenizer.py`: `ByteTokenizer` (encodes with `tiktoken`), `train_tokenizer` (trains with
# `tokenizers`). The embedding is `nn.Embedding` in `pocketgpt/models/stack.py`.
#
# ### Papers
#
# - Gage 1994, *A New Algorithm for Data Compression*: byte-pair encoding, as a way to make files smaller.
# - Sennrich, Haddow and Birch 2016, *Neural Machine Translation of Rare Words with Subword Units*,
#   [arXiv 1508.07909](https://arxiv.org/abs/1508.07909): the same for language.
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners*: GPT-2, which starts from bytes; its
#   word pattern is the one above.
# - Petrov et al. 2023, *Language Model Tokenizers Introduce Unfairness Between Languages*,
#   [arXiv 2305.15425](https://arxiv.org/abs/2305.15425).
#
# **Next**: each token is a vector that knows only itself. Chapter 2 lets them look at each other: open
# `02_attention.ipynb`.
