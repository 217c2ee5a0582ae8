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


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written to a folder of the test."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("place", ARGUMENTS)
def test_every_form_gives_the_result_of_the_plain_value(place: str) -> None:
    argument = ARGUMENTS[place]
    forms = KINDS[argument.kind][0]
    plain = content(argument.call(argument.value))
    problems = {}
    for form, value in forms(argument.value).items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # such as PyTorch's about read-only arrays
                same = content(argument.call(value)) == plain
        except Exception as error:
            problems[form] = repr(error)
        else:
            if not same:
                problems[form] = "another result"
    assert not problems


@pytest.mark.parametrize("place", ARGUMENTS)
def test_a_wrong_kind_is_refused_with_the_name_of_the_argument(place: str) -> None:
    argument = ARGUMENTS[place]
    name = argument.named or place.split(",")[0].split(".")[-1]
    problems = {}
    for wrong, value in KINDS[argument.kind][1].items():
        if wrong in argument.allowed:
            continue
        try:
            argument.call(value)
        except (InputError, NonFiniteError) as error:
            if name not in str(error):
                problems[wrong] = f"{name} is not in: {error}"
        except Exception as error:
            problems[wrong] = repr(error)
        else:
            problems[wrong] = "accepted"
    assert not problems


# ---- every public function's arguments are listed above

ROOMS = [
    *("checkpoint", "conditions", "diagnostics", "evaluation", "exact", "interop", "inverse"),
    "likelihood",
    *("models", "networks", "noise", "objectives", "rng", "sampling", "units"),
]
EXEMPT = {
    "results and events, which only this package makes": "sampling.Record sampling.Samples "
    "sampling.Prediction sampling.PredictedRecipe sampling.tuned_kernel checkpoint.replace_card "
    "sampling.Result sampling.StepEvent sampling.History inverse.Restoration inverse.Prepared "
    "inverse.RestorationRecord inverse.RestorationPlan inverse.Method likelihood.LogProb "
    "likelihood.BitsPerDim likelihood.Density likelihood.SmoothedDensity diagnostics.Level "
    "diagnostics.Report diagnostics.Health diagnostics.HealthRow diagnostics.Finding "
    "interop.Imported models.Cost "
    "models.Prior objectives.Estimate evaluation.ClassRow evaluation.Classifier "
    "evaluation.Comparison evaluation.EMASweep evaluation.Estimate evaluation.Evaluation "
    "evaluation.Fault evaluation.Given evaluation.GivenFeatures evaluation.Memorisation "
    "evaluation.Metric evaluation.MetricRow evaluation.Spectrum evaluation.Table "
    "evaluation.Verdict",
    "whole evaluations, whose own tests have them": "evaluation.compare "
    "evaluation.compare_classes evaluation.ema_sweep evaluation.evaluate "
    "evaluation.measure_memorisation evaluation.read_evaluation",
    "called by this package alone, with its own values": "sampling.Draws sampling.Multistep "
    "sampling.DPMSolver2MSDE.fraction sampling.State.replace noise.stratified "
    "models.Preconditioner models.Coefficients models.Restricted models.ScoreModel.check "
    "networks.check_options networks.option_names networks.builder checkpoint.make_card "
    "checkpoint.card_hash checkpoint.read_card checkpoint.save_state.state rng.philox "
    "inverse.Measurement.batch inverse.Measurement.read inverse.Measurement.to_model_units "
    "inverse.Measurement.resolve inverse.Measurement.whole inverse.Operator inverse.Problem "
    "inverse.Measurement.problem inverse.Measurement.data_problem inverse.Measurement.kept "
    "inverse.Measurement.linear_gaussian inverse.choose_method "
    "inverse.GaussianNoise.check_shape inverse.GaussianNoise.matrix "
    "inverse.GaussianNoise.matrix_diagonal "
    "conditions.concatenate conditions.check conditions.expand conditions.ConditionSpec.from_dict "
    "conditions.ConditionSpec.name_of "
    "conditions.null.specs conditions.resolve.specs conditions.standardise.specs "
    "exact.HasLinearGaussian conditions.resolve.model units.quantise units.Units.ranks "
    "units.dequantise units.Quantisation.dequantise units.Units.from_dict",
    "networks of other libraries, which the tests of interop have": "interop.Adapted "
    "interop.from_azula interop.from_diffusers interop.import_checkpoint",
    "sigma of `ScoreModel.score`, by the same check": "models.ScoreModel.denoise "
    "models.ScoreModel.forward models.ScoreModel.log_density models.Energy.energy "
    "models.jacobian models.as_sigma exact.GaussianMixture.log_prob "
    "exact.TruncatedNormal.log_prob "
    "exact.Empirical.log_prob",
    "fields of `Objective`, `Sliced` and `Denoising`": "objectives.Exact.weight "
    "objectives.Exact.sigma_data objectives.Implicit objectives.Sliced.weight "
    "objectives.Sliced.sigma_data objectives.SlicedVR objectives.Denoising.weight "
    "objectives.Denoising.sigma_data objectives.EnergyDenoising objectives.Objective.weight",
    "step, shape and draw of `rng.normal`": "rng.uniform rng.rademacher",
    "conditions of `Preconditioned`": "networks.build.conditions interop.from_flow.conditions "
    "interop.from_vp.conditions",
}
CONDITION = re.compile(r"Mapping\[str, (torch\.)?Tensor\]")  # the internal form
TAKEN = re.compile(
    r"\b(int|float|bool|str|Sequence|Iterable|Mapping|Path|PathLike|dict|list|tuple)\b"
)


def plain_arguments(room: str) -> Iterator[str]:
    """room.function.argument of every argument that takes numbers, sequences, mappings, paths.

    Methods that a base class of the package has are left out, and so are functions and devices.
    """
    module = importlib.import_module(f"scorefield.{room}")
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    for name in getattr(module, "__all__", [n for n in own if not n.startswith("_")]):
        value = getattr(module, name)
        found = [(name, value)] if inspect.isfunction(value) else []
        if inspect.isclass(value) and not issubclass(value, Exception | enum.Enum):
            bases = [base for base in value.__mro__[1:] if base.__module__.startswith("scorefield")]
            found = [(name, value)] if "__init__" in vars(value) else []
            found += [
                (f"{name}.{key}", getattr(one, "__func__", one))
                for key, one in vars(value).items()
                if not key.startswith("_")
                and inspect.isfunction(getattr(one, "__func__", one))
                and not any(key in vars(base) for base in bases)
            ]
        for place, function in found:
            for key, parameter in inspect.signature(function).parameters.items():
                annotation = CONDITION.sub("", str(parameter.annotation))
                if TAKEN.search(annotation) and "Callable" not in annotation and key != "device":
                    yield f"{room}.{place}.{key}"


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
