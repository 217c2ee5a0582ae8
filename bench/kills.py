"""Can a run be lost? SIGKILL at random instants, during saves and evaluations too.

Each trial trains in a process of its own, is killed at an instant uniform over the time that the
whole run takes, is started again, killed again, and left alone the third time. Then the finished
run goes on to twice its budget, and is killed twice in the same way. Half of the trials have a
budget in images, half a time budget.

What a user sees of the finished run is then compared, bitwise, with an uninterrupted replay of
its record: a run in a fresh folder with the same schedule.jsonl. Trials with a budget in images are
also compared with a straight run. There the sizes of evaluations, which the clock decides, may
differ, so that the evaluations' own files are left out of that comparison.
"""

import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from scorefield import checkpoint
from scorefield.errors import InputError
from scorefield.runs import Run

STEPS, BATCH = 40, 64
SECONDS = 4.0  # the time budget
CLOCK_FIELDS = ("seconds", "rate", "sentence")  # of a line of metrics, a history or a verdict
FOR_EVALUATIONS = (
    *("previews/", "loss_per_sigma.png", "training.png", "evaluation ", "schedule "),
    *("state/best/losses", "model card", "last card", "segments/1/model card"),
)


def first_budget(timed: bool) -> list[str]:
    """The budget of a run's first segment."""
    return ["--budget", f"{SECONDS:g}s"] if timed else ["--images", str(STEPS * BATCH)]


def second_budget(run: Path, timed: bool) -> list[str]:
    """The budget of the second segment of a finished run: as much again."""
    if not timed:
        return ["--images", str(2 * STEPS * BATCH)]
    history = (checkpoint.read_card(Run(run).model) or {})["history"]
    return ["--budget", f"{math.ceil(history['seconds']) + SECONDS:g}s"]


def command(run: Path, checkpoint_every: float, budget: list[str]) -> list[str]:
    """The command of a short training run whose every step may be followed by a save."""
    settings = {
        "optim.batch": BATCH,
        "optim.warmup": 10 * BATCH,
        "network.options.widths": "[16,32]",
        "network.options.depths": "[1,1]",
        "condition.kind": "class",
        "execution.precision": "float32",
        "execution.compile": "off",
        "execution.threads": 1,
    }
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    base = [sys.executable, "-m", "scorefield", "train", "--data", "digits", "--run", str(run)]
    return [*base, *budget, "--checkpoint-every", str(checkpoint_every), *flags]


