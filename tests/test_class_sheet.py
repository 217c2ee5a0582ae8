"""The sheet of samples by class."""

import numpy as np
import pytest
from PIL import Image

from data_helpers import refused
from scorefield.plotting import read_layout, save_class_sheet


def images(rows=3, each=2, channels=1, seed=0):
    shape = (rows, each, channels, 7, 9)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_tile_is_where_its_class_and_group_say(tmp_path, channels):
    left, right = images(channels=channels), images(each=4, channels=channels, seed=1)
    names = ["owl", "a name that is far too long for a column of names", "7"]
    path = save_class_sheet(
        tmp_path / "sheet.png", {"unguided": left, "guidance 2": right}, names, "Title", "Caption"
    )
    pixels = np.asarray(Image.open(path).convert("RGB"))
    layout = read_layout(path)
    assert (layout.rows, layout.columns) == (3, 6)
    for row in range(3):
        for column, image in enumerate([*left[row], *right[row]]):
            tile = layout.tile(pixels, row * 6 + column)
            assert np.array_equal(tile, np.broadcast_to(image.transpose(1, 2, 0), tile.shape))


@pytest.mark.parametrize(
    ("groups", "names", "words"),
    [
        ({"a": images(), "b": images(rows=2)}, "xyz", "as many rows as names"),
        ({"a": images()}, "xy", "as many rows as names"),
        ({"a": images()[0]}, "xyz", "(R, K, C, H, W)"),
        ({"a": images(each=0)}, "xyz", "(R, K, C, H, W)"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path, groups, names, words):
    refused(words, call=lambda: save_class_sheet(tmp_path / "sheet.png", groups, list(names)))
    assert not list(tmp_path.iterdir())
