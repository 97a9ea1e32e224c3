"""Models that we write are loaded by transformers, with the same logits, the same token ids and the same text."""

import json
import random

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pocketgpt.inference.generate import generate
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.presets import preset
from pocketgpt.pretrained.huggingface import load_huggingface
from pocketgpt.pretrained.to_configs import their_config
from pocketgpt.pretrained.to_huggingface import save_huggingface
from pocketgpt.text.byte_tokenizer import ByteTokenizer, train_tokenizer
from pocketgpt.text.published_tokenizer import PublishedTokenizer
from pocketgpt.text.word_tokenizer import train_word_tokenizer
from pocketgpt.training.checkpoint import load_shipped

LLAMA = preset("llama", vocab_size=300, d_model=48, n_layers=3, max_seq_len=40, mixer={"n_heads": 6, "n_kv_heads": 2})
GPT2 = preset("gpt2", vocab_size=300, d_model=48, n_layers=3, max_seq_len=40, mixer={"n_heads": 4}, dropout=0.0)
POST = {"norm_order": "post", "feedforward": {"d_ff": 192}}


def changed(config, **changes):
    """The config with fields of it and of its parts changed."""
    values = config.to_dict()
    for name, change in changes.items():
        values[name] = values[name] | change if isinstance(change, dict) else change
    return type(config).from_dict(values)


SHAPES = {
    "llama": (LLAMA, "LlamaForCausalLM"),
    "llama, wide heads": (changed(LLAMA, mixer={"d_head": 16}), "LlamaForCausalLM"),
    "llama, biases": (
        changed(LLAMA, mixer={"bias": True, "output_bias": True}, feedforward={"bias": True}),
        "LlamaForCausalLM",
    ),
    "llama, head of its own": (changed(LLAMA, tie_embeddings=False, norm_eps=0.1), "LlamaForCausalLM"),
    "mistral": (changed(LLAMA, mixer={"window": 7}), "MistralForCausalLM"),
    "qwen3": (changed(LLAMA, mixer={"qk_norm": True}), "Qwen3ForCausalLM"),
    "qwen3, biases": (
        changed(LLAMA, mixer={"qk_norm": True, "bias": True, "output_bias": True, "d_head": 16}),
        "Qwen3ForCausalLM",
    ),
    "gpt2": (GPT2, "GPT2LMHeadModel"),
    "gpt2, other widths": (
        changed(GPT2, feedforward={"d_ff": 72, "activation": "gelu"}, tie_embeddings=False, norm_eps=0.1),
        "GPT2LMHeadModel",
    ),
    "gpt2, squared relu": (changed(GPT2, feedforward={"activation": "relu2"}), "GPT2LMHeadModel"),
    "the first gpt": (changed(GPT2, **POST), "OpenAIGPTLMHeadModel"),
}
SCALINGS = [
    RopeConfig(theta=500.0),
    RopeConfig(theta=500.0, scaling="linear", factor=4.0),
    RopeConfig(theta=500.0, scaling="dynamic", factor=2.0, original_max_seq_len=40),
    RopeConfig(theta=500.0, scaling="yarn", factor=8.0, original_max_seq_len=10, beta_fast=4.0, beta_slow=0.5),
    RopeConfig(theta=500.0, scaling="llama3", factor=8.0, original_max_seq_len=20, high_freq_factor=3.0),
]


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer([bytes([byte]) for byte in range(256)])


def same_logits(model, folder, assert_equal, seq=40):
    theirs = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    tokens = torch.randint(model.config.vocab_size, (2, seq))
    with torch.no_grad():
        expected = theirs(input_ids=tokens, use_cache=False).logits
        assert expected.std() > 0.5  # logits that say something
        assert_equal(model(tokens), expected)
        assert_equal(load_huggingface(folder)(tokens), expected)
    return theirs


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_our_logits_and_both_load_the_folder(shape, lively, tokenizer, tmp_path, assert_equal):
    config, name = SHAPES[shape]
    model = lively(config)
    save_huggingface(model, tokenizer, tmp_path / "model")
    theirs = same_logits(model, tmp_path / "model", assert_equal)
    assert type(theirs).__name__ == name
    ours = load_huggingface(tmp_path / "model")
    assert ours.config == model.config
    for weight, parameter in model.state_dict().items():
        assert torch.equal(ours.state_dict()[weight], parameter), weight


