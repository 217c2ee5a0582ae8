"""The command `scorefield info`."""

from pathlib import Path
from typing import Any

from . import options as o
from .show import Outcome, console, duration

# Files of a run to open, and what they show.
FILES = {
    "report.md": "report of the demo",
    "samples/*.png": "samples",
    "loss_per_sigma.png": "held-out loss at each noise level",
    "training.png": "loss during training",
    "previews/*.png": "samples during training; the newest",
    "metrics.jsonl": "losses, one line each time",
    "config.json": "all settings",
}
COLUMNS_SHOWN = 12  # columns of a table that are listed


def info(run: o.Run, network: o.NetworkFile = None) -> Outcome:
    """Show what a model is, how good it is, and which files of its run to open."""
    from rich.markup import escape
    from rich.table import Table

    from ..checkpoint import load
    from .loading import make_network

    model = load(run, network=None if network is None else make_network(network))
    card: dict[str, Any] = model.card or {}
    parameters = sum(p.numel() for p in model.parameters())
    files = files_to_open(run)
    rows = card_rows(card, parameters) | {
        "files": "\n".join(f"{path}: {what}" for path, what in files.items())
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        if value:
            table.add_row(f"[bold]{name}[/]", escape(value))
    console.print(table)
    return Outcome(
        next=("sample", run, "--out", (run if run.is_dir() else run.parent) / "samples"),
        facts={"card": card, "parameters": parameters, "files": [str(path) for path in files]},
    )


def card_rows(card: dict[str, Any], parameters: int) -> dict[str, str]:
    """The main entries of a card, in words.

    Args:
        card: a model card.
        parameters: number of the network's parameters.

    Returns:
        From a row's name to its text; "" where the card does not record it.
    """
    from ..checkpoint import card_hash

    config, history = card.get("config") or {}, card.get("history") or {}
    verdict = history.get("verdict") or {}
    conditions = card.get("conditions") or {}
    return {
        "data": data_text(card),
        "example": example_text(card),
        "columns": columns_text(card),
        "quality": str(verdict.get("sentence", "")),
        "trained": trained_text(history, config),
        "budgets": segments_text(history),
        "settings": settings_text(config),
        "network": f"{card['network']['name']}, {parameters:,} parameters, preconditioner "
        f"{card['preconditioner']}",
        "noise": noise_text(card),
        "conditions": ", ".join(
            f"{name} ({spec['kind']}, {spec['size']})" for name, spec in conditions.items()
        )
        or "none",
        "sampler": sampler_text(config.get("sampling") or {}),
        "tuned": tuned_text(card.get("tuned") or {}),
        "computed with": execution_text(card),
        "libraries": ", ".join(f"{k} {v}" for k, v in (card.get("libraries") or {}).items()),
        "card": f"{card_hash(card)[:16]} (SHA-256 of the model card, the record in the file)",
    }


def data_text(card: dict[str, Any]) -> str:
    """Where the data came from, how many examples, their stored type."""
    data = card.get("data") or {}
    if not data:
        return "not recorded (an imported or hand-made model)"
    parts = [f"{data.get('source', '?')}", f"{data.get('count', 0):,} examples"]
    parts += stored_text(card)
    held_out = ((card.get("config") or {}).get("data") or {}).get("held_out")
    if held_out:
        parts.append(f"{held_out:.0%} held out of training")
    return ", ".join(parts)


def stored_text(card: dict[str, Any]) -> list[str]:
    """Format and type of the stored data, where the card records their form."""
    from ..data.form import form_of

    form: Any = form_of(card)
    if form is None:
        return []
    if form.kind == "table":
        return [form.format]
    return [f"{form.format if form.kind == 'image' else form.container} of {form.dtype}"]


def example_text(card: dict[str, Any]) -> str:
    """The shape of an example, in the words of its kind."""
    shape, units = list(card["event_shape"]), card.get("units") or {}
    sizes = " x ".join(map(str, shape))
    levels = (units.get("quantisation") or {}).get("levels")
    if units.get("image"):
        stored = f", {levels:,} levels" if levels else ""
        return f"image of {sizes} (channels x height x width){stored}, values in [0, 1]"
    if len(shape) == 1:
        return f"row of {shape[0]:,} {'number' if shape == [1] else 'numbers'}"
    return f"array of {sizes} (channels first)"


def columns_text(card: dict[str, Any]) -> str:
    """The columns of a table with their kinds; "" for other data."""
    from ..data.form import form_of

    form: Any = form_of(card)
    if form is None or form.kind != "table":
        return ""
    shown = [f"{column.name} ({column.kind})" for column in form.columns[:COLUMNS_SHOWN]]
    more = len(form.columns) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def trained_text(history: dict[str, Any], config: dict[str, Any]) -> str:
    """How long the model was trained, of which budget, and how training ended."""
    if not history:
        return ""
    seconds, images = config.get("seconds"), config.get("images")
    budget = f"{duration(seconds)}" if seconds else f"{images:,} images" if images else ""
    text = f"{history.get('images', 0):,} images seen in {duration(history.get('seconds', 0.0))}"
    text += f", of a budget of {budget}" if budget else ""
    return text + (f"; {history['ended']}" if history.get("ended") else "; not finished")


def segments_text(history: dict[str, Any]) -> str:
    """The budgets of a run that went on beyond its first one; "" for other runs."""
    segments = history.get("segments") or []
    budgets = [segment.get("budget") or {} for segment in segments]
    words = [
        f"{budget['images']:,} images" if "images" in budget else duration(budget.get("seconds", 0))
        for budget in budgets
    ]
    return ", then ".join(words) + " in all" if len(words) > 1 else ""


def settings_text(config: dict[str, Any]) -> str:
    """Preset, seed and the optimiser's main numbers."""
    if not config:
        return ""
    optim = config.get("optim") or {}
    return (
        f"preset {config.get('preset')}, seed {config.get('seed')}, {optim.get('name')} with "
        f"learning rate {optim.get('lr'):g}, {optim.get('batch'):,} examples a step"
    )


def noise_text(card: dict[str, Any]) -> str:
    """The noise levels at which the model is defined."""
    ladder = card.get("ladder")
    levels = f", only at {len(ladder)} levels" if ladder else ""
    return (
        f"sigma from {card['sigma_min']:g} to {card['sigma_max']:g}{levels}, in model units (data "
        f"scaled to standard deviation {card['sigma_data']:g})"
    )


def sampler_text(sampling: dict[str, Any]) -> str:
    """The sampler that `sample` takes by default, with its options."""
    given = {k: v for k, v in sampling.items() if v not in (None, {}) and k != "sampler"}
    options = given.pop("options", {})
    words = [f"{name} {value}" for name, value in (given | options).items()]
    return ", ".join([str(sampling.get("sampler", "heun")), *words])


def tuned_text(tuned: dict[str, Any]) -> str:
    """The methods that `tune` fitted to the model, with their gain."""
    return "\n".join(
        f"{nfe} evaluations: {one['rms']:.2g} standard deviations of the data from the flow "
        f"(untuned {one['untuned_rms']:.2g}: {one['untuned']})"
        for nfe, one in tuned.items()
    )


def execution_text(card: dict[str, Any]) -> str:
    """Device, precision and threads of the training."""
    execution = card.get("execution") or {}
    if not execution:
        return ""
    mode = "compiled" if execution.get("compile") else "not compiled"
    return (
        f"{execution.get('device')}, {execution.get('precision')}, {mode}, "
        f"{execution.get('threads')} threads"
    )


def files_to_open(run: Path) -> dict[Path, str]:
    """Files of a run that one may open, and what they show."""
    found = {}
    for pattern, what in FILES.items():
        for path in sorted(run.glob(pattern))[-1:]:
            found[path] = what
    return found
