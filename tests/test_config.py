"""Settings: ranges, explicit zeros, resolution from facts about the data, and resuming old runs."""

import json
import subprocess
import sys
import typing
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from scorefield import networks
from scorefield.config import (
    PRESETS,
    Config,
    DataFacts,
    OptimConfig,
    Request,
    Setting,
    differences,
    json_schema,
    override,
    parse_count,
    parse_seconds,
    preset,
    resolve,
    resolve_with_reasons,
    settings,
)
from scorefield.errors import InputError
from scorefield.networks.unet import SCALES, costs
from scorefield.training.build import load_data

IMAGES = DataFacts((1, 28, 28), 5000, image=True, quantisation_levels=256, classes=10)
VECTORS = DataFacts((2,), 50_000)
ROWS = {row.name: row for row in settings()}


def set_to(*assignments: str, name: str = "fast") -> Request:
    return override(preset(name), assignments)


# -- ranges


def out_of_range(row: Setting) -> list[str]:
    """Texts that are no value of the setting: of another type, and just outside each bound."""
    wrong = {
        "choice": ["nonsense"],
        "whole number": ["1.5", "x"],
        "number": ["x", "nan", "inf"],
        "true or false": ["maybe"],
        "numbers with commas": ["a,b", ""],
        "names with commas": [""],
        "mapping": ["3"],
        "text": [""],
    }[row.kind]
    for part in row.accepts.split(", "):
        if part.startswith(("above", "below")):
            wrong.append(part.split()[1])
        if part.startswith("at least"):
            wrong.append(f"{float(part.split()[2]) - 1:g}")
        if part.endswith("value") or part.endswith("values"):
            wrong.append(",".join(["1"] * (int(part.split()[-2]) + 1)))
        if part.endswith("character") or part.endswith("characters"):
            wrong.append("x" * (int(part.split()[-2]) + 1))
    return wrong


CASES = [(row.name, text) for row in ROWS.values() for text in out_of_range(row)]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_a_value_out_of_range_is_an_input_error_that_names_the_setting(name, text):
    with pytest.raises(InputError) as error:
        set_to(f"{name}={text}")
    assert name in str(error.value)
    assert text.split(",")[0] in str(error.value)


def test_every_bound_of_the_table_has_a_case():
    """A negative control of the test above: it must have found the bounds."""
    bounds = [name for name, row in ROWS.items() if "above" in row.accepts or "at l" in row.accepts]
    assert len(bounds) > 25
    assert ("optim.beta1", "1") in CASES
    assert ("data.held_out", "0.5") in CASES
    assert ("execution.threads", "0") in CASES


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["noise.sigma_min=100", "noise.sigma_max=5"], ["100 and 5"]),
        (["noise.sigma_min=100"], ["100 and 80"]),
    ],
)
def test_a_range_of_noise_levels_needs_its_ends_in_order(given, words):
    with pytest.raises(InputError) as error:
        resolve(override(preset("fast"), given), VECTORS)
    assert all(word in str(error.value) for word in ["noise.sigma_min", "noise.sigma_max", *words])


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("optim.beta1=2", ["optim.beta1", "below 1", "2"]),
        ("ema.profiles=0.3", ["ema.profiles", "(0, 0.28)", "0.3"]),
        ("ema.profiles=0", ["ema.profiles", "(0, 0.28)"]),
        ("sampling.sampler=huen", ["sampling.sampler", "did you mean 'heun'"]),
        ("optim.lrr=1", ["optim.lrr", "did you mean 'lr'"]),
        ("sampling=heun", ["sampling is a group", "sampler"]),
        ("optim.lr.x=1", ["optim.lr has no parts"]),
        ("optim.lr", ["NAME=VALUE"]),
        ("execution.device=tpu9", ["execution.device", "cuda:1", "tpu9"]),
        ("data.units=standardize", ["did you mean 'standardise'"]),
    ],
)
def test_messages_say_what_is_needed(assignment, words):
    with pytest.raises(InputError) as error:
        set_to(assignment)
    for word in words:
        assert word in str(error.value)


