"""Training, in four parts that can be used one by one, and the loop that composes them.

TrainState, train_step    model, objective, optimiser and averages; one step on a Batch
Evaluator                 held-out losses and previews
RunWriter                 what a run directory holds
Schedule, Budget, Goal    progress from images and from a durable record of the clock's decisions
train, fit                from settings or data to a run directory that can go on
Tracker                   what receives numbers and pictures; TensorBoard, Trackio, WeightsAndBiases
set_aside                 makes room for a new run in the directory of another one
"""

from .batches import Batch, Batches, draw_sigma
from .budget import Budget
from .ema import EMA
from .evaluator import Evaluator, HeldOutLoss
from .fit import fit
from .posthoc import rebuild, snapshot, snapshot_images
from .run import set_aside, train
from .schedule import Schedule
from .segment import Goal, learning_rate
from .shown import train_with_progress
from .state import StepResult, TrainState, train_step
from .summary import Hooks, Progress, Summary
from .trackers import TensorBoard, Tracker, Trackio, WeightsAndBiases
from .verdict import Verdict
from .writer import RunWriter

__all__ = [
    "EMA",
    "Batch",
    "Batches",
    "Budget",
    "Evaluator",
    "Goal",
    "HeldOutLoss",
    "Hooks",
    "Progress",
    "RunWriter",
    "Schedule",
    "StepResult",
    "Summary",
    "TensorBoard",
    "Tracker",
    "Trackio",
    "TrainState",
    "Verdict",
    "WeightsAndBiases",
    "draw_sigma",
    "fit",
    "learning_rate",
    "rebuild",
    "set_aside",
    "snapshot",
    "snapshot_images",
    "train",
    "train_step",
    "train_with_progress",
]
