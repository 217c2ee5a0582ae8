"""Candidates in processes of their own: none inherits memory, threads or caches of another.

A `Worker` starts the process of one candidate and asks it for rates.
"""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from scorefield.errors import InputError
from scorefield.execution import eager

from . import peers


def rate(step: Callable[[], Any], images: int, seconds: float) -> float:
    """Images a second of repeating `step` for about `seconds`, one step at least."""
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * images / (time.perf_counter() - start)


def step_flops(candidate: peers.Candidate) -> float:
    """Floating-point operations of one training step, counted eagerly."""
    with eager(), FlopCounterMode(display=False) as counter:
        candidate.train()
    return float(counter.get_total_flops())


def serve(suite: str, number: int, scratch: Path, connection: Connection) -> None:
    """Run in a worker's process: send the candidate's facts, then answer requests for rates.

    Args:
        suite: a key of `peers.SUITES`.
        number: the candidate's place in it.
        scratch: a folder for files of the candidate.
        connection: receives ("train" or "evaluate", seconds) until None, and sends rates. An
            exception is sent too, and ends the worker.
    """
    try:
        candidate = peers.make_candidate(suite, number, scratch)
        flops = step_flops(candidate) / candidate.images
        for _ in range(2):  # compile and warm up, not timed
            candidate.train()
        candidate.evaluate()
        connection.send(
            {
                "name": candidate.name,
                "parameters": candidate.parameters,
                "batch": candidate.images,
                "precision": candidate.precision,
                "flops": flops,
            }
        )
        while (request := connection.recv()) is not None:
            what, seconds = request
            if what == "train":
                connection.send(rate(candidate.train, candidate.images, seconds))
            else:
                connection.send(rate(candidate.evaluate, candidate.evaluated, seconds))
    except Exception as error:
        connection.send(error)


class Worker:
    """A candidate in its own process.

    Attributes:
        facts: the candidate's name, parameters, batch, precision and operations an image.
    """

    def __init__(self, suite: str, number: int, scratch: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, remote = context.Pipe()
        self.process = context.Process(
            target=serve, args=(suite, number, scratch, remote), daemon=True
        )
        self.process.start()
        remote.close()
        self.facts: dict[str, Any] = self._receive()

    def _receive(self) -> Any:
        """What the process sends next; an exception it sends is raised here."""
        try:
            answer = self.connection.recv()
        except EOFError:
            raise InputError(
                "the process of a candidate ended without an answer: it was killed, perhaps for "
                "lack of memory; close other programs"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def rate(self, what: str, seconds: float) -> float:
        """Images a second of `what`, "train" or "evaluate", measured for about `seconds`."""
        self.connection.send((what, seconds))
        return float(self._receive())

    def end(self) -> None:
        """Ask the process to end, and terminate it if it does not."""
        if self.process.is_alive():
            self.connection.send(None)
        self.process.join(10)
        self.process.terminate()
