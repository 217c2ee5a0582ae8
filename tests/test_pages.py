"""The other half of the pages of docs/ run as they are printed (tests/page_helpers.py)."""

from pathlib import Path

import pytest

from page_helpers import each_page, run_in


@pytest.mark.training
@each_page(1)
def test_page_runs_as_printed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(page, tmp_path, monkeypatch)
