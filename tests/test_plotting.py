"""Pictures: pixels stand where the layout puts them, files are whole or absent, and wrong input is
an InputError that names it.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import scorefield.files
from scorefield import plotting, units
from scorefield.errors import InputError
from scorefield.plotting import files, layout


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def normal_log_density(x: torch.Tensor) -> torch.Tensor:
    return -x.square().sum(1) / 2


# One call of every writer: name -> (ending, function of the path).
WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "grid": (".png", lambda p: plotting.save_grid(p, noise(5, 1, 8, 8), title="t", caption="c")),
    "class_grid": (
        ".png",
        lambda p: plotting.save_class_grid(p, {"a": noise(4, 1, 8, 8)}, ["x", "y"], title="t"),
    ),
    "animation": (
        ".gif",
        lambda p: plotting.save_animation(p, noise(3, 2, 1, 4, 4), captions=[2.0, 1.0, "end"]),
    ),
    "inpainting": (
        ".png",
        lambda p: plotting.save_inpainting(
            p,
            noise(2, 1, 4, 4),
            noise(2, 1, 4, 4),
            np.eye(4),
            noise(2, 3, 1, 4, 4),
            noise(2, 1, 4, 4),
            noise(2, 1, 4, 4),
        ),
    ),
    "scatter": (".png", lambda p: plotting.save_scatter(p, noise(50, 2), normal_log_density)),
    "score_field": (
        ".png",
        lambda p: plotting.save_score_field(p, lambda x: -x, normal_log_density, (-2, 2, -2, 2)),
    ),
    "loss_per_sigma": (
        ".png",
        lambda p: plotting.save_loss_per_sigma(p, [1.0, 0.1], [0.5, 0.9], se=[0.1, 0.1]),
    ),
    "training_curve": (
        ".png",
        lambda p: plotting.save_training_curve(
            p, [{"images": 1, "seconds": 1.0, "loss": 1.0, "held_out": None}]
        ),
    ),
    "samples": (".png", lambda p: plotting.save_samples(p, noise(20, 3), image=False)),
}


class TestPixels:
    def test_pixels_are_the_quantised_values(self) -> None:
        edges = torch.arange(-2, 515, dtype=torch.float64) / 512
        for dtype in (torch.float32, torch.float64):
            x = edges.to(dtype).reshape(1, 1, 1, -1)
            expected = units.quantise(x, 256).numpy()
            assert np.array_equal(plotting.to_pixels(x)[..., 0], expected[:, 0])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_every_dequantised_value_returns_to_its_byte(self, dtype: torch.dtype) -> None:
        stored = torch.arange(256).reshape(1, 1, 16, 16)
        for u in (0.0, 0.5, 0.999):
            x = units.dequantise(stored, 256, torch.full(stored.shape, u, dtype=dtype))
            assert np.array_equal(plotting.to_pixels(x)[0, ..., 0], stored[0, 0].numpy())
        rounded = np.rint(255 * (stored.numpy() + 0.999) / 256)  # what rounding 255 x would give
        assert (rounded != stored.numpy()).mean() > 0.4

    def test_stored_bytes_divided_by_255_come_back(self) -> None:
        stored = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
        assert np.array_equal(
            plotting.to_pixels(stored.astype(np.float32) / 255), plotting.to_pixels(stored)
        )

    def test_values_are_floored_and_clipped(self) -> None:
        x = np.array([0.99, 1.0, 254.9, 255.0, -30.0, 400.0]).reshape(1, 1, 6) / 256
        assert plotting.to_pixels(x).ravel().tolist() == [0, 1, 254, 255, 0, 255]

    @pytest.mark.parametrize("channels", [1, 3])
    def test_channels_go_last(self, channels: int) -> None:
        x = torch.from_numpy(noise(2, channels, 3, 5)).requires_grad_(True)
        pixels = plotting.to_pixels(x)
        assert pixels.shape == (2, 3, 5, channels)
        assert pixels.dtype == np.uint8
        assert pixels[1, 2, 4, -1] == int(256 * float(x.detach()[1, -1, 2, 4]))

    @pytest.mark.parametrize(
        ("stored", "levels"),
        [(np.uint16, None), (np.uint16, 4096), (np.uint8, 2), (np.uint8, 16), (np.int64, 1024)],
    )
    def test_stored_levels_are_shown_as_their_intensities(self, stored: Any, levels: int) -> None:
        most = levels or 65536
        values = np.array([0, most // 3, most - 1], dtype=stored).reshape(1, 1, 3)
        expected = units.quantise(torch.from_numpy(values / (most - 1)), 256).numpy()
        assert np.array_equal(plotting.to_pixels(values, levels)[..., 0], expected)
        assert plotting.to_pixels(values, levels).max() == 255
        with pytest.raises(InputError, match=f"{most} levels hold 0 to {most - 1}; got"):
            plotting.to_pixels(np.full((1, 1, 1), most, dtype=np.int64), most)

    @pytest.mark.parametrize("channels", [2, 4])
    def test_alpha_is_drawn_over_a_checkerboard(self, channels: int) -> None:
        x = np.full((1, channels, 16, 16), 0.2)
        x[:, -1, :8] = 1
        x[:, -1, 8:] = 0
        pixels = plotting.to_pixels(x)
        assert pixels.shape == (1, 16, 16, channels - 1)
        assert (pixels[0, :8] == 51).all()
        assert set(np.unique(pixels[0, 8:])) == set(plotting.pixels.CHECKS)

    def test_stretched_intensities_fill_black_to_white(self) -> None:
        x = np.array([0.1, 0.2, 0.3]).reshape(1, 1, 3)
        assert plotting.to_pixels(x, intensity=(0.1, 0.3)).ravel().tolist() == [0, 128, 255]
        stored = np.array([0, 51, 102], dtype=np.uint8).reshape(1, 1, 3)
        assert plotting.to_pixels(stored, intensity=(0, 0.4)).ravel().tolist() == [0, 128, 255]

    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [(0.0, 1.0, (0, 1)), (0.0, 0.6, (0, 1)), (0.0, 0.3, (0, 0.3)), (0.7, 0.8, (0.7, 0.8))],
    )
    def test_only_dark_or_flat_images_are_stretched(
        self, low: float, high: float, expected: tuple[float, float]
    ) -> None:
        x = np.linspace(low, high, 4096).reshape(1, 64, 64)
        assert plotting.shown_intensity(x) == pytest.approx(expected, abs=1e-3)
        hot = x.copy()
        hot[0, 0, :3] = 1.0  # a few hot pixels change nothing
        assert plotting.shown_intensity(hot) == pytest.approx(expected, abs=1e-3)
        assert plotting.shown_intensity(np.full((1, 4, 4), 0.2)) == (0, 1)

    def test_half_precision_and_bools(self) -> None:
        assert plotting.to_pixels(torch.ones(1, 2, 2, dtype=torch.bfloat16)).max() == 255
        assert plotting.to_pixels(np.eye(2, dtype=bool)[None]).ravel().tolist() == [255, 0, 0, 255]

    @pytest.mark.parametrize(
        ("bad", "words"),
        [
            (np.zeros((2, 5, 4, 4)), "C = 1 .grey., 2 .grey and alpha., 3 .RGB. or 4"),
            (np.zeros((4, 4)), "N, C, H, W"),
            (np.zeros((0, 1, 4, 4)), "empty"),
            (np.zeros((1, 4, 4), dtype=np.int64), "need levels="),
            (np.full((1, 4, 4), np.nan), "first at index"),
            (np.zeros((1, 4, 4), dtype=complex), "real numbers"),
        ],
    )
    def test_wrong_input_raises_input_error(self, bad: np.ndarray, words: str) -> None:
        with pytest.raises(InputError, match=words):
            plotting.to_pixels(bad)


class TestGrid:
    def test_every_pixel_stands_where_the_docstring_says(self) -> None:
        x, pad, scale, columns = noise(7, 3, 4, 5), 3, 2, 3
        picture = plotting.grid(x, columns=columns, pad=pad, scale=scale)
        assert picture.shape == (3 + 3 * (8 + 3), 3 + 3 * (10 + 3), 3)
        seen = np.zeros(picture.shape[:2], dtype=bool)
        for k, i, j in np.ndindex(7, 4, 5):
            y, z = (
                pad + (k // columns) * (scale * 4 + pad) + scale * i,
                pad + (k % columns) * (scale * 5 + pad) + scale * j,
            )
            block = picture[y : y + scale, z : z + scale]
            assert (block == np.floor(x[k, :, i, j] * 256)).all()
            seen[y : y + scale, z : z + scale] = True
        empty = np.zeros_like(seen)  # the last row holds one image of three
        empty[3 + 2 * (8 + 3) :, 3 + 10 + 3 :] = True
        assert (picture[empty] == 255).all()
        assert (picture[~seen & ~empty] == layout.GUTTER).all()

    def test_small_images_are_enlarged_by_whole_factors(self) -> None:
        assert plotting.grid(noise(1, 1, 8, 8), pad=0).shape == (160, 160, 1)
        assert plotting.grid(noise(1, 1, 48, 48), pad=0).shape == (144, 144, 1)
        assert plotting.grid(noise(64, 1, 28, 28), pad=0).shape == (8 * 112, 8 * 112, 1)
        assert plotting.grid(noise(1, 1, 200, 200), pad=0).shape == (200, 200, 1)
        assert max(plotting.grid(noise(1, 1, 1, 8).repeat(4000, 0)).shape) < 3 * layout.LARGEST

    @pytest.mark.parametrize(
        ("count", "rows", "columns"), [(5, 2, 3), (7, 2, 4), (16, 4, 4), (64, 8, 8)]
    )
    def test_grid_is_a_little_wider_than_high(self, count: int, rows: int, columns: int) -> None:
        picture = plotting.grid(noise(count, 4, 4), pad=0, scale=1)
        assert picture.shape == (4 * rows, 4 * columns, 1)

    def test_saved_grid_carries_its_layout(self, tmp_path: Path) -> None:
        x = noise(10, 1, 8, 8)
        path = plotting.save_grid(
            tmp_path / "new" / "grid.png", x, title="A title\nof two lines", caption="words " * 40
        )
        at, picture = plotting.read_layout(path), read(path)
        for k in range(10):
            assert np.array_equal(at.tile(picture, k)[..., 0], np.floor(x[k, 0] * 256))
        with pytest.raises(InputError, match="tiles 0 to 9"):
            at.origin(10)

    def test_narrow_grid_stands_in_the_middle(self, tmp_path: Path) -> None:
        x = noise(3, 8, 8)
        path = plotting.save_grid(tmp_path / "g.png", x, columns=1, title="a title", scale=4)
        at, picture = plotting.read_layout(path), read(path)
        assert np.array_equal(at.tile(picture, 2)[..., 0], np.floor(x[2] * 256))
        right = picture.shape[1] - at.left - at.size[1]
        assert at.left > 50 and abs(at.left - right) <= 1

    def test_plain_grid_is_the_array(self, tmp_path: Path) -> None:
        x = noise(4, 1, 8, 8)
        assert np.array_equal(
            read(plotting.save_grid(tmp_path / "g.png", x)), plotting.grid(x)[..., 0]
        )

    def test_read_layout_refuses_other_pictures(self, tmp_path: Path) -> None:
        Image.new("L", (4, 4)).save(tmp_path / "x.png")
        with pytest.raises(InputError, match="no layout"):
            plotting.read_layout(tmp_path / "x.png")

    @pytest.mark.parametrize("bad", [{"columns": 0}, {"scale": 0}, {"pad": -1}])
    def test_wrong_numbers_raise_input_error(self, bad: dict[str, int]) -> None:
        with pytest.raises(InputError, match=next(iter(bad))):
            plotting.grid(noise(2, 4, 4), **bad)


class TestAnimation:
    def test_frames_times_and_pixels(self, tmp_path: Path) -> None:
        frames = noise(5, 4, 1, 6, 6)
        with Image.open(plotting.save_animation(tmp_path / "a.gif", frames, hold=7, fps=10)) as gif:
            assert gif.n_frames == 5
            assert gif.info["loop"] == 0
            for f in range(5):
                gif.seek(f)
                assert gif.info["duration"] == (700 if f == 4 else 100)
                assert np.array_equal(
                    np.asarray(gif.convert("L")), plotting.grid(frames[f], scale=19)[..., 0]
                )

    def test_equal_frames_keep_their_time(self, tmp_path: Path) -> None:
        frames = noise(1, 4, 1, 6, 6).repeat(4, 0)
        frames[0] = 0
        with Image.open(plotting.save_animation(tmp_path / "a.gif", frames, hold=5, fps=10)) as gif:
            total = 0
            for f in range(gif.n_frames):
                gif.seek(f)
                total += gif.info["duration"]
        assert total == 100 * (3 + 5)

    def test_captions_stand_above_and_colours_survive(self, tmp_path: Path) -> None:
        frames = [
            np.ones((2, 3, 8, 8)) * np.array([1.0, 0.0, f / 2]).reshape(3, 1, 1) for f in range(3)
        ]
        path = plotting.save_animation(tmp_path / "a.gif", frames, captions=[1.0, 0.1, "done"])
        with Image.open(path) as gif:
            gif.seek(2)
            last = np.asarray(gif.convert("RGB"))
        body = plotting.grid(frames[2], scale=14)
        assert last.shape[0] > body.shape[0]
        left = (last.shape[1] - body.shape[1]) // 2
        shown = last[-len(body) :, left : left + body.shape[1]]
        assert np.abs(shown.astype(int) - body).max() <= 4  # 256 colours
        assert last[: -len(body)].min() < 100

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"frames": np.zeros((4, 1, 8, 8))}, "F, N, C, H, W"),
            ({"frames": []}, "F >= 1"),
            ({"frames": [np.zeros((1, 1, 8, 8)), np.zeros((2, 1, 8, 8))]}, "F, N, C, H, W"),
            ({"captions": ["one"]}, "one a frame, 3; got 1"),
            ({"hold": 0}, "hold"),
            ({"fps": 0}, "fps"),
            ({"path": "a.mp4"}, ".gif"),
        ],
    )
    def test_wrong_input_raises_input_error(
        self, tmp_path: Path, arguments: dict[str, Any], words: str
    ) -> None:
        given = {"path": "a.gif", "frames": noise(3, 2, 1, 4, 4), **arguments}
        with pytest.raises(InputError, match=words):
            plotting.save_animation(tmp_path / given.pop("path"), **given)
        assert not list(tmp_path.iterdir())


class TestSheet:
    K, D, SIZE = 3, 4, 6

    def data(self, channels: int) -> dict[str, Any]:
        truth = noise(self.K, channels, self.SIZE, self.SIZE)
        mask = noise(self.SIZE, self.SIZE, seed=1) > 0.5
        draws = np.where(
            mask, truth[:, None], noise(self.K, self.D, channels, self.SIZE, self.SIZE, seed=2)
        )
        return {
            "truth": truth,
            "observed": truth * mask,
            "mask": mask,
            "draws": draws,
            "mean": draws.mean(1),
            "std": draws.std(1),
        }

    @pytest.mark.parametrize("channels", [1, 3])
    def test_known_pixels_are_the_truths_and_unknown_ones_are_hatched(
        self, tmp_path: Path, channels: int
    ) -> None:
        data = self.data(channels)
        path = plotting.save_inpainting(tmp_path / "s.png", **data, title="a title")
        at, picture = plotting.read_layout(path), read(path)
        known = data["mask"]
        assert at.columns == self.D + 4
        for row in range(self.K):
            tiles = [at.tile(picture, row * at.columns + column) for column in range(self.D + 3)]
            truth = np.broadcast_to(
                plotting.to_pixels(data["truth"][row : row + 1])[0], (self.SIZE, self.SIZE, 3)
            )
            assert np.array_equal(tiles[0], truth)
            for tile in tiles[1 : 2 + self.D]:
                assert np.array_equal(tile[known], truth[known])
            for d in range(self.D):
                assert np.array_equal(
                    tiles[2 + d],
                    np.broadcast_to(
                        plotting.to_pixels(data["draws"][row, d : d + 1])[0], truth.shape
                    ),
                )
            assert np.array_equal(
                tiles[-1],
                np.broadcast_to(plotting.to_pixels(data["mean"][row : row + 1])[0], truth.shape),
            )
            # Whole blocks are the image's pixel or stripes, never a mixture of the two.
            enlarged = picture[at.window(row * at.columns + 1)]
            unknown = (~known).repeat(at.scale, 0).repeat(at.scale, 1)
            assert {tuple(colour) for colour in enlarged[unknown].tolist()} == {
                (96, 116, 150),
                (160, 178, 208),
            }

    def test_standard_deviation_is_coloured_on_the_stored_scale(self, tmp_path: Path) -> None:
        from matplotlib import colormaps

        data = self.data(1)
        path = plotting.save_inpainting(tmp_path / "s.png", **data)
        at, picture = plotting.read_layout(path), read(path)
        with Image.open(path) as image:
            assert image.info["std_scale"] == f"[0.0, {float(data['std'].max())!r}]"
        for row in range(self.K):
            expected = np.rint(
                255
                * colormaps["viridis"](
                    data["std"][row, 0].astype(float) / float(data["std"].max())
                )[..., :3]
            )
            assert np.array_equal(at.tile(picture, row * at.columns + at.columns - 1), expected)

    def test_truth_and_standard_deviation_may_be_absent(self, tmp_path: Path) -> None:
        data = self.data(1) | {"truth": None, "std": None}
        path = plotting.save_inpainting(tmp_path / "s.png", **data)
        at = plotting.read_layout(path)
        assert at.columns == self.D + 2
        tile = at.tile(read(path), 2 * at.columns)
        assert np.array_equal(
            tile[data["mask"]][:, 0], plotting.to_pixels(data["observed"])[2, ..., 0][data["mask"]]
        )

    def test_mask_a_row_and_zero_standard_deviation(self, tmp_path: Path) -> None:
        data = self.data(1)
        data["mask"] = torch.ones(self.K, 1, self.SIZE, self.SIZE)
        data["std"] = np.zeros_like(data["std"])
        path = plotting.save_inpainting(tmp_path / "s.png", **data)
        at = plotting.read_layout(path)
        assert np.array_equal(
            at.tile(read(path), 1)[..., 0], plotting.to_pixels(data["observed"])[0, ..., 0]
        )

    @pytest.mark.parametrize(
        ("name", "value", "words"),
        [
            ("mask", np.ones((5, 5)), "mask must broadcast"),
            ("draws", np.zeros((2, 4, 1, 6, 6)), "draws"),
            ("observed", np.zeros((3, 6, 6)), "observed"),
            ("truth", np.zeros((3, 1, 6, 5)), "truth must have"),
            ("std", np.full((3, 1, 6, 6), np.nan), "std must be finite"),
        ],
    )
    def test_wrong_input_raises_input_error(
        self, tmp_path: Path, name: str, value: np.ndarray, words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            plotting.save_inpainting(tmp_path / "s.png", **(self.data(1) | {name: value}))
        assert not list(tmp_path.iterdir())


class TestFigures:
    def drawn(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """The figures saved from here on, for a look at what stands in them."""
        kept: list[Any] = []
        for module in (plotting.fields, plotting.curves, plotting.samples, plotting.tables):

            def keep(path: Path, figure: Any, caption: str = "") -> Path:
                kept.append(figure)
                return files.save_figure(path, figure, caption)

            monkeypatch.setattr(module, "save_figure", keep)
        return kept

    def test_contours_hold_their_mass_of_the_points(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        points = np.random.default_rng(0).normal(size=(4000, 2))
        plotting.save_scatter(
            tmp_path / "s.png",
            points,
            lambda x: normal_log_density(x) + 1000,
            extent=(-5, 5, -5, 5),
        )
        caption = figures[0].get_supxlabel().replace("\n", " ")
        shares = [
            float(word.rstrip("%,;.")) / 100
            for word in caption.split()
            if word.rstrip(",").endswith("%") and len(word) > 1
        ]
        assert len(shares) == 3
        for share, mass in zip(shares, (0.5, 0.9, 0.99), strict=True):
            # 200 x 200 cells and one decimal: 0.002 beside the sampling error.
            assert abs(share - mass) < 4.5 * math.sqrt(mass * (1 - mass) / 4000) + 0.002

    def test_contours_show_a_wrong_standard_deviation(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        points = 1.3 * np.random.default_rng(0).normal(size=(4000, 2))
        plotting.save_scatter(tmp_path / "s.png", points, normal_log_density, extent=(-5, 5, -5, 5))
        caption = figures[0].get_supxlabel().replace("\n", " ")
        assert float(caption.split("frame; ")[1].split("%")[0]) < 40  # 1 - 2^(-1/1.69) = 0.336

    def test_axes_are_equal_and_strays_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        points = np.random.default_rng(0).normal(size=(1000, 2))
        points[0] = 1e6
        plotting.save_scatter(tmp_path / "s.png", points, reference=points[1:], title="named")
        axes = figures[0].axes[0]
        assert axes.get_aspect() == 1
        assert figures[0].get_suptitle() == "named"
        assert axes.get_xlim()[1] < 10
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        outside = sum(not (left <= x <= right and bottom <= y <= top) for x, y in points)
        assert 1 <= outside <= 5
        assert f"Outside the frame: {outside}." in figures[0].get_supxlabel()

    @pytest.mark.parametrize(
        "points", [np.zeros((1, 2)), np.full((9, 2), 3e4), np.array([[0.0, 1.0], [0.0, 2.0]])]
    )
    def test_degenerate_points_are_drawn(self, tmp_path: Path, points: np.ndarray) -> None:
        assert plotting.save_scatter(tmp_path / "s.png", points, reference=points).exists()

    def test_arrows_point_along_the_score_and_stay_in_their_cell(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        plotting.save_score_field(
            tmp_path / "f.png",
            lambda x: -x * 10 ** x[:, :1],
            None,
            (-3, 3, -3, 3),
            points=noise(9, 2),
            arrows=11,
        )
        quiver = next(c for c in figures[0].axes[0].collections if hasattr(c, "U"))
        x = quiver.get_offsets()
        size = np.hypot(quiver.U, quiver.V)
        away = np.hypot(*x.T) > 0
        assert size.max() < 1.2 * 6 / 11
        assert np.allclose(
            (quiver.U * x[:, 0] + quiver.V * x[:, 1])[away],
            (-size * np.hypot(*x.T))[away],
            rtol=1e-5,
        )

    @pytest.mark.parametrize("log_density", [normal_log_density, None])
    def test_a_vanishing_score_is_drawn(self, tmp_path: Path, log_density: Any) -> None:
        assert plotting.save_score_field(
            tmp_path / "f.png", torch.zeros_like, log_density, (-1, 1, -1, 1)
        ).exists()

    def test_loss_is_sorted_on_a_log_axis_with_its_errors(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        sigma = torch.tensor([10.0, 1.0, 0.1])
        plotting.save_loss_per_sigma(
            tmp_path / "l.png",
            sigma,
            [0.01, 0.5, 1.0],
            se=[0.001, 0.02, 0.03],
            baselines={"knows nothing": [1.0, 1.1, 1.2], "best Gaussian": [0.02, 0.6, 1.1]},
            training=[0.01, None, 0.9],
        )
        axes = figures[0].axes[0]
        assert axes.get_xscale() == axes.get_yscale() == "log"
        assert figures[0].get_suptitle() and "σ" in axes.get_xlabel() and axes.get_ylabel()
        drawn = {line.get_label(): line.get_ydata().tolist() for line in axes.lines}
        assert drawn["knows nothing"] == [1.2, 1.1, 1.0]
        assert drawn["best Gaussian"] == [1.1, 0.6, 0.02]
        assert drawn["training loss"][::2] == [0.9, 0.01] and math.isnan(drawn["training loss"][1])
        main = axes.containers[0]
        assert main[0].get_ydata().tolist() == [1.0, 0.5, 0.01]
        lowest = main[2][0].get_segments()[0]
        assert np.allclose(lowest[:, 1], [1.0 - 0.06, 1.0 + 0.06])

    def test_training_curve_marks_continuations_best_point_and_learning_rate(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        records = [{"images": 10 * n, "loss": 1 / n, "lr": n / 100} for n in range(1, 11)]
        plotting.save_training_curve(
            tmp_path / "t.png", records, segments=[50, 70], best=60, baselines={"nothing": 1.0}
        )
        above, below = figures[0].axes
        for axes in (above, below):
            places = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
            assert [p for p in places if p] == [50, 70, 60]
        assert below.lines[0].get_ydata().tolist() == [n / 100 for n in range(1, 11)]
        labels = above.get_legend_handles_labels()[1]
        assert {"continued", "best held-out loss", "nothing"} <= set(labels)

    def test_training_curve_uses_the_records_with_losses(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        figures = self.drawn(monkeypatch)
        records: list[dict[str, Any]] = [
            {"images": 100 * n, "seconds": n / 2, "loss": 1 / n, "held_out": None}
            for n in range(1, 41)
        ]
        records += [
            {"images": 4000, "held_out": 0.1},
            {"event": "saved"},
            {"images": 4100, "loss": math.nan},
        ]
        plotting.save_training_curve(tmp_path / "t.png", records)
        caption = figures[0].get_supxlabel().replace("\n", " ")
        assert "4,000 images in 20 s, 200 images a second" in caption
        assert "Not finite and so not drawn: 1." in caption
        assert "mean of 3 records" in caption
        raw, smooth, held = figures[0].axes[0].lines
        assert len(raw.get_xdata()) == 41
        assert smooth.get_ydata()[10] == pytest.approx((1 / 10 + 1 / 11 + 1 / 12) / 3)
        assert held.get_xdata().tolist() == [4000]

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda p: plotting.save_scatter(p, noise(5, 3)), r"\(N, 2\)"),
            (lambda p: plotting.save_scatter(p, noise(5, 2), lambda x: x), "density must map"),
            (lambda p: plotting.save_scatter(p, noise(5, 2), extent=(1, 0, 0, 1)), "left < right"),
            (
                lambda p: plotting.save_score_field(p, lambda x: x[:, 0], None, (0, 1, 0, 1)),
                "score must map",
            ),
            (
                lambda p: plotting.save_score_field(p, lambda x: x * math.nan, None, (0, 1, 0, 1)),
                "score must be finite",
            ),
            (lambda p: plotting.save_loss_per_sigma(p, [1.0, 0.0], [1.0, 1.0]), "above zero"),
            (
                lambda p: plotting.save_loss_per_sigma(p, [1.0, 0.5], [1.0]),
                "loss must have sigma's shape",
            ),
            (
                lambda p: plotting.save_loss_per_sigma(p, [1.0], [1.0], baselines={"b": [1, 2]}),
                "b must have sigma's shape",
            ),
            (
                lambda p: plotting.save_loss_per_sigma(
                    p, [1.0], [1.0], baselines={key: [1.0] for key in "abcde"}
                ),
                "at most 4 baselines",
            ),
            (lambda p: plotting.save_training_curve(p, [{"images": 1}]), "none of the 1 records"),
            (
                lambda p: plotting.save_training_curve(p, [{"images": 1, "loss": "low"}]),
                "must hold numbers",
            ),
            (
                lambda p: plotting.save_samples(p, noise(5, 3), False, names=["a"]),
                "one a column, 3",
            ),
            (lambda p: plotting.save_samples(p, noise(1, 1, 2, 2, 2, 2), False), "no picture fits"),
            (
                lambda p: plotting.save_samples(p, noise(5, 3), False, reference=noise(5, 4)),
                "samples' columns",
            ),
        ],
    )
    def test_wrong_input_raises_input_error(
        self, tmp_path: Path, call: Callable[[Path], Any], words: str
    ) -> None:
        with pytest.raises(InputError, match=words):
            call(tmp_path / "x.png")
        assert not list(tmp_path.iterdir())


class TestSamples:
    def test_images_become_a_grid(self, tmp_path: Path) -> None:
        x = noise(5, 3, 8, 8)
        path = plotting.save_samples(tmp_path / "s.png", x, image=True, columns=2, title="")
        assert np.array_equal(read(path), plotting.grid(x, columns=2))

    def test_dark_images_are_stretched_and_the_caption_states_it(self, tmp_path: Path) -> None:
        x = 0.3 * noise(4, 1, 24, 24)
        bright = plotting.save_samples(tmp_path / "a.png", x, image=True, title="")
        plain = plotting.save_grid(tmp_path / "b.png", x)
        assert read(plain).max() < 256 * 0.3 + 1 or (read(plain) == layout.GUTTER).any()
        at, picture = plotting.read_layout(bright), read(bright)
        low, high = plotting.shown_intensity(x)
        assert low == 0 and 0.29 < high <= 0.3
        assert np.array_equal(
            at.tile(picture, 3)[..., 0], np.floor(x[3, 0] / high * 256).clip(0, 255)
        )
        with Image.open(bright) as image:
            assert image.info["intensity"] == f"[0.0, {high!r}]"
        # the caption: dark text below the grid
        assert (picture[at.top + at.size[0] :] < 100).any()

    def test_fields_share_one_scale(self, tmp_path: Path) -> None:
        from matplotlib import colormaps

        x = 280 + 10 * noise(4, 1, 6, 6)
        path = plotting.save_samples(tmp_path / "s.png", x, image=False)
        share = (x[3, 0] - x.min()) / (x.max() - x.min())
        assert np.array_equal(
            plotting.read_layout(path).tile(read(path), 3),
            np.rint(255 * colormaps["viridis"](share)[..., :3]),
        )

    def test_volumes_show_their_central_planes(self, tmp_path: Path) -> None:
        x = np.zeros((2, 1, 3, 5, 7))
        x[1, 0, 1, 2, 3] = 1  # the centre: bright in all three planes of the second sample
        path = plotting.save_samples(tmp_path / "s.png", x, image=False)
        at, picture = plotting.read_layout(path), read(path)
        bright = np.array([253, 231, 37])
        for plane, (i, j) in enumerate([(2, 3), (1, 3), (1, 2)]):
            tile = at.tile(picture, 3 + plane)
            assert (tile[i, j] == bright).all()
            assert (tile == bright).all(-1).sum() == 1
        assert (at.tile(picture, 1)[3:] == 255).all()  # beyond a plane of 3 x 7

    @pytest.mark.parametrize(
        "shape",
        [(30,), (30, 1), (30, 2), (30, 14), (3, 2, 20), (13, 8, 20), (4, 2, 5, 5), (2, 1, 1, 5, 1)],
    )
    def test_every_shape_has_a_picture(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        assert read(plotting.save_samples(tmp_path / "s.png", noise(*shape), image=False)).std() > 0

    def test_constant_columns_are_named(self, tmp_path: Path) -> None:
        assert plotting.save_samples(
            tmp_path / "s.png",
            np.ones((9, 3)),
            image=False,
            reference=np.ones((4, 3)),
            names=["a", "b", "c"],
        ).exists()


@pytest.mark.parametrize("name", WRITERS)
class TestWriting:
    def test_write_makes_folders_and_overwrites(self, tmp_path: Path, name: str) -> None:
        ending, write = WRITERS[name]
        path = tmp_path / "a" / "b" / f"x{ending}"
        for _ in range(2):
            assert write(path) == path
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        assert read(path).std() > 0

    def test_failed_write_leaves_only_the_old_picture(
        self, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ending, write = WRITERS[name]
        path = tmp_path / f"x{ending}"
        path.write_bytes(b"old")

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        # by then the temporary file holds the whole picture
        monkeypatch.setattr(scorefield.files.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write(path)
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_unwritable_paths_raise_input_error(self, tmp_path: Path, name: str) -> None:
        ending, write = WRITERS[name]
        with pytest.raises(InputError, match="Change the ending"):
            write(tmp_path / "x.txt")
        (tmp_path / f"folder{ending}").mkdir()
        with pytest.raises(InputError, match="is a folder"):
            write(tmp_path / f"folder{ending}")
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(InputError, match="in its way"):
            write(tmp_path / "file" / f"x{ending}")


def test_pictures_are_readable_by_others(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert (
        plotting.save_grid(tmp_path / "g.png", noise(1, 4, 4)).stat().st_mode
        == plain.stat().st_mode
    )


def test_import_loads_no_matplotlib_and_drawing_loads_no_pyplot(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, pathlib, scorefield.plotting as p\n"
        "assert not {'matplotlib', 'PIL', 'imageio'} & set(sys.modules)\n"
        "p.save_loss_per_sigma(pathlib.Path(sys.argv[1]) / 'l.png', [1.0], [1.0])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
