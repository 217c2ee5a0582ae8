"""Evaluation: how samples compare with data, each number with an interval and a floor.

The floor of a number is the same number for data against data (`sets`).

estimate.py     `Estimate`, `METRICS`: what each metric measures and what its interval is about
intervals.py    intervals from influences and halves; random choices
distances.py    sliced Wasserstein distances
kernels.py      maximum mean discrepancy, kernel distance
frechet.py      Fréchet distance
neighbours.py   precision, recall, density, coverage
two_sample.py   classifier test, permutation test
spectra.py      radial power spectra of signals, images and volumes
marginals.py    columns of tables
sets.py         `measure_sets`: all metrics, against held-out and training data
memorisation.py copies of training examples
ema_sweep.py    held-out losses of a run's averages
evaluate.py     `evaluate`: a model or samples as a whole, with a verdict and a page
measuring.py    the measurements of `evaluate`; clock.py their seconds and progress
material.py     the data of an evaluation; given.py its given samples
features.py     feature spaces; classifier.py trains one on the data's labels, cache.py keeps it
collect.py      samples drawn batch by batch into features
classes.py      class by class
health_step.py  score health on a run's data
verdict.py      learned, memorised or broke, with faults by name
record.py       the protocol record
result.py       `Evaluation` and its files; page.py, page_parts.py, page_style.py, pictures.py
compare.py      two evaluations side by side
"""

from .classes import ClassRow, compare_classes
from .classifier import Classifier
from .compare import Comparison, compare
from .distances import directions, sliced, sliced_wasserstein
from .ema_sweep import EMASweep, ema_sweep
from .estimate import METRICS, Estimate, Metric
from .evaluate import evaluate
from .features import Features, GivenFeatures
from .frechet import frechet, frechet_of_moments
from .given import Given, read_samples
from .kernels import kernel_distance, mmd
from .marginals import Table, compare_columns
from .memorisation import Memorisation, measure_memorisation
from .neighbours import prdc
from .result import Evaluation, read_evaluation
from .sets import MetricRow, measure_classes, measure_sets
from .spectra import Spectrum, radial_spectrum
from .two_sample import classifier_test, two_sample_test
from .verdict import Fault, Verdict

__all__ = [
    "METRICS",
    "ClassRow",
    "Classifier",
    "Comparison",
    "EMASweep",
    "Estimate",
    "Evaluation",
    "Fault",
    "Features",
    "Given",
    "GivenFeatures",
    "Memorisation",
    "Metric",
    "MetricRow",
    "Spectrum",
    "Table",
    "Verdict",
    "classifier_test",
    "compare",
    "compare_classes",
    "compare_columns",
    "directions",
    "ema_sweep",
    "evaluate",
    "frechet",
    "frechet_of_moments",
    "kernel_distance",
    "measure_classes",
    "measure_memorisation",
    "measure_sets",
    "mmd",
    "prdc",
    "radial_spectrum",
    "read_evaluation",
    "read_samples",
    "sliced",
    "sliced_wasserstein",
    "two_sample_test",
]
