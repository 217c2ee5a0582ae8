"""What a run directory holds, and whether training can go on there.

A trained model is never overwritten by a lesser one, and nothing is lost that could be of use:

    config.json   training states   model file   schedule.jsonl    what happens
    missing       none whole        none         any               a new run; it follows the record
    missing       some whole, or a model file    any               refused: not known whose they are
    unreadable    any               any          any               refused
    whole         some whole        any          whole             the run goes on
    whole         some whole        any          lines missing     refused
    whole         none whole        none         any               the run begins again
    whole         none whole        some         any               refused: the model would be lost

A model file of 0 bytes counts as none, a torn one as a model file. A model file that is whole and
belongs to another run is never overwritten. `--restart` sets everything aside in every case.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..checkpoint import load_state, read_card
from ..config import Config, Request
from ..errors import InputError
from ..runs import Record, Run, read_lines

# Settings that do not decide the weights and that a model has from its training on.
OF_THE_MODEL = ("data.bounds", "ema.snapshots", "guard", "sampling")


@dataclass(frozen=True)
class Existing:
    """What a run directory holds that a run can go on from.

    Attributes:
        config: The content of config.json; None for a new run.
        state: The newest whole training state; None where there is none.
        record: The lines of schedule.jsonl.
        seconds: Seconds spent on the run up to the state, its last evaluation included.
        notices: Messages for the user.
    """

    config: Record | None = None
    state: dict[str, Any] | None = None
    record: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    notices: tuple[str, ...] = ()

    @property
    def images(self) -> int:
        """Images seen."""
        return 0 if self.state is None else int(self.state["images"])

    @property
    def ended(self) -> str:
        """Why the segment of the state ended; empty where it did not."""
        return "" if self.state is None else str(self.state["ended"])

    @property
    def segment(self) -> int:
        """The number of the state's segment, from 1."""
        return 1 if self.state is None else int(self.state.get("segment", 1))


def examine(run: Run) -> Existing:
    """Read what a run directory holds, without writing.

    Args:
        run: The run directory, which need not exist.

    Returns:
        What training goes on from.

    Raises:
        InputError: Where training cannot go on there (module docstring); the message names what is
            whole and what can be done.
    """
    config = run.read_config()
    state, torn = load_state(run.state)
    record = read_lines(run.schedule)
    card = read_card(run.model)
    has_model = run.model.exists() and run.model.stat().st_size > 0
    if config is None:
        _check_nothing_is_there(run, state is not None, has_model)
        return Existing(record=record)
    if state is None:
        if has_model:
            _refuse_to_begin_again(run, bool(torn), card)
        if torn:
            torn.append("no training state is whole and no model was saved: training begins again")
        return Existing(config, None, record, notices=tuple(torn))
    if len(record) < state.get("decisions", 1):
        raise InputError(
            f"{run.schedule} is missing or cut: it holds {len(record)} decisions, and the training "
            f"state was saved after {state.get('decisions', 1)}. Without them the run cannot go "
            f"on. {_words(run, card)}{run.way_out()}"
        )
    if card is not None and not _is_of_run(card, config):
        raise InputError(
            f"{run.model} is not of the run in its folder: it was copied there or imported. Move "
            f"it away. {run.way_out()}"
        )
    finals = (line for line in read_lines(run.metrics) if line.get("final"))
    spent = [line["seconds"] for line in finals if line["images"] == state["images"]]
    return Existing(config, state, record, max([state["elapsed"], *spent]), tuple(torn))


def _check_nothing_is_there(run: Run, state: bool, model: bool) -> None:
    """Refuse a folder without config.json that holds a model or training states."""
    found = [name for name, there in ((run.model.name, model), ("training states", state)) if there]
    if found:
        raise InputError(
            f"{run.folder} holds {' and '.join(found)} and no config.json, so that it is not known "
            f"which run they belong to; training would overwrite them. {run.way_out()}"
        )


def _refuse_to_begin_again(run: Run, torn: bool, card: Record | None) -> None:
    what = "is torn" if torn else "is missing"
    raise InputError(
        f"the training state of {run.folder} {what}: the run cannot go on, and beginning again "
        f"would overwrite its model. {_words(run, card)}{run.way_out()}"
    )


def _words(run: Run, card: Record | None) -> str:
    """Whether the model file is whole, in a sentence."""
    if card is None:
        return f"{run.model.name} is torn too. " if run.model.exists() else ""
    images = (card.get("history") or {}).get("images")
    seen = "" if images is None else f" (after {images:,} images)"
    return f"{run.model.name}{seen} is whole and can be sampled. "


def _is_of_run(card: Record, config: Record) -> bool:
    """Whether a model card was written by the run of a config.json."""
    data, settings = card.get("data") or {}, card.get("config") or {}
    same = settings.get("seed") == config["config"].get("seed")
    return same and data.get("sha256") == config.get("sha256")


def without_effect(request: Request, config: Config, card: Mapping[str, Any]) -> str:
    """A notice about settings that a complete run does not take any more.

    Settings that decide the weights are refused where they differ (`config.differences`), and those
    of the execution are the machine's.

    Args:
        request: The requested settings.
        config: The same, resolved.
        card: The card of the run's model.

    Returns:
        A sentence with each setting that differs from the model's; "" where there is none.
    """
    asked, now = _flat(request.to_dict(explicit=True)), _flat(config.to_dict())
    kept = _flat(card.get("config") or {})
    changed = [
        (name, now[name], kept[name])
        for name in asked.keys() & now.keys() & kept.keys()
        if name.startswith(OF_THE_MODEL) and now[name] != kept[name]
    ]
    if not changed:
        return ""
    given = ", ".join(
        f"{name}={_text(value)} (the model has {_text(old)})"
        for name, value, old in sorted(changed, key=lambda one: one[0])
    )
    one = len(changed) == 1
    options = any(name.startswith("sampling") for name, _, _ in changed)
    return (
        f"the run is complete, so that {given} {'has' if one else 'have'} no effect. A larger "
        f"budget lets the run go on with {'it' if one else 'them'}"
        + ("; sf.sample and scorefield sample take a sampler of their own" if options else "")
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their names with dots; options stay mappings."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and name != "options":
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
