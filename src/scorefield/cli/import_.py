"""The command `scorefield import`."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .show import Outcome, say


def parse_size(text: str) -> int | tuple[int, int]:
    """Read a size in pixels: "64" gives 64, "96x64" gives (96, 64).

    Raises:
        InputError: the text is no such size.
    """
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError as problem:
        raise InputError(
            f"--image-size takes pixels, 64 or 96x64 (height x width); got {text!r}"
        ) from problem
    if len(sides) > 2 or min(sides) < 1:
        raise InputError(
            f"--image-size takes one side or height x width, each at least 1; got {text!r}"
        )
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def import_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A published checkpoint (.pth) as NCSN's or NCSNv2's code saved it. No code in it "
            "is run."
        ),
    ],
    family: Annotated[
        str,
        typer.Option(help="ncsn or ncsnv2.", autocompletion=completion.words(("ncsn", "ncsnv2"))),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The .safetensors file to write, or a run's folder."),
    ],
    sigma_begin: Annotated[
        float | None,
        typer.Option(
            help="Largest noise level, above 0, where the checkpoint does not hold it.",
            show_default="1",
        ),
    ] = None,
    sigma_end: Annotated[
        float | None,
        typer.Option(
            help="Smallest noise level, above 0, where the checkpoint does not hold it.",
            show_default="0.01",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Pixels, 64 or 96x64 (height x width).",
            show_default="as published: 28 for one channel, 32, 64 (deeper), 128 (deepest)",
        ),
    ] = None,
    logit_transform: Annotated[
        bool, typer.Option("--logit-transform", help="For a model of logits of images.")
    ] = False,
    rescaled: Annotated[
        bool, typer.Option("--rescaled", help="For a model of images rescaled to [-1, 1].")
    ] = False,
    force: o.Force = False,
) -> Outcome:
    """Make a model file from a published NCSN or NCSNv2 checkpoint."""
    size = None if image_size is None else parse_size(image_size)
    if out.suffix and not out.is_dir():
        o.refuse_existing([o.check_file(out, ".safetensors")], force)
    else:
        o.refuse_existing([o.check_folder(out) / "model.safetensors"], force)
    from ..interop import import_checkpoint

    found = import_checkpoint(
        checkpoint, family, out, sigma_begin, sigma_end, size, logit_transform, rescaled
    )
    shape = " x ".join(map(str, found.event_shape))
    say(
        f"{checkpoint.name}: {found.variant}, width {found.width}, {found.parameters:,} "
        f"parameters; all {found.tensors} tensors mapped"
    )
    averaged = "averaged (EMA)" if found.ema else "as trained, the checkpoint has no average"
    say(f"weights: {averaged}")
    say(f"images {shape}{'' if size else ' (the size is a default; --image-size sets it)'}")
    say(
        f"{found.levels} noise levels, {found.sigma_begin:g} to {found.sigma_end:g} in the "
        "original's units"
    )
    say(f"self-check: the reloaded file agrees to {found.round_trip:.1g} of the largest output")
    first, last = found.noise_ratio
    say(
        f"sigma |score| / sqrt(d) on noise around grey: {first:.2f} at the largest noise level, "
        f"{last:.2f} at the smallest; near 1 where training went well"
    )
    file = Path(found.file)
    return Outcome(
        [file],
        ("sample", file, "--count", 16, "--out", file.parent / f"{file.stem}-samples"),
        {name: value for name, value in vars(found).items() if name != "file"},
    )
