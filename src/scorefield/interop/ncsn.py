"""Published NCSN and NCSNv2 checkpoints become model files of ours.

    NCSN      torch.save([model, optimiser])                        sigma range: the user's, or 1 -> 0.01 geometric
    NCSNv2    torch.save([model, optimiser, epoch, step(, ema)])    sigmas: the buffer of that name

`model` maps names with the prefix `module.` to tensors; `ema`, without the prefix and without the
buffer, replaces the weights. Sizes are
read off shapes: width and channels off `begin_conv.weight`, levels off `normalizer.embed.weight` or
`sigmas`, the variant off `res5` and
`res31`. The network's parameters carry the same names, and every tensor must find its place.

Model units are the original's: images in [0, 1]; 2x - 1 of them where `rescaled`; logits where
`logit_transform`. No code of a checkpoint
is ever run: it is read with weights_only=True.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..checkpoint import load, make_card, save_model
from ..errors import InputError
from ..model import Preconditioned
from ..networks import build, options
from ..noise import check_ladder, geometric
from ..rng import Stream
from ..units import Units

FAMILIES = ("ncsn", "ncsnv2")
SIGMAS = (1.0, 0.01)  # NCSN's published range
SIZES = {
    "ncsn": 32,
    "ncsnv2": 32,
    "deeper": 64,
    "deepest": 128,
}  # published image sizes; 28 for one channel
LOGIT = 1e-6  # lambda of the logit transform
AGREES = 1e-4  # relative: flags within it of the buffer do not contradict it
ROUNDING = (
    2.0**-23
    # relative: the buffer is float32, and its user will ask at the float64 values it was rounded from
)


@dataclass(frozen=True)
class Imported:
    """What an import found. round_trip: max |difference| / max |output| between the network as read
    and the file reloaded;
    noise_ratio: sigma |s| / sqrt(d) at the largest and the least sigma on noise about grey, near 1
    for a trained score.
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
    """What torch.load(weights_only=True) makes of `path`; an InputError where it is not a
    checkpoint or holds more than tensors and numbers.
    """
    if not path.is_file():
        raise InputError(
            f"need a checkpoint file (.pth); {path} "
            f"{'is a folder' if path.is_dir() else 'does not exist'}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about pickle protocols: what cannot be read is worded below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    # the reader meets foreign bytes and raises whatever they lead to; the reason is the file in
    # every case
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
            f"runs code? Nothing was run. The reader says: {reason[:160]}"
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
    """The model's tensors and the averaged weights (None where there are none), names without
    prefix; content: the list, or its first entry.
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
    if family not in FAMILIES:
        raise InputError(f"family must be one of {', '.join(FAMILIES)}; got {family!r}")
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
    """An InputError listing every name that did not map from `given` to `expected` and every shape
    that differs; otherwise nothing.
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
    """The levels from the buffer, which flags must not contradict, or geometric between the flags."""
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
    for flag, value, known in (
        ("--sigma-begin", begin, float(ladder[0])),
        ("--sigma-end", end, float(ladder[-1])),
    ):
        if value is not None and abs(value - known) > AGREES * known:
            raise InputError(
                f"{flag} {value:g} contradicts the checkpoint's buffer `sigmas`, which has "
                f"{known:g} there; leave the flag out"
            )
    return ladder


def _units(logit_transform: bool, rescaled: bool) -> Units:
    if logit_transform and rescaled:
        raise InputError(
            "an image is rescaled to 2x - 1 or logit-transformed, not both: give one of "
            "--rescaled, --logit-transform"
        )
    if logit_transform:
        return Units.affine(0.0, 1.0, logit=LOGIT, image=True)
    return Units.affine(0.5, 0.5, image=True) if rescaled else Units.identity(image=True)


def _target(out: str | Path) -> Path:
    """The file to write; a model that was trained is not written over."""
    file = Path(out) if Path(out).suffix == ".safetensors" else Path(out) / "model.safetensors"
    if Path(out).is_file() and Path(out) != file:
        raise InputError(f"--out must be a folder or end in .safetensors; {out} is another file")
    if file.exists() and "imported" not in (load(file).card or {}):
        raise InputError(f"{file} holds a trained model; give another --out")
    return file


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
    """Read an original checkpoint, write `out` (a .safetensors file, or a run's folder), reload it
    and compare outputs.

    family: "ncsn" or "ncsnv2". sigma_begin, sigma_end: sigma_1 and sigma_L where the checkpoint
    holds no `sigmas` (default 1, 0.01).
    image_size: pixels, (height, width) or one number; default: the variant's published size.
    logit_transform, rescaled: how the original
    was trained. Raises InputError for an unreadable or unsafe file, names that do not map, and
    flags that contradict the checkpoint.
    """
    source, file, units = Path(path), _target(out), _units(logit_transform, rescaled)
    state, ema = split_archive(read_archive(source))
    variant = _variant(state, family)
    width, channels = state["begin_conv.weight"].shape[:2]
    table = state.get("normalizer.embed.weight")
    ladder = _ladder(
        state.pop("sigmas", None), None if table is None else len(table), sigma_begin, sigma_end
    )

    size = (28 if channels == 1 else SIZES[variant]) if image_size is None else image_size
    event_shape = (channels, *((size, size) if isinstance(size, int) else size))
    if len(event_shape) != 3 or min(event_shape) < 1:
        raise InputError(
            "image_size must be pixels, one number or (height, width), at least 1; got "
            f"{image_size!r}"
        )
    levels = len(ladder) if variant == "ncsn" else 0
    network = build(
        "refinenet",
        event_shape,
        variant=variant,
        width=width,
        levels=levels,
        rescaled=logit_transform or rescaled,
    )
    expected = network.state_dict()
    check_map(state, expected, "the checkpoint's weights")
    if ema is not None:
        check_map(ema, expected, "the averaged weights (the list's last entry)")
    network.load_state_dict(state if ema is None else ema)

    ends = float(ladder[-1]) * (1 - ROUNDING), float(ladder[0]) * (1 + ROUNDING)
    model = (
        Preconditioned(
            network, event_shape, *ends, preconditioner=family, ladder=ladder, units=units
        )
        .eval()
        .requires_grad_(False)
    )
    with open(source, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    origin = {
        "file": source.name,
        "sha256": digest,
        "family": family,
        "variant": variant,
        "ema": ema is not None,
        "logit_transform": logit_transform,
    }
    card = make_card(
        model,
        {"name": "refinenet", "options": options(network)},
        imported=origin,
        data={"source": f"imported {family}"},
    )
    read = _outputs(model)
    save_model(file, model, network.state_dict(), card)
    reloaded = _outputs(load(file))
    size_of = max(float(a.abs().max()) for a in read)
    round_trip = max(float((a - b).abs().max()) for a, b in zip(read, reloaded, strict=True)) / (
        size_of or 1.0
    )
    assert round_trip <= 1e-6, (
        f"{file} reloaded differs from what was read by {round_trip:g} of the largest output"
    )
    ratios = [
        float(sigma * a.double().square().mean().sqrt())
        for sigma, a in zip((ladder[0], ladder[-1]), (read[0], read[-1]), strict=True)
    ]
    return Imported(
        file=file,
        family=family,
        variant=variant,
        width=width,
        event_shape=event_shape,
        levels=len(ladder),
        sigma_begin=float(ladder[0]),
        sigma_end=float(ladder[-1]),
        parameters=sum(p.numel() for p in network.parameters()),
        tensors=len(state),
        ema=ema is not None,
        round_trip=round_trip,
        noise_ratio=(ratios[0], ratios[1]),
    )


def _outputs(model: Any) -> list[Tensor]:
    """Scores at the first, middle and last level, on noise about grey; an InputError where one is
    not finite.
    """
    grey = model.units.to_model(torch.full((1, *model.event_shape), 0.5))
    z = rng.normal(rng.keys(0, 1), Stream.TOY, 0, model.event_shape)
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
