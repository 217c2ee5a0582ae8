"""What arguments of a plausible but wrong kind used to do without a word, and now refuse.

`test_arguments` goes through all arguments; here are the traps that need more than one of them.
"""

import json
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield import rng, sampling
from scorefield.conditions import resolve
from scorefield.config import OptimRequest, Request, SamplingRequest, override, preset
from scorefield.errors import InputError
from scorefield.exact import Box, Empirical, GaussianMixture
from scorefield.inverse import Measurement
from scorefield.inverse.operators import Mask
from scorefield.models import Bound, Preconditioned, ScoreModel
from scorefield.networks import build
from scorefield.units import Quantisation, Units

MODEL = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.5, labels=[0, 1])
X = torch.tensor([[0.5, 1.0], [-1.0, 0.25]])


def network(event_shape: tuple[int, ...] = (2,)) -> torch.nn.Module:
    torch.manual_seed(0)
    return build("mlp", event_shape, width=8, depth=1, embedding=4)


MODELS = {
    "mixture": MODEL,
    "box": Box([0.0, 0.0], [1.0, 2.0]),
    "empirical": Empirical(X),
    "network": Preconditioned(network(), (2,)),
    "bound": Bound(MODEL, {"class": torch.tensor([1])}),
}


# ---- x of another type


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "x",
    [X.to(torch.complex64), X.long(), X > 0, X.numpy(), X.tolist()],
    ids=["complex", "whole numbers", "flags", "array", "list"],
)
def test_a_model_evaluates_floating_tensors_only(model: ScoreModel, x: Any) -> None:
    """Complex x lost its imaginary part, and whole numbers gave a score cut to whole numbers."""
    density = [model.log_density] if model.has_log_density else []
    for method in (model.denoise, model.score, *density):
        with pytest.raises(InputError, match="x must be a floating tensor"):
            method(x, 1.0)


@pytest.mark.parametrize("convert", ["to_model", "to_data", "log_det"])
@pytest.mark.parametrize("x", [X.to(torch.complex64), X.long(), X.numpy()])
def test_units_convert_floating_tensors_only(convert: str, x: Any) -> None:
    with pytest.raises(InputError, match="x must be a floating tensor"):
        getattr(Units.affine(0.0, 2.0), convert)(x)


@pytest.mark.parametrize("sigma", [float("inf"), float("nan"), torch.tensor([1.0, torch.inf])])
def test_a_noise_level_is_finite(sigma: Any) -> None:
    """The range of closed forms has no upper end; infinity gave NaN."""
    with pytest.raises(InputError, match="sigma must lie in"):
        MODEL.score(X, sigma)


def test_whole_numbers_are_data_units_where_data_are_not_stored_levels() -> None:
    whole = torch.tensor([[1, 0], [-2, 1]])
    options = sf.likelihood.LikelihoodOptions(rtol=1e-2, atol=1e-2)
    assert torch.equal(
        sf.log_prob(MODEL, whole, options=options).value,
        sf.log_prob(MODEL, whole.double(), options=options).value,
    )
    pictures = Preconditioned(
        network((1, 2, 2)), (1, 2, 2), units=Units.affine(0.5, 0.5, image=True)
    )
    with pytest.raises(InputError, match="x must be floats"):
        sf.log_prob(pictures, torch.ones(1, 1, 2, 2, dtype=torch.int64))


# ---- observations of another range than the model's pictures


def pictures(levels: int | None) -> ScoreModel:
    """A model of pictures (1, 2, 2): of whole numbers below `levels`, or of floats in [0, 1]."""
    quantisation = None if levels is None else Quantisation(levels)
    units = Units(0.5, 0.5, False, image=True, quantisation=quantisation)
    return Preconditioned(network((1, 2, 2)), (1, 2, 2), units=units)


def measured(levels: int | None, picture: Any, noise_std: float = 0.0) -> torch.Tensor:
    seen = Measurement(picture, Mask(np.ones((1, 2, 2), dtype=bool)), noise_std)
    return seen.read(pictures(levels).units, (1, 2, 2)).values


