"""Can a run be lost? SIGKILL at random instants, during saves too, against the run that was never
stopped: bitwise or not at all.

Each trial trains in a process of its own, is killed at an instant uniform over the time the whole
run takes, started again, killed again,
and left alone the third time. Then every tensor of its state (weights, averages, optimiser) is
compared with `torch.equal`.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from scorefield import checkpoint
from scorefield.errors import InputError

STEPS, BATCH = 40, 64


def command(run: Path, checkpoint_every: float) -> list[str]:
    """A short training run whose every step may be followed by a save."""
    settings = [
        "optim.batch=64",
        "optim.warmup=640",
        "network.options.widths=[16,32]",
        "network.options.depths=[1,1]",
    ]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    base = [
        sys.executable,
        "-m",
        "scorefield",
        "train",
        "--data",
        "digits",
        "--run",
        str(run),
        "--images",
        str(STEPS * BATCH),
    ]
    return [*base, "--compile", "off", "--checkpoint-every", str(checkpoint_every), *flags]


def tensors(state: Any, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in a nested state, by its path."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = (
        state.items()
        if isinstance(state, dict)
        else enumerate(state)
        if isinstance(state, list | tuple)
        else ()
    )
    return {
        name: value for key, part in items for name, value in tensors(part, f"{path}/{key}").items()
    }


def final_state(run: Path) -> dict[str, torch.Tensor]:
    """The tensors of a finished run's newest state."""
    state, _ = checkpoint.load_state(run / "state")
    assert state is not None and state["ended"], f"{run} did not finish"
    return tensors(state)


def kills(trials: int = 20, seed: int = 0, tell: Any = lambda text: None) -> dict[str, Any]:
    """Run `trials` trials -> counts, seconds and the list of trials that differ (none, if all is
    well).
    """
    if trials < 1:
        raise InputError(f"trials must be at least 1; got {trials}")
    began = time.perf_counter()
    instants = random.Random(seed)
    record: dict[str, Any] = {
        "trials": trials,
        "seed": seed,
        "equal": 0,
        "kills": 0,
        "found_torn": 0,
        "different": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        straight = Path(folder) / "straight"
        start = time.perf_counter()
        subprocess.run(command(straight, 60.0), check=True, capture_output=True)
        length = time.perf_counter() - start
        truth = final_state(straight)
        for trial in range(trials):
            run = Path(folder) / str(trial)
            every = 0.0 if trial % 2 else 0.1  # every step, or now and then
            for _ in range(2):
                process = subprocess.Popen(
                    command(run, every), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                try:
                    process.wait(timeout=instants.uniform(0.3, 1.1) * length)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    record["kills"] += 1
            done = subprocess.run(command(run, every), check=True, capture_output=True, text=True)
            record["found_torn"] += "is torn" in done.stdout
            found = final_state(run)
            same = found.keys() == truth.keys() and all(
                torch.equal(found[name], truth[name]) for name in truth
            )
            record["equal"] += same
            if not same:
                record["different"].append(trial)
            tell(f"{trial + 1} of {trials}: {record['equal']} equal, {record['kills']} kills")
    return record | {"tensors": len(truth), "seconds": round(time.perf_counter() - began, 1)}
