"""What a run is: frozen dataclasses with units where the value is typed, and the preset table.
Flags beat the preset; the run keeps the result.
"""

import dataclasses
import difflib
import json
import types
import typing
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class DataConfig:
    """Where the data come from and how they reach model units."""

    source: str = "mnist5k"  # a name, a folder of images, .npy, .npz, .csv, .parquet
    size: int = 0  # pixels; images are resized (shorter side) and centre-cropped; 0 = as they are
    channels: int = 0  # 1 grey, 3 RGB; 0 = as they are
    key: str = ""  # array inside an .npz; empty = found
    held_out: float = 0.1  # fraction kept out of training, stratified by label
    units: str = (
        "standardise"  # standardise (mean 0, standard deviation 0.5), unit ([0, 1]), none, logit
    )
    dequantise: str = (
        "uniform"  # uniform noise of one quantisation step where the data are quantised; none
    )
    flip: bool = False  # random horizontal flips


@dataclass(frozen=True)
class NetworkConfig:
    """Which network; options it leaves open follow from the data's shape."""

    name: str = "auto"  # auto: mlp for vectors and tables, unet for signals, images and volumes
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NoiseConfig:
    """Preconditioner and training law of sigma, in model units."""

    preconditioner: str = "edm"
    law: str = "lognormal"  # lognormal(mean, std), loguniform, levels
    mean: float = 0.0  # of ln sigma, at sigma_data 0.5; goes with std
    # of ln sigma; 0 = by kind: -0.2 and 1.0 for signals, images and volumes, -1.2 and 1.2 (Karras
    # et al. 2022) for vectors
    std: float = 0.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    levels: int = 0  # geometric levels the model is trained on; 0 = continuous
    sigma_data: float = 0.5


