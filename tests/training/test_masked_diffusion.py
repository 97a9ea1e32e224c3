"""Masked diffusion in training: what is hidden, what the loss is divided by, and that a run resumes exactly."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pocketgpt.checked import ConfigError
from pocketgpt.models.gpt import GPT
from pocketgpt.text.batches import ShuffledWindows
from pocketgpt.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from pocketgpt.training.evaluate import evaluate, token_lengths
from pocketgpt.training.loss import IGNORE
from pocketgpt.training.masked_diffusion import (
    SMALLEST_T,
    MaskedDiffusionLoss,
    diffusion_loss,
    draw_times,
    hide,
)
from pocketgpt.training.objectives import OBJECTIVES, find_objective
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run import resume, train
from pocketgpt.training.trainer import Trainer

MASK = 257
TEXT = "To-morrow, and to-morrow, and to-morrow, creeps in this petty pace from day to day. " * 4
CONFIG = TrainConfig(
    objective="masked-diffusion",
    steps=4,
    batch_size=4,
    seq_len=16,
    eval_every=4,
    eval_tokens=65,
    save_every=2,
    precision="float32",
    device="cpu",
)


@pytest.fixture
def config(config):
    return replace(config, causal=False, vocab_size=258, max_seq_len=128)  # a sample fits into it


class Recorder(nn.Module):
    """A model that knows nothing, and records what it is given."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, tokens):
        self.seen.append(tokens)
        return self.weight.expand(*tokens.shape, self.config.vocab_size)


def test_a_token_is_hidden_where_its_number_is_below_the_t_of_its_row():
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    u = torch.tensor([[0.2, 0.5, 0.9], [0.2, 0.5, 0.9]])
    assert hide(tokens, torch.tensor([0.5, 1.0]), u, 9).tolist() == [[9, 2, 3], [9, 9, 9]]
    assert tokens.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_hand_computed_loss():
    # Four tokens, t = 1/4, two hidden at 2 and 1 nats: (2 + 1) / 0.25 / 4 = 3.
    log_p = torch.tensor([-2.0, -0.1, -1.0, -0.1])
    logits = torch.stack((log_p, (1 - log_p.exp()).log()), dim=-1)[None]
    hidden = torch.tensor([[True, False, True, False]])
    loss = diffusion_loss(logits, torch.zeros(1, 4, dtype=torch.long), hidden, torch.tensor([0.25]))
    assert loss.item() / 4 == pytest.approx(3.0)


@pytest.mark.parametrize("batch", [1, 2, 8, 1000])
def test_the_times_of_a_batch_are_spread_evenly_and_never_zero(batch):
    for _ in range(100):
        t = draw_times(batch, torch.device("cpu"))
        assert (t >= SMALLEST_T).all() and (t <= 1).all()
        assert ((t.sort().values * batch).floor() - torch.arange(batch)).abs().max() <= 1


def test_each_time_alone_is_uniform():
    t = torch.stack([draw_times(2, torch.device("cpu")) for _ in range(4000)])
    assert t.mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert t.var(dim=0).tolist() == pytest.approx([1 / 12, 1 / 12], abs=0.004)


def test_the_text_is_the_targets_and_ignored_ones_are_given(config):
    model = Recorder(config)
    rows = torch.randint(257, (500, 9))
    inputs, targets = rows[:, :-1], rows[:, 1:].clone()
    targets[:, [2, 7]] = IGNORE
    MaskedDiffusionLoss(model)(inputs, targets)
    [seen] = model.seen
    hidden = seen == MASK
    assert torch.equal(seen[~hidden], rows[:, 1:][~hidden])
    assert not hidden[:, 2].any() and hidden[:, 7].all()  # the token after the last input is not known
    assert hidden[:, [0, 1, 3, 4, 5, 6]].float().mean(dim=0).tolist() == pytest.approx([0.5] * 6, abs=0.08)


def test_each_row_and_each_position_is_hidden_on_its_own(config):
    model = Recorder(config)
    rows = torch.randint(257, (200, 33))
    MaskedDiffusionLoss(model)(rows[:, :-1], rows[:, 1:])
    hidden = (model.seen[0] == MASK).float()
    shares = hidden.mean(dim=1)
    assert shares.min() < 0.1 and shares.max() > 0.9  # a t for every row
    half = hidden[(shares > 0.3) & (shares < 0.7)]
    assert ((half @ half.T)[~torch.eye(len(half), dtype=torch.bool)].max() < half.sum(dim=1).max()).all()


def test_is_divided_by_all_targets_and_not_by_the_hidden_ones(config):
    rows = torch.randint(257, (400, 33))
    targets = rows[:, 1:].clone()
    targets[:, ::4] = IGNORE
    loss, losses = MaskedDiffusionLoss(Recorder(config)), []
    with torch.no_grad():
        for _ in range(5):
            losses.append(loss(rows[:, :-1], targets).item())
            torch.manual_seed(7)
            once = loss(rows[:, :-1], targets)
            torch.manual_seed(7)
            assert loss(rows[:, :-1], targets, 100.0).item() == pytest.approx(once.item() * 400 * 24 / 100)
            torch.manual_seed(len(losses))
    # 257 equally likely tokens: the mask is not one of them.
    assert np.mean(losses) == pytest.approx(np.log(257), rel=0.03)


