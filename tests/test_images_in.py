"""Pictures in and out: nothing of a picture is lost, or the message says what would be."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from data_helpers import random_pictures, refused
from scorefield.data import form_of
from scorefield.data import open as open_data
from scorefield.tensors import as_tensor
from scorefield.training.fit import read_arguments

Image = pytest.importorskip("PIL.Image")


def save(folder, pixels, suffix="png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"{suffix}{k:03d}.{suffix}", **options)


def decoded(data):
    return data.form.decode(data.floats(slice(None)))


def deep_png(array):
    """A 16-bit RGB PNG, which Pillow does not write."""

    def chunk(tag, body):
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_pictures_drawn_in_the_alpha_channel_need_a_decision(tmp_path):
    pixels = np.zeros((4, 8, 8, 4), np.uint8)
    pixels[:, 2:5, 3:6, 3] = 255
    save(tmp_path, pixels)
    refused("transparent", "--alpha", "keep", call=lambda: open_data(tmp_path))
    assert np.array_equal(decoded(open_data(tmp_path, alpha="keep")), pixels)
    white = decoded(open_data(tmp_path, alpha="white"))
    assert white.shape == (4, 8, 8, 3) and np.array_equal(white[..., 0], 255 - pixels[..., 3])
    black = decoded(open_data(tmp_path, alpha="black"))
    assert not black.any()  # control: the drawing is black


def test_opaque_transparency_is_dropped_and_said(tmp_path):
    pixels = random_pictures(3, (8, 8, 4))
    pixels[..., 3] = 255
    save(tmp_path, pixels)
    data = open_data(tmp_path)
    assert np.array_equal(decoded(data), pixels[..., :3]) and "opaque" in data.report[1]


@pytest.mark.parametrize(("top", "levels"), [(4095, 4096), (65535, 65536), (900, 1024)])
def test_sixteen_bits_stay_sixteen_bits(tmp_path, top, levels):
    pixels = np.random.default_rng(0).integers(0, top + 1, (4, 9, 9)).astype(np.uint16)
    pixels[0, 0, :2] = 1, top
    save(tmp_path / "in", pixels)
    data = open_data(tmp_path / "in")
    assert data.quantisation_levels == levels and "uint16" in data.report[0]
    form = form_of({"data": data.description})
    form.write(tmp_path / "out", data.floats(slice(None)))
    again = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "out").iterdir())]
    assert np.array_equal(np.stack(again), pixels) and again[0].dtype == np.uint16


def test_twelve_bits_in_the_high_bits_of_sixteen_are_4096_levels(tmp_path):
    low = np.random.default_rng(0).integers(0, 4096, (4, 9, 9)).astype(np.uint16)
    low[0, 0, :2] = 1, 4095
    save(tmp_path, low * 16)
    data = open_data(tmp_path)
    assert data.quantisation_levels == 4096 and np.array_equal(decoded(data), low * 16)


def test_what_would_be_cut_is_refused_or_left_out_on_request(tmp_path):
    save(tmp_path, random_pictures(3, (8, 8, 3)))
    deep = np.random.default_rng(0).integers(0, 65536, (8, 8, 3))
    (tmp_path / "deep.png").write_bytes(deep_png(deep))
    refused("16 bits", "deep.png", "--skip-unreadable", call=lambda: open_data(tmp_path))
    Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.tif")
    frames = [Image.new("L", (8, 8), k) for k in (1, 2)]
    frames[0].save(tmp_path / "two.tif", save_all=True, append_images=frames[1:])
    refused("3 of 6", "CMYK", "2 frames", call=lambda: open_data(tmp_path))
    data = open_data(tmp_path, skip_unreadable=True)
    assert len(data) == 3 and "3 files" in data.report[1]


def test_every_lossless_format_is_taken_and_counted(tmp_path):
    pixels = random_pictures(3, (8, 8, 3))
    for suffix in ("png", "bmp", "tiff", "ppm", "tga"):
        save(tmp_path, pixels, suffix)
    save(tmp_path, pixels, "webp", lossless=True)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    data = open_data(tmp_path)
    assert len(data) == 18 and set(data.reading.formats.values()) == {3}
    assert np.array_equal(decoded(data), np.concatenate([pixels] * 6))
    assert "1 .txt" in data.report[1]


def test_links_are_followed_once(tmp_path):
    save(tmp_path / "in" / "b", random_pictures(3))
    save(tmp_path / "elsewhere", random_pictures(2, seed=1))
    os.symlink(tmp_path / "elsewhere", tmp_path / "in" / "c")
    os.symlink(tmp_path / "in", tmp_path / "in" / "b" / "loop")
    os.symlink(tmp_path / "in" / "b", tmp_path / "in" / "a")
    os.symlink(tmp_path / "in" / "b" / "png000.png", tmp_path / "in" / "b" / "again.png")
    os.symlink(tmp_path / "nowhere", tmp_path / "in" / "broken.png")
    data = open_data(tmp_path / "in")
    assert len(data) == 5 and data.class_names == ("b", "c")
    assert "1 links to files" in data.report[1] and "lead nowhere" in data.report[1]


def test_grey_palettes_stay_grey_and_colours_become_rgb(tmp_path):
    grey = random_pictures(2, (8, 8))
    save(tmp_path / "grey", grey, "gif")
    assert np.array_equal(decoded(open_data(tmp_path / "grey")), grey)
    colour = Image.fromarray(random_pictures(1, (8, 8, 3))[0]).quantize(16)
    (tmp_path / "colour").mkdir()
    colour.save(tmp_path / "colour" / "a.png")
    data = open_data(tmp_path / "colour")
    assert np.array_equal(decoded(data)[0], np.asarray(colour.convert("RGB")))
    assert "palette" in data.report[1]


def test_different_depths_are_refused(tmp_path):
    save(tmp_path / "a", random_pictures(2, (8, 8)))
    save(tmp_path / "b", random_pictures(2, (8, 8)).astype(np.uint16))
    refused("different depths", "8-bit", "16-bit", call=lambda: open_data(tmp_path))


def test_phone_pictures_with_previews_are_read_as_the_picture(tmp_path):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    pixels = decoded(open_data(tmp_path))
    assert pixels[0, 4, 4, 0] > 240 and pixels[0, 4, 4, 2] < 16


def test_writing_leaves_other_files_of_the_folder(tmp_path):
    save(tmp_path / "in", random_pictures(3, (8, 8)))
    data = open_data(tmp_path / "in")
    form, x = data.form, data.floats(slice(None))
    out = tmp_path / "out"
    form.write(out, x)
    (out / "mine.png").write_bytes(b"mine")
    form.write(out, x[:1])
    assert sorted(p.name for p in out.iterdir()) == ["000000.png", "mine.png"]


def test_transparent_float_and_deep_arrays_round_trip_through_tiff(tmp_path):
    floats = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    save(tmp_path / "f", floats, "tiff")
    data = open_data(tmp_path / "f")
    assert not data.image and torch.equal(data.values[:, 0], torch.from_numpy(floats))
    data.form.write(tmp_path / "out", data.floats(slice(None)))
    with Image.open(tmp_path / "out" / "000000.tiff") as image:
        assert np.array_equal(np.asarray(image), floats[0])


@pytest.mark.parametrize("kind", ["pictures", "empty", "file", "run", "nothing"])
def test_a_folder_with_the_name_of_a_built_in_data_set_is_named(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "digits"
    if kind == "file":
        place.write_text("1,2")
    elif kind != "nothing":
        place.mkdir()
    if kind == "pictures":
        save(place, random_pictures(3, (8, 8)))
    if kind == "run":
        (place / "config.json").write_text("{}")
    data = open_data("digits")
    assert len(data) == 1797 and ("./digits" in data.report[1]) == (kind not in ("run", "nothing"))
    assert "./" not in open_data("ring", count=10).report[1]
    if kind == "pictures":
        for source in ("./digits", place.relative_to(tmp_path), str(place)):
            folder = open_data(source)
            assert len(folder) == 3 and folder.name != "digits"  # a name that is read again
            assert "built-in" not in folder.report[1]
            again = open_data(folder.name)
            assert torch.equal(again.values, folder.values)


def test_a_path_is_recorded_as_a_path_where_a_built_in_data_set_has_its_name(tmp_path):
    for place in ("./digits", Path("digits"), Path("./ring")):
        (_, chosen) = read_arguments(place, None, 10, 0)
        assert chosen["data.source"] == f"./{Path(place)}"
    for place in ("digits", "mine.csv", Path("mine.csv"), str(tmp_path)):
        (_, chosen) = read_arguments(place, None, 10, 0)
        assert chosen["data.source"] == str(place)


# -- pictures of Pillow in memory


def saved_as(folder, pictures, **options):
    """The pictures of a list as a folder gives them."""
    folder.mkdir()
    for k, picture in enumerate(pictures):
        picture.save(folder / f"{k}.tiff", **options)
    return open_data(folder)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "LA", "RGBA", "I;16", "F"])
def test_pictures_in_memory_are_read_as_those_of_a_folder(tmp_path, mode):
    colours = [Image.fromarray(one) for one in random_pictures(3, (8, 6, 3))]
    pictures = [one.convert("I").convert("I;16") if mode == "I;16" else one.convert(mode)
                for one in colours]  # fmt: skip
    if mode == "P":
        pictures = [one.quantize(16) for one in colours]
    folder = saved_as(tmp_path / mode.replace(";", ""), pictures)
    sources = (pictures, iter(pictures), {"images": pictures, "k": [0, 1, 2]})
    for source in (*sources, np.array([*pictures, None], object)[:3]):
        data = open_data(source)
        assert torch.equal(data.values, folder.values) and data.image == folder.image
        assert data.quantisation_levels == folder.quantisation_levels
        told = [note for note in data.reading.notes if "array 'images'" not in note]
        assert told == list(folder.reading.notes)
        assert type(data.form) is type(folder.form) and data.form.default_format() in (
            "png",
            "tiff",
        )


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB"])
@pytest.mark.parametrize("form", ["list", "pairs", "mapping"])
def test_colours_without_an_exact_rgb_are_refused_in_memory(mode, form):
    pictures = [Image.new(mode, (8, 8)), Image.new("RGB", (8, 8))]
    source = {
        "list": pictures,
        "pairs": [(one, k) for k, one in enumerate(pictures)],
        "mapping": {"images": pictures, "labels": [0, 1]},
    }[form]
    refused("1 of 2", "item 0", mode, "RGB", call=lambda: open_data(source))
    data = open_data(source, skip_unreadable=True)
    assert len(data) == 1 and "1 pictures that cannot be read" in data.report[1]
    assert data.source_rows.tolist() == [1]


def test_transparency_rotation_and_sizes_are_minded_in_memory():
    pixels = random_pictures(3, (8, 6, 4))
    pictures = [Image.fromarray(one) for one in pixels]
    refused("item 0 of list", "transparent", "alpha=white", call=lambda: open_data(pictures))
    assert np.array_equal(decoded(open_data(pictures, alpha="keep")), pixels)
    turned = [one.convert("RGB") for one in pictures]
    for one in turned:
        one.getexif()[274] = 6
    data = open_data(turned)
    assert data.event_shape == (3, 6, 8) and "3 pictures rotated" in data.report[1]
    assert np.array_equal(decoded(data), np.rot90(pixels[..., :3], -1, (1, 2)))
    sizes = [Image.new("L", (8, 8)), Image.new("L", (9, 8))]
    refused("item 1 of list is 8 x 9", "size=", call=lambda: open_data(sizes))
    assert open_data(sizes, size=8).event_shape == (1, 8, 8)
    refused("channels_last", call=lambda: open_data(sizes[:1], channels_last=True))
    refused("item 1", "picture of Pillow", call=lambda: open_data([sizes[0], np.zeros((8, 8))]))
    refused("a list of pictures", call=lambda: open_data(sizes[0]))
    refused("size=8", call=lambda: open_data([np.zeros(3)] * 3, size=8))


def test_labels_and_counts_of_pictures_in_memory():
    pictures = [Image.new("L", (8, 8), 20 * k) for k in range(10)]
    labels = [k % 2 for k in range(10)]
    pairs = list(zip(pictures, labels, strict=True))
    for source in (pairs, {"images": pictures, "labels": labels}):
        data = open_data(source, count=4, condition="class")
        rows = data.source_rows.tolist()
        assert len(rows) == 4 and data.labels.tolist() == [k % 2 for k in rows]
        assert data.values[:, 0, 0, 0].tolist() == [20 * k for k in rows]


def test_pictures_in_memory_of_sixteen_bits_a_colour_are_refused(tmp_path):
    deep = deep_png(np.random.default_rng(0).integers(0, 65536, (8, 8, 3)))
    (tmp_path / "deep.png").write_bytes(deep)
    for opened in (lambda: Image.open(io.BytesIO(deep)), lambda: Image.open(tmp_path / "deep.png")):
        refused("item 0", "16 bits", call=lambda opened=opened: open_data([opened()]))


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "LAB", "turned"])
def test_pictures_as_arrays_of_numbers_are_refused_where_they_are_no_rgb(mode):
    picture = Image.new("RGB" if mode == "turned" else mode, (8, 6))
    if mode == "turned":
        picture.getexif()[274] = 6
    pieces = ("x is a picture", "exif_transpose" if mode == "turned" else f"mode {mode}, ")
    refused(*pieces, call=lambda: as_tensor(picture, "x"))
    refused(*pieces, call=lambda: as_tensor([picture], "x"))
    for plain in ("RGB", "L", "RGBA"):  # what the numbers are is clear
        pixels = Image.new(plain, (8, 6), 3)
        assert np.array_equal(as_tensor(pixels, "x").numpy(), np.asarray(pixels))
