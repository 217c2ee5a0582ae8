"""Compiled networks, which run eagerly where compiling fails.

That a C++ compiler is on the PATH does not mean that it can compile: Python's headers may be
missing, or the folder of compiled code may not be writable. The failure shows at the first call of
the network, forward or backward. The network then runs eagerly from there on, and one notice gives
the reason. Where compilation was requested, the failure is an InputError.
"""

import atexit
import getpass
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import nn

from .errors import InputError

Notice = Callable[[str], None]
SHOWN_CHARACTERS = 160  # of a compiler's message


class Leaf(Protocol):
    """The part of a leaf model that states whether its network is compiled."""

    compiled: bool


class CompiledCall:
    """The compiled call of a network; it gives way to the eager one where compiling fails.

    Args:
        leaf: The leaf model; its `compiled` becomes False where compiling fails.
        network: The network, which is marked for compilation.
        required: Whether a failure is an error.
        notice: Receives the reason of a failure.

    Raises:
        InputError: Where compilation is required and fails.
    """

    def __init__(self, leaf: Leaf, network: nn.Module, required: bool, notice: Notice) -> None:
        self.leaf, self.network, self.required, self.notice = leaf, network, required, notice
        use_writable_cache(notice)
        try:
            network.compile(dynamic=False)
        except Exception as error:  # whatever the compiler raises when it is imported
            self.give_up(error)
            return
        leaf.compiled = True
        self.call: Callable[..., Any] = network._compiled_call_impl  # type: ignore[assignment]
        network._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.call(*args, **kwargs)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # whatever the compiler raises; an error of the network recurs
            self.network._compiled_call_impl = None
            try:
                result = self.network(*args, **kwargs)
            except BaseException:
                self.network._compiled_call_impl = self
                raise
            self.give_up(error)
            return result

    def give_up(self, error: Exception) -> None:
        """Run the network eagerly from now on.

        Args:
            error: What the compiler raised.

        Raises:
            InputError: Where compilation is required.
        """
        self.network._compiled_call_impl, self.leaf.compiled = None, False
        if self.required:
            raise InputError(
                f"compile=on was requested, and compiling failed: {reason(error)}. Use --compile "
                "off, or leave it out: the network then runs eagerly where it cannot be compiled"
            ) from error
        self.notice(f"compiling failed, so the network runs eagerly, slower: {reason(error)}")


def compile_network(
    leaf: Leaf, network: nn.Module, required: bool = False, notice: Notice | None = None
) -> None:
    """Mark a network for compilation at its first call.

    Args:
        leaf: The leaf model of the network.
        network: The network.
        required: Whether a failure is an error.
        notice: Receives the reason of a failure; None: a RuntimeWarning.

    Raises:
        InputError: Where compilation is required and fails already here.
    """
    CompiledCall(leaf, network, required, notice or _warn)


def fall_back(networks: Iterator[nn.Module | None], error: Exception) -> bool:
    """Run networks eagerly from now on, after a failure that may be the compiler's.

    Args:
        networks: The networks.
        error: What was raised.

    Returns:
        Whether one of them was compiled, so that the work is worth another try.

    Raises:
        InputError: Where compilation is required.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError | InputError):
        return False
    calls = [n._compiled_call_impl for n in networks if n is not None]
    found = [call for call in calls if isinstance(call, CompiledCall)]
    for call in found:
        call.give_up(error)
    return bool(found)


def reason(error: BaseException) -> str:
    """The line of a compiler's message that names the fault."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "error:" in line.lower()] or lines[:1]
    text = named[0] if named else type(error).__name__
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


def use_writable_cache(notice: Notice | None = None) -> None:
    """Let compiled code go to a temporary folder where its usual folder cannot be written.

    Without a folder that can be made, parts of PyTorch cannot even be imported.

    Args:
        notice: Receives a sentence where the folder changes.
    """
    folder = _cache_folder()
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError:
        pass
    try:
        made = tempfile.TemporaryDirectory(prefix="scorefield-compiled-")
    except OSError:
        return
    atexit.register(made.cleanup)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = made.name
    if notice is not None:
        notice(f"compiled code is kept for this process only: {folder} cannot be written")


def _cache_folder() -> str:
    """The folder where PyTorch keeps compiled code."""
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if named:
        return named
    try:
        user = getpass.getuser()
    except (KeyError, ImportError, OSError):
        user = "unknown_user"
    name = re.sub(r'[\\/:*?"<>|]', "_", user)
    return os.path.join(tempfile.gettempdir(), f"torchinductor_{name}")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)