@pytest.mark.parametrize("rope", SCALINGS, ids=lambda rope: rope.scaling)
def test_each_scaling_of_the_positions(rope, lively, tokenizer, tmp_path, assert_equal):
    model = lively(changed(LLAMA, rope=rope.to_dict()))
    save_huggingface(model, tokenizer, tmp_path / "model")
    same_logits(model, tmp_path / "model", assert_equal, seq=64 if rope.scaling == "dynamic" else 40)
    assert load_huggingface(tmp_path / "model").config.rope == rope


def test_their_config_contains_no_field_that_they_do_not_know(lively):
    for config, _ in SHAPES.values():
        values = their_config(config)
        known = AutoConfig.for_model(values["model_type"]).to_dict()
        assert set(values) - set(known) <= {"architectures", "rope_theta"}


def test_weights_in_bf16_stay_bf16(lively, tokenizer, tmp_path):
    model = lively(LLAMA).to(torch.bfloat16)
    save_huggingface(model, tokenizer, tmp_path / "model")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.bfloat16


def test_the_shipped_model_writes_the_same_text_there(tmp_path, assert_equal):
    shipped = load_shipped()
    save_huggingface(shipped.model, shipped.tokenizer, tmp_path / "pocket-shakespeare", shipped.training)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "pocket-shakespeare")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "pocket-shakespeare")
    prompt = tokenizer("ROMEO:\nWhat light", return_tensors="pt")
    with torch.no_grad():
        assert_equal(shipped.model(prompt.input_ids), theirs(**prompt).logits)
    text = tokenizer.decode(theirs.generate(**prompt, max_new_tokens=40, do_sample=False)[0])
    [written] = generate(shipped.model, prompt.input_ids.tolist(), max_new_tokens=40, sampler=Sampler(temperature=0.0))
    assert text == "ROMEO:\nWhat light" + shipped.tokenizer.decode(written)


TEXTS = [
    "To be, or not to be",
    "ROMEO:\n\n  “Ay me!” — café 🎭",
    "a  b\t\n c ",
    " leading",
    "don't  we'll",
    "日本\x00\x7f",
    "",
]


def byte_level():
    return train_tokenizer(["Full fathom five thy father lies; of his bones are coral made. " * 9], 290)


def words():
    return train_word_tokenizer(["Full fathom five thy father lies; of his bones are coral made. " * 9], 60)


def published(folder):
    """As a model of the Hub has it: several special tokens, and the end of text named beside the file."""
    library = byte_level().to_library()
    library.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    return PublishedTokenizer.from_json(json.loads((folder / "tokenizer.json").read_text()), folder)


@pytest.mark.parametrize("shape", ["llama", "mistral", "qwen3", "gpt2"])
@pytest.mark.parametrize("kind", ["byte-level", "words", "published"])
def test_token_ids_are_theirs(kind, shape, lively, tmp_path):
    ours = {"byte-level": byte_level, "words": words, "published": lambda: published(tmp_path)}[kind]()
    save_huggingface(lively(SHAPES[shape][0]), ours, tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    draw = random.Random(0)
    texts = TEXTS + [
        "".join(chr(draw.choice([32, 10, 101, 115, 233, 0x4E2D, 0x1F600])) for _ in range(30)) for _ in "ab"
    ]
    for text in texts:
        assert theirs(text).input_ids == ours.encode(text), text
        if kind != "words":  # which loses white space
            assert theirs.decode(theirs(text).input_ids) == text
    assert theirs.eos_token_id == ours.end_of_text
    assert theirs.model_max_length == 40


def test_a_conversation_is_written_as_we_write_it(lively, tmp_path):
    template = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    ours = published(tmp_path)
    ours.chat_template, ours.roles = template, {"bos_token": "<|im_start|>", **ours.roles}
    save_huggingface(lively(LLAMA), ours, tmp_path / "model")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = theirs.apply_chat_template([{"role": "user", "content": "Full fathom"}], return_dict=False)
    start, end = (ours.special_tokens[name] for name in ("<|im_start|>", "<|im_end|>"))
    assert ids == [start, *ours.encode("user\nFull fathom"), end, *ours.encode("\n")]
    assert (theirs.bos_token_id, theirs.eos_token_id) == (start, end)
    config = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert config == {"bos_token_id": start, "eos_token_id": end}
