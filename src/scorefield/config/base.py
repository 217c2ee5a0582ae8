"""The base class of all settings groups, and error messages that name the setting."""

import typing
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from ..errors import InputError
from ..values import did_you_mean, items, mapping, number, plain_tree, whole

SHOWN_ERRORS = 3  # settings that one error message names


class Group(BaseModel):
    """A frozen group of settings. Every invalid value is an InputError that names the setting.

    Fields carry their range and description; a field whose type allows None is chosen by
    `resolve` where it is None.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    group: ClassVar[str] = ""  # the group's name in the configuration; "" for the whole

    if not TYPE_CHECKING:  # type checkers take the signature from the fields

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise InputError(explain(error, type(self))) from None

        # Tells pydantic that nested groups need no call of __init__: it validates the whole tree
        # at once and reports full locations.
        __init__.__pydantic_base_init__ = True

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        path = f"{cls.group}.{name}" if cls.group else name
        return plain_setting(cls.model_fields[name].annotation, value, path)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the group from nested plain values, such as those of `to_dict`.

        Raises:
            InputError: a name is unknown or a value is out of range.
        """
        return cls(**mapping(values, "settings"))

    def to_dict(self, explicit: bool = False) -> dict[str, Any]:
        """Return the settings as nested plain values that JSON can hold.

        Args:
            explicit: only the settings that were given, without defaults.
        """
        return self.model_dump(mode="json", exclude_unset=explicit)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields replaced; every value is checked.

        Raises:
            InputError: a name is unknown or a value is out of range.
        """
        return type(self)(**(self.model_dump(exclude_unset=True) | changes))


def split_type(annotation: Any) -> tuple[Any, bool, list[Any]]:
    """Take an annotation apart.

    Args:
        annotation: for example Annotated[int, Field(ge=1)] | None.

    Returns:
        The plain type, whether None is allowed, and the metadata of Annotated.
    """
    metadata: list[Any] = []
    nullable = False
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, *found = typing.get_args(annotation)
            metadata += found
            continue
        members = typing.get_args(annotation)
        if NoneType in members:
            nullable = True
            others = [member for member in members if member is not NoneType]
            if len(others) == 1:
                annotation = others[0]
                continue
        return annotation, nullable, metadata


def choices(kind: Any) -> tuple[str, ...]:
    """The values of a Literal type; () for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def plain_setting(annotation: Any, value: Any, path: str) -> Any:
    """A value as a caller may give it, in the form that the type of a setting expects.

    Numbers of NumPy and PyTorch, paths, generators, arrays and any mapping become plain Python;
    True is refused where a number belongs. Texts stay texts: they are read as on the command line.

    Args:
        annotation: the setting's type.
        value: what was given.
        path: the setting's name, for the error.

    Returns:
        The value, whose range is checked later.

    Raises:
        InputError: the value is not of the setting's kind.
    """
    kind, _, _ = split_type(annotation)
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if value is None or isinstance(value, str | Group):
        return value
    if kind is int:
        return whole(value, path)
    if kind is float:
        return number(value, path)
    if origin is dict or (isinstance(kind, type) and issubclass(kind, Group)):
        given = mapping(value, path)
        return plain_tree(given) if origin is dict else given
    if origin is tuple:
        found = items(value, path, "a list of values")
        kinds = members[:1] * len(found) if members[1:] == (...,) else members
        given_kinds = [*kinds, *[Any] * (len(found) - len(kinds))]
        pairs = zip(given_kinds, found, strict=False)
        return tuple(
            plain_setting(one, part, f"{path}[{k}]") for k, (one, part) in enumerate(pairs)
        )
    return plain_tree(value)


def unknown_setting(path: str, group: type[Group]) -> InputError:
    """Return the error for a setting `path` that `group` does not have."""
    name = path.rpartition(".")[2]
    listed = ", ".join(group.model_fields)
    place = f"The settings of {group.group}" if group.group else "The settings"
    return InputError(
        f"there is no setting {path!r}{did_you_mean(name, group.model_fields)} {place}: {listed}"
    )


def explain(error: ValidationError, model: type[Group]) -> str:
    """Turn a pydantic error into a message: which setting, what is needed, what was given.

    Args:
        error: raised by validating values of `model`.
        model: the group whose values were validated.

    Returns:
        One sentence for each of the first settings that are wrong.
    """
    details = error.errors(include_url=False)
    if len(details) > 1:  # a tuple of invalid members also counts as too short
        details = [detail for detail in details if detail["type"] != "too_short"] or details
    sentences = [_sentence(detail, model) for detail in details[:SHOWN_ERRORS]]
    return "; ".join(dict.fromkeys(sentences))


def _sentence(detail: Any, model: type[Group]) -> str:
    kind, context, got = detail["type"], detail.get("ctx", {}), detail["input"]
    path = ".".join([*filter(None, [model.group]), *map(str, detail["loc"])])
    if kind == "extra_forbidden":
        return str(unknown_setting(path, _owner(model, detail["loc"][:-1])))
    if kind == "value_error":  # raised by a validator, which names its settings
        return str(context["error"])
    if kind == "literal_error":
        names = context["expected"].replace("'", "").replace(" or ", ", ")
        hint = did_you_mean(got, names.split(", ")) if isinstance(got, str) else "."
        return f"{path} must be one of {names}; got {got!r}{hint.removesuffix('.')}"
    needed = _needed(kind, context)
    return f"{path} must be {needed}; got {got!r}" if needed else f"{path}: {detail['msg']}"


def _needed(kind: str, context: Mapping[str, Any]) -> str:
    """What a value must be, by the type of pydantic's error; "" for unknown types."""
    bounds = {
        "greater_than": ("above {gt:g}", "gt"),
        "greater_than_equal": ("at least {ge:g}", "ge"),
        "less_than": ("below {lt:g}", "lt"),
        "less_than_equal": ("at most {le:g}", "le"),
    }
    if kind in bounds:
        text, name = bounds[kind]
        return text.format(**{name: float(context[name])})
    words = {
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "int_from_float": "a whole number",
        "int_parsing_size": "a whole number of fewer digits",
        "float_parsing": "a number",
        "float_type": "a number",
        "finite_number": "a finite number",
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "string_type": "text",
        "string_too_short": "text that is not empty",
        "string_too_long": f"text of at most {context.get('max_length', '')} characters",
        "too_long": f"at most {context.get('max_length', '')} values",
        "too_short": f"{context.get('min_length', '')} or more values",
        "tuple_type": "values with commas",
        "dict_type": 'a mapping such as {"name": 1}',
        "model_type": "a group of settings",
        "model_attributes_type": "a group of settings",
        "missing": "given",
    }
    return words.get(kind, "")


def _owner(model: type[Group], location: Iterable[Any]) -> type[Group]:
    """The group that holds the fields at `location` inside `model`."""
    for name in location:
        kind, _, _ = split_type(model.model_fields[name].annotation)
        model = kind
    return model


def chosen(rule: str, names: bool = False) -> dict[str, Any]:
    """Mark a field that `resolve` chooses where it is None.

    Args:
        rule: the choice, in words.
        names: whether the field holds names, of which "none" may be one.
    """
    return {"chosen": rule, "names": names}


def takes_none(group: type[Group], name: str) -> bool:
    """Whether the text "none" is a value of a setting, and does not leave the setting open."""
    info = group.model_fields[name]
    extra = info.json_schema_extra
    names = isinstance(extra, dict) and bool(extra.get("names"))
    return names or "none" in choices(split_type(info.annotation)[0])
