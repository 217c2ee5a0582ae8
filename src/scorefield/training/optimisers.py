"""Optimisers by name.

Muon (Jordan et al. 2024) replaces the momentum of each weight matrix by the nearest semi-orthogonal
one, U V^T of its singular value
decomposition, so that every direction of a layer learns at one rate. Convolutions are matrices
(outputs, inputs x kernel). Vectors, the first
and the last layer and what makes the embedding stay with AdamW.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OptimConfig
from ..errors import InputError

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # a quintic whose iterates carry singular values in (0, 1] to about 1, Jordan et al. 2024


def orthogonalise(m: Tensor, steps: int = 4) -> Tensor:
    """(batch, rows, columns) -> about U V^T of each matrix, singular values between 0.7 and 1.2;
    zero where the matrix is.

    X <- (a + b G + c G²) X with G = X X^T, `steps` times, from X_0 = m / sqrt(|m m^T|_F): as sure a
    bound of the largest singular value as
    |m|_F, and so much nearer to it that four steps do what five do from there. Every factor is a
    polynomial in the first G and commutes with it,
    so the iteration runs on the small square G and its product P, X = P X_0 at the end: two
    products with the wide matrix instead of two a
    step, cheap enough for float32.
    """
    a, b, c = NEWTON_SCHULZ
    tall = m.shape[-2] > m.shape[-1]
    x = m.mT if tall else m
    gram = x @ x.mT
    trace = (
        gram.diagonal(dim1=-2, dim2=-1)
        .sum(-1)[..., None, None]
        .clamp_min(torch.finfo(m.dtype).tiny)
    )
    gram = gram / trace  # first, so that squares of small gradients' squares do not vanish
    size = gram.norm(dim=(-2, -1), keepdim=True).clamp_min(
        1e-6
    )  # at least rows^(-1/2), but for a matrix of zeros
    gram = gram / size
    product = torch.empty(0)
    for k in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor @ product if k else factor
        if k + 1 < steps:
            gram = factor @ (factor @ gram)
    x = (product * (size * trace).rsqrt()) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for parameters of two dimensions or more; AdamW for the
    groups marked `adamw`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        decay: float,
    ) -> None:
        super().__init__(
            groups, {"lr": lr, "momentum": momentum, "adamw": False, "weight_decay": decay}
        )
        self.betas, self.eps = betas, eps

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of every group."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            (self._adamw if group["adamw"] else self._muon)(group, parameters)

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        averages = [self._slot(p, "momentum") for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        torch._foreach_lerp_(
            gradients, averages, group["momentum"]
        )  # Nesterov's; in place, the gradients are spent
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for p, update in zip(parameters, gradients, strict=True):
            alike.setdefault((len(p), p.numel() // len(p)), []).append((p, update))
        for (rows, columns), members in alike.items():
            # One batched product a shape. Channels-last weights are flattened in memory order: the
            # order of columns is free, and nothing is copied.
            directions = orthogonalise(
                torch.stack([_last(update).reshape(rows, columns) for _, update in members])
            )
            for (p, _), direction in zip(members, directions, strict=True):
                _last(p).sub_(
                    direction.reshape(_last(p).shape),
                    alpha=group["lr"] * max(1.0, rows / columns) ** 0.5,
                )

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        first, second = (
            [self._slot(p, "first") for p in parameters],
            [self._slot(p, "second") for p in parameters],
        )
        group["steps"] = group.get("steps", 0) + 1
        beta1, beta2 = self.betas
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        denominators = torch._foreach_div(second, 1 - beta2 ** group["steps"])
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, self.eps)
        torch._foreach_addcdiv_(
            parameters, first, denominators, -group["lr"] / (1 - beta1 ** group["steps"])
        )

    def _slot(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]


def _last(w: Tensor) -> Tensor:
    """A convolution's weight with the input channels moved last, as channels-last memory holds it;
    other weights as they are.
    """
    return w.movedim(1, -1) if w.ndim > 2 else w


def _adam(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        network.parameters(), lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, fused=True
    )


def _adamw(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        network.parameters(),
        lr=o.lr,
        betas=(o.beta1, o.beta2),
        eps=o.eps,
        weight_decay=o.weight_decay,
        fused=True,
    )


def _muon(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Muon for the body's matrices at `lr * muon_scale`; AdamW at `lr` for vectors, first and last
    layers, embedding and modulation.
    """
    outer = ("stem", "head", "embed", "first", "last")
    body: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in network.named_parameters():
        matrix = p.ndim >= 2 and not name.startswith(outer) and "modulation" not in name
        (body if matrix else rest).append(p)
    groups: list[dict[str, Any]] = [
        {"params": body, "lr_scale": o.muon_scale},
        {"params": rest, "adamw": True},
    ]
    groups = [group for group in groups if group["params"]]
    return Muon(groups, o.lr, 0.95, (o.beta1, o.beta2), o.eps, o.weight_decay)


OPTIMISERS: dict[str, Callable[[OptimConfig, nn.Module], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "muon": _muon,
}


def make_optimiser(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser `o.name` over the network's parameters."""
    if o.name not in OPTIMISERS:
        raise InputError(f"optim.name must be one of {', '.join(OPTIMISERS)}; got {o.name!r}")
    return OPTIMISERS[o.name](o, network)
