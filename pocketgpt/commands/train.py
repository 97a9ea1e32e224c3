"""`pocketgpt train`: train a model, or resume a run, and print where everything is."""

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

from tyro.conf import AvoidSubcommands, OmitArgPrefixes, configure

from pocketgpt.commands.model_folder import load_model_folder
from pocketgpt.errors import PocketError
from pocketgpt.models.classes import MODELS
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.presets import preset as find_preset
from pocketgpt.models.saving import load_config
from pocketgpt.training import run
from pocketgpt.training.checkpoint import Checkpoint, find_checkpoint, find_damage, latest_intact, read_training
from pocketgpt.training.distributed import is_main, process_group, shared
from pocketgpt.training.initial_weights import tokenizer_of
from pocketgpt.training.objectives import OBJECTIVES, with_gap
from pocketgpt.training.recipes import (
    BatchOptions,
    EvaluationOptions,
    HardwareOptions,
    LoRAOptions,
    OptimizerOptions,
    TextOptions,
    TrainConfig,
    finetuning_recipe,
    recipe,
)
from pocketgpt.training.run_folder import new_folder
from pocketgpt.training.trainer import RunResult

DEFAULT_PRESET = "pocket-shakespeare"


def with_defaults(options: Sequence[str]) -> Callable[..., None]:
    """The subcommand with the defaults of a preset and a recipe, so that --help shows the values that a run will use.

    They are those of --preset and --recipe; with --init-from, those of that model; with --resume, those of the run
    itself.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    parser.add_argument("--recipe", nargs="?")
    parser.add_argument("--init-from", "--init_from", nargs="?")
    parser.add_argument("--lora-rank", "--lora_rank", nargs="?")
    parser.add_argument("--resume", nargs="?", type=Path)
    known, _ = parser.parse_known_args(options)
    checkpoint = initial = None
    if known.resume is not None:
        if known.init_from is not None:
            raise PocketError("--resume continues with the weights of its run: leave out --init-from.")
        checkpoint, preset_name, defaults = find_run(known.resume, known.preset, known.recipe)
        model_defaults = load_config(checkpoint, MODELS)
    elif known.init_from is not None:
        if known.preset is not None:
            raise PocketError(f"--init-from begins with the model of {known.init_from}: leave out --preset.")
        initial = load_model_folder(known.init_from)
        preset_name = None
        model_defaults = initial.model.config
        defaults = finetuning_defaults(
            initial, known.recipe or ("finetune" if known.lora_rank in (None, "None") else "lora")
        )
    else:
        preset_name = known.preset or DEFAULT_PRESET
        defaults = recipe(preset_name, known.recipe)
        model_defaults = find_preset(preset_name)
    config_class = type(model_defaults)

    kinds = (TextOptions, BatchOptions, OptimizerOptions, LoRAOptions, HardwareOptions, EvaluationOptions)
    parts = {kind: kind(**{field.name: getattr(defaults, field.name) for field in fields(kind)}) for kind in kinds}

    @configure(AvoidSubcommands)
    def train(
        text: OmitArgPrefixes[TextOptions] = parts[TextOptions],
        batch: OmitArgPrefixes[BatchOptions] = parts[BatchOptions],
        optimizer: OmitArgPrefixes[OptimizerOptions] = parts[OptimizerOptions],
        lora: OmitArgPrefixes[LoRAOptions] = parts[LoRAOptions],
        hardware: OmitArgPrefixes[HardwareOptions] = parts[HardwareOptions],
        evaluation: OmitArgPrefixes[EvaluationOptions] = parts[EvaluationOptions],
        model: config_class = model_defaults,
        *,
        preset: str | None = preset_name,
        recipe: str | None = known.recipe,
        init_from: str | None = None,
        out: Path | None = None,
        resume: Path | None = None,
    ) -> None:
        """Train a model: pocketgpt train --preset pocket-shakespeare

        Ctrl-C finishes the step, saves, and stops. On several GPUs: torchrun --nproc-per-node 8 -m pocketgpt train

        Any field of the model can be changed: --model.n-layers 6 --model.mixer.n-kv-heads 2

        Args:
            preset: Model to train; `pocketgpt info` lists the presets.
            recipe: Set of defaults for the options below; `--preset NAME --recipe NAME --help` shows them. quick or
                shipped for pocket-shakespeare, published or offline for pocket and latent, gpt3-small for gpt2, wsd for
                llama; with --init-from finetune, or lora, which is the default with --lora-rank.
            init_from: Begin with trained weights, and their model and tokenizer, instead of random ones: a run, a
                checkpoint, the folder of a published model, a .gguf file, or by name pocket-shakespeare, which ships
                with the project, or smollm2, which is fetched. It is not changed itself. `--init-from FOLDER --help`
                shows the defaults.
            out: Folder to write to, new or empty; by default runs/PRESET, or runs/NAME-finetuned with --init-from, with
                a number if that is taken, and with --resume the folder of that run.
            resume: Folder of a run to continue, such as runs/pocket-shakespeare, or one of its checkpoints. It has its
                own preset and recipe; steps, learning rates and corpus may be changed.
        """
        given = (text, batch, optimizer, lora, hardware, evaluation)
        config = TrainConfig(**{name: value for each in given for name, value in vars(each).items()})
        if checkpoint is None:
            check_model(model, model_defaults)
            start(model, preset, config, out, initial)
        else:
            if model != model_defaults:
                raise PocketError(f"--resume uses the model of {checkpoint.parent}: leave out the options --model.…")
            resume_from(checkpoint, config, out)

    return train


def find_run(folder: Path, preset: str | None, recipe_name: str | None) -> tuple[Path, str | None, TrainConfig]:
    """The last intact checkpoint of a run, or a named one, and the preset and recipe that the run began with.

    A run made with the Python `Trainer` has no preset.

    Raises PocketError if there is nothing to resume, or if another preset or recipe is asked for.
    """
    checkpoint = folder if (folder / "config.json").is_file() else latest_intact(folder)
    if damage := find_damage(checkpoint):
        raise PocketError(f"{checkpoint} is damaged: {damage}. Resume from another checkpoint of {folder.parent}.")
    training = read_training(checkpoint)
    if "recipe" not in training or not (checkpoint / "state.pt").is_file():
        raise PocketError(f"{checkpoint} contains a model but no training state: it cannot be resumed.")
    begun_with = training.get("preset")
    if preset not in (None, begun_with):
        raise PocketError(f"{folder} was begun with --preset {begun_with} and not {preset}: leave it out.")
    if recipe_name is not None:
        raise PocketError(f"--resume uses the recipe of {folder}: leave out --recipe {recipe_name}.")
    return checkpoint, begun_with, TrainConfig.from_dict(training["recipe"])


def finetuning_defaults(initial: Checkpoint, recipe_name: str | None) -> TrainConfig:
    """The recipe for a trained model, with its own tokenizer and objective, and windows that it has
    positions for."""
    defaults = finetuning_recipe(recipe_name)
    seq_len = min(defaults.seq_len, initial.model.config.max_seq_len)
    return replace(defaults, tokenizer=tokenizer_of(initial), seq_len=seq_len, objective=initial.objective_name)


def run_name(preset: str | None, initial: Checkpoint | None) -> str:
    """Name of a run's folder in runs/: the preset, or the trained model that it begins with."""
    if initial is None:
        return preset
    folder = initial.folder.absolute()
    return f"{folder.parent.name if folder.name.startswith('step-') else folder.stem}-finetuned"


