"""Noise levels and first coefficients: least squares step by step along the converged flow.

For given levels, the coefficients of step i bring the method's own states as near as possible to
the states of the flow at the next level; least squares give them in closed form. The levels are
chosen among the levels of the converged flow: a few rules are tried first, then every level is
moved up and down in turn as long as the end comes nearer.
"""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..noise import few_step
from ..sampling.tuned import data_mean
from .starts import Batch, squares
from .unrolled import Parameters, Run, advance

RIDGE = 1e-7  # times the features' mean square; nearly equal features then share their weight
TOPS = (math.inf, 40.0, 20.0, 10.0, 5.0)  # first levels tried, in standard deviations of the data
LOWS = (0.0, 0.05, 0.15, 0.4)  # last levels evaluated, in the same unit
MOST_PREFIXES = 256  # runs that are kept
MOVES = (8, 4, 2, 1)  # steps of the search, in levels of the converged flow


class Search:
    """Levels and coefficients for N evaluations, on starts whose path is known.

    Args:
        batch: The starts with the path of their converged flow.
        evaluations: N.
        data_std: S.
        stop: Whether time is up; the search then ends with the best levels so far.
    """

    def __init__(
        self, batch: Batch, evaluations: int, data_std: float, stop: Callable[[], bool]
    ) -> None:
        self.batch, self.evaluations, self.data_std, self.stop = batch, evaluations, data_std, stop
        self.sigmas = [sigma for sigma, _ in batch.path]
        self.centre = data_mean(batch.model, batch.z)
        # What was computed for levels tried before: the run of a prefix of levels does not depend
        # on the levels after it, apart from the step that leaves the prefix.
        self.known: dict[tuple[int, ...], tuple[float, Parameters]] = {}
        self.prefixes: dict[tuple[int, ...], tuple[Run, list[tuple[float, ...]]]] = {}

    def fit(self, places: tuple[int, ...]) -> tuple[float, Parameters]:
        """(mean squared distance to the end, parameters) for levels of the converged flow.

        Args:
            places: Indices of N levels of the path, increasing.

        Returns:
            The distance and the parameters.
        """
        if places in self.known:
            return self.known[places]
        logs = tuple(math.log(self.sigmas[place]) for place in places)
        run, rows = self.prefix(places)
        end, row = self.solve(run, places, self.batch.end, logs)
        parameters = Parameters(logs, (*rows, row), self.data_std)
        found = (float(squares(end - self.batch.end).mean()), parameters)
        self.known[places] = found
        return found

    def prefix(self, places: tuple[int, ...]) -> tuple[Run, list[tuple[float, ...]]]:
        """The run up to the last of the places, evaluated there, and the coefficients so far."""
        if places in self.prefixes:
            return self.prefixes[places]
        sigma = self.sigmas[places[-1]]
        if len(places) == 1:
            run = Run([], [])
            rows: list[tuple[float, ...]] = []
            x = self.batch.start(sigma)
        else:
            run, rows = self.prefix(places[:-1])
            logs = tuple(math.log(self.sigmas[place]) for place in places)
            target = self.batch.path[places[-1]][1]
            x, row = self.solve(run, places[:-1], target, logs)
            rows = [*rows, row]
        with torch.no_grad():
            level = torch.tensor(sigma, dtype=torch.float64)
            value = self.batch.model.denoise(x, level)
        found = (Run([*run.states, x], [*run.denoised, value]), rows)
        if len(self.prefixes) >= MOST_PREFIXES:
            self.prefixes.clear()
        self.prefixes[places] = found
        return found

    def solve(
        self, run: Run, places: tuple[int, ...], target: Tensor, logs: tuple[float, ...]
    ) -> tuple[Tensor, tuple[float, ...]]:
        """The step that brings the last state nearest to a target, by least squares.

        Args:
            run: The run so far, evaluated at its last state.
            places: Its levels.
            target: (B, *event) at the next level, or the end.
            logs: ln sigma of the levels, with the next one where there is one.

        Returns:
            The next state, and the coefficients alpha, beta of the step.
        """
        i = len(places) - 1
        known = Parameters(logs, (), self.data_std)
        here, ahead = known.spread(i), known.spread(i + 1)
        columns = [(run.states[i] - self.centre) / here]
        columns += [(value - self.centre) / self.data_std for value in reversed(run.denoised)]
        features = torch.stack([column.flatten().double() for column in columns])
        wanted = ((target - self.centre) / ahead).flatten().double()
        gram = features @ features.T
        ridge = RIDGE * float(gram.diagonal().mean()) * torch.eye(len(gram), dtype=torch.float64)
        row = torch.linalg.solve(gram + ridge.to(gram.device), features @ wanted)
        made = Parameters(logs, (*[()] * i, tuple(row.tolist())), self.data_std)
        return advance(run.states[i], self.centre, made, i, run.denoised), made.rows[i]

    def rules(self) -> list[tuple[int, ...]]:
        """Indices of the levels of the ladders that are tried first."""
        found = []
        high, low = self.sigmas[0], self.sigmas[-1]
        for top in TOPS:
            for bottom in LOWS:
                ends = min(high, top * self.data_std), max(low, bottom * self.data_std)
                if self.evaluations == 1 or ends[0] <= ends[1]:
                    levels = [ends[0]]
                else:
                    levels = few_step(*ends, self.evaluations, self.data_std).tolist()
                places = self.nearest(levels)
                if places is not None and places not in found:
                    found.append(places)
        return found

    def nearest(self, levels: list[float]) -> tuple[int, ...] | None:
        """Indices of the path's levels nearest to N levels; None where two would be the same."""
        logs = torch.tensor(self.sigmas).log()
        places = [int((logs - math.log(level)).abs().argmin()) for level in levels]
        good = len(places) == self.evaluations and all(a < b for a, b in itertools.pairwise(places))
        return tuple(places) if good else None

    def best(self) -> Parameters:
        """Search the levels.

        Returns:
            The parameters whose end is nearest.
        """
        rules = self.rules() or [tuple(range(self.evaluations))]
        places = rules[0]
        for rule in rules:
            if self.stop():
                break
            places = min(places, rule, key=lambda one: self.fit(one)[0])
        for move in MOVES:
            moved = True
            while moved and not self.stop():
                before = places
                for i in range(self.evaluations):
                    for change in (-move, move):
                        trial = (*places[:i], places[i] + change, *places[i + 1 :])
                        if self.allowed(trial) and not self.stop():
                            places = min(places, trial, key=lambda one: self.fit(one)[0])
                moved = places != before
        return self.fit(places)[1]

    def allowed(self, places: tuple[int, ...]) -> bool:
        """Whether the places are levels of the path, one after the other."""
        inside = places[0] >= 0 and places[-1] < len(self.sigmas) - 1
        return inside and all(a < b for a, b in itertools.pairwise(places))
