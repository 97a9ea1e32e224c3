"""Fine-tuning: a run that begins with trained weights learns a new text, and leaves the old model as it was."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.layers.lora import add_lora, lora_layers
from pocketgpt.layers.rope_scaling import RopeConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.byte_tokenizer import ByteTokenizer, train_tokenizer
from pocketgpt.text.tokenize_corpus import tokenize_corpus
from pocketgpt.training.checkpoint import best_intact, find_checkpoint, latest_intact, load_checkpoint, save_checkpoint
from pocketgpt.training.distributed import wrap
from pocketgpt.training.evaluate import evaluate, token_lengths
from pocketgpt.training.initial_weights import check_tokenizer, tokenizer_of, weights_sha256
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run import train
from pocketgpt.training.trainer import Trainer

TEXT = "Full fathom five thy father lies;\nOf his bones are coral made;\nThose are pearls that were his eyes;\n" * 20
TOKENS = torch.randint(257, (3, 17), generator=torch.Generator().manual_seed(0))
INPUTS, TARGETS = TOKENS[:, :-1], TOKENS[:, 1:]


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("pocketgpt.training.run_log.plot_losses", lambda records, file: None)


@pytest.fixture
def initial(tmp_path, config, lively, tokenizer):
    """A checkpoint of an earlier training, as a command loads it."""
    save_checkpoint(tmp_path / "old", lively(config), tokenizer, {"step": 9})
    return load_checkpoint(tmp_path / "old")


@pytest.fixture
def recipe(tmp_path, monkeypatch, initial):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text(TEXT)
    return TrainConfig(
        corpus=str(tmp_path / "own.txt"),
        tokenizer=str(tmp_path / "old" / "tokenizer.json"),
        steps=1,
        batch_size=4,
        seq_len=16,
        optimizer="adamw",
        lr=1e-2,
        device="cpu",
        precision="float32",
        eval_every=50,
        eval_tokens=100,
    )


def measured(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return {r["step"]: r["validation_loss"] for r in map(json.loads, lines) if "validation_loss" in r}


def loss_of(model, tokenizer, recipe):
    tokens = tokenize_corpus(recipe.corpus, tokenizer, "validation").tokens[: recipe.eval_tokens]
    return evaluate(model, tokens, token_lengths(tokenizer), seq_len=recipe.seq_len).loss


@pytest.mark.parametrize("rank", [None, 2], ids=["all weights", "lora"])
def test_a_new_text_is_learned_and_the_old_model_stays_as_it_is(tmp_path, initial, recipe, rank, assert_equal):
    files = {file.name: hashlib.sha256(file.read_bytes()).digest() for file in (tmp_path / "old").iterdir()}
    old = {name: tensor.clone() for name, tensor in initial.model.state_dict().items()}
    recipe = replace(recipe, lora_rank=rank, steps=40)
    folder = train(initial.model.config, recipe, tmp_path / "run", initial=initial).folder
    # the files and the weights of the old model
    assert files == {file.name: hashlib.sha256(file.read_bytes()).digest() for file in (tmp_path / "old").iterdir()}
    assert all(torch.equal(tensor, old[name]) for name, tensor in initial.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in initial.model.parameters())
    # the loss, from that of the old model to that of the new one
    losses = measured(folder)
    assert losses[0] == pytest.approx(loss_of(initial.model, initial.tokenizer, recipe), rel=1e-6)
    new = load_checkpoint(latest_intact(folder))
    assert type(new.model) is GPT and not list(lora_layers(new.model))
    assert losses[40] == pytest.approx(loss_of(new.model, new.tokenizer, recipe), rel=1e-5)
    assert losses[40] < losses[0] - 1.0
    if rank is not None:
        changed_by_rank(rank, old, new.model.state_dict())
        stored_for_pairs(rank, torch.load(latest_intact(folder) / "state.pt", weights_only=True))


def changed_by_rank(rank, old, new):
    """The matrices of the layers changed by matrices of that rank, and nothing else did."""
    assert old.keys() == new.keys()
    for name, weight in new.items():
        if not name.endswith("_proj.weight"):
            assert torch.equal(weight, old[name]), name
            continue
        sizes = torch.linalg.svdvals((weight - old[name]).double())
        assert sizes[rank - 1] > 1e-4 and sizes[rank] < 1e-3 * sizes[rank - 1], name


def stored_for_pairs(rank, state):
    """The optimizer has two numbers for each one of the pairs, and for nothing else."""
    [adamw] = state["optimizers"]
    moments = sum(tensor.numel() for each in adamw["state"].values() for tensor in each.values() if tensor.ndim)
    pairs = sum(each[name].numel() for each in state["lora"].values() for name in ("lora_A", "lora_B"))
    # r · (d_in + d_out): q and o 32 + 32, k and v 32 + 16, three of the feed-forward 32 + 64, in two layers
    assert pairs == rank * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    assert moments == 2 * pairs


def test_if_training_only_harms_the_old_model_stays_the_best(tmp_path, model, tokenizer, recipe):
    save_checkpoint(tmp_path / "even", model, tokenizer, {})  # as unsure as a guess, and not sure of anything wrong
    initial = load_checkpoint(tmp_path / "even")
    folder = train(model.config, replace(recipe, lr=0.9, warmup=0.0), tmp_path / "run", initial=initial).folder
    assert best_intact(folder).name == "step-000000"
    assert weights_sha256(load_checkpoint(find_checkpoint(folder)).model) == weights_sha256(model)


def test_metadata_says_where_the_weights_came_from(tmp_path, initial, recipe):
    folder = train(initial.model.config, recipe, tmp_path / "run", initial=initial).folder
    said = load_checkpoint(latest_intact(folder)).training["initial_weights"]
    assert said == {"source": str(tmp_path / "old"), "sha256": weights_sha256(initial.model)}
    assert weights_sha256(GPT.load(tmp_path / "old")) == said["sha256"]
    with torch.no_grad():
        initial.model.final_norm.weight[3] += 1e-7
    assert weights_sha256(initial.model) != said["sha256"]


def test_dropout_and_a_longer_context_may_be_new(tmp_path, initial, recipe):
    rope = RopeConfig(scaling="yarn", factor=2.0, original_max_seq_len=32)
    longer = replace(initial.model.config, max_seq_len=64, rope=rope)
    recipe = replace(recipe, seq_len=48, dropout=0.2)
    folder = train(longer, recipe, tmp_path / "run", initial=initial).folder
    config = load_checkpoint(latest_intact(folder)).model.config
    assert (config.max_seq_len, config.rope.scaling, config.dropout) == (64, "yarn", 0.2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_layers": 1}, r"do not fit the model: blocks\.1\.feedforward\.down_proj\.weight.*Leave out the options"),
        ({"n_layers": 3}, r"blocks\.2\."),
        ({"d_model": 64}, r"would have another shape"),
        ({"norm_weight": False}, r"mixer_norm\.weight"),
        ({"vocab_size": 300}, r"embedding\.weight"),
        ({"positions": "learned"}, r"positions\.embedding\.weight"),
    ],
)
def test_a_model_of_another_shape_is_refused_by_its_weights(tmp_path, initial, recipe, changes, said):
    with pytest.raises(PocketError, match=said):
        train(replace(initial.model.config, **changes), recipe, tmp_path / "run", initial=initial)
    assert not (tmp_path / "run").exists()


def test_a_head_of_its_own_is_not_tied(tmp_path, config, tokenizer, recipe):
    save_checkpoint(tmp_path / "untied", GPT(replace(config, tie_embeddings=False)), tokenizer, {})
    untied = load_checkpoint(tmp_path / "untied")
    with pytest.raises(PocketError, match=r"has a head of its own: leave out --model\.tie-embeddings"):
        train(config, recipe, tmp_path / "run", initial=untied)


def test_another_tokenizer_is_refused_and_the_same_one_elsewhere_is_not(tmp_path, initial, recipe):
    train_tokenizer([TEXT], 260).save(tmp_path / "larger.json")
    ByteTokenizer([bytes([255 - byte]) for byte in range(256)]).save(tmp_path / "as-large.json")
    for other in ("larger.json", "as-large.json"):
        with pytest.raises(PocketError, match=rf"not those of '.*{other}': leave out --tokenizer, or use .*old"):
            changed = replace(recipe, tokenizer=str(tmp_path / other))
            train(initial.model.config, changed, tmp_path / "run", initial=initial)
    initial.tokenizer.save(tmp_path / "same.json")
    same = replace(recipe, tokenizer=str(tmp_path / "same.json"))
    assert train(initial.model.config, same, tmp_path / "run", initial=initial).step == 1


def test_a_file_with_the_vocabulary_inside_is_its_own_tokenizer(initial, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = replace(initial, folder=Path("model.gguf"), training={})
    assert tokenizer_of(file) == "model.gguf"
    assert check_tokenizer(str(tmp_path / "model.gguf"), file) is initial.tokenizer
    with pytest.raises(PocketError, match=r"leave out --tokenizer, or use model\.gguf"):
        check_tokenizer("shakespeare", file)


def test_low_rank_pairs_without_trained_weights_are_refused(tmp_path, config, recipe):
    with pytest.raises(PocketError, match="beside trained weights: use --init-from"):
        train(config, replace(recipe, lora_rank=2), tmp_path / "run")


@pytest.mark.parametrize("rank", [None, 4])
def test_a_full_disk_ends_in_a_sentence(tmp_path, initial, recipe, rank, monkeypatch):
    def full(path, values):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("pocketgpt.training.checkpoint.write_torch", full)
    with pytest.raises(PocketError, match=r"No space left on device. It needs about .* MB.*Nothing has been saved yet"):
        train(initial.model.config, replace(recipe, lora_rank=rank), tmp_path / "run", initial=initial)


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


@pytest.fixture
def adapted(lively, config):
    """A model with pairs that matter."""
    model = add_lora(lively(config), 2, 4.0).train()
    for number, (_, layer) in enumerate(lora_layers(model)):
        layer.lora_B.data = 0.3 * torch.randn(layer.lora_B.shape, generator=torch.Generator().manual_seed(number))
    return model


def test_gradients_of_pairs_are_the_same_with_recomputed_blocks_and_a_head_in_chunks(adapted, assert_equal):
    NextTokenLoss(adapted)(INPUTS, TARGETS).backward()
    expected = gradients(adapted)
    adapted.zero_grad(set_to_none=True)
    adapted.recompute_blocks = True
    NextTokenLoss(adapted, chunk=7)(INPUTS, TARGETS).backward()
    assert gradients(adapted).keys() == expected.keys()
    for name, gradient in gradients(adapted).items():
        assert_equal(gradient, expected[name], tolerance=1e-4)


def test_gradients_of_pairs_are_the_same_inside_ddp(adapted, assert_equal):
    NextTokenLoss(adapted)(INPUTS, TARGETS).backward()
    expected = gradients(adapted)
    adapted.zero_grad(set_to_none=True)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        wrap(NextTokenLoss(adapted))(INPUTS, TARGETS).backward()
    finally:
        dist.destroy_process_group()
    for name, gradient in gradients(adapted).items():
        assert_equal(gradient, expected[name])


@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_parts_of_a_step_train_pairs_like_the_whole(tmp_path, initial, recipe, precision):
    """In both formats: the prepared model of bf16 has another attention and other allocations."""
    data = tokenize_corpus(recipe.corpus, initial.tokenizer, "train").tokens
    losses = []
    for batch_size, accumulation in ((4, 1), (2, 2)):
        changed = replace(recipe, lora_rank=2, batch_size=batch_size, accumulation=accumulation, precision=precision)

        class Windows:
            def batch(self, number, size=batch_size):
                starts = [16 * (number * size + row) % 400 for row in range(size)]
                rows = torch.stack([torch.tensor(data[start : start + 17].astype("int64")) for start in starts])
                return rows[:, :-1], rows[:, 1:]

        torch.manual_seed(0)
        trainer = Trainer(initial.model, initial.tokenizer, Windows(), data, changed, tmp_path / str(batch_size))
        losses.append([trainer.train_step()["train_loss"] for _ in range(8)])
    assert losses[1][:4] == pytest.approx(losses[0][:4], rel=1e-4 if precision == "float32" else 2e-2)
    assert losses[0][-1] < losses[0][0] - 0.2
