"""The command `scorefield likelihood`."""

import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..errors import InputError
from . import options as o
from .loading import ready
from .sample import card_facts
from .show import duration, progress, say

PARTS = ("held-out", "train", "all")
CONDITIONS = ("none", "class")


class Chosen(NamedTuple):
    """Examples whose likelihood is measured: a data set, indices into it, and which part it is."""

    dataset: Any
    index: Any
    part: str


def choose_examples(card: dict[str, Any], source: str | None, part: str | None) -> Chosen:
    """Choose the examples: a part of the model's own data, or other data.

    Args:
        card: the model card.
        source: where the data are; None: the data that the model was trained on.
        part: "held-out", "train" or "all"; None: held-out of the model's own data, all of other
            data.

    Returns:
        The examples.

    Raises:
        InputError: the data cannot be read, or have no such part.
    """
    import torch

    from ..data import is_card_data, load, open_card_data

    if part is not None and part not in PARTS:
        raise InputError(f"--part must be one of {', '.join(PARTS)}; got {part!r}")
    settings = (card.get("config") or {}).get("data") or {}
    own = source is None or source == settings.get("source")
    dataset = None if own or source is None else load(source)
    if dataset is None or is_card_data(card, dataset):
        split = open_card_data(card, source)
        part = part or "held-out"
        everything = torch.arange(len(split.dataset))
        index = {"held-out": split.held_out, "train": split.train, "all": everything}[part]
        return Chosen(split.dataset, index, part)
    if part not in (None, "all"):
        raise InputError(
            f"--part {part} is a part of the data that this model was trained on; {source} holds "
            "other data, of which all are used"
        )
    return Chosen(dataset, torch.arange(len(dataset)), "all")


def data_units(model: Any, chosen: Chosen, seed: int, conditional: bool) -> tuple[Any, Any]:
    """The examples in data units, dequantised where the model's training dequantised.

    Args:
        model: a score model.
        chosen: the examples.
        seed: decides the dequantisation noise.
        conditional: whether to give the labels as condition.

    Returns:
        x (N, *event) in data units, and the condition with N rows, or None.

    Raises:
        InputError: the examples have another shape than the model's, or no labels.
    """
    from ..data import Pipeline
    from ..units import Units

    dataset = chosen.dataset
    if dataset.event_shape != tuple(model.event_shape):
        raise InputError(
            f"{dataset.name} has examples of shape {dataset.event_shape}; the model needs "
            f"{tuple(model.event_shape)}"
        )
    quantisation = model.units.quantisation
    dequantised = quantisation is not None and quantisation.dequantised
    pipeline = Pipeline(
        dataset,
        chosen.index,
        Units.identity(),
        seed,
        dequantise="uniform" if dequantised else "none",
        condition="class" if conditional else "none",
        dtype=dataset.dtype,
    )
    return pipeline.held_out(chosen.index)


def use_labels(model: Any, dataset: Any, condition: str | None) -> bool:
    """Whether the likelihood is conditioned on the labels; by default as the model was trained.

    Raises:
        InputError: --condition is unknown, or the model takes no classes.
    """
    if condition is not None and condition not in CONDITIONS:
        raise InputError(f"--condition must be one of {', '.join(CONDITIONS)}; got {condition!r}")
    takes = "class" in model.conditions
    if condition == "class" and not takes:
        raise InputError("--condition class needs a model that was trained with classes")
    return takes and (condition == "class" or (condition is None and dataset.labels is not None))


OutFile = Annotated[
    Path,
    typer.Option(
        help="The JSON file to write: mean, standard error, every value, how it was computed."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(help="A name, folder or file as for train.", show_default="the run's own"),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="held-out, train or all.",
        show_default="held-out of the run's own data, all of other data",
    ),
]
Count = Annotated[int, typer.Option(min=1, help="Number of examples.")]
All = Annotated[bool, typer.Option("--all", help="All examples of the part, in place of a number.")]
ConditionKind = Annotated[
    str | None,
    typer.Option(
        help="class: log p(x | label); none: log p(x).", show_default="as the model was trained"
    ),
]
Divergence = Annotated[
    str, typer.Option(help="auto (exact up to 64 elements), exact or hutchinson.")
]
Probes = Annotated[int, typer.Option(min=2, help="hutchinson: Rademacher probes for each example.")]
Rtol = Annotated[float, typer.Option(help="Relative tolerance of the solver, above 0.")]
Atol = Annotated[float, typer.Option(help="Absolute tolerance of the solver, above 0.")]
SigmaMin = Annotated[
    float | None,
    typer.Option(
        help="Noise level that smooths the density, model units.", show_default="the model's"
    ),
]
SigmaMax = Annotated[
    float | None,
    typer.Option(
        help="Noise level at which the prior is used, model units.", show_default="the model's"
    ),
]
Accuracy = Annotated[str, typer.Option("--precision", help="float32 or float64; never bfloat16.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Examples at a time.")]