def test_a_group_built_directly_raises_input_errors_too():
    with pytest.raises(InputError, match=r"optim\.lr must be above 0"):
        OptimConfig(name="adam", batch=1, decay="constant", lr=-1.0)
    with pytest.raises(InputError, match=r"optim\.batch must be at least 1"):
        Request(optim={"batch": 0})
    with pytest.raises(ValidationError):
        preset("fast").seed = 3  # type: ignore[misc]


def test_all_assignments_are_applied_before_they_are_checked_together():
    request = set_to("noise.sigma_min=100", "noise.sigma_max=200")
    assert (request.noise.sigma_min, request.noise.sigma_max) == (100, 200)


# -- explicit values are obeyed


@pytest.mark.parametrize(
    "name", ["optim.warmup", "optim.clip", "optim.weight_decay", "optim.beta1", "ema.snapshots"]
)
def test_an_explicit_zero_is_obeyed(name):
    group, field = name.split(".")
    assert getattr(getattr(resolve(set_to(f"{name}=0"), IMAGES), group), field) == 0


def test_nfe_alone_keeps_the_sampler_of_images():
    """B4 (a): the rest of the default recipe was dropped when one of its settings was given."""
    sampling = resolve(set_to("sampling.nfe=50"), IMAGES).sampling
    assert (sampling.sampler, sampling.nfe, sampling.options) == ("matched-sde", 50, {"eta": 3.0})


def test_eta_zero_stays_zero():
    """B4 (b): a zero was read as unset, and the flow was sampled as an SDE."""
    for name in ([], ["sampling.sampler=matched-sde"]):
        sampling = resolve(set_to("sampling.options.eta=0", *name), IMAGES).sampling
        assert sampling.sampler == "matched-sde"
        assert sampling.options == {"eta": 0}
        assert Config.from_dict(resolve(set_to(*name), IMAGES).to_dict()).sampling.options["eta"]


def test_another_sampler_gets_none_of_the_recipe():
    sampling = resolve(set_to("sampling.sampler=heun"), IMAGES).sampling
    assert (sampling.sampler, sampling.nfe, sampling.options) == ("heun", None, {})


def test_none_leaves_a_setting_to_be_chosen():
    assert set_to("noise.levels=none", name="ncsn").noise.levels is None
    assert resolve(set_to("optim.batch=7", "optim.batch=none"), VECTORS).optim.batch == 1024
    assert set_to("condition.kind=none", "data.units=none").data.units == "none"
    assert set_to("data.columns=a,b", "data.columns=null").data.columns is None


def accepted(name: str) -> Any:
    """The value "none" of a setting, alone or as a list, where the setting's type has it."""
    for value in ("none", ("none",)):
        nested: Any = value
        for part in reversed(name.split(".")):
            nested = {part: nested}
        try:
            Request.from_dict(nested)
        except InputError:
            continue
        return value
    return None


def nullable(name: str) -> bool:
    """Whether a setting can be left open."""
    *groups, last = name.split(".")
    kind: Any = Request
    for group in groups:
        kind = type(getattr(kind(), group))
    return type(None) in typing.get_args(kind.model_fields[last].annotation)


@pytest.mark.parametrize("name", ROWS)
def test_none_is_a_value_wherever_there_is_one(name):
    """And leaves a setting open only where it is no value."""
    if name == "preset":
        return  # a name that is looked up
    value = None if name == "execution.device" else accepted(name)  # there is no such device
    if value is None and not nullable(name):
        with pytest.raises(InputError, match=name):
            set_to(f"{name}=none")
        return
    request: Any = set_to(f"{name}=none")
    for part in name.split("."):
        request = getattr(request, part)
    assert request == value


