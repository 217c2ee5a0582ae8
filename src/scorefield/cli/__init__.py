"""The command line. Exit codes: 0 done or budget reached; 1 the machine failed (disk, memory); 2
the user's mistake; 3 non-finite;
128 + n stopped by signal n after saving."""

import sys


def main() -> None:
    """Run a command and turn what went wrong into words and an exit code."""
    from ..errors import InputError, NonFiniteError
    from .app import app
    from .show import error

    try:
        app()
    except InputError as problem:
        error(str(problem))
        sys.exit(2)
    except NonFiniteError as problem:
        error(str(problem))
        sys.exit(3)
    except (OSError, MemoryError) as problem:
        error(
            f"the machine failed: {problem}. Files already there are intact; free space or "
            "memory, then run the same command again"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        error("interrupted")
        sys.exit(130)