def likelihood(
    run: o.Run,
    out: OutFile,
    data: Data = None,
    part: Part = None,
    count: Count = 256,
    everything: All = False,
    condition: ConditionKind = None,
    divergence: Divergence = "auto",
    probes: Probes = 8,
    rtol: Rtol = 1e-4,
    atol: Atol = 1e-4,
    sigma_min: SigmaMin = None,
    sigma_max: SigmaMax = None,
    seed: o.Seed = 0,
    precision: Accuracy = "float32",
    batch: Batch = None,
    network: o.NetworkFile = None,
    device: o.Device = None,
    threads: o.Threads = None,
) -> None:
    """Measure log p of data that the model has not seen, with standard errors.

    The unit is nats in data units, and bits per dimension where the data are quantised.
    """
    o.check_file(out, ".json")
    if precision not in ("float32", "float64"):
        raise InputError(
            "--precision must be float32 or float64 (a divergence is not summed in less); got "
            f"{precision!r}"
        )
    import torch

    from ..likelihood import LikelihoodOptions

    options = LikelihoodOptions(
        sigma_min, sigma_max, rtol, atol, dtype=getattr(torch, precision), batch=batch
    )
    model, execution = ready(run, o.execution_request(device, "float32", "off", threads), network)
    chosen = choose_examples(model.card or {}, data, part)
    chosen = chosen._replace(index=chosen.index[: None if everything else count])
    conditional = use_labels(model, chosen.dataset, condition)
    x, labels = data_units(model, chosen, seed, conditional)
    say(
        f"{len(x):,} examples of {chosen.dataset.name} ({chosen.part}), {precision} on "
        f"{execution.describe()}"
    )
    how = {"divergence": divergence, "probes": probes, "seed": seed}
    log_p = measure(model, x, labels, options, how)
    facts = {
        "condition": "class" if conditional else "none",
        "precision": precision,
        "rtol": rtol,
        "atol": atol,
        "execution": execution.to_dict(),
        **how,
    }
    write_results(model, chosen, log_p, out, facts)


def measure(model: Any, x: Any, condition: Any, options: Any, how: dict[str, Any]) -> Any:
    """`log_prob` with a progress report.

    Args:
        model: a score model.
        x: (N, *event) in data units.
        condition: a condition with N rows, or None.
        options: `LikelihoodOptions`.
        how: further arguments of `log_prob`.

    Returns:
        The `LogProb`.
    """
    from ..likelihood import log_prob

    with progress("likelihood") as show:
        return log_prob(
            model,
            x,
            condition=condition,
            options=options,
            progress=lambda fraction: show(fraction, ""),
            **how,
        )


def write_results(model: Any, chosen: Chosen, log_p: Any, out: Path, facts: dict[str, Any]) -> None:
    """Write the JSON file of a likelihood, and print its mean.

    Args:
        model: a score model.
        chosen: the examples.
        log_p: the result of `log_prob`.
        out: the file.
        facts: further entries of the file.
    """
    from ..files import write_json
    from ..likelihood import bits_per_dim

    # Bits are of this data's own levels: a model trained with others gives none.
    quantisation, dataset = model.units.quantisation, chosen.dataset
    same = quantisation is not None and quantisation.levels == dataset.quantisation_levels
    bits = bits_per_dim(model, log_p) if same and quantisation.dequantised else None
    written = {
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
    write_json(out, written | facts | card_facts(model))
    single = math.isnan(log_p.mean_se)
    say(f"log p {log_p.mean:,.3f}{'' if single else f' ± {log_p.mean_se:.3f}'} nats per example")
    if bits is not None:
        error = "" if single else f" ± {bits.mean_se:.4f}"
        say(
            f"{bits.mean:.4f}{error} bits/dim: an upper bound, {bits.levels} levels, uniform "
            "dequantisation"
        )
    say(f"smoothed by sigma_min {log_p.sigma_min:g}; {log_p.divergence}; prior {log_p.prior}")
    say(f"{log_p.evaluations} evaluations, {duration(log_p.seconds)}: {out}")
