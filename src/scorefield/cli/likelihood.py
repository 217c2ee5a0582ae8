"""The command `scorefield likelihood`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .loading import ready
from .sample import card_facts
from .show import Outcome, duration, progress, say, warn

PARTS = ("held-out", "train", "all")
OTHER = "other data"  # the part of examples that are not the run's own
DEFAULT_COUNT = 256
CONDITIONS = ("none", "class")


class Chosen(NamedTuple):
    """Examples whose likelihood is measured: a data set, indices into it, and which part it is."""

    dataset: Any
    index: Any
    part: str


def choose_examples(
    card: dict[str, Any], source: str | None, part: str | None, reading: Any = None
) -> Chosen:
    """Choose the examples: a part of the model's own data, or other data.

    Args:
        card: the model card.
        source: where the data are; None: the data that the model was trained on.
        part: "held-out", "train" or "all"; None: held-out of the model's own data, all of other
            data.
        reading: `ReadOptions` of other data.

    Returns:
        The examples.

    Raises:
        InputError: the data cannot be read, or have no such part.
    """
    import torch

    from ..data import is_card_data, open_card_data, open_like

    if part is not None and part not in PARTS:
        raise InputError(f"--part must be one of {', '.join(PARTS)}; got {part!r}")
    dataset = None if source is None else open_like(card, source, reading)
    if dataset is None or is_card_data(card, dataset):
        split = open_card_data(card, dataset)
        part = part or "held-out"
        everything = torch.arange(len(split.dataset))
        index = {"held-out": split.held_out, "train": split.train, "all": everything}[part]
        return Chosen(split.dataset, index, part)
    if part not in (None, "all"):
        raise InputError(
            f"--part {part} is a part of the data that this model was trained on; {source} holds "
            "other data, of which all are used"
        )
    return Chosen(dataset, torch.arange(len(dataset)), OTHER)


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
    settings = ((model.card or {}).get("config") or {}).get("data") or {}
    dequantised = settings.get("dequantise") == "uniform"
    if quantisation is not None:
        dequantised = quantisation.dequantised
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
        help="The JSON file to write: mean, standard error, how it was computed. A table beside it "
        "(.csv) has a row for each example."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="A name, folder or file as for train.",
        show_default="the run's own",
        autocompletion=completion.data,
    ),
]
Part = Annotated[
    str | None,
    typer.Option(
        help="held-out, train or all.",
        autocompletion=completion.words(PARTS),
        show_default="held-out of the run's own data, all of other data",
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of examples.",
        show_default="256 of the run's own data, all of other data",
    ),
]
Reference = Annotated[
    int,
    typer.Option(
        min=0,
        help="Held-out examples of the run's own data among which each example is ranked; 0: no "
        "ranks.",
    ),
]
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
        help="Noise level that smooths the density, in model units (data scaled to standard "
        "deviation 0.5), above 0.",
        show_default="the model's",
    ),
]
SigmaMax = Annotated[
    float | None,
    typer.Option(
        help="Noise level at which the prior is used, in model units, above 0.",
        show_default="the model's",
    ),
]
Accuracy = Annotated[str, typer.Option("--precision", help="float32 or float64; never bfloat16.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Examples at a time.")]


def likelihood(
    run: o.Run,
    out: OutFile,
    data: Data = None,
    part: Part = None,
    count: Count = None,
    everything: All = False,
    reference: Reference = 64,
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
    force: o.Force = False,
    reading: o.Reading = o.Reading(),
) -> Outcome:
    """Measure log p of data that the model has not seen, with standard errors.

    The unit is nats in data units, and bits per dimension where the data are quantised.
    """
    o.check_file(out, ".json")
    o.check_file(rows_file(out), ".csv")
    o.refuse_existing([out, rows_file(out)], force)
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
    chosen = choose_examples(model.card or {}, data, part, reading.options())
    own = chosen.part != OTHER
    for line in () if own else chosen.dataset.report:
        say(line)
    if not everything:
        chosen = chosen._replace(index=chosen.index[: count or (DEFAULT_COUNT if own else None)])
    conditional = use_labels(model, chosen.dataset, condition)
    how = {"divergence": divergence, "probes": probes, "seed": seed}
    work = Work(model, options, how, conditional)
    say(
        f"{len(chosen.index):,} examples of {chosen.dataset.name} ({chosen.part}), {precision} on "
        f"{execution.describe()}"
    )
    log_p = work.measure(chosen)
    held_out = None if reference == 0 else work.reference(chosen, log_p, reference)
    facts = {
        "condition": "class" if conditional else "none",
        "precision": precision,
        "rtol": rtol,
        "atol": atol,
        "execution": execution.to_dict(),
        **how,
    }
    write_results(model, chosen, log_p, held_out, out, facts)
    return Outcome(
        [out, rows_file(out)],
        ("info", run),
        {
            "log_prob": log_p.mean,
            "log_prob_se": log_p.mean_se,
            "unit": "nats per example",
            "examples": len(log_p),
            "data": chosen.dataset.name,
            "part": chosen.part,
        },
    )


@dataclass(frozen=True)
class Work:
    """A likelihood with its settings, for any examples.

    Attributes:
        model: a score model.
        options: `LikelihoodOptions`.
        how: further arguments of `log_prob`.
        conditional: whether the labels are given as condition.
    """

    model: Any
    options: Any
    how: dict[str, Any]
    conditional: bool

    def measure(self, chosen: Chosen, title: str = "likelihood") -> Any:
        """The `LogProb` of the chosen examples, with a progress report."""
        from ..likelihood import log_prob

        x, labels = data_units(self.model, chosen, self.how["seed"], self.conditional)
        with progress(title) as show:
            return log_prob(
                self.model,
                x,
                condition=labels,
                options=self.options,
                progress=lambda fraction: show(fraction, ""),
                **self.how,
            )

    def reference(self, chosen: Chosen, log_p: Any, count: int) -> Any:
        """Log densities of held-out examples, among which the chosen ones are ranked.

        Args:
            chosen: the examples.
            log_p: their `LogProb`.
            count: number of held-out examples.

        Returns:
            A tensor, or None with a message where the held-out examples cannot be read.
        """
        from ..data import open_card_data

        if chosen.part == "held-out":
            return log_p.value
        try:
            own = chosen.dataset if chosen.part != OTHER else None
            split = open_card_data(self.model.card, own)
            index = split.held_out[:count]
            held_out = Chosen(split.dataset, index, "held-out")
            use = self.conditional and split.dataset.labels is None
            if use or len(index) == 0:
                raise InputError("the run held out no such examples")
            return self.measure(held_out, "held-out examples, for the ranks").value
        except InputError as error:
            warn(f"no ranks among held-out examples: {error}")
            return None


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

    columns = {
        "row": chosen.dataset.rows(chosen.index).numpy(),
        "log_p": log_p.value.numpy(),
        "log_p_se": log_p.se.numpy(),
    }
    if held_out is not None:
        columns["rank"] = ranks(log_p.value, held_out).numpy()
    write_table(path, pa.table(columns))


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
    say(f"smoothed by sigma_min {log_p.sigma_min:g}; {log_p.divergence}; prior {log_p.prior}")
    say(f"{log_p.evaluations} evaluations, {duration(log_p.seconds)}")