@pytest.mark.parametrize(
    ("levels", "picture"),
    [
        (256, np.full((1, 2, 2), 60_000, dtype=np.uint16)),
        (256, np.full((1, 2, 2), 256, dtype=np.int64)),
        (256, np.full((1, 2, 2), -1, dtype=np.int16)),
        (4096, np.full((1, 2, 2), 4096, dtype=np.uint16)),
        (65_536, np.full((1, 2, 2), 200, dtype=np.uint8)),
        (None, np.full((1, 2, 2), 60_000, dtype=np.uint16)),
        (None, np.full((1, 2, 2), 1, dtype=np.int64)),
        (None, np.full((1, 2, 2), 200.0)),
        (256, np.full((1, 2, 2), 200.0)),
        (None, np.full((1, 2, 2), -0.5, dtype=np.float32)),
        (None, torch.full((1, 2, 2), 1.5, dtype=torch.float16)),
    ],
)
def test_values_outside_the_range_of_a_model_of_pictures_are_refused(
    levels: int | None, picture: Any
) -> None:
    """A 16-bit picture was taken in data units: draws came out at 26,714."""
    with pytest.raises(InputError, match="the observation"):
        measured(levels, picture)


@pytest.mark.parametrize("picture", [np.full((1, 2, 2), 200.0), np.full((1, 2, 2), -3.0)])
def test_noise_does_not_excuse_values_far_outside(picture: Any) -> None:
    with pytest.raises(InputError, match="the observation"):
        measured(None, picture, noise_std=0.1)


def test_values_within_the_range_enter_as_they_should() -> None:
    stored = np.array([[[0, 100], [200, 255]]], dtype=np.uint8)
    middle = (torch.from_numpy(stored).double() + 0.5) / 256
    for picture in (stored, stored.astype(np.int64), torch.from_numpy(stored)):
        assert torch.allclose(measured(256, picture)[0], middle, atol=1e-7)
    assert torch.equal(measured(None, stored / 255)[0], torch.from_numpy(stored / 255))
    noisy = np.array([[[-0.2, 0.5], [1.25, 1.0]]])
    assert torch.equal(measured(None, noisy, noise_std=0.1)[0], torch.from_numpy(noisy))


# ---- iterators that are read more than once


def test_callbacks_from_a_generator_are_called_after_every_step() -> None:
    """A generator was empty after the first step, so later steps called nothing."""
    seen: list[int] = []

    def each() -> Iterator[Callable[[Any], None]]:
        yield lambda event: seen.append(event.step)

    recipe = sampling.resolve_sampling(MODEL, "euler", ladder=[4.0, 2.0, 1.0])
    sampling.draw(MODEL, recipe, rng.keys(0, 2), batch=1, callbacks=each())
    assert seen == [1, 2, 1, 2]
    seen.clear()
    observed = Measurement([[0.5, 0.0], [1.0, 0.0]], Mask([True, False]))
    sf.restore(
        MODEL,
        observed,
        draws=1,
        method="inpainting",
        options={"ladder": (s for s in (2.0, 1.0)), "steps_per_level": 1, "batch": 1},
        callbacks=each(),
    )
    assert seen == [1, 2, 1, 2]


@pytest.mark.parametrize("callbacks", [print, [3], "print", None])
def test_callbacks_are_a_sequence_of_functions(callbacks: Any) -> None:
    recipe = sampling.resolve_sampling(MODEL, "euler", ladder=[4.0, 2.0, 1.0])
    with pytest.raises(InputError, match="callbacks must be a list of functions"):
        sampling.draw(MODEL, recipe, rng.keys(0, 2), callbacks=callbacks)


# ---- objects of another kind

SEEN = Measurement([0.5, 0.0], Mask([True, False]))


@pytest.mark.parametrize("model", ["runs/mine", None, {}, network(), GaussianMixture])
@pytest.mark.parametrize(
    "function",
    [
        lambda model: sf.sample(model, 2),
        lambda model: sf.resolve_sampling(model),
        lambda model: sf.log_prob(model, X),
        lambda model: sf.restore(model, SEEN),
        lambda model: sf.diagnostics.langevin_report(model),
        lambda model: sf.objectives.mean_loss(sf.objectives.Denoising(), model, X, 1.0),
    ],
)
def test_a_model_is_no_path(function: Callable[[Any], Any], model: Any) -> None:
    with pytest.raises(InputError, match=r"model must be a score model, such as sf\.load"):
        function(model)


