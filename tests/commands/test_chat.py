"""`pocketgpt chat` answers in a pipe and in a terminal, where Ctrl-C stops an answer and not the program."""

import io
import os
import re
import select
import sys
import time

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from pocketgpt.cli import main
from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.text.chat_template import encode_chat
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.tokenizer import load_tokenizer
from pocketgpt.training.checkpoint import load_shipped

TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] + '<end>' }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LETTERS = "abcdefghijklmnop "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that says letters, on and on, and what it says depends on all that it reads."""
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(models.BPE({name: token for token, name in enumerate(names)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    special = ["<end>", "<system>", "<user>", "<assistant>"]
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    tokenizer = PublishedTokenizer(library, "<end>", TEMPLATE)

    torch.manual_seed(0)
    shape = dict(vocab_size=260, d_model=32, n_layers=2, max_seq_len=1024, tie_embeddings=False)
    model = GPT(preset("llama", **shape, mixer={"n_heads": 4})).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    said = tokenizer.encode(LETTERS)
    model.head.weight.data[[token for token in range(260) if token not in said]] = 0.0
    folder = tmp_path_factory.mktemp("chatty")
    model.save(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def expected(folder, *messages: tuple[str, str], n_tokens: int = 12) -> str:
    """The most probable tokens after the conversation, read at once."""
    model, tokenizer = GPT.load(folder), load_tokenizer(folder / "tokenizer.json")
    prompt = encode_chat(tokenizer, [{"role": role, "content": content} for role, content in messages])
    [written] = generate(model, [prompt], max_new_tokens=n_tokens, sampler=Sampler(temperature=0.0))
    return tokenizer.decode(written)


def piped(monkeypatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_a_pipe_is_one_message_and_its_answer_all_that_is_printed(folder, monkeypatch, capsys):
    piped(monkeypatch, "What?\nAnd why?\n")
    assert main(["chat", "--model", str(folder), "--temperature", "0", "--max-new-tokens", "12", "--report"]) == 0
    out, err = capsys.readouterr()
    assert out == expected(folder, ("user", "What?\nAnd why?")) + "\n"
    assert "cut off: --max-new-tokens 12" in err
    assert "17 tokens read; 12 tokens: the first after" in err


def test_an_instruction_comes_first(folder, monkeypatch, capsys):
    piped(monkeypatch, "What?")
    argv = ["chat", "--model", str(folder), "--temperature", "0", "--max-new-tokens", "12", "--system", "Be brief."]
    assert main(argv) == 0
    assert capsys.readouterr().out == expected(folder, ("system", "Be brief."), ("user", "What?")) + "\n"


def test_the_seed_decides(folder, monkeypatch, capsys):
    def said(seed: int) -> str:
        piped(monkeypatch, "What?")
        argv = ["chat", "--model", str(folder), "--temperature", "2", "--top-p", "None", "--max-new-tokens", "20"]
        assert main([*argv, "--seed", str(seed)]) == 0
        return capsys.readouterr().out

    assert said(1) == said(1) != said(2)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", [], "There is no message on standard input"),
        ("x" * 5000, [], "Your message has 5,003 tokens"),
        ("x", ["--max-new-tokens", "0"], "max_new_tokens = 0 cannot work: use 1 or more"),
        ("x", ["--top-p", "2"], "--top-p 2.0 cannot work"),
        ("x", ["--seed", "-1"], "seed = -1 cannot work"),
        ("x", ["--model", "nowhere"], "nowhere does not exist"),
        ("x", ["--model", "pocket-shakespeare"], "This model has no chat template"),
    ],
)
def test_a_mistake_is_answered_with_what_would_work(folder, monkeypatch, capsys, text, options, message):
    piped(monkeypatch, text)
    assert main(["chat", "--model", str(folder), *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and "Traceback" not in err


def test_a_checkpoint_of_ours_without_a_template_says_so(monkeypatch, capsys):
    piped(monkeypatch, "x")
    assert main(["chat", "--model", str(load_shipped().folder)]) == 2
    assert "no tokenizer.json" in capsys.readouterr().err


class Terminal:
    """A program that runs in a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        import pty

        self.shown = ""
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, *argv])

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def wait_for(self, pattern: str, seconds: float = 120) -> str:
        """What is shown up to the pattern; fails after some seconds."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.shown)):
            ready, _, _ = select.select([self.screen], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} is not in {self.shown!r}"
            self.shown += os.read(self.screen, 4096).decode(errors="replace").replace("\r\n", "\n")
        before, self.shown = self.shown[: found.end()], self.shown[found.end() :]
        return before

    def exit_code(self) -> int:
        while select.select([self.screen], [], [], 60)[0]:
            try:
                if not os.read(self.screen, 4096):
                    break
            except OSError:  # the program has closed its terminal
                break
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_conversation_in_a_terminal(folder):
    argv = ["--model", str(folder), "--temperature", "0", "--max-new-tokens", "1000"]
    terminal = Terminal("-m", "pocketgpt.cli", "chat", *argv)
    assert "Ctrl-D ends the program" in terminal.wait_for("\n> ")
    terminal.type("What?\n")
    first = terminal.wait_for(r"What\?\n[a-p ]{9}").removeprefix("What?\n")
    terminal.type("\x03")
    first += re.match(f"[{LETTERS}]*", terminal.wait_for(r"\(Stopped\.\)\n\n> "))[0]
    assert expected(folder, ("user", "What?"), n_tokens=len(first)) == first
    terminal.type("\x03")  # at the prompt it ends nothing either
    assert "Ctrl-D ends the program" in terminal.wait_for("\n> ")
    terminal.type("\n")  # nothing is nothing
    terminal.type("x" * 1000 + "\n")
    terminal.wait_for("forgotten its oldest exchanges, 1 so far")
    terminal.wait_for("> ")
    terminal.type("/new\n")
    terminal.wait_for("/new\n> ")
    terminal.type("What?\n")
    again = terminal.wait_for(r"What\?\n[a-p ]{9}").removeprefix("What?\n")
    assert again == first[: len(again)]
    terminal.type("\x03")
    terminal.wait_for(r"Stopped\.\)\n\n> ")
    terminal.type("/exit\n")
    assert terminal.exit_code() == 0
