"""The examples run as they are, and what they show is so."""

import importlib.util
import io
import tokenize
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scorefield.checkpoint import load
from scorefield.cli.app import app
from scorefield.errors import InputError
from scorefield.sampling import sample

EXAMPLES = Path(__file__).parent.parent / "examples"
EXECUTION = {"precision": "float32", "compile": "off", "threads": 1}  # nothing is timed


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


class TestOwnKernel:
    def test_its_order_is_two_in_the_middle_and_one_elsewhere(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        middle, elsewhere = imported("own_kernel").main()
        assert abs(middle - 2) < 0.2
        assert abs(elsewhere - 1) < 0.2
        assert "64 samples" in capsys.readouterr().out


class TestPopulation:
    def test_evidence_and_posterior_mean_are_within_their_errors(self) -> None:
        """4.5 standard errors over 400 groups of 64 particles."""
        for value, se, truth in imported("population").main().values():
            assert abs(value - truth) < 4.5 * se
            assert se < 0.02 * truth

    def test_weights_that_are_ignored_or_not_kept_are_noticed(self) -> None:
        example = imported("population")

        class Ignores(example.Resampling):
            def resample(self, state, draws):
                return state.replace(log_weight=torch.zeros_like(state.log_weight))

        class Forgets(example.Resampling):
            """Resets weights to one after resampling and loses the group's mean."""

            def resample(self, state, draws):
                done = super().resample(state, draws)
                return done.replace(log_weight=torch.zeros_like(done.log_weight))

        truth = 1.5 * 4 / 4.25
        for wrong in (Ignores(), Forgets()):
            evidence, first = example.estimate(wrong, 400, 64)
            mean = float(first.mean() / evidence.mean())
            assert abs(float(evidence.mean()) - 0.1485) > 0.1 or abs(mean - truth) > 0.1

    def test_without_resampling_the_estimates_are_right_and_noisier(self) -> None:
        example = imported("population")
        plain, _ = example.estimate(example.Resampling(least=0.0), 400, 64)
        se = float(plain.std()) / 20
        assert abs(float(plain.mean()) - 0.1485) < 4.5 * se


class TestConditions:
    def test_guidance_costs_two_evaluations_a_step_and_less_in_an_interval(self, tmp_path) -> None:
        found = list(imported("conditions").main(str(tmp_path / "c.png"), 200).values())
        assert found[:3] == [20, 20, 40]
        assert 20 < found[3] < 40
        assert (tmp_path / "c.png").exists()


class TestCompareSamplers:
    def test_the_error_of_shifted_draws_is_the_shift(self) -> None:
        """Wasserstein-1 of a density and its translate by c is |c'u| along u, whatever it is."""
        example = imported("compare_samplers")
        p = example.density()
        x, c = p.sample(4000, seed=3), torch.tensor([6.0, 0.0], dtype=torch.float64)
        angle = torch.arange(32, dtype=torch.float64) * torch.pi / 32
        u = torch.stack([angle.cos(), angle.sin()], 1)
        std = torch.einsum("kd,de,ke->k", u, p.moments().covariance, u).sqrt()
        shift = float(((u @ c).abs() / std).mean())
        floor = example.error(p, x)
        assert floor < 0.05
        assert abs(example.error(p, x + c) - shift) <= floor

    def test_high_order_wins_and_plain_langevin_does_not_find_the_weights(
        self, tmp_path: Path
    ) -> None:
        example = imported("compare_samplers")
        rows = example.main(str(tmp_path / "s.png"), 4000, (16,))
        errors = {row.name: row.errors.get(16, 0.0) for row in rows}
        assert errors["unipc"] < errors["heun"] / 2
        assert errors["unipc"] < errors["ancestral"] / 2
        assert errors["langevin"] > 0.25
        assert (tmp_path / "s.png").exists()


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


class TestSimulationBased:
    def test_exact_draws_of_the_two_moons_are_calibrated(self) -> None:
        """Ranks of true parameters among exact draws are uniform, and of one mode alone are not."""
        example = imported("simulation_based")
        rng = np.random.default_rng(0)
        theta = rng.uniform(-1, 1, (300, 2))
        observed = example.two_moons(theta, rng)
        draws = np.stack([example.two_moons_posterior(x, 63, rng) for x in observed])
        assert example.uniformity((draws < theta[:, None]).sum(1), 63, rng).min() > 1e-3
        upper = np.where(draws.sum(2, keepdims=True) < 0, -draws[..., ::-1], draws)
        assert np.allclose(example.shift(upper[0]), example.shift(draws[0]))  # the other preimage
        assert example.uniformity((upper < theta[:, None]).sum(1), 63, rng).max() < 1e-6

    def test_exact_draws_are_where_the_simulator_makes_the_observation(self) -> None:
        """theta explains x by a point of the crescent: radius 0.1 ± 0.01, to the right."""
        example = imported("simulation_based")
        rng = np.random.default_rng(1)
        x = np.array([-0.3, 0.2])
        point = x - example.shift(example.two_moons_posterior(x, 4000, rng)) - [0.25, 0]
        radius = np.hypot(*point.T)
        assert abs(radius.mean() - 0.1) < 4.5 * 0.01 / 4000**0.5
        assert abs(radius.std() - 0.01) < 4.5 * 0.01 / 8000**0.5
        assert (np.abs(np.arctan2(point[:, 1], point[:, 0])) < np.pi / 2).all()

    def test_two_sample_test_is_half_for_one_law_and_one_for_two(self) -> None:
        example = imported("simulation_based")
        rng = np.random.default_rng(2)
        x, y = rng.normal(size=(2, 1000, 2))
        assert abs(example.c2st(x, y) - 0.5) < 4.5 * 0.5 / 2000**0.5
        assert example.c2st(x + 6, y) > 0.98

    def test_errors_of_gaussian_draws_are_in_standard_errors(self) -> None:
        """Exact draws are within 4.5; draws with 1.2 times the deviation or a shift are not."""
        example = imported("simulation_based")
        rng = np.random.default_rng(3)
        x = example.linear_gaussian(rng.normal(size=(1, 3)), rng)[0]
        root = np.linalg.cholesky(example.COVARIANCE)
        mean = example.COVARIANCE @ example.A.T @ x / example.NOISE**2
        noise = rng.normal(size=(2000, 3)) @ root.T
        assert max(example.gaussian_errors(mean + noise, x)) < 4.5
        assert example.gaussian_errors(mean + 1.2 * noise, x)[1] > 4.5
        assert example.gaussian_errors(mean + root[:, 0] / 4 + noise, x)[0] > 4.5

    @pytest.mark.training
    @pytest.mark.slow
    def test_it_runs_and_draws_the_picture(self, tmp_path: Path) -> None:
        """A short training is far from exact, and already much better than the prior."""
        example = imported("simulation_based")
        picture = tmp_path / "s.png"
        settings = {f"execution.{k}": v for k, v in EXECUTION.items()}
        found = example.main(str(picture), 500, 20, images=60_000, settings=settings)
        assert picture.exists()
        prior = np.random.default_rng(0).uniform(-1, 1, (500, 2))
        for score, (_, draws, exact) in zip(*found["moons"].values(), strict=True):
            assert draws.shape == exact.shape == (500, 2)
            assert 0.4 < score <= 1
            assert np.hypot(*(draws.mean(0) - exact.mean(0))) < 0.3
            assert draws.std(0).max() < prior.std(0).min()
        assert found["gaussian"]["ranks"].shape == (20, 3)


class TestClassify:
    @pytest.mark.training
    @pytest.mark.slow
    def test_likelihood_finds_the_class(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Guessing has an accuracy of 0.1 ± 0.05 over 40 digits."""
        settings = {"optim.batch": 128, "optim.warmup": 1280}
        settings |= {f"execution.{k}": v for k, v in EXECUTION.items()}
        found = imported("classify").main(40, 4, images=60_000, settings=settings)
        assert found["accuracy"] > 0.5
        assert found["bits"].shape == (40,)
        assert "held-out digits" in capsys.readouterr().out
