"""`pocketgpt bench`: measure, print, and leave a JSON file and a picture of each benchmark in a folder."""

from functools import partial
from pathlib import Path

import torch

from pocketgpt.bench import attention, generate, train
from pocketgpt.bench.picture import draw
from pocketgpt.bench.report import Report, describe_machine
from pocketgpt.config import preset
from pocketgpt.errors import PocketError

BENCHMARKS = ("train", "generate", "attention")


def run(names: list[str], *, device: torch.device, runs: int, quick: bool, out: Path, options: train.Options) -> None:
    """Run the benchmarks of these names one after the other; Ctrl-C keeps what was measured until then.

    Raises PocketError for a number of runs that cannot be.
    """
    if runs < 1:
        raise PocketError(f"runs = {runs} cannot work: use a whole number of at least 1, such as 5.")
    changes = generate.TINY if quick else {}
    benchmarks = {
        "train": partial(train.bench_train, options=train.TINY if quick else options),
        "generate": partial(
            generate.bench_generate,
            config=preset("smollm2-135m", **changes),
            contexts=generate.TINY_CONTEXTS if quick else generate.CONTEXTS,
            n_new=4 if quick else generate.NEW_TOKENS,
            compiled=options.compile and not quick,
        ),
        "attention": partial(attention.bench_attention, lengths=attention.TINY if quick else attention.LENGTHS),
    }
    for name in names:
        settings = {"runs": runs, "quick": quick}
        report = Report(benchmark=name, settings=settings, machine=describe_machine(device))
        try:
            benchmarks[name](report, device, runs)
        finally:
            if report.rows:
                publish(report, out)


def publish(report: Report, folder: Path) -> None:
    machine = report.machine
    print(
        f"{report.benchmark}: {machine['processor']}, {machine['device']}, {machine['threads']} threads, "
        f"torch {machine['versions']['torch']}, median of {report.settings['runs']} runs\n"
    )
    print(report.text())
    print(f"\n{report.save(folder)}\n{draw(report, folder)}\n")
