"""Implicit score matching: derivatives of the model's score in x in place of the data's score.

Integration by parts gives -E[s' grad log p] = E[tr(grad s)], where p s vanishes far out, hence

    1/2 E|grad log p - s|² = E[tr(grad s) + 1/2 |s|²] + 1/2 E|grad log p|²

The exact form takes the trace with d backward passes. The sliced forms take v'(grad s)v, whose mean
over v with E[vv'] = I is the trace.

    exact       tr(grad s) + 1/2 |s|²                Hyvärinen 2005
    sliced      v'(grad s)v + 1/2 (v's)²             Song et al. 2019 (arXiv 1905.07088)
    sliced-vr   v'(grad s)v + 1/2 |s|²               ibid., with the second slice integrated out

All are evaluated at x = x0 + sigma z: they estimate the divergence to p_sigma, as denoising does.
Training needs the score's second derivatives.

The noise over sigma is the reverse of denoising's. With the edm preconditioner, u = x/sqrt(v) and
v = sigma² + sd², the part of tr(grad s) + 1/2 |s|² that is linear in the network,
(sd/(sigma v)) (tr(grad F) - u'F), has mean near zero and a standard deviation of its own order;
the signal is (sd²/(sigma² v)) |F|²/2. The noise of a gradient is sigma/sd times what it measures.
The edm weight multiplies this to 2 sigma/sd, and large sigma drown the rest; the ncsn weight keeps
it at sd sigma/v <= 1/2, so it is the default here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .. import rng
from ..conditions import Condition
from ..errors import InputError
from ..models import ScoreModel, jacobian
from ..values import one_of, whole
from .base import Objective, Weight, perturb

Product = Callable[[Tensor], Tensor]  # v (B, *event) -> v' (grad s), of the same shape
#: Distributions of the slices v; each has E[vv'] = I.
PROBES = ("rademacher", "gaussian", "sphere")


def draw_slice(
    probe: str, keys: Tensor, shape: Sequence[int], dtype: torch.dtype, draw: int
) -> Tensor:
    """Random directions v with E[vv'] = I, a function of the keys and of `draw`.

    Args:
        probe: A name of PROBES: signs, normals, or uniform on the sphere of radius sqrt(d).
        keys: Random keys (B, 2).
        shape: Shape of one example.
        dtype: Floating type.
        draw: Number of the slice, from 0.

    Returns:
        (B, *shape), on the device of the keys.
    """
    generate = rng.rademacher if probe == "rademacher" else rng.normal
    v = generate(keys, rng.Stream.SLICE, 0, shape, dtype, draw)
    if probe != "sphere":
        return v
    mean_square = v.square().flatten(1).mean(1).reshape(-1, *[1] * len(shape))
    return v * mean_square.rsqrt()  # |v|² = d


@dataclass(frozen=True)
class Implicit(Objective):
    """lambda(sigma)/d (trace + square/2), with trace and square from `terms`."""

    weight: str | Weight = "ncsn"

    second_order: ClassVar[bool] = True

    def terms(self, score: Tensor, product: Product, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate tr(grad s) and |s|².

        Args:
            score: s(x), (B, *event).
            product: v -> v' (grad s), one backward pass.
            keys: (B, 2).

        Returns:
            Both estimates, (B,) each.
        """
        raise NotImplementedError

    def losses(
        self,
        model: nn.Module,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Condition | None = None,
    ) -> Tensor:
        """One loss per example, (B,), of either sign.

        The arguments are those of `Objective.losses`.
        The losses are differentiable in the model's parameters where gradients are enabled, and
        not in x0.

        Raises:
            InputError: Where the arguments do not fit each other or the model.
        """
        graph = torch.is_grad_enabled()
        x, _, level = perturb(x0.detach(), sigma, keys)
        score, product = jacobian(model, x, level, condition, "score", create_graph=graph)
        with torch.set_grad_enabled(graph):
            trace, square = self.terms(score, product, keys.to(x0.device))
            return self.weigh_score(level) * (trace + square / 2) / x0[0].numel()


@dataclass(frozen=True)
class Sliced(Implicit):
    """v'(grad s)v + 1/2 (v's)², the mean over several v.

    Args:
        weight: As for every objective.
        sigma_data: As for every objective.
        slices: Number of directions v an example, 1 or more.
        probe: Distribution of v, a name of PROBES.
    """

    slices: int = 1
    probe: str = "rademacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "slices", whole(self.slices, "slices", 1))
        object.__setattr__(self, "probe", one_of(self.probe, PROBES, "probe"))

    def terms(self, score: Tensor, product: Product, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Means over slices of v'(grad s)v and of `square`, with one product per slice.

        The arguments and the result are those of `Implicit.terms`.
        """
        trace = square = score.new_zeros(len(score))
        for draw in range(self.slices):
            v = draw_slice(self.probe, keys, score.shape[1:], score.dtype, draw)
            trace = trace + (product(v) * v).flatten(1).sum(1)
            square = square + self.square(score, v)
        return trace / self.slices, square / self.slices

    def square(self, score: Tensor, v: Tensor) -> Tensor:
        """Estimate |s|² from one slice.

        Args:
            score: s(x), (B, *event).
            v: The slice, (B, *event).

        Returns:
            (v's)², (B,).
        """
        return (score * v).flatten(1).sum(1).square()


@dataclass(frozen=True)
class SlicedVR(Sliced):
    """v'(grad s)v + 1/2 |s|², the mean over several v. Arguments as for `Sliced`."""

    def square(self, score: Tensor, v: Tensor) -> Tensor:
        """|s|², (B,), the mean of (v's)² over v; the arguments are those of `Sliced.square`."""
        return score.square().flatten(1).sum(1)


@dataclass(frozen=True)
class Exact(Implicit):
    """tr(grad s) + 1/2 |s|², with d backward passes: for small examples.

    Args:
        weight: As for every objective.
        sigma_data: As for every objective.
        limit: The most elements an example may have.
    """

    limit: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "limit", whole(self.limit, "limit", 1))

    def check(self, model: ScoreModel) -> None:
        """Refuse a model whose examples have more than `limit` elements.

        The arguments are those of `Objective.check`.

        Raises:
            InputError: The message names an objective without this limit.
        """
        elements = torch.Size(model.event_shape).numel()
        if elements > self.limit:
            raise InputError(
                f"the exact trace takes one backward pass an element: {elements} for examples of "
                f"shape {tuple(model.event_shape)}, and the limit is {self.limit}. Use the "
                "sliced-vr objective, or make_objective('exact', limit=...) from Python"
            )

    def terms(self, score: Tensor, product: Product, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The trace, one row of grad s after the other, and |s|².

        The arguments and the result are those of `Implicit.terms`.
        """
        flat = score.flatten(1)
        trace = torch.zeros_like(flat[:, 0])
        for i in range(flat.shape[1]):
            unit = torch.zeros_like(flat)
            unit[:, i] = 1
            trace = trace + product(unit.reshape(score.shape)).flatten(1)[:, i]
        return trace, flat.square().sum(1)
