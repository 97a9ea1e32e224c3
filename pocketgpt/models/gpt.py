"""The GPT: a stack of blocks, and a head that scores the next token. Start reading here."""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.models.config import ModelConfig
from pocketgpt.models.saving import load_config, load_weights
from pocketgpt.models.stack import Cache, Stack, init_weights


class GPT(Stack):
    """A decoder-only transformer: embedding, blocks, norm, head.

        tokens (B, T)
          └ embedding, positions      (B, T, d_model)   the residual stream begins
          └ n_layers blocks:
              x + mixer(norm(x))                        tokens exchange information: attention
              x + feedforward(norm(x))                  each token computes alone
          └ final_norm
          └ head                      (B, T, vocab)     logits: a score for every possible next token

    `models/stack.py` has all but the head; each layer is a file of `layers/`.
    Sources: Radford et al. 2019 (GPT-2); Touvron et al. 2023, LLaMA (arXiv 2302.13971).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        init_weights(self)

    def forward(self, tokens: Int[Tensor, "batch seq"], cache: Cache | None = None) -> Float[Tensor, "batch seq vocab"]:
        """Scores for the token after each position. With a cache, `tokens` are the ones that follow the cached ones.

        Raises ContextError for more tokens than there are positions for.
        """
        return self.head(self.features(tokens, cache))

    def flops_per_token(self, seq: int) -> int:
        return super().flops_per_token(seq) + 2 * self.config.d_model * self.config.vocab_size

    flops_per_token.__doc__ = Stack.flops_per_token.__doc__

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> "GPT":
        """The model that `save` wrote, in float32 and ready to run (`eval`).

        Raises PocketError if a file is missing, damaged, or does not belong to the config.
        """
        model = cls(load_config(folder))
        load_weights(model, folder)
        return model.to(device).eval()
