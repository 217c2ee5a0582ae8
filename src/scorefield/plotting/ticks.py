"""Ticks whose labels have room: the densest set of round numbers that does not overlap.

The ticks are chosen when the figure is drawn, since only then the length of an axis is known.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .text import text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST = 8  # ticks of an axis
GAP = 0.9  # of the font's size: least room between two labels
FIRST_DAY, LAST_DAY = -719_000.0, 2_932_000.0  # days since 1970 that Python's dates can hold
Labelled = tuple[list[float], list[str]]
Rule = Callable[[float, float], list[Labelled]]  # view interval -> ticks, densest first


def short_number(value: float) -> str:
    """Return a number in few characters: 0.002, 80, 1e-12, 5e6."""
    text = f"{value:.6g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def number_labels(values: Sequence[float]) -> list[str]:
    """Label evenly spaced numbers alike, with the digits that tell them apart.

    Args:
        values: The numbers.

    Returns:
        A label each, such as 0.25, 20,000 or 1.5e-12; a zero is 0.
    """
    array = np.asarray(values, dtype=np.float64)
    top = float(np.abs(array).max(initial=0.0))
    spacing = float(np.diff(array).min()) if len(array) > 1 else top
    if top == 0 or not spacing > 0:
        return [short_number(float(v)) for v in array]
    digits = next(
        (d for d in range(12) if (np.abs(array.round(d) - array) <= 0.01 * spacing).all()), 12
    )
    if 1e-3 <= top < 1e7:
        separator = "," if top >= 1e4 else ""
        return [f"{v + 0.0:{separator}.{digits}f}" for v in array.round(digits)]
    if 1e7 <= top < 1e15 and spacing < 1e-5 * top:  # a large offset: all its digits
        return [f"{v:,.{digits}f}" for v in array]
    power = 10.0 ** np.floor(np.log10(top))
    mantissas = array / power
    digits = next(
        (
            d
            for d in range(15)
            if (np.abs(mantissas.round(d) - mantissas) <= 0.01 * spacing / power).all()
        ),
        15,
    )
    exponent = round(float(np.log10(power)))
    return [f"{m + 0.0:.{digits}f}e{exponent}" if m else "0" for m in mantissas.round(digits)]


def round_numbers(whole: bool = False) -> Rule:
    """Ticks of a linear axis: 8 to 1 round numbers; whole numbers only with `whole`."""

    def rule(low: float, high: float) -> list[Labelled]:
        from matplotlib.ticker import MaxNLocator

        found = []
        for count in range(MOST, 0, -1):
            locator = MaxNLocator(
                count, steps=[1, 2, 2.5, 5, 10], integer=whole, min_n_ticks=1 if whole else 2
            )
            ticks = [float(v) for v in locator.tick_values(low, high)]
            inside = _within(ticks, low, high)
            found.append((inside, number_labels(inside)))
        return found

    return rule


def round_factors(low: float, high: float) -> list[Labelled]:
    """Ticks of a logarithmic axis: 1 to 9, or 1, 2, 5, or powers of ten; linear within a factor 3.

    Args:
        low: Lower end of the axis, above 0.
        high: Upper end of the axis.

    Returns:
        Sets of ticks with their labels, densest first.
    """
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    powers = range(first, last + 1)
    sets = [[d * 10.0**p for p in powers for d in digits] for digits in ((1, 2, 5), (1, 3), (1,))]
    sets += [[10.0**p for p in powers if p % step == 0] for step in (2, 3, 5, 10)]
    found = [_within(ticks, low, high) for ticks in sets]
    few = [] if len(found[0]) > 2 else round_numbers()(low, high)
    return [*few, *((ticks, [short_number(v) for v in ticks]) for ticks in found if ticks)]


def dates(low: float, high: float) -> list[Labelled]:
    """Ticks of an axis of dates, whose numbers are matplotlib's days since 1970."""
    import matplotlib.dates

    days: Any = matplotlib.dates
    low, high = max(low, FIRST_DAY), min(high, LAST_DAY)
    form = "%H:%M" if 0 <= low < high <= 1 else ""  # times of day
    form = form or next(
        form
        for span, form in ((1500, "%Y"), (150, "%Y-%m"), (3, "%Y-%m-%d"), (0, "%m-%d %H:%M"))
        if high - low > span or span == 0
    )
    found = []
    for count in range(6, 0, -1):
        locator = days.AutoDateLocator(minticks=max(1, count // 2), maxticks=count)
        with warnings.catch_warnings():  # of intervals that no rule of the locator knows
            warnings.simplefilter("ignore")
            ticks = [float(v) for v in locator.tick_values(*map(days.num2date, (low, high)))]
        inside = _within(ticks, low, high)
        labels = [days.num2date(v).strftime(form) for v in inside]
        if len(set(labels)) == len(labels):
            found.append((inside, labels))
    middle = (low + high) / 2
    return [*found, ([middle], [days.num2date(middle).strftime(form)])]


def _within(ticks: Sequence[float], low: float, high: float) -> list[float]:
    slack = 1e-9 * (high - low)
    return [v for v in ticks if low - slack <= v <= high + slack]


def _fit(places: Sequence[float], sizes: Sequence[float], gap: float) -> bool:
    """Whether labels of these sizes, centred at these places, leave the gap between them."""
    ends = sorted(zip(places, sizes, strict=True))
    return all(b - a >= (s + t) / 2 + gap for (a, s), (b, t) in pairwise(ends))


def set_ticks(axes: "Axes", letter: str, rule: Rule, size: float = 9) -> None:
    """Give an axis the ticks of a rule, the densest whose labels do not overlap.

    Args:
        axes: The axes; their scale and limits are set by the caller.
        letter: "x" or "y".
        rule: `round_numbers()`, `round_factors` or `dates`.
        size: Size of the labels in points.
    """
    from matplotlib.ticker import Formatter, Locator, NullLocator

    axis: Axis = axes.xaxis if letter == "x" else axes.yaxis

    chosen: dict[tuple[float, ...], Labelled] = {}

    def choose() -> Labelled:
        low, high = sorted(float(v) for v in axis.get_view_interval())
        length = float(axes.bbox.width if letter == "x" else axes.bbox.height)
        if (low, high, length) not in chosen:
            chosen[low, high, length] = densest(low, high, length)
        return chosen[low, high, length]

    def densest(low: float, high: float, length: float) -> Labelled:
        figure: Any = axes.get_figure(root=True)
        scale, transform = 72 / figure.dpi, axis.get_transform()
        start, end = transform.transform(np.array([low, high]))
        sets = [entry for entry in rule(low, high) if entry[0]]
        for ticks, labels in sets:
            at = (transform.transform(np.array(ticks)) - start) / ((end - start) or 1.0)
            room = [text_width(t, size) if letter == "x" else 1.2 * size for t in labels]
            if len(ticks) <= MOST and _fit((at * length * scale).tolist(), room, GAP * size):
                return ticks, labels
        return ([], []) if not sets else (sets[-1][0][:1], sets[-1][1][:1])

    class Places(Locator):
        def __call__(self) -> list[float]:
            return choose()[0]

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return choose()[0]

    class Labels(Formatter):
        def format_ticks(self, values: Any) -> list[str]:
            known = dict(zip(*choose(), strict=True))
            return [known.get(float(v), "") for v in values]

        def __call__(self, x: float, pos: int | None = None) -> str:
            return short_number(x)

    axis.set_major_locator(Places())
    axis.set_major_formatter(Labels())
    axis.set_minor_locator(NullLocator())
    axis.set_tick_params(labelsize=size)
