"""The published networks of NCSN and NCSNv2: RefineNets of dilated residual blocks.

    h = 2x - 1                                 or x, if the data are rescaled already
    begin -> stages of two residual blocks     the first one halves the image or dilates
          -> refine blocks, coarse to fine     each joins a stage with the refine block before it
          -> norm, ELU, end convolution

    InstanceNorm++    gamma (h' + alpha m') + beta,  h' = (h - mean) / sqrt(var + 1e-5)
                      per image and channel; m' are the image's means, standardised over its
                      channels (unbiased variance). Plain instance norm would lose an image's
                      brightness.

Song and Ermon 2019, appendix A, and 2020, appendix B; RefineNet: Lin et al. 2017. The variants are
rows of VARIANTS. The conditional network looks gamma, alpha and beta up by the index of the level,
normalises everywhere and pools with means. The others normalise the residual blocks only and pool
with maxima. Parameters have the names of the published checkpoints, so that interop/ncsn.py loads
them by name. The norm is plain arithmetic that a compiler fuses with the ELU behind it; its
statistics are float32 whatever type the convolutions compute in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..conditions import Condition, ConditionSpec
from ..errors import InputError
from ..values import flag, one_of, shape, whole

EPS = 1e-5


@dataclass(frozen=True)
class Stage:
    """Two residual blocks.

    Attributes:
        name: Of the module, as in the published checkpoints.
        width: In multiples of the network's width.
        down: Whether the first block halves the image, or dilates where dilation > 1.
        dilation: Of the convolutions.
    """

    name: str
    width: int
    down: bool = False
    dilation: int = 1


@dataclass(frozen=True)
class Join:
    """A refine block.

    Attributes:
        name: Of the module, as in the published checkpoints.
        inputs: The features that it joins; the first one decides the size.
        width: In multiples of the network's width.
    """

    name: str
    inputs: tuple[str, ...]
    width: int


@dataclass(frozen=True)
class Variant:
    """A network as data.

    Attributes:
        conditional: Whether norms depend on the index of the level; the network then also has
            norms in the refine blocks, and mean pooling.
        stages: In order of execution.
        joins: In order of execution.
    """

    conditional: bool
    stages: tuple[Stage, ...]
    joins: tuple[Join, ...]


_BASE = (
    Stage("res1", 1),
    Stage("res2", 2, True),
    Stage("res3", 2, True, 2),
    Stage("res4", 2, True, 4),
)
_BASE_JOINS = (
    Join("refine1", ("res4",), 2),
    Join("refine2", ("res3", "refine1"), 2),
    Join("refine3", ("res2", "refine2"), 1),
    Join("refine4", ("res1", "refine3"), 1),
)
_FINE = (Stage("res1", 1), Stage("res2", 2, True), Stage("res3", 2, True))
_COARSE = (Stage("res4", 4, True, 2), Stage("res5", 4, True, 4))
_COARSE_JOINS = (Join("refine1", ("res5",), 4), Join("refine2", ("res4", "refine1"), 2))
_FINE_JOINS = (Join("refine4", ("res2", "refine3"), 1), Join("refine5", ("res1", "refine4"), 1))

VARIANTS: dict[str, Variant] = {
    "ncsn": Variant(True, _BASE, _BASE_JOINS),
    "ncsnv2": Variant(False, _BASE, _BASE_JOINS),
    "deeper": Variant(
        False,
        _FINE + _COARSE,
        (*_COARSE_JOINS, Join("refine3", ("res3", "refine2"), 2), *_FINE_JOINS),
    ),
    "deepest": Variant(
        False,
        (*_FINE, Stage("res31", 2, True), *_COARSE),
        (
            *_COARSE_JOINS,
            Join("refine31", ("res31", "refine2"), 2),
            Join("refine3", ("res3", "refine31"), 2),
            *_FINE_JOINS,
        ),
    ),
}


def instance_norm_plus(x: Tensor, gamma: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """InstanceNorm++ (see the module docstring).

    The variance is taken about a constant, and corrected: the correction has the value zero and
    the derivatives of differentiation through the mean, which saves a pass over the image on the
    way back.

    Args:
        x: (B, C, H, W).
        gamma: (C,) or (B, C).
        alpha: Like gamma.
        beta: Like gamma.

    Returns:
        x's shape and type.
    """
    h = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = h.mean((2, 3), keepdim=True)
    constant = mean.detach()
    variance = (h - constant).square().mean((2, 3), keepdim=True) - (mean - constant).square()
    across = mean - mean.mean(1, keepdim=True)
    across = across * torch.rsqrt(across.square().sum(1, keepdim=True) / (x.shape[1] - 1) + EPS)
    g, a, b = (row[..., None, None] for row in (gamma, alpha, beta))
    return ((h - mean) * (g * torch.rsqrt(variance + EPS)) + (g * a * across + b)).to(x.dtype)


def activate(x: Tensor) -> Tensor:
    """ELU in place, of a tensor that is not used elsewhere.

    Its derivative is then read off the result, without a second exponential.
    """
    return F.elu(x, inplace=True)


class MeanPool(torch.autograd.Function):
    """5 x 5 mean pool of stride 1, computed as two of 5; at the border too it divides by 25.

    It is a symmetric linear map, so that its derivative is itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.avg_pool2d(x, (5, 1), 1, (2, 0)), (1, 5), 1, (0, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return mean_pool(gradient)


def mean_pool(x: Tensor) -> Tensor:
    """5 x 5 mean pool of stride 1, whose derivative is the same pool."""
    pooled: Tensor = MeanPool.apply(x)  # type: ignore[no-untyped-call]
    return pooled


def halve(x: Tensor) -> Tensor:
    """2 x 2 mean pool of stride 2; an odd side loses its last row, and a side of 1 stays."""
    window = (min(2, x.shape[2]), min(2, x.shape[3]))
    return F.avg_pool2d(x, window, window)


def conv3(inputs: int, outputs: int, dilation: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=bias)


class InstanceNormPlus(nn.Module):
    """`instance_norm_plus` with its parameters.

    They are a table over `levels` (gamma, alpha, beta side by side), or plain vectors where levels
    is 0.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels = levels
        if levels:
            self.embed = nn.Embedding(levels, 3 * channels)
            with torch.no_grad():
                self.embed.weight[:, : 2 * channels].normal_(1, 0.02)
                self.embed.weight[:, 2 * channels :].zero_()
        else:
            self.alpha = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
            self.gamma = nn.Parameter(torch.empty(channels).normal_(1, 0.02))
            self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        if not self.levels:
            return instance_norm_plus(x, self.gamma, self.alpha, self.beta)
        gamma, alpha, beta = self.embed(level).chunk(3, dim=1)
        return instance_norm_plus(x, gamma, alpha, beta)


class Halved(nn.Module):
    """A convolution and a mean pool.

    A pointwise convolution comes after the pool: they commute, and the pooled image is a quarter.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(halve(x)) if self.conv.kernel_size == (1, 1) else halve(self.conv(x))


class Residual(nn.Module):
    """shortcut(x) + conv2(act(norm2(conv1(act(norm1(x)))))); inputs = outputs unless `down`."""

    def __init__(
        self, inputs: int, outputs: int, levels: int, down: bool = False, dilation: int = 1
    ) -> None:
        super().__init__()
        self.normalize1, self.normalize2 = (
            InstanceNormPlus(inputs, levels),
            InstanceNormPlus(inputs, levels),
        )
        self.conv1, conv2 = conv3(inputs, inputs, dilation), conv3(inputs, outputs, dilation)
        self.conv2: nn.Module = conv2
        self.shortcut: nn.Module = nn.Identity()
        if down and dilation > 1:
            self.shortcut = conv3(inputs, outputs, dilation)
        elif down:
            self.conv2, self.shortcut = Halved(conv2), Halved(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        h = self.conv1(activate(self.normalize1(x, level)))
        return self.shortcut(x) + self.conv2(activate(self.normalize2(h, level)))


class ResidualConvUnits(nn.Module):
    """x + conv(act(conv(act(x)))), `blocks` times; conditional networks normalise before act."""

    def __init__(self, width: int, blocks: int, levels: int) -> None:
        super().__init__()
        self.blocks, self.levels = blocks, levels
        for b in range(1, blocks + 1):
            for t in (1, 2):
                self.add_module(f"{b}_{t}_conv", conv3(width, width, bias=False))
                if levels:
                    self.add_module(f"{b}_{t}_norm", InstanceNormPlus(width, levels))

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        for b in range(1, self.blocks + 1):
            h = x
            for t in (1, 2):
                h = activate(getattr(self, f"{b}_{t}_norm")(h, level)) if self.levels else F.elu(h)
                h = getattr(self, f"{b}_{t}_conv")(h)
            x = x + h
        return x


class Fusion(nn.Module):
    """The sum of one convolution of each input, resized bilinearly to the size of the first."""

    def __init__(self, inputs: Sequence[int], width: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3(n, width) for n in inputs)
        self.norms = nn.ModuleList(InstanceNormPlus(n, levels) for n in inputs if levels)

    def forward(self, inputs: Sequence[Tensor], level: Tensor | None) -> Tensor:
        size = inputs[0].shape[2:]
        parts = []
        for i, x in enumerate(inputs):
            h = self.convs[i](self.norms[i](x, level) if len(self.norms) else x)
            parts.append(
                h
                if h.shape[2:] == size
                else F.interpolate(h, size, mode="bilinear", align_corners=True)
            )
        return sum(parts[1:], parts[0])


class ChainedPooling(nn.Module):
    """x + path_1 + path_2 with path_t = conv(pool(path_(t-1))) and path_0 = x = act(input)."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv3(width, width, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(InstanceNormPlus(width, levels) for _ in range(2) if levels)

    def forward(self, x: Tensor, level: Tensor | None) -> Tensor:
        x = path = F.elu(x)
        for i, conv in enumerate(self.convs):
            pooled = (
                mean_pool(self.norms[i](path, level))
                if len(self.norms)
                else F.max_pool2d(path, 5, 1, 2)
            )
            path = conv(pooled)
            x = x + path
        return x


class Refine(nn.Module):
    """Adapt each input, fuse them, pool in a chain, and adapt the result (`blocks` units)."""

    def __init__(self, inputs: Sequence[int], width: int, levels: int, blocks: int) -> None:
        super().__init__()
        self.adapt_convs = nn.ModuleList(ResidualConvUnits(n, 2, levels) for n in inputs)
        self.msf = Fusion(inputs, width, levels) if len(inputs) > 1 else None
        self.crp = ChainedPooling(width, levels)
        self.output_convs = ResidualConvUnits(width, blocks, levels)

    def forward(self, inputs: Sequence[Tensor], level: Tensor | None) -> Tensor:
        adapted = [adapt(x, level) for adapt, x in zip(self.adapt_convs, inputs, strict=True)]
        h = adapted[0] if self.msf is None else self.msf(adapted, level)
        return self.output_convs(self.crp(h, level), level)


class RefineNet(nn.Module):
    """A row of VARIANTS for images (C, H, W) of any size.

    Args:
        event_shape: (C, H, W).
        variant: "ncsn", "ncsnv2", "deeper" (published for 64 x 64 and 96 x 96) or "deepest"
            (128 x 128 and larger).
        width: Channels of the first stage, ngf in the originals; None: 64 for one channel, 128 for
            more, as published.
        levels: Rows of the tables by noise level of the variant "ncsn", the length of the ladder;
            None: NCSN's 10. The other variants have none.
        rescaled: True where x is centred already (2x - 1 or logits).
        conditions: Must be empty: the published networks take none.

    Raises:
        InputError: For an unknown variant, other shapes, sizes that do not fit, or conditions.
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        variant: str = "ncsn",
        width: int | None = None,
        levels: int | None = None,
        rescaled: bool = False,
        conditions: Mapping[str, ConditionSpec] | None = None,
    ) -> None:
        super().__init__()
        variant = one_of(variant, VARIANTS, "refinenet's variant")
        event_shape, rescaled = shape(event_shape, "event_shape"), flag(rescaled, "rescaled")
        if len(event_shape) != 3 or min(event_shape) < 1:
            raise InputError(
                f"refinenet needs images (channels, height, width); got {tuple(event_shape)}. "
                "Other data? use unet or mlp"
            )
        if conditions:
            raise InputError(
                f"refinenet takes no condition, as published; got {', '.join(conditions)}. "
                "Use the network unet or mlp"
            )
        plan = VARIANTS[variant]
        channels = event_shape[0]
        usual = 64 if channels == 1 else 128
        width = usual if width is None else whole(width, "width")
        wanted = 10 if levels is None else whole(levels, "levels")
        if width < 2 or wanted < 0 or (plan.conditional and wanted < 1):
            raise InputError(
                "refinenet needs a width of at least 2, and at least 1 level in the variant ncsn; "
                f"got width={width}, levels={wanted}"
            )
        levels = wanted if plan.conditional else 0
        self.options = {
            "variant": variant,
            "width": width,
            "levels": levels,
            "rescaled": rescaled,
        }
        self.plan, self.rescaled = plan, rescaled
        self.begin_conv, self.end_conv = conv3(channels, width), conv3(width, channels)
        self.normalizer = InstanceNormPlus(width, levels)
        widths, last = {}, width
        for stage in plan.stages:
            out = stage.width * width
            first = Residual(last, out, levels, stage.down, stage.dilation)
            self.add_module(
                stage.name,
                nn.ModuleList([first, Residual(out, out, levels, dilation=stage.dilation)]),
            )
            widths[stage.name] = last = out
        for join in plan.joins:
            widths[join.name] = join.width * width
            blocks = 3 if join is plan.joins[-1] else 1
            self.add_module(
                join.name,
                Refine([widths[name] for name in join.inputs], join.width * width, levels, blocks),
            )

    def matrix_parameters(self) -> list[nn.Parameter]:
        """The weights of all convolutions but the first and the last."""
        outer = ("begin_conv", "end_conv")
        return [
            p for name, p in self.named_parameters() if p.ndim == 4 and not name.startswith(outer)
        ]

    def forward(
        self, x: Tensor, noise_input: Tensor | None = None, condition: Condition | None = None
    ) -> Tensor:
        """The network's output.

        Args:
            x: (B, C, H, W).
            noise_input: (B,), the index of the noise level, for the variant "ncsn".
            condition: Must be None.

        Returns:
            (B, C, H, W).

        Raises:
            InputError: For a condition, or a missing index of the noise level.
        """
        if condition:
            raise InputError("refinenet takes no condition; use the network unet or mlp")
        level = None
        if self.plan.conditional:
            if noise_input is None:
                raise InputError(
                    "refinenet's variant ncsn needs the level's index: use preconditioner ncsn, "
                    "or a variant of NCSNv2"
                )
            level = noise_input.long()
        h = self.begin_conv(x if self.rescaled else 2 * x - 1)
        features: dict[str, Tensor] = {}
        for stage in self.plan.stages:
            for block in getattr(self, stage.name):
                h = block(h, level)
            features[stage.name] = h
        for join in self.plan.joins:
            h = features[join.name] = getattr(self, join.name)(
                [features[name] for name in join.inputs], level
            )
        return self.end_conv(activate(self.normalizer(h, level)))
