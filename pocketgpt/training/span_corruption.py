"""Span corruption: spans of the text are cut out, and the decoder learns to write them.

    To be or not to be , that is the question          the text
    To be <0> be , that <1> question                    input: each span is replaced by one sentinel
    <0> or not to <1> is the <2>                        output: each sentinel with its span, and one more at the end

The output has only what is missing, about a fifth as many tokens as the text, which makes training cheap. 15 % of the
tokens are cut out, in spans of 3 tokens on average. Both numbers are exact for every window: only the places and the
lengths of the spans are random, so all rows have inputs of one length and outputs of one length, without padding.
Source: Raffel et al. 2019, T5 (arXiv 1910.10683), sections 3.1.4 (sentinels, 15 %) and 3.3.4 (spans of mean length 3);
the exact counts are those of `random_spans_noise_mask` in their code.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.inference.spans import N_SENTINELS, first_sentinel
from pocketgpt.models.t5 import T5, shift_right
from pocketgpt.training.loss import with_auxiliary

CORRUPTED = 0.15
"""Share of the tokens that are cut out."""
MEAN_SPAN = 3.0
"""Mean length of a span in tokens."""


def count_spans(length: int) -> tuple[int, int]:
    """(tokens that are cut out, spans they form) in a window of `length` tokens.

    The input has length − tokens + spans tokens, the output tokens + spans + 1.
    Raises PocketError for more spans than there are sentinels.
    """
    n_cut = max(1, round(CORRUPTED * length))
    n_spans = max(1, round(n_cut / MEAN_SPAN))
    if n_spans >= N_SENTINELS:
        raise PocketError(
            f"A window of {length} tokens has {n_spans} spans and needs {n_spans + 1} sentinels, and there are "
            f"{N_SENTINELS}: use a seq_len of at most {int((N_SENTINELS - 1) * MEAN_SPAN / CORRUPTED)}."
        )
    return n_cut, n_spans


def draw_spans(batch: int, length: int, n_cut: int, n_spans: int, device: torch.device) -> Bool[Tensor, "batch length"]:
    """Draw the tokens to cut out of each row: True where a token is in a span.

    A row begins with a part that stays, then a span, and so on in turn; it ends with a span.
    """
    kept = random_parts(batch, length - n_cut, n_spans, device)  # (B, spans)
    cut = random_parts(batch, n_cut, n_spans, device)  # (B, spans)
    lengths = torch.stack((kept, cut), dim=2).flatten(1)  # (B, 2 · spans): in turn
    ends = lengths.cumsum(dim=1)  # (B, 2 · spans)
    part = torch.searchsorted(ends, torch.arange(length, device=device).expand(batch, -1).contiguous(), right=True)
    return part % 2 == 1  # (B, T)


def random_parts(batch: int, total: int, n: int, device: torch.device) -> Int[Tensor, "batch n"]:
    """Lengths of n parts of a row of `total` tokens, none of them empty; all ways of cutting are equally likely."""
    places = torch.rand(batch, max(total - 1, 0), device=device).topk(n - 1, dim=1).indices + 1  # n − 1 different ones
    ends = F.pad(places.sort(dim=1).values, (0, 1), value=total)  # (B, n)
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))


def corrupt(
    text: Int[Tensor, "batch length"], cut: Bool[Tensor, "batch length"], n_cut: int, n_spans: int, sentinel: int
) -> tuple[Int[Tensor, "batch n_input"], Int[Tensor, "batch n_output"]]:
    """Input and output of a text whose tokens are cut out where `cut` is True: `n_cut` of them in `n_spans` spans, in
    each row.

    `sentinel` is the id of the first sentinel; the others follow it.
    """
    begins = cut & ~F.pad(cut, (1, 0))[:, :-1]  # (B, T), True at the first token of a span
    sentinels = sentinel + begins.cumsum(dim=1) - 1  # (B, T), of the span that began last
    inputs = keep(text.where(~begins, sentinels), ~cut | begins, text.shape[1] - n_cut + n_spans)
    # Each token with the sentinel of its span before it, of which the first tokens need theirs.
    pairs = torch.stack((sentinels, text), dim=2).flatten(1)  # (B, 2 · T)
    wanted = torch.stack((begins, cut), dim=2).flatten(1)
    outputs = keep(pairs, wanted, n_cut + n_spans)
    return inputs, F.pad(outputs, (0, 1), value=sentinel + n_spans)


def keep(x: Int[Tensor, "batch all"], wanted: Bool[Tensor, "batch all"], n: int) -> Int[Tensor, "batch n"]:
    """The wanted entries of each row, n of them, in their order."""
    places = (~wanted).byte().argsort(dim=1, stable=True)[:, :n]
    return x.gather(1, places)


def flops_per_corrupted_token(model: T5, seq: int) -> float:
    """Floating-point operations of a forward pass over a window of `seq` tokens, divided by `seq`."""
    n_cut, n_spans = count_spans(seq)
    return model.flops(seq - n_cut + n_spans, n_cut + n_spans + 1) / seq


class SpanCorruptionLoss(nn.Module):
    """Mean cross-entropy of the output's tokens, sentinels included, in nats.

    Called like NextTokenLoss. The text is `tokens`; of the targets only the number is used. Spans are drawn from
    PyTorch's global random numbers.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        tokens: Int[Tensor, "batch seq"],
        targets: Int[Tensor, "batch seq"],
        n_targets: int | float | Float[Tensor, ""] | Int[Tensor, ""] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean over the output's tokens, times the tokens of the text, divided by `n_targets`.

        So each token of an output stands for as many tokens of the text, in every row, and a batch that is one part of
        a step has the weight of its text. Without `n_targets` it is the mean. In training, the auxiliary loss of the
        layers is added, weighted as in NextTokenLoss.

        Raises PocketError for a window with more spans than there are sentinels.
        """
        counts = count_spans(tokens.shape[1])
        cut = draw_spans(*tokens.shape, *counts, tokens.device)  # (B, T)
        inputs, outputs = corrupt(tokens, cut, *counts, first_sentinel(self.model.config))  # (B, n_in), (B, n_out)
        logits = self.model(inputs, shift_right(outputs, self.model.config.start_token))  # (B, n_output, vocab)
        share = 1.0 if n_targets is None else targets.numel() / n_targets  # of the step's targets, in this batch
        loss = F.cross_entropy(logits.float().flatten(0, 1), outputs.flatten()) * share
        return with_auxiliary(loss, self.model, share)
