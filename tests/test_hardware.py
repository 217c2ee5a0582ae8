"""Times of this machine, which a busy one spoils: `make test-hardware` runs them."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.hardware


def test_import_takes_less_than_300_ms() -> None:
    """The best of five processes: `import scorefield` loads torch only when it is needed."""
    code = (
        "import time; start = time.perf_counter(); import scorefield; "
        "print(time.perf_counter() - start)"
    )
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(seconds) < 0.3
