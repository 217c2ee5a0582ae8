"""Numbers of NumPy and PyTorch, iterators, mappings and paths wherever Python's own are taken.

Every form of the value of an argument gives bitwise the result of the plain Python value, and every
value of a wrong kind is an InputError that names the argument. A function's new argument fails here
until `argument_table` has it.
"""

import enum
import importlib
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from argument_forms import KINDS
from argument_table import ARGUMENTS
from scorefield.config.base import Group
from scorefield.errors import InputError, NonFiniteError
from scorefield.inverse.operators import Mask


def content(value: Any) -> Any:
    """What two equal results share: tensors as bytes, objects by their entries, no times."""
    if isinstance(value, torch.Tensor):
        return ("tensor", str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes())
    if isinstance(value, nn.Module):
        plain = {k: v for k, v in vars(value).items() if not k.startswith("_")}
        return (
            type(value).__name__,
            {name: content(one) for name, one in value.state_dict().items()},
            {name: content(one) for name, one in plain.items() if name not in ("network", "units")},
        )
    if isinstance(value, dict | tuple | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        return (type(value).__name__, [(name, content(one)) for name, one in entries])
    if is_dataclass(value) and not isinstance(value, type):
        known = [f.name for f in fields(value) if f.name != "seconds"]
        return (type(value).__name__, [(n, content(getattr(value, n))) for n in known])
    if isinstance(value, Mask):
        return content(vars(value))
    return (type(value).__name__, repr(value))


FORMS = [
    pytest.param(place, form, id=f"{place}-{form}")
    for place, one in ARGUMENTS.items()
    for form in KINDS[one.kind][0](one.value)
]
WRONG = [
    pytest.param(place, wrong, id=f"{place}-{wrong}")
    for place, one in ARGUMENTS.items()
    for wrong in KINDS[one.kind][1]
    if wrong not in one.allowed
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def plain_results() -> dict[str, Any]:
    """Results of plain Python values, each computed once."""
    return {}


@pytest.mark.parametrize(("place", "form"), FORMS)
def test_every_form_gives_the_result_of_the_plain_value(
    place: str, form: str, plain_results: dict[str, Any]
) -> None:
    argument = ARGUMENTS[place]
    if place not in plain_results:
        plain_results[place] = content(argument.call(argument.value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as PyTorch's about read-only arrays
        found = argument.call(KINDS[argument.kind][0](argument.value)[form])
    assert content(found) == plain_results[place]


@pytest.mark.parametrize(("place", "wrong"), WRONG)
def test_a_wrong_kind_is_refused_with_the_name_of_the_argument(place: str, wrong: str) -> None:
    argument = ARGUMENTS[place]
    name = argument.named or re.split(r"[.,]", place.split(", ")[0])[-1]
    with pytest.raises((InputError, NonFiniteError)) as error:
        argument.call(KINDS[argument.kind][1][wrong])
    assert name in str(error.value)


# ---- every public function's arguments are listed above

ROOMS = [
    "checkpoint",
    "conditions",
    "config",
    "diagnostics",
    "exact",
    "interop",
    "inverse",
    "likelihood",
    "models",
    "networks",
    "noise",
    "objectives",
    "rng",
    "sampling",
    "training",
    "units",
]
EXEMPT = {
    "results and events, which only this package makes": "sampling.Record sampling.Samples "
    "sampling.Result sampling.StepEvent sampling.History inverse.Restoration inverse.Prepared "
    "inverse.Method likelihood.LogProb likelihood.BitsPerDim diagnostics.Level diagnostics.Report "
    "interop.Imported models.Cost models.Prior objectives.Estimate training.HeldOutLoss "
    "training.Progress training.Summary training.StepResult config.Resolution config.Setting "
    "config.DataFacts",
    "called by this package alone, with its own values": "sampling.Draws sampling.Multistep "
    "sampling.DPMSolver2MSDE.fraction sampling.State.replace sampling.with_kernel "
    "sampling.first_state training.Batches training.Budget training.Schedule training.Evaluator "
    "training.RunWriter training.TrainState training.learning_rate training.draw_sigma "
    "training.Batch training.EMA.decay training.EMA.update training.EMA.load_state_dict "
    "noise.stratified models.Preconditioner models.Coefficients models.jacobian models.Restricted "
    "networks.check_options networks.option_names networks.builder checkpoint.make_card "
    "checkpoint.card_hash config.differences config.settings inverse.Measurement.batch "
    "inverse.Measurement.read inverse.Measurement.to_model_units inverse.Measurement.resolve "
    "inverse.Measurement.whole inverse.Operator conditions.concatenate conditions.check "
    "conditions.expand conditions.ConditionSpec.from_dict units.quantise units.dequantise "
    "units.Quantisation.dequantise units.Units.from_dict",
    "train what `fit` trains, and take its arguments": "training.train "
    "training.train_with_progress training.rebuild",
}
CONDITION = re.compile(r"Mapping\[str, (torch\.)?Tensor\]")  # the internal form
TAKEN = re.compile(
    r"\b(int|float|bool|str|Sequence|Iterable|Mapping|Path|PathLike|dict|list|tuple)\b"
)


def plain_arguments(room: str) -> Iterator[str]:
    """room.function.argument of every argument that takes numbers, sequences, mappings, paths."""
    module = importlib.import_module(f"scorefield.{room}")
    for name in module_names(module):
        value = getattr(module, name)
        found = [(name, value)] if inspect.isfunction(value) else []
        if inspect.isclass(value) and not issubclass(value, Exception | enum.Enum | Group):
            found = [(name, value)] if "__init__" in vars(value) else []
            found += [
                (f"{name}.{key}", getattr(one, "__func__", one))
                for key, one in vars(value).items()
                if not key.startswith("_") and inspect.isfunction(getattr(one, "__func__", one))
            ]
        for place, function in found:
            for key, parameter in inspect.signature(function).parameters.items():
                if TAKEN.search(CONDITION.sub("", str(parameter.annotation))):
                    yield f"{room}.{place}.{key}"


def module_names(module: Any) -> list[str]:
    """A package's __all__, or what a module defines itself."""
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return list(getattr(module, "__all__", [n for n in own if not n.startswith("_")]))


@pytest.mark.parametrize("room", ROOMS)
def test_every_plain_argument_is_tested(room: str) -> None:
    exempt = tuple(name for names in EXEMPT.values() for name in names.split())
    covered = {place.split(",")[0] for place in ARGUMENTS}
    missing = [
        place
        for place in plain_arguments(room)
        if place not in covered and not f"{place}.".startswith(tuple(f"{name}." for name in exempt))
    ]
    assert not missing, f"add an Argument for each of {missing}"
