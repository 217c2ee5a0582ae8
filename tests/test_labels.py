"""Labels never overlap or leave the picture, text breaks where it fits, colours can be told apart.

matplotlib's own renderer gives the box of every text that is drawn; every public function of
`plotting` is drawn with hard inputs. Negative controls show that the checks find what is wrong.
"""

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.figure
import matplotlib.text
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scorefield import plotting
from scorefield.plotting import animation, class_grid, files, images, palette, sheet, text, ticks

LONG = "a name that is much longer than the place that a picture has for it (unit: mg $ / $ 100 ml)"
Box = tuple[str, Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[Any, Box]]:
    """id -> (root figure, (text, its box in pixels)) of every text as it was drawn last."""
    kept: dict[int, tuple[Any, Box]] = {}
    original = matplotlib.text.Text.draw

    def draw(self: Any, renderer: Any) -> None:
        if self.get_visible() and self.get_text():
            figure = self.get_figure(root=True)
            kept[id(self)] = (figure, (self.get_text(), self.get_window_extent(renderer)))
        original(self, renderer)

    def restart(self: Any, renderer: Any) -> None:
        for key in [key for key, (figure, _) in kept.items() if figure is self]:
            del kept[key]
        whole(self, renderer)

    whole = matplotlib.figure.Figure.draw
    monkeypatch.setattr(matplotlib.text.Text, "draw", draw)
    monkeypatch.setattr(matplotlib.figure.Figure, "draw", restart)
    return kept


def overlap(a: Any, b: Any) -> bool:
    """Whether two boxes share more than a pixel in both directions."""
    across = min(a.x1, b.x1) - max(a.x0, b.x0)
    up = min(a.y1, b.y1) - max(a.y0, b.y0)
    return bool(across > 1 and up > 1)


def problems(figure: Any, boxes: list[Box]) -> list[str]:
    """What is wrong with the texts of a figure, in words."""
    page = figure.bbox
    found = [
        f"{words!r} leaves the figure"
        for words, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > page.width + 1 or box.y1 > page.height + 1
    ]
    found += [
        f"{a!r} on {b!r}" for (a, one), (b, two) in combinations(boxes, 2) if overlap(one, two)
    ]
    frames = [axes.get_window_extent() for axes in every_axes(figure)]
    for words, box in boxes:
        inside = any(
            f.x0 <= box.x0 and box.x1 <= f.x1 and f.y0 <= box.y0 and box.y1 <= f.y1 for f in frames
        )
        if not inside and any(overlap(box, frame) for frame in frames):
            found.append(f"{words!r} on the edge of a panel")
    found += ["two panels overlap" for a, b in combinations(frames, 2) if overlap(a, b)]
    return found


def every_axes(figure: Any) -> list[Any]:
    """Axes of a figure and of its subfigures that are drawn."""
    own = [axes for axes in figure.axes if axes.get_visible()]
    return own or [axes for part in figure.subfigs for axes in every_axes(part)]


def table(count: int, seed: int = 0) -> dict[str, Any]:
    """A table of every kind of column, with long names and missing values."""
    r = np.random.default_rng(seed)
    words = ["a short one", LONG, "", "日本", "x" * 60, *(f"w{n}" for n in range(20))]
    found = {
        f"{LONG} 1": r.normal(size=count),
        "1e-12": 1e-12 * r.lognormal(size=count),
        "offset": 1e9 + r.normal(size=count),
        "decades": np.exp(4 * r.normal(size=count)),
        "integers": r.integers(-5, 12, count),
        "many integers": r.integers(0, 10_000_000, count),
        "few values": r.choice([1.0, 1.3, 1e6], count),
        "words $x$": np.array(words, dtype=object)[r.integers(0, len(words), count)],
        "two words": np.array(["yes", "no"])[r.integers(0, 2, count)],
        "date": np.datetime64("1999-12-30") + r.integers(0, 9000, count).astype("timedelta64[D]"),
        "minutes": np.datetime64("2020-01-01T10:00")
        + r.integers(0, 300, count).astype("timedelta64[m]"),
        f"{LONG} 2": np.full(count, 7.0),
    }
    found[f"{LONG} 1"][:3] = np.nan
    found["words $x$"][:2] = None
    return found


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def normal(x: torch.Tensor) -> torch.Tensor:
    return -x.square().sum(1) / 2


