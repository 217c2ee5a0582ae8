"""The command `scorefield likelihood`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from . import completion
from . import options as o
from .examples import (
    CONDITIONS,
    OTHER,
    PARTS,
    Chosen,
    choose_condition,
    choose_examples,
    data_units,
)
from .likelihood_files import rows_file, write_results
from .loading import ready
from .show import Outcome, progress, say, warn

DEFAULT_COUNT = 256


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
        help="class or vector: log p(x | c) given the class or the vector of each example; none: "
        "log p(x).",
        show_default="as the model was trained",
        autocompletion=completion.words(CONDITIONS),
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
    for line in () if data is None else chosen.dataset.report:
        say(line)
    if not everything:
        chosen = chosen._replace(index=chosen.index[: count or (DEFAULT_COUNT if own else None)])
    given = choose_condition(model, chosen, condition)
    how = {"divergence": divergence, "probes": probes, "seed": seed}
    work = Work(model, options, how, given)
    say(
        f"{len(chosen.index):,} examples of {chosen.dataset.name} ({chosen.part}), {precision} on "
        f"{execution.describe()}"
    )
    log_p = work.measure(chosen)
    held_out = None if reference == 0 else work.reference(chosen, log_p, reference)
    facts = {
        "condition": given,
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
        condition: the condition that is given: "class", "vector" or "none".
    """

    model: Any
    options: Any
    how: dict[str, Any]
    condition: str

    def measure(self, chosen: Chosen, title: str = "likelihood") -> Any:
        """The `LogProb` of the chosen examples, with a progress report."""
        from ..likelihood import log_prob

        x, condition = data_units(self.model, chosen, self.how["seed"], self.condition)
        with progress(title) as show:
            return log_prob(
                self.model,
                x,
                condition=condition,
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
            if len(index) == 0:
                raise InputError("the run held out no such examples")
            return self.measure(held_out, "held-out examples, for the ranks").value
        except InputError as error:
            warn(f"no ranks among held-out examples: {error}")
            return None
