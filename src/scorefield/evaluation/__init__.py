"""Evaluation: how samples compare with data, with an interval and a floor for every number.

estimate.py     `Estimate`, `METRICS`: what each metric measures and what its interval is about
intervals.py    intervals from influences and halves; random choices
distances.py    sliced Wasserstein distances
kernels.py      maximum mean discrepancy, kernel distance
frechet.py      Fréchet distance
neighbours.py   precision, recall, density, coverage
two_sample.py   classifier test, permutation test
spectra.py      radial power spectra of signals, images and volumes
marginals.py    columns of tables
sets.py         `measure_sets`: all of them, against held-out and training data
"""

from .distances import directions, sliced, sliced_wasserstein
from .estimate import METRICS, Estimate, Metric
from .frechet import frechet, frechet_of_moments
from .kernels import kernel_distance, mmd
from .marginals import Table, compare_columns
from .neighbours import prdc
from .sets import MetricRow, measure_classes, measure_sets
from .spectra import Spectrum, radial_spectrum
from .two_sample import classifier_test, two_sample_test

__all__ = [
    "METRICS",
    "Estimate",
    "Metric",
    "MetricRow",
    "Spectrum",
    "Table",
    "classifier_test",
    "compare_columns",
    "directions",
    "frechet",
    "frechet_of_moments",
    "kernel_distance",
    "measure_classes",
    "measure_sets",
    "mmd",
    "prdc",
    "radial_spectrum",
    "sliced",
    "sliced_wasserstein",
    "two_sample_test",
]
