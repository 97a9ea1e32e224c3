"""Predictions: a guess written down before a cell computes the answer."""

from types import EllipsisType

from pocketgpt.course.progress import record


class Prediction:
    """A guess, and its outcome once a cell has computed it."""

    def __init__(self, guess: object) -> None:
        self.guess = guess
        self.outcome: object = None

    def compare(self, outcome: object) -> None:
        """Keep the outcome, print it below the guess, and add both to the progress record."""
        self.outcome = outcome
        if not isinstance(self.guess, EllipsisType):
            record(guess=str(self.guess), outcome=str(outcome))
        guess = "none yet; write it in place of the dots" if isinstance(self.guess, EllipsisType) else self.guess
        print(f"Your prediction: {guess}\nThe outcome:     {outcome}")


def predict(*guess: object) -> Prediction:
    """Write down a guess: a number, a word, several of them with commas between, or `...` for none.

    The cell that computes the answer prints it beside the guess:

        guess = predict(0.5)
        guess.compare(0.71)
    """
    return Prediction(guess[0] if len(guess) == 1 else list(guess) or ...)
