"""A model and a tokenizer that are small enough to train inside a test."""

import pytest
import torch

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.text.byte_tokenizer import ByteTokenizer
from pocketgpt.text.tokenizer import Tokenizer


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test loses power, so none needs to wait until files are on the disk."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def tokenizer() -> Tokenizer:
    """Bytes and end of text: 257 tokens."""
    return ByteTokenizer([bytes([byte]) for byte in range(256)])


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        vocab_size=257,
        d_model=32,
        n_layers=2,
        max_seq_len=32,
        mixer=AttentionConfig(n_heads=4, n_kv_heads=2),
        feedforward=FeedForwardConfig(d_ff=64),
    )


@pytest.fixture
def model(config: ModelConfig) -> GPT:
    torch.manual_seed(0)
    return GPT(config).eval()
