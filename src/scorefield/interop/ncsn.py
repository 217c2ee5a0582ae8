"""Published NCSN and NCSNv2 checkpoints as model files.

    NCSN      torch.save([model, optimiser])                      noise levels: the user's, or
                                                                  geometric from 1 to 0.01
    NCSNv2    torch.save([model, optimiser, epoch, step(, ema)])  noise levels: the buffer `sigmas`

`model` maps names with the prefix `module.` to tensors. `ema`, without the prefix and without the
buffer, replaces the weights. Sizes are read off the tensors' shapes: width and channels off
`begin_conv.weight`, the number of levels off `normalizer.embed.weight` or `sigmas`, the variant off
`res5` and `res31`. The network's parameters have the same names, and every tensor must match one.

Model units are the original's: images in [0, 1], or 2x - 1 of them where `rescaled`, or their
logits where `logit_transform`. Both codes train on 8-bit images; NCSN dequantises them as
(k + u)/256, the published NCSNv2 models take k/255.

No code of a checkpoint is ever run: it is read with weights_only=True.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..checkpoint import load, make_card, save_model
from ..errors import InputError
from ..models import Preconditioned, ScoreModel
from ..networks import build
from ..noise import check_ladder, geometric
from ..rng import Stream
from ..units import Quantisation, Units
from ..values import file_path, finite, flag, is_number, one_of, whole, whole_numbers

FAMILIES = ("ncsn", "ncsnv2")
SIGMAS = (1.0, 0.01)  # NCSN's published range
# Published image sizes; 28 for one channel.
SIZES = {"ncsn": 32, "ncsnv2": 32, "deeper": 64, "deepest": 128}
LOGIT = 1e-6  # lambda of the logit transform
LEVELS = 256  # values of an 8-bit image
AGREES = 1e-4  # relative: flags within it of the buffer do not contradict it
# Relative: the buffer is float32, and users ask at the float64 values it was rounded from.
ROUNDING = 2.0**-23
ROUND_TRIP = 1e-6  # relative: how far the reloaded file may differ from what was read


@dataclass(frozen=True)
class Imported:
    """What an import found.

    Args:
        file: The model file.
        family: "ncsn" or "ncsnv2".
        variant: The network's row in `networks.refinenet.VARIANTS`.
        width: Channels of the network's first layer.
        event_shape: Shape of one image.
        levels: Number of noise levels.
        sigma_begin: Largest noise level.
        sigma_end: Smallest noise level.
        parameters: Number of weights.
        tensors: Number of tensors that were mapped.
        ema: Whether the weights are averaged.
        round_trip: Largest difference between the network as read and the file reloaded, over the
            largest output.
        noise_ratio: sigma |score| / sqrt(d) at the largest and the smallest noise level on noise
            around grey, near 1 for a trained score.
    """

    file: Path
    family: str
    variant: str
    width: int
    event_shape: tuple[int, ...]
    levels: int
    sigma_begin: float
    sigma_end: float
    parameters: int
    tensors: int
    ema: bool
    round_trip: float
    noise_ratio: tuple[float, float]


def read_archive(path: Path) -> Any:
    """Read a torch archive with weights_only=True.

    Raises:
        InputError: Where it is not a checkpoint, or holds more than tensors and numbers.
    """
    if not path.is_file():
        raise InputError(
            f"need a checkpoint file (.pth); {path} "
            f"{'is a folder' if path.is_dir() else 'does not exist'}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    # The reader raises whatever foreign bytes lead to; the reason is always the file.
    except Exception as error:
        asked = re.search(r"GLOBAL\s+(\S+)", str(error))
        if asked:
            raise InputError(
                f"{path.name} refused: besides tensors its pickle asks for `{asked[1]}`, and "
                "loading that could run code of the file. "
                "Nothing was run. Save the weights alone, torch.save([model.state_dict()], file), "
                "where you trust the file"
            ) from error
        reason = (
            re.split(r"WeightsUnpickler error:", str(error))[-1].strip() or type(error).__name__
        ).splitlines()[0]
        raise InputError(
            f"{path.name} refused: it is no PyTorch checkpoint of tensors and numbers alone; cut "
            "short, another kind of file, or a pickle that "
            f"runs code? Nothing was run. PyTorch's message: {reason[:160]}"
        ) from error


def _is_tensors(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and bool(entry)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in entry.items())
    )


def _plain(entry: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without DataParallel's prefix."""
    plain = {name.removeprefix("module."): value for name, value in entry.items()}
    if len(plain) < len(entry):
        raise InputError(
            "the checkpoint holds names both with and without the prefix `module.`, so its "
            "weights are ambiguous"
        )
    return plain


