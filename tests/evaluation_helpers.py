"""What test files of evaluation share: small sizes, halves of the digits, changed models."""

import pytest
import torch

from scorefield import data
from scorefield.evaluation import classifier, health_step, measuring
from scorefield.models import Wrapped


class Changed(Wrapped):
    """A model whose denoised value is changed: change(D, x, sigma)."""

    def __init__(self, inner, change):
        super().__init__(inner)
        self.change = change

    def denoise(self, x, sigma, condition=None):
        return self.change(self.inner.denoise(x, sigma, condition), x, float(sigma))

    def score(self, x, sigma, condition=None):
        return (self.denoise(x, sigma, condition) - x) / float(sigma) ** 2


def evaluate_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples, levels and examples: seconds in place of minutes."""
    monkeypatch.setattr(measuring, "COUNTS", {True: 96, False: 96})
    monkeypatch.setattr(measuring, "VECTORS", 1)
    monkeypatch.setattr(classifier, "QUICK", 8000)
    monkeypatch.setattr(health_step, "QUICK_LEVELS", 2)
    monkeypatch.setattr(health_step, "QUICK_EXAMPLES", 32)


def digit_halves() -> tuple[data.Dataset, torch.Tensor, torch.Tensor]:
    """1,000 of the digits as a reference, and the other 797 as samples with their classes."""
    digits = data.open("digits")
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(7))
    some, rest = order[:1000], order[1000:]
    x, labels = digits.values.numpy(), digits.labels
    reference = data.open({"images": x[some], "labels": labels[some].numpy()}, range=(0, 16))
    return reference, digits.floats(rest), labels[rest]
