"""`Plan`: the planned values, each with its reason, as text, JSON, picture and settings."""

import html
import json
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Request, override
from ..data import Dataset
from ..errors import InputError
from ..files import write_json
from ..plotting import Picture
from ..values import file_path, plain_tree
from .checks import Warned
from .picture import Chart, save_plan_picture

FORMAT, VERSION = "scorefield-plan", 1
NAME_WIDTH, VALUE_WIDTH, REASON_WIDTH = 18, 26, 78


@dataclass(frozen=True)
class Line:
    """One line of a plan.

    Attributes:
        name: what was planned, such as "sigma_max".
        value: in words, in model units.
        reason: one sentence or two.
        data_units: the same in data units; "" where they do not differ or have no meaning.
        number: the value for programs; None where it is no number.
    """

    name: str
    value: str
    reason: str
    data_units: str = ""
    number: float | int | None = None


@dataclass(frozen=True)
class Plan:
    """Scales, network and budget for a data set, or a recipe for an exact density.

    Attributes:
        source: the data, as messages name them.
        lines: what was planned, with the reasons.
        warnings: what would make a training fail, or its result mislead.
        settings: settings by name for `train --plan` and `sf.fit(settings=...)`; empty for an exact
            density, which is not trained.
        chart: what the picture shows.
        cost: parameters, memory and time from one measured step; None where none was measured.
        data: what was measured: source, number of examples, shape of an example, and SHA-256 of
            their values; empty for an exact density.
    """

    source: str
    lines: tuple[Line, ...]
    warnings: tuple[Warned, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    chart: Chart | None = field(default=None, repr=False)
    cost: Mapping[str, Any] | None = None
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Line:
        """A line by its name, such as plan["sigma_max"].

        Args:
            name: The name of the line.

        Returns:
            The line.

        Raises:
            InputError: There is no such line.
        """
        for line in self.lines:
            if line.name == name:
                return line
        names = ", ".join(line.name for line in self.lines)
        raise InputError(f"the plan has no line {name!r}; there are {names}")

    @property
    def picture(self) -> Picture:
        """The planned range over the data's distances; a notebook shows it, `save` writes it."""
        chart = self.chart
        if chart is None:
            raise InputError("this plan was read from a file, which holds no distances to draw")

        def write(path: Path) -> Path:
            return save_plan_picture(path, chart)

        return Picture(write, f"the plan for {self.source}")

    def summary(self) -> list[str]:
        """Three lines: the range of noise levels; network and batch; budget and warnings.

        For an exact density the lines are the range and the steps of annealed Langevin dynamics.
        """
        known = {line.name: line for line in self.lines}
        high, low = known["sigma_max"], known["sigma_min"]

        def values(*names: str) -> str:
            return ", ".join(f"{n} {known[n].value}" for n in names if n in known)

        scale = f"noise levels from {high.value} to {low.value}, model units: {high.reason}"
        if "network" not in known:
            return [scale, low.reason, values("levels", "steps_per_level", "epsilon")]
        noted = f"; warnings: {', '.join(w.kind for w in self.warnings)}" if self.warnings else ""
        return [scale, values("network", "batch"), values("budget", "memorisation") + noted]

    def __repr__(self) -> str:
        rows = [f"Plan for {self.source}", ""]
        indent = " " * (NAME_WIDTH + VALUE_WIDTH + 2)
        for line in self.lines:
            shown = line.value + (f" (data: {line.data_units})" if line.data_units else "")
            reason = textwrap.wrap(line.reason, REASON_WIDTH) or [""]
            head = f"{line.name:<{NAME_WIDTH}} {shown:<{VALUE_WIDTH}} "
            if len(shown) > VALUE_WIDTH:
                rows += [head.rstrip(), indent + reason[0]]
            else:
                rows.append(head + reason[0])
            rows += [indent + part for part in reason[1:]]
        for warned in self.warnings:
            rows += ["", *textwrap.wrap(f"Warning ({warned.kind}): {warned.text}.", 110)]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        cell = "<td style='text-align:left'>"
        rows = "".join(
            f"<tr>{cell}{html.escape(line.name)}</td>{cell}{html.escape(line.value)}</td>"
            f"{cell}{html.escape(line.data_units)}</td>{cell}{html.escape(line.reason)}</td></tr>"
            for line in self.lines
        )
        warned = "".join(f"<p>Warning: {html.escape(w.text)}.</p>" for w in self.warnings)
        return f"<b>Plan for {html.escape(self.source)}</b><table>{rows}</table>{warned}"

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON can hold it, with the version of its format."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "data": dict(self.data),
            "lines": [vars(line) for line in self.lines],
            "warnings": [vars(warned) for warned in self.warnings],
            "settings": plain_tree(dict(self.settings)),
            "cost": None if self.cost is None else dict(self.cost),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan as JSON; `scorefield train --plan` takes the file.

        Args:
            path: A file name that ends in .json.

        Returns:
            The path.

        Raises:
            InputError: For another ending.
        """
        return write_json(_json_path(path), self.to_dict())

    def save_config(self, path: str | os.PathLike[str]) -> Path:
        """Write the settings alone as JSON; `scorefield train --plan` takes this file too.

        Args:
            path: A file name that ends in .json.

        Returns:
            The path.

        Raises:
            InputError: For another ending, or a plan of an exact density, which is not trained.
        """
        if not self.settings:
            raise InputError("an exact density is not trained: its plan has no settings to write")
        settings = plain_tree(dict(self.settings))
        content = {"format": FORMAT, "version": VERSION, "data": dict(self.data)}
        content["settings"] = settings
        return write_json(_json_path(path), content)


def _json_path(path: str | os.PathLike[str]) -> Path:
    found = file_path(path, "path")
    if found.suffix.lower() != ".json":
        raise InputError(f"a plan is written as .json; got {found.name!r}. Change the ending")
    return found


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the settings of a plan that `Plan.save` or `Plan.save_config` wrote.

    Args:
        path: The file.

    Returns:
        Settings by group, for `config.override`.

    Raises:
        InputError: The file cannot be read, is no plan, or is of a newer version.
    """
    place, content = _content(path)
    settings = content.get("settings")
    if not isinstance(settings, dict) or not settings:
        raise InputError(f"{place} holds no settings: plans of exact densities are not trained")
    override(Request(), settings)  # names and ranges
    return settings


def _content(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]]:
    """A plan file and what it holds."""
    place = file_path(path, "the plan")
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(
            f"the plan {place} cannot be read: {problem}. Write one with `scorefield plan --data "
            "... --out plan.json`"
        ) from problem
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{place} is no plan: its entry 'format' is not {FORMAT!r}. Write one with `scorefield "
            "plan --data ... --out plan.json`"
        )
    if content.get("version") != VERSION:
        raise InputError(
            f"{place} has version {content.get('version')!r} of the format, and this package reads "
            f"version {VERSION}. Make the plan anew"
        )
    return place, content


