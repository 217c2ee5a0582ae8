"""Contestants in processes of their own, as a user would run them: nobody inherits the memory,
threads or caches that another asked for.
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
from .peers import Contestant, entrant


def rate(step: Callable[[], Any], images: int, seconds: float) -> float:
    """Images a second of repeating `step` for about `seconds` (one step at least)."""
    start, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - start < seconds:
        step()
        steps += 1
    return steps * images / (time.perf_counter() - start)


def step_flops(contestant: Contestant) -> float:
    """Floating-point operations of one training step, counted eagerly."""
    with eager(), FlopCounterMode(display=False) as counter:
        contestant.train()
    return float(counter.get_total_flops())


def serve(field: str, number: int, scratch: Path, connection: Connection) -> None:
    """A contestant's process: introduce it, then answer (what, seconds) with a rate until None;
    errors are sent, not raised.
    """
    try:
        contestant = entrant(field, number, scratch)
        facts = {
            "name": contestant.name,
            "parameters": contestant.parameters,
            "batch": contestant.images,
        }
        facts["precision"] = contestant.precision
        flops = step_flops(contestant) / contestant.images
        contestant.train()  # compile and warm up, not timed
        contestant.train()
        contestant.evaluate()
        connection.send({**facts, "flops": flops})
        while (order := connection.recv()) is not None:
            what, seconds = order
            done = (
                (contestant.train, contestant.images)
                if what == "train"
                else (contestant.evaluate, contestant.evaluated)
            )
            connection.send(rate(*done, seconds))
    except Exception as error:
        connection.send(error)


class Entrant:
    """A contestant in its process; `facts` are its name, parameters, batch, precision and
    operations an image.
    """

    def __init__(self, field: str, number: int, scratch: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(field, number, scratch, theirs), daemon=True
        )
        self.process.start()
        theirs.close()
        self.facts: dict[str, Any] = self.answer()

    def answer(self) -> Any:
        """What the process sends next; its error is raised here."""
        try:
            found = self.connection.recv()
        except EOFError:
            raise InputError(
                "a contestant's process ended without a word: killed, perhaps for want of memory; "
                "close what else runs"
            ) from None
        if isinstance(found, Exception):
            raise found
        return found

    def rate(self, what: str, seconds: float) -> float:
        """Images a second of `what`, train or evaluate."""
        self.connection.send((what, seconds))
        return float(self.answer())

    def end(self) -> None:
        """Let the process go; end it where it does not."""
        if self.process.is_alive():
            self.connection.send(None)
        self.process.join(10)
        self.process.terminate()
