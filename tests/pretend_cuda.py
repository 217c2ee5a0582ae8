"""A pretend CUDA device: tensors that say they are on "cuda" and keep their values on the CPU.

An operation on a tensor of the device and one of the CPU raises, as it does with CUDA; CPU tensors
of no dimensions are allowed, and so are CPU indices, as with CUDA. Every operation is really
computed, so that code may read values and branch on them, which fake tensors do not allow.
`Module.to` replaces parameters instead of their data: an optimiser or an average that was built
before the model went to its device keeps the old ones, and the next step raises.

PyTorch without CUDA cannot name the device, so the tensors underneath lie on "meta" and both modes
below translate.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

CUDA, META, CPU = torch.device("cuda", 0), torch.device("meta"), torch.device("cpu")
aten = torch.ops.aten
# Operations that move values between devices, or take indices of the CPU.
MIXED = {aten._to_copy.default, aten.copy_.default, aten.index.Tensor}


class OnDevice(Tensor):
    """A tensor on the pretend device. `inner` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=META,
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def __reduce_ex__(self, protocol: int) -> Any:
        return self.inner.__reduce_ex__(protocol)  # a file of tensors is read on the CPU

    def __repr__(self) -> str:
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


def dispatch(func: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the values; refuse tensors of two devices."""
    tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
    there = [t for t in tensors if isinstance(t, OnDevice)]
    here = [t for t in tensors if not isinstance(t, OnDevice)]
    if there and func not in MIXED and any(t.ndim > 0 for t in here):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found cuda:0 and cpu in {func}: "
            f"{[tuple(t.shape) for t in tensors]}"
        )
    if there and func in (aten.copy_.default,) and not isinstance(args[0], OnDevice):
        there = []  # the result is the CPU tensor that was filled
    target = kwargs.get("device")
    onto = bool(there) if target is None else torch.device(target).type in ("meta", "cuda")
    if target is not None:
        kwargs = {**kwargs, "device": CPU}
    if func is aten._local_scalar_dense.default:
        onto = False
    outer = {id(t.inner): t for t in tensors if isinstance(t, OnDevice)}
    own = {id(t) for t in here}
    out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))

    def wrap(value: Any) -> Any:
        if not isinstance(value, Tensor) or id(value) in own:
            return value
        if id(value) in outer:
            return outer[id(value)]
        return OnDevice(value) if onto else value

    return tree_map(wrap, out)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


class _Values(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {})


class _Names(TorchFunctionMode):
    """Translates the device's name: PyTorch without CUDA would start CUDA and fail."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.device:
            return func(*args, **kwargs)
        return func(*tree_map(_translate, args), **tree_map(_translate, kwargs))


def _translate(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return META
    return META if isinstance(value, str) and value.split(":")[0] == "cuda" else value


@contextmanager
def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inside the block there is one CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    fork = torch.random.fork_rng  # the device has no generator of its own
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices=(): fork(devices=[]))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.nn.utils.clip_grad, "_device_has_foreach_support", lambda _: True)
    with _Names(), _Values():
        yield