def curve(rows: int) -> list[dict[str, Any]]:
    return [
        {
            "images": 1_000_000 * n,
            "seconds": n,
            "loss": 1e-3 / n,
            "held_out": None if n % 9 else 2e-3 / n,
            "held_out_se": 1e-4,
            "lr": 1e-7 * n,
        }
        for n in range(1, rows)
    ]


LEVELS = np.geomspace(0.21, 0.93, 12)


def losses(folder: Path, factor: float) -> None:
    """Loss per sigma over less than a decade, with every curve."""
    plotting.save_loss_per_sigma(
        folder / "a.png",
        LEVELS * factor,
        1 + 1e-4 * LEVELS,
        1e-3 * LEVELS,
        baselines={"knows nothing": np.ones(12), "best Gaussian": LEVELS, LONG: 2 * LEVELS},
        training=LEVELS,
        title=LONG * 2,
    )


def field(folder: Path, extent: tuple[float, float, float, float]) -> None:
    """A score of many decades in a frame of any shape."""
    plotting.save_score_field(
        folder / "a.png",
        lambda x: -x * 10 ** x[:, :1],
        normal,
        extent,
        title=LONG * 2,
        points=noise(9, 2),
    )


HARD: dict[str, list[Callable[[Path], Any]]] = {
    "save_signals": [
        lambda p: plotting.save_signals(
            p / "a.png",
            noise(2, 1, 30),
            noise(2, 1, 10),
            noise(2, 5, 1, 30),
            noise(2, 1, 30),
            (noise(2, 1, 30) - 2, noise(2, 1, 30) + 2),
            title=LONG * 2,
        ),
    ],
    "save_loss_per_sigma": [
        lambda p: losses(p, 1.0),
        lambda p: losses(p, 1e-4),
        lambda p: losses(p, 1e5),
        lambda p: plotting.save_loss_per_sigma(
            p / "b.pdf", np.geomspace(1e-6, 1e9, 7), np.geomspace(1e-9, 1, 7)
        ),
        lambda p: plotting.save_loss_per_sigma(p / "c.png", [0.5], [0.5]),
    ],
    "save_training_curve": [
        lambda p: plotting.save_training_curve(
            p / "a.png",
            curve(300),
            LONG * 2,
            [90_000_000, 100_000_000],
            89_000_000,
            {LONG: 0.1, "b": 0.2},
        ),
        lambda p: plotting.save_training_curve(p / "b.png", [{"images": 7, "loss": 1.0}]),
    ],
    "save_table": [
        lambda p: plotting.save_table(p / "a.png", table(150), table(400, 1), title=LONG * 3),
        lambda p: plotting.save_table(p / "b.png", table(40)),
        lambda p: plotting.save_table(
            p / "c.png", noise(60, 40), noise(50, 40) ** 2, names=[f"{LONG} {n}" for n in range(40)]
        ),
        lambda p: plotting.save_table(p / "d.png", {"x": np.ones(3), LONG: np.arange(3)}),
        lambda p: plotting.save_table(p / "e.png", {"x": np.ones(3)}, title=LONG),
    ],
    "save_samples": [
        lambda p: plotting.save_samples(p / "a.png", 1e6 * noise(8, 6, 20), False, title=LONG * 2),
        lambda p: plotting.save_samples(p / "b.png", noise(1, 2, 20), False),
        lambda p: plotting.save_samples(
            p / "c.png", noise(30, 2), False, names=[LONG, LONG], title=LONG
        ),
    ],
    "save_scatter": [
        lambda p: plotting.save_scatter(
            p / "a.png", 1e5 * noise(90, 2), names=[LONG * 2] * 2, title=LONG * 2
        ),
        lambda p: plotting.save_scatter(p / "b.png", noise(90, 2), normal, title=LONG),
        lambda p: plotting.save_scatter(p / "c.png", noise(90, 2) * [1, 20], reference=noise(9, 2)),
    ],
    "save_score_field": [
        lambda p: field(p, (-1, 1, -1, 1)),
        lambda p: field(p, (-30, 30, -2, 2)),
        lambda p: field(p, (-1, 1, -3, 3)),
    ],
    "save_planes": [
        lambda p: plotting.save_planes(
            p / "a.png",
            [
                *(plotting.Panel(f"{LONG}\n{n}", normal, lambda x: -1e3 * x) for n in range(3)),
                *(
                    plotting.Panel(LONG, values=10 ** (4 * noise(9, 9)), points=noise(5, 2))
                    for _ in range(2)
                ),
            ],
            (-1000, 1000, -1000, 1000),
            LONG * 3,
            LONG * 5,
            columns=3,
            value_label="a label",
        )
    ],
    "save_moving_points": [
        lambda p: plotting.save_moving_points(
            p / "a.gif", noise(3, 9, 2), normal, (-2, 2, -2, 2), [LONG] * 3, LONG * 2
        )
    ],
    "save_seed_curves": [
        lambda p: plotting.save_seed_curves(
            p / "a.png",
            [
                plotting.Chart(
                    LONG,
                    LONG,
                    LONG,
                    {f"s{n}": ([0.1, 0.3, 1.0], 1 + noise(3, 3)) for n in range(6)},
                    "xy",
                    True,
                ),
                plotting.Chart("t", "x", "y", {"s1": (range(2000), 1e-5 * noise(2, 2000))}),
            ],
            LONG * 3,
            LONG * 4,
        )
    ],
}
PIXELS: dict[str, Callable[[Path, str], Any]] = {
    "save_grid": lambda p, t: plotting.save_grid(
        p / "a.png", 0.1 * noise(3, 1, 4, 4), title=t, caption=t
    ),
    "save_class_grid": lambda p, t: plotting.save_class_grid(
        p / "a.png", {t: 0.1 * noise(4, 1, 4, 4)}, [t, "short"], title=t, caption=t
    ),
    "save_animation": lambda p, t: plotting.save_animation(
        p / "a.gif", 0.1 * noise(3, 2, 1, 4, 4), captions=[t, 1.0, "short"]
    ),
    "save_inpainting": lambda p, t: plotting.save_inpainting(
        p / "a.png",
        None,
        *(noise(1, 3, 9, 9), np.eye(9), noise(1, 12, 3, 9, 9)),
        *noise(2, 1, 3, 9, 9),
        title=t,
        scale=2,
    ),
}


