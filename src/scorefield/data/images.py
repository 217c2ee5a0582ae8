"""Pictures of a folder, of a list of files or in memory as one array, without loss.

Every picture below the folder is read, linked folders once, hidden files not. With a `size` each
picture is scaled until it covers (height, width), and the centre is cut out. Without one all
pictures must have the same size.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .options import ReadOptions
from .picture_files import SUFFIXES, Head, Picture, as_array, damage, fit, read_head, read_pixels

NAMED = 3  # how many offenders a message names
WORDS = {"1": "1-bit", "8": "8-bit", "16": "16-bit", "32": "32-bit whole", "float": "float"}


@dataclass
class Folder:
    """Pictures that were read.

    Attributes:
        files: Their paths in order, or the pictures themselves where they were in memory.
        pixels: (N, H, W) or (N, H, W, C) as stored.
        formats: Number of pictures by format.
        labels: int64 (N,), and `classes`, where each picture lies in one of several sub-folders.
        notes, left_out: Sentences for the report.
        kept: Numbers, from 0, of the files that could be read; None where all could.
        total: The number of files before some were left out; None where it is not known.
    """

    files: Sequence[Picture]
    pixels: np.ndarray
    formats: dict[str, int]
    labels: Tensor | None = None
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    kept: list[int] | None = None
    total: int | None = None


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder; each real folder once, links last, hidden ones not."""
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        top = waiting.pop(0)
        real = os.path.realpath(top)
        if real in seen:
            continue
        seen.add(real)
        entries = sorted(p for p in top.iterdir() if not p.name.startswith("."))
        folders = [p for p in entries if p.is_dir()]
        waiting = [p for p in folders if not p.is_symlink()] + waiting
        waiting += [p for p in folders if p.is_symlink()]
        yield from (p for p in entries if not p.is_dir())


def _each_once(files: list[Path]) -> tuple[list[Path], int]:
    """Files without links to others among them, and the number of those links."""
    taken = {os.path.realpath(path) for path in files if not path.is_symlink()}
    kept, links = [], 0
    for path in files:
        real = os.path.realpath(path)
        if path.is_symlink() and real in taken:
            links += 1
            continue
        taken.add(real)
        kept.append(path)
    return kept, links


def list_images(folder: Path) -> tuple[list[Path], list[str]]:
    """The pictures below a folder, and sentences about the files that are none.

    Raises:
        InputError: There is no picture.
    """
    walked = list(_walk(folder))
    every, links = _each_once([path for path in walked if path.is_file()])
    broken = sum(not path.is_file() for path in walked)
    found = [path for path in every if path.suffix.lower() in SUFFIXES]
    others = Counter(
        p.suffix.lower() or "no suffix" for p in every if p.suffix.lower() not in SUFFIXES
    )
    listed = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(6))
    if not found:
        held = f"it holds files with {', '.join(sorted(others)[:6])}" if others else "it is empty"
        raise InputError(
            f"{folder}: no picture (PNG, JPEG, TIFF, BMP, WebP, GIF, PGM, TGA) in this folder or "
            f"below it; {held}"
        )
    words = [f"files that are no pictures: {listed}"] if others else []
    words += [f"{links} links to files that are taken already"] if links else []
    words += [f"{broken} links that lead nowhere"] if broken else []
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix()), words


def folder_labels(folder: Path, files: list[Path]) -> tuple[Tensor | None, list[str], str]:
    """Labels and class names from the folders directly below `folder`.

    Returns:
        The labels, int64 (N,), the names, and ""; (None, [], why) unless every picture lies in one
        of at least two such folders. The reason is "" where there are no two folders.
    """
    tops = [p.relative_to(folder).parts for p in files]
    classes = sorted({parts[0] for parts in tops if len(parts) > 1})
    stray = [parts[0] for parts in tops if len(parts) == 1]
    if len(classes) < 2:
        return None, [], ""
    if stray:
        named = ", ".join(stray[:NAMED]) + (", ..." if len(stray) > NAMED else "")
        return (
            None,
            [],
            f"the classes of {len(classes)} sub-folders: {len(stray)} of {len(files)} class labels "
            f"are missing, those of the pictures beside the sub-folders ({named}). Move these into "
            "a sub-folder, or out of the folder",
        )
    return torch.tensor([classes.index(parts[0]) for parts in tops]), classes, ""


