"""`tune`: fit noise levels and coefficients, and compare them on starts that no fit has seen."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from .. import rng
from ..errors import InputError, NonFiniteError
from ..models import Guided, ScoreModel, check_model, count_cost
from ..noise import check_ladder
from ..progress import Report
from ..sampling import SamplingRecipe
from ..sampling.autopilot import candidate_recipes
from ..sampling.ladders import data_std
from ..values import parse_seconds, whole
from .refine import refine
from .result import Judged, Tuning
from .search import Search
from .starts import REFERENCE, make_batches, squares
from .unrolled import Parameters

BUDGET = 180.0  # seconds
MOST_STARTS, LEAST_STARTS = 512, 32
SEARCHED = 128  # starts on which the levels are searched
PATH_ELEMENTS = 1 << 24  # most numbers in the paths of those starts
SHARES = (0.35, 0.95)  # fractions of the budget at which the search and the refinement end
EVALUATIONS = 1800  # of a start in a fit of 6 evaluations; it decides the number of starts
MOST_NFE = 32


def tune(
    model: ScoreModel,
    nfe: int = 6,
    budget: str | float = BUDGET,
    seed: int = 0,
    starts: int | None = None,
) -> Tuning:
    """Fit noise levels and coefficients of a sampler to a model's own converged flow.

    Three sets of starts are followed to the end of the probability flow. On the first the method is
    fitted: levels by search, coefficients by least squares step by step, then all together. The
    second stops the fit, and on the third the method is compared with every untuned sampler.
    Where the method is nearer to the end of the flow than all of them by more than two standard
    errors, it is put into the model's card, and `sample(model, nfe=nfe)` uses it from then on. For
    a model without a card use `sample(model, sampler=result.recipe)`; `result.store(path)` writes
    the method to a model file.

    Args:
        model: The model, not a guided one.
        nfe: Evaluations of the model a sample, 2 to 32.
        budget: Wall time, "3m" or seconds; the fit ends earlier when it gains nothing more.
        seed: Decides the starts; they are not those of `sample` with the same seed.
        starts: Number of starts that are fitted to, 8 or more. Half as many others stop the fit,
            and as many others judge it. None: 512, or fewer where the measured speed requires it.

    Returns:
        The result. print(result) shows it; `.better` states whether the method gained, `.recipe`
        draws samples with it, and `.store(path)` writes it to a model file.

    Raises:
        InputError: For a guided model, a model with fixed noise levels, or arguments out of range.

    Example:
        result = sf.tune(model, nfe=6, budget="1m")
        x = sf.sample(model, 16, sampler=result.recipe)
    """
    tuner = Tuner(model, budget, seed, starts)
    result = tuner.fit(nfe)
    if result.better and model.card is not None:
        result.attach(model)
    return result


def check_nfe(value: object, name: str = "nfe") -> int:
    """Check a number of evaluations that a method can be fitted for.

    Args:
        value: The number.
        name: Its name in the message.

    Returns:
        The number.

    Raises:
        InputError: It is no whole number from 2 to 32.
    """
    return whole(value, name, 2, MOST_NFE)


class Tuner:
    """The starts of one model, followed to the end of the flow; several methods are fitted to them.

    Args:
        model: The model.
        budget: Wall time of each fit, and of following the flow.
        seed: Decides the starts.
        starts: Number of starts that are fitted to; None: chosen as for `tune`.
        report: Receives the progress; None: no report.

    Raises:
        InputError: As for `tune`.
    """

    def __init__(
        self,
        model: ScoreModel,
        budget: str | float = BUDGET,
        seed: int = 0,
        starts: int | None = None,
        report: Report | None = None,
    ) -> None:
        check_model(model)
        if isinstance(model, Guided):
            raise InputError("guidance changes the flow: tune the model itself, without guidance")
        if model.ladder_only:
            raise InputError(
                "this model is defined at the noise levels of its ladder only, so that it has no "
                "probability flow that a solver could follow"
            )
        self.model, self.report = model, report
        self.budget, seed = parse_seconds(budget, "budget"), whole(seed, "seed", 0)
        self.began = time.monotonic()
        training = model.training
        model.eval()
        try:
            count = self._count() if starts is None else whole(starts, "starts", 8)
            elements = math.prod(model.event_shape)
            searched = min(count, SEARCHED, max(8, PATH_ELEMENTS // (REFERENCE * elements)))
            # Keys far from those that `sample` takes for the same seed.
            keys = rng.keys(seed, 3 * count, first=1 << 40)
            self._tell(0.02, "following the flow")
            self.searched = [*make_batches(model, keys[:searched], keep_path=True)]
            self.fitted = [*self.searched, *make_batches(model, keys[searched:count], searched)]
            self._tell(0.1, "following the flow")
            self.stopping = [*make_batches(model, keys[count : count + count // 2], count)]
            self.judged = [*make_batches(model, keys[2 * count :], 2 * count)]
        finally:
            model.train(training)
        self.data_std = data_std(model) or self._spread()
        self.starts = {"fitted": count, "stopping": count // 2, "judged": count}

    def _count(self) -> int:
        """Starts for the budget, by the time that a few of them take to the end of the flow."""
        keys = rng.keys(0, LEAST_STARTS, first=1 << 41)
        began = time.monotonic()
        with count_cost() as cost:
            for _ in make_batches(self.model, keys):
                pass
        rate = cost.forwards / max(time.monotonic() - began, 1e-6)
        count = int(self.budget * rate / EVALUATIONS)
        return max(LEAST_STARTS, min(MOST_STARTS, count))

    def _spread(self) -> float:
        """The standard deviation of one element of the ends."""
        ends = torch.cat([batch.end for batch in self.fitted]).double()
        return float((ends - ends.mean(0)).square().mean().sqrt())

    def _tell(self, fraction: float, words: str) -> None:
        if self.report is not None:
            self.report(fraction, words)

    def fit(self, nfe: int) -> Tuning:
        """Fit a method of `nfe` evaluations and judge it.

        Args:
            nfe: Evaluations of the model a sample, 2 to 32.

        Returns:
            The result.
        """
        nfe = check_nfe(nfe)
        began = time.monotonic()
        training = self.model.training
        self.model.eval()
        try:
            self._tell(0.2, f"{nfe} evaluations: searching noise levels")
            search = Search(self.searched[0], nfe, self.data_std, self._late(began, SHARES[0]))
            found = search.best()
            self._tell(0.4, f"{nfe} evaluations: fitting levels and coefficients together")
            ends = self.model.sampling_range()
            late = self._late(began, SHARES[1])
            found = refine(self.fitted, self.stopping, found, ends, late)
            self._tell(0.9, f"{nfe} evaluations: comparing with the other samplers")
            return self.judge(found, nfe, began)
        finally:
            self.model.train(training)

    def _late(self, began: float, share: float) -> Callable[[], bool]:
        """Whether a share of the budget has passed since `began`."""
        return lambda: time.monotonic() - began > share * self.budget

    def judge(self, found: Parameters, nfe: int, began: float) -> Tuning:
        """Compare the method with every untuned sampler on the judged starts.

        Args:
            found: The method.
            nfe: Its evaluations.
            began: When the work began, by `time.monotonic`.

        Returns:
            The result.
        """
        kernel = found.kernel(self.model.sampling_range()[0])
        assert kernel.levels is not None
        recipe = SamplingRecipe(kernel, check_ladder(kernel.levels), final="none")
        own = self.distances(recipe)
        others = {
            name: (one, self.distances(one)) for name, one in candidate_recipes(self.model, nfe)
        }
        judged = [self._judged(name, one, found) for name, (one, found) in others.items()]
        judged = sorted(judged, key=lambda one: one.rms)
        gap = (others[judged[0].name][1] - own) / self.data_std**2
        half = torch.cat([squares(batch.half - batch.end) for batch in self.judged])
        return Tuning(
            kernel,
            nfe,
            self._judged("tuned", recipe, own),
            tuple(judged),
            float(gap.mean()),
            float(gap.std() / math.sqrt(len(gap))),
            float(half.mean().sqrt()) / self.data_std,
            self.starts,
            time.monotonic() - began,
        )

    def distances(self, recipe: SamplingRecipe) -> Tensor:
        """Mean squared distance per element to the end of the flow, for each judged start.

        Args:
            recipe: The recipe.

        Returns:
            (starts,) float64, squared model units; infinite where the run is not finite.
        """
        try:
            return torch.cat([batch.distances(recipe) for batch in self.judged])
        except NonFiniteError:
            return torch.full((self.starts["judged"],), math.inf, dtype=torch.float64)

    def _judged(self, name: str, recipe: SamplingRecipe, found: Tensor) -> Judged:
        """The distance in standard deviations of the data, with its standard error."""
        mean = float(found.mean())
        rms = math.sqrt(mean)
        # The standard error of a root is that of the mean square over twice the root.
        se = float(found.std()) / math.sqrt(len(found)) / (2 * rms) if 0 < rms < math.inf else 0.0
        return Judged(name, rms / self.data_std, se / self.data_std, recipe.evaluations)
