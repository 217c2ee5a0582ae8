"""The commands of `python -m bench`."""

import json
import sys
from pathlib import Path
from typing import Any

import typer

from scorefield.cli.show import console, error, say
from scorefield.errors import InputError
from scorefield.files import write_json

app = typer.Typer(
    help="Measurements of scorefield that others can repeat; tables and JSON.",
    no_args_is_help=True,
    add_completion=False,
)

OUT = typer.Option(None, help="A .json for the record.")
SETTINGS = typer.Option([], "--set", help="Settings of training, as in `scorefield train`.")


def main() -> None:
    """Run a command; an InputError becomes one line and exit code 2."""
    try:
        app()
    except InputError as problem:
        error(str(problem))
        sys.exit(2)


def save(out: Path | None, record: Any) -> None:
    """Write the record where a file was named."""
    if out is not None:
        write_json(out, record)


@app.command()
def kills(
    trials: int = typer.Option(20, help="How many runs are killed, 1 or more."),
    seed: int = typer.Option(0, help="Decides the instants, as fractions of a run's length."),
    out: Path | None = OUT,
) -> None:
    """Kill training runs at random instants; they must end bitwise like an undisturbed run."""
    from .kills import kills as run

    record = run(trials, seed, say)
    say(
        f"{record['equal']} of {trials} bitwise equal after {record['kills']} kills "
        f"({record['found_torn']} torn files found, {record['seconds']} s)"
    )
    save(out, record)
    raise typer.Exit(0 if record["equal"] == trials else 1)


@app.command()
def speed(
    rounds: int = typer.Option(5, help="How often each is measured, in turn, 1 or more."),
    seconds: float = typer.Option(6.0, help="Seconds of training a measurement, above 0."),
    suite: str = typer.Option(
        "peers",
        help="peers: the other libraries (needs `make bench-env`); ncsn: the published network, "
        "in this package and in plain PyTorch.",
    ),
    out: Path | None = OUT,
) -> None:
    """Training and evaluation rates beside other libraries, alternating in one run."""
    from .speed import speed as run

    record = run(rounds, seconds, suite, say)
    _print_speed(record)
    save(out, record)


def _print_speed(record: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "",
        "parameters",
        "trains, images/s",
        "scorefield x faster",
        "evaluates, images/s",
        "scorefield x faster",
        "TFLOP/s",
    )
    for row in record["rows"]:
        (low, middle, high), (elow, emiddle, ehigh) = row["train_ratio"], row["evaluation_ratio"]
        table.add_row(
            row["name"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['train_images_per_second']:,.0f}",
            f"{middle:.1f} ({low:.1f} to {high:.1f})",
            f"{row['evaluations_per_second']:,.0f}",
            f"{emiddle:.1f} ({elow:.1f} to {ehigh:.1f})",
            f"{row['train_tflop_per_second']:.3f}",
        )
    # Wide enough that names and ratios are not broken over lines, in a log file neither.
    Console(width=max(console.width, 132)).print(table)
    machine = record["machine"]
    say(
        f"matrix products here, TFLOP/s: {machine['gemm_bfloat16_tflops']:.2g} in bfloat16, "
        f"{machine['gemm_float32_tflops']:.2g} in float32; our training step, in "
        f"{record['rows'][0]['precision']}, reaches {record['fraction_of_gemm_peak']:.0%} of it"
    )


@app.command()
def guidance(
    work: Path = typer.Argument(
        help="Folder of runs and pictures; what is finished there is used again."
    ),
    features: Path = typer.Option(
        ..., help="Folder with features.py and its weights: the feature extractor."
    ),
    mnist: Path = typer.Option(..., help=".npz with train_images and test_images."),
    seeds: int = typer.Option(3, help="Seeds of training, 1 or more."),
    images: int = typer.Option(60_000, help="Images that each training sees."),
    count: int = typer.Option(5000, help="Samples of a Fréchet distance."),
    choosing: int = typer.Option(200, help="Samples of each scale by which one is chosen."),
    settings: list[str] = SETTINGS,
    out: Path | None = OUT,
) -> None:
    """Class-conditional models of mnist5k beside unconditional ones, with and without guidance."""
    from .guidance import guidance as run
    from .guidance import table

    record = run(features, mnist, work, seeds, images, count, choosing, settings, say)
    typer.echo(table(record))
    gap = record["means"]["difference"]
    error = "" if gap["se"] is None else f" ± {gap['se']:.3f}"
    say(
        f"conditional, unguided, less unconditional: {gap['mean']:+.3f}{error}; guidance "
        f"{record['scale']:g} was chosen on other sampling seeds; as many training images have "
        f"the distance {record['floor']:.3f}"
    )
    save(out, record)