def test_the_evaluation_is_the_same_every_time_and_draws_nothing_from_the_run(config, tokenizer):
    model, tokens = GPT(config), np.array(tokenizer.encode(TEXT), np.uint16)
    given = {"seq_len": 16, "objective": OBJECTIVES["masked-diffusion"]}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = evaluate(model, tokens, token_lengths(tokenizer), **given)
    assert torch.equal(torch.rand(3), expected)
    assert evaluate(model, tokens, token_lengths(tokenizer), **given) == first
    assert first.tokens == len(tokens) - 1


def test_a_short_text_is_learned(config, tokenizer, tmp_path):
    tokens = np.array(tokenizer.encode(TEXT), np.uint16)
    recipe = replace(CONFIG, steps=60, batch_size=8, lr=2e-2, muon_lr=0.05, eval_every=60, save_every=60)
    batches = ShuffledWindows(tokens, recipe.batch_size, recipe.seq_len)
    result = Trainer(GPT(config), tokenizer, batches, tokens, recipe, tmp_path / "run").run()
    assert result.best.loss < 3.2  # 5.5 before


def test_a_resumed_run_draws_the_same_masks(tmp_path, monkeypatch, config, tokenizer):
    monkeypatch.setenv("POCKETGPT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "own.txt").write_text(TEXT * 8)
    tokenizer.save(tmp_path / "bytes.json")
    recipe = replace(CONFIG, corpus=str(tmp_path / "own.txt"), tokenizer=str(tmp_path / "bytes.json"), accumulation=2)
    folder = train(replace(config, vocab_size=999), recipe, tmp_path / "run").folder
    again = resume(folder / "step-000002", folder=tmp_path / "again").folder
    ours, theirs = (load_checkpoint(run / "step-000004").model for run in (again, folder))
    assert ours.config.vocab_size == 258
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_knows_its_objective(config, tokenizer, tmp_path):
    model = GPT(config)
    save_checkpoint(tmp_path / "known", model, tokenizer, {"recipe": {"objective": "masked-diffusion"}})
    assert load_checkpoint(tmp_path / "known").objective is OBJECTIVES["masked-diffusion"]
    save_checkpoint(tmp_path / "unknown", model, tokenizer, {"recipe": {"objective": "next-sentence"}})
    with pytest.raises(CheckpointError, match=r"trained for 'next-sentence'.*next-token, masked-diffusion"):
        load_checkpoint(tmp_path / "unknown")
    short = GPT(replace(config, vocab_size=257))
    save_checkpoint(tmp_path / "short", short, tokenizer, {"recipe": {"objective": "masked-diffusion"}})
    with pytest.raises(CheckpointError, match=r"do not belong together.*adds \[MASK\]; the vocabulary .* has 257"):
        load_checkpoint(tmp_path / "short")


def test_a_head_in_chunks_is_refused(config, tokenizer):
    with pytest.raises(ConfigError, match="head_chunk = 8 cannot work with the objective 'masked-diffusion'"):
        find_objective(replace(CONFIG, head_chunk=8), config, tokenizer)


def test_a_causal_model_is_refused(config, tokenizer):
    with pytest.raises(ConfigError, match=r"'masked-diffusion' cannot work with ModelConfig\.causal = True.*no-causal"):
        find_objective(CONFIG, replace(config, causal=True), tokenizer)


def test_a_vocabulary_without_a_mask_is_refused(config, tokenizer):
    with pytest.raises(ConfigError, match=r"257 tokens and its objective 'masked-diffusion' adds \[MASK\].* has 257"):
        find_objective(CONFIG, replace(config, vocab_size=257), tokenizer)


COMPILED = """
import torch
from pocketgpt.models.presets import preset
from pocketgpt.models.gpt import GPT
from pocketgpt.training.masked_diffusion import MaskedDiffusionLoss

parts = {"mixer": {"n_heads": 2, "n_kv_heads": 2}, "feedforward": {"d_ff": 32}}
model = GPT(preset("pocket-diffusion", vocab_size=61, d_model=16, n_layers=1, max_seq_len=8, **parts))
tokens = torch.randint(60, (3, 8))
compiled = torch.compile(MaskedDiffusionLoss(model), fullgraph=True, backend="eager")
losses = []
for loss in (MaskedDiffusionLoss(model), compiled):
    torch.manual_seed(1)
    losses.append(loss(tokens, tokens))
torch.testing.assert_close(*losses)
"""


def test_the_loss_compiles_into_one_graph_with_the_same_draws():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
