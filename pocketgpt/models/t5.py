"""T5: an encoder reads the input, a decoder writes the output and looks at what the encoder made of the input."""

from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.attention_backends import Backend
from pocketgpt.layers.block import FeedForwardPartConfig, MixerConfig
from pocketgpt.layers.context import Memory
from pocketgpt.layers.cross_attention import CrossAttention, CrossAttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.models.config import ModelConfig, Positions
from pocketgpt.models.stack import Cache, Stack, init_weights


@dataclass(frozen=True, kw_only=True)
class T5Config(ModelConfig):
    """Config of a T5: that of a GPT, with the defaults of the paper. `mixer` and `feedforward` are those of the layers
    of both stacks; cross-attention has the heads of `mixer`.

    T5 1.1 has feedforward.activation = "geglu" and tie_embeddings = False.
    """

    kind: ClassVar[str] = "t5"

    n_layers: int
    """Number of layers of the encoder, and of the decoder."""
    mixer: MixerConfig | tuple[MixerConfig, ...]
    """Self-attention in both stacks, and attention of the decoder to the encoder's output."""
    feedforward: FeedForwardPartConfig | tuple[FeedForwardPartConfig | None, ...] | None = field(
        default_factory=lambda: FeedForwardConfig(activation="relu")
    )
    """The layer that treats each token alone."""
    positions: Positions = "relative"
    """relative: a bias per head and distance is added to the scores, in each stack from a table of its own."""
    norm_eps: float = 1e-6
    """Added inside the root of a norm, so that a vector of zeros stays finite."""
    scale_logits: bool | None = None
    """Multiply features by d_model^(−1/2) before the head; where embedding and head are tied, if not given."""
    start_token: int | None = None
    """Token that the decoder begins with; the last one of the vocabulary, if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.causal, "causal", "True: the decoder writes from left to right; the encoder sees everything")
        self._require(isinstance(self.mixer, AttentionConfig), "mixer", "one AttentionConfig, for all layers")
        self.mixer._require(self.mixer.window is None, "window", "None: the encoder of a T5 sees the whole input")
        whole = self.feedforward is not None and not isinstance(self.feedforward, tuple)
        self._require(whole, "feedforward", "one config, for all layers")
        known = self.start_token is None or self.start_token in range(self.vocab_size)
        self._require(known, "start_token", f"None, or a token from 0 to {self.vocab_size - 1}")

    def resolved(self) -> "T5Config":
        scale = self.tie_embeddings if self.scale_logits is None else self.scale_logits
        start = self.vocab_size - 1 if self.start_token is None else self.start_token
        return replace(super().resolved(), scale_logits=scale, start_token=start)

    def layers(self) -> list[tuple[MixerConfig, FeedForwardPartConfig | None]]:
        """Blocks of the decoder, two for each layer: self-attention alone, then cross-attention and feed-forward."""
        cross = CrossAttentionConfig(**vars(self.mixer))
        return [(self.mixer, None), (cross, self.feedforward)] * self.n_layers

    def encoder(self) -> ModelConfig:
        """The config of the encoder: the same layers, without a causal mask."""
        own = {each.name: getattr(self, each.name) for each in fields(ModelConfig)}
        return ModelConfig(**own | {"causal": False})


class T5(Stack):
    """An encoder–decoder: two stacks of pre-norm blocks, with one embedding.

        tokens (B, S)                           decoder_tokens (B, T)
          └ embedding      (B, S, d_model)        └ embedding            (B, T, d_model)
          └ n_layers of the encoder:              └ n_layers of the decoder:
              x + attention(norm(x))                  x + attention(norm(x))         causal
              x + feedforward(norm(x))                x + attention(norm(x), memory) the input
          └ final_norm                                x + feedforward(norm(x))
              = memory     (B, S, d_model)        └ final_norm
                                                  └ head                 (B, T, vocab)

    This module is the decoder, so that all that works with one stack works with it, the cache above all; the encoder
    is a stack inside it. Attention does not scale its scores, and every score of a stack has a bias for its distance
    (`layers/relative_bias.py`).
    Source: Raffel et al. 2019, T5 (arXiv 1910.10683), section 2.1; version 1.1: Shazeer 2020 (arXiv 2002.05202).
    """

    def __init__(self, config: T5Config) -> None:
        super().__init__(config)
        self.encoder = Stack(self.config.encoder())
        self.encoder.embedding = nn.Identity()  # that of the decoder is used
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight
        self.feature_scale = config.d_model**-0.5 if self.config.scale_logits else 1.0
        init_weights(self)
        init_weights(self.encoder)
        if self.config.scale_logits:
            nn.init.normal_(self.embedding.weight)  # std 1, so that scaled logits are not too small to learn from

    def forward(
        self,
        tokens: Int[Tensor, "batch keys"],
        decoder_tokens: Int[Tensor, "batch seq"],
        mask: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Scores for the token of the output after each decoder token. `mask` is False for padding of the input.

        Raises ContextError for more tokens than max_seq_len, in the input or in the output.
        """
        return self.decode(decoder_tokens, self.encode(tokens, mask))

    def encode(self, tokens: Int[Tensor, "batch keys"], mask: Bool[Tensor, "batch keys"] | None = None) -> Memory:
        """Read the input, once however long the output becomes."""
        self.encoder.recompute_blocks = self.recompute_blocks
        context = self.encoder.context(tokens, mask=mask)
        return Memory(self.encoder.transform(self.embedding(tokens), context), mask)

    def decode(
        self, decoder_tokens: Int[Tensor, "batch seq"], memory: Memory, cache: Cache | None = None
    ) -> Float[Tensor, "batch seq vocab"]:
        """Scores for the token after each decoder token. With a cache, the tokens are the ones that follow the cached
        ones, and the memory is that of the calls before."""
        return self.head(self.features(decoder_tokens, memory, cache))

    def features(
        self, decoder_tokens: Int[Tensor, "batch seq"], memory: Memory, cache: Cache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """The decoder's residual stream after the last norm, scaled where the logits are: what the head reads."""
        context = self.context(decoder_tokens, cache, memory=memory)
        return self.transform(self.embedding(decoder_tokens), context, cache) * self.feature_scale

    def use_attention(self, backend: str | Backend) -> "T5":
        self.encoder.use_attention(backend)
        return super().use_attention(backend)

    use_attention.__doc__ = Stack.use_attention.__doc__

    def n_active_params(self) -> int:
        """Parameters that are used for a token of the input and one of the output: fewer than all of them in a mixture
        of experts."""
        return super().n_active_params() - (self.encoder.n_params() - self.encoder.n_active_params())

    def flops(self, n_input: int, n_output: int) -> int:
        """Floating-point operations of a forward pass that reads `n_input` tokens and scores `n_output`, counted as in
        `flops_per_token` of a stack."""
        encoder = n_input * self.encoder.flops_per_token(n_input)
        layers = sum(
            part.flops(n_input, n_output)
            if isinstance(part, CrossAttention)
            else n_output * part.flops_per_token(n_output)
            for part in self.parts()
        )
        return encoder + layers + n_output * 2 * self.config.d_model * self.config.vocab_size

    def flops_per_token(self, seq: int) -> int:
        """`flops` of `seq` tokens of input and as many of output, divided by `seq`."""
        return self.flops(seq, seq) // seq


def shift_right(targets: Int[Tensor, "batch seq"], start_token: int, ignore: int = -100) -> Int[Tensor, "batch seq"]:
    """Inputs of a decoder that learns these targets: the start token, then the targets but the last one.

    Targets of `ignore`, which do not count in the loss, have no embedding: the start token is in their place.
    """
    start = torch.full_like(targets[:, :1], start_token)
    shifted = torch.cat((start, targets[:, :-1]), dim=1)
    return shifted.masked_fill(shifted == ignore, start_token)
