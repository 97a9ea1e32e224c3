"""The `pocketgpt` command. Each subcommand is a function; its arguments and their help are its signature and docstring.

Imports of what a subcommand needs stand inside it, so that `pocketgpt --help` answers at once and training works
without Jupyter.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from pocketgpt.errors import PocketError
from pocketgpt.training.recipe import TrainConfig, recipe

DESCRIPTION = "PocketGPT: train a small GPT, let it write, look at what it is made of. Begin with: pocketgpt doctor"
DEFAULT = "pocket-shakespeare"


def generate(
    prompt: Positional[str] = "",
    *,
    model: Path | None = None,
    max_new_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int | None = 40,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | None = None,
    device: str = "auto",
    weights: Literal["float32", "bf16", "int8"] = "float32",
    compile: bool = False,
    report: bool = False,
) -> None:
    """Continue a text, token by token: pocketgpt generate "ROMEO:"

    Args:
        prompt: The text to continue; without one the model begins a new text.
        model: Folder that `pocketgpt train` wrote, such as runs/pocket-shakespeare; without it the shipped model.
        max_new_tokens: Most tokens to write; the model may end its text earlier.
        temperature: 0 always takes the most probable token, 1 draws as the model believes, more is wilder.
        top_k: Draw only from this many most probable tokens; None for all.
        top_p: Draw only from the most probable tokens that together reach this probability, such as 0.95.
        min_p: Draw only from tokens with at least this share of the highest probability, such as 0.05.
        seed: The same seed writes the same text on the same machine.
        device: auto, cpu, cuda or mps.
        weights: bf16 reads half the bytes for each token, int8 a quarter: faster for large models, a little less exact.
        compile: Compile the step, which takes a while at the start: pays for long texts and large models.
        report: Say at the end how fast it was, and how fast memory would let it be.
    """
    from pocketgpt.commands.generate import write
    from pocketgpt.inference.sampling import Sampler

    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    how = {"device": device, "weights": weights, "compile": compile, "report": report}
    write(prompt, model, max_new_tokens=max_new_tokens, sampler=sampler, seed=seed, **how)


def info(model: Positional[str] = DEFAULT) -> None:
    """Show what a model is made of: parameters of each part, arithmetic per token, memory of the KV cache.

    Args:
        model: Name of a preset, or folder of a run or a checkpoint.
    """
    from pocketgpt.commands.info import describe

    print(describe(model))


def doctor() -> int:
    """Check that everything is in place here, and say what to do where it is not."""
    from pocketgpt.doctor import examine

    return examine()


def fetch(corpus: Positional[str] = "shakespeare", *, tokenizer: str = "shakespeare", verify: bool = False) -> None:
    """Download a corpus, tokenize it, and keep the tokens in the cache. Interrupted, it goes on where it was.

    Args:
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own .txt, .jsonl or .parquet.
        tokenizer: shakespeare, gpt2, or a path to a tokenizer.json.
        verify: Compare every byte of what is in the cache with its checksum, where otherwise a sample is compared.
    """
    from pocketgpt.commands.fetch import fetch_corpus

    print(fetch_corpus(corpus, tokenizer, verify=verify))


def tokenizer(
    corpus: Positional[str] = "shakespeare",
    *,
    vocab_size: int = 4096,
    out: Path = Path("tokenizer.json"),
    kind: Literal["bytes", "words"] = "bytes",
) -> None:
    """Learn a tokenizer from a corpus: pocketgpt tokenizer wikitext-103 --vocab-size 32000 --out my.json

    Args:
        corpus: shakespeare, wikitext-103, fineweb-edu, tinystories, or a path to your own .txt, .jsonl or .parquet.
        vocab_size: Tokens in all, special ones included.
        out: File to write, a new one; give it to `pocketgpt train --tokenizer`.
        kind: bytes: byte-level BPE, which writes any text exactly. words: BPE within the words between white space,
            with [PAD] [UNK] [CLS] [SEP] [MASK] [BOS] [EOS]; white space is not kept.
    """
    from pocketgpt.commands.tokenizer import train_and_save

    print(train_and_save(corpus, vocab_size, out, kind))


def build(names: Positional[tuple[str, ...]] = (), *, check: bool = False, force: bool = False) -> None:
    """Make the notebooks of the course from solutions/*.py.

    Args:
        names: Chapters to build, such as 02_attention; without names all that changed.
        check: Write and execute nothing; say which notebooks are out of date.
        force: Execute chapters that have not changed too.
    """
    try:
        from pocketgpt.course.building.build import build as build_notebooks
    except ImportError as error:
        raise PocketError(f"Notebooks need {error.name}: pip install 'pocketgpt[course]'") from error
    build_notebooks(names, check=check, force=force)


def grade(
    submissions: Positional[Path],
    *,
    out: Path = Path("grades"),
    class_list: Path | None = None,
    terms: Path | None = None,
    jobs: int | None = None,
    verify: bool = True,
    cell_seconds: float = 60.0,
    notebook_seconds: float = 600.0,
    memory: float = 4.0,
    sandbox: Literal["auto", "bubblewrap", "namespaces", "none"] = "auto",
    docker: str | None = None,
) -> int:
    """Grade a folder of notebooks into a gradebook, or check one notebook: pocketgpt grade submissions --out grades

    Each is rebuilt from our own chapter with the student's answers, and run apart from everything else. Stopped with
    Ctrl-C, it goes on where it was.

    Args:
        submissions: A folder with notebooks, of any names, in any sub-folders; or one notebook.
        out: Folder for gradebook.csv, index.html, a page for each student, junit.xml and results.json.
        class_list: CSV file with a column `student`, whose entries stand somewhere in the paths of the notebooks.
        terms: TOML file with points and deadlines of chapters.
        jobs: Notebooks at a time; without it one for each core.
        verify: Ask every function again with secret inputs, and compare what it returns outside of its process.
        cell_seconds: A cell that runs longer is left out.
        notebook_seconds: Time for all runs of one notebook.
        memory: GB that one notebook may use.
        sandbox: Keeps notebooks away from your files and the network; auto takes the best that works here.
        docker: Run notebooks in containers of this image, which has pocketgpt and its extra `course`.
    """
    try:
        from pocketgpt.commands.grade import grade_folder, grade_one
        from pocketgpt.course.grading.protection.limits import Limits
    except ImportError as error:
        raise PocketError(f"Grading needs {error.name}: pip install 'pocketgpt[course]'") from error
    limits = Limits(memory=int(memory * 2**30), cell_seconds=cell_seconds, notebook_seconds=notebook_seconds)
    how = {"sandbox": None if sandbox == "auto" else sandbox, "docker": docker, "verify": verify}
    if submissions.is_file():
        return grade_one(submissions, limits, **how)
    if not submissions.is_dir():
        raise PocketError(f"There is no folder or notebook {submissions}.")
    return grade_folder(submissions, out, limits, students=class_list, terms_file=terms, jobs=jobs, **how)


def release(names: Positional[tuple[str, ...]] = (), *, out: Path = Path("pocketgpt-course.zip")) -> None:
    """Make the hand-out for students: chapters without solutions, and the package they need, as one zip file.

    Args:
        names: Chapters to hand out, such as 02_attention; without names all.
        out: The file to write.
    """
    try:
        from pocketgpt.course.building.release import release as make
    except ImportError as error:
        raise PocketError(f"Notebooks need {error.name}: pip install 'pocketgpt[course]'") from error
    print(f"Written: {make(out, names)}")


def bench(
    name: Positional[Literal["all", "train", "generate", "attention"]] = "all",
    *,
    preset: str = "pocket",
    batch_size: int = 16,
    seq_len: int | None = None,
    compile: bool = True,
    runs: int = 5,
    quick: bool = False,
    device: str = "auto",
    out: Path = Path("bench"),
) -> None:
    """Measure how fast this machine trains and writes, each way beside what one would use instead.

    Ctrl-C keeps what was measured. One GPU: pocketgpt bench train --preset gpt2 --batch-size 64

    Args:
        name: train, generate or attention; all of them without a name.
        preset: Which model `train` trains.
        batch_size: Windows of text in a training step.
        seq_len: Tokens in a window; without it as many as the model takes, at most 1024.
        compile: Whether torch.compile is measured too, which takes a minute or two to compile.
        runs: Timed runs of each variant; the median counts.
        quick: Tiny shapes and nothing compiled: shows in seconds that everything runs, and nothing about speed.
        device: auto, cpu, cuda or mps.
        out: Folder for a JSON file and a picture of each.
    """
    from pocketgpt.bench.run import BENCHMARKS, run
    from pocketgpt.bench.train import Options
    from pocketgpt.training.precision import choose_device

    options = Options(preset=preset, batch_size=batch_size, seq_len=seq_len, compile=compile)
    names = list(BENCHMARKS) if name == "all" else [name]
    run(names, device=choose_device(device), runs=runs, quick=quick, out=out, options=options)


def train_command(preset_name: str | None, recipe_name: str | None, resumed: Path | None) -> Callable[..., None]:
    """The subcommand `train` with the defaults of a recipe, so that --help shows the numbers that will be used: those
    of the run itself where one goes on."""
    if resumed is None:
        preset_name = preset_name or DEFAULT
        checkpoint, defaults = None, recipe(preset_name, recipe_name)
    else:
        from pocketgpt.commands.train import find_run

        checkpoint, preset_name, defaults = find_run(resumed, preset_name, recipe_name)

    def train(
        config: Annotated[TrainConfig, arg(name="")] = defaults,
        *,
        preset: str = preset_name,
        recipe: str | None = recipe_name,
        out: Path | None = None,
        resume: Path | None = None,
    ) -> None:
        """Train a model: pocketgpt train --preset pocket-shakespeare

        Ctrl-C ends the step, saves, and stops. On several GPUs: torchrun --nproc-per-node 8 -m pocketgpt train

        Args:
            preset: Which model; `pocketgpt info` lists them.
            recipe: Which set of defaults for the options below; `--preset NAME --recipe NAME --help` shows them.
            out: Folder to write to, new or empty; without it runs/PRESET, with a number if that is taken.
            resume: Folder of a run to go on with, such as runs/pocket-shakespeare: with its own preset and recipe.
        """
        from pocketgpt.commands.train import resume_and_report, train_and_report

        if checkpoint is None:
            train_and_report(preset, config, out)
        else:
            resume_and_report(checkpoint, config, out)

    return train


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0, 1 if a check failed, 2 for a mistake, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--preset", nargs="?")
        first.add_argument("--recipe", nargs="?")
        first.add_argument("--resume", nargs="?", type=Path)
        known, _ = first.parse_known_args(argv if argv[:1] == ["train"] else [])
        commands = {
            "train": train_command(known.preset, known.recipe, known.resume),
            "generate": generate,
            "info": info,
            "doctor": doctor,
            "build": build,
            "release": release,
            "grade": grade,
            "fetch": fetch,
            "bench": bench,
            "tokenizer": tokenizer,
        }
        result = tyro.extras.subcommand_cli_from_dict(commands, prog="pocketgpt", description=DESCRIPTION, args=argv)
    except PocketError as error:
        rank = os.environ.get("RANK", "0")
        print(f"pocketgpt{f' (rank {rank})' if rank != '0' else ''}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\npocketgpt: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `pocketgpt info | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result or 0


if __name__ == "__main__":
    sys.exit(main())