@pytest.mark.parametrize("operator", [np.ones(2), lambda x: x, "mask", Mask])
def test_an_operator_is_an_operator(operator: Any) -> None:
    with pytest.raises(InputError, match="operator must be an Operator"):
        Measurement([0.5, 0.0], operator)


def test_a_measurement_is_a_measurement() -> None:
    with pytest.raises(InputError, match="measurement must be"):
        sf.restore(MODEL, np.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"network": torch.nn.Linear}, "an object and not its class"),
        ({"network": lambda x: x}, "network must be an nn.Module"),
        ({"hooks": print}, "hooks must be Hooks"),
        ({"run": "runs/x", "images": "many"}, "images must be a whole number"),
        ({"settings": {"optim": {"lr": "fast"}}}, "optim.lr must be a number"),
        ({"settings": {"optim": 3}}, "optim must be a mapping"),
        ({"settings": {"optim": {"rate": 3}}}, "there is no setting 'optim.rate'"),
    ],
)
def test_fit_refuses_other_objects(given: dict[str, Any], words: str, tmp_path: Any) -> None:
    with pytest.raises(InputError, match=words):
        sf.fit(np.zeros((8, 2)), **{"run": tmp_path / "run", **given})
    assert not (tmp_path / "run").exists()


# ---- settings


def test_nested_settings_leave_the_others_of_a_preset() -> None:
    """A nested group replaced the preset's whole group: Adam became Muon."""
    flat = override(preset("ncsn"), {"optim.lr": 0.5, "noise.levels": 12})
    for nested in (
        {"optim": {"lr": 0.5}, "noise": {"levels": 12}},
        MappingProxyType({"optim": MappingProxyType({"lr": np.float64(0.5)}), "noise.levels": 12}),
        {"optim": OptimRequest(lr=0.5), "noise": {"levels": torch.tensor(12)}},
    ):
        assert override(preset("ncsn"), nested) == flat
    assert flat.optim.name == "adam"


def test_settings_of_other_libraries_are_stored_as_plain_ones() -> None:
    request = Request(
        seed=np.int64(3),
        optim={"lr": np.float32(0.5), "batch": torch.tensor(8), "warmup": 100.0},
        ema={"profiles": np.array([0.125, 0.25])},
        data={"flip": np.bool_(True), "source": "digits"},
        network={"options": MappingProxyType({"widths": iter((8, 16)), "patch": np.int8(2)})},
    )
    stored = json.loads(json.dumps(request.to_dict(explicit=True)))
    assert stored["optim"] == {"lr": 0.5, "batch": 8, "warmup": 100}
    assert stored["ema"] == {"profiles": [0.125, 0.25]}
    assert stored["data"] == {"flip": True, "source": "digits"}
    assert stored["network"] == {"options": {"widths": [8, 16], "patch": 2}}
    assert Request.from_dict(MappingProxyType(stored)) == request


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True)])
@pytest.mark.parametrize(
    ("group", "name"), [("optim", "batch"), ("optim", "lr"), ("ema", "profiles")]
)
def test_true_is_not_the_number_one(group: str, name: str, value: Any) -> None:
    given = [value] if name == "profiles" else value
    with pytest.raises(InputError, match=rf"{group}\.{name}.* must be a"):
        Request.from_dict({group: {name: given}})


def test_a_list_of_pairs_is_no_assignment() -> None:
    with pytest.raises(InputError, match="NAME=VALUE"):
        override(preset("fast"), [("seed", 3)])  # type: ignore[list-item]
    assert override(preset("fast"), (text for text in ("seed=3", "optim.lr=1e-3"))).seed == 3