def split_archive(content: Any) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
    """Split a checkpoint into the model's tensors and the averaged weights.

    Args:
        content: The saved list, or its first entry.

    Returns:
        The tensors by name, without prefix, and the averaged ones; None where there are none.

    Raises:
        InputError: For any other content.
    """
    entries = list(content) if isinstance(content, (list, tuple)) else [content]
    if not entries or not _is_tensors(entries[0]):
        got = (
            f"a list of {', '.join(type(e).__name__ for e in entries[:6])}"
            if isinstance(content, (list, tuple))
            else type(content).__name__
        )
        raise InputError(
            "need a list whose first entry maps names to tensors, as NCSN and NCSNv2 save it; "
            f"got {got}"
        )
    last = entries[-1] if len(entries) > 1 else None
    if isinstance(last, dict) and "param_groups" not in last:
        if not _is_tensors(last):
            raise InputError(
                "the list's last entry is a dict, but neither an optimiser's state nor averaged "
                "weights (names to tensors)"
            )
        return _plain(entries[0]), _plain(last)
    return _plain(entries[0]), None


def _variant(state: dict[str, Tensor], family: str) -> str:
    """The network's variant, from the names of its tensors."""
    begin = state.get("begin_conv.weight")
    if begin is None or begin.ndim != 4:
        raise InputError(
            "not an NCSN checkpoint: there is no begin_conv.weight of 4 dimensions; its names "
            f"start with {', '.join(list(state)[:4])}"
        )
    found = "ncsn" if "normalizer.embed.weight" in state else "ncsnv2"
    if found != family:
        why = (
            "its norms are tables by level"
            if found == "ncsn"
            else "its norms have no tables by level"
        )
        raise InputError(
            f"this is a checkpoint of {found} ({why}); got family {family}. Use --family {found}"
        )
    if found == "ncsn":
        return "ncsn"
    stages = {name.split(".")[0] for name in state}
    return "deepest" if "res31" in stages else "deeper" if "res5" in stages else "ncsnv2"


