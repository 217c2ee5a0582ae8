"""Model files and training states; the only file that writes them.

model.safetensors   tensors `network.*` (averaged weights) and `moments.*`; metadata `card`, JSON
state/*.state       a torch archive and a last line with its SHA-256; it is only ever loaded with
                    weights_only=True

A model file is enough to sample. A network of the user's own class is not rebuilt from the card:
`load` takes the network, or a function that makes it. Of the training state two generations are
kept; a torn newest one is detected by its checksum and passed over.
"""

import copy
import hashlib
import io
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

from . import __version__, networks
from .conditions import ConditionSpec
from .errors import InputError
from .files import write_atomically, write_bytes
from .models import FORMS, Moments, Preconditioned, ScoreModel
from .units import Units
from .values import file_path, mapping, plain_tree, whole

CARD_FORMAT = "scorefield-model"
CARD_VERSION = 3  # 3: conditions, quantisation within the units, networks of the user's own class
STATE_TRAILER = b"\nscorefield-state 2 "
STATE_TRAILER_BYTES = len(STATE_TRAILER) + 64 + 1
GENERATIONS = 2
BLOCK = 1 << 20  # bytes read at a time

Network = nn.Module | Callable[[], nn.Module]


def describe_network(network: nn.Module) -> dict[str, Any]:
    """The network's entry in a card: {"name", "options"}, or {"name": "custom", "class"}."""
    kind = type(network)
    for name, target in networks.NETWORKS.items():
        module, attribute = target.split(":")
        if (kind.__module__, kind.__qualname__) == (f"{networks.__name__}.{module}", attribute):
            return {"name": name, "options": networks.options(network)}
    return {"name": "custom", "class": f"{kind.__module__}.{kind.__qualname__}"}


