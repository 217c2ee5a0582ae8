"""All operators by name, each with an example on which it is tested."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .adapted import LinearFunction, adapt
from .base import Operator
from .colour import Grey, MixChannels
from .combined import Composition, Identity, PerElement, Scaled, Stacked
from .filters import Blur, gaussian_kernel
from .fourier import Fourier, cartesian_mask
from .mask import Mask
from .matrix import Matrix, RandomProjection
from .nonlinear import Clip, Function, PhaseRetrieval, Quantise
from .radon import Radon
from .sampling import Downsample

Example = tuple[Operator, tuple[int, ...]]


@dataclass(frozen=True)
class OperatorInfo:
    """An entry of `OPERATORS`.

    Attributes:
        make: The class, or the function that makes the operator.
        help: One line.
        example: Returns an operator and the shape of an example for it.
    """

    make: Callable[..., Operator]
    help: str
    example: Callable[[], Example]


def _stacked() -> Example:
    shape = (3, 8, 6)
    return Stacked([Grey(), Downsample(2), Mask(torch.arange(6) < 2)], shape), shape


def _composition() -> Example:
    blur = Blur(torch.tensor([[0.1, 0.2, 0.0], [0.0, 1.0, 0.1], [0.0, 0.1, 0.0]]), "reflect")
    return Composition(Downsample(2), blur), (2, 8, 6)


class _Differences:
    """Differences of neighbours, as another library may write them: no base class."""

    def A(self, x: Tensor) -> Tensor:
        """x[i + 1] - x[i]."""
        return x.diff(dim=-1)

    def A_adjoint(self, y: Tensor) -> Tensor:
        """y[i - 1] - y[i], with zero outside."""
        return -functional.pad(y, (1, 1)).diff(dim=-1)


#: Operators by name.
OPERATORS: dict[str, OperatorInfo] = {
    "identity": OperatorInfo(Identity, "every element as it is", lambda: (Identity(), (2, 5))),
    "mask": OperatorInfo(
        Mask, "some elements as they are", lambda: (Mask(torch.arange(15) % 3 > 0), (2, 15))
    ),
    "per-element": OperatorInfo(
        PerElement,
        "every element times a number of its own",
        lambda: (PerElement(torch.arange(-2.0, 8.0).reshape(2, 5)), (3, 2, 5)),
    ),
    "matrix": OperatorInfo(
        Matrix,
        "a dense matrix times the flattened example",
        lambda: (Matrix([[1.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.5, 0.0], [1.0, 3.0, 0.5, 1.0]]), (4,)),
    ),
    "random-projection": OperatorInfo(
        RandomProjection,
        "random linear combinations (compressed sensing)",
        lambda: (RandomProjection(7, (2, 3, 4), seed=1), (2, 3, 4)),
    ),
    "blur": OperatorInfo(
        Blur,
        "convolution with a kernel, in one to three dimensions",
        lambda: (Blur([[0.1, 0.3, 0.0], [0.0, 1.0, 0.2]]), (2, 8, 7)),
    ),
    "downsample": OperatorInfo(
        Downsample,
        "means of blocks, or a kernel's values at every f-th element",
        lambda: (Downsample((2, 3)), (2, 8, 9)),
    ),
    "mix-channels": OperatorInfo(
        MixChannels,
        "weighted sums of channels",
        lambda: (MixChannels([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]), (3, 4, 5)),
    ),
    "grey": OperatorInfo(Grey, "the luminance of red, green and blue", lambda: (Grey(), (3, 4, 5))),
    "fourier": OperatorInfo(
        Fourier,
        "sampled frequencies (magnetic resonance imaging)",
        lambda: (Fourier(cartesian_mask((8, 9), 2, 0.2)), (2, 8, 9)),
    ),
    "radon": OperatorInfo(
        Radon,
        "line integrals (parallel-beam tomography)",
        lambda: (Radon([0.0, 30.0, 77.0, 90.0, 135.0], (6, 7)), (2, 6, 7)),
    ),
    "scaled": OperatorInfo(
        Scaled,
        "an operator times a number",
        lambda: (Scaled(Blur(gaussian_kernel(0.6, ndim=1)), -2.5), (2, 9)),
    ),
    "composition": OperatorInfo(Composition, "operators one after the other", _composition),
    "stacked": OperatorInfo(Stacked, "several measurements of one example", _stacked),
    "linear-function": OperatorInfo(
        LinearFunction,
        "a linear function, its adjoint by automatic differentiation",
        lambda: (LinearFunction(lambda x: x.cumsum(-1)[..., ::2], (2, 7)), (2, 7)),
    ),
    "adapted": OperatorInfo(
        adapt, "an operator of another library", lambda: (adapt(_Differences()), (2, 6))
    ),
    "function": OperatorInfo(
        Function,
        "any differentiable function",
        lambda: (Function(lambda x: x.square().sum(-1)), (3, 5)),
    ),
    "phase-retrieval": OperatorInfo(
        PhaseRetrieval,
        "magnitudes of Fourier coefficients (diffraction)",
        lambda: (PhaseRetrieval(), (2, 4, 5)),
    ),
    "clip": OperatorInfo(Clip, "values cut at the ends of a range", lambda: (Clip(), (2, 5))),
    "quantise": OperatorInfo(
        Quantise, "values rounded to levels", lambda: (Quantise(4, -1.0, 1.0), (2, 5))
    ),
}