def test_records_of_other_libraries_numbers_are_json() -> None:
    options = {"eta": np.float32(0.5)}
    _, record = sf.sample(
        MODEL,
        np.int64(2),
        torch.tensor([3, 4]),
        nfe=torch.tensor(5),
        sampler="dpmpp-2m-sde",
        options=options,
        record=True,
    )
    stored = json.loads(json.dumps(record.to_dict()))
    assert (stored["options"], stored["seeds"], stored["count"]) == ({"eta": 0.5}, [3, 4], 2)
    assert SamplingRequest(options=options).options == {"eta": 0.5}


# ---- classes

DIGITS = {"class": sf.ConditionSpec("class", 10)}


@pytest.mark.parametrize(
    "labels",
    [[3, 1, 2], (3, 1, 2), np.array([3, 1, 2], dtype=np.uint8), torch.tensor([3, 1, 2]),
     [np.int64(3), torch.tensor(1), 2.0], iter([3, 1, 2]), np.array([3.0, 1.0, 2.0])],
)  # fmt: skip
def test_classes_come_in_any_sequence(labels: Any) -> None:
    found = resolve({"class": labels}, DIGITS, 3)
    assert found is not None and torch.equal(found["class"], torch.tensor([3, 1, 2]))
    assert resolve({"class": range(3)}, DIGITS, 3)["class"].tolist() == [0, 1, 2]  # type: ignore[index]


@pytest.mark.parametrize(
    "labels", [{1, 2, 3}, {1: 0, 2: 0, 3: 0}, [True, False, True], [1.5, 2, 3], [1 + 0j, 2, 3]]
)
def test_labels_that_are_no_classes_are_refused(labels: Any) -> None:
    with pytest.raises(InputError, match="the condition 'class'"):
        resolve({"class": labels}, DIGITS, 3)


# ---- models of other libraries


class Denoiser(torch.nn.Module):
    """What azula's denoisers have: a schedule, and a posterior with a mean."""

    def schedule(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(t), 0.1 + t

    def forward(self, y: torch.Tensor, t: torch.Tensor) -> Any:
        return torch.distributions.Normal(0.5 * y, 1.0)


@pytest.mark.parametrize("event_shape", [[2], np.array([2]), torch.Size([2]), (2.0,)])
@pytest.mark.parametrize("mapping", [dict, MappingProxyType])
def test_an_adapted_denoiser_takes_any_shape_and_mapping(event_shape: Any, mapping: Any) -> None:
    given = (event_shape, mapping({}), mapping({"class": "label"}))
    model = sf.interop.from_azula(Denoiser(), *given)
    assert model.event_shape == (2,) and type(model.event_shape[0]) is int
    assert torch.allclose(model.denoise(X, 0.5), 0.5 * X)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"path": None}, "path must be a path"),
        ({"path": b"x.pth"}, "path must be a path"),
        ({"out": 3}, "out must be a path"),
        ({"out": ""}, "out must not be empty"),
        ({"family": ["ncsn"]}, "family must be one of ncsn, ncsnv2"),
        ({"sigma_begin": 1 + 0j}, "sigma_begin must be a number"),
        ({"sigma_end": "0.01"}, "sigma_end must be a number"),
        ({"rescaled": 1}, "rescaled must be True or False"),
        ({"logit_transform": "yes"}, "logit_transform must be True or False"),
    ],
)
def test_an_import_refuses_wrong_kinds_before_it_reads(
    given: dict[str, Any], words: str, tmp_path: Any
) -> None:
    with pytest.raises(InputError, match=words):
        sf.import_checkpoint(
            **{"path": "missing.pth", "family": "ncsn", "out": tmp_path / "x", **given}
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("alpha_bar", "words"),
    [
        (np.array([0.9, 0.5], dtype=complex), "alpha_bar must be real numbers"),
        ([0.9, float("nan")], "alpha_bar must be finite"),
        (["a", "b"], "alpha_bar must be numbers"),
        ([0.1, 0.9], "alpha_bar must hold"),
    ],
)
def test_a_table_of_a_schedule_holds_real_numbers(alpha_bar: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        sf.interop.from_vp(lambda y, t: y, alpha_bar, [2])
