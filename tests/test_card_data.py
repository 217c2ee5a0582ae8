"""`open_card_data`: the data and the split of a model card, or an error that says why not."""

import numpy as np
import pytest
import torch

from data_helpers import random_pictures, random_table, refused
from scorefield.data import is_card_data, open_card_data, split
from scorefield.data import open as open_data


def card_of(source, seed=3, held_out=0.2, **options):
    """A card as training writes it, with the entries that decide data and split."""
    data = open_data(source, **options)
    settings = {"source": str(source), "size": None, "channels": None, "key": None}
    settings |= {k: v for k, v in options.items() if k in settings} | {"held_out": held_out}
    return {"config": {"seed": seed, "data": settings}, "data": data.description}, data


@pytest.mark.parametrize("source", ["digits", "ring"])
def test_the_split_is_that_of_training(source):
    card, data = card_of(source)
    opened = open_card_data(card)
    train, held = split(data.labels, len(data), 3, 0.2)
    assert torch.equal(opened.dataset.values, data.values)
    assert torch.equal(opened.train, train) and torch.equal(opened.held_out, held)
    other = open_card_data(card | {"config": card["config"] | {"seed": 4}})
    assert not torch.equal(other.held_out, held)  # control: the seed decides
    assert is_card_data(card, data) and not is_card_data(card, open_data("moons"))


def test_options_of_reading_are_those_of_training(tmp_path):
    np.savez(tmp_path / "a.npz", left=random_table(), right=random_table(seed=1))
    card, data = card_of(tmp_path / "a.npz", key="right")
    assert torch.equal(open_card_data(card).dataset.values, data.values)
    array = np.random.default_rng(0).uniform(size=(20, 4, 4))
    np.save(tmp_path / "b.npy", array)
    card, data = card_of(tmp_path / "b.npy", image=False)
    assert not data.image and not open_card_data(card).dataset.image


def test_content_decides_and_not_the_name(tmp_path):
    table = random_table()
    np.save(tmp_path / "a.npy", table)
    card, _ = card_of(tmp_path / "a.npy")
    (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    refused("no such file", call=lambda: open_card_data(card))
    moved = open_card_data(card, tmp_path / "b.npy")
    in_memory = open_card_data(card, table)
    assert torch.equal(moved.held_out, in_memory.held_out)
    refused("values", "SHA-256", call=lambda: open_card_data(card, table + 1e-9))


def test_changed_data_are_refused(tmp_path):
    pictures, labels = random_pictures(30), np.arange(30) % 3
    np.savez(tmp_path / "a.npz", images=pictures, labels=labels)
    card, _ = card_of(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", images=pictures, labels=labels[::-1])
    refused("labels", "held out", call=lambda: open_card_data(card))
    np.savez(tmp_path / "a.npz", images=pictures[::-1], labels=labels)
    refused("values", "held out", call=lambda: open_card_data(card))


def test_cards_without_data_are_refused():
    for card in (None, {}, {"config": {"seed": 0}}):
        refused("records no training data", call=lambda c=card: open_card_data(c))
    card, data = card_of("digits")
    card["config"]["data"]["source"] = "<array>"
    refused("in memory", call=lambda: open_card_data(card))
    assert len(open_card_data(card, data).dataset) == 1797
