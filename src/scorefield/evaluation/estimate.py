"""`Estimate`, a number with its interval, and `METRICS`, what each metric measures.

A metric compares two sets of examples. Its population value is what it would be for infinitely many
examples, and some metrics have none: the precision of 500 examples differs from that of 5,000,
whatever the interval. `Metric.target` states which of the two an interval is about:

    population      the interval holds the population value; the bias of finite sets is removed
    these counts    the interval holds the expected value at the same numbers of examples; only the
                    floor, at the same numbers, tells what is large
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from ..files import json_ready


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The estimate.
        low: Lower end of the interval; NaN where the method gives none.
        high: Upper end.
        level: Probability with which intervals made this way hold the true value.
        count: Number of samples that were compared.
        method: How the value and the interval were made, in a few words.
        reference_count: Number of examples that the samples were compared with.
        plug_in: The value with the bias of finite sets, as other tools report it; None where
            `value` is that number.
    """

    value: float
    low: float
    high: float
    level: float
    count: int
    method: str
    reference_count: int = 0
    plug_in: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields in the form of JSON, NaN as None."""
        found: dict[str, Any] = json_ready(vars(self))
        return found

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Metric:
    """What a metric measures.

    Attributes:
        name: Key in `METRICS`.
        title: Name for tables.
        measures: One sentence.
        better: "low", "high", or "near floor" where both sides of the floor are worse.
        target: What its interval is about; see the module docstring.
        needs: "examples"; "grid" for signals, images and volumes; "table" for named columns.
    """

    name: str
    title: str
    measures: str
    better: Literal["low", "high", "near floor"]
    target: Literal["population", "these counts"]
    needs: Literal["examples", "grid", "table"] = "examples"


_ROWS = (
    Metric(
        "sliced_w1",
        "sliced W1",
        "Mean over directions of the mean distance that projections must move (Wasserstein-1).",
        "low",
        "these counts",
    ),
    Metric(
        "sliced_w2",
        "sliced W2",
        "Root mean square over directions of the Wasserstein-2 distance of projections.",
        "low",
        "population",
    ),
    Metric(
        "sliced_features",
        "sliced W2² of features",
        "Mean over directions of the squared Wasserstein-2 distance of projected features, the "
        "construction of MIND (Berthet et al. 2026) in any feature space.",
        "low",
        "population",
    ),
    Metric(
        "mmd",
        "MMD²",
        "Squared maximum mean discrepancy under the mean of three Gaussian kernels, with a half, "
        "one and two median distances of the reference.",
        "low",
        "population",
    ),
    Metric(
        "kernel_distance",
        "kernel distance",
        "Squared maximum mean discrepancy under the kernel (x·y/k + 1)³, as in KID.",
        "low",
        "population",
    ),
    Metric(
        "frechet",
        "Fréchet distance",
        "Squared Wasserstein-2 distance of the Gaussians with the same means and covariances, as "
        "in FID.",
        "low",
        "population",
    ),
    Metric(
        "c2st_accuracy",
        "classifier accuracy",
        "How often a classifier tells samples from data on examples it was not trained on; 1/2 is "
        "chance.",
        "low",
        "these counts",
    ),
    Metric(
        "c2st_auc",
        "classifier AUC",
        "Probability that the classifier ranks a sample above an example of the data; 1/2 is "
        "chance.",
        "low",
        "these counts",
    ),
    Metric(
        "precision",
        "precision",
        "Fraction of samples in a ball of the data; a ball reaches to the k-th nearest neighbour.",
        "high",
        "these counts",
    ),
    Metric(
        "recall",
        "recall",
        "Fraction of the data in a ball of the samples, which reaches to the k-th neighbour.",
        "high",
        "these counts",
    ),
    Metric(
        "density",
        "density",
        "Mean number of balls of the data that hold a sample, over k; 1 on average for equal laws.",
        "near floor",
        "these counts",
    ),
    Metric(
        "coverage",
        "coverage",
        "Fraction of the balls of the data that hold a sample.",
        "high",
        "these counts",
    ),
    Metric(
        "spectrum",
        "radial spectrum",
        "Root mean square over radial frequencies of ln(power of samples / power of data).",
        "low",
        "population",
        "grid",
    ),
    Metric(
        "marginal_w1",
        "marginal W1",
        "Wasserstein-1 distance of columns in standard deviations of the data, mean over columns.",
        "low",
        "these counts",
        "table",
    ),
    Metric(
        "category_tv",
        "total variation",
        "Total variation distance of the frequencies of words, mean over columns of categories.",
        "low",
        "these counts",
        "table",
    ),
    Metric(
        "correlation",
        "correlation difference",
        "Root mean square over pairs of columns of the difference of their correlations.",
        "low",
        "population",
        "table",
    ),
)

#: Name -> what the metric measures.
METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in _ROWS})
