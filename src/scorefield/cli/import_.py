"""scorefield import"""

from pathlib import Path

import typer

from ..errors import InputError
from .show import say


def parse_size(text: str) -> int | tuple[int, int]:
    """ "64" -> 64, "96x64" -> (96, 64)."""
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
    checkpoint: Path = typer.Argument(
        ...,
        help="A published checkpoint (.pth) as NCSN's or NCSNv2's code saved it. No code in it is run.",
    ),
    family: str = typer.Option(..., help="ncsn or ncsnv2."),
    out: Path = typer.Option(
        ..., help="The .safetensors file to write, or a run's folder for model.safetensors."
    ),
    sigma_begin: float | None = typer.Option(
        None, help="Largest sigma, above 0, where the checkpoint does not hold it. [default: 1]"
    ),
    sigma_end: float | None = typer.Option(
        None, help="Least sigma, above 0, where the checkpoint does not hold it. [default: 0.01]"
    ),
    image_size: str | None = typer.Option(
        None,
        help="Pixels, 64 or 96x64 (height x width). [default: as published, 28 for one channel, 32, 64 (deeper), 128 (deepest)]",
    ),
    logit_transform: bool = typer.Option(
        False, "--logit-transform", help="It was trained on logits of images."
    ),
    rescaled: bool = typer.Option(
        False, "--rescaled", help="It was trained on images rescaled to [-1, 1]."
    ),
) -> None:
    """Make a model file of a published NCSN or NCSNv2 checkpoint."""
    from ..interop import import_checkpoint

    size = None if image_size is None else parse_size(image_size)
    found = import_checkpoint(
        checkpoint, family, out, sigma_begin, sigma_end, size, logit_transform, rescaled
    )
    shape = " x ".join(map(str, found.event_shape))
    say(
        f"{checkpoint.name}: {found.variant}, width {found.width}, {found.parameters:,} "
        f"parameters; all {found.tensors} tensors mapped"
    )
    say(
        "weights: "
        f"{'the averaged ones (EMA)' if found.ema else 'as trained, the checkpoint has no average'}"
    )
    say(f"images {shape}{'' if size else ' (the size is a default; --image-size sets it)'}")
    say(
        f"{found.levels} levels, sigma {found.sigma_begin:g} to {found.sigma_end:g} in the "
        "original's units"
    )
    say(f"self-check: the file reloaded agrees to {found.round_trip:.1g} of the largest output")
    first, last = found.noise_ratio
    say(
        f"sigma |score| / sqrt(d) on noise about grey: {first:.2f} at the largest sigma, "
        f"{last:.2f} at the least; near 1 where training went well"
    )
    say(f"wrote {found.file}")
