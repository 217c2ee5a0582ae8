"""The samplers by name, and kernels made from a name and options."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..values import did_you_mean, mapping, text
from .adams import IPNDM, DataAdams, NoiseAdams, VelocityAdams
from .diffusion import Euler, Heun, StochasticHeun
from .kernel import Kernel
from .langevin import MALA, AnnealedLangevin, Langevin
from .multistep import DPMSolver2M, DPMSolver2MSDE, DPMSolver3M, MatchedSDE, UniPC
from .reverse import Ancestral, ConsistentAnnealed, PredictorCorrector, ReverseSDE
from .tuned import Tuned

#: The samplers by name. The first one is the default of trained networks without a card.
SAMPLERS: dict[str, type[Kernel]] = {
    "heun": Heun,
    "euler": Euler,
    "unipc": UniPC,
    "dpmpp-2m": DPMSolver2M,
    "dpmpp-3m": DPMSolver3M,
    "veab": VelocityAdams,
    "zeab": NoiseAdams,
    "xeab": DataAdams,
    "ipndm": IPNDM,
    "tuned": Tuned,
    "dpmpp-2m-sde": DPMSolver2MSDE,
    "matched-sde": MatchedSDE,
    "heun-churn": StochasticHeun,
    "ancestral": Ancestral,
    "reverse-sde": ReverseSDE,
    "predictor-corrector": PredictorCorrector,
    "consistent-annealed": ConsistentAnnealed,
    "annealed-langevin": AnnealedLangevin,
    "langevin": Langevin,
    "mala": MALA,
}


def find_sampler(name: str) -> type[Kernel]:
    """The kernel class of a name.

    Raises:
        InputError: For an unknown name; it gives the nearest one.
    """
    name = text(name, "sampler")
    if name in SAMPLERS:
        return SAMPLERS[name]
    raise InputError(
        f"unknown sampler {name!r}{did_you_mean(name, SAMPLERS)} There are {', '.join(SAMPLERS)}"
    )


def make_kernel(name: str, options: Mapping[str, Any] | None = None) -> Kernel:
    """A kernel from a name and options.

    Args:
        name: A name of SAMPLERS.
        options: Values of the kernel's fields by name, such as {"eta": 3}. A kernel among them
            (a predictor) may be given by its own name.

    Returns:
        The kernel.

    Raises:
        InputError: For an unknown name or option, or a value that does not fit.
    """
    kind = find_sampler(name)
    known = [f.name for f in dataclasses.fields(kind)]
    values: dict[str, Any] = {}
    for option, value in ({} if options is None else mapping(options, "options")).items():
        if option not in known:
            has = f"It has {', '.join(known)}" if known else "It has none"
            others = [n for n, k in SAMPLERS.items() if option in {f.name for f in _fields(k)}]
            hint = f". {option!r} is for {', '.join(others)}" if others else ""
            raise InputError(f"the sampler {name!r} has no option {option!r}. {has}{hint}")
        if option == "predictor" and isinstance(value, str):
            value = make_kernel(value)
        # Cards hold infinity as a text, since JSON has no such number (`kernel._plain`).
        values[option] = float(value) if str(value) in ("inf", "-inf") else value
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"the options {values} do not fit {name!r}: {error}") from error


def _fields(kind: type[Kernel]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def sampler_name(kernel: Kernel) -> str:
    """The registry's name of a kernel, or its class's name where it is not in the registry."""
    kind = type(kernel)
    return next((name for name, known in SAMPLERS.items() if known is kind), kind.__name__)
