"""What is compared: samplers with options and ladders, written as on the command line.

unipc                     a sampler of SAMPLERS with its defaults
unipc p=3                 with an option
unipc p=3 ladder=karras   with a named ladder
zeab p=3 raised=5         with ladders that end at five times the model's smallest noise level
default                   the sampler that `sample(model, nfe=N)` chooses
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..models import ScoreModel
from ..sampling import SAMPLERS, SamplingRecipe, find_sampler, make_kernel, resolve_sampling
from ..sampling.budget import raised
from ..values import finite, text

DEFAULT = "default"
VARIANTS = (
    "unipc p=3",
    "veab p=3",
    "zeab p=3",
    "ipndm p=3",
    "ipndm p=4",
)


@dataclass(frozen=True)
class Entrant:
    """A sampler of the study.

    Attributes:
        name: As in the module docstring.
        sampler: A name of SAMPLERS; None: the sampler that the number of evaluations decides.
        options: Options of the sampler.
        ladder: A named ladder; None: the sampler's own.
        raised: Its smallest noise level in units of the model's smallest one, 1 or more.
    """

    name: str
    sampler: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ladder: str | None = None
    raised: float = 1.0

    def recipe(self, model: ScoreModel, nfe: int) -> SamplingRecipe:
        """The recipe of at most nfe evaluations.

        Args:
            model: The score model.
            nfe: Evaluations of the model a sample, the final denoising step included.

        Returns:
            The recipe.

        Raises:
            InputError: Where the sampler cannot keep to that number.
        """
        if self.sampler is None:
            return resolve_sampling(model, None, nfe, self.ladder)
        # A kernel has its own defaults; a name would take the options of the model's card.
        kernel = make_kernel(self.sampler, self.options)
        return resolve_sampling(raised(model, self.raised), kernel, nfe, self.ladder)


def _value(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(word.lower(), word)


def read_entrant(name: str) -> Entrant:
    """Read an entrant from its name.

    Args:
        name: The sampler and its words NAME=VALUE, as in the module docstring.

    Returns:
        The entrant.

    Raises:
        InputError: For an unknown sampler, or a word that is not NAME=VALUE.
    """
    words = text(name, "sampler").split()
    if not words:
        raise InputError("a sampler is a name such as unipc, or unipc p=3; got an empty text")
    options: dict[str, Any] = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not key or not equals or not value:
            raise InputError(
                f"options of a sampler are NAME=VALUE, for example unipc p=3; got {word!r}"
            )
        options[key] = _value(value)
    ladder = options.pop("ladder", None)
    factor = finite(options.pop("raised", 1.0), "raised", 1.0)
    if words[0] == DEFAULT:
        if options or factor != 1:
            raise InputError(f"default takes no options; got {name!r}. Name the sampler")
        return Entrant(" ".join(words), None, {}, ladder)
    find_sampler(words[0])
    return Entrant(" ".join(words), words[0], options, ladder, factor)


def all_entrants() -> list[Entrant]:
    """The default, every sampler of SAMPLERS, and VARIANTS of some.

    "tuned" is left out: its coefficients belong to one model, for which "default" takes them.
    """
    names = [name for name in SAMPLERS if name != "tuned"]
    return [read_entrant(name) for name in (DEFAULT, *names, *VARIANTS)]


def read_entrants(names: Sequence[str] | None) -> list[Entrant]:
    """The entrants of the names, each once; None: `all_entrants`."""
    if names is None:
        return all_entrants()
    found = {entrant.name: entrant for entrant in map(read_entrant, names)}
    if not found:
        raise InputError("name one sampler or more")
    return list(found.values())
