"""A conversation: the model reads only what is new, since the KV cache contains the turns before."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import (
    check_finite,
    decode_step,
    evaluation_mode,
    mark_not_finite,
    seeded,
    uncompiled,
)
from pocketgpt.inference.kv_cache import KVCache, new_cache
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.text.chat_template import Message, encode_chat, end_of_turn
from pocketgpt.text.tokenizer import Tokenizer


class Conversation:
    """A conversation with a model that has a chat template.

        talk = Conversation(model, tokenizer, sampler=Sampler(temperature=0.0))
        tokenizer.decode(talk.answer("What is the capital of France?"))

    Before each answer the whole conversation is encoded, and the tokens that the cache contains already are not read
    again. It also works for templates that change earlier turns: reading starts where the tokens begin to differ.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        *,
        sampler: Sampler,
        system: str | None = None,
        max_new_tokens: int = 512,
        seed: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.sampler = sampler
        self.max_new_tokens = max_new_tokens
        self.stop_tokens = end_of_turn(tokenizer)
        self.generator = seeded(model.device, seed)
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        """The turns so far, the system's instruction first."""
        self.forgotten = 0
        """Turns that were dropped because the context was full."""
        self.n_read = 0
        """Tokens that the model read for the last answer, and were not in the cache."""
        self.finished = False
        """True if the model ended its last answer itself."""
        self.cache: KVCache | None = None
        self.cached: list[int] = []
        """Tokens in the cache."""

    @torch.no_grad()
    def answer(self, message: str) -> Iterator[int]:
        """Yield the tokens of the model's answer, which becomes part of the conversation once the iteration ends, early
        or not. An exchange that ends before the first token is forgotten.

        The oldest exchanges are forgotten while the context has no room for an answer. An answer that fills it ends.
        Raises PocketError for a message that does not fit into the context, and for a token that the tokenizer does not
        know: models may have more rows than it has tokens.
        """
        self.messages.append({"role": "user", "content": message})
        written: list[int] = []
        try:
            logits = self.read(self.fitting())
            for _ in range(self.max_new_tokens):
                token = check_finite(mark_not_finite(self.sampler(logits, self.generator), logits).item())
                self.finished = token in self.stop_tokens
                if self.finished:
                    break
                self.tokenizer.token_bytes(token)  # raises PocketError for one that the answer could not contain
                written.append(token)
                yield token
                if self.cache.longest == self.cache.capacity:
                    break
                logits = decode_step(self.model, torch.tensor([token], device=self.model.device), self.cache)
                self.cached.append(token)
        finally:
            if written:
                self.messages.append({"role": "assistant", "content": self.tokenizer.decode(written)})
            else:
                self.messages.pop()

    def fitting(self) -> list[int]:
        """Tokens of the conversation, without the oldest exchanges if they leave too little room for an answer.

        Raises PocketError if the last message alone is too long.
        """
        longest = self.model.config.max_seq_len
        room = min(self.max_new_tokens, longest // 4)
        messages = list(self.messages)
        first = int(messages[0]["role"] == "system")
        while len(tokens := encode_chat(self.tokenizer, messages)) + room > longest and len(messages) > first + 1:
            del messages[first : first + 2]
        if len(tokens) >= longest:
            raise PocketError(
                f"Your message has {len(tokens):,} tokens with those of the chat template, and the model reads at most "
                f"{longest:,}, its answer included: write a shorter one."
            )
        self.forgotten += (len(self.messages) - len(messages)) // 2
        self.messages = messages
        return tokens

    def read(self, tokens: Sequence[int]) -> Float[Tensor, "batch vocab"]:
        """Read the tokens that the cache does not contain; returns the logits after the last one."""
        # At least one is read, to have its logits.
        n_known = min(n_equal(self.cached, tokens), len(tokens) - 1)
        if self.cache is None or not self.cache.keep(n_known):
            self.cache, n_known = new_cache(self.model, batch=1), 0
        self.cached = list(tokens[:n_known])
        new = torch.tensor([tokens[n_known:]], device=self.model.device)
        with evaluation_mode(self.model), uncompiled(self.model):
            logits = self.model.head(self.model.features(new, self.cache)[:, -1])
        self.cached = list(tokens)
        self.n_read = new.shape[1]
        return logits


def n_equal(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Number of tokens at the beginning in which both agree."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((place for place, (our, their) in pairs if our != their), min(len(ours), len(theirs)))