def check_size(size: Any) -> tuple[int, int] | None:
    """(H, W) of a whole number or a pair; None for None.

    Raises:
        InputError: `size` is anything else.
    """
    if size is None:
        return None
    pair = (
        (size, size)
        if isinstance(size, int)
        else tuple(size)
        if isinstance(size, (tuple, list))
        else ()
    )
    if len(pair) != 2 or not all(isinstance(n, int) and n > 0 for n in pair):
        raise InputError(
            "size must be a whole number above zero or a pair (height, width) of them; got "
            f"{size!r}"
        )
    return pair[0], pair[1]


def _heads(files: Sequence[Picture]) -> tuple[dict[Picture, Head], dict[Picture, str]]:
    """The heads of pictures, and why others cannot be read."""
    heads: dict[Picture, Head] = {}
    bad: dict[Picture, str] = {}
    for path in files:
        try:
            heads[path] = read_head(path)
        except InputError as error:  # readable, but not without loss
            bad[path] = str(error).removeprefix(f"{path} ").removesuffix(".")
        except damage() as error:
            bad[path] = str(error) or type(error).__name__
    return heads, bad


def _one_depth(heads: Mapping[Picture, Head]) -> str:
    """The depth of all pictures; 1-bit pictures among 8-bit ones become 8-bit.

    Raises:
        InputError: The depths differ.
    """
    first: dict[str, Picture] = {}
    for path, head in heads.items():
        first.setdefault(head.depth, path)
    depths = set(first)
    if depths == {"1", "8"}:
        return "8"
    if len(depths) > 1:
        listed = ", ".join(f"{first[d]} is {WORDS[d]}" for d in sorted(depths))
        raise InputError(
            f"pictures of different depths: {listed}. Convert them to one depth, or keep them in "
            "folders of their own"
        )
    return depths.pop()


def _one_size(heads: Mapping[Picture, Head]) -> tuple[int, int]:
    items = iter(heads.items())
    first, head = next(items)
    for path, other in items:
        if other.size != head.size:
            (h, w), (height, width) = head.size, other.size
            raise InputError(
                f"pictures of different sizes: {first} is {h} x {w}, {path} is {height} x {width} "
                "(height x width); give size=(height, width) (--size: one number for squares)"
            )
    return head.size


def _refuse_damaged(bad: Mapping[Picture, str], count: int) -> None:
    named = "; ".join(f"{path} ({why})" for path, why in list(bad.items())[:NAMED])
    rest = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    raise InputError(
        f"{len(bad)} of {count} pictures cannot be read: {named}{rest}. Repair or remove them, or "
        "leave them out with skip_unreadable=True (--skip-unreadable)"
    )


def _channels(heads: Mapping[Picture, Head], given: int | None, notes: list[str]) -> int:
    """1 or 3 channels, without transparency; conversions are added to the notes."""
    colour = sum(head.colour for head in heads.values())
    channels = given or (3 if colour else 1)
    if channels == 3 and colour < len(heads):
        notes.append(f"{len(heads) - colour} grey pictures among {colour} in colour, read as RGB")
    if channels == 1 and colour:
        notes.append(f"{colour} pictures in colour, read as grey because channels=1 was given")
    return channels


def read_folder(folder: Path, options: ReadOptions) -> Folder:
    """Read the pictures of a folder.

    Args:
        folder: The folder.
        options: size, channels, alpha, skip_unreadable, count and seed.

    Raises:
        InputError: There are none, files are damaged (they are named), sizes or depths differ, or
            transparency would be lost.
    """
    from .choose import choose

    files, left_out = list_images(folder)
    total = len(files)
    labels, classes, unlabelled = folder_labels(folder, files)
    left_out += [unlabelled] if unlabelled else []
    index = choose(len(files), options.count, options.seed, str(folder))
    kept = None if index is None else index.tolist()
    if kept is not None and index is not None:
        files, labels = [files[i] for i in kept], None if labels is None else labels[index]
    found = read_files(files, options)
    if found.kept is not None:
        labels = None if labels is None else labels[found.kept]
        kept = found.kept if kept is None else [kept[k] for k in found.kept]
    found.labels, found.classes, found.kept, found.total = labels, classes, kept, total
    found.left_out = left_out + found.left_out
    if labels is not None:
        found.notes.append(f"{len(classes)} sub-folders are classes")
    return found


