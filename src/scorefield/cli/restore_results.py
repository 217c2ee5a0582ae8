"""What `scorefield restore` writes: arrays, pictures, and numbers about the draws."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .results import picture_form

SHOWN_INPUTS, SHOWN_DRAWS = 8, 8  # that the sheet shows
MOST_KEPT = 512 << 20  # bytes of draws; more are written to draws.npy one input after another
QUANTILES = (0.05, 0.5, 0.95)
MOST_PICTURES = 1000  # picture files of draws without --format


@dataclass
class Taker:
    """Collects the draws of one input after another: a sink of `inverse.restore`.

    Attributes:
        model: the score model.
        form: the form in which draws are returned; None: as they come.
        truth: (K, *event) as stored, or None.
        file: receives the draws as they come; None: draws are kept in memory.
        count: number of inputs.
        draws: number of draws of each input.
    """

    model: Any
    form: Any
    truth: Any
    file: BinaryIO | None
    count: int
    draws: int
    kept: list[Any] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)
    means: list[Any] = field(default_factory=list)
    stds: list[Any] = field(default_factory=list)
    quantiles: list[Any] = field(default_factory=list)
    errors: list[tuple[float, float]] = field(default_factory=list)
    draw_psnr: list[float] = field(default_factory=list)

    def __call__(self, n: int, draws: Any) -> None:
        """Take the draws (draws, *event) of input n."""
        from ..inverse.collect import mean_and_std

        if self.form is not None and draws.is_floating_point():
            draws = self.form.store(draws)
        floats = as_floats(self.model, draws).double()
        mean, std = mean_and_std(floats)
        self.means.append(mean)
        self.stds.append(std)
        self.quantiles.append(quantiles(floats))
        if self.truth is not None:
            self._compare(as_floats(self.model, self.truth[n]).double(), floats, mean)
        stored = as_stored(self.model, draws)
        if n < SHOWN_INPUTS:
            self.shown.append(draws[:SHOWN_DRAWS])
        if self.file is None:
            self.kept.append(draws)
            return
        if n == 0:
            self._begin(stored)
        self.file.write(stored.tobytes())

    def _begin(self, stored: Any) -> None:
        import numpy as np

        assert self.file is not None
        header = {
            "descr": np.lib.format.dtype_to_descr(stored.dtype),
            "fortran_order": False,
            "shape": (self.count, self.draws, *stored.shape[1:]),
        }
        np.lib.format.write_array_header_1_0(self.file, header)

    def _compare(self, truth: Any, floats: Any, mean: Any) -> None:
        each = (floats - truth).square().flatten(1).mean(1)
        of_mean = float((mean - truth).square().mean())
        self.errors.append((of_mean, float(each.mean())))
        self.draw_psnr.append(sum(psnr(float(e)) for e in each) / len(each))

    def stacked(self, name: str) -> Any:
        """The means, standard deviations or quantiles of all inputs, in data units."""
        import torch

        return torch.stack(vars(self)[name]).to(self.model.units.dtype)

    def closeness(self) -> dict[str, Any]:
        """How far mean and draws are from the truth; {} without a truth."""
        if self.truth is None:
            return {}
        count = len(self.errors)
        found: dict[str, Any] = {
            "rmse": {
                "mean": math.sqrt(sum(e for e, _ in self.errors) / count),
                "draws": math.sqrt(sum(e for _, e in self.errors) / count),
            }
        }
        if self.model.units.image:
            of_mean = [psnr(e) for e, _ in self.errors]
            found["psnr"] = {
                "mean": sum(of_mean) / count,
                "draws": sum(self.draw_psnr) / count,
                "mean_per_input": of_mean,
                "draws_per_input": self.draw_psnr,
            }
        return found


def quantiles(floats: Any) -> Any:
    """QUANTILES of draws (n, *event) element by element, (3, *event)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.quantile(floats.numpy(), QUANTILES, axis=0))