@pytest.mark.parametrize(
    "given", [["data.discrete=none"], {"data.discrete": "none"}, {"data": {"discrete": "none"}}]
)
def test_no_column_of_few_values_is_taken_as_such_where_none_is_given(tmp_path, given):
    rows = "\n".join(f"{k / 7:.6f},{(1, 2, 5, 10)[k % 4]}" for k in range(100))
    (tmp_path / "t.csv").write_text(f"x,dose\n{rows}\n")
    request = override(set_to(f"data.source={tmp_path / 't.csv'}"), given)
    assert [c.kind for c in load_data(request).form.columns] == ["continuous", "integer"]
    request = override(request, {"data.discrete": None})  # the reader decides
    assert [c.kind for c in load_data(request).form.columns] == ["continuous", "discrete"]


@pytest.mark.parametrize(
    "text", ["noise.mean=-1", "objective.slices=3", "ema.warmup=0.2", "condition.dropout=0.5"]
)
def test_a_setting_without_effect_is_refused(text):
    also = ["noise.sigma_distribution=loguniform"] if text.startswith("noise") else []
    with pytest.raises(InputError, match="has an effect only with"):
        resolve(set_to(text, *also), IMAGES)


# -- sizes


def picture(*shape: int, count: int = 5000, **more: Any) -> DataFacts:
    """Facts of images whose U-Net costs are known."""
    return DataFacts(shape, count, image=True, unet_costs=costs(shape), **more)


def test_five_minutes_of_mnist_keep_the_full_network():
    """And a minute of them too: there is room for 26,000 images on two cores."""
    for budget in ("seconds=300", "seconds=60", "images=100"):
        assert resolve(set_to(budget), picture(1, 28, 28)).network.options == {}


def test_short_budgets_get_a_narrower_unet_with_a_reason():
    """200 pictures of 48 x 48 in 60 s: 8,200 images in the full width, 28,000 in the half."""
    facts = picture(1, 48, 48, count=200)
    found = resolve_with_reasons(set_to("seconds=60"), facts)
    assert found.config.network.options == {"scale": 0.5}
    assert found.reasons["network.options.scale"] == (
        "60 s have room for about 28,000 images on two cores, and for 14,000 at scale 0.75."
    )
    assert resolve(set_to("seconds=105"), facts).network.options == {"scale": 0.75}
    assert resolve(set_to("seconds=150"), facts).network.options == {}
    assert resolve(set_to("seconds=1"), facts).network.options == {"scale": 0.25}
    network = networks.build("unet", (1, 48, 48), scale=0.5)
    full = networks.build("unet", (1, 48, 48))
    sizes = [sum(p.numel() for p in n.parameters()) for n in (network, full)]
    assert sizes[0] < sizes[1] / 3
    assert networks.options(network)["widths"] == [32, 64, 96]


@pytest.mark.parametrize(
    "texts",
    [
        ["images=1000"],
        ["network.options.widths=[8,16]"],
        ["network.options.scale=1"],
        ["execution.device=cuda"],
        ["network.name=refinenet"],
    ],
)
def test_budgets_of_images_and_own_sizes_keep_the_width(texts):
    seconds = [] if texts[0].startswith("images") else ["seconds=1"]
    found = resolve_with_reasons(set_to(*seconds, *texts), picture(1, 48, 48))
    assert "network.options.scale" not in found.reasons