def test_every_writer_is_drawn_here() -> None:
    writers = {name for name in plotting.__all__ if name.startswith("save_")}
    assert writers == set(HARD) | set(PIXELS)


@pytest.mark.parametrize(
    ("name", "number"), [(n, k) for n, calls in HARD.items() for k in range(len(calls))]
)
def test_texts_neither_overlap_nor_leave_the_figure(
    name: str, number: int, tmp_path: Path, drawn: dict[int, tuple[Any, Box]]
) -> None:
    HARD[name][number](tmp_path)
    figures = {id(figure): figure for figure, _ in drawn.values()}
    assert figures
    for key, figure in figures.items():
        assert not problems(figure, [box for owner, box in drawn.values() if id(owner) == key])


@pytest.mark.parametrize("name", PIXELS)
def test_texts_of_pixels_stay_within_their_width(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strips: list[np.ndarray] = []

    def keep(*arguments: Any, **options: Any) -> np.ndarray:
        strips.append(text.draw_text(*arguments, **options))
        return strips[-1]

    for module in (images, animation, class_grid, sheet):
        monkeypatch.setattr(module, "draw_text", keep)
    PIXELS[name](tmp_path, LONG * 3)
    assert len(strips) >= 2
    for strip in strips:
        assert strip.min() < 100
        assert (strip[:, [0, -1]] == 255).all() and (strip[[0, -1]] == 255).all()


def test_the_check_finds_what_is_wrong(drawn: dict[int, tuple[Any, Box]], tmp_path: Path) -> None:
    figure = files.new_figure(4, 3)
    axes = figure.add_subplot()
    figure.text(0.5, 0.5, "left")
    figure.text(0.52, 0.5, "right")
    figure.text(0.9, 0.5, "a text that leaves the figure")
    axes.set_title("a title " * 20)
    axes.set_xlim(0, 1e6)
    axes.set_xticks([0, 1e4, 2e4], ["zero", "ten thousand", "twenty thousand"])
    files.save_figure(tmp_path / "x.png", figure)
    found = " ".join(problems(figure, [box for _, box in drawn.values()]))
    for words in ("'left' on 'right'", "a text that leaves", "a title", "'ten thousand' on"):
        assert words in found


class TestText:
    @given(st.text(max_size=300), st.floats(30, 400))
    @settings(max_examples=60, deadline=None)
    def test_wrapped_lines_fit_and_keep_every_character(self, words: str, width: float) -> None:
        lines = text.wrap(words, width, 10)
        assert "".join(lines.split()) == "".join(words.split())
        assert all(
            len(line) < 2 or text.text_width(line, 10) <= width + 1e-6 for line in lines.split("\n")
        )

    def test_no_word_is_left_alone_on_the_last_line(self) -> None:
        words = "Contours where log p is far below its maximum; noise covers more of the square p."
        lines = text.wrap(words, text.text_width(words, 8) - 1, 8).split("\n")
        assert len(lines) == 2
        assert abs(len(lines[0]) - len(lines[1])) < 12
        # what textwrap does with the same width
        import textwrap

        assert textwrap.wrap(words, len(words) - 1)[-1] == "p."

    @given(st.text(min_size=1, max_size=200), st.floats(20, 200), st.integers(1, 3))
    @settings(max_examples=60, deadline=None)
    def test_labels_fit_their_lines(self, words: str, width: float, lines: int) -> None:
        label = text.fit_label(words, width, 8, lines)
        assert label.count("\n") < lines

    def test_shortened_labels_keep_both_ends(self) -> None:
        short = text.shorten("sensor_temperature_left_front_wheel_raw", 100, 8)
        assert short.startswith("sensor") and short.endswith("raw") and "…" in short
        assert text.text_width(short, 8) <= 100
        assert text.shorten("short", 100, 8) == "short"

    def test_dollar_signs_are_no_formulas(self, tmp_path: Path) -> None:
        path = plotting.save_table(
            tmp_path / "t.png", {"$^{ in $": np.arange(9.0) ** 2}, title="$\\frac{ $"
        )
        assert path.exists()


class TestTicks:
    @pytest.mark.parametrize(
        ("values", "labels"),
        [
            ([0, 0.25, 0.5], ["0.00", "0.25", "0.50"]),
            ([0, 20_000, 40_000], ["0", "20,000", "40,000"]),
            ([1e-12, 2e-12], ["1e-12", "2e-12"]),
            ([-5e10, 0, 5e10], ["-5e10", "0", "5e10"]),
            ([1e6 + 0.01, 1e6 + 0.02], ["1,000,000.01", "1,000,000.02"]),
            ([3.0], ["3"]),
            ([0.0], ["0"]),
        ],
    )
    def test_labels_have_the_digits_that_tell_them_apart(
        self, values: list[float], labels: list[str]
    ) -> None:
        assert ticks.number_labels(values) == labels

    @given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e9))
    @settings(max_examples=300, deadline=None, derandomize=True)
    @example(9999927.0, 24.5)
    def test_labels_are_distinct_and_near_their_values(self, start: float, step: float) -> None:
        values = [start + step * n for n in range(4)]
        if len({round(v / step) for v in values}) < 4 or abs(start) / step > 1e9:
            return
        labels = [float(label.replace(",", "")) for label in ticks.number_labels(values)]
        assert max(abs(a - b) for a, b in zip(labels, values, strict=True)) <= 0.02 * step


