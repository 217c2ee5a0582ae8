"""A run that goes on against one that was trained in one piece: held-out loss, Fréchet distance.

For each seed one run sees N images, another sees half of them, finishes, and goes on to N. What is
finished in the working folder is used again.
"""

from pathlib import Path
from typing import Any

from scorefield.config import override, preset
from scorefield.runs import Run
from scorefield.training import train

from .kept import Kept
from .quality import Judgement, Tell, draw

Record = dict[str, Any]
WAYS = ("one piece", "continued")


def _finish(folder: Path, images: int, seed: int, settings: list[str]) -> None:
    given = [f"images={images}", f"seed={seed}", "data.source=mnist5k", *settings]
    if train(override(preset("fast"), given), folder).signal:
        raise KeyboardInterrupt


def continued(
    features: Path,
    mnist: Path,
    work: Path,
    seeds: int,
    images: int,
    count: int,
    settings: list[str],
    tell: Tell = print,
) -> Record:
    """Measure both ways for each seed.

    Args:
        features: Folder with the feature extractor.
        mnist: .npz with train_images and test_images.
        work: Folder for the runs; finished measurements in it are used again.
        seeds: Number of seeds.
        images: Images that each model has seen at its end.
        count: Samples of a Fréchet distance.
        settings: Further settings, NAME=VALUE.
        tell: Called with each measurement.

    Returns:
        The protocol and, by seed and way, the held-out loss with its standard error and the
        distance.
    """
    judge = Judgement(features, mnist)
    work.mkdir(parents=True, exist_ok=True)
    kept = Kept(work / "measured.json", tell)
    protocol = {"images": images, "count": count, "settings": list(settings)}
    kept.require(protocol)
    rows = []
    for seed in range(seeds):
        for way in WAYS:
            folder = work / f"{way.replace(' ', '-')}-{seed}"

            def measure(folder: Path = folder, way: str = way, seed: int = seed) -> Record:
                if way == "continued" and not Run(folder).records():
                    _finish(folder, images // 2, seed, settings)
                _finish(folder, images, seed, settings)
                last = [r for r in Run(folder).records() if "held_out" in r][-1]
                pictures, nfe, _ = draw(folder, count, 7, None)
                loss = {k: v for k, v in last.items() if k.startswith("held_out")}
                return {**loss, "images": last.get("images"), "nfe": nfe, **judge(pictures)}

            rows.append({"seed": seed, "way": way, **kept.get(f"{way}, seed {seed}", measure)})
    return {"protocol": protocol, "floor": judge.floor, "rows": rows}
