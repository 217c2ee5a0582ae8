"""The command line.

Exit codes: 0 done, or budget reached; 1 the machine failed (disk, memory) or a package is not
installed; 2 invalid input; 3 a value was not finite; 128 + n stopped by signal n, after saving.
"""

import os
import shlex
import sys
import time

# Names under which a package index knows the modules that this package imports.
PACKAGES = {"PIL": "Pillow", "sklearn": "scikit-learn"}
SPINS = "3000"  # of a waiting thread: some microseconds
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def share_processors() -> None:
    """Let threads of OpenMP wait for each other briefly, then sleep, unless the user chose.

    By default they spin for milliseconds. Where another program uses one of the cores, spinning
    threads keep the working ones from running: a training step then takes ten times as long.
    GNU's library reads the setting when it is loaded, so this runs before torch is imported.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def main() -> None:
    """Run a command; turn exceptions into a message and an exit code."""
    began = time.perf_counter()
    share_processors()
    from ..errors import InputError, NonFiniteError
    from . import show
    from .app import app
    from .show import error

    show.process_began = began
    try:
        app()
    except InputError as problem:
        error(str(problem))
        sys.exit(2)
    except NonFiniteError as problem:
        error(str(problem))
        sys.exit(3)
    except ModuleNotFoundError as problem:
        module = (problem.name or "").partition(".")[0]
        if module in ("", "scorefield"):
            raise
        error(missing_package(module))
        sys.exit(1)
    except KeyboardInterrupt:
        error("interrupted")
        sys.exit(130)
    except (OSError, MemoryError, RuntimeError) as problem:
        if not is_machine_failure(problem):
            raise
        words = str(problem).splitlines() or [type(problem).__name__]
        error(
            f"the machine failed: {words[0]}. Files that exist are intact; free space or memory, "
            "then run the same command again"
        )
        sys.exit(1)
    finally:
        show.process_began = None


def missing_package(module: str) -> str:
    """Which package is not installed, and how to install it."""
    package = PACKAGES.get(module, module)
    named = "PyTorch (the package torch)" if package == "torch" else f"the package {package}"
    return (
        f"{named} is not installed for {sys.executable}. Install it with\n    "
        f"{shlex.quote(sys.executable)} -m pip install {package}"
    )


def is_machine_failure(problem: BaseException) -> bool:
    """Whether the machine failed, not the program: a disk error, or memory ran out.

    torch raises a RuntimeError for the CPU, and a subclass of it, OutOfMemoryError, for CUDA.
    """
    if isinstance(problem, OSError | MemoryError):
        return True
    return any(words in str(problem).lower() for words in OUT_OF_MEMORY)
