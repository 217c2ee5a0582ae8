"""Training: a run is a function of its configuration; progress is counted in images; rerunning the same command continues.

Batch, noise levels and noise of the step that starts after n images are functions of (seed, n). Live weights, averages, optimiser state
and counters are saved together, so a resumed run goes on as if it had not stopped.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import checkpoint, networks, rng
from ..config import Config, settle, validate
from ..data import Collection, Moments, Pipeline, load, measure, split
from ..execution import Execution, choose
from ..model import Preconditioned
from ..noise import Levels, LogNormal, LogUniform, SigmaLaw, geometric, stratified
from ..objectives import Objective, make_objective
from ..runs import Run
from .budget import Budget, Clock, learning_rate
from .ema import EMA
from .guard import check_step
from .look import look
from .meter import SIGMA_BINS, Meter
from .optimisers import make_optimiser
from .signals import StopRequest, watch

PREVIEWS_AT = (0.1, 0.25, 0.5)  # shares of the budget; the last picture is made when training ends
HELD_OUT_IMAGES = 512


@dataclass(frozen=True)
class Progress:
    """Where training stands, for whoever shows it. rate: images a second, lately; budget: images in all, 0 while not known."""

    images: int
    budget: int
    share: float
    elapsed: float
    seconds: float
    loss: float
    rate: float
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """How a run ended. signal: the number of the signal that stopped it, 0 for none."""

    folder: Path
    images: int
    seconds: float
    reason: str
    signal: int = 0
    notices: tuple[str, ...] = ()
    held_out: dict[str, list[float]] = field(default_factory=dict)


@dataclass
class Hooks:
    """What the caller wants told. on_progress: about twice a second; on_notice: what the user should know."""

    on_progress: Callable[[Progress], None] = lambda _: None
    on_notice: Callable[[str], None] = lambda _: None


def sigma_law(config: Config) -> tuple[SigmaLaw, Tensor | None]:
    """The training law of sigma and the ladder it lives on, if any."""
    n = config.noise
    if n.levels:
        ladder = geometric(n.sigma_max, n.sigma_min, n.levels)
        if n.law == "levels":
            return Levels(tuple(ladder.tolist())), ladder
    else:
        ladder = None
    if n.law == "loguniform":
        return LogUniform(n.sigma_min, n.sigma_max), ladder
    shift = torch.tensor(n.sigma_data / 0.5).log().item()
    return LogNormal(n.mean + shift, n.std, n.sigma_min, n.sigma_max), ladder


def build_model(config: Config, event_shape: tuple[int, ...], moments: Moments) -> tuple[Preconditioned, dict[str, Any]]:
    """The untrained model, initial weights a function of the seed, and its network's entry in the card."""
    name = config.network.name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator(config.seed, rng.Stream.INIT).initial_seed())
        network = networks.build(name, event_shape, **config.network.options)
    _, ladder = sigma_law(config)
    n = config.noise
    model = Preconditioned(
        network,
        event_shape,
        n.sigma_min,
        n.sigma_max,
        n.preconditioner,
        n.sigma_data,
        ladder,
        False,
        moments.units,
        moments.mean,
        moments.variance,
    )
    return model, {"name": name, "options": networks.options(network)}