def psnr(square: float) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1] with a mean squared error."""
    return math.inf if square == 0 else -10 * math.log10(square)


def chi2_facts(result: Any, gaussian: bool = True) -> dict[str, Any] | None:
    """The mean squared residual in units of the noise, and whether it is as expected.

    Args:
        result: the `Restoration` of a batch.
        gaussian: whether the noise is Gaussian. The expected range of other laws is approximate,
            so that values outside get no sentence.

    Returns:
        mean, per_input, expected (low, high) and a sentence or None; None where no noise is known.
    """
    if result.chi2 is None:
        return None
    per_input = result.chi2.double().mean(1).tolist()
    low, high = result.chi2_range
    above = [n for n, value in enumerate(per_input) if value > high]
    below = [n for n, value in enumerate(per_input) if value < low]
    return {
        "mean": sum(per_input) / len(per_input),
        "per_input": per_input,
        "expected": [low, high],
        "outside": _chi2_words(above, below, len(per_input)) if gaussian else None,
    }


def _chi2_words(above: list[int], below: list[int], count: int) -> str | None:
    """A sentence about inputs whose draws fit worse or closer than the noise explains."""
    words = []
    if above:
        words.append(
            f"chi2 is above the expected range for {_numbers(above, count)}: the draws miss the "
            "measurement by more than its noise (the stated noise is too small, the operator is "
            "another one, the model does not know such examples, or --nfe is too small)"
        )
    if below:
        words.append(
            f"chi2 is below the expected range for {_numbers(below, count)}: the draws are closer "
            "to the measurement than its noise allows (the stated noise is too large, or the "
            "method takes too much of it)"
        )
    return ". ".join(words) or None


def _numbers(inputs: list[int], count: int) -> str:
    if len(inputs) == count:
        return "all inputs" if count > 1 else "the input"
    shown = ", ".join(str(n) for n in inputs[:6])
    return f"{len(inputs)} of {count} inputs ({shown}{', ...' if len(inputs) > 6 else ''})"


def write_arrays(model: Any, seen: Any, result: Any, taker: Taker, out: Path) -> Path:
    """Write restored.npz: draws, mean, std, quantiles, chi2, observed, mask, truth."""
    import numpy as np

    from ..files import write_npz

    values = seen.measurement.tensor  # counts are no levels of the model's data
    counts = seen.measurement.noise is not None
    observed = values.numpy() if counts else as_stored(model, values)
    arrays = {
        "mean": taker.stacked("means").numpy(),
        "std": taker.stacked("stds").numpy(),
        "quantiles": taker.stacked("quantiles").numpy(),
        "quantile_levels": np.array(QUANTILES),
        "observed": observed,
    }
    if taker.kept:
        import torch

        arrays = {"draws": as_stored(model, torch.stack(taker.kept)), **arrays}
    if result.chi2 is not None:
        arrays["chi2"] = result.chi2.numpy()
    if result.mask is not None:
        arrays["mask"] = result.mask.numpy()
    if seen.truth is not None:
        arrays["truth"] = as_stored(model, seen.truth)
    return write_npz(out / "restored.npz", **arrays)


def save_sheet(model: Any, seen: Any, result: Any, taker: Taker, out: Path, title: str) -> Path:
    """Write the sheet: inpaint.png for known elements of images, restored.png for the rest."""
    import torch

    from ..data import view_of
    from ..plotting import save_inpainting

    count = len(taker.shown)
    draws = torch.stack([as_floats(model, each) for each in taker.shown])
    truth = None if seen.truth is None else as_floats(model, seen.truth[:count])
    mean, std = (taker.stacked(name)[:count] for name in ("means", "stds"))
    event, mask = tuple(model.event_shape), result.mask
    mask = mask if mask is None or mask.ndim == len(event) else mask[:count]
    if model.units.image and len(event) == 3:
        observed, words = shown_observation(model, seen, count)
        name = "inpaint.png" if mask is not None else "restored.png"
        heading = f"{title}{f' ({words})' if words else ''}"
        deviation = std if taker.draws > 1 else None
        columns = (truth, observed, mask, draws, mean, deviation)
        return save_inpainting(out / name, *columns, title=heading)
    if len(event) <= 2:
        return _save_signals(seen, mask, taker, (truth, draws, mean), out, title)
    words = f"{draws.shape[1]} draws of the first of {taker.count} inputs"
    return Path(view_of(model).picture(draws[0], title=words).save(out / "restored.png"))


def _save_signals(
    seen: Any, mask: Any, taker: Taker, shown: tuple[Any, Any, Any], out: Path, title: str
) -> Path:
    """Write restored.png of signals and vectors; `shown` is truth, draws and mean."""
    import torch

    from ..inverse.operators import Matrix
    from ..plotting import save_signals

    truth, draws, mean = shown
    quantile = taker.stacked("quantiles")[: len(mean)]
    observed = seen.measurement.tensor[: len(mean)].double()
    if mask is not None:
        observed = torch.where(mask, observed, math.nan)
    alike = observed.ndim == mean.ndim and observed.shape[:-1] == mean.shape[:-1]
    if not alike or isinstance(seen.measurement.operator, Matrix):
        observed = None
    band = (quantile[:, 0], quantile[:, 2])
    return save_signals(out / "restored.png", truth, observed, draws, mean, band, title)


def shown_observation(model: Any, seen: Any, count: int) -> tuple[Any, str]:
    """Measurements as pictures (K, C, H, W) in [0, 1], and what they are in words.

    Measurements that are no pictures are shown as the least squares solution of least norm, where
    the operator's singular value decomposition gives it.
    """
    from ..inverse import PoissonNoise

    event = tuple(model.event_shape)
    operator = seen.measurement.whole(event)
    values = seen.measurement.tensor[:count]
    shape = tuple(values.shape[1:])
    fits = len(shape) == 3 and shape[0] in (1, event[0])
    if fits and shape[1] <= event[1] and shape[2] <= event[2]:
        law = seen.measurement.noise
        if isinstance(law, PoissonNoise):
            return (values.double() / law.gain).clamp(0, 1), "counts divided by the gain"
        return as_floats(model, values).nan_to_num(0.0).clamp(0, 1), ""
    if operator.linear and operator.svd(event) is not None:
        found = operator.A_pinv(values.double().nan_to_num(0.0), event)
        return found.clamp(0, 1), "observed: its solution of least norm"
    return None, ""


def write_draws(model: Any, taker: Taker, out: Path, format: str | None) -> list[Path]:
    """Write every draw as a picture of the source's kind in draws/, in the order of the draws."""
    import torch

    floats = as_floats(model, torch.cat(taker.kept))
    return list(picture_form(model).write(out / "draws", floats, format))


def as_stored(model: Any, values: Any) -> Any:
    """Levels of quantised images as the whole numbers that the source stores, as an array."""
    from ..data import form_of

    form: Any = form_of(model.card)
    array = values.numpy()
    if form is None or form.kind == "table" or form.levels is None or array.dtype.kind == "f":
        return array
    return (array.astype("int64") * int(form.step) + int(form.low)).astype(form.dtype)


def as_floats(model: Any, draws: Any) -> Any:
    """Draws as they are stored, as floats in data units: levels as k / (levels - 1)."""
    if draws.is_floating_point():
        return draws
    if not model.units.image:
        return draws.double()
    quantisation = model.units.quantisation
    return draws.double() / (255 if quantisation is None else quantisation.levels - 1)