@app.command()
def continued(
    work: Path = typer.Argument(help="Folder of runs; what is finished there is used again."),
    features: Path = typer.Option(
        ..., help="Folder with features.py and its weights: the feature extractor."
    ),
    mnist: Path = typer.Option(..., help=".npz with train_images and test_images."),
    seeds: int = typer.Option(2, help="Seeds of training, 1 or more."),
    images: int = typer.Option(120_000, help="Images that each training sees."),
    count: int = typer.Option(5000, help="Samples of a Fréchet distance."),
    settings: list[str] = SETTINGS,
    out: Path | None = OUT,
) -> None:
    """A run of mnist5k that goes on after its half, beside one trained in one piece."""
    from .continued import continued as run

    record = run(features, mnist, work, seeds, images, count, settings, say)
    for row in record["rows"]:
        say(
            f"seed {row['seed']}, {row['way']}: held-out loss {row['held_out']:.4f}, Fréchet "
            f"distance {row['frechet']:.3f}"
        )
    save(out, record)


@app.command()
def planned(
    images: int = typer.Option(
        60_000, min=1, help="Signals that each training sees; of vectors ten times as many."
    ),
    seeds: int = typer.Option(3, min=1, help="Seeds of training."),
    count: int = typer.Option(20_000, min=20, help="Examples of each data set."),
    quick: bool = typer.Option(False, "--quick", help="6,000 images, 2 seeds, 2,000 examples."),
    out: Path | None = OUT,
) -> None:
    """Planned noise levels against fixed ones: paired held-out losses at equal images."""
    from .planned import planned as run
    from .planned import table

    given = (6000, 2, 2000) if quick else (images, seeds, count)
    record = run(*given, tell=say)
    typer.echo(table(record))
    save(out, record)


@app.command()
def mixed(
    folder: Path = typer.Argument(help="Folder for the table, the run and the samples."),
    budget: str = typer.Option("120s", help="Time of training."),
    threads: int = typer.Option(1, help="Threads of training, 1 or more."),
    seed: int = typer.Option(0, help="Of the table and of the training."),
) -> None:
    """A table of mixed columns from CSV to CSV: marginals against halves of the data."""
    from .mixed import mixed as run

    report = run(folder, budget, threads, seed)
    for name, row in report["columns"].items():
        say(
            f"{name}: samples {row['samples']:.4f}, halves {row['halves']:.4f}, ratio "
            f"{row['ratio']:.2f}"
        )


def read_record(path: Path) -> dict[str, Any]:
    """Read a record that `python -m bench quality --out` wrote."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise InputError(
            f"--beside needs a .json that `bench quality` wrote; {path}: {problem}"
        ) from problem
    if not isinstance(record, dict) or not {"samples", "floor", "rows"} <= record.keys():
        raise InputError(
            f"--beside needs a .json that `bench quality` wrote; {path} holds something else"
        )
    return record


def parse_budgets(minutes: str, seeds: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Parse "1,2,5" and "0,1" as budgets in minutes and seeds."""
    from scorefield.cli.options import parse_numbers

    budgets = tuple(parse_numbers(minutes, "--minutes"))
    chosen = tuple(parse_numbers(seeds, "--seeds"))
    if not budgets or min(budgets) <= 0:
        raise InputError(
            f"--minutes takes numbers above 0 with commas, for example 1,5; got {minutes!r}"
        )
    if not chosen or min(chosen) < 0 or any(not seed.is_integer() for seed in chosen):
        raise InputError(
            f"--seeds takes whole numbers, 0 or more, with commas, for example 0,1,2; got {seeds!r}"
        )
    return budgets, tuple(int(seed) for seed in chosen)


