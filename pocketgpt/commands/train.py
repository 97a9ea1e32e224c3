"""`pocketgpt train`: train, and say where everything is."""

from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.gpt import GPT
from pocketgpt.inference.generate import generate
from pocketgpt.text.tokenizer import Tokenizer
from pocketgpt.training.checkpoint import find_checkpoint, latest_intact, read_training
from pocketgpt.training.distributed import is_main, process_group
from pocketgpt.training.recipes import TrainConfig
from pocketgpt.training.run import WriteSample, free_folder, resume, train
from pocketgpt.training.trainer import RunResult

SAMPLE_TOKENS = 100


def train_and_report(preset: str, config: TrainConfig, out: Path | None) -> None:
    """Train into `out`, or into a free folder below runs/, and print what came of it."""
    folder = out or free_folder(Path("runs") / preset)
    with process_group(config.device) as device:
        result = train(preset, config, folder, sample_writer(config), device)
        if is_main():
            print(report(result, config))


def resume_and_report(checkpoint: Path, config: TrainConfig, out: Path | None) -> None:
    """Go on from a checkpoint of a run, in its folder, and print what came of it."""
    if out is not None:
        raise PocketError(f"--resume goes on in {checkpoint.parent}: leave out --out {out}.")
    with process_group(config.device) as device:
        result = resume(checkpoint, config, sample_writer(config), device)
        if is_main():
            print(report(result, config))


def find_run(folder: Path, preset: str | None, recipe: str | None) -> tuple[Path, str, TrainConfig]:
    """The last intact checkpoint of a run, and the preset and the recipe it was begun with.

    Raises PocketError if there is none to go on from, or another preset or recipe is asked for.
    """
    checkpoint = latest_intact(folder)
    training = read_training(checkpoint)
    if "recipe" not in training or not (checkpoint / "state.pt").is_file():
        raise PocketError(f"{checkpoint} holds a model, but not where its training stood: it cannot go on.")
    if preset not in (None, training["preset"]):
        raise PocketError(f"{folder} was begun with --preset {training['preset']} and not {preset}: leave it out.")
    if recipe is not None:
        raise PocketError(f"--resume goes on with the recipe of {folder}: leave out --recipe {recipe}.")
    return checkpoint, training["preset"], TrainConfig.from_dict(training["recipe"])


def sample_writer(config: TrainConfig) -> WriteSample:
    """What writes a text at every evaluation."""

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

    return write_sample


def report(result: RunResult, config: TrainConfig) -> str:
    """How the run ended, where everything is, and what to do next."""
    lines = [f"\nDone after {result.step} steps."]
    if result.interrupted:
        lines = [
            f"\nStopped after {result.step} of {config.steps} steps, and saved.",
            f"Go on:         pocketgpt train --resume {result.folder}",
        ]
    if result.best:
        lines.append(f"Best {result.best}.")
        lines.append(f"  {find_checkpoint(result.folder)}  the model of the lowest validation loss")
    lines.append(f"  {latest_intact(result.folder)}  the model of the last step")
    lines.append(f"  {result.folder / 'loss.png'}  the loss curve")
    lines.append(f'Let it write:  pocketgpt generate "{config.prompt}" --model {result.folder}')
    return "\n".join(lines)
