"""Where the channels of an array are.

The dimensions of an array (N, ...) are read as follows; L, H, W and D are positions, C channels.

    (N, d)                  examples (d,): a table or vectors; with channels=1 signals (1, d)
    (N, 1, L) or (N, L, 1)  examples (1, L): signals
    (N, C, L) or (N, L, C)  examples (C, L): signals of several channels, with channels_last
    (N, H, W)               examples (1, H, W): fields of one channel, where both are above 4 and
                            neither is 8 times the other, or both are equal; any with channels=1
    (N, C, H, W)            examples (C, H, W): fields; and (N, H, W, C), channels last
    (N, C, D, H, W)         examples (C, D, H, W): volumes; and channels last
    (N, D, H, W)            with channels=1: volumes (1, D, H, W)

Which axis of a field or a volume holds the channels is read off the shape where one of these rules
decides, in this order: an axis of length 1 is the channels'; all other axes are equal (squares,
cubes) and it differs; it alone has at most 4 entries; it has at most half as many as every other.
More than 16 channels are never read off the shape of a field: they may be the slices of a volume.
Shapes that no rule decides, such as (N, 16, 16, 16), (N, 3, 8, 4) and (N, 32, 64, 64), are refused,
and so are signals of several channels or fields with so short a side, such as (N, 128, 3) and
(N, 12, 1000): `channels_last` or `channels` decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

FEW = 4  # an axis of at most so many entries may hold the channels of a signal or a field
LONG = 8  # a field with a side so many times the other may be a signal of several channels
FLAGS = {False: "--no-channels-last", True: "--channels-last"}
MOST_CLEAR = 16  # channels of a field; more may be the slices of a volume


@dataclass(frozen=True)
class Layout:
    """How an array's axes become (N, C, positions...).

    Attributes:
        axis: The axis of the array that holds the channels; None for tables, and where a channel
            axis is inserted.
        insert: Whether an axis of one channel is inserted after the examples.
        words: What was read, for the report; "" where there is nothing to tell.
    """

    axis: int | None = None
    insert: bool = False
    words: str = ""

    def arrange(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape (N, *event) of an array of `shape`."""
        if self.insert:
            return (shape[0], 1, *shape[1:])
        if self.axis is None or self.axis == 1:
            return tuple(shape)
        rest = [n for k, n in enumerate(shape) if k not in (0, self.axis)]
        return (shape[0], shape[self.axis], *rest)


def find_layout(
    shape: Sequence[int], channels: int | None, channels_last: bool | None, name: str
) -> Layout:
    """Read the layout of an array (N, ...) by the module's table.

    Args:
        shape: The array's shape, 2 to 5 dimensions.
        channels: The number of channels, where it was given.
        channels_last: Whether the last axis holds them, where that was given.
        name: The source, for messages.

    Raises:
        InputError: The options fit no axis, or the shape alone does not decide.
    """
    n = len(shape)
    if channels_last is not None:
        if n == 2:
            raise InputError(
                f"{name}: channels_last={channels_last} needs an array with a channel axis; got "
                f"vectors, shape {tuple(shape)}. Leave it out"
            )
        axis = n - 1 if channels_last else 1
        if channels is not None and shape[axis] != channels:
            raise InputError(
                f"{name}: channels={channels} and channels_last={channels_last} contradict each "
                f"other for an array of shape {tuple(shape)}, whose axis {axis} has {shape[axis]} "
                "entries"
            )
        return Layout(axis)
    if channels is not None:
        return _by_channels(shape, channels, name)
    if n == 2:
        return Layout()
    if n == 3:
        return _signals_or_fields(shape, name)
    return _fields_or_volumes(shape, name)


def _by_channels(shape: Sequence[int], channels: int, name: str) -> Layout:
    n = len(shape)
    first, last = n > 2 and shape[1] == channels, n > 2 and shape[-1] == channels
    if first and last and n > 3:
        return Layout(_fields_or_volumes(shape, name).axis)
    if first and last and channels > 1:
        raise InputError(
            f"{name}: both axes of an array of shape {tuple(shape)} have {channels} entries; give "
            "channels_last=True (--channels-last) or False (--no-channels-last)"
        )
    if first:
        return Layout(1)
    if last and (n > 3 or channels > 1 or shape[-1] == 1):
        return Layout(n - 1)
    if channels == 1 and n < 5:
        return Layout(None, insert=True)
    raise InputError(
        f"{name}: channels={channels} fits no axis of an array of shape {tuple(shape)}; give the "
        "length of its channel axis, or leave it out"
    )


def _signals_or_fields(shape: Sequence[int], name: str) -> Layout:
    a, b = shape[1:]
    if a == 1:
        return Layout(1, words="signals of one channel")
    if b == 1:
        return Layout(2, words="signals of one channel, channels last")
    few, many = min(a, b), max(a, b)
    if few <= FEW < many or many >= LONG * few or few < many <= FEW:
        first, last = (f"channels_last={flag} ({option})" for flag, option in FLAGS.items())
        raise InputError(
            f"{name}: an array of shape {tuple(shape)} may hold signals of several channels or "
            f"fields {a} x {b} of one channel, and its shape does not tell which. For signals of "
            f"{b} channels give {last}, for signals of {a} channels {first}, for fields channels=1 "
            "(--channels 1)"
        )
    return Layout(None, insert=True, words=f"fields {a} x {b} of one channel")


def _fields_or_volumes(shape: Sequence[int], name: str) -> Layout:
    last = len(shape) - 1
    axis = _channel_axis(shape[1:])
    count = shape[last if axis else 1]
    if axis is None or (last == 3 and count > MOST_CLEAR):
        raise InputError(
            f"{name}: an array of shape {tuple(shape)} may have its channels first or last"
            + (" or hold volumes" if last == 3 else "")
            + ", and its shape does not tell which. Give channels_last=True (--channels-last) "
            f"where axis {last} holds {shape[last]} channels, channels_last=False "
            f"(--no-channels-last) where axis 1 holds {shape[1]}"
            + (", or channels=1 (--channels 1) for volumes of one channel" if last == 3 else "")
        )
    plural = "s" if count != 1 else ""
    other = "--channels-last" if axis == 0 else "--no-channels-last"
    place = "1 (the first)" if axis == 0 else f"{last} (the last)"
    words = f"axis {place} was taken as {count} channel{plural}; {other} reads the other end"
    return Layout(last if axis else 1, words=words)


def _channel_axis(event: Sequence[int]) -> int | None:
    """0 for the first axis, -1 for the last, None where the shape does not decide."""
    first, last = event[0], event[-1]
    if first == 1:
        return 0
    if last == 1:
        return -1
    rest_if_first, rest_if_last = set(event[1:]), set(event[:-1])
    if len(rest_if_first) == 1 and first not in rest_if_first:
        return 0
    if len(rest_if_last) == 1 and last not in rest_if_last:
        return -1
    if (first <= FEW) != (last <= FEW):
        return 0 if first <= FEW else -1
    shorter_first, shorter_last = 2 * first <= min(event[1:]), 2 * last <= min(event[:-1])
    if shorter_first != shorter_last:
        return 0 if shorter_first else -1
    return None