def tensors(state: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in a nested state, by its path."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    if isinstance(state, dict):
        items = list(state.items())
    elif isinstance(state, list | tuple):
        items = list(enumerate(state))
    else:
        return {}
    return {name: v for key, part in items for name, v in tensors(part, f"{path}/{key}").items()}


def contents(run: Path) -> dict[str, Any]:
    """What a user sees of a finished run, by name, without what the clock says.

    Args:
        run: The run directory.

    Returns:
        Bytes of files, tensors, and lines of metrics and of the record. Two runs are the same where
        `different` finds nothing.

    Raises:
        InputError: Where the run did not finish.
    """
    paths = Run(run)
    state, _ = checkpoint.load_state(paths.state)
    if state is None or not state["ended"]:
        raise InputError(f"{run} did not finish")
    found: dict[str, Any] = {f"state{name}": value for name, value in tensors(state).items()}
    found["state images"] = state["images"]
    found["config"] = paths.config.read_bytes()
    pictures = [*paths.previews.glob("*"), paths.loss_per_sigma, paths.training_curve]
    files = [*paths.snapshots.glob("*"), *pictures]
    for path in files:
        found[str(path.relative_to(run))] = path.read_bytes()
    for path in (paths.model, paths.last, *paths.segments.glob("*/*")):
        if path.exists():
            key = str(path.relative_to(run).with_suffix(""))
            with safe_open(str(path), "pt") as file:
                card = json.loads((file.metadata() or {})["card"])
                names = list(file.keys())
                found |= {f"{key} {name}": file.get_tensor(name) for name in names}
            found[f"{key} card"] = card | {"history": _without_clock(card["history"])}
    for line in paths.records():
        name = f"{'evaluation' if 'held_out' in line else 'metrics'} {line['images']}"
        found[f"{name} written twice" if name in found else name] = _without_clock(line)
    for k, text in enumerate(paths.schedule.read_text().splitlines()):
        found[f"schedule {k}"] = json.loads(text)
    return found


def _without_clock(values: dict[str, Any]) -> dict[str, Any]:
    """A record, and the records in it, without what the clock says."""
    return {
        name: _without_clock(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name not in CLOCK_FIELDS
    }


def different(a: dict[str, Any], b: dict[str, Any], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The names in which two runs differ; [] where they are the same."""
    names = sorted(n for n in a.keys() | b.keys() if not n.startswith(leave_out or ("\0",)))
    return [name for name in names if not _same(a.get(name), b.get(name))]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)) and a.dtype == b.dtype
    return type(a) is type(b) and bool(a == b)


def replay(run: Path, folder: Path, budget: list[str]) -> Path:
    """Train in `folder` by the record of `run`, without a stop."""
    folder.mkdir(parents=True)
    shutil.copy(Run(run).schedule, Run(folder).schedule)
    subprocess.run(command(folder, 60.0, budget), check=True, capture_output=True)
    return folder


def _kill_twice(
    run: Path, every: float, budget: list[str], length: float, instants: random.Random
) -> tuple[int, str]:
    """Start a run, kill it twice, let it end; the number of kills and the last output."""
    kills = 0
    arguments = command(run, every, budget)
    for _ in range(2):
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=instants.uniform(0.3, 1.1) * length)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return kills, done.stdout


def kills(
    trials: int = 20, seed: int = 0, tell: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Kill training runs at random instants and compare what is left of them.

    Args:
        trials: Number of trials, 1 or more; every second one has a time budget.
        seed: Decides the instants, as fractions of a run's length.
        tell: Called with a sentence after each trial.

    Returns:
        Counts, seconds, and for each trial that differs what differs.
    """
    if trials < 1:
        raise InputError(f"trials must be at least 1; got {trials}")
    began = time.perf_counter()
    instants = random.Random(seed)
    record: dict[str, Any] = {
        "trials": trials,
        "seed": seed,
        "timed": trials // 2,
        "equal": 0,
        "kills": 0,
        "found_torn": 0,
        "different": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        straight, lengths = Path(folder) / "straight", []
        for timed in (False, True):
            run = straight / str(timed)
            start, budget = time.perf_counter(), first_budget(timed)
            subprocess.run(command(run, 60.0, budget), check=True, capture_output=True)
            lengths.append(time.perf_counter() - start)
        run = straight / "False"
        budget = second_budget(run, timed=False)
        subprocess.run(command(run, 60.0, budget), check=True, capture_output=True)
        truth = contents(run)
        record["compared"] = len(truth)
        for trial in range(trials):
            run, timed = Path(folder) / str(trial), trial % 2 == 1
            every = 0.0 if trial % 4 < 2 else 0.1  # after every step, or now and then
            budget = first_budget(timed)
            for segment in (1, 2):
                count, output = _kill_twice(run, every, budget, lengths[timed], instants)
                record["kills"] += count
                record["found_torn"] += "is torn" in output
                budget = second_budget(run, timed) if segment == 1 else budget
            found = contents(run)
            again = replay(run, Path(folder) / f"{trial}-replay", budget)
            names = different(found, contents(again))
            if not timed:
                names += different(found, truth, FOR_EVALUATIONS)
            record["equal"] += not names
            if names:
                record["different"][str(trial)] = names
            tell(f"{trial + 1} of {trials}: {record['equal']} equal, {record['kills']} kills")
    return record | {"seconds": round(time.perf_counter() - began, 1)}
