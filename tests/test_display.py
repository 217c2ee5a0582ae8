"""Objects show themselves: a paragraph of text, a picture in a notebook, no matplotlib for text."""

import base64
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import scorefield as sf
from scorefield import conditions, exact, networks, rng
from scorefield.data import Dataset, View, as_dataset, view_of
from scorefield.data import open as open_data
from scorefield.errors import InputError
from scorefield.inverse import Restoration
from scorefield.likelihood import BitsPerDim, LogProb
from scorefield.models import Cost, ScoreModel
from scorefield.plotting import Picture, save_grid
from scorefield.runs import Run, append_line
from scorefield.training import Summary, pictures

MIXTURE = exact.GaussianMixture([[-5.0, -5.0], [5.0, 5.0]], 1.0, [0.2, 0.8])
MASK = torch.zeros(8, 8, dtype=torch.bool)
MASK[:, :4] = True


def network(**options: Any) -> sf.Preconditioned:
    return sf.Preconditioned(networks.build("mlp", (2,), width=8, depth=1), (2,), **options)


def size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return image.size


def picture_in(html: str) -> tuple[int, int]:
    """The size of the picture in a notebook's output."""
    start = html.index("base64,") + len("base64,")
    return size(base64.b64decode(html[start : html.index("'", start)]))


def is_paragraph(text: str, lines: int = 9) -> bool:
    """Whether a text is a short paragraph: few lines, none long, no tensors, no addresses."""
    return (
        all(len(line) <= 88 or " " not in line for line in text.split("\n"))
        and text.count("\n") < lines
        and "tensor(" not in text
        and " at 0x" not in text
        and text.endswith(".")
    )


class TestModels:
    @pytest.mark.parametrize(
        ("model", "words"),
        [
            (MIXTURE, "GaussianMixture of 2 components with weights 0.2, 0.8"),
            (exact.Gaussian([0.0], 1.0), "Gaussian, a normal density"),
            (exact.Empirical(torch.randn(7, 1, 2, 2)), "Empirical distribution of 7 points"),
            (exact.Box([0.0, 1.0], [1.0, 3.0]), "within [0, 3]"),
            (exact.GaussianMixture([[0.0], [1.0]], 0.0), "2 points with weights 0.5, 0.5"),
            (network(), "MLP with 9,546 parameters"),
            (network(sigma_max=5.0), "0.002 to 5"),
            (sf.models.SquareEnergy(networks.build("mlp", (2,), width=8), (2,)), "Energy model"),
            (
                network(preconditioner="ncsn", ladder=torch.tensor([2.0, 1.0, 0.5]), sigma_max=2.0),
                "its 3 levels alone",
            ),
            (
                network(conditions={"class": conditions.ConditionSpec("class", 3)}),
                "classes 0 to 2",
            ),
        ],
    )
    def test_repr_is_a_paragraph_with_the_facts(self, model: ScoreModel, words: str) -> None:
        text = repr(model)
        assert is_paragraph(text), text
        assert words in text.replace("\n", " ")
        assert str(tuple(model.event_shape)) in text.replace("\n", " ")

    def test_wrapped_models_name_what_they_do_and_what_they_wrap(self) -> None:
        labelled = exact.GaussianMixture([[-5.0], [5.0]], 1.0, labels=[0, 1])
        bound = sf.Bound(labelled, {"class": torch.tensor([1])})
        assert "Model given class 1: GaussianMixture of 2 components" in repr(bound)
        guided = repr(sf.Guided(labelled, 2.5, interval=(0.1, 3.0))).replace("\n", " ")
        assert "scale 2.5 for sigma in [0.1, 3] of GaussianMixture" in guided
        assert is_paragraph(repr(bound))
        assert is_paragraph(repr(sf.Guided(labelled, 2.5, interval=(0.1, 3.0))))

    def test_trained_model_states_its_data_and_the_listing_stays_reachable(
        self, digits_run: Path
    ) -> None:
        model = sf.load(digits_run)
        text = str(model).replace("\n", " ")
        images = Run(digits_run).records()[-1]["images"]
        for words in ("Score model of digits", "1,797 examples", f"{images:,} examples seen"):
            assert words in text
        assert "intensities in [0, 1]" in text and "17 levels" in text
        assert is_paragraph(str(model)) and "Linear(" not in text
        assert "Linear(" in repr(model.network)
        html = model._repr_html_()
        assert html.startswith("<b>Score model of digits</b><table>") and "MLP with" in html

    def test_html_escapes_names(self) -> None:
        model = network()
        model.card = {"data": {"source": "<script>"}}
        assert "<script>" not in model._repr_html_() and "&lt;script&gt;" in model._repr_html_()