def read_files(files: Sequence[Picture], options: ReadOptions) -> Folder:
    """Read pictures as one array.

    Args:
        files: Paths of pictures, or pictures of Pillow in memory.
        options: size, channels, alpha and skip_unreadable.

    Raises:
        InputError: As `read_folder`.
    """
    target = check_size(options.size)
    if options.channels not in (None, 1, 3):
        raise InputError(
            f"channels of pictures must be 1 (grey) or 3 (RGB); got {options.channels}. "
            "Transparency is kept with alpha=keep (--alpha keep)"
        )
    heads, bad = _heads(files)
    if bad and not options.skip_unreadable:
        _refuse_damaged(bad, len(files))
    notes: list[str] = []
    if not heads:
        _refuse_damaged(bad, len(files))
    deep = _one_depth(heads)
    if deep in ("16", "32", "float") and options.channels == 3:
        raise InputError(
            f"channels=3 (--channels 3) is for 8-bit pictures; these are {WORDS[deep]} grey ones. "
            "Leave it out"
        )
    size = target or _one_size(heads)
    channels = _channels(heads, options.channels, notes)
    pixels, kept, transparent = _decode(files, heads, bad, options, (deep, channels, size))
    if bad and not options.skip_unreadable:
        _refuse_damaged(bad, len(files))
    good = [files[k] for k in kept]
    left = []
    if bad:
        named = ", ".join(str(path) for path in list(bad)[:NAMED])
        what = "files" if isinstance(files[0], Path) else "pictures"
        left.append(f"{len(bad)} {what} that cannot be read ({named})")
    _describe(heads, deep, options.alpha, transparent, notes)
    formats = dict(Counter(heads[path].format for path in good))
    every = None if len(kept) == len(files) else kept
    return Folder(good, pixels, formats, notes=notes, left_out=left, kept=every, total=len(files))


def _decode(
    files: Sequence[Picture],
    heads: Mapping[Picture, Head],
    bad: dict[Picture, str],
    options: ReadOptions,
    wanted: tuple[str, int, tuple[int, int]],
) -> tuple[np.ndarray, list[int], int]:
    """Pixels (N, H, W[, C]), the numbers of the files that were read, and how many had holes."""
    deep, channels, size = wanted
    out: np.ndarray | None = None
    kept: list[int] = []
    transparent = 0
    for k, path in enumerate(files):
        if path not in heads:
            continue
        try:
            image, holes = read_pixels(path, channels, options.alpha, deep)
        except damage() as error:
            bad[path] = str(error) or type(error).__name__
            if not options.skip_unreadable:
                _refuse_damaged(bad, len(files))
            continue
        if holes and options.alpha is None:
            raise InputError(
                f"{path} has transparent pixels, whose colour is not seen. Give alpha=white or "
                "black to lay pictures on a background, keep to learn the transparency as a "
                "channel, or drop to ignore it (--alpha white|black|keep|drop)"
            )
        transparent += holes
        if options.size is not None:
            image = fit(image, size)
        one = as_array(image, deep)
        if out is None:
            out = np.empty((len(files), *one.shape), one.dtype)
        out[len(kept)] = one
        kept.append(k)
    if out is None:
        _refuse_damaged(bad, len(files))
    assert out is not None
    return out[: len(kept)], kept, transparent


def _describe(
    heads: Mapping[Picture, Head], deep: str, alpha: str | None, transparent: int, notes: list[str]
) -> None:
    """Add sentences about what was converted."""
    with_alpha = sum(head.alpha for head in heads.values())
    if with_alpha and alpha == "keep":
        notes.append("transparency is the last channel")
    elif with_alpha and transparent:
        did = {"drop": "dropped", "white": "laid on white", "black": "laid on black"}[str(alpha)]
        notes.append(f"transparency of {transparent} pictures {did}")
    elif with_alpha:
        notes.append(f"{with_alpha} pictures have a transparency channel that is opaque; dropped")
    palette = sum(head.palette for head in heads.values())
    if palette:
        notes.append(f"{palette} pictures with a palette, read as colours")
    turned = sum(head.turned for head in heads.values())
    if turned:
        notes.append(f"{turned} pictures rotated by their EXIF orientation")
    if deep == "8" and any(head.depth == "1" for head in heads.values()):
        notes.append("1-bit pictures among 8-bit ones, read as 0 and 255")
    if any(head.format == "jpeg" for head in heads.values()):
        notes.append("JPEG's compression is part of the data; samples are written as PNG")
