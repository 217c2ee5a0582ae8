"""The network for vectors, tables and anything flattened: a residual perceptron.

h = W x + b;    h <- h + A silu(B silu(modulate(norm(h), embedding)))  per block, A starting at zero;    out = head(silu(norm(h)))
"""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from .layers import Embedding, linear, modulate, rms_norm


class Residual(nn.Module):
    """h + A silu(B silu(modulate(norm(h)))), starting as the identity."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.modulation = linear(embedding, 2 * width, zero=True)
        self.inner = linear(width, width)
        self.outer = linear(width, width, zero=True)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(modulate(rms_norm(x), self.modulation(embedding)))
        return x + self.outer(F.silu(self.inner(h)))


class MLP(nn.Module):
    """A residual perceptron on events of any shape, flattened.

    width: features; depth: residual blocks; embedding: width of the embedding; condition: length of
    condition vectors, 0 for none.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        width: int = 128,
        depth: int = 3,
        embedding: int = 64,
        condition: int = 0,
    ) -> None:
        super().__init__()
        if min((*event_shape, width, embedding)) < 1 or depth < 0:
            raise InputError(
                f"mlp needs sizes of at least 1; got event {tuple(event_shape)}, width={width}, "
                f"depth={depth}, embedding={embedding}"
            )
        self.options = {
            "width": width,
            "depth": depth,
            "embedding": embedding,
            "condition": condition,
        }
        elements = math.prod(event_shape)
        self.embed = Embedding(embedding, condition)
        self.stem = linear(elements, width)
        self.blocks = nn.ModuleList(Residual(width, embedding) for _ in range(depth))
        self.head = linear(width, elements, zero=True)

    def forward(
        self, x: Tensor, noise_input: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        e = self.embed(len(x), noise_input, condition)
        h = self.stem(x.flatten(1))
        for block in self.blocks:
            h = block(h, e)
        return self.head(F.silu(rms_norm(h))).reshape(x.shape)
