"""Implicit score matching: the Fisher divergence by parts, without the data's score, through
derivatives of the model's score in x.

By parts E[s' grad log p] = -E[tr(grad s)] (p s vanishing far out), hence 1/2 E|grad log p - s|² =
E[tr(grad s) + 1/2 |s|²] + 1/2 E|grad log p|².
The exact form takes the trace with d backward passes; the sliced forms take v'(grad s)v, whose mean
over v with E[vv'] = I is the trace.

    exact       tr(grad s) + 1/2 |s|²                Hyvärinen 2005
    sliced      v'(grad s)v + 1/2 (v's)²             Song et al. 2019 (arXiv 1905.07088)
    sliced-vr   v'(grad s)v + 1/2 |s|²               ibid.: the slice's share in the second term integrated

All are evaluated at x = x0 + sigma z: they estimate p_sigma's divergence, as denoising does.
Training needs the score's second derivatives.

Which sigma is noisy is the other way round than with denoising. With the edm row of `model`, u =
x/sqrt(v), v = sigma² + sd², the part of
tr(grad s) + 1/2 |s|² that is linear in the network, (sd/(sigma v)) (tr(grad F) - u'F), has mean
near zero and standard deviation of its own
order, against (sd²/(sigma² v)) |F|²/2: the noise of a gradient is sigma/sd times what it measures.
The edm weight multiplies that into
2 sigma/sd and large sigma drown the rest; ncsn's keeps it at sd sigma/v <= 1/2, so it is the
default here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..model import ScoreModel
from .base import Objective, Weight, perturb

Probe = Callable[[Tensor, Sequence[int], torch.dtype, int], Tensor]


def _rademacher(keys: Tensor, shape: Sequence[int], dtype: torch.dtype, draw: int) -> Tensor:
    return rng.rademacher(keys, rng.Stream.PROBE, 0, shape, dtype, draw)


def _gaussian(keys: Tensor, shape: Sequence[int], dtype: torch.dtype, draw: int) -> Tensor:
    return rng.normal(keys, rng.Stream.PROBE, 0, shape, dtype, draw)


def _sphere(keys: Tensor, shape: Sequence[int], dtype: torch.dtype, draw: int) -> Tensor:
    v = _gaussian(keys, shape, dtype, draw)
    mean_square = v.square().flatten(1).mean(1).reshape(-1, *[1] * len(shape))
    return v * mean_square.rsqrt()  # |v|² = d, so that E[vv'] = I


PROBES: dict[str, Probe] = {"rademacher": _rademacher, "gaussian": _gaussian, "sphere": _sphere}


@dataclass(frozen=True)
class Implicit(Objective):
    """lambda(sigma)/d (trace + square/2), both from `terms`."""

    weight: str | Weight = "ncsn"

    second_order: ClassVar[bool] = True

    def terms(self, score: Tensor, x: Tensor, keys: Tensor, graph: bool) -> tuple[Tensor, Tensor]:
        """Estimates (B,) of tr(grad s) and of |s|². score hangs on x in the graph; graph: whether
        the result is differentiated again.
        """
        raise NotImplementedError

    def losses(
        self,
        model: ScoreModel,
        x0: Tensor,
        sigma: Tensor,
        keys: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Losses (B,), of either sign; differentiable in the model's parameters where gradients are
        enabled, not in x0.
        """
        self.check(model)
        graph = torch.is_grad_enabled()
        x, _, level = perturb(x0.detach(), sigma, keys)
        with torch.enable_grad():
            x.requires_grad_(True)
            score = model(x, level, condition, "score")
            trace, square = self.terms(score, x, keys.to(x0.device), graph)
        losses = self.weigh_score(level) * (trace + square / 2) / x0[0].numel()
        return losses if graph else losses.detach()


@dataclass(frozen=True)
class Sliced(Implicit):
    """v'(grad s)v + 1/2 (v's)², the mean over `slices` vectors v a sample. probe: rademacher,
    gaussian, or sphere (of radius sqrt(d)).
    """

    slices: int = 1
    probe: str = "rademacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices < 1:
            raise InputError(f"slices must be at least 1; got {self.slices}")
        if self.probe not in PROBES:
            raise InputError(f"probe must be one of {', '.join(PROBES)}; got {self.probe!r}")

    def terms(self, score: Tensor, x: Tensor, keys: Tensor, graph: bool) -> tuple[Tensor, Tensor]:
        """Means over slices of v'(grad s)v and (v's)²; one vector-Jacobian product a slice."""
        trace = square = x.new_zeros(len(x))
        for draw in range(self.slices):
            v = PROBES[self.probe](keys, x.shape[1:], x.dtype, draw)
            (product,) = torch.autograd.grad(score, x, v, create_graph=graph, retain_graph=True)
            trace = trace + (product * v).flatten(1).sum(1)
            square = square + self.square(score, v)
        return trace / self.slices, square / self.slices

    def square(self, score: Tensor, v: Tensor) -> Tensor:
        """(v's)²."""
        return (score * v).flatten(1).sum(1).square()


@dataclass(frozen=True)
class SlicedVR(Sliced):
    """v'(grad s)v + 1/2 |s|², the mean over `slices` vectors v a sample."""

    def square(self, score: Tensor, v: Tensor) -> Tensor:
        """|s|², which is E_v (v's)²."""
        return score.square().flatten(1).sum(1)


@dataclass(frozen=True)
class Exact(Implicit):
    """tr(grad s) + 1/2 |s|², d backward passes: for small events. limit: the most elements an event
    may have.
    """

    limit: int = 256

    def check(self, model: ScoreModel) -> None:
        """An InputError where an event has more than `limit` elements."""
        shape: tuple[int, ...] = getattr(model, "module", model).event_shape
        if torch.Size(shape).numel() > self.limit:
            raise InputError(
                f"the exact trace takes one backward pass an element: {torch.Size(shape).numel()} "
                f"for events of shape {tuple(shape)}, and the limit is "
                f"{self.limit}. Use the sliced-vr objective, or make_objective('exact', "
                "limit=...) from Python"
            )

    def terms(self, score: Tensor, x: Tensor, keys: Tensor, graph: bool) -> tuple[Tensor, Tensor]:
        """The trace, row by row, and |s|²."""
        flat = score.flatten(1)
        trace = torch.zeros_like(flat[:, 0])
        for i in range(flat.shape[1]):
            (row,) = torch.autograd.grad(flat[:, i].sum(), x, create_graph=graph, retain_graph=True)
            trace = trace + row.flatten(1)[:, i]
        return trace, flat.square().sum(1)
