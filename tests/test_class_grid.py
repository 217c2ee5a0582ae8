"""The grid of classes: each tile stands where the layout puts it, each name beside its row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scorefield import plotting
from scorefield.errors import InputError
from scorefield.plotting.layout import GAP


def levels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("title", ["", "Samples of each class"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_tile_has_its_pixels(tmp_path: Path, title: str, channels: int) -> None:
    left, right = levels(6, channels, 5, 4, seed=1), levels(6, channels, 5, 4, seed=2)
    groups, names = {"left": left, "right": right}, ["owl", "wren"]
    path = plotting.save_class_grid(tmp_path / "g.png", groups, names, scale=4, title=title)
    picture, layout = read(path), plotting.read_layout(path)
    assert (layout.count, layout.columns, layout.group) == (12, 6, 3)
    for row in range(2):
        for column in range(6):
            image = (left, right)[column // 3][row * 3 + column % 3].transpose(1, 2, 0)
            tile = layout.tile(picture, row * 6 + column)
            assert (tile == image).all()


def test_a_white_gap_separates_the_groups(tmp_path: Path) -> None:
    black = np.zeros((4, 1, 8, 8))
    path = plotting.save_class_grid(tmp_path / "g.png", {"a": black, "b": black}, ["x", "y"])
    picture, layout = read(path), plotting.read_layout(path)
    last, first = layout.window(1), layout.window(2)
    between = picture[last[0], last[1].stop : first[1].start]
    assert between.shape[1] == GAP + layout.pad
    assert (between[:, layout.pad : -layout.pad] == 255).all()
    assert (between[:, : layout.pad] < 255).all() and (between[:, -layout.pad :] < 255).all()


def test_names_and_captions_stand_beside_their_rows_and_above_their_groups(tmp_path: Path) -> None:
    images = np.full((4, 1, 8, 8), 0.5)
    names = ["1", "a name that is much longer than the room that there is for it"]
    path = plotting.save_class_grid(tmp_path / "g.png", {"": images, "w = 2": images}, names)
    picture, layout = read(path), plotting.read_layout(path)
    inks = [(picture[layout.window(k)[0], : layout.left - 2] < 128).sum() for k in (0, 4)]
    assert 0 < inks[0] < inks[1]
    heads = picture[: layout.top]
    spans = [slice(layout.window(k)[1].start, layout.window(k + 1)[1].stop) for k in (0, 2)]
    assert (heads[:, spans[0]] == 255).all() and (heads[:, spans[1]] < 128).any()
    assert layout.left < 180  # a long name is shortened


def test_dark_groups_are_stretched_alike_and_the_caption_states_it(tmp_path: Path) -> None:
    dark, darker = np.linspace(0, 0.2, 128).reshape(2, 1, 8, 8), np.zeros((2, 1, 8, 8))
    path = plotting.save_class_grid(tmp_path / "g.png", {"a": dark, "b": darker}, ["x", "y"])
    picture, layout = read(path), plotting.read_layout(path)
    assert layout.tile(picture, 2).max() > 200 and layout.tile(picture, 3).max() == 0
    below = picture[layout.window(3)[0].stop + layout.pad :]
    assert (below < 128).any()


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ({}, ["x"]),
        ({"a": np.zeros((3, 1, 4, 4))}, ["x", "y"]),
        ({"a": np.zeros((2, 1, 4, 4))}, []),
        ({"a": np.zeros((2, 1, 4, 4)), "b": np.zeros((4, 1, 4, 4))}, ["x", "y"]),
        ({"a": np.zeros((2, 1, 4, 4)), "b": np.zeros((2, 1, 4, 5))}, ["x", "y"]),
    ],
)
def test_groups_that_make_no_grid_are_refused(
    tmp_path: Path, groups: dict[str, np.ndarray], names: list[str]
) -> None:
    with pytest.raises(InputError, match="groups must be one or more of one shape"):
        plotting.save_class_grid(tmp_path / "g.png", groups, names)
    assert not list(tmp_path.iterdir())


def test_an_animation_has_groups_of_columns(tmp_path: Path) -> None:
    frames = np.zeros((2, 8, 1, 8, 8))
    sizes = []
    for group in (None, 2):
        path = tmp_path / f"{group}.gif"
        plotting.save_animation(path, frames, columns=4, scale=8, group=group)
        with Image.open(path) as image:
            sizes.append(image.size)
            picture = np.asarray(image.convert("L"))
    assert sizes[1] == (sizes[0][0] + GAP, sizes[0][1])
    assert (picture == 255).all(0).sum() == GAP - 2
    with pytest.raises(InputError, match="group"):
        plotting.save_animation(tmp_path / "g.gif", frames, group=0)
