"""Short runs on the digits, kills, and a clock of its own: helpers of the tests of training."""

import shutil
from pathlib import Path

from scorefield.config import Request, override, preset
from scorefield.runs import Run
from scorefield.training import Evaluator, train, trainer
from scorefield.training.budget import Budget, Clock

STEPS, BATCH = 30, 64
IMAGES = STEPS * BATCH
SMALL = {
    "data.source": "digits",
    "network.name": "mlp",
    "network.options.width": 32,
    "optim.name": "adamw",
    "optim.batch": BATCH,
    "optim.warmup": 256,
    "execution.precision": "float32",
    "execution.compile": "off",
    "execution.threads": 1,
}


def small(images: int | None = IMAGES, **settings: object) -> Request:
    """A perceptron on the digits; settings are named with __ for a dot."""
    budget = {} if images is None else {"images": images}
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return override(preset("fast"), {**SMALL, **budget, **named})


class Killed(BaseException):
    """Stands for SIGKILL: nothing handles it."""


def kill_at_call(monkeypatch, owner: object, name: str, call: int, after: bool = False) -> None:
    """Raise Killed at the `call`-th call of a function, before it runs or after."""
    original, count = getattr(owner, name), 0

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        if count == call and not after:
            raise Killed
        result = original(*args, **kwargs)
        if count == call:
            raise Killed
        return result

    monkeypatch.setattr(owner, name, counted)


def replayed(run: Path, folder: Path, request: Request) -> Path:
    """A run in a fresh folder, by the record of another one."""
    folder.mkdir()
    shutil.copy(Run(run).schedule, Run(folder).schedule)
    train(request, folder)
    return folder


def fake_clock(monkeypatch, step: float) -> None:
    """The run's clock counts `step` seconds a training step, and twice that from the 40th on.

    Evaluations take no time of it, so that the load of the machine decides nothing.
    """
    now, original = [0.0], trainer.train_step

    def stepping(*args):
        result = original(*args)
        now[0] += step * (1 + (args[0].steps >= 40))
        return result

    monkeypatch.setattr(trainer, "train_step", stepping)
    monkeypatch.setattr(Evaluator, "seconds_per_evaluation", lambda self, model: 1e-6)
    monkeypatch.setattr(Budget, "pause", lambda self, seconds: None)
    monkeypatch.setattr(trainer, "Clock", lambda spent=0.0, start=None: Clock(spent, None, read))

    def read() -> float:
        return now[0]