@app.command()
def quality(
    features: Path = typer.Option(
        ..., help="Folder with features.py and its weights: the feature extractor."
    ),
    mnist: Path = typer.Option(..., help=".npz with train_images and test_images."),
    minutes: str = typer.Option("1,2,5,10", help="Budgets of training, in minutes, with commas."),
    seeds: str = typer.Option("0,1,2", help="Seeds of training, 0 or more each, with commas."),
    data: str | None = typer.Option(None, help="Train on this instead of the .npz, e.g. mnist5k."),
    nfe: int | None = typer.Option(None, help="Evaluations a sample. [default: the sampler's]"),
    peer: bool = typer.Option(
        False,
        "--peer",
        help="Measure denoising-diffusion-pytorch instead. Needs `make bench-env`.",
    ),
    keep: Path | None = typer.Option(None, help="Keep the runs here."),
    settings: list[str] = SETTINGS,
    beside: list[Path] = typer.Option(
        [], help="Records (.json) of earlier measurements to draw beside this one."
    ),
    picture: Path | None = typer.Option(None, help="A .png of distance over time."),
    out: Path | None = OUT,
) -> None:
    """Fréchet distance to the test images after minutes of training, compilation included.

    5,000 samples of this package, 1,000 of denoising-diffusion-pytorch.
    """
    from .quality import draw_plot, peer_quality
    from .quality import quality as run

    budgets, chosen = parse_budgets(minutes, seeds)
    others = [read_record(path) for path in beside]
    if peer:
        record = peer_quality(features, mnist, budgets, chosen, tell=say)
    else:
        record = run(
            features,
            mnist,
            budgets,
            chosen,
            nfe=nfe,
            data=data,
            settings=tuple(settings),
            keep=keep,
            tell=say,
        )
    say(f"the same distance for as many training images: {record['floor']:.2f}")
    save(out, record)
    if picture is not None:
        draw_plot(picture, [record, *others])


@app.command()
def objectives(
    steps: int = typer.Option(500, min=1, help="Training steps a method."),
    seeds: int = typer.Option(3, min=1, help="Runs a method."),
    sigma: list[float] = typer.Option([0.05, 0.3], help="Noise levels, above 0 (repeatable)."),
    out: Path | None = OUT,
) -> None:
    """2-D score fields learned by each objective: error to the truth and time a step."""
    import torch

    from .objectives import compare, table

    torch.set_num_threads(1)  # a perceptron of this size gains nothing from more
    record = compare(tuple(sigma), steps, seeds)
    typer.echo(table(record))
    save(out, record)


@app.command()
def levels(
    run: Path = typer.Argument(..., help="A run's folder."),
    out: Path | None = OUT,
) -> None:
    """Training loss at every noise level, first against last tenth of a run."""
    from .levels import levels as read

    rows = read(run)
    for row in rows:
        first = f"{row['first']:.5f} ± {row['first_se']:.5f}"
        last = f"{row['last']:.5f} ± {row['last_se']:.5f}"
        gap = f"{row['z']:+.1f} standard errors"
        say(f"sigma {row['sigma']:<8.4g} first {first}   last {last}   {gap}")
    save(out, rows)


@app.command()
def shapes(
    seconds: float = typer.Option(120.0, help="Seconds of training a kind, above 0."),
    settings: list[str] = SETTINGS,
    out: Path | None = OUT,
) -> None:
    """Colour images, a folder, signals and volumes: rate, memory and falling loss."""
    from .shapes import shapes as run

    save(out, run(seconds, tuple(settings), say))


@app.command()
def tables(
    seconds: float = typer.Option(90.0, help="Seconds of training a run, above 0."),
    images: int | None = typer.Option(
        None, help="Rows seen in place of --seconds, for a machine that has other work."
    ),
    seeds: int = typer.Option(3, help="How many seeds, 1 or more."),
    table: str | None = typer.Option(None, help="breast-cancer or diabetes; both by default."),
    references: bool = typer.Option(True, help="Measure training rows and a mixture too."),
    out: Path | None = OUT,
) -> None:
    """Samples of real tables against held-out rows, told apart by a random forest."""
    from .tables import TABLES
    from .tables import tables as run

    budget = {"budget": seconds} if images is None else {"images": images}
    record = run((table,) if table else TABLES, seeds, budget, say, references)
    for name, mean in record["means"].items():
        others = "".join(
            f", {words} {mean[field]:.3f}"
            for field, words in (("auc_training", "training rows"), ("auc_mixture", "mixture"))
            if field in mean
        )
        say(f"{name}: AUC {mean['auc']:.3f} ± {mean['auc_se']:.3f}{others}")
    save(out, record)


@app.command()
def samplers(
    problem: list[str] = typer.Option([], help="A problem of `scorefield benchmark`. [all]"),
    nfe: str = typer.Option("5,7,10,20,40,100", help="Evaluations a sample, with commas."),
    count: int = typer.Option(10_000, min=2, help="Samples of a set."),
    choosing: int = typer.Option(1000, min=2, help="Samples of a set where a peer is chosen."),
    out: Path | None = OUT,
) -> None:
    """Defaults by budget beside azula's and diffusers' best sampler, on exact densities."""
    from scorefield.cli.benchmark import parse_budgets as read_budgets

    from .samplers import samplers as run
    from .samplers import table

    names = {"problems": tuple(problem)} if problem else {}
    record = run(
        **names, budgets=read_budgets(nfe), count=count, choosing=choosing, out=out, tell=say
    )
    typer.echo(table(record))
    worse = sum(row["worse"] for row in record["rows"])
    better = sum(row["better"] for row in record["rows"])
    say(
        f"of {len(record['rows'])} cells, worse by more than two standard errors in {worse}, "
        f"smaller mean in {better}"
    )
    save(out, record)