def check_map(given: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    """Refuse tensors that do not fit a network.

    Raises:
        InputError: It lists every name that did not map from `given` to `expected`, and every
            shape that differs.
    """

    def some(title: str, names: Iterable[str]) -> list[str]:
        rows = sorted(names)
        return (
            [f"{title} ({len(rows)}): {', '.join(rows[:20])}{', ...' if len(rows) > 20 else ''}"]
            if rows
            else []
        )

    shapes = (
        f"{k} {tuple(given[k].shape)} for {tuple(expected[k].shape)}"
        for k in given.keys() & expected.keys()
        if given[k].shape != expected[k].shape
    )
    infinite = (k for k, v in given.items() if not bool(torch.isfinite(v.float()).all()))
    lines = [
        *some("did not map", given.keys() - expected.keys()),
        *some("missing", expected.keys() - given.keys()),
        *some("other shape", shapes),
        *some("not finite", infinite),
    ]
    if lines:
        raise InputError(
            f"{what} do not fit the network read off their shapes. " + "; ".join(lines)
        )


def _ladder(
    buffer: Tensor | None, levels: int | None, begin: float | None, end: float | None
) -> Tensor:
    """The noise levels: the buffer's, which flags must not contradict, or geometric ones."""
    if buffer is None:
        if levels is None:
            raise InputError(
                "the checkpoint has no buffer `sigmas`, so its levels are unknown; NCSNv2 saves one"
            )
        return geometric(
            SIGMAS[0] if begin is None else begin, SIGMAS[1] if end is None else end, levels
        )
    ladder = check_ladder(buffer.flatten())
    if levels not in (None, len(ladder)):
        raise InputError(
            f"the buffer `sigmas` has {len(ladder)} levels, the tables by level {levels} rows"
        )
    for option, value, known in (
        ("--sigma-begin", begin, float(ladder[0])),
        ("--sigma-end", end, float(ladder[-1])),
    ):
        if value is not None and abs(value - known) > AGREES * known:
            raise InputError(
                f"{option} {value:g} contradicts the checkpoint's buffer `sigmas`, which has "
                f"{known:g} there; leave the flag out"
            )
    return ladder


def _units(family: str, logit_transform: bool, rescaled: bool) -> Units:
    """Model units of the original code, and how it dequantised 8-bit images."""
    if logit_transform and rescaled:
        raise InputError(
            "an image is rescaled to 2x - 1 or logit-transformed, not both: give one of "
            "--rescaled, --logit-transform"
        )
    if logit_transform:
        units = Units.affine(0.0, 1.0, logit=LOGIT, image=True)
    else:
        units = Units.affine(0.5, 0.5, image=True) if rescaled else Units.identity(image=True)
    dequantised = family == "ncsn" or logit_transform  # logits of k/255 = 0 and 1 are extreme
    return replace(units, quantisation=Quantisation(LEVELS, dequantised))


def _target(out: Path) -> Path:
    """The file to write; a model that was trained is not written over."""
    file = out if out.suffix == ".safetensors" else out / "model.safetensors"
    if out.is_file() and out != file:
        raise InputError(f"--out must be a folder or end in .safetensors; {out} is another file")
    if file.exists() and "imported" not in (load(file).card or {}):
        raise InputError(f"{file} holds a trained model; give another --out")
    return file


def _shape(
    channels: int, variant: str, image_size: int | tuple[int, int] | None
) -> tuple[int, ...]:
    """(C, H, W): the given size, or the variant's published one."""
    size = (28 if channels == 1 else SIZES[variant]) if image_size is None else image_size
    name = "image_size"
    sides = [whole(size, name)] * 2 if is_number(size) else whole_numbers(size, name)
    shape = (channels, *sides)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            "image_size must be pixels, one number or (height, width), at least 1; got "
            f"{image_size!r}"
        )
    return shape


