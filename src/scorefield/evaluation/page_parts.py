"""Parts of pages: frames, bars, tables and records as HTML.

Every text goes through `html.escape`. A page is one file: pictures are data URIs, and its policy
lets a browser fetch nothing.
"""

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .page_style import STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WIDTH, HEIGHT = 200, 24  # of a bar, in its own units
EDGE = 6


def page(title: str, body: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: Title of the browser's window.
        body: Parts of the page, HTML.

    Returns:
        The text of the file.
    """
    parts = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>\n{parts}\n</main></body></html>\n"
    )


def escape(text: Any) -> str:
    """A text as HTML."""
    return html.escape(str(text))


def figure(png: bytes, caption: str, alt: str, wide: bool = False) -> str:
    """A picture with its caption.

    Args:
        png: The bytes of the file.
        caption: Shown below.
        alt: What it shows, for readers who do not see it.
        wide: Whether it takes the whole width of the page.

    Returns:
        HTML.
    """
    data = base64.b64encode(png).decode()
    kind = ' class="wide"' if wide else ""
    return (
        f'<figure{kind}><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def number(value: float | None) -> str:
    """A number with three digits; an empty text where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.3g}"


def interval(estimate: Mapping[str, Any] | None) -> str:
    """An estimate with its interval."""
    if estimate is None:
        return ""
    low, high = number(estimate["low"]), number(estimate["high"])
    return number(estimate["value"]) + (f" ({low} to {high})" if low and high else "")


def bar(
    estimate: Mapping[str, Any],
    floor: Mapping[str, Any] | None,
    beside: Mapping[str, Any] | None = None,
) -> str:
    """An estimate over its floor on one axis: a dot with its interval, over a grey band.

    Args:
        estimate: Value, low and high.
        floor: The same for data against data, or None.
        beside: Another estimate, drawn elsewhere on an axis of the same ends; None for none.

    Returns:
        An inline drawing.
    """
    found = [
        one[name] for one in (estimate, floor, beside) if one for name in ("low", "high", "value")
    ]
    known = [value for value in found if value is not None and math.isfinite(value)]
    if not known or estimate["value"] is None:
        return ""
    low, high = min(0.0, *known), max(known)
    scale = (WIDTH - 2 * EDGE) / ((high - low) or 1.0)

    def at(value: float) -> str:
        return f"{EDGE + (value - low) * scale:.1f}"

    middle = HEIGHT / 2
    parts = [f'<line class="axis" x1="{EDGE}" x2="{WIDTH - EDGE}" y1="{middle}" y2="{middle}"/>']
    if floor is not None and floor["value"] is not None:
        left, right = _ends(floor)
        width = max((right - left) * scale, 2.0)
        parts.append(f'<rect class="band" x="{at(left)}" y="3" width="{width:.1f}" height="18"/>')
        place = at(floor["value"])
        parts.append(f'<line class="floor" x1="{place}" x2="{place}" y1="3" y2="21"/>')
    left, right = _ends(estimate)
    parts.append(
        f'<line class="span" x1="{at(left)}" x2="{at(right)}" y1="{middle}" y2="{middle}"/>'
    )
    parts.append(f'<circle class="dot" cx="{at(estimate["value"])}" cy="{middle}" r="4.5"/>')
    label = f"{interval(estimate)}, data against data {interval(floor) or 'unknown'}"
    return (
        f'<svg class="bar" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _ends(estimate: Mapping[str, Any]) -> tuple[float, float]:
    """Both ends of an interval; the value itself where it has none."""
    value = estimate["value"]
    low, high = estimate["low"], estimate["high"]
    return (value if low is None else low, value if high is None else high)


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    numbers: int = 1,
    stack: bool = False,
) -> str:
    """A table. On narrow screens it scrolls sideways, or its cells stand below each other.

    Args:
        heads: Texts of the head.
        rows: Cells as HTML; the first of a row is its name.
        caption: Shown above.
        numbers: First column of numbers, which are not broken.
        stack: Whether the cells of a row stand below each other on narrow screens.

    Returns:
        HTML.
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"number" if k >= numbers else "name"}" data-head="{escape(heads[k])}">'
            f"{cell}</td>"
            for k, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    words = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = "stack" if stack else "scroll"
    return (
        f'<div class="card {kind}"><table>{words}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def record(values: Mapping[str, Any]) -> str:
    """A nested record as names and values."""
    rows = "".join(
        f'<dt>{escape(name)}</dt><dd class="mono">{escape(value)}</dd>'
        for name, value in flat(values).items()
    )
    return f'<dl class="record">{rows}</dl>'


def flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested entries by their path; long lists of numbers by their ends."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{name}.")
        elif isinstance(value, list) and len(value) > 6:
            ends = [number(v) if isinstance(v, float) else str(v) for v in (value[0], value[-1])]
            found[before + name] = f"{len(value)} values, {ends[0]} to {ends[1]}"
        elif value is not None:
            found[before + name] = value
    return found


KEY = (
    '<p class="soft"><span class="key" style="background:var(--sample)"></span>samples, with '
    '90% interval<span class="key" style="background:var(--floor)"></span>the same number for '
    "data against data: as good as samples can be</p>"
)
