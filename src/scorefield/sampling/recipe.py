"""How a model is sampled: `resolve_sampling` makes a recipe of arguments and the model card.

`sample`, `restore`, diagnostics and previews during training use the same recipe. An explicit value
always beats the card, 0 included; the card beats the sampler's defaults.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel, check_levels, check_model, prior
from ..noise import check_ladder
from ..plotting import paragraph
from ..rng import Stream
from ..values import describe, finite, items, mapping, one_of, whole
from .budget import TABLES, Row, find_row, raised, table_of
from .kernel import Kernel
from .ladders import named_ladder
from .loop import FINALS, check_fit
from .registry import make_kernel, sampler_name
from .tuned import tuned_kernel

Start = str | tuple[str, float, float]
STEPS = ("steps_per_level", 1)  # the argument's name and its least value
Ladder = Tensor | Sequence[float] | str


@dataclass(frozen=True)
class SamplingRecipe:
    """Everything that decides samples, except the model, the keys and the condition.

    Args:
        kernel: The sampling method, with its options.
        ladder: Noise levels (L,), float64, decreasing, model units.
        steps_per_level: Visits of each level.
        start: "prior", "uniform" (images in [0, 1]) or ("uniform", low, high) in data units.
        final: "denoise" or "none".

    Raises:
        InputError: For a ladder that does not decrease, or a number or word out of range.
    """

    kernel: Kernel
    ladder: Tensor
    steps_per_level: int = 1
    start: Start = "prior"
    final: str = "denoise"

    def __post_init__(self) -> None:
        object.__setattr__(self, "ladder", check_ladder(self.ladder))
        object.__setattr__(self, "steps_per_level", whole(self.steps_per_level, *STEPS))
        object.__setattr__(self, "start", read_start(self.start))
        object.__setattr__(self, "final", one_of(self.final, FINALS, "final"))

    @property
    def name(self) -> str:
        """The sampler's name."""
        return sampler_name(self.kernel)

    @property
    def evaluations(self) -> int:
        """Evaluations of the model a sample, the final denoise included."""
        levels = len(self.ladder)
        steps = levels if self.kernel.is_langevin else levels - 1
        spare = int(self.final == "denoise")
        return steps * self.steps_per_level * self.kernel.evaluations_per_step + spare

    def __repr__(self) -> str:
        how = recipe_words(
            self.name,
            self.kernel.options(),
            self.ladder.tolist(),
            self.steps_per_level,
            self.start,
            self.final,
        )
        return paragraph(f"Sampling recipe: {how} {self.evaluations} evaluations a sample.")

    def to_dict(self) -> dict[str, Any]:
        """A form that JSON can hold."""
        return {
            "sampler": self.name,
            "options": self.kernel.options(),
            "ladder": self.ladder.tolist(),
            "steps_per_level": self.steps_per_level,
            "start": self.start,
            "final": self.final,
        }


def recipe_words(
    sampler: str,
    options: Mapping[str, Any],
    ladder: Sequence[float],
    steps_per_level: int,
    start: Start,
    final: str,
) -> str:
    """A recipe in a sentence.

    Args:
        sampler: Name of the sampler.
        options: Its options.
        ladder: Noise levels, largest first.
        steps_per_level: Visits of each level.
        start: The start of the first level, as in `SamplingRecipe`.
        final: "denoise" or "none".

    Returns:
        The sentence.
    """
    given = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in options.items()
    )
    levels = f"{len(ladder)} noise levels from {ladder[0]:.4g} to {ladder[-1]:.4g} (model units)"
    visits = "" if steps_per_level == 1 else f", {steps_per_level} steps at each"
    where = start if isinstance(start, str) else f"{start[0]} in [{start[1]:g}, {start[2]:g}]"
    last = "with" if final == "denoise" else "without"
    return (
        f"{sampler}{f' ({given})' if given else ''}, {levels}{visits}, start from "
        f"{'the prior' if where == 'prior' else where}, {last} a last denoising."
    )


def card_recipe(model: ScoreModel) -> dict[str, Any]:
    """The sampling settings of the model's card (config.sampling) that are set.

    A model without a card has its `sampling_defaults`.
    """
    stored = ((model.card or {}).get("config") or {}).get("sampling")
    stored = model.sampling_defaults if stored is None else stored
    return {name: value for name, value in stored.items() if value is not None and value != {}}


def default_sampler(model: ScoreModel) -> str:
    """The name of the sampler where the caller names none.

    It is the sampler of `card_recipe`; without one "annealed-langevin" for models with fixed noise
    levels, and "heun" for all others.
    """
    known = card_recipe(model).get("sampler")
    if known is not None:
        return str(known)
    return "annealed-langevin" if model.ladder_only else "heun"


