"""The sampler study measures what it states and resumes; the defaults follow its tables."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import scorefield as sf
from scorefield import rng, studies
from scorefield.cli.app import app
from scorefield.cli.benchmark import parse_budgets
from scorefield.config import DataFacts, Request, resolve
from scorefield.errors import InputError
from scorefield.exact import Gaussian, GaussianMixture
from scorefield.sampling import SAMPLERS, Kernel, budget, draw, make_kernel, resolve_sampling
from scorefield.sampling.recipe import budget_row
from scorefield.studies import PROBLEMS, Protocol, benchmark_samplers, exact_problem, read_entrant
from scorefield.studies.entrants import all_entrants
from scorefield.studies.flow import Flow
from scorefield.studies.measures import Projected, directions, distances, frechet, mean_quantile
from scorefield.studies.problems import IsotropicMixture, components_of, find_problem
from scorefield.studies.report import compared_with_exact, digits, ratios
from scorefield.studies.samplers import plan_study
from scorefield.studies.study import Measurer, read_record
from scorefield.units import Units

DOCS = Path(__file__).parent.parent / "docs"
TINY = Protocol(seeds=2, count=64, pairs=4, directions=8, flow_rows=16, flow_nfe=64)
PAIR = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.25, [0.3, 0.7])


def projected(x: torch.Tensor, model: Any = PAIR, count: int = 16) -> Projected:
    return Projected.of(x, studies.Problem("p", "a density", model), count)


class TestMeasures:
    def test_a_shifted_set_has_the_distance_of_the_shift_along_each_direction(self) -> None:
        x, shift = PAIR.sample(500, seed=0), torch.tensor([0.3, -1.2], dtype=torch.float64)
        along = np.abs(directions(2, 16) @ shift.numpy())
        found = distances(projected(x), projected(x + shift))
        assert found["sw1"] == pytest.approx(along.mean(), rel=1e-12)
        assert found["sw2"] == pytest.approx(math.sqrt((along**2).mean()), rel=1e-12)

    def test_order_and_rotation_of_the_rows_do_not_matter(self) -> None:
        x = PAIR.sample(300, seed=0)
        found = distances(projected(x), projected(x.flip(0)))
        assert found == pytest.approx({"sw1": 0.0, "sw2": 0.0, "tv": 0.0}, abs=1e-12)

    def test_total_variation_is_half_the_difference_of_the_weights(self) -> None:
        low, high = (torch.tensor([[s * 2.0, 0.5]]).repeat(100, 1) for s in (-1, 1))
        a, b = torch.cat([low[:30], high[:70]]), torch.cat([low[:50], high[:50]])
        assert distances(projected(a), projected(b))["tv"] == pytest.approx(0.2)
        assert distances(projected(a, Gaussian([0.0, 0.0], 1.0)), projected(b))["tv"] is None

    def test_the_most_probable_component_takes_variances_and_weights_into_account(self) -> None:
        wide = GaussianMixture([[0.0], [1.0]], [[[0.01]], [[4.0]]], [0.5, 0.5])
        x = torch.tensor([[0.0], [0.4], [1.0], [-3.0]], dtype=torch.float64)
        assert components_of(wide, x).tolist() == [0, 1, 1, 1]
        heavy = GaussianMixture([[0.0], [1.0]], 1.0, [0.999, 0.001])
        assert components_of(heavy, x).tolist() == [0, 0, 0, 0]

    def test_frechet_distance_of_a_set_and_its_affine_image(self) -> None:
        x = Gaussian([1.0, -2.0, 0.5], [0.5, 2.0, 1.0]).sample(400, seed=0)
        shift = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64)
        expected = (0.5 * x.mean(0) + shift).square().sum() + 0.25 * torch.cov(x.T).trace()
        assert frechet(x, 1.5 * x + shift) == pytest.approx(float(expected), rel=1e-9)
        assert frechet(x, x) == pytest.approx(0.0, abs=1e-12)

    def test_quantile_of_a_mean_is_that_of_the_normal_law(self) -> None:
        values = np.random.default_rng(0).normal(3.0, 2.0, 4000)
        found = mean_quantile(values, 25, 0.99)
        assert found == pytest.approx(values.mean() + 2.326 * values.std() / 5, abs=0.05)


class TestProblems:
    @pytest.mark.parametrize("sigma", [0.003, 0.7, 40.0])
    def test_two_matrix_products_give_the_mixture_of_equal_variances(self, sigma: float) -> None:
        means = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)).double()
        fast, slow = IsotropicMixture(means, 0.04), GaussianMixture(means, 0.04)
        x = slow.sample(200, sigma, seed=1)
        torch.testing.assert_close(fast.denoise(x, sigma), slow.denoise(x, sigma))
        torch.testing.assert_close(fast.score(x, sigma), slow.score(x, sigma), rtol=1e-7, atol=1e-7)
        assert torch.equal(components_of(fast, x), components_of(slow, x))

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_exact_samples_are_a_function_of_the_seed(self, name: str) -> None:
        problem = find_problem(name)
        assert problem.exact is not None
        x, y = problem.exact(8, 3), problem.exact(4, 3)
        assert torch.equal(x[:4], y)
        assert not torch.equal(y, problem.exact(4, 4))

    def test_the_gaussian_has_condition_number_ten_thousand(self) -> None:
        values = torch.linalg.eigvalsh(find_problem("ill-scaled").model.moments().covariance)
        assert float(values[-1] / values[0]) == pytest.approx(1e4, rel=1e-6)

    def test_unknown_names_are_refused_with_the_nearest_one(self) -> None:
        with pytest.raises(InputError, match="ring"):
            find_problem("rings")


class TestFlow:
    def test_it_is_the_flow_of_a_normal_distribution(self) -> None:
        p = Gaussian([1.0, -1.0], [0.25, 4.0])
        flow, top = Flow(studies.Problem("p", "a density", p), 32, 256), 30.0
        x, change = flow.at(top, 0)
        low = p.sampling_range()[0]
        recipe = sf.SamplingRecipe(make_kernel("euler"), [top], final="none")
        start = draw(p, recipe, rng.keys(0, 32)).x
        v, mean = torch.tensor([0.25, 4.0], dtype=torch.float64), torch.tensor([1.0, -1.0])
        moved = (start - mean) * ((v + low**2) / (v + top**2)).sqrt()
        expected = mean + moved * v / (v + low**2)  # the last step denoises
        assert float((x - expected).abs().max()) < 1e-5
        assert change < 1e-4

    def test_halving_shows_a_flow_that_has_not_converged(self) -> None:
        pair = studies.Problem("pair", "two modes", PAIR)
        coarse = Flow(pair, 64, 16).at(20.0, 0)[1]
        fine = Flow(pair, 64, 256).at(20.0, 0)[1]
        assert fine < 0.01 * coarse


class TestEntrants:
    def test_names_hold_options_and_a_ladder(self) -> None:
        found = read_entrant("matched-sde eta=0.5 ladder=karras")
        assert (found.sampler, found.options, found.ladder) == (
            "matched-sde",
            {"eta": 0.5},
            "karras",
        )
        recipe = found.recipe(PAIR, 12)
        assert recipe.kernel.eta == 0.5 and recipe.evaluations == 12

    def test_a_name_without_options_has_the_samplers_own(self) -> None:
        assert read_entrant("unipc").recipe(PAIR, 9).kernel.p == 2  # not p = 3 of closed forms

    def test_all_samplers_are_entered_but_the_one_fitted_to_a_model(self) -> None:
        names = {entrant.name for entrant in all_entrants()}
        assert names >= {"default", "unipc p=3", *SAMPLERS} - {"tuned"}
        assert "tuned" not in names

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("unipcc", "unipc"),
            ("unipc p", "NAME=VALUE"),
            ("", "empty"),
            ("default p=3", "no options"),
        ],
    )
    def test_others_are_refused(self, name: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            read_entrant(name)


@pytest.fixture
def registries() -> Iterator[None]:
    """PROBLEMS and SAMPLERS as they were."""
    before = dict(PROBLEMS), dict(SAMPLERS)
    yield
    for registry, known in zip((PROBLEMS, SAMPLERS), before, strict=True):
        registry.clear()
        registry.update(known)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Shrinks(Kernel):
    """A wrong kernel: denoises and keeps five per cent too little."""

    def step(self, model, state, sigma, sigma_next, draws):
        ahead = model.denoise(state.x, sigma)
        ratio = sigma_next / sigma
        return state.replace(x=0.95 * ((1 - ratio) * ahead + ratio * state.x))


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(json.dumps(record))
    for cell in found["cells"].values():
        cell.pop("seconds", None)
    return found


class TestStudy:
    def test_a_user_adds_a_problem_and_a_kernel(self, registries: None) -> None:
        PROBLEMS["mine"] = lambda: exact_problem("mine", "two modes", PAIR)
        SAMPLERS["shrinks"] = Shrinks
        study = benchmark_samplers(["mine"], ["shrinks", "veab"], nfe=[8], protocol=TINY)
        cells = study.record["cells"]
        wrong, right = cells["mine | shrinks | 8"], cells["mine | veab | 8"]
        assert min(wrong["flow"]) > 5 * max(right["flow"])
        assert "shrinks" in study.table() and "`veab`" in study.markdown()

    def test_cells_that_a_sampler_cannot_keep_to_name_the_reason(self) -> None:
        study = benchmark_samplers(["ring"], ["annealed-langevin"], nfe=[5], protocol=TINY)
        cell = study.record["cells"]["ring | annealed-langevin | 5"]
        assert "at least" in cell["skipped"]

    def test_samplers_with_noise_have_no_distance_to_the_flow(self) -> None:
        study = benchmark_samplers(["ring"], ["ancestral"], nfe=[6], protocol=TINY)
        cell = study.record["cells"]["ring | ancestral | 6"]
        assert cell["flow"] == [None, None] and all(v > 0 for v in cell["sw1"])

    def test_a_second_call_measures_what_is_missing(self, tmp_path: Path) -> None:
        one = Protocol(**{**vars(TINY), "seeds": 1})
        benchmark_samplers(["ring"], ["veab"], [5], one, tmp_path)
        first = json.loads((tmp_path / "samplers.json").read_text())
        benchmark_samplers(["ring"], ["veab", "zeab"], [5, 7], TINY, tmp_path)
        grown = json.loads((tmp_path / "samplers.json").read_text())
        name = "ring | veab | 5"
        assert grown["cells"][name]["seconds"][0] == first["cells"][name]["seconds"][0]
        assert grown["cells"][name]["seeds"] == [0, 1]
        whole = benchmark_samplers(["ring"], ["veab", "zeab"], [5, 7], TINY, tmp_path / "b")
        assert without_seconds(grown) == without_seconds(whole.record)
        for file in ("samplers.md", "samplers.png"):
            assert (tmp_path / file).stat().st_size > 500

    def test_an_interrupted_study_keeps_what_is_finished(self, tmp_path: Path) -> None:
        def stop(fraction: float, words: str, stage: str = "") -> None:
            if words.endswith("| 7"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            benchmark_samplers(["ring"], ["veab"], [5, 7], TINY, tmp_path, stop)
        found = json.loads((tmp_path / "samplers.json").read_text())
        assert list(found["cells"]) == ["ring | veab | 5"]

    def test_a_changed_recipe_is_measured_anew(self, tmp_path: Path) -> None:
        benchmark_samplers(["ring"], ["veab"], [5], TINY, tmp_path)
        path = tmp_path / "samplers.json"
        record = json.loads(path.read_text())
        cell = record["cells"]["ring | veab | 5"]
        right, cell["sw1"], cell["recipe"]["levels"] = cell["sw1"], [9.0, 9.0], 99
        path.write_text(json.dumps(record))
        found = benchmark_samplers(["ring"], ["veab"], [5], TINY, tmp_path).record
        assert found["cells"]["ring | veab | 5"]["sw1"] == right

    def test_another_protocol_and_other_files_are_refused(self, tmp_path: Path) -> None:
        benchmark_samplers(["ring"], ["veab"], [5], TINY, tmp_path)
        other = Protocol(**{**vars(TINY), "count": 65})
        with pytest.raises(InputError, match="protocol"):
            benchmark_samplers(["ring"], ["veab"], [5], other, tmp_path)
        (tmp_path / "samplers.json").write_text("[1]")
        with pytest.raises(InputError, match="no record"):
            benchmark_samplers(["ring"], ["veab"], [5], TINY, tmp_path)

    def test_a_diverged_sampler_is_named(self, registries: None) -> None:
        class Explodes(Kernel):
            def step(self, model, state, sigma, sigma_next, draws):
                return state.replace(x=state.x / 0)

        SAMPLERS["explodes"] = Explodes
        study = benchmark_samplers(["ring"], ["explodes"], [6], TINY)
        assert "diverged" in study.table()

    def test_expected_evaluations_are_those_spent(self) -> None:
        plan = plan_study(["ring"], ["heun", "veab", "mala"], [5, 10], TINY)
        each = 5 + 9 + 5 + 10
        assert plan.evaluations == each * TINY.seeds * TINY.count
        assert "2 cells are beyond" in plan.words()

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"problems": "ring"}, "list of names"),
            ({"samplers": "veab"}, "list of names"),
            ({"problems": []}, "one problem"),
            ({"samplers": []}, "one sampler"),
            ({"nfe": [0]}, "nfe"),
            ({"nfe": []}, "nfe"),
        ],
    )
    def test_bad_input_is_refused(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(InputError, match=words):
            benchmark_samplers(**{"problems": ["ring"], "samplers": ["veab"], **given})

    def test_the_check_against_exact_sets_rejects_a_biased_sampler(self, registries: None) -> None:
        """False alarms of the default: 1 % by the definition of the limit; the seeds are fixed."""
        protocol = Protocol(seeds=4, count=1000, pairs=40, directions=16, flow_rows=8, flow_nfe=16)
        PROBLEMS["mine"] = lambda: exact_problem("mine", "two modes", PAIR)
        record = benchmark_samplers(["mine"], ["default"], [40], protocol).record
        (row,) = compared_with_exact(record)
        assert row["reached"]
        SAMPLERS["shrinks"] = Shrinks
        wrong = benchmark_samplers(["mine"], ["shrinks"], [40], protocol).record
        wrong["cells"]["mine | default | 40"] = wrong["cells"].pop("mine | shrinks | 40")
        (row,) = compared_with_exact(wrong)
        assert not row["reached"]


def test_means_over_problems_are_geometric_and_in_common_units() -> None:
    study = benchmark_samplers(["ring", "ill-scaled"], ["veab", "mala"], nfe=[7], protocol=TINY)
    record = study.record
    logs = []
    for name in ("ring", "ill-scaled"):
        cell, floor = record["cells"][f"{name} | veab | 7"]["sw1"], record["floors"][name]["sw1"]
        logs.append(math.log(np.mean(cell) / np.mean(floor)))
    assert ratios(record) == {"veab": {7: pytest.approx(math.exp(np.mean(logs)))}}
    flow = [
        np.mean(record["cells"][f"{name} | veab | 7"]["flow"]) / record["problems"][name]["scale"]
        for name in ("ring", "ill-scaled")
    ]
    assert ratios(record, "flow")["veab"][7] == pytest.approx(math.sqrt(flow[0] * flow[1]))
    tv = record["cells"]["ring | veab | 7"]["tv"]  # the normal distribution has no modes
    expected = np.mean(tv) / np.mean(record["floors"]["ring"]["tv"])
    assert ratios(record, "tv")["veab"][7] == pytest.approx(expected)
    page = study.markdown()
    assert page.index("## All problems") < page.index("## ring")
    assert f"| `veab` | {ratios(record)['veab'][7]:.2f} |" in page


class TestTrainedModel:
    def test_it_is_compared_with_its_own_flow_and_the_held_out_examples(self) -> None:
        problem = studies.Problem("net", "a network", PAIR, None, PAIR.sample(40, seed=9))
        record = benchmark_samplers([problem], ["veab", "heun"], [7], TINY).record
        good, bad = (record["cells"][f"net | {name} | 7"] for name in ("veab", "heun"))
        assert np.mean(good["sw1"]) < np.mean(bad["sw1"])
        assert np.mean(good["sw1_data"]) < np.mean(bad["sw1_data"])
        assert np.mean(good["frechet"]) < np.mean(bad["frechet"])
        assert record["problems"]["net"]["exact"] is False
        assert len(record["floors"]["net"]["sw1"]) == 1  # the pair of two reference sets

    def test_its_tables_name_the_flow_and_no_exact_samples(self, tmp_path: Path) -> None:
        problem = studies.Problem("net", "a network", PAIR, None)
        study = benchmark_samplers([problem], ["default"], [40], TINY, tmp_path)
        page = study.markdown()
        assert "against as many samples of the converged flow" in page
        assert "exact s" not in page and compared_with_exact(study.record) == []
        both = benchmark_samplers([problem, "ring"], ["default"], [40], TINY)
        assert "exact samples (trained models: samples of the" in both.markdown()
        assert {row["problem"] for row in compared_with_exact(both.record)} == {"ring"}

    def test_distances_of_a_table_do_not_depend_on_the_units_of_its_columns(self) -> None:
        """Columns of standard deviations 1e-6 and 1e6 count as columns of 1/2 and 1/2."""
        records = []
        for scale in ([1.0, 1.0], [2e-6, 2e6]):
            model = GaussianMixture([[-0.4, 0.0], [0.4, 0.2]], 0.02, [0.3, 0.7])
            model.units = Units.affine([3.0, -1.0], scale)
            held_out = model.units.to_data(model.sample(40, seed=9).to(torch.float64))
            table = studies.Problem("t", "a table", model, None, held_out, standardised=True)
            records.append(benchmark_samplers([table], ["veab"], [5], TINY).record)
            plain = replace(table, standardised=False)
            hidden = benchmark_samplers([plain], ["veab"], [5], TINY).record
        first, second = (record["cells"]["t | veab | 5"] for record in records)
        for name in ("sw1", "flow", "flow_change", "sw1_data", "frechet"):
            assert first[name] == pytest.approx(second[name], rel=1e-3), name
        assert hidden["cells"]["t | veab | 5"]["sw1"][0] > 1e4 * second["sw1"][0]
        assert records[1]["problems"]["t"]["units"] == "model"

    def test_numbers_in_other_units_are_measured_anew(self, tmp_path: Path) -> None:
        studied = studies.Problem("net", "a network", PAIR, None)
        benchmark_samplers([studied], ["veab"], [5], TINY, tmp_path)
        path = tmp_path / "samplers.json"
        old = json.loads(path.read_text())
        del old["problems"]["net"]["units"]  # as an earlier version wrote it
        old["cells"]["net | veab | 5"]["sw1"] = [9.0, 9.0]
        path.write_text(json.dumps(old))
        kept = benchmark_samplers([studied], ["veab"], [5], TINY, tmp_path).record
        assert kept["cells"]["net | veab | 5"]["sw1"] == [9.0, 9.0]
        standard = replace(studied, standardised=True)
        anew = benchmark_samplers([standard], ["veab"], [5], TINY, tmp_path).record
        assert max(anew["cells"]["net | veab | 5"]["sw1"]) < 9


class TestBudget:
    def test_the_default_is_the_row_of_the_table(self) -> None:
        for nfe in (5, 7, 10, 14, 20, 40, 100):
            row = budget.find_row(budget.EXACT, nfe)
            recipe = resolve_sampling(PAIR, nfe=nfe)
            assert recipe.name == row.sampler and recipe.evaluations <= nfe
            named = read_entrant(row.name).recipe(PAIR, nfe)
            assert recipe.kernel == named.kernel and torch.equal(recipe.ladder, named.ladder)
            low = row.raised * PAIR.sampling_range()[0]
            assert float(recipe.ladder[-1]) == pytest.approx(low)

    def test_what_the_caller_names_wins(self) -> None:
        assert resolve_sampling(PAIR, "heun", nfe=5).name == "heun"
        assert resolve_sampling(PAIR, nfe=5, options={"p": 2}).name == "unipc"
        assert resolve_sampling(PAIR).name == "unipc"
        karras = resolve_sampling(PAIR, nfe=5, ladder="karras")
        assert torch.equal(karras.ladder, resolve_sampling(PAIR, "zeab", 5, "karras").ladder)

    def test_a_card_that_the_user_chose_keeps_its_sampler(self) -> None:
        model = GaussianMixture([[-2.0, 0.0], [2.0, 1.0]], 0.25)
        chosen = dict(budget.CHOSEN["vectors"])
        model.card = {"config": {"sampling": chosen}}
        assert budget_row(model, 5) == budget.find_row(budget.VECTORS, 5)
        for change in ({"sampler": "euler", "options": {}}, {"nfe": 50}, {"final": "none"}):
            model.card = {"config": {"sampling": chosen | change}}
            assert budget_row(model, 5) is None
            assert resolve_sampling(model, nfe=6).name == (chosen | change)["sampler"]

    def test_what_training_chooses_by_itself_is_known(self) -> None:
        for name, shape in (("images", (1, 8, 8)), ("vectors", (3,))):
            facts = DataFacts(event_shape=shape, count=1000)
            stored = resolve(Request(), facts).sampling.model_dump()
            set_values = {k: v for k, v in stored.items() if v is not None and v != {}}
            assert set_values == budget.CHOSEN[name]

    def test_tables_end_with_a_row_for_any_number(self) -> None:
        for table in budget.TABLES.values():
            limits = [row.most for row in table]
            assert limits[-1] is None and None not in limits[:-1]
            assert limits[:-1] == sorted(limits[:-1])
            for row in table:
                make_kernel(row.sampler, row.options)

    def test_the_page_states_the_tables(self) -> None:
        page = (DOCS / "samplers.md").read_text()
        for name, table in budget.TABLES.items():
            section = re.search(rf"<!-- budget {name} -->\n\n(.*?)\n\n", page, re.DOTALL)
            assert section is not None
            stated = [
                tuple(cell.strip(" `") for cell in line.strip("|").split("|")[:2])
                for line in section.group(1).splitlines()[2:]
            ]
            rows = [("more" if row.most is None else f"to {row.most}", row.name) for row in table]
            assert stated == rows

    def test_the_docstring_states_the_table_of_closed_forms(self) -> None:
        words = " ".join((sf.sample.__doc__ or "").split())
        for row in budget.EXACT:
            assert row.sampler in words and (row.most is None or str(row.most) in words)


def smaller(nfe: int, first: str, second: str) -> float:
    """Standard errors by which the first sampler's log distance to the flow is below the second's.

    Common starts of two mixtures, four seeds each.
    """
    gaps = []
    for name in ("three-modes", "grid-8d"):
        problem = find_problem(name)
        protocol = Protocol(seeds=4, count=64, directions=4, flow_rows=64, flow_nfe=128)
        work = Measurer(read_record(None, protocol), protocol)
        cells = plan_study([problem], [first, second], [nfe], protocol).cells
        for cell in cells:
            work.measure(cell)
        a, b = (work.record["cells"][cell.name]["flow"] for cell in cells)
        gaps += [math.log(y / x) for x, y in zip(a, b, strict=True)]
    return float(np.mean(gaps) / (np.std(gaps, ddof=1) / math.sqrt(len(gaps))))


def test_neighbouring_rows_of_the_table_are_the_right_way_round() -> None:
    """Each row's sampler is nearer to the converged flow than its neighbour's, inside its range.

    z above 3: false alarms below 0.2 % each if the two were equal. Exchanged rows are rejected.
    """
    few, many = (budget.find_row(budget.EXACT, n).name for n in (12, 40))
    assert few != many
    assert smaller(10, few, many) > 3
    assert smaller(40, many, few) > 3
    assert not smaller(10, many, few) > 3


class TestCommand:
    def test_a_dry_run_states_the_size_and_what_is_left_out(self) -> None:
        words = ["benchmark", "samplers", "--quick", "--dry-run", "--problem", "ring"]
        done = CliRunner().invoke(app, [*words, "--sampler", "mala", "--nfe", "5,200"])
        assert done.exit_code == 0, done.output
        assert "evaluations of single samples" in done.output
        assert "left out: ring | mala | 5" in done.output

    def test_a_quick_study_writes_three_files(self, tmp_path: Path) -> None:
        words = ["benchmark", "samplers", "--quick", "--problem", "ring", "--sampler", "default"]
        options = ["--nfe", "5", "--seeds", "1", "--count", "50", "--out", str(tmp_path), "--json"]
        done = CliRunner().invoke(app, words + options)
        assert done.exit_code == 0, done.output
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"samplers.json", "samplers.md", "samplers.png"}
        assert "ring | default | 5" in done.stdout

    @pytest.mark.parametrize(
        "options",
        [
            ["kernels"],
            ["samplers", "--quick", "--full"],
            ["samplers", "--nfe", "5,x"],
            ["samplers", "--nfe", "0"],
            ["samplers", "--problem", "rings"],
            ["samplers", "--sampler", "unipcc"],
            ["samplers", "--run", "no-such-run"],
        ],
    )
    def test_bad_input_is_refused_before_any_work(self, options: list[str]) -> None:
        done = CliRunner().invoke(app, ["benchmark", *options, "--dry-run"])
        assert isinstance(done.exception, InputError)

    def test_budgets_are_whole_numbers(self) -> None:
        assert parse_budgets("10,5") == [10, 5]


def test_numbers_have_three_digits() -> None:
    assert [digits(v) for v in (0.01234, 1.2345, 123.4, 0.00012)] == [
        "0.012",
        "1.234",
        "1.2e+02",
        "0.00012",
    ]


def test_ratios_are_geometric_means_over_the_problems() -> None:
    cell = {"sw1": [2.0, 2.0]}
    record = {
        "cells": {"a | x | 5": cell, "b | x | 5": {"sw1": [8.0]}, "a | y | 5": cell},
        "floors": {"a": {"sw1": [1.0]}, "b": {"sw1": [1.0]}},
    }
    assert ratios(record) == {"x": {5: pytest.approx(4.0)}}