def linear(colour: str) -> np.ndarray:
    """sRGB without its gamma."""
    c = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear sRGB, white D65."""
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    x = to_xyz @ rgb / np.array([0.95047, 1.0, 1.08883])
    f = np.where(x > (6 / 29) ** 3, np.cbrt(x), x / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1, for linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def nearest(colours: tuple[str, ...], vision: str) -> float:
    """The smallest distance in CIELAB of two of the colours as seen with this vision."""
    seen = [lab(np.clip(VISION[vision] @ linear(c), 0, 1)) for c in colours]
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))


def contrast(colour: str, other: str = "#FFFFFF") -> float:
    """WCAG's ratio of the luminances."""
    y = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (colour, other))
    return y[1] / y[0]


class TestPalette:
    @pytest.mark.parametrize("vision", VISION)
    def test_colours_can_be_told_apart(self, vision: str) -> None:
        assert nearest(palette.SERIES, vision) >= 15
        assert nearest((palette.BLUE, palette.GREY, "#FFFFFF"), vision) >= 15

    @pytest.mark.parametrize("colour", palette.SERIES)
    def test_lines_stand_out_from_white(self, colour: str) -> None:
        assert contrast(colour) >= 3

    def test_the_checks_find_red_with_green_and_pale_colours(self) -> None:
        assert nearest(("#C00000", "#607000"), "normal") > 40
        assert nearest(("#C00000", "#607000"), "deuteranopia") < 15
        assert contrast("#E69F00") < 3 and contrast("#56B4E9") < 3
        assert math.isclose(contrast("#000000"), 21)
