"""The benchmark of posterior samplers: its metric, its exact draws, its cells and its tables.

Truths: the distance of shifted and scaled sets in closed form; moments of the posterior by
quadrature in two dimensions and by the information form in eight; distances of draws that are
exact ones, moved by a known amount.
"""

import json
import math

import pytest
import torch
from bench import posterior_libraries as libraries
from bench.app import app, parse_counts
from bench.posterior_cells import TUNING_FIRST, Candidate, Suite, tune
from bench.posterior_cells import Cells as CellsOnDisk
from bench.posterior_suite import Problem, make_problem, sliced_w1
from bench.posteriors import posteriors, table
from typer.testing import CliRunner

from scorefield.errors import InputError
from scorefield.models import count_cost

# -- the metric


def standard(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distance_of_a_shift_in_one_dimension_is_the_shift():
    a = standard(500, 1)
    shuffled = a[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert sliced_w1(a, shuffled - 2.5) == pytest.approx(2.5, abs=1e-12)
    assert sliced_w1(a, shuffled) == pytest.approx(0, abs=1e-12)


def test_distance_of_a_scaled_normal_in_one_dimension():
    """W1 of N(0, 1) and N(0, s²) is |s - 1| sqrt(2 / pi)."""
    n, s = 40_000, 1.7
    a = standard(n, 1)
    expected = (s - 1) * math.sqrt(2 / math.pi)
    error = (s - 1) * math.sqrt((1 - 2 / math.pi) / n)
    assert abs(sliced_w1(a, s * a.flip(0)) - expected) < 4.5 * error
    unsorted = float((a - s * a.flip(0)).abs().mean())  # negative control: no transport
    assert abs(unsorted - expected) > 45 * error


@pytest.mark.parametrize("d", [2, 8])
def test_distance_of_a_shift_averages_over_directions(d):
    """E |<v, u>| = |v| Gamma(d/2) / (sqrt(pi) Gamma((d + 1)/2)) for u uniform on the sphere."""
    a, slices = standard(50, d), 20_000
    shift = torch.arange(1.0, d + 1, dtype=torch.float64)
    size = float(shift.norm())
    expected = size * math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    error = math.sqrt((size**2 / d - expected**2) / slices)
    assert abs(sliced_w1(a, a + shift, 3, slices) - expected) < 4.5 * error


def test_distance_of_draws_that_are_not_finite_is_nan():
    a = standard(10, 2)
    broken = a.clone()
    broken[3, 1] = math.inf
    assert math.isnan(sliced_w1(a, broken))
    with pytest.raises(InputError, match="one shape"):
        sliced_w1(a, a[:5])


# -- the problems


@pytest.mark.parametrize("d_y", [1, 2, 4])
def test_problems_follow_the_protocol(d_y):
    first, second = make_problem(8, d_y, 0), make_problem(8, d_y, 1)
    for problem in (first, second):
        s = torch.linalg.svdvals(problem.matrix)
        assert problem.matrix.shape == (d_y, 8)
        assert 0 < float(s.min()) <= float(s.max()) < 1
        assert 0 < problem.noise_std < float(s.max())
        assert float(problem.weights.sum()) == pytest.approx(1)
    assert torch.equal(first.weights, second.weights)
    assert not torch.equal(first.matrix, second.matrix)
    assert torch.equal(first.y, make_problem(8, d_y, 0).y)
    assert first.means.shape == (25, 8)
    assert torch.equal(first.means[:, 0], first.means[:, 6])
    assert set(first.means.flatten().tolist()) == {-16.0, -8.0, 0.0, 8.0, 16.0}


def test_wrong_dimensions_are_refused():
    for d, d_y in ((7, 1), (8, 0), (8, 9)):
        with pytest.raises(InputError, match="even d"):
            make_problem(d, d_y, 0)


def moments_by_quadrature(problem: Problem):
    """Mean and covariance of the posterior in two dimensions on a grid, from prior and noise."""
    axis = torch.arange(-22, 22, 0.05, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    prior = torch.zeros(len(x), dtype=torch.float64)
    for w, m in zip(problem.weights, problem.means, strict=True):
        prior += w * (-(x - m).square().sum(1) / 2).exp()
    residual = problem.y - x @ problem.matrix.T
    p = prior * (-residual.square().sum(1) / (2 * problem.noise_std**2)).exp()
    p = p / p.sum()
    mean = p @ x
    return mean, (x - mean).T @ (p[:, None] * (x - mean))


def moments_by_information(problem: Problem):
    """Mean and covariance of the posterior by its precision, component by component."""
    a, noise = problem.matrix, problem.noise_std
    covariance = torch.linalg.inv(torch.eye(problem.d, dtype=torch.float64) + a.T @ a / noise**2)
    means = (problem.means + problem.y @ a / noise**2) @ covariance
    spread = a @ a.T + noise**2 * torch.eye(problem.d_y, dtype=torch.float64)
    evidence = torch.distributions.MultivariateNormal(problem.means @ a.T, spread)
    w = (problem.weights.log() + evidence.log_prob(problem.y)).softmax(0)
    mean = w @ means
    apart = means - mean
    return mean, covariance + apart.T @ (w[:, None] * apart)


def standard_errors(x, mean, covariance):
    """How far mean and covariance of draws are from the truth, in standard errors, at most."""
    off = (x.mean(0) - mean).abs() / (x.std(0) / math.sqrt(len(x)))
    apart = x - mean
    products = apart[:, :, None] * apart[:, None, :]
    error = products.std(0) / math.sqrt(len(x))
    return max(float(off.max()), float(((products.mean(0) - covariance).abs() / error).max()))


TRUTHS = [
    (2, 1, moments_by_quadrature),
    (2, 2, moments_by_quadrature),
    (8, 1, moments_by_information),
    (8, 4, moments_by_information),
]


@pytest.mark.parametrize(("d", "d_y", "truth"), TRUTHS)
def test_exact_draws_have_the_moments_of_the_posterior(d, d_y, truth):
    problem = make_problem(d, d_y, 3)
    mean, covariance = truth(problem)
    assert standard_errors(problem.exact(40_000, 5), mean, covariance) < 4.5
    wrong = Problem(3, problem.matrix, 2 * problem.noise_std, problem.y, *prior_of(problem))
    assert standard_errors(wrong.exact(40_000, 5), mean, covariance) > 4.5  # negative control
    prior = problem.prior().sample(40_000, seed=5)
    assert standard_errors(prior, mean, covariance) > 4.5


def prior_of(problem: Problem):
    return problem.means, problem.weights


def test_both_truths_agree():
    problem = make_problem(2, 1, 7)
    for grid, closed in zip(
        moments_by_quadrature(problem), moments_by_information(problem), strict=True
    ):
        assert torch.allclose(grid, closed, atol=1e-6)


# -- cells


class Counted:
    """A method whose draws are exact ones moved by a distance along the diagonal."""

    def __init__(self, stop_after=math.inf):
        self.calls, self.stop_after = [], stop_after

    def __call__(self, problem, steps, draws, seed, distance=0.0):
        if len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((problem.d_y, problem.number, steps, distance))
        problem.prior().denoise(torch.zeros(draws, problem.d, dtype=torch.float64), 1.0)
        return problem.exact(draws, 9) + distance


SMALL = Suite(d=4, d_y=(1, 2), steps=(7, 3), problems=3, draws=40, tuning=0)


def never(*args, **kwargs):
    raise AssertionError("a finished cell is measured again")


def quiet(line):
    pass


def test_an_interrupted_measurement_goes_on(tmp_path):
    """Each cell is measured once, in whatever run; the record is that of one run."""
    path = tmp_path / "record.json"
    interrupted = Counted(stop_after=7)  # six cells, after the warm-up
    with pytest.raises(KeyboardInterrupt):
        posteriors([Candidate("a", "m", interrupted)], SMALL, path, quiet)
    kept = json.loads(path.read_text())["cells"]
    assert sum(name.startswith("a m") for name in kept) == 6
    again = Counted()
    record = posteriors([Candidate("a", "m", again)], SMALL, path, quiet)
    assert len(again.calls) == 1 + 3 * 2 * 2 - 6
    assert {name: record["cells"][name] for name in kept} == kept
    whole = posteriors([Candidate("a", "m", Counted())], SMALL, None, quiet)
    for one, other in zip(record["rows"], whole["rows"], strict=True):
        assert one["mean"] == other["mean"]
        assert one["evaluations"] == 1
    assert record["floor"] == whole["floor"]
    assert json.loads(path.read_text())["rows"] == record["rows"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "record.json"
    posteriors([Candidate("a", "m", Counted())], SMALL, path, quiet)
    with pytest.raises(InputError, match="choose another file"):
        CellsOnDisk(path, Suite(d=4, draws=41).protocol())
    for text in ("{", "[]", '{"cells": {}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="bench posteriors"):
            CellsOnDisk(path, SMALL.protocol())


def test_constants_are_chosen_on_other_problems():
    grid = tuple({"distance": value} for value in (3.0, 0.0, 1.0))
    method = Counted()
    candidate = Candidate("a", "m", method, grid)
    suite = Suite(d=4, d_y=(1, 2), steps=(7, 3), problems=3, draws=40, tuning=2)
    cells = CellsOnDisk(None, suite.protocol())
    tuned = tune(candidate, suite, cells)
    assert tuned.options == {7: {"distance": 0.0}, 3: {"distance": 0.0}}
    assert (tuned.name, candidate.name) == ("a m, tuned", "a m")
    assert len(method.calls) == 3 * 2 * 2 * 2
    assert {call[1] for call in method.calls} == {TUNING_FIRST, TUNING_FIRST + 1}


def test_pairs_are_differences_problem_by_problem():
    """A shift by 5 along the diagonal is found; what is exact is at the floor; the rest is told."""

    def refuses(problem, steps, draws, seed):
        raise InputError("no")

    def breaks(problem, steps, draws, seed):
        return problem.exact(draws, 9) * math.nan

    moved = Candidate("scorefield", "m", Counted(), options={0: {"distance": 5.0}})
    exact = Candidate("peer", "m", Counted())
    others = [Candidate("peer", "r", refuses), Candidate("peer", "b", breaks)]
    record = posteriors([moved, exact, *others], SMALL, None, quiet)
    rows = {(r["name"], r["d_y"], r["steps"]): r for r in record["rows"]}
    assert ("peer r", 1, 7) not in rows
    assert rows["peer b", 1, 7]["diverged"] == 3
    assert rows["peer b", 1, 7]["mean"] is None
    for pair in record["pairs"]:
        assert (pair["ours"], pair["theirs"], pair["count"]) == ("scorefield m", "peer m", 3)
        place = pair["d_y"], pair["steps"]
        difference = rows["scorefield m", *place]["mean"] - rows["peer m", *place]["mean"]
        assert pair["mean"] == pytest.approx(difference)
        assert pair["worse"]
        assert pair["times_faster"] > 0
    assert len(record["pairs"]) == 4
    assert rows["peer m", 2, 3]["mean"] < 3 * record["floor"]["2"]["mean"]
    text = table(record)
    assert text.count("worse") == 4
    assert "none finite" in text


# -- libraries


@pytest.mark.parametrize("library", ["scorefield", "azula", "deepinv"])
def test_every_method_uses_the_evaluations_it_is_given(library):
    """As many rows of the exact denoiser as steps a draw, and none for the exact method."""
    if library != "scorefield":
        pytest.importorskip(library)
    problem = make_problem(8, 2, 0)
    found = libraries.candidates((library,))
    assert found
    for candidate in found:
        with count_cost() as cost:
            x = candidate.draw(problem, 40, 16, 0)
        assert x.shape == (16, 8), candidate.name
        assert x.dtype == torch.float64
        assert bool(torch.isfinite(x).all()), candidate.name
        if candidate.method == "exact":
            assert cost.forwards == 0
        elif library == "scorefield":
            assert 0 < cost.forwards <= 40 * 16, candidate.name
        else:
            assert cost.forwards == 40 * 16, candidate.name


@pytest.mark.parametrize("library", ["azula", "deepinv"])
def test_units_of_other_libraries_are_right(library):
    """MMPS, whose approximation is the best of both libraries, comes near the exact posterior."""
    pytest.importorskip(library)
    problem = make_problem(8, 4, 0)
    (method,) = libraries.candidates((library,), ("mmps",))
    exact = problem.exact(300, 0)
    assert sliced_w1(method.draw(problem, 50, 300, 0), exact) < 0.6
    assert sliced_w1(problem.prior().sample(300), exact) > 5


def test_unknown_libraries_and_methods_are_refused():
    with pytest.raises(InputError, match="libraries are"):
        libraries.candidates(("torchdps",))
    with pytest.raises(InputError, match="have the methods"):
        libraries.candidates(("scorefield",), ("no-such-method",))


class TestCommandLine:
    def test_measures_and_prints_a_table(self, tmp_path):
        path = tmp_path / "record.json"
        call = ["posteriors", "--libraries", "scorefield", "--problems", "2", "--draws", "20"]
        call += ["--steps", "5", "--d-y", "1", "--tuning", "0", "--out", str(path)]
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
        assert "floor, exact against exact, d_y 1" in result.output
        assert json.loads(path.read_text())["protocol"]["draws"] == 20

    @pytest.mark.parametrize("text", ["", "0", "1.5", "a"])
    def test_wrong_counts_are_refused(self, text):
        with pytest.raises(InputError, match="--steps"):
            parse_counts(text, "--steps")