@app.command()
def precision(
    run: Path = typer.Argument(..., help="A run's folder."),
    picture: Path = typer.Option(
        Path("precision.png"), help="A .png for the samples of both precisions, seed by seed."
    ),
    images: int = typer.Option(256, help="Held-out examples for the errors, 2 or more."),
    seed: int = typer.Option(0, help="Of the noise and the samples, 0 or more."),
    out: Path | None = OUT,
) -> None:
    """Denoising error per sigma in float32 and bfloat16, and samples of both at the same seeds."""
    from .precision import precision as measure

    record = measure(run, picture, images, seed)
    for row in record["rows"]:
        say(
            f"sigma {row['sigma']:<8.4g} float32 {row['float32']:.6f}   bfloat16 "
            f"{row['bfloat16']:.6f}   difference {row['difference']:+.2e} ± "
            f"{row['difference_se']:.1e}"
        )
    say(
        "root mean square difference of samples: "
        f"{record['samples_rms_difference']:.4f} between precisions at the same seeds, "
        f"{record['samples_rms_between_seeds']:.4f} between neighbouring seeds: {picture}"
    )
    save(out, record)


def parse_names(value: str | None) -> tuple[str, ...]:
    """Parse "dps,mmps" as names; nothing where no option was given."""
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


def parse_counts(value: str, option: str) -> tuple[int, ...]:
    """Parse "100,20" as whole numbers above 0."""
    from scorefield.cli.options import parse_numbers

    found = parse_numbers(value, option)
    if not found or min(found) < 1 or any(not number.is_integer() for number in found):
        raise InputError(
            f"{option} takes whole numbers above 0 with commas, for example 100,20; got {value!r}"
        )
    return tuple(int(number) for number in found)


@app.command()
def posteriors(
    libraries: str = typer.Option(
        "scorefield,azula,deepinv",
        help="Libraries with commas; azula and deepinv need `make bench-env`.",
    ),
    methods: str | None = typer.Option(None, help="Methods with commas. [default: all]"),
    problems: int = typer.Option(20, min=1, help="Problems for each number of measurements."),
    draws: int = typer.Option(1000, min=2, help="Draws of each posterior."),
    steps: str = typer.Option("100,20", help="Evaluations of the denoiser a draw, with commas."),
    d_y: str = typer.Option("1,2,4", help="Numbers of measurements, with commas."),
    d: int = typer.Option(8, min=2, help="Dimension, even."),
    tuning: int = typer.Option(
        5, min=0, help="Other problems by which constants are tuned besides; 0: defaults only."
    ),
    out: Path | None = typer.Option(None, help="A .json; finished cells in it are kept."),
) -> None:
    """Posterior samplers of libraries against exact posteriors of the 25-mode mixture."""
    from .posterior_cells import Suite
    from .posterior_libraries import candidates
    from .posteriors import posteriors as run
    from .posteriors import table

    suite = Suite(
        d, parse_counts(d_y, "--d-y"), parse_counts(steps, "--steps"), problems, draws, tuning
    )
    record = run(candidates(parse_names(libraries), parse_names(methods)), suite, out, say)
    typer.echo(table(record))


@app.command("held-out")
def held_out(
    run: Path = typer.Argument(..., help="A run's folder."),
    other: Path = typer.Argument(..., help="Another run of the same data and seed."),
    noises: int = typer.Option(16, help="Noises for each held-out example, 1 or more."),
    threads: int | None = typer.Option(None, help="CPU threads; all cores by default."),
    out: Path | None = OUT,
) -> None:
    """Held-out losses of two runs on the same examples and noise, and their paired difference."""
    from .held_out import held_out as compare

    record = compare(run, other, noises, threads)
    for folder, name in ((run, "run"), (other, "other")):
        say(f"{folder}: {record[name]['loss']:.5f} ± {record[name]['se']:.5f}")
    say(
        f"difference {record['fraction']:+.2%} ± {record['fraction_se']:.2%} "
        f"({record['examples']} examples, {noises} noises each)"
    )
    save(out, record)