def make_card(
    model: Preconditioned, network: dict[str, Any] | None = None, **facts: Any
) -> dict[str, Any]:
    """The card of a model.

    Args:
        model: The model.
        network: Its network's entry; None: `describe_network`.
        facts: Further entries that JSON can hold, such as config, data and history.

    Returns:
        A dictionary that JSON can hold.
    """
    return {
        "format": CARD_FORMAT,
        "version": CARD_VERSION,
        "form": model.form,
        "network": describe_network(model.network) if network is None else network,
        "event_shape": list(model.event_shape),
        "preconditioner": model.preconditioner,
        "sigma_data": model.sigma_data,
        "sigma_min": model.sigma_min,
        "sigma_max": model.sigma_max,
        "ladder": None if model.ladder is None else model.ladder.tolist(),
        "conditions": {name: spec.to_dict() for name, spec in model.conditions.items()},
        "units": model.units.to_dict(),
        "libraries": {
            "scorefield": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **facts,
    }


def card_hash(card: dict[str, Any]) -> str:
    """SHA-256 of the card's canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(card, sort_keys=True).encode()).hexdigest()


def save_model(
    path: str | Path,
    model: Preconditioned,
    weights: Mapping[str, Tensor] | None = None,
    card: dict[str, Any] | None = None,
) -> Path:
    """Write a model file, atomically.

    Args:
        path: The file, usually `something.safetensors`.
        model: The model: its network, noise range, units, conditions and moments are kept.
        weights: The network's state_dict to keep; None: the network's own.
        card: The model card; None: `make_card(model)`.

    Returns:
        The path.

    Raises:
        InputError: Where the folder cannot be made.
    """
    from safetensors.torch import save

    target = file_path(path, "path")
    kept = model.network.state_dict() if weights is None else mapping(weights, "weights")
    tensors = {f"network.{name}": value.detach().cpu().contiguous() for name, value in kept.items()}
    moments = model.moments()
    if moments is not None:
        parts = {
            "mean": moments.mean,
            "variance": moments.variance,
            "covariance": moments.covariance,
        }
        tensors |= {
            f"moments.{name}": value.cpu().contiguous()
            for name, value in parts.items()
            if value is not None
        }
    # Tied weights share memory, which the format refuses: each name gets a copy of its own.
    owners: dict[int, str] = {}
    for name, value in tensors.items():
        if value.numel() and owners.setdefault(value.data_ptr(), name) != name:
            tensors[name] = value.clone()
    content = make_card(model) if card is None else plain_tree(mapping(card, "card"))
    return write_bytes(target, save(tensors, metadata={"card": json.dumps(content)}))


def replace_card(
    path: str | Path,
    change: Callable[[dict[str, Any]], Mapping[str, Any]],
    out: str | Path | None = None,
) -> Path:
    """Write a model file with another card, atomically; its tensors stay as they are, bitwise.

    Args:
        path: A run directory, or a model file.
        change: From the card to the new one.
        out: The file to write; None: the one that was read.

    Returns:
        The file that was written.

    Raises:
        InputError: Where the file cannot be read or holds no card.
    """
    from safetensors.torch import save

    file = _find_file(file_path(path, "path"))
    card, tensors = _read_file(file)
    content = plain_tree(mapping(change(card), "card"))
    target = file if out is None else file_path(out, "out")
    return write_bytes(target, save(tensors, metadata={"card": json.dumps(content)}))


def load(
    path: str | Path, device: str | torch.device = "cpu", network: Network | None = None
) -> ScoreModel:
    """Load the model of a run directory or of a model file.

    Args:
        path: A run directory, or a .safetensors file.
        device: Where the model goes.
        network: For a model of the user's own network: the network (it is copied), or a class or
            function that makes one without arguments. None for the networks of this package.

    Returns:
        The model with `.card` and `.units`, in evaluation mode, without gradients.

    Raises:
        InputError: Where the file cannot be read, holds no card, or does not fit the network.

    Example:
        model = sf.load("runs/mine")
        model = sf.load("own.safetensors", network=MyNetwork)
    """
    file = _find_file(file_path(path, "path"))
    card, tensors = _read_file(file)
    try:
        model = _rebuild(card, tensors, network)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{file}: {error}") from error
        what = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"the card in {file} cannot be used: {what}") from error
    return model.to(device)


def read_card(path: Path) -> dict[str, Any] | None:
    """The card of a model file, read without its tensors.

    Args:
        path: The file.

    Returns:
        The card; {} where the file holds none, None where the file is missing or not whole.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as archive:
            card = json.loads((archive.metadata() or {}).get("card", "{}"))
    except (SafetensorError, OSError, ValueError):
        return None
    return card if isinstance(card, dict) else {}


def _find_file(path: Path) -> Path:
    """The model file of a path.

    Raises:
        InputError: There is none; the message states what the path is instead.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if file.is_file():
        return file
    raise _no_model(path)


def _no_model(path: Path) -> InputError:
    """The error for a path without a model."""
    return InputError(
        f"need a run directory with model.safetensors, or a .safetensors file; {_what_it_is(path)}"
    )


def _what_it_is(path: Path) -> str:
    """Why a path is no model, in words, and what to do."""
    if path.is_dir():
        if (path / "config.json").exists():
            return f"{path} is a run that has not saved a model yet; train it longer"
        runs = sorted(str(found.parent) for found in path.glob("*/model.safetensors"))
        inside = f". Runs inside it: {', '.join(runs[:5])}" if runs else ""
        return f"{path} is a folder, but not a run (it has no config.json){inside}"
    if not path.exists():
        return f"there is no file or folder {path}"
    if path.suffix in (".pth", ".pt", ".ckpt"):
        return f"{path} may be a checkpoint of other code; `scorefield import` converts NCSN's"
    return (
        f"{path} is another kind of file. If it holds data, train a model of it with `scorefield "
        "train --data`, and give the run's directory here"
    )


def _read_file(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The card, after its format and version were checked, and the tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), "pt") as archive:
            metadata = archive.metadata() or {}
            names = archive.keys()
            tensors = {name: archive.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        if file.suffix != ".safetensors":
            raise _no_model(file) from error
        raise InputError(f"{file} is not a readable safetensors file: {error}") from error
    try:
        card = json.loads(metadata.get("card", "null"))
    except json.JSONDecodeError as error:
        raise InputError(f"the card in {file} is not JSON: {error}") from error
    if not isinstance(card, dict) or card.get("format") != CARD_FORMAT:
        raise InputError(
            f"{file} holds no scorefield card; was it written by scorefield? Checkpoints of other "
            "code go through `scorefield import`"
        )
    if card.get("version") != CARD_VERSION:
        raise InputError(
            f"{file} has card version {card.get('version')}; this scorefield reads version "
            f"{CARD_VERSION}. Use the scorefield that wrote it, or train again"
        )
    return card, tensors


def _rebuild(
    card: dict[str, Any], tensors: dict[str, Tensor], network: Network | None
) -> Preconditioned:
    event_shape = tuple(int(n) for n in card["event_shape"])
    conditions = {name: ConditionSpec.from_dict(spec) for name, spec in card["conditions"].items()}
    made = _make_network(card["network"], event_shape, conditions, network)
    weights = {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }
    try:
        made.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"the weights do not fit the network {card['network']}: {error}"
        ) from error
    form = card["form"]
    if form not in FORMS:
        raise InputError(f"the card's form must be one of {', '.join(FORMS)}; got {form!r}")
    ladder, moments = card["ladder"], None
    if "moments.mean" in tensors:
        names = ("moments.mean", "moments.variance", "moments.covariance")
        mean, variance, covariance = (tensors.get(name) for name in names)
        if mean is None or variance is None:
            raise InputError("the file holds a mean and no variance")
        covariance = None if covariance is None else covariance.double().cpu()
        moments = Moments(mean.double().cpu(), variance.double().cpu(), covariance)
    model = FORMS[form](
        made,
        event_shape,
        sigma_min=card["sigma_min"],
        sigma_max=card["sigma_max"],
        preconditioner=card["preconditioner"],
        sigma_data=card["sigma_data"],
        ladder=None if ladder is None else torch.tensor(ladder, dtype=torch.float64),
        conditions=conditions,
        units=Units.from_dict(card["units"]),
        moments=moments,
    )
    model.card = card
    return model.eval().requires_grad_(False)


def _make_network(
    entry: dict[str, Any],
    event_shape: tuple[int, ...],
    conditions: Mapping[str, ConditionSpec],
    network: Network | None,
) -> nn.Module:
    """The network of a card's entry, or a copy of the user's own."""
    if entry["name"] == "custom":
        if network is None:
            raise InputError(
                f"this model's network is of the class {entry['class']}, which is not part of "
                "scorefield: pass it, load(path, network=...), or on the command line --network "
                "FILE.py:NAME"
            )
        made = copy.deepcopy(network) if isinstance(network, nn.Module) else network()
        if not isinstance(made, nn.Module):
            raise InputError(f"network must be an nn.Module or make one; got {type(made).__name__}")
        return made
    if network is not None:
        raise InputError(f"this model's network is {entry['name']}; leave network out")
    return networks.build(
        entry["name"], event_shape, conditions=conditions or None, **entry["options"]
    )


class _Hashing(io.RawIOBase):
    """A binary file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return self.file.write(data)


class _Part(io.RawIOBase):
    """The first `size` bytes of a binary file, as a file of its own."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.size}[whence]
        return self.file.seek(start + offset)

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        part = self.file.read(max(0, min(len(view), self.size - self.tell())))
        view[: len(part)] = part
        return len(part)


def save_state(folder: Path, images: int, state: dict[str, Any]) -> Path:
    """Write the training state, streamed to the disk, atomically.

    Args:
        folder: The folder of states. This one and the one before it stay; files of more images
            are removed, since the state that was loaded was the newest whole one.
        images: Images seen; they name the file.
        state: Nested tensors and plain values.

    Returns:
        The file. A failing write leaves the older ones intact.
    """
    folder = file_path(folder, "folder")
    path = folder / f"{whole(images, 'images', 0):012d}.state"

    def write(file: BinaryIO) -> None:
        hashing = _Hashing(file)
        torch.save(state, cast(Any, hashing))
        file.write(STATE_TRAILER + hashing.hash.hexdigest().encode() + b"\n")

    write_atomically(path, write)
    names = sorted(found.name for found in folder.glob("*.state"))
    for name in {*names} - {*[name for name in names if name <= path.name][-GENERATIONS:]}:
        (folder / name).unlink(missing_ok=True)
    return path


def load_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the newest whole training state, onto the CPU.

    Args:
        folder: The folder of states.

    Returns:
        The state, None where none is whole, and a notice for each torn file that was passed over.
    """
    notices: list[str] = []
    for path in sorted(file_path(folder, "folder").glob("*.state"), reverse=True):
        size = path.stat().st_size - STATE_TRAILER_BYTES
        with open(path, "rb") as file:
            if size > 0 and _is_whole(file, size):
                file.seek(0)
                part = cast(Any, io.BufferedReader(_Part(file, size)))
                return torch.load(part, weights_only=True, map_location="cpu"), notices
        notices.append(f"the training state {path.name} is torn: its checksum does not match")
    return None, notices


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Whether the trailer after `size` bytes holds their hash."""
    found, left = hashlib.sha256(), size
    while left > 0:
        block = file.read(min(BLOCK, left))
        if not block:
            return False
        found.update(block)
        left -= len(block)
    return file.read() == STATE_TRAILER + found.hexdigest().encode() + b"\n"
