"""How the arithmetic runs: device, precision, memory layout, compilation, threads, chosen in one
place, printed and recorded.

bfloat16 is used where it is measured to be faster (a convolution of the default network's kind,
some milliseconds); compilation where a
compiler is there and the run is long enough to earn it back.
"""

import ctypes
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from .errors import InputError

# seconds of planned work a layer from which compiling (about half a second to a second a layer)
# pays
COMPILE_EARNS_BACK = 3.0
BF16_GAIN = 1.25  # measured speed-up from which bfloat16 is worth its rounding


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt's names for its parameters
LARGEST_KEPT = (
    32 * 2**20
)  # bytes; glibc takes no larger threshold, and maps what is larger anew every time


@dataclass(frozen=True)
class Execution:
    """The resolved policy. device: a torch device's name; precision: float32 or bfloat16."""

    device: str
    precision: str
    channels_last: bool
    compile: bool
    threads: int
    notice: str = ""  # what the user should know about the choice

    def to_dict(self) -> dict[str, Any]:
        """What the run records."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
        parts = [
            self.device,
            self.precision,
            "compiled" if self.compile else "eager",
            f"{self.threads} threads",
        ]
        return ", ".join(parts) + (f" ({self.notice})" if self.notice else "")

    @property
    def autocast(self) -> torch.dtype | None:
        """The type the network computes in, None for its own."""
        return torch.bfloat16 if self.precision == "bfloat16" else None

    def place(self, network: nn.Module) -> nn.Module:
        """Move `network` to the device and layout, and mark it for compilation. In place; parameter
        names stay.
        """
        torch.set_num_threads(self.threads)
        keep_memory()
        if self.device == "cuda":  # untested here: no such machine
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        network.to(self.device)
        self.lay_out(network)
        if self.compile:
            network.compile(dynamic=False)
        return network

    def lay_out(self, network: nn.Module) -> None:
        """Give the network's weights the policy's memory layout, in place."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def keep_memory() -> None:
    """Keep freed memory for the next step, where the C library is glibc: fresh pages for every
    tensor cost a large network a tenth of its time.

    What the user set in the environment (MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_, or
    glibc.malloc in GLIBC_TUNABLES) stays.
    """
    if "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled networks uncompiled: for shapes met once, where compiling would cost more than
    it saves.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_layers(network: nn.Module) -> int:
    """Convolutions and matrices of a network."""
    return sum(p.ndim >= 2 for p in network.parameters())


def has_compiler() -> bool:
    """Whether inductor finds a C++ compiler."""
    return any(
        shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++") if name
    )


def bf16_gain() -> float:
    """Speed of a bfloat16 over a float32 3x3 convolution on this processor (64 channels, 14 x 14,
    channels last): best of twelve each, in turn,
    so that other work on the machine disturbs neither more than the other."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    made = {
        dtype: [
            torch.ones(n, 64, k, k, dtype=dtype).to(memory_format=torch.channels_last)
            for n, k in ((32, 14), (64, 3))
        ]
        for dtype in best
    }
    with torch.no_grad():
        for _ in range(12):
            for dtype, (x, w) in made.items():
                start = time.perf_counter()
                torch.conv2d(x, w, padding=1)
                best[dtype] = min(best[dtype], time.perf_counter() - start)
    return best[torch.float32] / best[torch.bfloat16]


def plain(precision: str, compile: str) -> tuple[str, str]:
    """Precision and compilation for work that differentiates twice: float32, eager; an InputError
    where something else was asked for.

    bfloat16's rounding grows with each derivative, and torch.compile has no second derivative.
    """
    for name, value, fix in (("precision", precision, "float32"), ("compile", compile, "off")):
        if value not in ("auto", fix):
            raise InputError(
                "this objective differentiates the score in x, which runs in eager float32 only; "
                f"got {name}={value}. Use {name}={fix} or auto, "
                "or the denoising objective"
            )
    return "float32", "off"


def choose(
    device: str = "auto",
    precision: str = "auto",
    compile: str = "auto",
    threads: int = 0,
    planned: float = 0.0,
    spatial: int = 2,
    second_order: bool = False,
    layers: int = 30,
) -> Execution:
    """Resolve what is `auto`. planned: seconds of work ahead; spatial: spatial dimensions of the
    data (0 = vectors: float32, eager);
    second_order: the score is differentiated in x while training (see `plain`); layers: of the
    network, which decide how long compiling takes.
    """
    if second_order:
        precision, compile = plain(precision, compile)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.device(device)
    except RuntimeError as error:
        raise InputError(f"no device {device!r}; use cpu or cuda") from error
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            f"device {device!r} was asked for, but this PyTorch finds no CUDA device; use "
            "--device cpu"
        )
    if not 0 <= threads <= 4 * cores():
        raise InputError(
            f"threads must be 0 (all) or at most 4 x the {cores()} cores of this process; got "
            f"{threads}"
        )
    threads = threads or cores()
    notices = (
        ["this objective differentiates the score: eager float32"]
        if second_order and spatial > 0
        else []
    )
    if precision == "auto":
        if spatial == 0 or device == "mps":
            precision = "float32"
        elif device.startswith("cuda"):
            precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
        else:
            torch.set_num_threads(threads)
            gain = bf16_gain()
            precision = "bfloat16" if gain > BF16_GAIN else "float32"
            notices.append(f"bfloat16 measured {gain:.1f} x float32")
    if compile == "on" and device == "cpu" and not has_compiler():
        raise InputError(
            "compilation was asked for, but no C++ compiler (g++ or clang++) is on the PATH; "
            "install one or use --compile off"
        )
    use_compile = compile == "on"
    if compile == "auto" and spatial > 0 and planned >= COMPILE_EARNS_BACK * layers:
        use_compile = device != "cpu" or has_compiler()
        if not use_compile:
            notices.append("no C++ compiler found: eager, slower")
    return Execution(
        device,
        precision,
        spatial == 2 and device != "mps",
        use_compile,
        threads,
        "; ".join(notices),
    )
