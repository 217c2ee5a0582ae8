"""The network for vectors, tables and anything flattened: a residual perceptron.

h = W x + V c + b           c: a vector that is the condition, standardised; 0 where it is null
h <- h + A drop(silu(B silu(modulate(norm(h), embedding))))    in each block; A starts at zero
out = head(silu(norm(h)))
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..values import finite, shape, whole
from .layers import Embedding, linear, modulate, rms_norm


class Residual(nn.Module):
    """h + A drop(silu(B silu(modulate(norm(h))))), starting as the identity."""

    def __init__(self, width: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.modulation = linear(embedding, 2 * width, zero=True)
        self.inner = linear(width, width)
        self.outer = linear(width, width, zero=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(modulate(rms_norm(x), self.modulation(embedding)))
        return x + self.outer(F.dropout(F.silu(self.inner(h)), self.dropout, self.training))


class MLP(nn.Module):
    """A residual perceptron on events of any shape, flattened.

    Args:
        event_shape: Shape of one example.
        width: Features of the hidden layers.
        depth: Number of residual blocks.
        embedding: Width of the embedding of noise level and conditions.
        conditions: What the network can be conditioned on, by name; None for nothing.
        dropout: Fraction of the hidden features of each block that training sets to zero, in
            [0, 1), so that small tables are not memorised.

    Raises:
        InputError: For sizes below 1, a negative depth or a dropout out of range.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        embedding: int = 64,
        conditions: Mapping[str, ConditionSpec] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        event_shape = shape(event_shape, "event_shape")
        width, depth = whole(width, "width"), whole(depth, "depth")
        embedding, dropout = whole(embedding, "embedding"), finite(dropout, "dropout")
        if min((*event_shape, width, embedding)) < 1 or depth < 0:
            raise InputError(
                f"mlp needs sizes of at least 1; got event {tuple(event_shape)}, width={width}, "
                f"depth={depth}, embedding={embedding}"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"dropout of the mlp must lie in [0, 1); got {dropout:g}")
        self.options: dict[str, float] = {"width": width, "depth": depth, "embedding": embedding}
        if dropout > 0:
            self.options["dropout"] = dropout
        elements = math.prod(event_shape)
        self.embed = Embedding(embedding, conditions)
        self.stem = linear(elements, width)
        vectors = {name: spec for name, spec in (conditions or {}).items() if spec.kind == "vector"}
        self.vectors = nn.ModuleDict({k: linear(v.size, width) for k, v in vectors.items()})
        self.blocks = nn.ModuleList(Residual(width, embedding, dropout) for _ in range(depth))
        self.head = linear(width, elements, zero=True)

    def matrix_parameters(self) -> list[nn.Parameter]:
        """The weight matrices of the hidden layers, which an optimiser for matrices may step."""
        blocks = [block for block in self.blocks if isinstance(block, Residual)]
        layers = (layer for block in blocks for layer in (block.inner, block.outer))
        return [p for layer in layers for p in layer.parameters() if p.ndim == 2]

    def forward(
        self,
        x: Tensor,
        noise_input: Tensor | None = None,
        condition: Condition | None = None,
    ) -> Tensor:
        """The network's output.

        Args:
            x: (B, *event_shape).
            noise_input: (B,), or None.
            condition: Mapping of tensors with B rows, or None.

        Returns:
            (B, *event_shape).
        """
        e = self.embed(len(x), noise_input, condition)
        h = self.stem(x.flatten(1))
        for name, layer in self.vectors.items():
            if condition is not None and name in condition:
                value = condition[name]
                mapped = layer(value.nan_to_num().to(h.dtype))
                h = h + torch.where(torch.isnan(value).any(1, keepdim=True), 0.0, mapped)
        for block in self.blocks:
            h = block(h, e)
        return self.head(F.silu(rms_norm(h))).reshape(x.shape)