def budget_row(model: ScoreModel, nfe: int | None) -> Row | None:
    """The row of `budget` for a number of evaluations; None where no table decides."""
    key = None if nfe is None else table_of(model, card_recipe(model))
    return None if key is None or nfe is None else find_row(TABLES[key], nfe)


def resolve_sampling(
    model: ScoreModel,
    sampler: str | Kernel | None = None,
    nfe: int | None = None,
    ladder: Ladder | None = None,
    steps_per_level: int | None = None,
    start: Start | None = None,
    final: str | None = None,
    options: Mapping[str, Any] | None = None,
    levels: int | None = None,
) -> SamplingRecipe:
    """Make a sampling recipe; arguments that are None are chosen from the model card and model.

    A sampler or options that the caller names always win. Where `nfe` is the only argument, a
    method that `tune` fitted to the model for this number is used. Otherwise, where only a named
    ladder, `start` or `final` is given besides, the measured table of `budget` chooses the
    sampler. A card whose sampling settings the user chose is an exception: its sampler stays.
    Without `nfe` the card decides, then `default_sampler`.

    Args:
        model: The model; its card, range and moments are used.
        sampler: A name of SAMPLERS, or a kernel. None: see above.
        nfe: Evaluations of the model a sample, the final denoise included: it sets the length of
            the default ladder, or for Langevin kernels the steps per level.
        ladder: Noise levels in model units, decreasing; or "geometric", "karras" or "few-step"
            over the model's range. None: the kernel's default.
        steps_per_level: Visits of each level, 1 or more.
        start: "prior" (default), "uniform", or ("uniform", low, high) in data units.
        final: "denoise" (default) or "none".
        options: Options of the sampler by name, where `sampler` is a name.
        levels: Length of the default or named ladder, 1 or more.

    Returns:
        The recipe, checked against the model.

    Raises:
        InputError: For values out of range, or that contradict each other.
    """
    check_model(model)
    if sampler is not None and not isinstance(sampler, str | Kernel):
        raise InputError(
            f"sampler must be a name or a kernel, an object such as Heun(); got {describe(sampler)}"
        )
    named = {} if options is None else mapping(options, "options")
    nfe = None if nfe is None else whole(nfe, "nfe", 0)
    levels = None if levels is None else whole(levels, "the number of noise levels", 1)
    free = all(v is None for v in (ladder, steps_per_level, start, final, options, levels))
    seen = model  # the model whose range default ladders use
    tuned = tuned_kernel(model, nfe) if free and sampler in (None, "tuned") else None
    if tuned is not None:  # `tune` fitted it to this model and number of evaluations
        return SamplingRecipe(tuned, tuned.default_ladder(model), final="none")
    by_budget = sampler is None and not named and levels is None and steps_per_level is None
    row = budget_row(model, nfe) if by_budget else None
    kernel, card = _kernel(model, sampler, named, row)
    if row is not None and ladder is None:
        ladder, seen = row.ladder, raised(model, row.raised)
    length_given = any(v is not None for v in (nfe, ladder, steps_per_level, levels))
    if not length_given:
        nfe = card.get("nfe")
    if steps_per_level is not None:
        steps_per_level = whole(steps_per_level, *STEPS)
    elif nfe is None:
        steps_per_level = card.get("steps_per_level")
    final = one_of(card.get("final", "denoise") if final is None else final, FINALS, "final")
    start = read_start(card.get("start", "prior") if start is None else start)
    _check_start(model, start)
    sigmas = _ladder(model, kernel, ladder, levels)
    if nfe is not None:
        sigmas, steps_per_level = _spend(
            seen, kernel, nfe, (sigmas, ladder, levels), steps_per_level, int(final == "denoise")
        )
    sigmas = kernel.default_ladder(model) if sigmas is None else sigmas
    steps = kernel.default_steps_per_level(sigmas) if steps_per_level is None else steps_per_level
    kernel = kernel.resolve(model, sigmas)
    check_fit(kernel, model, sigmas)
    check_levels(model, sigmas)
    return SamplingRecipe(kernel, sigmas, steps, start, final)


def _kernel(
    model: ScoreModel, sampler: str | Kernel | None, named: Mapping[str, Any], row: Row | None
) -> tuple[Kernel, Mapping[str, Any]]:
    """The kernel, and the card's settings that go with it."""
    if isinstance(sampler, Kernel):
        if named:
            raise InputError("options go with a sampler's name; give a kernel its options itself")
        return sampler, {}
    stored, usual = card_recipe(model), default_sampler(model)
    name = usual if sampler is None else sampler
    card = stored if name == stored.get("sampler", usual) else {}
    if row is not None:
        return make_kernel(row.sampler, row.options), card
    return make_kernel(name, {**card.get("options", {}), **named}), card


