"""Execution: device, precision, memory layout, compilation and threads.

`choose` chooses the arguments that are None. `Execution.apply` is the one place that brings a model
to its device and sets its precision. `Execution.configure_process` sets what belongs to the whole
process.

bfloat16 is used where a measurement of some milliseconds shows that it is faster (a convolution of
the default network's kind). The choice can therefore differ between two runs of one command on a
busy machine, and with it the last digits of samples. A training run records its choice and keeps
it; elsewhere `precision` fixes it. Compilation is used where a compiler exists and saves more time
than it takes; where compiling fails the network runs eagerly (`compilation`).
"""

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from .compilation import compile_network, use_writable_cache
from .errors import InputError
from .values import whole

# Compile only if the planned work takes longer: a layer compiles in 0.5 to 1 s, and the compiler
# starts in some seconds.
COMPILE_SECONDS, COMPILE_SECONDS_PER_LAYER = 60.0, 3.0
BF16_GAIN = 1.25  # measured speed-up from which bfloat16 is worth its rounding
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt's names for its parameters
LARGEST_KEPT = 32 * 2**20  # bytes; glibc takes no larger threshold and maps larger blocks anew
PRECISIONS = ("float32", "bfloat16")


class Leaf(Protocol):
    """The part of a leaf model (`ScoreModel.leaves`) that execution settings change."""

    autocast: torch.dtype | None
    compiled: bool

    def leaf_network(self) -> nn.Module | None:
        """The network that layout and compilation apply to."""


class Executable(Protocol):
    """The part of `ScoreModel` that `Execution.apply` uses."""

    def leaves(self) -> Iterator[Any]:
        """The models that hold networks or closed forms."""

    def to(self, device: str) -> Any:
        """Move parameters and buffers."""


Model = TypeVar("Model", bound=Executable)


@dataclass(frozen=True)
class Execution:
    """How the arithmetic runs, with nothing left open.

    Args:
        device: Name of a torch device, such as "cpu" or "cuda".
        precision: "float32" or "bfloat16", the type in which networks compute.
        channels_last: Whether convolution weights lie channels-last in memory.
        compile: Whether networks are compiled.
        threads: Number of CPU threads, 1 or more.
        notice: A message for the user about the choice; empty for none.
    """

    device: str
    precision: str
    channels_last: bool
    compile: bool
    threads: int
    notice: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict, which a run records. `Execution(**d)` undoes it."""
        return asdict(self)

    def describe(self) -> str:
        """A one-line description for display."""
        mode = "compiled" if self.compile else "eager"
        parts = [self.device, self.precision, mode, f"{self.threads} threads"]
        return ", ".join(parts) + (f" ({self.notice})" if self.notice else "")

    @property
    def autocast(self) -> torch.dtype | None:
        """The type that networks compute in, None for their own."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def apply(
        self, model: Model, required: bool = False, notice: Callable[[str], None] | None = None
    ) -> Model:
        """Bring a model to the device and set how it computes, in place.

        Parameters and buffers move to `device`. Every leaf's network gets the precision, the
        memory layout and, where `compile` is set, is marked for compilation. Parameter names stay.
        Optimisers and averages are built after this call: they hold the tensors on the device.

        Args:
            model: A `ScoreModel`, wrapped or not.
            required: Whether it is an error where compiling fails; False: the network then runs
                eagerly.
            notice: Receives the reason where compiling fails; None: a RuntimeWarning.

        Returns:
            The same model.

        Raises:
            InputError: Where compilation is required and fails. Most failures show only at the
                first call of the network, which raises the error then.
        """
        use_writable_cache(notice)
        model.to(self.device)
        for leaf in model.leaves():
            leaf.autocast = self.autocast
            leaf.compiled = False
            network = leaf.leaf_network()
            if network is None:
                continue
            if self.channels_last:
                network.to(memory_format=torch.channels_last)
            if self.compile:
                compile_network(leaf, network, required, notice)
        return model

    def configure_process(self) -> None:
        """Set what belongs to the whole process: threads, allocator, TF32 on CUDA.

        Commands and the trainer call it once. `apply` does not: a library call leaves the process
        as it is.
        """
        torch.set_num_threads(self.threads)
        keep_memory()
        if self.device.startswith("cuda"):
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True


def keep_memory() -> None:
    """Keep freed memory for the next step, where the C library is glibc.

    Without it, fresh memory pages for every tensor cost a large network a tenth of its time.
    Settings of the environment (MALLOC_..., or glibc.malloc in GLIBC_TUNABLES) are respected.
    """
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    ):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt if os.name == "posix" else None
    except (AttributeError, OSError):  # another C library
        return
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled networks uncompiled: for shapes that occur once and are not worth compiling."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled; the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_layers(network: nn.Module) -> int:
    """Count the convolutions and matrices of a network.

    Args:
        network: The network.

    Returns:
        The number of parameters with two dimensions or more.
    """
    return sum(p.ndim >= 2 for p in network.parameters())