def check_model(model: ModelConfig, defaults: ModelConfig) -> None:
    """Raises PocketError for a field of the model that other options decide."""
    if model.vocab_size != defaults.vocab_size:
        raise PocketError(
            f"--model.vocab-size {model.vocab_size} cannot be chosen: the tokenizer decides it. Use --tokenizer."
        )
    if model.dropout != defaults.dropout:
        raise PocketError(f"--model.dropout belongs to the training: use --dropout {model.dropout}.")


def start(
    model: ModelConfig, preset: str | None, config: TrainConfig, out: Path | None, initial: Checkpoint | None = None
) -> None:
    """Train into `out`, or into an unused folder in runs/, and print the outcome."""
    with process_group(config.device) as device:
        folder = out or shared(lambda: new_folder(Path("runs") / run_name(preset, initial)))
        result = run.train(model, config, folder, device, preset, initial)
        if is_main():
            print(outcome(result, config))


def resume_from(checkpoint: Path, config: TrainConfig, out: Path | None) -> None:
    """Continue from a checkpoint of a run, in the folder of that run or in `out`, and print the outcome."""
    with process_group(config.device) as device:
        result = run.resume(checkpoint, config, device, out)
        if is_main():
            print(outcome(result, config))


def outcome(result: RunResult, config: TrainConfig) -> str:
    """Format the outcome of a run: its last step, its files, and the next command."""
    lines = [f"\nDone after {result.step} steps."]
    if result.interrupted:
        lines = [
            f"\nStopped after {result.step} of {config.steps} steps, and saved.",
            f"Continue:        pocketgpt train --resume {result.folder}",
        ]
    if result.best:
        lines.append(f"Best {result.best}.")
        lines.append(f"  {find_checkpoint(result.folder)}  the model with the lowest validation loss")
    lines.append(f"  {latest_intact(result.folder)}  the model of the last step")
    lines.append(f"  {result.folder / 'loss.png'}  the loss curve")
    # Models that do not score a text fill its gaps.
    prompt = config.prompt if OBJECTIVES[config.objective].scores_text else with_gap(config.prompt)
    lines.append(f"Generate text:   {shlex.join(['pocketgpt', 'generate', prompt, '--model', str(result.folder)])}")
    return "\n".join(lines)
