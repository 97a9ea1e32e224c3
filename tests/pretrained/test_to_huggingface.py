import ast
import errno
import json
from dataclasses import replace

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.quantization import quantize
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import PRESETS, preset
from pocketgpt.pretrained.to_configs import their_config
from pocketgpt.pretrained.to_huggingface import save_huggingface
from pocketgpt.text.byte_tokenizer import ByteTokenizer

SIZE = {"vocab_size": 257, "d_model": 32, "n_layers": 2, "max_seq_len": 16}
LLAMA = preset("llama", **SIZE, mixer={"n_heads": 4})


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer([bytes([byte]) for byte in range(256)])


@pytest.fixture
def model() -> GPT:
    return GPT(LLAMA).eval()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("llama", {"positions": "none"}, "ModelConfig.positions = 'none'.*computes 'rope'"),
        ("llama", {"positions": "sinusoidal"}, "positions = 'sinusoidal'"),
        ("llama", {"norm": "layernorm"}, "norm = 'layernorm'.*LlamaForCausalLM computes 'rmsnorm'"),
        ("llama", {"norm_weight": False}, "norm_weight = False"),
        ("llama", {"norm_order": "post"}, "norm_order = 'post'"),
        ("llama", {"embedding_norm": True}, "embedding_norm = True"),
        ("llama", {"causal": False}, "causal = False"),
        ("llama", {"feedforward": {"activation": "relu2"}}, "feedforward.activation = 'relu2'"),
        ("llama", {"mixer": {"bias": True}}, "mixer.output_bias = False"),
        ("llama", {"mixer": {"window": 4}, "feedforward": {"bias": True}}, "feedforward.bias = True.*Mistral"),
        ("llama", {"mixer": {"window": 4, "bias": True, "output_bias": True}}, "mixer.bias = True.*Mistral"),
        ("llama", {"mixer": {"window": 4, "qk_norm": True}}, "mixer.window = 4.*Qwen3"),
        ("llama", {"rope": {"scaling": "ntk", "factor": 2.0}}, "rope.scaling = 'ntk'"),
        (
            "llama",
            {"rope": {"scaling": "dynamic", "original_max_seq_len": 8}},
            "rope.original_max_seq_len = 8.*computes 2048",
        ),
        ("gpt2", {"mixer": {"n_kv_heads": 3}}, "mixer.n_kv_heads = 3.*computes 12"),
        ("gpt2", {"mixer": {"d_head": 32}}, "mixer.d_head = 32.*computes 64"),
        ("gpt2", {"mixer": {"bias": False}}, "mixer.bias = False"),
        ("gpt2", {"mixer": {"qk_norm": True}}, "mixer.qk_norm = True"),
        ("gpt2", {"norm": "rmsnorm", "norm_bias": False}, "norm = 'rmsnorm'.*GPT2LMHeadModel computes 'layernorm'"),
        ("gpt2", {"feedforward": {"activation": "swiglu"}}, "feedforward.activation = 'swiglu'"),
        ("gpt2", {"norm_order": "post", "feedforward": {"activation": "gelu"}}, "activation = 'gelu'.*OpenAIGPT"),
        ("gpt2", {"norm_order": "post", "feedforward": {"d_ff": 100}}, "feedforward.d_ff = 100.*computes 3072"),
        ("pocket-sparse", {}, "mixer.n_anchors = 4"),
        ("pocket-linear", {}, "mixer = 'linear_attention'"),
        ("pocket", {}, "norm_weight = False"),
        ("brain", {}, "norm = 'layernorm'"),
        ("latent", {}, "mixer = 'latent_attention'"),
        ("pocket-moe", {}, "feedforward = 'mixture_of_experts'"),
        ("pocket-mamba", {}, "mixer = 'mamba'"),
    ],
    ids=str,
)
def test_a_model_that_transformers_has_no_name_for_is_refused_with_field_and_value(name, changes, message):
    with pytest.raises(PocketError, match=message):
        their_config(preset(name, **changes))


def test_layers_that_differ_are_refused():
    local, full = LLAMA.mixer, preset("llama", mixer={"n_heads": 4, "window": 4}).mixer
    with pytest.raises(PocketError, match="mixer differs from layer to layer"):
        their_config(preset("llama", **SIZE, mixer=(local, full)))


