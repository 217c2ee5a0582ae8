"""Batches as a function: image number c of a run is determined by (seed, c), whatever its batch is.

    order        c = e N + p is example index[permutation_e[p]]; the permutation of epoch e is a
                 function of (seed, e)
    dequantise   stored level k -> (k + u) / levels, u uniform on (0, 1); for 8 bits this is
                 x 255/256 + u/256 (Song and Ermon 2019); rounded elements of other data,
                 x -> x + (u - 1/2) step
    flip         left to right with probability 1/2

The u and the flip of image c come from its key, hash(seed, c). Data units are converted to model
units in float64, and rounded to the batch's type last.
"""

from dataclasses import replace

import torch
from torch import Tensor

from .. import rng
from ..conditions import Condition, InternalForm
from ..errors import InputError
from ..rng import Stream
from ..units import Units
from .dataset import Dataset
from .fitting import quantisation_of

TRAIN, HELD_OUT = 0, 1  # steps of the dequantisation stream
LEAST_HELD_OUT = 2  # examples, where a fraction is given: one has no standard error
CONDITIONS = ("none", "class", "vector")


def _held_count(count: int, held_out: float) -> int:
    """How many of `count` examples `held_out`, a fraction or a whole number, holds out."""
    whole = held_out >= 1 and float(held_out).is_integer()
    if whole or held_out == 0:
        held = int(held_out)
    elif 0 < held_out < 1:
        held = max(round(held_out * count), min(LEAST_HELD_OUT, count // 2))
        held = min(held, count // 2) if held_out <= 0.5 else held
    else:
        held = -1
    if count == 1 and held_out > 0:
        raise InputError(
            f"one example cannot be split into a training and a held-out part (held_out="
            f"{held_out:g}); at least two are needed"
        )
    if not 0 <= held <= count // 2:
        raise InputError(
            "held_out must be a fraction or a whole number that leaves at least half of the "
            f"{count} examples to training; got {held_out:g}"
            + (f", which is {held} of them" if held > 0 and not whole else "")
        )
    return held


def split(labels: Tensor | None, count: int, seed: int, held_out: float) -> tuple[Tensor, Tensor]:
    """Training and held-out indices, shuffled; a function of the seed.

    Args:
        labels: (count,), or None. With labels each class holds out its fraction to within one
            example (largest remainders).
        count: The number of examples.
        seed: 0 or more.
        held_out: A fraction up to 1/2, or a number of examples. A fraction above zero holds out at
            least two examples of four or more, and one of two or three.

    Returns:
        (train, held_out), int64 indices into 0 .. count - 1.

    Raises:
        InputError: More than half would be held out, or there is one example only.
    """
    if count < 1:
        raise InputError(f"a split needs at least one example; got {count}")
    if labels is not None and labels.shape != (count,):
        raise InputError(
            f"labels must have shape ({count},), one an example; got {tuple(labels.shape)}"
        )
    held = _held_count(count, held_out)
    order = torch.randperm(count, generator=rng.generator(seed, Stream.SPLIT))
    if labels is None:
        return order[held:], order[:held]
    classes, member, sizes = torch.unique(labels.cpu(), return_inverse=True, return_counts=True)
    # The quota of class c is held * size_c / count: its whole part, and its remainder.
    take = held * sizes // count
    remainder = held * sizes % count
    take[torch.argsort(remainder, descending=True, stable=True)[: held - int(take.sum())]] += 1
    member = member[order]
    chosen = torch.zeros(count, dtype=torch.bool)
    for c in range(len(classes)):
        chosen[(member == c).nonzero().flatten()[: int(take[c])]] = True
    return order[~chosen], order[chosen]


class Pipeline:
    """Serves the examples of a data set in model units, with their conditions.

    Args:
        dataset: The data.
        index: int64 (N,), the examples that `batch` serves.
        units: The map to model units.
        seed: Decides order, dequantisation and flips.
        dequantise: "uniform" (which leaves continuous data as they are) or "none".
        flip: Whether to mirror images left to right with probability 1/2.
        condition: "class" to give the labels as {"class": (B,)}, "vector" to give the vectors as
            {"vector": (B, k)}, or "none".
        device: Where the data reside and the batches are made.
        dtype: The floating type of the batches.

    Raises:
        InputError: An argument does not fit the data.
    """

    def __init__(
        self,
        dataset: Dataset,
        index: Tensor,
        units: Units,
        seed: int,
        dequantise: str = "uniform",
        flip: bool = False,
        condition: str = "none",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        quantisation = quantisation_of(dataset, dequantise)
        if flip and not dataset.image:
            raise InputError(f"flip=True mirrors images; {dataset.name} holds none. Leave it out")
        if condition not in CONDITIONS:
            raise InputError(f"condition must be one of {', '.join(CONDITIONS)}; got {condition!r}")
        lacking = {"class": dataset.labels is None, "vector": dataset.vectors is None}
        if lacking.get(condition):
            what = "labels" if condition == "class" else "vectors"
            raise InputError(
                f"condition {condition!r} needs {what}, and {dataset.name} has none. Use 'none', "
                f"or open the data with condition={condition!r}"
            )
        if len(index) == 0:
            raise InputError("a pipeline needs at least one example; got an empty index")
        if not dtype.is_floating_point:
            raise InputError(f"batches are floats; got dtype {dtype}")
        self.dataset = replace(dataset, values=dataset.values.to(device))
        known = {"class": dataset.labels, "vector": dataset.vectors}.get(condition)
        if known is not None and known.is_floating_point():
            known = known.to(dtype)
        self._known = None if known is None else known.to(device)
        self.index, self.units, self.seed = index.cpu(), units, seed
        self.quantisation, self.flip, self.condition = quantisation, flip, condition
        self.device, self.dtype = torch.device(device), dtype
        steps = dataset.steps if dequantise == "uniform" else None
        self.steps = None if steps is None else steps.to(device)
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.index)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return self.dataset.event_shape

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            # The two last used are kept: batches cross from one epoch into the next.
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
            generator = rng.generator(self.seed, Stream.ORDER, epoch)
            self._orders[epoch] = self.index[torch.randperm(len(self), generator=generator)]
        return self._orders[epoch]

    def indices(self, first: int, count: int) -> Tensor:
        """The examples of the data set that images first .. first + count - 1 are: (count,)."""
        if first < 0 or count < 0:
            raise InputError(f"first and count must not be negative; got {first} and {count}")
        parts = []
        while count > 0:
            epoch, place = divmod(first, len(self))
            part = self._order(epoch)[place : place + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def batch(self, first: int, count: int) -> tuple[Tensor, Condition | None]:
        """Images first .. first + count - 1 of the run, bitwise the same in batches of any size.

        Args:
            first: The number of the first image, 0 or more.
            count: How many.

        Returns:
            (x0, condition): x0 (count, *event) in model units; {"class": (count,)}, {"vector":
            (count, k)} or None.
        """
        index = self.indices(first, count)
        keys = rng.keys(self.seed, count, first).to(self.device)
        x = self._data_units(index, keys, TRAIN)
        if self.flip:
            one = (1,) * len(self.event_shape)
            mirror = rng.rademacher(keys, Stream.AUGMENT, 0, one, self.dtype) > 0
            x = torch.where(mirror, x.flip(-1), x)
        return self.units.to_model(x, self.dtype), self._conditions(index)

    def held_out(self, index: Tensor) -> tuple[Tensor, Condition | None]:
        """Given examples of the data set, dequantised where batches are, and never flipped.

        The dequantisation noise belongs to the example, so that a held-out loss is
        measured on the distribution of training, with the same numbers every time.

        Args:
            index: int64 (B,), indices into the data set.

        Returns:
            (x0, condition) as `batch` gives them.
        """
        keys = rng.keys(self.seed, len(self.dataset))[index.cpu()].to(self.device)
        x = self._data_units(index, keys, HELD_OUT)
        return self.units.to_model(x, self.dtype), self._conditions(index)

    def _conditions(self, index: Tensor) -> Condition | None:
        if self._known is None:
            return None
        return InternalForm({self.condition: self._known[index.to(self.device)]})

    def _data_units(self, index: Tensor, keys: Tensor, step: int) -> Tensor:
        """The examples in data units, in the data's own floating type."""
        index = index.to(self.device)
        dequantised = self.quantisation is not None and self.quantisation.dequantised
        if self.steps is None and not dequantised:
            return self.dataset.floats(index)
        real = self.dtype if self.steps is None else torch.float64
        noise = rng.uniform(keys, Stream.DEQUANTISE, step, self.event_shape, real)
        if self.steps is None:
            assert self.quantisation is not None
            return self.quantisation.dequantise(self.dataset.values[index], noise)
        x = self.dataset.floats(index)
        wide = x.to(torch.float64)
        spread = wide + (noise - 0.5) * self.steps
        for k, ranks in self.units.ranks.items():
            spread[:, k] = ranks.spread(wide[:, k], noise[:, k])
        return spread.to(x.dtype)
