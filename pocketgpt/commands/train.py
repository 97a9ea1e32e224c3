"""`pocketgpt train`: train, and say where everything is."""

from pathlib import Path

from pocketgpt.gpt import GPT
from pocketgpt.inference.generate import generate
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.recipe import TrainConfig
from pocketgpt.training.run import free_folder, train

SAMPLE_TOKENS = 100


def train_and_report(preset: str, config: TrainConfig, out: Path | None) -> None:
    """Train into `out`, or into a free folder below runs/, and print what came of it."""
    folder = out or free_folder(Path("runs") / preset)

    def write_sample(model: GPT, tokenizer: Tokenizer) -> str:
        prompt = tokenizer.encode(config.prompt) or [tokenizer.end_of_text]
        [written] = generate(
            model.eval(),
            [prompt],
            max_new_tokens=SAMPLE_TOKENS,
            stop_tokens=(tokenizer.end_of_text,),
            seed=config.seed,
        )
        return config.prompt + tokenizer.decode(written)

    result = train(preset, config, folder, write_sample)
    print(
        f"\n{'Interrupted and saved' if result.interrupted else 'Done'} after {result.step} steps. "
        f"Best validation loss {result.best.loss:.3f} · perplexity {result.best.perplexity:.1f} · "
        f"{result.best.bits_per_byte:.3f} bits per byte.\n"
        f"  {folder / 'best'}  the model of the lowest validation loss\n"
        f"  {folder / 'last'}  the model of the last step\n"
        f"  {folder / 'loss.png'}  the loss curve\n"
        f'Let it write:  pocketgpt generate "{config.prompt}" --model {folder}'
    )
