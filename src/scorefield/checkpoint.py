"""Model files and training state; the only file that writes them.

model.safetensors   tensors `network.*` (EMA weights) and `moments.mean`, `moments.variance`; metadata `card`, JSON: enough to sample
state/*.state       one line of header with the payload's SHA-256, then a torch archive that is only ever read with weights_only=True

Every file is written to a temporary name, flushed and renamed; of the state two generations are
kept, and a torn newest one is detected.
"""

import hashlib
import io
import json
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__
from .errors import InputError
from .model import FORMS, Preconditioned, ScoreModel
from .networks import build
from .runs import write_bytes
from .units import Units

CARD_FORMAT = "scorefield-model"
CARD_VERSION = (
    2  # 2: energy forms; cards of plain models are still version 1, which older readers know
)
STATE_MAGIC = b"scorefield-state 1 "
GENERATIONS = 2


def make_card(model: Preconditioned, network: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """The card of a model: what rebuilds it, and `facts` (config, data, history ...), all JSON.
    network: {"name", "options"}.
    """
    return {
        "format": CARD_FORMAT,
        "version": 1 if model.form == "score" else 2,
        "form": model.form,
        "network": network,
        "event_shape": list(model.event_shape),
        "preconditioner": model.preconditioner,
        "sigma_data": model.sigma_data,
        "sigma_min": model.sigma_min,
        "sigma_max": model.sigma_max,
        "ladder": None if model.ladder is None else model.ladder.tolist(),
        "takes_condition": model.takes_condition,
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
    path: Path, model: Preconditioned, weights: dict[str, Tensor], card: dict[str, Any]
) -> None:
    """Write `weights` (of the network, by parameter name) and the card to `path`, atomically."""
    from safetensors.torch import save

    tensors = {
        f"network.{name}": value.detach().to("cpu", copy=True).contiguous()
        for name, value in weights.items()
    }
    if model.moments() is not None:
        assert model.mean is not None and model.variance is not None
        tensors |= {
            "moments.mean": model.mean.cpu().contiguous(),
            "moments.variance": model.variance.cpu().contiguous(),
        }
    write_bytes(path, save(tensors, metadata={"card": json.dumps(card)}))


def load(path: str | Path, device: str = "cpu") -> ScoreModel:
    """The model of a run directory or a .safetensors file, as a ScoreModel with `.card` and
    `.units`, in evaluation mode on `device`.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.exists():
        there = (
            "the run has not saved a model yet"
            if Path(path).is_dir()
            else f"no such file or folder as {path}"
        )
        raise InputError(
            f"need a run directory with model.safetensors, or a .safetensors file; {there}"
        )
    try:
        with safe_open(str(file), "pt", device=device) as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
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
    if card["version"] > CARD_VERSION:
        raise InputError(
            f"{file} has card version {card['version']}, this scorefield reads up to "
            f"{CARD_VERSION}; install a newer one"
        )
    return _rebuild(card, tensors).to(device)


def _rebuild(card: dict[str, Any], tensors: dict[str, Tensor]) -> Preconditioned:
    event_shape = tuple(card["event_shape"])
    network = build(card["network"]["name"], event_shape, **card["network"]["options"])
    weights = {
        name.removeprefix("network."): value
        for name, value in tensors.items()
        if name.startswith("network.")
    }
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"the weights do not fit the card's network {card['network']}: {error}"
        ) from error
    ladder = card["ladder"]
    form = card.get("form", "score")
    if form not in FORMS:
        raise InputError(f"the card's form must be one of {', '.join(FORMS)}; got {form!r}")
    model = FORMS[form](
        network,
        event_shape,
        card["sigma_min"],
        card["sigma_max"],
        card["preconditioner"],
        card["sigma_data"],
        None if ladder is None else torch.tensor(ladder, dtype=torch.float64),
        card["takes_condition"],
        Units.from_dict(card["units"]),
        tensors.get("moments.mean"),
        tensors.get("moments.variance"),
    )
    model.card = card
    return model.eval().requires_grad_(False)


def save_state(folder: Path, images: int, state: dict[str, Any]) -> Path:
    """Write the training state after `images` images; the newest two generations stay. A failing
    write leaves the older ones intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"{images:012d}.state"
    write_bytes(path, STATE_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    for old in sorted(folder.glob("*.state"))[:-GENERATIONS]:
        old.unlink(missing_ok=True)
    return path


def load_state(folder: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """The newest whole training state, or None where there is none, and a worded notice for each
    torn one passed over.
    """
    notices: list[str] = []
    for path in sorted(folder.glob("*.state"), reverse=True):
        header, _, payload = path.read_bytes().partition(b"\n")
        if (
            header.startswith(STATE_MAGIC)
            and header.removeprefix(STATE_MAGIC).decode("ascii", "replace")
            == hashlib.sha256(payload).hexdigest()
        ):
            return torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu"), notices
        notices.append(
            f"{path.name} is torn (its checksum does not match): using the checkpoint before it"
        )
    return None, notices