def import_checkpoint(
    path: str | Path,
    family: str,
    out: str | Path,
    sigma_begin: float | None = None,
    sigma_end: float | None = None,
    image_size: int | tuple[int, int] | None = None,
    logit_transform: bool = False,
    rescaled: bool = False,
) -> Imported:
    """Read an original checkpoint, write a model file, reload it and compare outputs.

    Args:
        path: The checkpoint (.pth).
        family: "ncsn" or "ncsnv2".
        out: A .safetensors file, or a run's folder.
        sigma_begin: Largest noise level, where the checkpoint holds no `sigmas`; None: 1.
        sigma_end: Smallest noise level, likewise; None: 0.01.
        image_size: Pixels, (height, width) or one number; None: the variant's published size.
        logit_transform: Whether the original was trained on logits of images.
        rescaled: Whether the original was trained on images rescaled to [-1, 1].

    Returns:
        What was found and how well the file reproduces it.

    Raises:
        InputError: For an unreadable or unsafe file, names that do not map, and flags that
            contradict the checkpoint.
    """
    family, source = one_of(family, FAMILIES, "family"), file_path(path, "path")
    file = _target(file_path(out, "out"))
    logit_transform = flag(logit_transform, "logit_transform")
    rescaled = flag(rescaled, "rescaled")
    sigma_begin = None if sigma_begin is None else finite(sigma_begin, "sigma_begin")
    sigma_end = None if sigma_end is None else finite(sigma_end, "sigma_end")
    units = _units(family, logit_transform, rescaled)
    state, ema = split_archive(read_archive(source))
    variant = _variant(state, family)
    width, channels = state["begin_conv.weight"].shape[:2]
    table = state.get("normalizer.embed.weight")
    rows = None if table is None else len(table)
    ladder = _ladder(state.pop("sigmas", None), rows, sigma_begin, sigma_end)
    network = build(
        "refinenet",
        _shape(channels, variant, image_size),
        variant=variant,
        width=width,
        levels=len(ladder) if variant == "ncsn" else 0,
        rescaled=logit_transform or rescaled,
    )
    _load_weights(network, state, ema)
    model = Preconditioned(
        network,
        _shape(channels, variant, image_size),
        sigma_min=float(ladder[-1]) * (1 - ROUNDING),
        sigma_max=float(ladder[0]) * (1 + ROUNDING),
        preconditioner=family,
        ladder=ladder,
        units=units,
    )
    model.eval().requires_grad_(False)
    origin: dict[str, Any] = {"file": source.name, "sha256": _digest(source), "family": family}
    origin |= {"variant": variant, "ema": ema is not None, "logit_transform": logit_transform}
    round_trip, noise_ratio = _save_and_compare(model, file, origin)
    return Imported(
        file=file,
        family=family,
        variant=variant,
        width=width,
        event_shape=model.event_shape,
        levels=len(ladder),
        sigma_begin=float(ladder[0]),
        sigma_end=float(ladder[-1]),
        parameters=sum(p.numel() for p in network.parameters()),
        tensors=len(state),
        ema=ema is not None,
        round_trip=round_trip,
        noise_ratio=noise_ratio,
    )


def _load_weights(network: Any, state: dict[str, Tensor], ema: dict[str, Tensor] | None) -> None:
    """Load the averaged weights where the checkpoint has them, else its live ones."""
    expected = network.state_dict()
    check_map(state, expected, "the checkpoint's weights")
    if ema is not None:
        check_map(ema, expected, "the averaged weights (the list's last entry)")
    network.load_state_dict(state if ema is None else ema)


def _digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _save_and_compare(
    model: Preconditioned, file: Path, origin: dict[str, Any]
) -> tuple[float, tuple[float, float]]:
    """Write the model file; `round_trip` and `noise_ratio` of `Imported`."""
    read = _outputs(model)
    card = make_card(model, imported=origin, data={"source": f"imported {origin['family']}"})
    save_model(file, model, card=card)
    reloaded = _outputs(load(file))
    largest = max(float(a.abs().max()) for a in read) or 1.0
    gaps = [float((a - b).abs().max()) for a, b in zip(read, reloaded, strict=True)]
    round_trip = max(gaps) / largest
    assert round_trip <= ROUND_TRIP, (
        f"{file} reloaded differs from what was read by {round_trip:g} of the largest output"
    )
    assert model.ladder is not None
    first, last = (
        float(sigma * score.double().square().mean().sqrt())
        for sigma, score in ((model.ladder[0], read[0]), (model.ladder[-1], read[-1]))
    )
    return round_trip, (first, last)


def _outputs(model: ScoreModel) -> list[Tensor]:
    """Scores at the first, middle and last noise level, on noise around grey.

    Raises:
        InputError: Where one of them is not finite.
    """
    assert model.ladder is not None
    grey = model.units.to_model(torch.full((1, *model.event_shape), 0.5))
    z = rng.normal(rng.keys(0, 1), Stream.SELF_CHECK, 0, model.event_shape)
    outputs = []
    with torch.no_grad():
        for sigma in model.ladder[[0, len(model.ladder) // 2, -1]]:
            outputs.append(model.score(grey + float(sigma) * z, sigma))
            if not bool(torch.isfinite(outputs[-1]).all()):
                raise InputError(
                    f"the network's output is not finite at sigma={float(sigma):g}; are these "
                    "weights of a finished training?"
                )
    return outputs