class TestSamples:
    def test_samples_show_the_recipe_and_their_picture(self) -> None:
        recipe = sf.resolve_sampling(MIXTURE, "heun", nfe=9)
        drawn = sf.draw(MIXTURE, recipe, rng.keys(0, 50))
        assert "(50, 2), float64" in repr(drawn) and "heun" in repr(drawn)
        assert is_paragraph(repr(drawn)) and is_paragraph(repr(drawn.record))
        assert min(picture_in(drawn._repr_html_())) > 300
        assert "noise levels from" in repr(recipe) and "9 evaluations a sample" in repr(recipe)
        assert is_paragraph(repr(recipe))

    def test_samples_that_a_sink_took_show_no_picture(self) -> None:
        recipe = sf.resolve_sampling(MIXTURE, "heun", nfe=9)
        drawn = sf.draw(MIXTURE, recipe, rng.keys(0, 5), sink=lambda x: None)
        assert "base64" not in drawn._repr_html_() and "(0, 2)" in drawn._repr_html_()

    def test_show_draws_a_grid_of_images(self, digits_run: Path, tmp_path: Path) -> None:
        model = sf.load(digits_run)
        x = torch.rand(5, 1, 8, 8)
        picture = sf.show(model, x, title="", columns=2)
        expected = save_grid(tmp_path / "expected.png", x, columns=2)
        assert picture.save(tmp_path / "shown.png").read_bytes() == expected.read_bytes()
        assert picture._repr_png_() == expected.read_bytes() == picture.png()
        assert repr(picture).startswith("Picture of 5 samples, digits.")
        assert picture.save(str(tmp_path / "new" / "again.png")).exists()

    def test_show_takes_units_or_nothing(self) -> None:
        x = torch.rand(4, 1, 8, 8)
        images = sf.show(sf.Units.identity(), x).png()
        assert sf.show(None, x).png() == images  # fields: coloured
        assert size(sf.show(None, torch.rand(30, 3)).png())[0] > 900
        assert size(sf.show(MIXTURE, torch.randn(30, 2), data=torch.randn(9, 2)).png())

    def test_what_cannot_be_drawn_shows_text_and_saves_with_an_error(self, tmp_path: Path) -> None:
        picture = sf.show(None, torch.full((3, 2), torch.nan))
        assert picture._repr_png_() is None
        with pytest.raises(InputError, match="finite"):
            picture.save(tmp_path / "x.png")
        assert not list(tmp_path.iterdir())

    def test_many_images_are_shown_in_part(self) -> None:
        picture = View(image=True).picture(torch.rand(300, 1, 4, 4))
        assert "first 256 of 300" in repr(picture)

    def test_table_is_drawn_in_the_words_of_the_source(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from scorefield.data import view

        r = np.random.default_rng(0)
        table = pa.table({"age": r.integers(0, 90, 99), "town": r.choice(["Rome", "Oslo"], 99)})
        data = open_data(table)
        seen: list[Any] = []
        monkeypatch.setattr(view, "save_table", lambda *given: seen.append(given))
        data.view.picture(data.floats(slice(0, 5)), data.values[:9]).save(tmp_path / "t.png")
        ((_, samples, behind, kinds, _),) = seen
        assert samples.to_pydict() == table.slice(0, 5).to_pydict()
        assert behind.to_pydict() == table.slice(0, 9).to_pydict()
        assert [column.name for column in kinds] == ["age", "town"]

    def test_density_of_a_closed_form_lies_behind_its_samples(self) -> None:
        density = view_of(MIXTURE).density
        assert density is not None
        x = torch.tensor([[5.0, 5.0], [-5.0, -5.0]])
        assert density(x) == pytest.approx(MIXTURE.log_prob(x).tolist(), abs=1e-5)
        assert view_of(exact.Gaussian([0.0], 1.0)).density is None


class TestData:
    def test_data_set_states_what_was_taken_and_shows_its_first_examples(self) -> None:
        data = open_data("digits")
        assert is_paragraph(repr(data)) and "1,797 images of 8 x 8" in repr(data)
        assert data.picture().text == "256 samples, digits"
        assert min(picture_in(data._repr_html_())) > 300

    def test_small_data_set_is_shown_whole(self) -> None:
        data = as_dataset(torch.randn(12, 2), "points")
        assert isinstance(data, Dataset) and min(picture_in(data._repr_html_())) > 300


class TestRestorations:
    @pytest.fixture
    def seen(self, digits_run: Path) -> tuple[ScoreModel, torch.Tensor]:
        return sf.load(digits_run), open_data("digits").values[:3]

    def restored(self, seen: tuple[ScoreModel, torch.Tensor], single: bool) -> Restoration:
        model, x = seen
        measurement = sf.Measurement(x[0] if single else x, sf.operators.Mask(MASK))
        options = {"levels": 3, "steps_per_level": 1}
        return sf.restore(model, measurement, draws=2, method="inpainting", options=options)

    @pytest.mark.parametrize("single", [False, True])
    def test_images_become_a_sheet(
        self, seen: tuple[ScoreModel, torch.Tensor], single: bool, tmp_path: Path
    ) -> None:
        from scorefield.plotting import read_layout, to_pixels

        result = self.restored(seen, single)
        assert is_paragraph(repr(result)) and "2 observations" not in repr(result)
        path = result.picture("a title").save(tmp_path / "sheet.png")
        layout = read_layout(path)
        count = 1 if single else 3
        assert (layout.columns, layout.count) == (2 + 3, 5 * count)
        with Image.open(path) as image:
            picture = np.asarray(image)
        draws = result.draws[None] if single else result.draws
        expected = to_pixels(draws[-1], levels=17)
        for d in range(2):
            tile = layout.tile(picture, 5 * (count - 1) + 1 + d)
            assert np.array_equal(tile[..., :1], expected[d])
        assert picture_in(result._repr_html_()) == Image.open(path).size or result.single

    def test_rows_of_a_table_show_known_values_and_mean_with_deviation(self) -> None:
        measurement = sf.Measurement([[4.0, float("nan")], [float("nan"), -5.0]])
        options = {"nfe": 40}
        result = sf.restore(MIXTURE, measurement, draws=3, method="inpainting", options=options)
        html = result._repr_html_()
        assert "<td>4</td><td><b>" in html and "</b></td><td>-5</td>" in html
        mean, std = result.mean[0, 1].item(), result.std[0, 1].item()
        assert f"<b>{mean:.4g} ± {std:.2g}</b>" in html

    def test_draws_that_a_sink_took_leave_text_alone(
        self, seen: tuple[ScoreModel, torch.Tensor]
    ) -> None:
        model, x = seen
        few = {"method": "inpainting", "options": {"levels": 3, "steps_per_level": 1}}
        measurement = sf.Measurement(x, sf.operators.Mask(MASK))
        result = sf.restore(model, measurement, 2, **few, sink=lambda n, draws: None)
        assert "base64" not in result._repr_html_() and is_paragraph(repr(result))

    def test_measurement_is_a_paragraph(self) -> None:
        mask = sf.operators.Mask(MASK)
        text = repr(sf.Measurement(torch.zeros(3, 1, 8, 8), mask, 0.1)).replace("\n", " ")
        assert "(3, 1, 8, 8), float32" in text and "50% is known" in text
        assert "noise of standard deviation 0.1" in text
        assert "1 elements not observed" in repr(sf.Measurement([[1.0, float("nan")]]))
        assert is_paragraph(repr(sf.Measurement(torch.zeros(3, 1, 8, 8), mask)))


class TestRuns:
    def run(self, folder: Path) -> Run:
        run = Run(folder)
        folder.mkdir()
        append_line(run.schedule, {"kind": "plan", "images": 10})
        append_line(run.schedule, {"kind": "segment", "images": 200})
        for n in range(1, 41):
            bins = {"sigma": [1.0, 2.0], "count": [n, 0], "loss": [1 / n, None], "se": [0.0, None]}
            run.log({"images": 10 * n, "seconds": n, "loss": 1 / n, "lr": 1.0, "by_sigma": bins})
        return run

    def test_training_curve_marks_segments_best_point_and_baselines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, seen = self.run(tmp_path / "run"), []
        monkeypatch.setattr(pictures, "save_training_curve", lambda *given: seen.append(given))
        final = {"images": 400, "held_out": 0.5, "verdict": {"nothing": 1.0, "gaussian": 0.7}}
        assert pictures.draw_training_curve(run, final, 390) == ""
        ((path, records, _, segments, best, levels),) = seen
        assert (path, segments, best) == (run.training_curve, [200], 390)
        assert levels == {"knows nothing": 1.0, "best Gaussian": 0.7}
        assert len(records) == 41 and not any("seconds" in record for record in records)

    def test_loss_has_the_training_loss_of_the_last_tenth_and_the_baselines(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, seen = self.run(tmp_path / "run"), []
        original = pictures.save_loss_per_sigma

        def keep(*given: Any, **options: Any) -> Path:
            seen.append(options)
            return original(*given, **options)

        monkeypatch.setattr(pictures, "save_loss_per_sigma", keep)
        table = {"sigma": [2.0, 1.0], "loss": [0.5, 0.6], "se": [0.1, 0.1], "nothing": [1.0, 1.0]}
        assert pictures.draw_loss_per_sigma(run, table, "denoising") == ""
        assert run.loss_per_sigma.exists()
        # the last 4 of 40 lines, each n losses of 1/n
        training = seen[0]["training"]
        assert np.isnan(training[0]) and training[1] == pytest.approx(4 / (37 + 38 + 39 + 40))
        assert seen[0]["baselines"] == {"knows nothing": [1.0, 1.0]}

    def test_a_picture_that_fails_gives_its_reason(self, tmp_path: Path) -> None:
        run = self.run(tmp_path / "run")
        table = {"sigma": [-1.0], "loss": [0.5], "se": [0.1]}
        assert "above zero" in pictures.draw_loss_per_sigma(run, table, "denoising")
        data = as_dataset(torch.randn(9, 3), "points")
        assert "finite" in pictures.draw_preview(run, 7, torch.full((2, 3), torch.nan), data)
        assert pictures.draw_preview(run, 8, torch.randn(5, 3), data) == ""
        assert [path.name for path in run.previews.iterdir()] == ["000000008.png"]


class TestResults:
    def test_summary_shows_verdict_and_losses(self, digits_run: Path) -> None:
        records = Run(digits_run).records()
        summary = Summary(digits_run, records[-1]["images"], 3.0, "image budget reached")
        assert is_paragraph(repr(summary)) and str(digits_run) in repr(summary).replace("\n", "")
        assert min(picture_in(summary._repr_html_())) > 300
        nothing = Summary(digits_run.parent / "none", 0, 0.0, "stopped by signal 2; saved", 2)
        assert nothing.picture() is None and "base64" not in nothing._repr_html_()

    def test_log_densities_are_a_paragraph(self) -> None:
        value = torch.arange(4, dtype=torch.float64)
        log_p = LogProb(value, 0 * value, 9, 18, Cost(), 1.0, 0.01, 9.0, "normal", "exact trace", 2)
        assert is_paragraph(repr(log_p) + ".") and "log p = 1.5 ± 0.65 nats" in repr(log_p)
        bits = repr(BitsPerDim(value, value, 256)).replace("\n", " ")
        assert bits.startswith("1.5 ± 0.65 bits per dimension over 4 samples of 256 levels")


def test_showing_text_imports_no_matplotlib() -> None:
    code = (
        "import sys, torch, scorefield as sf\n"
        "p = sf.exact.GaussianMixture([[0.0, 0.0]], 1.0)\n"
        "x = sf.sample(p, 4, nfe=4)\n"
        "picture = sf.show(p, x)\n"
        "repr(p), repr(picture), repr(sf.Measurement(x)), p._repr_html_()\n"
        "assert not {'matplotlib', 'PIL', 'IPython'} & set(sys.modules)\n"
        "picture.png()\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_picture_writes_through_the_function_that_it_was_given(tmp_path: Path) -> None:
    def write(path: Path) -> Path:
        path.write_bytes(b"content")
        return path

    picture = Picture(write, "nothing")
    assert picture.png() == b"content" and picture.save(tmp_path / "x.svg").suffix == ".svg"
    assert repr(picture) == "Picture of nothing. A notebook shows it; .save(path) writes it."
