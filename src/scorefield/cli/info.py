"""The command `scorefield info`."""

import json
from typing import Annotated, Any

import typer

from . import options as o


def info(
    run: o.Run,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
    network: o.NetworkFile = None,
) -> None:
    """Show what a model is: its model card."""
    from rich.table import Table

    from ..checkpoint import load
    from .loading import make_network
    from .show import console

    model = load(run, network=None if network is None else make_network(network))
    card: dict[str, Any] = model.card or {}
    if as_json:
        typer.echo(json.dumps(card, indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in card_rows(card, sum(p.numel() for p in model.parameters())).items():
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)


def card_rows(card: dict[str, Any], parameters: int) -> dict[str, str]:
    """The main entries of a card, in words.

    Args:
        card: a model card.
        parameters: number of the network's parameters.

    Returns:
        From a row's name to its text.
    """
    from ..checkpoint import card_hash

    history, data = card.get("history") or {}, card.get("data") or {}
    sampling = (card.get("config") or {}).get("sampling") or {}
    ladder = card.get("ladder")
    conditions = card.get("conditions") or {}
    rows = {
        "example": " x ".join(map(str, card["event_shape"])),
        "network": f"{card['network']['name']}, {parameters:,} parameters, preconditioner "
        f"{card['preconditioner']}",
        "sigma": f"{card['sigma_min']:g} to {card['sigma_max']:g} (model units)"
        + (f", {len(ladder)} levels" if ladder else ""),
        "conditions": ", ".join(
            f"{name} ({spec['kind']}, {spec['size']})" for name, spec in conditions.items()
        )
        or "none",
        "sampler": " ".join(f"{k}={v}" for k, v in sampling.items() if v not in (None, {})),
        "data": f"{data.get('source', '?')}, {data.get('count', '?')} examples",
        "trained": f"{history.get('images', 0):,} images, {history.get('seconds', 0):,.0f} s"
        + (f" ({history['ended']})" if history.get("ended") else ""),
        "libraries": ", ".join(f"{k} {v}" for k, v in (card.get("libraries") or {}).items()),
        "card": card_hash(card)[:16],
    }
    return {name: text for name, text in rows.items() if text}
