"""Chat templates: a conversation as the tokens that a model for conversations was trained on.

A template is a small program in the language Jinja, published with the weights. Of two turns it makes, for SmolLM2,

    <|im_start|>user
    Hello!<|im_end|>
    <|im_start|>assistant
    Hello! How can I help you?<|im_end|>

in which <|im_start|> and <|im_end|> are one token each. In another layout, which it never saw, the model answers worse.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pocketgpt.errors import PocketError
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.tokenizer import Tokenizer

Message = dict[str, str]
"""A turn: {"role": "user", "content": "Hello!"}; the roles are system, user and assistant."""

MARK = "\ufdd0"
"""A character that no text contains: Unicode reserves it for use inside programs."""


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message], answer: bool = True) -> list[int]:
    """Token ids of a conversation; with `answer`, up to the place where the model's next answer begins.

    Only the template makes special tokens. The name of one inside a message is ordinary text, so that no message can
    end its turn and write the next.
    Raises PocketError if the model has no chat template, or if the template refuses the messages.
    """
    longest_first = sorted(tokenizer_of_chat(tokenizer).special_tokens, key=len, reverse=True)
    special = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")  # (?!) matches nothing

    def hidden(text: str) -> str:
        """Put a mark into names of special tokens, so that they are told apart from those of the template."""
        return special.sub(lambda name: f"{name[0][0]}{MARK}{name[0][1:]}", text.replace(MARK, ""))

    text = render(tokenizer, [{**message, "content": hidden(message["content"])} for message in messages], answer)
    tokens, start = [], 0
    for name in special.finditer(text):
        tokens += tokenizer.encode(text[start : name.start()].replace(MARK, ""))
        tokens.append(tokenizer.special_tokens[name[0]])
        start = name.end()
    return tokens + tokenizer.encode(text[start:].replace(MARK, ""))


def end_of_turn(tokenizer: Tokenizer) -> set[int]:
    """Ids of the tokens that end an answer: the first special token that the template writes after one, and the end of
    text."""
    messages = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": MARK}]
    after = render(tokenizer, messages, answer=False).partition(MARK)[2]
    places = {after.find(name): number for name, number in tokenizer.special_tokens.items() if name in after}
    return {tokenizer.end_of_text} | ({places[min(places)]} if places else set())


def render(tokenizer: Tokenizer, messages: Sequence[Message], answer: bool = True) -> str:
    """Write a conversation as text. Raises PocketError as `encode_chat` does."""
    published = tokenizer_of_chat(tokenizer)
    # Sandboxed: a template comes with the weights, from anywhere, and must not reach the machine.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda layout: datetime.now().strftime(layout)}
    values: dict[str, Any] = {"messages": list(messages), "add_generation_prompt": answer, **published.roles}
    values |= {"tools": None, "documents": None}  # templates ask whether there are any
    try:
        return environment.from_string(published.chat_template).render(values)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise PocketError(f"The chat template of this model refuses the conversation: {error}") from error


def tokenizer_of_chat(tokenizer: Tokenizer) -> PublishedTokenizer:
    """Return the tokenizer. Raises PocketError if it has no chat template."""
    if not isinstance(tokenizer, PublishedTokenizer) or tokenizer.chat_template is None:
        raise PocketError(
            "This model has no chat template: it was trained to continue texts, not to answer. Continue a text with "
            "`pocketgpt generate`, or talk to smollm2, which is fetched once: `pocketgpt chat`."
        )
    return tokenizer


def _refuse(reason: str) -> NoReturn:
    raise TemplateError(reason)