class Trainer:
    """One run: everything that is saved and restored, and the step."""

    def __init__(self, config: Config, collection: Collection, run: Run, hooks: Hooks) -> None:
        self.config, self.run, self.hooks = config, run, hooks
        self.collection = collection
        self.train_index, self.held_index = split(collection.labels, len(collection), config.seed, config.data.held_out)
        self.moments = measure(collection, self.train_index, config.noise.sigma_data, config.data.units)
        self.pipeline = Pipeline(collection, self.train_index, self.moments.units, config.seed, config.data.dequantise, config.data.flip)
        self.law, self.ladder = sigma_law(config)
        self.model, self.network_entry = build_model(config, collection.event_shape, self.moments)
        self.network = self.model.network
        self.objective: Objective = make_objective(config.objective.name, config.objective.weight, config.noise.sigma_data)
        self.emas = [EMA(self.network, config.ema.kind, width, config.ema.warmup) for width in config.ema.profiles]
        self.optimiser = make_optimiser(config.optim, self.network)
        self.images = 0
        self.budget = Budget(config.images, config.seconds)
        self.ended = ""
        self.notices: list[str] = []

    # -- state

    def state(self, elapsed: float) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "images": self.images,
            "elapsed": elapsed,
            "budget_images": self.budget.images,
            "ended": self.ended,
            "execution": self.execution.to_dict(),
            "network": self.network.state_dict(),
            "emas": [ema.state_dict() for ema in self.emas],
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.images, self.ended = state["images"], state["ended"]
        self.budget.images = state["budget_images"]
        self.network.load_state_dict(state["network"])
        for ema, stored in zip(self.emas, state["emas"], strict=True):
            ema.load_state_dict(stored)
        self.optimiser.load_state_dict(state["optimiser"])

    def place(self, stored: dict[str, Any] | None) -> None:
        """Choose how the arithmetic runs (a resumed run keeps its choice) and bring network, averages and optimiser there."""
        e = self.config.execution
        planned = self.config.seconds if not self.config.images else self.config.images / 300
        spatial = len(self.collection.event_shape) - 1
        self.execution = Execution(**stored) if stored else choose(e.device, e.precision, e.compile, e.threads, planned, spatial)
        self.shadow = (
            copy.deepcopy(self.model).eval().requires_grad_(False)
        )  # where averaged weights are tried; never compiled, never trained
        for model in (self.model, self.shadow):
            model.autocast = self.execution.autocast
        self.execution.place(self.network)
        self.shadow.network.load_state_dict(self.network.state_dict())
        self.execution.lay_out(self.shadow.network)

    # -- the step

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """Batch (B, *event) in model units, sigma (B,) and keys of the step at hand: functions of (seed, images)."""
        batch = self.config.optim.batch
        keys = rng.keys(self.config.seed, batch, first=self.images)
        sigma = self.law.quantile(stratified(rng.uniform(keys, rng.Stream.SIGMA, 0, ())))
        return self.pipeline.batch(self.images, batch), sigma, keys

    def step(self) -> tuple[Tensor, Tensor, Tensor]:
        """One optimiser step -> sigma (B,), losses (B,), gradient norm ()."""
        o = self.config.optim
        x0, sigma, keys = self.draw()
        losses = self.objective.losses(self.model, x0, sigma, keys)
        self.optimiser.zero_grad(set_to_none=True)
        losses.mean().backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), o.clip if o.clip > 0 else float("inf"), foreach=True)
        check_step(losses, norm, sigma, self.images, self.config.seed)
        warmup = min(o.warmup, self.budget.images // 5) if self.budget.images else o.warmup  # a short run is not all warm-up
        rate = learning_rate(o.lr, self.images, warmup, o.decay, self.budget.progress(self.images))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimiser.step()
        self.images += o.batch
        for ema in self.emas:
            ema.update(self.network, self.images, o.batch)
        return sigma, losses.detach(), norm

    # -- looking at the model

    def averaged(self) -> Preconditioned:
        """The model with the first average's weights."""
        self.shadow.network.load_state_dict(self.emas[0].weights)
        return self.shadow

    @torch.no_grad()
    def held_out_loss(self, per_sigma: bool = False) -> dict[str, list[float]]:
        """Held-out denoising loss of the averaged weights, weight as trained, on fixed noise: at SIGMA_BINS quantiles of the training law
        with standard errors over images (per_sigma), or over the law as one number."""
        model = self.averaged()
        count = min(HELD_OUT_IMAGES, len(self.held_index))
        x0 = self.pipeline.held_out(self.held_index[:count])
        keys = rng.keys(self.config.seed, count, first=1 << 40)
        if not per_sigma:
            sigma = self.law.quantile((torch.arange(count, dtype=x0.dtype) + 0.5) / count)
            losses = self._evaluate(model, x0, sigma, keys)
            return {"loss": [losses.mean().item()], "se": [losses.std().item() / count**0.5]}
        levels = self.law.quantile((torch.arange(SIGMA_BINS, dtype=x0.dtype) + 0.5) / SIGMA_BINS)
        table: dict[str, list[float]] = {"sigma": [], "loss": [], "se": []}
        for level in levels.unique().flip(0):
            losses = self._evaluate(model, x0, level.expand(count), keys)
            for key, value in (("sigma", level.item()), ("loss", losses.mean().item()), ("se", losses.std().item() / count**0.5)):
                table[key].append(value)
        return table

    def _evaluate(self, model: Preconditioned, x0: Tensor, sigma: Tensor, keys: Tensor) -> Tensor:
        parts = zip(x0.split(256), sigma.split(256), keys.split(256), strict=True)
        return torch.cat([self.objective.losses(model, *part) for part in parts])

    def save(self, elapsed: float) -> None:
        """State, then the model file."""
        checkpoint.save_state(self.run.state, self.images, self.state(elapsed))
        history = {"images": self.images, "seconds": round(elapsed, 3), "initial_share": self.emas[0].initial_share, "ended": self.ended}
        facts = {
            "config": self.config.to_dict(),
            "data": self.collection.description,
            "constant": self.moments.constant,
            "levels": self.collection.levels,
            "history": history,
            "execution": self.execution.to_dict(),
        }
        checkpoint.save_model(
            self.run.model, self.model, self.emas[0].weights, checkpoint.make_card(self.model, self.network_entry, **facts)
        )


def train(
    config: Config,
    folder: str | Path,
    data: Any = None,
    hooks: Hooks | None = None,
    checkpoint_seconds: float = 60.0,
    log_seconds: float = 2.0,
) -> Summary:
    """Train a run to its budget, or go on with it. data: anything `data.load` takes, in place of config.data.source.

    Raises InputError before anything is written where data, settings or the run directory do not fit; NonFiniteError (nothing of the bad step
    applied) where a loss or gradient is not finite.
    """
    validate(config)
    hooks = hooks or Hooks()
    d = config.data
    collection = load(d.source if data is None else data, size=d.size or None, channels=d.channels or None, key=d.key or None)
    config = settle(config, collection.event_shape)
    run = Run(folder)
    trainer = Trainer(config, collection, run, hooks)
    stored_config = config.to_dict() | {"data_sha256": collection.description["sha256"]}
    with watch() as stop:
        if run.config.exists():
            run.claim(stored_config)  # refuse before the lock makes a file
        with run.lock():
            run.claim(stored_config)
            return _continue(trainer, stop, checkpoint_seconds, log_seconds)


def _continue(trainer: Trainer, stop: StopRequest, checkpoint_seconds: float, log_seconds: float) -> Summary:
    run, hooks = trainer.run, trainer.hooks
    state, notices = checkpoint.load_state(run.state)
    for notice in notices:
        hooks.on_notice(notice)
    trainer.place(state["execution"] if state else None)
    if state:
        trainer.restore(state)
        run.rewind(trainer.images)
        hooks.on_notice(f"continuing {run.folder} at {trainer.images:,} images")
    elif run.metrics.exists():
        run.rewind(0)
    if trainer.moments.constant:
        hooks.on_notice(f"constant in the training data, kept as they are: {', '.join(map(str, trainer.moments.constant[:12]))}")
    hooks.on_notice(f"running on {trainer.execution.describe()}")
    clock = Clock(state["elapsed"] if state else 0.0)
    if trainer.ended:
        return Summary(run.folder, trainer.images, clock.seconds, f"already complete ({trainer.ended})", notices=tuple(notices))
    return _loop(trainer, stop, clock, checkpoint_seconds, log_seconds)


def _loop(trainer: Trainer, stop: StopRequest, clock: Clock, checkpoint_seconds: float, log_seconds: float) -> Summary:
    run, hooks, budget = trainer.run, trainer.hooks, trainer.budget
    meter = Meter(trainer.law)
    logged = shown = saved = time.perf_counter()
    logged_images = shown_images = trainer.images
    rate, loss = 0.0, float("nan")
    previews = [share for share in PREVIEWS_AT if share > budget.progress(trainer.images)]
    reason = budget.over(trainer.images, clock.seconds)
    while not reason and not stop.signal:
        sigma, losses, norm = trainer.step()
        meter.add(sigma, losses)
        budget.observe(trainer.images, clock.seconds)
        now = time.perf_counter()
        reason = budget.over(trainer.images, clock.seconds)
        if now - shown > 0.5 or reason:
            fresh = (trainer.images - shown_images) / max(now - shown, 1e-9)
            rate = fresh if not rate else 0.7 * rate + 0.3 * fresh
            loss = losses.mean().item() if loss != loss else loss
            share = max(budget.progress(trainer.images), clock.seconds / budget.seconds if budget.seconds else 0.0)
            hooks.on_progress(Progress(trainer.images, budget.images, share, clock.seconds, budget.seconds, loss, rate))
            shown, shown_images = now, trainer.images
        if now - logged > log_seconds or reason or stop.signal:
            record = meter.read()
            loss = record["loss"]
            meter.reset()
            images_per_second = (trainer.images - logged_images) / max(now - logged, 1e-9)
            head = {"images": trainer.images, "seconds": round(clock.seconds, 3), "rate": round(images_per_second, 1)}
            run.log(head | record | {"lr": trainer.optimiser.param_groups[0]["lr"], "grad_norm": norm.item()})
            logged, logged_images = now, trainer.images
        if previews and budget.progress(trainer.images) >= previews[0]:
            previews.pop(0)
            look(trainer, clock.seconds)
            shown = logged = time.perf_counter()
        if now - saved > checkpoint_seconds and not reason:
            trainer.save(clock.seconds)
            saved = shown = logged = time.perf_counter()
    trainer.ended = reason
    trainer.save(clock.seconds)
    if stop.signal:
        return Summary(run.folder, trainer.images, clock.seconds, f"stopped by signal {stop.signal}; saved", stop.signal)
    table = look(trainer, clock.seconds, final=True)
    return Summary(run.folder, trainer.images, clock.seconds, reason, held_out=table)
