"""Forms of numbers, lists, matrices, mappings and paths, and values that are none of them.

`KINDS` maps a kind of argument to its other forms of a plain Python value, and to values of a wrong
kind that have to be refused.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import torch


class OwnPath:
    """A path of another library."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __fspath__(self) -> str:
        return self.text


class OwnMapping(Mapping[str, Any]):
    """A mapping of another library."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values_by_name = values

    def __getitem__(self, name: str) -> Any:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)


class OwnArray:
    """An array of another library, such as a table's column."""

    def __init__(self, values: Any) -> None:
        self.array = np.asarray(values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)


def read_only(values: Any) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


def count_forms(value: int) -> dict[str, Any]:
    return {
        "np.int64": np.int64(value),
        "np.uint8": np.uint8(value),
        "0-d array": np.array(value),
        "object array": np.array(value, dtype=object),
        "tensor": torch.tensor(value),
        "tensor of int16": torch.tensor(value, dtype=torch.int16),
        "float": float(value),
        "np.float32": np.float32(value),
        "tensor of float": torch.tensor(float(value)),
        "Fraction": Fraction(value),
        "Decimal": Decimal(value),
    }


def number_forms(value: float) -> dict[str, Any]:
    return {
        "np.float64": np.float64(value),
        "np.float32": np.float32(value),
        "np.float16": np.float16(value),
        "np.longdouble": np.longdouble(value),
        "0-d array": np.array(value),
        "tensor": torch.tensor(value),
        "tensor of bfloat16": torch.tensor(value, dtype=torch.bfloat16),
        "tensor with a graph": torch.tensor(value, requires_grad=True),
        "Fraction": Fraction(value),
        "Decimal": Decimal(value),
    }


def list_forms(value: list[Any]) -> dict[str, Any]:
    array = np.array(value)
    return {
        "tuple": tuple(value),
        "generator": (one for one in value),
        "iterator": iter(value),
        "map": map(lambda one: one, value),
        "deque": collections.deque(value),
        "values of a dictionary": dict(enumerate(value)).values(),
        "array": array,
        "read-only array": read_only(value),
        "big-endian array": array.astype(array.dtype.newbyteorder(">")),
        "reversed view": np.array(value[::-1])[::-1],
        "object array": np.array(value, dtype=object),
        "masked array without masked elements": np.ma.array(value),
        "tensor": torch.tensor(
            array.tolist(), dtype=torch.float64 if array.dtype.kind == "f" else None
        ),
        "list of NumPy's numbers": list(array),
        "list of tensors": list(torch.from_numpy(array)),
        "another library's array": OwnArray(value),
    }


def matrix_forms(value: list[Any]) -> dict[str, Any]:
    array = np.array(value)
    graph = torch.from_numpy(array)
    return {
        "nested tuples": tuple(tuple(row) for row in value),
        "generator of generators": ((one for one in row) for row in value),
        "list of arrays": [np.array(row) for row in value],
        "list of tensors": list(torch.from_numpy(array)),
        "array": array,
        "Fortran order": np.asfortranarray(array),
        "read-only array": read_only(value),
        "big-endian array": array.astype(array.dtype.newbyteorder(">")),
        "reversed view": np.array(value[::-1])[::-1],
        "tensor": torch.from_numpy(np.array(value)),
        "tensor with a graph": graph.requires_grad_() if graph.is_floating_point() else graph,
        "another library's array": OwnArray(value),
    }


def mapping_forms(value: dict[str, Any]) -> dict[str, Any]:
    return {
        "MappingProxyType": MappingProxyType(value),
        "OrderedDict": collections.OrderedDict(value),
        "UserDict": collections.UserDict(value),
        "ChainMap": collections.ChainMap({}, value),
        "another library's mapping": OwnMapping(value),
        "np.str_ names": {np.str_(name): one for name, one in value.items()},
    }


def path_forms(value: str) -> dict[str, Any]:
    return {
        "Path": Path(value),
        "PurePath": PurePosixPath(value),
        "another library's path": OwnPath(value),
        "np.str_": np.str_(value),
    }


def flag_forms(value: bool) -> dict[str, Any]:
    return {
        "np.bool_": np.bool_(value),
        "0-d array": np.array(value),
        "tensor": torch.tensor(value),
    }


def text_forms(value: str) -> dict[str, Any]:
    return {"np.str_": np.str_(value)}


