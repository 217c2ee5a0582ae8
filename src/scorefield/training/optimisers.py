"""Optimisers by name.

Muon (Jordan et al. 2024) replaces the momentum of each weight matrix by the nearest semi-orthogonal
one, U V' of its singular value decomposition: every direction of a layer then learns at one rate.
Convolutions are matrices (outputs, inputs x kernel). A network declares the weight matrices of its
hidden layers (`matrix_parameters`). AdamW steps all other parameters, such as vectors, tables, the
first and the last layer and the embedding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import OptimConfig
from ..errors import InputError
from ..networks import HasMatrices

# A quintic whose iterates carry singular values in (0, 1] to about 1, Jordan et al. 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
MOMENTUM = 0.95


def orthogonalise(m: Tensor, steps: int = 4) -> Tensor:
    """About U V' of each matrix, with singular values between 0.7 and 1.2.

    X <- (a + b G + c G²) X with G = X X', `steps` times, from X_0 = m / sqrt(|m m'|_F). That norm
    bounds the largest singular value as surely as |m|_F and is much nearer to it, so that four
    steps do what five do from |m|_F. Every factor is a polynomial in the first G and commutes with
    it. The iteration therefore runs on the small square G and its product P, and X = P X_0 at the
    end: two products with the wide matrix instead of two a step, cheap enough for float32.

    Args:
        m: (batch, rows, columns).
        steps: Number of iterations.

    Returns:
        (batch, rows, columns); zero where a matrix is zero.
    """
    a, b, c = NEWTON_SCHULZ
    tall = m.shape[-2] > m.shape[-1]
    x = m.mT if tall else m
    gram = x @ x.mT
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    trace = trace.clamp_min(torch.finfo(m.dtype).tiny)
    gram = gram / trace  # first, so that squares of small gradients' squares do not vanish
    # at least rows^(-1/2), but for a matrix of zeros
    size = gram.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
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
    """Orthogonalised Nesterov momentum for weight matrices, torch's fused AdamW for the rest.

    Args:
        matrices: Parameters of two dimensions or more.
        rest: All other parameters.
        lr: Learning rate of the rest, and of the matrices in units of `scale`.
        scale: Learning rate of the matrices in units of lr.
        momentum: Decay of the matrices' momentum, per step.
        betas: AdamW's.
        eps: AdamW's.
        weight_decay: Decoupled weight decay, in units of the learning rate.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        rest: Sequence[nn.Parameter],
        lr: float,
        scale: float = 1.0,
        momentum: float = MOMENTUM,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        groups: list[dict[str, Any]] = []
        if matrices:
            own = {"adamw": False, "lr": lr * scale, "lr_scale": scale, "momentum": momentum}
            groups.append({"params": list(matrices), **own, "weight_decay": weight_decay})
        self._adamw: torch.optim.AdamW | None = None
        if rest:
            self._adamw = torch.optim.AdamW(
                list(rest), lr, betas, eps, weight_decay=weight_decay, fused=True
            )
            groups += [{**group, "adamw": True} for group in self._adamw.param_groups]
        super().__init__(groups, {"lr": lr})
        self._share()

    def _share(self) -> None:
        """Let the inner AdamW work on the groups and the state of this optimiser."""
        if self._adamw is not None:
            self._adamw.param_groups = [g for g in self.param_groups if g["adamw"]]
            self._adamw.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from `state_dict`.

        Args:
            state_dict: The result of `state_dict`.
        """
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step every group once.

        Args:
            closure: Not used; the gradients are those of the parameters.
        """
        for group in self.param_groups:
            if not group["adamw"]:
                self._step_matrices(group)
        if self._adamw is not None:
            self._adamw.step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        gradients = [p.grad for p in parameters]
        averages = [self._momentum(p) for p in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        # Nesterov's; in place, since the gradients are used up
        torch._foreach_lerp_(gradients, averages, group["momentum"])
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for p, update in zip(parameters, gradients, strict=True):
            alike.setdefault((len(p), p.numel() // len(p)), []).append((p, update))
        for (rows, columns), members in alike.items():
            # One batched product a shape. Channels-last weights are flattened in memory order: the
            # order of columns is free, and nothing is copied.
            stacked = torch.stack([_last(u).reshape(rows, columns) for _, u in members])
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            for (p, _), direction in zip(members, orthogonalise(stacked), strict=True):
                _last(p).sub_(direction.reshape(_last(p).shape), alpha=scale)

    def _momentum(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        momentum: Tensor = state["momentum"]
        return momentum


def _last(w: Tensor) -> Tensor:
    """A convolution's weight with its input channels last, as channels-last memory holds it."""
    return w.movedim(1, -1) if w.ndim > 2 else w


def _adam(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    betas = (o.beta1, o.beta2)
    return torch.optim.Adam(network.parameters(), lr=o.lr, betas=betas, eps=o.eps, fused=True)


def _adamw(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    betas, decay = (o.beta1, o.beta2), o.weight_decay
    return torch.optim.AdamW(
        network.parameters(), lr=o.lr, betas=betas, eps=o.eps, weight_decay=decay, fused=True
    )


def _muon(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Muon for the declared matrices at `lr * muon_scale`, AdamW at `lr` for the rest."""
    if not isinstance(network, HasMatrices):
        raise InputError(
            f"optim.name=muon needs a network that declares its weight matrices; "
            f"{type(network).__name__} has no matrix_parameters(). Use optim.name=adamw"
        )
    matrices = network.matrix_parameters()
    declared = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in declared]
    return Muon(
        matrices,
        rest,
        o.lr,
        o.muon_scale,
        betas=(o.beta1, o.beta2),
        eps=o.eps,
        weight_decay=o.weight_decay,
    )


OPTIMISERS: dict[str, Callable[[OptimConfig, nn.Module], torch.optim.Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "muon": _muon,
}


def make_optimiser(o: OptimConfig, network: nn.Module) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name.

    Args:
        o: The settings of the group `optim`.
        network: The network, on its device.

    Returns:
        The optimiser of all parameters of the network.

    Raises:
        InputError: For an unknown name, or Muon with a network that declares no matrices.
    """
    if o.name not in OPTIMISERS:
        raise InputError(f"optim.name must be one of {', '.join(OPTIMISERS)}; got {o.name!r}")
    return OPTIMISERS[o.name](o, network)
