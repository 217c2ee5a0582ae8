"""scorefield info"""

import json
from pathlib import Path

import typer


def info(
    run: Path = typer.Argument(..., help="A run's folder or a .safetensors model file."),
    as_json: bool = typer.Option(False, "--json", help="The whole card as JSON."),
) -> None:
    """Say what a model is: its card."""
    from rich.table import Table

    from ..checkpoint import card_hash, load
    from .show import console

    model = load(run)
    card = model.card or {}
    if as_json:
        typer.echo(json.dumps(card, indent=2))
        return
    history, data = card.get("history", {}), card.get("data", {})
    table = Table(show_header=False, box=None)
    parameters = sum(p.numel() for p in model.parameters())
    rows = {
        "event": " x ".join(map(str, card["event_shape"])),
        "network": f"{card['network']['name']}, {parameters:,} parameters, preconditioner {card['preconditioner']}",
        "sigma": f"{card['sigma_min']:g} to {card['sigma_max']:g} (model units)"
        + (f", {len(card['ladder'])} levels" if card["ladder"] else ""),
        "data": f"{data.get('source', '?')}, {data.get('count', '?')} items",
        "trained": f"{history.get('images', 0):,} images, {history.get('seconds', 0):,.0f} s"
        + (f" ({history['ended']})" if history.get("ended") else ""),
        "libraries": ", ".join(f"{k} {v}" for k, v in card["libraries"].items()),
        "card": card_hash(card)[:16],
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/]", value)
    console.print(table)