def has_compiler() -> bool:
    """Whether inductor finds a C++ compiler."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return any(shutil.which(name) for name in names if name)


def bf16_gain(threads: int) -> float:
    """Measure how much faster bfloat16 convolutions are than float32 ones on this processor.

    The measurement is a 3 x 3 convolution of 64 channels on 14 x 14 pixels, channels last. The
    two types run in turn, twelve times each, so that other work on the machine disturbs both alike.

    Args:
        threads: Number of threads of the measurement. The process's own number is restored.

    Returns:
        The best time in float32 divided by the best time in bfloat16.
    """
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    made = {
        dtype: [
            torch.ones(n, 64, k, k, dtype=dtype).to(memory_format=torch.channels_last)
            for n, k in ((32, 14), (64, 3))
        ]
        for dtype in best
    }
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            for _ in range(12):
                for dtype, (x, w) in made.items():
                    start = time.perf_counter()
                    torch.conv2d(x, w, padding=1)
                    best[dtype] = min(best[dtype], time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return best[torch.float32] / best[torch.bfloat16]


def require_float32_eager(precision: str | None, compile: str | None) -> tuple[str, str]:
    """Precision and compilation of work that differentiates twice: float32 and eager.

    bfloat16's rounding grows with each derivative, and torch.compile has no second derivative.

    Args:
        precision: The requested precision; None for no request.
        compile: The requested compilation, "on" or "off"; None for no request.

    Returns:
        ("float32", "off").

    Raises:
        InputError: Where something else was requested.
    """
    for name, value, fix in (("precision", precision, "float32"), ("compile", compile, "off")):
        if value not in (None, fix):
            raise InputError(
                "this objective differentiates the score in x, which runs in eager float32 only; "
                f"got {name}={value}. Use {name}={fix} or leave it out, or use the denoising "
                "objective"
            )
    return "float32", "off"


def check_device(device: str | None) -> str:
    """Check that a device exists.

    Args:
        device: "cpu", "cuda" or "cuda:1"; None: "cuda" where there is one, else "cpu".

    Returns:
        The name of the device.

    Raises:
        InputError: For a device that does not exist, or that scorefield does not run on.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index
    except RuntimeError as error:
        raise InputError(f"no device {device!r}; use cpu or cuda") from error
    if kind not in ("cpu", "cuda"):
        # Apple's MPS has no float64, in which units and noise levels are computed.
        raise InputError(f"the device must be cpu or cuda; got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {device!r} was requested, but this PyTorch finds no CUDA device; use "
            "--device cpu"
        )
    if kind == "cuda" and index is not None and index >= torch.cuda.device_count():
        raise InputError(
            f"device {device!r} was requested, but there are {torch.cuda.device_count()} CUDA "
            "devices, counted from 0"
        )
    return device


def choose(
    device: str | None = None,
    precision: str | None = None,
    compile: str | None = None,
    threads: int | None = None,
    planned: float = 0.0,
    spatial: int = 2,
    second_order: bool = False,
    layers: int = 30,
) -> Execution:
    """Choose the arguments that are None. Nothing of the process is changed.

    Args:
        device: "cpu", "cuda" or "cuda:1"; None: cuda where there is one.
        precision: "float32" or "bfloat16"; None measures (see the module docstring).
        compile: "on" or "off"; None: on where compiling saves more time than it takes.
        threads: Number of CPU threads; None: all cores of this process.
        planned: Seconds of work ahead.
        spatial: Spatial dimensions of the data; 0 for vectors, which run in float32 and eagerly.
        second_order: Whether training differentiates the score in x (`require_float32_eager`).
        layers: Number of layers of the network, which decides how long compiling takes.

    Returns:
        The execution, with nothing left open.

    Raises:
        InputError: For a device, a precision or a compiler that does not exist here.
    """
    if second_order:
        precision, compile = require_float32_eager(precision, compile)
    device = check_device(device)
    threads = None if threads is None else whole(threads, "threads")
    if threads is not None and not 1 <= threads <= 4 * cores():
        raise InputError(
            f"threads must be 1 to {4 * cores()}, four times the {cores()} cores of this process; "
            f"got {threads}"
        )
    threads = cores() if threads is None else threads
    notices = []
    if second_order and spatial > 0:
        notices.append("this objective differentiates the score: eager float32")
    if precision is None:
        precision, notice = _fastest_precision(device, spatial, threads)
        notices += [notice] if notice else []
    elif precision not in PRECISIONS:
        raise InputError(f"precision must be float32 or bfloat16; got {precision!r}")
    use_compile, notice = _decide_compile(compile, device, planned, spatial, layers)
    notices += [notice] if notice else []
    return Execution(device, precision, spatial == 2, use_compile, threads, "; ".join(notices))


def _fastest_precision(device: str, spatial: int, threads: int) -> tuple[str, str]:
    """Precision, and a notice where it was measured."""
    if spatial == 0:
        return "float32", ""
    if device.startswith("cuda"):
        return ("bfloat16" if torch.cuda.is_bf16_supported() else "float32"), ""
    gain = bf16_gain(threads)
    precision = "bfloat16" if gain > BF16_GAIN else "float32"
    return precision, f"a trial ran bfloat16 at {gain:.1f} times the speed of float32"


def _decide_compile(
    compile: str | None, device: str, planned: float, spatial: int, layers: int
) -> tuple[bool, str]:
    """Whether to compile, and a notice where a compiler is missing."""
    if compile not in (None, "on", "off"):
        raise InputError(f"compile must be on or off; got {compile!r}")
    missing = device == "cpu" and not has_compiler()
    if compile == "on" and missing:
        raise InputError(
            "compile=on was requested, but no C++ compiler (g++ or clang++) is on the PATH; "
            "install one, or use --compile off"
        )
    if compile == "on":
        return True, ""
    pays = spatial > 0 and planned >= max(COMPILE_SECONDS, COMPILE_SECONDS_PER_LAYER * layers)
    if compile == "off" or not pays:
        return False, ""
    return (False, "no C++ compiler found: eager, slower") if missing else (True, "")