def test_accelerators_keep_the_width():
    assert resolve(set_to("seconds=9"), picture(1, 48, 48, accelerator=True)).network.options == {}
    asked = set_to("seconds=9", "execution.device=cpu")
    assert resolve(asked, picture(1, 48, 48, accelerator=True)).network.options == {"scale": 0.25}


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 61, 35), (2, 1000), (1, 9, 10, 11)])
@pytest.mark.parametrize("scale", SCALES)
def test_costs_are_those_that_pytorch_counts(shape, scale):
    """Convolutions counted on the meta device; linear layers of the embedding are left out."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        networks.build("unet", shape, scale=scale)(torch.empty(1, *shape), torch.empty(1))
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert 2 * costs(shape)[scale] == counted


def test_small_tables_get_dropout_with_a_reason():
    """90 s on 398 rows are about 2,500 passes; 60 s on 50,000 rows are 13."""
    small, large = DataFacts((30,), 398), DataFacts((30,), 50_000)
    found = resolve_with_reasons(set_to("seconds=90"), small)
    assert found.config.network.options == {"dropout": 0.3}
    assert found.reasons["network.options.dropout"] == (
        "About 2,500 passes over 358 rows: without dropout they would be memorised."
    )
    assert resolve(set_to("images=900k"), small).network.options == {"dropout": 0.3}
    assert resolve(set_to("images=100k"), small).network.options == {}
    assert resolve(set_to("seconds=60"), large).network.options == {}
    off = resolve_with_reasons(set_to("seconds=90", "network.options.dropout=0"), small)
    assert off.config.network.options == {"dropout": 0}
    assert "network.options.dropout" not in off.reasons
    width = resolve(set_to("seconds=90", "network.options.width=64"), small).network.options
    assert width == {"width": 64, "dropout": 0.3}
    networks.build("mlp", (30,), **width)


# -- budgets


def test_a_budget_replaces_the_presets():
    assert resolve(preset("ncsn"), IMAGES).images == 25_600_000
    timed = resolve(set_to("seconds=5m", name="ncsn"), IMAGES)
    assert (timed.images, timed.seconds) == (None, 300.0)
    counted = resolve(set_to("images=250k"), IMAGES)
    assert (counted.images, counted.seconds) == (250_000, None)
    with pytest.raises(InputError, match="Give one of them"):
        set_to("images=250k", "seconds=60")


@given(st.integers(0, 10**9))
def test_counts_with_suffixes(number):
    assert parse_count(f"{number}k") == 1000 * number
    assert parse_count(f"{number}M") == parse_count(f"{number}m") == 10**6 * number
    assert parse_count(str(number)) == number
    assert parse_count(f"{number / 4}M") == 250_000 * number


@given(st.floats(1e-3, 1e6))
def test_durations_with_suffixes(number):
    assert parse_seconds(f"{number!r}m") == pytest.approx(60 * number)
    assert parse_seconds(f"{number!r}h") == pytest.approx(3600 * number)
    assert parse_seconds(f"{number!r}s") == parse_seconds(f"{number!r}") == number


@pytest.mark.parametrize("text", ["", "k", "1.5", "1e3", "0.0001k", "infk", "-", "5 min"])
def test_counts_refuse_other_texts(text):
    with pytest.raises(InputError, match="whole number"):
        parse_count(text)


@pytest.mark.parametrize("text", ["", "m", "5d", "0", "-5s", "inf", "nanm", "five"])
def test_durations_refuse_other_texts(text):
    with pytest.raises(InputError):
        parse_seconds(text)


# -- resolution


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_resolves_for_images_and_survives_json(name):
    config = resolve(preset(name), IMAGES)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert resolve(config, IMAGES) == config
    assert differences(json.loads(json.dumps(config.to_dict())), config) == []


def test_vectors_and_images_get_their_own_defaults():
    images, vectors = resolve(preset("fast"), IMAGES), resolve(preset("fast"), VECTORS)
    for config, expected in (
        (images, ("unet", "muon", 64, "linear", -0.2, 1.0, "matched-sde")),
        (vectors, ("mlp", "adamw", 1024, "cosine", -1.2, 1.2, "unipc")),
    ):
        noise, optim = config.noise, config.optim
        got = (config.network.name, optim.name, optim.batch, optim.decay, noise.mean, noise.std)
        assert (*got, config.sampling.sampler) == expected
    assert images.seconds == 300


def test_the_ncsn_presets_hold_the_papers_constants():
    first, second = resolve(preset("ncsn"), IMAGES), resolve(preset("ncsnv2"), IMAGES)
    noise = first.noise
    assert (noise.levels, noise.sigma_max, noise.sigma_min) == (10, 1.0, 0.01)
    assert first.network.options == {"variant": "ncsn", "levels": 10}
    assert first.sampling.options == {"epsilon": 2e-5}
    assert (first.sampling.steps_per_level, first.sampling.final) == (100, "none")
    assert (second.noise.levels, second.sampling.steps_per_level) == (232, 5)
    assert second.sampling.options == {"epsilon": 6.2e-6}
    assert second.optim.clip == 0


def test_one_of_mean_and_std_alone_takes_the_others_default():
    noise = resolve(set_to("noise.mean=0"), VECTORS).noise
    assert (noise.mean, noise.std) == (0.0, 1.2)
    noise = resolve(set_to("noise.std=0.5"), IMAGES).noise
    assert (noise.mean, noise.std) == (-0.2, 0.5)


@pytest.mark.parametrize(
    ("assignments", "facts", "words"),
    [
        (
            ["noise.preconditioner=ncsn", "noise.sigma_distribution=lognormal"],
            IMAGES,
            "ncsn preconditioner works at fixed noise levels only",
        ),
        (["noise.preconditioner=ncsn"], IMAGES, "needs noise.levels"),
        (["noise.sigma_distribution=levels"], IMAGES, "needs noise.levels"),
        (["condition.kind=class"], VECTORS, "no"),
        (["network.name=custom"], IMAGES, "passed from Python"),
        (["data.flip=true"], VECTORS, "data.flip mirrors images"),
        (["optim.name=adam", "optim.weight_decay=0.1"], IMAGES, "adamw"),
        (["optim.accumulate=65"], IMAGES, "optim.accumulate must be at most optim.batch"),
    ],
)
def test_contradictions_are_refused(assignments, facts, words):
    with pytest.raises(InputError, match=words):
        resolve(set_to(*assignments), facts)


def test_a_network_of_the_users_own():
    facts = DataFacts((1, 8, 8), 100, image=True, custom_network=True)
    config = resolve(preset("fast"), facts)
    assert (config.network.name, config.optim.name) == ("custom", "adamw")
    with pytest.raises(InputError, match="a network of your own"):
        resolve(set_to("network.name=unet"), facts)
    with pytest.raises(InputError, match="a network of your own"):
        resolve(set_to("network.options.width=3"), facts)


def test_every_choice_has_a_reason():
    for facts in (IMAGES, VECTORS):
        found = resolve_with_reasons(preset("fast"), facts)
        chosen = {
            name
            for name, row in ROWS.items()
            if (" for " in row.default or "else" in row.default)
            and not name.startswith("execution.")  # chosen by measurement, in execution.choose
            and not name.startswith("data.")  # chosen by the reader, whose report has the reasons
        }
        assert chosen <= found.reasons.keys()
        assert all(reason.endswith(".") for reason in found.reasons.values())
        given_batch = resolve_with_reasons(set_to("optim.batch=3"), facts)
        assert "optim.batch" not in given_batch.reasons


# -- resuming


OTHERS = {
    "seed": "1",
    "data.units": "unit",
    "noise.sigma_max": "70",
    "objective.weight": "fisher",
    "optim.lr": "1e-3",
    "optim.clip": "0",
    "ema.profiles": "0.05",
    "network.options.depths": "[1,1]",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_setting_that_decides_the_weights_is_compared(name):
    stored = resolve(preset("fast"), IMAGES).to_dict()
    found = differences(stored, resolve(set_to(f"{name}={OTHERS[name]}"), IMAGES))
    assert len(found) == 1
    assert found[0].startswith(name.removesuffix(".depths") + " is ")


@pytest.mark.parametrize(
    "assignment",
    [
        "seconds=10",
        "data.source=ring",
        "execution.precision=float32",
        "sampling.sampler=heun",
        "sampling.nfe=9",
        "guard.action=skip",
        "execution.threads=1",
        "execution.device=cpu",
        "execution.compile=off",
        "ema.snapshots=0",
    ],
)
def test_a_setting_that_leaves_the_weights_alone_does_not_stop_a_resume(assignment):
    stored = resolve(preset("fast"), IMAGES).to_dict()
    assert differences(stored, resolve(set_to(assignment), IMAGES)) == []


def test_a_run_of_an_older_version_resumes():
    """B14: a config.json without a newer setting was refused."""
    config = resolve(preset("fast"), IMAGES)
    stored = config.to_dict()
    del stored["condition"], stored["data"]["flip"], stored["objective"]["control_variate"]
    assert differences(stored, config) == []
    changed = resolve(set_to("data.flip=true"), IMAGES)
    assert differences(stored, changed) == ["data.flip is False in the run, True now"]
    newer = config.to_dict()
    newer["optim"]["lookahead"] = 3
    assert "optim.lookahead" in differences(newer, config)[0]


# -- one source


def test_every_setting_is_described_once_and_appears_in_the_schema():
    text = json.dumps(json_schema())
    assert len(ROWS) == len(settings())
    for row in ROWS.values():
        assert row.description.endswith("."), row
        assert json.dumps(row.description)[1:-1] in text


def test_the_choices_are_those_of_the_registries():
    from scorefield.data.fitting import KINDS
    from scorefield.models import FORMS
    from scorefield.models.preconditioned import PRECONDITIONERS
    from scorefield.networks import NETWORKS
    from scorefield.objectives import OBJECTIVES, PROBES, WEIGHTS
    from scorefield.sampling import SAMPLERS
    from scorefield.training.optimisers import OPTIMISERS

    for name, registry in {
        "network.name": {*NETWORKS, "custom"},
        "noise.preconditioner": PRECONDITIONERS,
        "objective.name": OBJECTIVES,
        "objective.weight": WEIGHTS,
        "objective.probe": PROBES,
        "objective.energy": FORMS.keys() - {"score"},
        "optim.name": OPTIMISERS,
        "sampling.sampler": SAMPLERS,
        "data.units": KINDS,
    }.items():
        assert set(ROWS[name].accepts.split(", ")) == set(registry), name


def test_importing_the_settings_loads_no_torch():
    code = "import sys, scorefield.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- any request


def _values(row: Setting) -> st.SearchStrategy[str]:
    """Valid texts of a setting."""
    if row.kind == "choice":
        return st.sampled_from(row.accepts.split(", "))
    if row.kind == "true or false":
        return st.sampled_from(["true", "false"])
    if row.kind == "whole number":
        return st.integers(2, 10**6).map(str)
    if row.kind == "number":
        return st.floats(0.003, 0.49).map(repr)
    if row.kind == "text" and "character" in row.accepts:
        return st.sampled_from([";", "|", "'"])
    two = {"min_size": 2, "max_size": 2}
    size = two if row.accepts == "2 values" else {"min_size": 1, "max_size": 3}
    return {
        "text": st.sampled_from(["digits", "cuda", "runs"]),
        "numbers with commas": st.lists(st.floats(0.01, 0.27), **size).map(
            lambda values: ",".join(map(repr, values))
        ),
        "names with commas": st.sampled_from(["age", "age,height", "-row", '"a,b",c']),
        "mapping": st.just('{"width": 8, "eta": 0}'),
    }[row.kind]


@given(
    st.lists(
        st.sampled_from(list(ROWS.values())).flatmap(
            lambda row: st.tuples(st.just(row.name), _values(row))
        ),
        max_size=6,
        unique_by=lambda pair: pair[0],
    ),
    st.sampled_from([IMAGES, VECTORS]),
)
def test_a_request_resolves_or_is_refused_in_words(pairs, facts):
    """Whatever is asked for: an InputError, or a whole configuration that keeps it."""
    try:
        request = set_to(*(f"{name}={value}" for name, value in pairs))
        assert Request.from_dict(json.loads(json.dumps(request.to_dict(explicit=True)))) == request
        config = resolve(request, facts)
    except InputError:
        return
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    kept = config.to_dict()
    for name, value in request.to_dict(explicit=True).items():
        for key, inner in (value if isinstance(value, dict) else {"": value}).items():
            if isinstance(inner, dict):
                assert inner.items() <= kept[name][key].items()
            elif inner is not None:
                assert inner == (kept[name][key] if key else kept[name])
