"""The examples run as they are, and what they show is so."""

import importlib.util
import io
import tokenize
from pathlib import Path
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

from scorefield.checkpoint import load
from scorefield.cli.app import app
from scorefield.errors import InputError
from scorefield.sampling import sample

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


class TestOwnNetwork:
    def test_its_model_file_is_loaded_and_samples_the_ring(self, tmp_path: Path) -> None:
        """The ring has radius 3 around (10, -5); a short training finds both to 0.3."""
        example = imported("own_network")
        path = tmp_path / "own.safetensors"
        with torch.random.fork_rng(devices=[]):
            loss = example.main(str(path), steps=600)
        assert loss < 0.9  # an untrained denoiser of this preconditioner has the loss 1
        with pytest.raises(InputError, match="network"):
            load(path)
        model = load(path, network=example.Network)
        x = sample(model, 1000, seed=0, nfe=50)
        assert (x.mean(0) - torch.tensor([10.0, -5.0])).abs().max() < 0.3
        radius = (x - torch.tensor([10.0, -5.0])).norm(dim=1)
        assert abs(float(radius.mean()) - 3) < 0.3
        assert float(radius.std()) < 1  # the Gaussian of equal moments has 1.4

    def test_the_command_line_takes_its_network(self, tmp_path: Path) -> None:
        example = imported("own_network")
        path = tmp_path / "own.safetensors"
        with torch.random.fork_rng(devices=[]):
            example.main(str(path), steps=2)
        network = f"{EXAMPLES / 'own_network.py'}:Network"
        out = tmp_path / "out"
        arguments = ["sample", str(path), "--network", network, "--count", "3", "--out", str(out)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert any(out.iterdir())
