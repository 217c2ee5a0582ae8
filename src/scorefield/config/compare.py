"""`differences`: whether a stored configuration and a given one make the same weights."""

from collections.abc import Iterator, Mapping
from typing import Any

from .base import Group, split_type
from .groups import Config, Request

# Settings that do not decide a run's weights. `preset` is only the name of the settings' start;
# the guard, the kept snapshots and the sampler leave the weights as they are; device, threads and
# compilation change them by rounding alone. The precision does decide them.
NOT_WEIGHTS = frozenset(
    {
        "preset",
        "ema.snapshots",
        "guard",
        "sampling",
        "execution.device",
        "execution.compile",
        "execution.threads",
    }
)


def differences(stored: Mapping[str, Any], given: Config) -> list[str]:
    """Compare a stored configuration with a given one, in the settings that decide the weights.

    Settings that the stored one lacks, because it was written before they existed, count as their
    defaults.

    Args:
        stored: the resolved settings of a run as `Config.to_dict` gave them, read from JSON.
        given: the resolved settings of the present command.

    Returns:
        One phrase for each setting that differs, such as "optim.lr is 0.001 in the run, 0.002
        now"; [] where the run can be resumed.
    """
    return list(_differences(stored, given.to_dict(), Config, Request, ""))


def _differences(
    stored: Mapping[str, Any],
    given: Mapping[str, Any],
    resolved: type[Group],
    requested: type[Group],
    prefix: str,
) -> Iterator[str]:
    for name, info in resolved.model_fields.items():
        path = f"{prefix}{name}"
        if path in NOT_WEIGHTS:
            continue
        kind, _, _ = split_type(info.annotation)
        if isinstance(kind, type) and issubclass(kind, Group):
            inner = split_type(requested.model_fields[name].annotation)[0]
            yield from _differences(stored.get(name) or {}, given[name], kind, inner, f"{path}.")
            continue
        known = stored[name] if name in stored else _plain(requested.model_fields[name].default)
        if known != given[name]:
            yield f"{path} is {known!r} in the run, {given[name]!r} now"
    for name in sorted(stored.keys() - resolved.model_fields.keys()):
        yield f"{prefix}{name} is {stored[name]!r} in the run, and this version has no such setting"


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
