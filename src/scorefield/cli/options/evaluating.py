"""Options of evaluations: what is compared with what, and in which features."""

from pathlib import Path
from typing import Annotated

import typer

from .. import completion

PANEL = "What is compared"

OptionalRun = Annotated[
    Path | None,
    typer.Argument(
        help="A run's folder or a .safetensors model file; none for --samples alone.",
        autocompletion=completion.runs,
    ),
]
Reference = Annotated[
    str | None,
    typer.Option(
        help="Data to compare with: a name, folder or file as for train.",
        show_default="the run's own, its held-out and training parts",
        autocompletion=completion.data,
        rich_help_panel=PANEL,
    ),
]
Samples = Annotated[
    Path | None,
    typer.Option(
        help="Samples of any system in place of drawn ones: samples.npz of `sample`, an .npy or "
        ".npz, a folder of pictures, or a table.",
        rich_help_panel=PANEL,
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        min=40,
        help="Number of samples to draw.",
        show_default="1,000; 4,000 of tables; a quarter with --quick",
        rich_help_panel=PANEL,
    ),
]
FeaturesFile = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Features that were computed elsewhere for --samples: an .npz with the arrays "
        "samples, reference, name, and train where known.",
        rich_help_panel=PANEL,
    ),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="A quarter of the samples, half of the noise levels, fewer metrics."
    ),
]
Pictures = Annotated[
    bool,
    typer.Option("--pictures", help="Also write the page's pictures as PNG files, in pictures/."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be compared, and stop.")]
Results = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Folder for evaluation.json and evaluation.html.",
        show_default="RUN/evaluation, else evaluation",
    ),
]
