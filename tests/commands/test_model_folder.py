"""`--model FOLDER` loads our checkpoints and published models alike, as transformers reads the published ones."""

import json
import math

import pytest
import tokenizers
import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pocketgpt.cli import main
from pocketgpt.commands.model_folder import SHIPPED, load_model_folder
from pocketgpt.errors import PocketError
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.training.checkpoint import save_checkpoint

TEXT = "Now is the winter of our discontent.\nMade glorious summer by this sun of York.\n" * 4


@pytest.fixture(scope="module")
def theirs():
    """A small Llama of transformers, whose weights are far from uniform predictions."""
    torch.manual_seed(0)
    shape = dict(vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=64)
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def tokenizer():
    """Their tokenizer, with a token for each byte and an end of text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    library = tokenizers.Tokenizer(models.BPE({letter: token for token, letter in enumerate(letters)}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=library, eos_token="<|endoftext|>")


@pytest.fixture
def published(tmp_path, theirs, tokenizer):
    """The folder that transformers writes."""
    theirs.save_pretrained(tmp_path / "published")
    tokenizer.save_pretrained(tmp_path / "published")
    return tmp_path / "published"


def output(capsys, *argv: object) -> str:
    assert main(list(map(str, argv))) == 0
    return capsys.readouterr().out


def test_a_published_folder_is_read_as_transformers_reads_it(published, theirs, tokenizer, assert_equal):
    loaded = load_model_folder(published)
    tokens = loaded.tokenizer.encode(TEXT)[:60]
    assert tokens == tokenizer(TEXT)["input_ids"][:60]
    with torch.no_grad():
        assert_equal(loaded.model(torch.tensor([tokens])), theirs(torch.tensor([tokens])).logits)
    assert not loaded.model.training and loaded.folder == published


def test_generate_writes_what_transformers_writes(capsys, published, theirs, tokenizer):
    prompt = tokenizer(TEXT[:20], return_tensors="pt")["input_ids"]
    expected = theirs.generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=256, pad_token_id=256)
    argv = ["generate", TEXT[:20], "--model", published, "--max-new-tokens", 12, "--temperature", 0]
    assert output(capsys, *argv) == tokenizer.decode(expected[0], skip_special_tokens=True) + "\n"


def test_eval_measures_the_loss_of_transformers(capsys, published, theirs, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text(TEXT)
    tokens = torch.tensor(tokenizer(TEXT)["input_ids"])[:33]
    said = output(capsys, "eval", published, tmp_path / "own.txt", "--split", "train", "--max-tokens", 33)
    with torch.no_grad():
        loss = F.cross_entropy(theirs(tokens[None, :-1]).logits[0], tokens[1:]).item()
    assert f"loss {loss:.4f} nats" in said and f"{loss / math.log(2):.4f} bits per byte" in said
    halves = output(
        capsys, "eval", published, tmp_path / "own.txt", "--split", "train", "--max-tokens", 33, "--seq-len", 16
    )
    with torch.no_grad():
        loss = F.cross_entropy(theirs(tokens[:-1].view(2, 16)).logits.flatten(0, 1), tokens[1:]).item()
    assert f"loss {loss:.4f} nats" in halves


def test_info_counts_the_parameters_of_a_published_model_from_its_config_alone(capsys, published, theirs):
    (published / "model.safetensors").write_bytes(b"")
    assert f"{theirs.num_parameters():,}" in output(capsys, "info", published)


def test_our_own_checkpoint_and_the_shipped_name_are_loaded_too(tmp_path):
    model = GPT(preset("llama", vocab_size=257, d_model=32, n_layers=1, mixer={"n_heads": 2}, max_seq_len=64)).eval()
    save_checkpoint(
        tmp_path / "run" / "step-000003", model, ByteTokenizer([bytes([n]) for n in range(256)]), {"step": 3}
    )
    for folder in (tmp_path / "run", str(tmp_path / "run" / "step-000003")):
        loaded = load_model_folder(folder)
        assert loaded.folder == tmp_path / "run" / "step-000003" and loaded.training == {"step": 3}
        tokens = torch.arange(9)[None]
        assert torch.equal(loaded.model(tokens), model(tokens))
    assert load_model_folder().tokenizer.vocab_size == load_model_folder(SHIPPED).model.config.vocab_size == 4096


def test_a_folder_of_the_shipped_name_comes_first(tmp_path, monkeypatch, published):
    monkeypatch.chdir(tmp_path)
    published.rename(tmp_path / SHIPPED)
    assert load_model_folder(SHIPPED).model.config.vocab_size == 257


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json.*hf download"),
        (lambda folder: (folder / "model.safetensors").unlink(), "contains no published model.*hf download"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"1"), "model.safetensors is damaged"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is damaged"),
        (lambda folder: (folder / "config.json").unlink(), "contains no intact checkpoint"),
        (lambda folder: change(folder, model_type="falcon"), "model_type = 'falcon' is not one we can load"),
        (lambda folder: change(folder, vocab_size=200), "size mismatch"),
    ],
    ids=["tokenizer", "weights", "damaged weights", "damaged config", "config", "architecture", "vocabulary"],
)
def test_a_file_that_is_missing_or_damaged_is_named(published, damage, message):
    damage(published)
    with pytest.raises(PocketError, match=f"(?s){message}"):
        load_model_folder(published)


def change(folder, **values) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(published):
    data = json.loads((published / "tokenizer.json").read_text())
    data["added_tokens"].append({**data["added_tokens"][0], "id": 257, "content": "<|more|>"})
    (published / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(PocketError, match="its tokenizer has 258 tokens, its model 257"):
        load_model_folder(published)