def _ladder(
    model: ScoreModel, kernel: Kernel, ladder: Ladder | None, levels: int | None
) -> Tensor | None:
    """The requested ladder, or None where none was requested."""
    if isinstance(ladder, str):
        count = len(kernel.default_ladder(model)) if levels is None else levels
        return named_ladder(ladder, model, count)
    if ladder is not None:
        sigmas = check_ladder(ladder)
        if levels is not None and levels != len(sigmas):
            raise InputError(f"levels={levels} contradicts a ladder of {len(sigmas)} levels")
        return sigmas
    return None if levels is None else kernel.default_ladder(model, levels)


def _spend(
    model: ScoreModel,
    kernel: Kernel,
    nfe: int,
    asked: tuple[Tensor | None, Ladder | None, int | None],
    steps_per_level: int | None,
    spare: int,
) -> tuple[Tensor, int]:
    """Ladder and steps per level that spend at most nfe evaluations, `spare` on the last."""
    sigmas, ladder, levels = asked
    cost = kernel.evaluations_per_step
    if kernel.is_langevin:
        if steps_per_level is not None:
            raise InputError(
                f"nfe={nfe} and steps_per_level={steps_per_level} both set the length: give one"
            )
        sigmas = kernel.default_ladder(model) if sigmas is None else sigmas
        steps = (nfe - spare) // (cost * len(sigmas))
        if steps < 1:
            raise InputError(
                f"nfe must be at least {cost * len(sigmas) + spare}, one step at each of "
                f"{len(sigmas)} levels; got {nfe}"
            )
        return sigmas, steps
    if levels is not None or (sigmas is not None and not isinstance(ladder, str)):
        count = levels if sigmas is None else len(sigmas)
        raise InputError(f"nfe={nfe} and {count} noise levels both set the length: give one")
    repeats = 1 if steps_per_level is None else steps_per_level
    steps = (nfe - spare) // (cost * repeats)
    if steps < 1:
        raise InputError(
            f"nfe must be at least {cost * repeats + spare}, one step and {spare} final denoise; "
            f"got {nfe}"
        )
    if isinstance(ladder, str):
        return named_ladder(ladder, model, steps + 1), repeats
    return kernel.default_ladder(model, steps + 1), repeats


def read_start(start: Any) -> Start:
    """Read a start: "prior", "uniform", or ("uniform", low, high) as a tuple.

    Raises:
        InputError: For anything else.
    """
    needed = '"prior", "uniform" or ("uniform", low, high) with low < high'
    if isinstance(start, str) and start in ("prior", "uniform"):
        return str(start)
    parts = [] if isinstance(start, str) else items(start, "start", needed)
    if len(parts) != 3 or str(parts[0]) != "uniform":
        raise InputError(f"start must be {needed}; got {describe(start)}")
    low = finite(parts[1], "the lower bound of start")
    high = finite(parts[2], "the upper bound of start")
    if low >= high:
        raise InputError(f"start must be {needed}; got {describe(start)}")
    return "uniform", low, high


def _check_start(model: ScoreModel, start: Start) -> None:
    if start == "uniform" and not model.units.image:
        raise InputError(
            'start="uniform" means [0, 1] and is for images; for other data: '
            'start=("uniform", low, high), in data units'
        )


def first_state(
    model: ScoreModel,
    recipe: SamplingRecipe,
    keys: rng.Keys,
    dtype: torch.dtype,
    condition: Condition | None = None,
) -> Tensor:
    """x at the top of the ladder.

    Args:
        model: The model.
        recipe: The recipe; its `start` and first noise level are used.
        keys: One key a sample.
        dtype: Floating type of the result.
        condition: One row a sample, or None.

    Returns:
        (B, *event) in model units, on the keys' device.
    """

    def noise(draw: Any) -> Tensor:
        return draw(keys, Stream.START, 0, model.event_shape, dtype)

    if recipe.start == "prior":
        return prior(model, float(recipe.ladder[0]), condition).sample(noise(rng.normal))
    low, high = (0.0, 1.0) if isinstance(recipe.start, str) else recipe.start[1:]
    place = noise(rng.uniform).to(torch.float64)  # bounds such as Julian dates keep their digits
    return model.units.to_model(low + (high - low) * place, dtype)


def with_kernel(recipe: SamplingRecipe, kernel: Kernel) -> SamplingRecipe:
    """The recipe with another kernel, for example one wrapped in `Projected`."""
    return replace(recipe, kernel=kernel)


def default_batch(model: ScoreModel, elements: int) -> int:
    """Samples a batch, so that a batch holds about `elements` numbers."""
    return max(1, elements // math.prod(model.event_shape))
