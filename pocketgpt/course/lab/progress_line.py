"""A line that says how far a training is, how fast, and how long it still takes."""

import time

from IPython.display import Pretty, display


class ProgressLine:
    """One line of output, rewritten in place about twice a second."""

    def __init__(self, total: int, tokens_per_step: int, done: int = 0) -> None:
        """done: steps that were made before, by a training that was stopped."""
        self.total = total
        self.tokens_per_step = tokens_per_step
        self.started = self.shown = time.perf_counter()
        self.done = self.first = done
        self.line = display(Pretty("starting"), display_id=True)

    def step(self, loss: float) -> None:
        """Count a step. Shows its loss, tokens per second, and the time left at that rate."""
        self.done += 1
        now = time.perf_counter()
        if (now - self.shown < 0.5 and self.done < self.total) or self.line is None:
            return
        self.shown = now
        self.line.update(Pretty(self.text(loss, now - self.started)))

    def text(self, loss: float, seconds: float) -> str:
        rate = (self.done - self.first) / seconds
        left = (self.total - self.done) / rate
        return (
            f"step {self.done:,} of {self.total:,} · loss {loss:.2f} · {rate * self.tokens_per_step:,.0f} tokens/s · "
            f"{seconds:.0f} s done, {left:.0f} s left"
        )
