"""The files that `likelihood` writes, and the numbers that it prints."""

import math
from pathlib import Path
from typing import Any

from .examples import Chosen
from .sample import card_facts
from .show import duration, say

SHOWN_CLASSES = 20  # of which the means are printed


def rows_file(out: Path) -> Path:
    """The table beside the JSON file."""
    return out.with_suffix(".csv")


def write_rows(chosen: Chosen, log_p: Any, held_out: Any, path: Path) -> None:
    """Write a table with a row for each example: its row in the data, log p, error and rank.

    Args:
        chosen: the examples.
        log_p: their `LogProb`.
        held_out: log densities of held-out examples, or None for no ranks.
        path: the .csv file.
    """
    import pyarrow as pa

    from ..data import write_table
    from ..likelihood import ranks

    dataset = chosen.dataset
    columns = {
        "row": dataset.rows(chosen.index).numpy(),
        "log_p": log_p.value.numpy(),
        "log_p_se": log_p.se.numpy(),
    }
    if dataset.labels is not None:
        columns["class"] = [class_name(dataset, k) for k in dataset.labels[chosen.index].tolist()]
    if held_out is not None:
        columns["rank"] = ranks(log_p.value, held_out).numpy()
    write_table(path, pa.table(columns))


def class_name(dataset: Any, number: int) -> str:
    """The name of a class, or its number where it has none."""
    return str(number) if dataset.class_names is None else str(dataset.class_names[number])


def by_class(dataset: Any, index: Any, log_p: Any, bits: Any) -> list[dict[str, Any]]:
    """Means over the examples of each class.

    Args:
        dataset: a data set with labels.
        index: the examples.
        log_p: their `LogProb`.
        bits: their `BitsPerDim`, or None.

    Returns:
        A row for each class that occurs: class, examples, log_prob and its standard error, and
        bits_per_dim with its own; standard errors of single examples are None.
    """
    from ..likelihood import Values

    labels, rows = dataset.labels[index], []
    for number in labels.unique().tolist():
        row = {"class": class_name(dataset, number), "examples": int((labels == number).sum())}
        for name, values in (("log_prob", log_p), ("bits_per_dim", bits)):
            if values is not None:
                own = Values(values.value[labels == number])
                error = None if math.isnan(own.mean_se) else own.mean_se
                row |= {name: own.mean, f"{name}_se": error}
        rows.append(row)
    return rows


def say_classes(rows: list[dict[str, Any]]) -> None:
    """Print the means of the first classes."""
    for row in rows[:SHOWN_CLASSES]:
        parts = []
        for name, unit, digits in (("log_prob", "nats", 3), ("bits_per_dim", "bits/dim", 4)):
            if name in row:
                error = row[f"{name}_se"]
                about = "" if error is None else f" ± {error:.{digits}f}"
                parts.append(f"{row[name]:,.{digits}f}{about} {unit}")
        say(f"  class {row['class']}: {', '.join(parts)} ({row['examples']:,} examples)")
    if len(rows) > SHOWN_CLASSES:
        say(f"  and {len(rows) - SHOWN_CLASSES} classes more in the file")


def write_results(
    model: Any, chosen: Chosen, log_p: Any, held_out: Any, out: Path, facts: dict[str, Any]
) -> None:
    """Write the JSON file and the table of a likelihood, and print its mean.

    Args:
        model: a score model.
        chosen: the examples.
        log_p: the result of `log_prob`.
        held_out: log densities of held-out examples, or None.
        out: the JSON file.
        facts: further entries of the file.
    """
    from ..files import write_json
    from ..likelihood import bits_per_dim

    # Bits are of this data's own levels: a model trained with others gives none.
    quantisation, dataset = model.units.quantisation, chosen.dataset
    same = quantisation is not None and quantisation.levels == dataset.quantisation_levels
    bits = bits_per_dim(model, log_p) if same and quantisation.dequantised else None
    written: dict[str, Any] = {
        "unit": "nats, density in data units",
        "log_prob": log_p.to_dict(),
        "bits_per_dim": None if bits is None else bits.to_dict(),
        "data": {
            "source": dataset.name,
            "part": chosen.part,
            "sha256": dataset.description["sha256"],
            "index": chosen.index.tolist(),
        },
    }
    if dataset.labels is not None:
        written["by_class"] = by_class(dataset, chosen.index, log_p, bits)
    write_json(out, written | facts | card_facts(model))
    write_rows(chosen, log_p, held_out, rows_file(out))
    impossible = int((log_p.value == -math.inf).sum())
    if impossible:
        say(
            f"{impossible:,} of {len(log_p):,} examples have density 0: they differ from elements "
            "that are constant in the training data"
        )
    single = math.isnan(log_p.mean_se)
    say(f"log p {log_p.mean:,.3f}{'' if single else f' ± {log_p.mean_se:.3f}'} nats per example")
    if bits is not None:
        error = "" if single else f" ± {bits.mean_se:.4f}"
        say(
            f"{bits.mean:.4f}{error} bits/dim: an upper bound, {bits.levels} levels, uniform "
            "dequantisation"
        )
    if facts["condition"] == "class":
        say_classes(written["by_class"])
    say(f"smoothed by sigma_min {log_p.sigma_min:g}; {log_p.divergence}; prior {log_p.prior}")
    say(f"{log_p.evaluations} evaluations, {duration(log_p.seconds)}")
