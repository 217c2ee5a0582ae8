"""Whether a stored configuration and a given one make the same weights.

differences   what differs, in words, among the settings that decide the weights
keep_open     the settings that a request leaves open, as the run has them
"""

from collections.abc import Iterator, Mapping
from typing import Any

from .base import Group, split_type
from .groups.data import DataRequest
from .groups.whole import Config, Request

# Settings that do not decide a run's weights. `preset` is only the name of the settings' start, and
# `plan` how a new run chooses what is left open; the budget makes a new segment of the run
# (training/schedule.py); the guard, the kept snapshots and the sampler leave the weights as they
# are; device, threads and compilation change them by rounding alone. The precision decides them.
NOT_WEIGHTS = frozenset(
    {
        "preset",
        "plan",
        "images",
        "seconds",
        "ema.snapshots",
        "guard",
        "sampling",
        "execution.device",
        "execution.compile",
        "execution.threads",
    }
)
# Settings of the group `data` that decide the weights besides the values. The others tell how a
# source is read: what was read is compared by its content.
DATA_WEIGHTS = frozenset({"held_out", "units", "dequantise", "flip"})
NOT_KEPT = ("data", "sampling", "execution")
READING = frozenset(
    {f"data.{name}" for name in DataRequest.model_fields.keys() - DATA_WEIGHTS}
    | {"condition.source"}
)


def differences(
    stored: Mapping[str, Any], given: Config, precision: str | None = None
) -> list[str]:
    """Compare a stored configuration with a given one, in the settings that decide the weights.

    Settings that the stored one lacks, because it was written before they existed, count as their
    defaults. The data are not compared.

    Args:
        stored: the resolved settings of a run as `Config.to_dict` gave them, read from JSON.
        given: the resolved settings of the present command.
        precision: the precision in which the run computes; None where it has recorded none.

    Returns:
        One phrase for each setting that differs, such as "optim.lr is 0.001 in the run, 0.002
        now"; [] where the run can be resumed.
    """
    found = _differences(stored, given.to_dict(), Config, Request, "")
    computed = precision or (stored.get("execution") or {}).get("precision")
    asked = given.execution.precision
    if asked is not None and computed is not None and asked != computed:
        return [*found, f"execution.precision is {computed!r} in the run, {asked!r} now"]
    return list(found)


def _differences(
    stored: Mapping[str, Any],
    given: Mapping[str, Any],
    resolved: type[Group],
    requested: type[Group],
    prefix: str,
) -> Iterator[str]:
    for name, info in resolved.model_fields.items():
        path = f"{prefix}{name}"
        if path in NOT_WEIGHTS | READING or path == "execution.precision":
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


def keep_open(given: Config, request: Request, stored: Mapping[str, Any]) -> Config:
    """Resolved settings in which those that the request leaves open are the run's.

    A default may depend on the budget or on the version of this package; a run that goes on keeps
    what was chosen when it began. Settings of the data, of sampling and of execution are left as
    they are: none of those that can be left open decides the weights.

    Args:
        given: The request, resolved.
        request: The requested settings; None and options left out are open.
        stored: The resolved settings of the run, read from JSON.

    Returns:
        The settings.

    Raises:
        InputError: Where the two do not fit each other.
    """
    values, asked = given.to_dict(), request.model_dump(mode="json")
    for group, fields in values.items():
        known = stored.get(group)
        if group in NOT_KEPT or not isinstance(fields, dict) or not isinstance(known, dict):
            continue
        for name in fields.keys() & known.keys():
            if asked[group][name] is None:
                fields[name] = known[name]
            elif isinstance(asked[group][name], dict):
                fields[name] = {**known[name], **asked[group][name]}
    return type(given).from_dict(values)
