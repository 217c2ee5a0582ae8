"""scorefield benchmark"""

import json
from pathlib import Path
from typing import Any

import typer

from scorefield.errors import InputError
from scorefield.cli.show import say

benchmark = typer.Typer(
    help="Measurements that others can repeat; tables and JSON.", no_args_is_help=True
)


@benchmark.command()
def kills(
    trials: int = typer.Option(20, help="How many runs are killed, 1 or more."),
    seed: int = typer.Option(0, help="Decides the instants, as shares of a run's length."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Kill training runs at random instants: do they end bitwise as if nothing had happened?"""
    from .kills import kills as run
    from scorefield.runs import write_json

    record = run(trials, seed, say)
    say(
        f"{record['equal']} of {trials} bitwise equal after {record['kills']} kills "
        f"({record['found_torn']} torn files found, {record['seconds']} s)"
    )
    if out is not None:
        write_json(out, record)
    raise typer.Exit(0 if record["equal"] == trials else 1)


@benchmark.command()
def speed(
    rounds: int = typer.Option(5, help="How often each is measured, in turn, 1 or more."),
    seconds: float = typer.Option(6.0, help="Seconds of training a measurement, above 0."),
    field: str = typer.Option(
        "peers",
        help="peers: the other libraries (needs `make bench-env`); ncsn: the published network, ours and plain.",
    ),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Training and sampling rates: ours, denoising-diffusion-pytorch, diffusers and the published
    NCSN network, alternating in one run.
    """
    from rich.console import Console
    from rich.table import Table

    from .speed import speed as run
    from scorefield.runs import write_json
    from scorefield.cli.show import console

    record = run(rounds, seconds, field, say)
    table = Table(
        "",
        "parameters",
        "trains, images/s",
        "ours x faster",
        "evaluates, images/s",
        "ours x faster",
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
    Console(width=max(console.width, 132)).print(
        table
    )  # names and ratios are not broken over lines, in a log neither
    machine = record["machine"]
    say(
        f"matrix products here, TFLOP/s: {machine['gemm_bfloat16_tflops']:.2g} in bfloat16, "
        f"{machine['gemm_float32_tflops']:.2g} in float32; our training "
        f"step, in {record['rows'][0]['precision']}, reaches {record['share_of_gemm_peak']:.0%} "
        "of it"
    )
    if out is not None:
        write_json(out, record)


def read_record(path: Path) -> dict[str, Any]:
    """A record that `benchmark quality --out` wrote."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"--beside needs a .json that benchmark quality wrote; {path}: {error}"
        ) from error
    if not isinstance(record, dict) or not {"samples", "floor", "rows"} <= record.keys():
        raise InputError(
            f"--beside needs a .json that benchmark quality wrote; {path} holds something else"
        )
    return record


@benchmark.command()
def quality(
    judge: Path = typer.Option(
        ..., help="Folder with features.py and its weights: the feature space."
    ),
    mnist: Path = typer.Option(..., help=".npz with train_images and test_images."),
    minutes: str = typer.Option("1,2,5,10", help="Budgets of training, in minutes, with commas."),
    seeds: str = typer.Option("0,1,2", help="Seeds of training, 0 or more each, with commas."),
    data: str | None = typer.Option(None, help="Train on this instead of the .npz, e.g. mnist5k."),
    nfe: int | None = typer.Option(None, help="Evaluations a sample. [default: the sampler's]"),
    peer: bool = typer.Option(
        False,
        "--peer",
        help="Measure denoising-diffusion-pytorch instead of ours. Needs `make bench-env`.",
    ),
    keep: Path | None = typer.Option(None, help="Keep the runs here."),
    settings: list[str] = typer.Option([], "--set", help="Settings of training, as in `train`."),
    beside: list[Path] = typer.Option(
        [], help="Records (.json) of earlier measurements to draw beside this one."
    ),
    picture: Path | None = typer.Option(None, help="A .png of distance over time."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Fréchet distance to the test images after minutes of wall time, compilation included; 5,000
    samples, 1,000 of the peer's.
    """
    from .quality import draw_plot, peer_quality
    from .quality import quality as run
    from scorefield.runs import write_json
    from scorefield.cli.sample import numbers

    budgets, chosen = tuple(numbers(minutes, "--minutes")), tuple(numbers(seeds, "--seeds"))
    if not budgets or min(budgets) <= 0:
        raise InputError(
            f"--minutes takes numbers above 0 with commas, for example 1,5; got {minutes!r}"
        )
    if not chosen or min(chosen) < 0 or any(not seed.is_integer() for seed in chosen):
        raise InputError(
            f"--seeds takes whole numbers, 0 or more, with commas, for example 0,1,2; got {seeds!r}"
        )
    picked = tuple(int(seed) for seed in chosen)
    others = [read_record(path) for path in beside]
    record = (
        peer_quality(judge, mnist, budgets, picked, tell=say)
        if peer
        else run(judge, mnist, budgets, picked, 5000, nfe, data, tuple(settings), keep, say)
    )
    say(f"the same distance for as many training images: {record['floor']:.2f}")
    if out is not None:
        write_json(out, record)
    if picture is not None:
        draw_plot(picture, [record, *others])


@benchmark.command()
def levels(
    run: Path = typer.Argument(..., help="A run's folder."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Training loss at every noise level, first against last tenth of a run, with the difference in
    standard errors.
    """
    from .levels import levels as read
    from scorefield.runs import write_json

    rows = read(run)
    for row in rows:
        first, last = (
            f"{row['first']:.5f} ± {row['first_se']:.5f}",
            f"{row['last']:.5f} ± {row['last_se']:.5f}",
        )
        say(
            f"sigma {row['sigma']:<8.4g} first {first}   last {last}   {row['z']:+.1f} standard "
            "errors"
        )
    if out is not None:
        write_json(out, rows)


@benchmark.command()
def shapes(
    seconds: float = typer.Option(120.0, help="Seconds of training a kind, above 0."),
    settings: list[str] = typer.Option([], "--set", help="Settings of training, as in `train`."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Colour images, a folder of pictures, long signals and volumes: rate, memory and falling loss
    of the default network.
    """
    from .shapes import shapes as run
    from scorefield.runs import write_json

    record = run(seconds, tuple(settings), say)
    if out is not None:
        write_json(out, record)


@benchmark.command()
def precision(
    run: Path = typer.Argument(..., help="A run's folder."),
    picture: Path = typer.Option(
        Path("precision.png"), help="Where the samples of both precisions go, seed by seed."
    ),
    images: int = typer.Option(256, help="Held-out events the errors are measured on, 2 or more."),
    seed: int = typer.Option(0, help="Of the noise and the samples, 0 or more."),
    out: Path | None = typer.Option(None, help="A .json for the record."),
) -> None:
    """Denoising error per sigma in float32 and bfloat16 on held-out data, and samples of both at
    the same seeds.
    """
    from .precision import precision as measure
    from scorefield.runs import write_json

    record = measure(run, picture, images, seed)
    for row in record["rows"]:
        gap = f"{row['difference']:+.2e} ± {row['difference_se']:.1e}"
        say(
            f"sigma {row['sigma']:<8.4g} float32 {row['float32']:.6f}   bfloat16 "
            f"{row['bfloat16']:.6f}   difference {gap}"
        )
    apart, between = record["samples_rms_difference"], record["samples_rms_between_seeds"]
    say(
        f"samples at the same seeds differ by {apart:.4f} (root mean square), at neighbouring "
        f"seeds by {between:.4f}: {picture}"
    )
    if out is not None:
        write_json(out, record)
