"""Batches as a function: image number c of a run is determined by (seed, c), whatever the batch it
comes in.

    epoch e = c // N, place p = c % N        item = index[permutation_e[p]]        permutation_e = f(seed, e)
    dequantise   level k -> (k + u) / levels, u ~ U(0, 1); for 8 bits x 255/256 + u/256 (Song & Ermon 2019)
    flip         left to right with probability 1/2

u and the flip of image c come from its key, hash(seed, c).
"""

from dataclasses import replace

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError
from ..rng import Stream
from ..units import Units
from .collection import Collection

SPLIT = 1 << 63  # index of the split's generator; epochs count up from 0
TRAIN, HELD_OUT = 0, 1  # steps of the dequantisation stream


def _held_count(count: int, held_out: float | int) -> int:
    whole = held_out >= 1 and float(held_out).is_integer()
    held = (
        int(held_out)
        if whole or held_out == 0
        else round(held_out * count)
        if 0 < held_out < 1
        else -1
    )
    if not 0 <= held <= count // 2:
        raise InputError(
            "held_out must be a fraction or a whole number that leaves at least half of the "
            f"{count} events to training; got {held_out:g}"
            + (f", which is {held} of them" if held > 0 and not whole else "")
        )
    return held


def split(
    labels: Tensor | None, count: int, seed: int, held_out: float | int
) -> tuple[Tensor, Tensor]:
    """(train, held_out): shuffled int64 indices into 0 .. count - 1, a function of the seed.

    held_out: a fraction below 1/2, or a number of events. With labels (count,) each class gives its
    share to within one event (largest
    remainders). Refused (InputError) where more than half would be held out.
    """
    if count < 1:
        raise InputError(f"a split needs at least one event; got {count}")
    if labels is not None and labels.shape != (count,):
        raise InputError(
            f"labels must have shape ({count},), one an event; got {tuple(labels.shape)}"
        )
    held = _held_count(count, held_out)
    order = torch.randperm(count, generator=rng.generator(seed, Stream.ORDER, SPLIT))
    if labels is None:
        return order[held:], order[:held]
    classes, member, sizes = labels.cpu().unique(return_inverse=True, return_counts=True)
    # In whole numbers: share_c = held * size_c / count, its whole part and its remainder.
    take = held * sizes // count
    remainder = held * sizes % count
    take[torch.argsort(remainder, descending=True, stable=True)[: held - int(take.sum())]] += 1
    member = member[order]
    chosen = torch.zeros(count, dtype=torch.bool)
    for c in range(len(classes)):
        chosen[(member == c).nonzero().flatten()[: int(take[c])]] = True
    return order[~chosen], order[chosen]


class Pipeline:
    """The events of `collection` at `index` in model units.

    dequantise: "uniform" (quantised images only; continuous data have nothing to dequantise) or
    "none". flip: mirror images left to right
    with probability 1/2. dtype: of the batches. device: where the data reside and the batches are
    made.
    """

    def __init__(
        self,
        collection: Collection,
        index: Tensor,
        units: Units,
        seed: int,
        dequantise: str = "uniform",
        flip: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if dequantise not in ("uniform", "none"):
            raise InputError(f"dequantise must be uniform or none; got {dequantise!r}")
        if flip and not collection.image:
            raise InputError(
                f"flip=True mirrors images; {collection.name} holds none. Leave it out"
            )
        if len(index) == 0:
            raise InputError("a pipeline needs at least one event; got an empty index")
        if not dtype.is_floating_point:
            raise InputError(f"batches are floats; got dtype {dtype}")
        self.collection = replace(collection, values=collection.values.to(device))
        self.index, self.units, self.seed = index.cpu(), units, seed
        self.dequantise = dequantise == "uniform" and collection.levels is not None
        self.flip, self.dtype, self.device = flip, dtype, torch.device(device)
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.index)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one event."""
        return self.collection.event_shape

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            # The two last used are kept: batches cross from one epoch into the next.
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) <= 1}
            shuffled = torch.randperm(
                len(self), generator=rng.generator(self.seed, Stream.ORDER, epoch)
            )
            self._orders[epoch] = self.index[shuffled]
        return self._orders[epoch]

    def indices(self, first: int, count: int) -> Tensor:
        """Which events of the collection the images first .. first + count - 1 are: int64 (count,)."""
        if first < 0 or count < 0:
            raise InputError(f"first and count must not be negative; got {first} and {count}")
        parts = []
        while count > 0:
            epoch, place = divmod(first, len(self))
            part = self._order(epoch)[place : place + count]
            parts.append(part)
            first, count = first + len(part), count - len(part)
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)

    def batch(self, first: int, count: int) -> Tensor:
        """Images first .. first + count - 1 of the run, model units (count, *event). Bitwise the
        same in batches of any size.
        """
        index = self.indices(first, count)
        keys = rng.keys(self.seed, count, first).to(self.device)
        x = self._data_units(index, keys, TRAIN)
        if self.flip:
            mirror = (
                rng.rademacher(keys, Stream.AUGMENT, 0, (1,) * len(self.event_shape), self.dtype)
                > 0
            )
            x = torch.where(mirror, x.flip(-1), x)
        return self.units.to_model(x)

    def held_out(self, index: Tensor) -> Tensor:
        """The events at `index` (any of the collection's) in model units, never flipped;
        dequantised where batches are, by noise that
        belongs to the event, so that a held-out loss sees the distribution that training sees and
        always the same numbers.
        """
        keys = rng.keys(self.seed, len(self.collection))[index.cpu()].to(self.device)
        return self.units.to_model(self._data_units(index, keys, HELD_OUT))

    def _data_units(self, index: Tensor, keys: Tensor, step: int) -> Tensor:
        index = index.to(self.device)
        if not self.dequantise:
            return self.collection.floats(index).to(self.dtype)
        assert self.collection.levels is not None
        noise = rng.uniform(keys, Stream.DEQUANTISE, step, self.event_shape, self.dtype)
        return noise.add_(self.collection.values[index]).div_(self.collection.levels)
