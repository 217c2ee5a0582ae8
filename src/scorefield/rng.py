"""Noise as a function of (key, stream, step, position), whatever was drawn before.

Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on integer tensors
turns a 64-bit key and a 128-bit counter into four 32-bit words. Box-Muller turns those into four
normals. One key belongs to one sample, so that the noise of a sample is bitwise the same in a batch
of one and in a batch of a million, beside any other samples, in any process.

    key of sample k of seed s    hash(s, k), itself a Philox block: two seeds share nothing
    counter                      (position / 4, step, stream + 256 draw, 0)
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from .errors import InputError
from .tensors import reals
from .values import whole, whole_numbers

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
ROUNDS = 10
CHUNK = 1 << 17  # counters a pass: bounds the working set; larger passes were not faster


class Stream(IntEnum):
    """The purpose of a draw. Two streams of one key are independent.

    Every purpose has a stream of its own, and a stream is drawn from in one place of the code.
    """

    START = 0  # the state at the largest noise level
    KERNEL = 1  # normals of a sampling kernel, by step
    PROJECTION = 2  # noise of the observation in inpainting, by step or by level
    MEASUREMENT = 3  # noise of simulated measurements
    RESAMPLING = 4  # resampling of a particle population, one number a group
    SIGMA = 5  # noise levels of training
    NOISE = 6  # noise of training
    DEQUANTISE = 7  # place within the bin of quantised data
    AUGMENT = 8  # random flips
    PROBE = 9  # Hutchinson's probes of a likelihood
    ORDER = 10  # the order of the data in an epoch
    TOY = 11  # toy data sets
    EXACT = 12  # independent draws from densities in closed form
    CONDITION = 13  # which conditions training drops
    WEIGHTS = 14  # initial weights of a network
    SLICE = 15  # slices of sliced score matching
    SPLIT = 16  # which examples are held out
    SUBSET = 17  # which examples of a data set are taken
    KERNEL_UNIFORM = 18  # uniform numbers of a sampling kernel, by step
    CURVATURE = 19  # start of the Lanczos iteration
    DIRECTION = 20  # random directions that diagnostics follow
    SELF_CHECK = 21  # inputs that compare two forms of one network
    OPERATOR = 22  # random measurement operators, and the inputs that check operators
    PLAN = 23  # noise at which a plan measures how visible single examples are
    HEALTH = 24  # noise and probes of score health
    CLASSIFIER = 25  # weights and order of the examples of a classifier of labels
    EVALUATION = 26  # directions, halves, folds, permutations and parts of metrics


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> list[Tensor]:
    """Philox4x32-10, the block function.

    Args:
        counter: Four int64 tensors of 32-bit words.
        key: Two int64 tensors of 32-bit words; all six broadcast against each other.

    Returns:
        Four words of the broadcast shape.
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter, *key)[:4]
    k0, k1 = key
    for _ in range(ROUNDS):
        # 32 x 32 -> 64 bits in int64: the product wraps, its bits do not. c1 and c3 carry waste
        # above their 32 bits until the next mask.
        low, high = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = (high >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(WORD)
        c2 = (low >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(WORD)
        c1, c3 = high, low
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return [c0, c1 & WORD, c2, c3 & WORD]


def _words(value: Any, what: str) -> tuple[int, int]:
    number = whole(value, what)
    if not 0 <= number < 1 << 64:
        raise InputError(f"{what} must be a whole number in [0, 2^64); got {number}")
    return number & WORD, number >> 32


def keys(seed: int, count: int, first: int = 0) -> Tensor:
    """The keys of samples first .. first + count - 1 of a seed.

    Args:
        seed: In [0, 2^64).
        count: Number of keys.
        first: Number of the first sample.

    Returns:
        int64 (count, 2), each row two 32-bit words.

    Raises:
        InputError: For numbers out of range.
    """
    count, first = whole(count, "count", 0), whole(first, "first", 0)
    low, high = _words(seed, "seed")
    index = torch.arange(first, first + count, dtype=torch.int64)
    zero = torch.zeros_like(index)
    words = philox((index & WORD, index >> 32, zero + 0x5C0E, zero), (zero + low, zero + high))
    return torch.stack(words[:2], dim=1)


def keys_of(seeds: Sequence[int]) -> Tensor:
    """One key a seed, (s, 0) for each s: int64 (len(seeds), 2)."""
    made = [keys(seed, 1) for seed in whole_numbers(seeds, "seeds")]
    return torch.cat(made) if made else torch.empty(0, 2, dtype=torch.int64)


@dataclass(frozen=True)
class Blend:
    """Keys of samples between two others.

    Their normals are cos(angle) z + sin(angle) z', which are standard normals again.

    Args:
        first: Keys (B, 2).
        second: Keys (B, 2).
        angle: (B,) float64, radians.
    """

    first: Tensor
    second: Tensor
    angle: Tensor

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, index: Tensor | slice) -> "Blend":
        return Blend(self.first[index], self.second[index], self.angle[index])

    def to(self, device: torch.device | str) -> "Blend":
        """The same keys on another device."""
        return Blend(self.first.to(device), self.second.to(device), self.angle.to(device))


#: Keys of samples: int64 (B, 2), or a `Blend` of two sets of them.
Keys = Tensor | Blend


def as_keys(value: Any) -> Keys:
    """Keys from a tensor, an array or nested lists of whole numbers (B, 2), or a Blend.

    Raises:
        InputError: For anything else.
    """
    if isinstance(value, Blend):
        return value
    found = reals(value, "keys")
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype != torch.int64:
        raise InputError(
            "keys must be int64 (B, 2) as rng.keys makes them; got "
            f"{str(found.dtype).removeprefix('torch.')} {tuple(found.shape)}"
        )
    return found


def blend_rows(seed: int, rows: int, steps: int) -> Blend:
    """Keys of `rows` rows of `steps` samples, from sample 2r to sample 2r + 1 of the seed.

    All noise of the samples between is mixed as cos(a) z + sin(a) z', with a from 0 to pi/2
    (Song & Ermon 2020, Section 5).

    Args:
        seed: Seed of the samples at the ends.
        rows: Number of rows.
        steps: Samples a row, both ends included.

    Returns:
        rows x steps keys, row by row.
    """
    rows, steps = whole(rows, "rows", 0), whole(steps, "steps", 1)
    ends = keys(seed, 2 * rows)
    angle = torch.linspace(0, math.pi / 2, steps, dtype=torch.float64).repeat(rows)
    first, second = ends[0::2], ends[1::2]
    return Blend(first.repeat_interleave(steps, 0), second.repeat_interleave(steps, 0), angle)


def generator(seed: int, stream: Stream, index: int = 0) -> torch.Generator:
    """A CPU generator for draws that belong to a whole set, such as a permutation.

    Args:
        seed: In [0, 2^64).
        stream: The purpose of the draw.
        index: Number of the draw, such as an epoch.

    Returns:
        A generator whose state is a function of the arguments.
    """
    low, high = _words(seed, "seed")
    counter = [torch.tensor([w]) for w in (*_words(index, "index"), int(stream), 1)]
    a, b, *_ = philox(counter, (torch.tensor([low]), torch.tensor([high])))
    return torch.Generator().manual_seed(int(a) << 31 | int(b) >> 1)


def _draw(
    keys: Tensor,
    stream: Stream,
    step: int,
    shape: Sequence[int],
    dtype: torch.dtype,
    draw: int,
    convert: Callable[[list[Tensor]], Tensor],
) -> Tensor:
    """Fill (B, *shape) from blocks of four words.

    `convert` maps four (rows, blocks) word tensors to (rows, blocks, 4) numbers.
    """
    if keys.ndim != 2 or keys.shape[1] != 2 or keys.dtype != torch.int64:
        raise InputError(
            f"keys must be an int64 tensor (B, 2) as rng.keys makes it; got {keys.dtype} "
            f"{tuple(keys.shape)}"
        )
    step, draw = whole(step, "step", 0), whole(draw, "draw", 0)
    shape = tuple(whole_numbers(shape, "shape", 0))
    size = math.prod(shape)
    blocks = (size + 3) // 4
    out = torch.empty(len(keys), blocks * 4, dtype=dtype, device=keys.device)
    position = torch.arange(blocks, device=keys.device)[None]
    rows = max(1, CHUNK // max(blocks, 1))
    counter = (
        position,
        torch.full_like(position, step & WORD),
        torch.full_like(position, int(stream) + 256 * draw),
        torch.full_like(position, step >> 32),
    )
    for start in range(0, len(keys), rows):
        part = keys[start : start + rows]
        words = philox(counter, (part[:, :1], part[:, 1:]))
        out[start : start + rows] = convert(words).flatten(1)
    return out[:, :size].reshape(len(keys), *shape)


def _unit(word: Tensor, dtype: torch.dtype) -> Tensor:
    """A 32-bit word as a number in (0, 1)."""
    return word.to(dtype).add_(0.5).mul_(2.0**-32)


def normal(
    keys: Keys,
    stream: Stream,
    step: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    draw: int = 0,
) -> Tensor:
    """Standard normals.

    Args:
        keys: One key a sample, B of them.
        stream: The purpose of the draw.
        step: Number of the step, in [0, 2^64).
        shape: Shape of one sample's numbers.
        dtype: Floating type of the result.
        draw: Number of the draw within the step.

    Returns:
        (B, *shape) on the keys' device.
    """
    shape = tuple(whole_numbers(shape, "shape", 0))
    if isinstance(keys, Blend):
        a, b = (
            normal(part, stream, step, shape, dtype, draw) for part in (keys.first, keys.second)
        )
        angle = keys.angle.reshape(-1, *(1,) * len(shape))
        return (angle.cos() * a + angle.sin() * b).to(dtype)
    real = torch.float64 if dtype == torch.float64 else torch.float32

    def box_muller(words: list[Tensor]) -> Tensor:
        parts = []
        for a, b in ((words[0], words[1]), (words[2], words[3])):
            radius = _unit(a, real).clamp_(max=1.0).log_().mul_(-2.0).sqrt_()
            angle = _unit(b, real).mul_(2 * math.pi)
            parts += [radius * angle.cos(), radius * angle.sin()]
        return torch.stack(parts, dim=-1)

    return _draw(keys, stream, step, shape, real, draw, box_muller).to(dtype)


def uniform(
    keys: Keys,
    stream: Stream,
    step: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    draw: int = 0,
) -> Tensor:
    """Uniform numbers in (0, 1); the largest in float32 is 1 - 2^-24.

    For a Blend they are the normal distribution function at its normals. The arguments and the
    shape of the result are those of `normal`.
    """
    if isinstance(keys, Blend):
        return torch.special.ndtr(normal(keys, stream, step, shape, dtype, draw))
    real = torch.float64 if dtype == torch.float64 else torch.float32
    top = 1.0 - torch.finfo(real).eps / 2

    def unit(words: list[Tensor]) -> Tensor:
        return torch.stack([_unit(word, real) for word in words], dim=-1).clamp_(max=top)

    return _draw(keys, stream, step, shape, real, draw, unit).to(dtype)


def rademacher(
    keys: Keys,
    stream: Stream,
    step: int,
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    draw: int = 0,
) -> Tensor:
    """Signs +1 or -1 with equal probability; for a Blend, the signs of its normals.

    The arguments and the shape of the result are those of `normal`.
    """
    if isinstance(keys, Blend):
        return normal(keys, stream, step, shape, dtype, draw).sign()

    def signs(words: list[Tensor]) -> Tensor:
        return torch.stack([(word >> 31) * 2 - 1 for word in words], dim=-1)

    return _draw(keys, stream, step, shape, torch.int64, draw, signs).to(dtype)
