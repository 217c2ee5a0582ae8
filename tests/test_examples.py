"""The examples run as they are, and what they show is so."""

import importlib.util
import io
import tokenize
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_lines(text: str) -> int:
    """Lines that hold code: neither blank nor comment nor docstring."""
    skip = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
        tokenize.ENCODING,
    }
    lines: set[int] = set()
    start = True  # of a statement: a string alone there is a docstring
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        docstring = start and token.type == tokenize.STRING
        if token.type not in skip and not docstring:
            lines.update(range(token.start[0], token.end[0] + 1))
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            start = True
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            start = False
    return len(lines)


class TestNCSNIn60Lines:
    def test_it_has_at_most_sixty(self) -> None:
        text = (EXAMPLES / "ncsn_in_60_lines.py").read_text()
        assert 30 < code_lines(text) <= 60
        assert "scorefield" not in text  # nothing but torch

    def test_annealed_langevin_gets_the_weights_and_plain_does_not(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            annealed, plain = imported("ncsn_in_60_lines").main(600)
        assert abs(annealed - 0.2) < 0.05
        assert plain > 0.35
        assert "annealed Langevin" in capsys.readouterr().out