def test_a_config_of_another_family_is_refused_by_its_name():
    with pytest.raises(PocketError, match="A model of BertConfig cannot be exported to transformers"):
        their_config(PRESETS["pocket-bert"])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_exported_or_refused_with_a_sentence(name):
    try:
        assert their_config(PRESETS[name])["vocab_size"] == PRESETS[name].vocab_size
    except PocketError as error:
        assert "cannot be exported to transformers" in str(error)


def test_the_card_says_what_the_model_is_and_what_it_was_trained_on(model, tokenizer, tmp_path):
    training = {"preset": "llama", "recipe": {"corpus": "/home/me/plays.txt", "prompt": "ROMEO:"}, "step": 1200}
    training |= {"tokens": 34_000, "validation_loss": 3.14159, "bits_per_byte": 1.5}
    save_huggingface(model, tokenizer, tmp_path / "my-model", training)
    card = (tmp_path / "my-model" / "README.md").read_text()
    for said in (
        "# my-model",
        "LlamaForCausalLM",
        f"{model.n_params():,}",
        "plays.txt",
        "1,200 steps",
        "3.1416",
        "1.5",
    ):
        assert said in card
    assert "fine-tuned" not in card and "/home/me" not in card
    assert 'tokenizer("ROMEO:"' in card and card.startswith("---\nlibrary_name: transformers\n")


def test_the_code_of_the_card_is_python_whatever_the_prompt(model, tokenizer, tmp_path):
    prompt = 'She said "yes":\n{or not}\\'
    save_huggingface(model, tokenizer, tmp_path / "model", {"recipe": {"prompt": prompt}})
    code = (tmp_path / "model" / "README.md").read_text().partition("```python")[2].partition("```")[0]
    words = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert prompt in words


@pytest.mark.parametrize("source", ["/home/me/runs/old-1.7/step-000800", "/home/me/old-1.7", "/home/me/old-1.7.gguf"])
def test_the_card_names_the_model_that_was_fine_tuned(model, tokenizer, tmp_path, source):
    save_huggingface(model, tokenizer, tmp_path / "new", {"initial_weights": {"source": source, "sha256": "0"}})
    assert "| fine-tuned from | old-1.7 |" in (tmp_path / "new" / "README.md").read_text()


def test_without_metadata_the_card_leaves_out_what_it_does_not_know(model, tokenizer, tmp_path):
    save_huggingface(model, tokenizer, tmp_path / "model")
    assert "None" not in (tmp_path / "model" / "README.md").read_text()


def test_a_folder_with_something_in_it_is_left_as_it_is(model, tokenizer, tmp_path):
    (tmp_path / "model").mkdir()
    save_huggingface(model, tokenizer, tmp_path / "model")  # an empty one is as good as none
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    for folder in (tmp_path / "model", tmp_path / "model" / "config.json"):
        with pytest.raises(PocketError, match="not an empty folder"):
            save_huggingface(model, tokenizer, folder)
    assert {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()} == before


def test_a_tokenizer_of_another_model_is_refused(tokenizer, tmp_path):
    with pytest.raises(PocketError, match="tokenizer has 257 tokens and the model 200"):
        save_huggingface(GPT(replace(LLAMA, vocab_size=200)), tokenizer, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_quantized_model_is_refused(model, tokenizer, tmp_path):
    with pytest.raises(PocketError, match="cannot be saved"):
        save_huggingface(quantize(model, "int8"), tokenizer, tmp_path / "model")


def test_a_full_disk_leaves_nothing_and_names_the_space(model, tokenizer, tmp_path, monkeypatch):
    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pocketgpt.files.save_file", full)
    with pytest.raises(PocketError, match=r"No space left on device. It needs about \d.* MB, and .* are free"):
        save_huggingface(model, tokenizer, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_head_that_was_untied_by_hand_is_written(model, tokenizer, tmp_path):
    model.head.weight = torch.nn.Parameter(model.head.weight + 1)
    save_huggingface(model, tokenizer, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"] is False
