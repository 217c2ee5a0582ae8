"""Classification by likelihood: the class under which a digit is most probable.

    python examples/classify.py

A class-conditional model of 8 x 8 digits gives log p(x | c) for every class c. With equal prior
probabilities Bayes' rule gives p(c | x), which is proportional to p(x | c); the largest one is the
prediction. The digits are held out from training, and Hutchinson's probes are the same for all
classes. Bits per dimension of each class, given its own label, are printed beside.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch

import scorefield as sf
from scorefield import data
from scorefield.likelihood import bits_per_dim


def main(count: int = 180, probes: int = 8, **budget: Any) -> dict[str, Any]:
    """Train, and classify `count` held-out digits; one minute of training by default."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "digits"
        sf.fit("digits", run, "mlp", condition="class", **(budget or {"budget": "60s"}))
        model = sf.load(run)
    split = data.open_card_data(model.card)
    index = split.held_out[:count]
    labels, levels = split.dataset.labels, split.dataset.quantisation_levels
    assert labels is not None and levels is not None  # the digits have both
    labels, stored = labels[index], split.dataset.values[index]
    noise = torch.rand(stored.shape, generator=torch.Generator().manual_seed(0))
    x = (stored + noise) / levels  # dequantised, as in training
    options = {"divergence": "hutchinson", "probes": probes}
    log_p = [sf.log_prob(model, x, condition={"class": c}, **options) for c in range(10)]
    table = torch.stack([one.value for one in log_p], 1)
    predicted = table.argmax(1)
    accuracy = (predicted == labels).double().mean().item()
    error = (accuracy * (1 - accuracy) / len(labels)) ** 0.5
    bits = torch.stack([bits_per_dim(model, one).value for one in log_p], 1)
    own = bits[torch.arange(len(labels)), labels]
    print(f"accuracy {accuracy:.3f} ± {error:.3f} over {len(labels)} held-out digits")
    print("class   digits   bits per dimension")
    for c in range(10):
        of_class = own[labels == c]
        print(f"{c:>5}   {len(of_class):>6}   {of_class.mean():.3f}")
    print(f"  all   {len(own):>6}   {own.mean():.3f} ± {(own.std() / len(own) ** 0.5):.3f}")
    return {"accuracy": accuracy, "error": error, "bits": own}


if __name__ == "__main__":
    main()