COMPLEX = {
    "complex": 1 + 0j,
    "np.complex64": np.complex64(1),
    "complex tensor": torch.tensor(1 + 0j),
    "complex array": np.array(1 + 0j),
    "complex long double": np.clongdouble(1),
}
NO_NUMBER = {
    "None": None,
    "True": True,
    "np.True_": np.True_,
    "tensor of True": torch.tensor(True),
    "text": "3",
    "np.str_": np.str_("3"),
    "bytes": b"3",
    "list": [3],
    "array of one": np.array([3]),
    "tensor of one": torch.tensor([3]),
    "mapping": {"a": 3},
    "object": object(),
    "duration": np.timedelta64(3, "s"),
    "date": np.datetime64("2020-01-01", "ns"),
    "masked": np.ma.masked,
    "tensor without memory": torch.tensor(3, device="meta"),
    **COMPLEX,
}
NOT_FINITE = {"NaN": float("nan"), "np.nan": np.float32("nan"), "inf": float("inf")}
NO_COUNT = {**NO_NUMBER, **NOT_FINITE, "2.5": 2.5, "np.float32(2.5)": np.float32(2.5)}
NO_LIST = {
    "None": None,
    "text": "3, 2, 1",
    "bytes": b"321",
    "mapping": {3.0: 0, 2.0: 1},
    "set": {1.0, 2.0, 3.0},
    "object": object(),
    "list of texts": ["3", "2"],
    "list of complex": [2 + 0j, 1 + 0j],
    "complex array": np.array([2, 1], dtype=complex),
    "complex tensor": torch.tensor([2, 1], dtype=torch.complex64),
    "list of True": [True, False],
    "number and True": [2.0, True],
    "number and None": [2.0, None],
    "NaN": [float("nan"), 1.0],
    "inf": np.array([np.inf, 1.0]),
    "masked array": np.ma.array([2.0, 1.0], mask=[False, True]),
    "dates": np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[ns]"),
    "durations": np.array([2, 1], dtype="timedelta64[s]"),
}
NO_MATRIX = {
    **NO_LIST,
    "rows of two lengths": [[1.0, 2.0], [3.0]],
    "matrix of complex": np.ones((2, 2), dtype=complex),
    "matrix of True": np.ones((2, 2), dtype=bool),
    "matrix of texts": [["a", "b"], ["c", "d"]],
    "matrix with NaN": [[1.0, float("nan")], [0.0, 1.0]],
    "rows that mix numbers and True": [[1.0, 2.0], [True, False]],
    "sparse tensor": torch.eye(2).to_sparse(),
}
NO_MAPPING = {
    "None": None,
    "list of pairs": [("a", 1)],
    "text": "a=1",
    "number": 3,
    "set": {"a"},
    "names that are no texts": {1: 2},
    "object": object(),
}
NO_PATH = {"bytes": b"x", "number": 3, "None": None, "empty": "", "list": ["x"], "True": True}
NO_FLAG = {
    "None": None,
    "1": 1,
    "0": 0,
    "text": "yes",
    "list": [True],
    "1.0": 1.0,
    "object": object(),
}
NO_TEXT = {
    "None": None,
    "number": 3,
    "list": ["heun"],
    "bytes": b"heun",
    "other": "no such name",
    "True": True,
}


def name_forms(value: list[str]) -> dict[str, Any]:
    return {
        "tuple": tuple(value),
        "generator": (one for one in value),
        "array": np.array(value),
        "object array": np.array(value, dtype=object),
        "keys of a dictionary": dict.fromkeys(value).keys(),
    }


NO_NAMES = {"None": None, "text": "abc", "set": {"a", "b", "c"}, "mapping": {"a": 1}, "number": 3}

KINDS: dict[str, tuple[Callable[[Any], dict[str, Any]], dict[str, Any]]] = {
    "count": (count_forms, NO_COUNT),
    "number": (number_forms, {**NO_NUMBER, **NOT_FINITE}),
    "list": (list_forms, NO_LIST),
    "matrix": (matrix_forms, NO_MATRIX),
    "mapping": (mapping_forms, NO_MAPPING),
    "path": (path_forms, NO_PATH),
    "flag": (flag_forms, NO_FLAG),
    "text": (text_forms, NO_TEXT),
    "names": (name_forms, NO_NAMES),
}