@dataclass(frozen=True)
class ObjectiveConfig:
    """The loss and its weight."""

    # denoising, sliced, sliced-vr, exact, or energy: denoising of a model that is the gradient of
    # an energy
    name: str = "denoising"
    # edm, ncsn or fisher; auto: edm for denoising and energy, ncsn for the others (see
    # objectives/base.py)
    weight: str = "auto"
    control_variate: bool = (
        False  # denoising, energy: less variance at small sigma, for twice the work
    )
    slices: int = 1  # sliced, sliced-vr: slices a sample
    probe: str = "rademacher"  # sliced, sliced-vr: rademacher, gaussian or sphere
    # energy: the scalar, square (of x - f) or scalar (the sum of the network's outputs)
    energy: str = "square"


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its schedule, which follows images."""

    name: str = (
        "auto"  # muon for signals, images and volumes, adamw for vectors; or adam, adamw, muon
    )
    batch: int = 0  # images a step; 0 = 64 for signals, images and volumes, 1024 for vectors
    lr: float = 2e-3
    muon_scale: float = 25.0  # muon: the rate of the body's matrices, in units of lr
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    warmup: int = 5_000  # images until the learning rate is whole
    # constant, or cosine or linear: to zero at the end of the image budget; auto: cosine for
    # vectors, else linear
    decay: str = "auto"
    clip: float = 1.0  # largest gradient norm; 0 = no clipping
    accumulate: int = 1  # parts a batch is worked off in, one after the other: less memory


@dataclass(frozen=True)
class EMAConfig:
    """Averages of the weights. The first profile is the model that is saved."""

    # power: relative widths (Karras et al. 2024); halflife: images until a weight counts half
    kind: str = "power"
    profiles: tuple[float, ...] = (0.02, 0.10)
    warmup: float = 0.05  # halflife kind: the halflife is at most this share of the images seen
    # power kind: copies of the averages kept over the run, from which other widths can be rebuilt;
    # 0 = none
    snapshots: int = 8


@dataclass(frozen=True)
class GuardConfig:
    """What happens when a loss or a gradient is not finite; the step is never applied."""

    action: str = "stop"  # stop, or skip
    limit: int = 20  # skipped steps after which a run stops all the same


@dataclass(frozen=True)
class ExecutionConfig:
    """How the arithmetic runs; `auto` is decided in one place and recorded with the run."""

    device: str = "auto"
    precision: str = "auto"  # float32, bfloat16
    compile: str = "auto"  # on, off
    threads: int = 0  # 0 = all cores this process may use


@dataclass(frozen=True)
class SamplingConfig:
    """How the run's model is sampled unless told otherwise; kept in its card. Empty and zero: the
    sampler's own defaults.
    """

    sampler: str = ""
    steps_per_level: int = 0  # T of the article
    epsilon: float = 0.0  # coefficient of the score at the last level, squared model units
    start: str = ""  # terminal or uniform
    final: str = ""  # denoise or none
    nfe: int = 0  # evaluations a sample, the final denoise included
    eta: float = 0.0  # noise of dpmpp-2m-sde and matched-sde in units of the time reversal's


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's weights, and its budget."""

    preset: str = "fast"
    seed: int = 0
    images: int = 0  # budget in images seen; 0 = by time
    seconds: float = 300.0  # budget in wall seconds, compilation included; used where images is 0
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EMAConfig = field(default_factory=EMAConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values that JSON holds."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


# 0.999 a step of 128 images, as NCSNv2 averages (Technique 5), in images until a weight counts
# half.
EMA_OF_NCSN = EMAConfig("halflife", (88_700.0,), warmup=0.05, snapshots=0)

PRESETS: dict[str, Config] = {
    "fast": Config(),
    "mlp": Config(
        preset="mlp",
        network=NetworkConfig("mlp"),
        optim=OptimConfig(batch=1024, lr=2e-3, warmup=50_000),
    ),
    # Song & Ermon 2019 as released: sigma from 1 to 0.01 in 10 levels, lambda = sigma², Adam,
    # 200,000 steps of 128; annealed Langevin from uniform
    # noise, T = 100, epsilon 2e-5 in our convention (the article prints 2 eps), no denoising at the
    # end. The average is NCSNv2's, as the article advises.
    "ncsn": Config(
        preset="ncsn",
        images=25_600_000,
        data=DataConfig(units="unit"),
        network=NetworkConfig("refinenet", {"variant": "ncsn"}),
        noise=NoiseConfig(
            preconditioner="ncsn", law="levels", sigma_min=0.01, sigma_max=1.0, levels=10
        ),
        objective=ObjectiveConfig(weight="ncsn"),
        optim=OptimConfig(
            name="adam", batch=128, lr=1e-3, beta2=0.999, warmup=0, decay="constant", clip=0.0
        ),
        ema=EMA_OF_NCSN,
        sampling=SamplingConfig("annealed-langevin", 100, 2e-5, "uniform", "none"),
    ),
    # Song & Ermon 2020 for CIFAR-10: sigma from 50 to 0.01 in 232 levels, 300,000 steps of 128, T =
    # 5, epsilon 6.2e-6, a last denoising step. Other
    # data want their own noise.sigma_max (Technique 1: the largest pairwise distance) and
    # noise.levels (Technique 2).
    "ncsnv2": Config(
        preset="ncsnv2",
        images=38_400_000,
        data=DataConfig(units="unit", flip=True),
        network=NetworkConfig("refinenet", {"variant": "ncsnv2"}),
        noise=NoiseConfig(
            preconditioner="ncsnv2", law="levels", sigma_min=0.01, sigma_max=50.0, levels=232
        ),
        objective=ObjectiveConfig(weight="ncsn"),
        optim=OptimConfig(
            name="adam", batch=128, lr=1e-4, beta2=0.999, warmup=0, decay="constant", clip=0.0
        ),
        ema=EMA_OF_NCSN,
        sampling=SamplingConfig("annealed-langevin", 5, 6.2e-6, "uniform", "denoise"),
    ),
}


def preset(name: str) -> Config:
    """A preset by name; an InputError with the nearest name where there is none."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        raise InputError(
            f"unknown preset {name!r}{f'; did you mean {near[0]!r}?' if near else ''} Presets: "
            f"{', '.join(PRESETS)}"
        )
    return PRESETS[name]


def override(config: Config, assignments: list[str]) -> Config:
    """`config` with `a.b=value` texts applied in turn, each value read as the field's type;
    InputErrors name the field and its type.
    """
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set takes NAME=VALUE, for example optim.lr=1e-3; got {text!r}")
        config = _assign(config, path.strip().split("."), value.strip(), path.strip())
    return config


def _assign(node: Any, names: list[str], value: str, path: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(node)}
    if names[0] not in fields:
        near = difflib.get_close_matches(names[0], fields, n=1)
        raise InputError(
            f"no setting {path!r}{f'; did you mean {near[0]!r}?' if near else ''} Here: "
            f"{', '.join(fields)}"
        )
    current = getattr(node, names[0])
    if dataclasses.is_dataclass(current):
        if len(names) == 1:
            raise InputError(
                f"{path} is a group of settings; name one: "
                f"{', '.join(f.name for f in dataclasses.fields(current))}"
            )
        return replace(node, **{names[0]: _assign(current, names[1:], value, path)})
    if isinstance(current, dict) and len(names) == 2:
        return replace(node, **{names[0]: {**current, names[1]: _json_or_text(value)}})
    if len(names) > 1:
        raise InputError(f"{names[0]} has no parts; got {path!r}")
    hint = typing.get_type_hints(type(node))[names[0]]
    return replace(node, **{names[0]: _read(value, hint, path)})


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def _read(value: str, hint: Any, path: str) -> Any:
    """`value` as the type `hint`."""
    try:
        if hint is bool:
            return {
                "true": True,
                "1": True,
                "yes": True,
                "on": True,
                "false": False,
                "0": False,
                "no": False,
                "off": False,
            }[value.lower()]
        if hint is int:
            return count(value)
        if hint is float:
            return float(value)
        if typing.get_origin(hint) is tuple:
            return tuple(float(v) for v in value.strip("()[]").split(",") if v.strip())
        if typing.get_origin(hint) is dict or isinstance(hint, types.GenericAlias):
            return dict(json.loads(value))
        return value
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} takes {getattr(hint, '__name__', hint)}; got {value!r}"
        ) from error


def count(text: str) -> int:
    """A whole number with an optional k or M: "250k" is 250,000."""
    factor = {"k": 1_000, "M": 1_000_000, "m": 1_000_000}.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    try:
        return int(digits) if factor == 1 else round(float(digits) * factor)
    except ValueError as error:
        raise InputError(f"need a whole number such as 250000, 250k or 1M; got {text!r}") from error


def seconds(text: str) -> float:
    """A duration: "90", "90s", "5m", "1.5h" -> seconds, above zero."""
    factor = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    try:
        value = float(text[:-1]) * factor if factor else float(text)
    except ValueError as error:
        raise InputError(f"need a duration such as 90s, 5m or 1.5h; got {text!r}") from error
    if not value > 0 or value == float("inf"):
        raise InputError(f"a time budget must be above zero; got {text!r}")
    return value


# A trained network is not exact, and fresh noise forgets what it gets wrong: the reverse SDE beats
# the flow on images (docs/log.md).
REVERSE_SDE = SamplingConfig("matched-sde", nfe=32, eta=3.0)


def settle(config: Config, event_shape: tuple[int, ...]) -> Config:
    """`config` with what it leaves to the data's shape filled in: network, optimiser, batch, law of
    sigma, sampler.
    """
    vectors = len(event_shape) == 1
    network = replace(
        config.network,
        name=("mlp" if vectors else "unet")
        if config.network.name == "auto"
        else config.network.name,
    )
    noise = config.noise
    if noise.std == 0 and noise.mean != 0:
        raise InputError(
            f"noise.mean goes with noise.std: give both; got noise.mean={noise.mean:g} alone"
        )
    if noise.std == 0:
        noise = (
            replace(noise, mean=-1.2, std=1.2) if vectors else replace(noise, mean=-0.2, std=1.0)
        )
    if (
        network.name == "refinenet"
        and config.noise.law == "levels"
        and "levels" not in network.options
    ):
        network = replace(network, options={**network.options, "levels": config.noise.levels})
    name = ("adamw" if vectors else "muon") if config.optim.name == "auto" else config.optim.name
    decay = (
        ("cosine" if vectors else "linear") if config.optim.decay == "auto" else config.optim.decay
    )
    optim = replace(
        config.optim, name=name, batch=config.optim.batch or (1024 if vectors else 64), decay=decay
    )
    sampling = config.sampling
    if sampling == SamplingConfig() and not vectors and not noise.levels:
        sampling = REVERSE_SDE
    return replace(config, network=network, noise=noise, optim=optim, sampling=sampling)


def validate(config: Config) -> Config:
    """`config` itself, or an InputError naming the first value out of range."""
    rules: list[tuple[bool, str]] = [
        (config.images >= 0, f"images must not be negative; got {config.images}"),
        (
            config.images > 0 or config.seconds > 0,
            f"need a budget above zero, in images or seconds; got {config.images} images and "
            f"{config.seconds:g} s",
        ),
        (
            config.objective.slices >= 1,
            f"objective.slices must be at least 1; got {config.objective.slices}",
        ),
        (
            config.sampling.eta >= 0,
            f"sampling.eta must not be negative; got {config.sampling.eta:g}",
        ),
        (config.seed >= 0, f"seed must not be negative; got {config.seed}"),
        (
            0 < config.data.held_out < 0.5,
            f"data.held_out must lie in (0, 0.5); got {config.data.held_out:g}",
        ),
        (config.optim.batch >= 0, f"optim.batch must not be negative; got {config.optim.batch}"),
        (
            config.optim.accumulate >= 1,
            f"optim.accumulate must be at least 1; got {config.optim.accumulate}",
        ),
        (
            config.ema.snapshots >= 0,
            f"ema.snapshots must not be negative; got {config.ema.snapshots}",
        ),
        (
            config.guard.action in ("stop", "skip"),
            f"guard.action must be stop or skip; got {config.guard.action!r}",
        ),
        (config.optim.lr > 0, f"optim.lr must be above zero; got {config.optim.lr:g}"),
        (
            config.optim.decay in ("auto", "constant", "cosine", "linear"),
            f"optim.decay must be auto, constant, cosine or linear; got {config.optim.decay!r}",
        ),
        (
            0 < config.noise.sigma_min < config.noise.sigma_max,
            f"need 0 < noise.sigma_min < noise.sigma_max; got {config.noise.sigma_min:g}, "
            f"{config.noise.sigma_max:g}",
        ),
        (
            config.noise.law in ("lognormal", "loguniform", "levels"),
            f"noise.law must be lognormal, loguniform or levels; got {config.noise.law!r}",
        ),
        (
            config.noise.law != "levels" or config.noise.levels >= 2,
            "noise.law=levels needs noise.levels of at least 2",
        ),
        (
            config.ema.kind in ("power", "halflife"),
            f"ema.kind must be power or halflife; got {config.ema.kind!r}",
        ),
        (
            len(config.ema.profiles) >= 1 and min(config.ema.profiles, default=0) >= 0,
            f"ema.profiles must be one or more numbers >= 0; got {config.ema.profiles}",
        ),
        (
            config.execution.precision in ("auto", "float32", "bfloat16"),
            f"precision must be auto, float32 or bfloat16; got {config.execution.precision!r}",
        ),
        (
            config.execution.compile in ("auto", "on", "off"),
            f"compile must be auto, on or off; got {config.execution.compile!r}",
        ),
        (
            config.execution.threads >= 0,
            f"threads must not be negative; got {config.execution.threads}",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise InputError(message)
    return config
