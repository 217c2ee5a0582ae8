"""scorefield likelihood"""

import json
import math
from pathlib import Path
from typing import Any

import typer

from ..errors import InputError
from .show import duration, progress, say

PARTS = ("held-out", "train", "all")


def choose_events(
    card: dict[str, Any], source: str | None, part: str | None
) -> tuple[Any, Any, str]:
    """(collection, indices, part): of the card's own data by the split it was trained with, of
    other data all.
    """
    import torch

    from ..data import load, split

    if part is not None and part not in PARTS:
        raise InputError(f"--part must be one of {', '.join(PARTS)}; got {part!r}")
    config, known = card.get("config") or {}, card.get("data") or {}
    settings = config.get("data") or {}
    own = source is None or source == settings.get("source")
    source = settings.get("source") if source is None else source
    if source is None or source.startswith("<"):
        raise InputError(
            "the card names no data that can be read again (the model was trained on an array in "
            "memory); give --data"
        )
    options: dict[str, Any] = (
        {name: settings.get(name) or None for name in ("size", "channels", "key")} if own else {}
    )
    collection = load(source, **options)
    same = collection.description["sha256"] == known.get("sha256")
    if own and not same:
        raise InputError(
            f"{source} has changed since training (its SHA-256 differs from the card's), so which "
            "events were held out is not known; "
            "give the data under another name or path to use all of it"
        )
    if not same and part not in (None, "all"):
        raise InputError(
            f"--part {part} is of the data this model was trained on; {source} is other data, of "
            "which all is used"
        )
    part = part or ("held-out" if same else "all")
    if part == "all":
        return collection, torch.arange(len(collection)), part
    train, held = split(collection.labels, len(collection), config["seed"], settings["held_out"])
    index = held if part == "held-out" else train
    if len(index) == 0:
        raise InputError(
            "this run held nothing out (data.held_out is 0); use --part all or other --data"
        )
    return collection, index, part


def likelihood(
    run: Path = typer.Argument(..., help="A run's folder or a .safetensors model file."),
    out: Path = typer.Option(
        ..., help="The JSON file to write: mean, standard error, every value, and how it was done."
    ),
    data: str | None = typer.Option(
        None,
        help="A name, folder or file as for train. [default: the run's own, its held-out part]",
    ),
    part: str | None = typer.Option(
        None,
        help="held-out, train or all. [default: held-out of the run's own data, all of other data]",
    ),
    count: int = typer.Option(256, help="How many events, 1 or more; 0 = all."),
    divergence: str = typer.Option(
        "auto", help="auto (exact up to 64 elements), exact or hutchinson."
    ),
    probes: int = typer.Option(8, help="Hutchinson's Rademacher probes a sample, 2 or more."),
    rtol: float = typer.Option(1e-4, help="The solver's relative tolerance, above 0."),
    atol: float = typer.Option(1e-4, help="The solver's absolute tolerance, above 0."),
    sigma_min: float | None = typer.Option(
        None, help="Smoothing of the density, model units. [default: the model's]"
    ),
    sigma_max: float | None = typer.Option(
        None, help="Where the terminal law takes over, model units. [default: the model's]"
    ),
    seed: int = typer.Option(0, help="0 or more; decides the probes and the dequantisation."),
    precision: str = typer.Option("float32", help="float32 or float64; never bfloat16."),
    batch: int | None = typer.Option(None, help="Events at a time, 1 or more."),
    threads: int = typer.Option(0, help="CPU threads; 0 = all."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
) -> None:
    """Measure log p of data the model never saw: nats, and bits per dimension where the data are
    quantised, with standard errors.
    """
    import torch

    from ..checkpoint import card_hash
    from ..data import Pipeline
    from ..likelihood import bits_per_dim, log_prob
    from ..runs import write_json
    from ..units import Units
    from .sample import ready

    if out.is_dir() or out.suffix != ".json":
        raise InputError(f"--out must name a .json file; got {out}")
    if count < 0:
        raise InputError(f"--count must be 1 or more, or 0 for all; got {count}")
    if precision not in ("float32", "float64"):
        raise InputError(
            "--precision must be float32 or float64 (a divergence is not summed in less); got "
            f"{precision!r}"
        )
    model, execution = ready(run, device, "float32", "off", threads)
    card: dict[str, Any] = model.card or {}
    collection, index, part = choose_events(card, data, part)
    if collection.event_shape != tuple(model.event_shape):
        raise InputError(
            f"{collection.name} has events {collection.event_shape}; the model needs "
            f"{tuple(model.event_shape)}"
        )
    index = index[: count or None]
    wide = torch.float64 if collection.values.dtype == torch.float64 else torch.float32
    x = Pipeline(collection, index, Units.identity(), seed, dtype=wide).held_out(index)
    say(f"{len(x):,} events of {collection.name} ({part}), {precision} on {execution.device}")
    with progress("likelihood") as report:
        log_p = log_prob(
            model,
            x,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            divergence=divergence,
            probes=probes,
            rtol=rtol,
            atol=atol,
            seed=seed,
            dtype=getattr(torch, precision),
            batch=batch,
            progress=lambda share: report(share, ""),
        )
    # Bits are of this data's own levels: a card that declares others says nothing of them.
    quantised = collection.levels is not None and collection.levels == card.get("levels")
    bits = bits_per_dim(model, log_p) if quantised else None
    facts = {
        "unit": "nats, density in data units",
        "log_prob": log_p.to_dict(),
        "bits_per_dim": None if bits is None else bits.to_dict(),
        "data": {
            "source": collection.name,
            "part": part,
            "sha256": collection.description["sha256"],
            "index": index.tolist(),
        },
        "rtol": rtol,
        "atol": atol,
        "seed": seed,
        "precision": precision,
        "execution": execution.to_dict(),
        "card_sha256": card_hash(card),
        "history": card.get("history"),
    }
    write_json(out, json.loads(json.dumps(facts)))
    single = math.isnan(log_p.mean_se)
    say(f"log p {log_p.mean:,.3f}{'' if single else f' ± {log_p.mean_se:.3f}'} nats an event")
    if bits is not None:
        say(
            f"{bits.mean:.4f}{'' if single else f' ± {bits.mean_se:.4f}'} bits/dim: an upper "
            f"bound, {bits.levels} levels, uniform dequantisation"
        )
    say(
        f"smoothed by sigma_min {log_p.sigma_min:g}; {log_p.divergence}; terminal law "
        f"{log_p.terminal}"
    )
    say(f"{log_p.evaluations} evaluations, {duration(log_p.seconds)}: {out}")
