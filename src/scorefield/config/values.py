"""Numbers as people type them: counts such as 250k and durations such as 5m."""

import math

from ..errors import InputError

COUNT_FACTORS = {"k": 1_000, "K": 1_000, "m": 1_000_000, "M": 1_000_000}
SECOND_FACTORS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def parse_count(text: str, name: str = "") -> int:
    """Read a whole number with an optional suffix k (thousand) or M (million).

    Args:
        text: for example "250000", "250k" or "1.5M".
        name: what the number is, for the error.

    Returns:
        The number; "250k" gives 250,000.

    Raises:
        InputError: the text is not such a number, or not a whole one ("0.0001k").
    """
    factor = COUNT_FACTORS.get(text[-1:], 1)
    try:
        if factor == 1:
            return int(text)
        value = float(text[:-1]) * factor
        if not math.isclose(value, round(value), rel_tol=1e-9, abs_tol=1e-9):
            raise ValueError(text)
        return round(value)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{name or 'a count'} must be a whole number such as 250000, 250k or 1M; got {text!r}"
        ) from error


def parse_seconds(text: str, name: str = "") -> float:
    """Read a duration.

    Args:
        text: seconds as a number, or a number with the suffix s, m (minutes) or h (hours):
            "90", "90s", "5m", "1.5h".
        name: what the duration is, for the error.

    Returns:
        The duration in seconds, above 0.

    Raises:
        InputError: the text is not a duration, or the duration is not above 0 and finite.
    """
    factor = SECOND_FACTORS.get(text[-1:])
    try:
        value = float(text) if factor is None else float(text[:-1]) * factor
    except ValueError as error:
        raise InputError(
            f"{name or 'a duration'} must be a duration such as 90s, 5m or 1.5h; got {text!r}"
        ) from error
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name or 'a duration'} must be above 0 and finite; got {text!r}")
    return value