def facts_of_data(dataset: Dataset) -> dict[str, Any]:
    """What a plan records of the data that it was made for, in a form that JSON can hold.

    Args:
        dataset: The data.

    Returns:
        "source", "examples", "shape" of an example, and "sha256" of the values.
    """
    return {
        "source": dataset.name,
        "examples": len(dataset),
        "shape": list(dataset.event_shape),
        "sha256": dataset.description.get("sha256"),
    }


def note_on_other_data(path: str | os.PathLike[str], dataset: Dataset) -> str:
    """A notice where a plan was made for other data than those that are trained on.

    Args:
        path: The file of the plan.
        dataset: The data of the training.

    Returns:
        A sentence; "" where the data are those of the plan, or where the plan does not record its
        data, as files of earlier versions.

    Raises:
        InputError: The examples have another shape, or the file cannot be read.
    """
    place, content = _content(path)
    made, now = content.get("data"), facts_of_data(dataset)
    if not isinstance(made, dict) or not {"source", "examples", "shape"} <= made.keys():
        return ""
    if made["shape"] != now["shape"]:
        raise InputError(
            f"the plan {place} was made for {_examples(made)}; the data are {_examples(now)}. Make "
            f"a plan for these data: `scorefield plan --data ... --out {place}`"
        )
    if made.get("sha256") == now["sha256"]:
        return ""
    same = [made[name] for name in ("source", "examples")] == [now["source"], now["examples"]]
    other = "with other values" if same else f"and the data are {_examples(now)}"
    return (
        f"the plan {place} was made for {_examples(made)}, {other}: its noise levels, network and "
        "batch are those of the data that it was made for"
    )


def _examples(facts: Mapping[str, Any]) -> str:
    """Data in words: 5,000 examples of 1 x 28 x 28 (mnist5k)."""
    shape = " x ".join(map(str, facts["shape"]))
    return f"{facts['examples']:,} examples of {shape} ({facts['source']})"
