"""Training: exact resume, budgets, averages, the objective's value, and what happens when something
goes wrong.
"""

import dataclasses
import errno
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from scorefield import checkpoint, rng
from scorefield.config import PRESETS, count, override, preset, seconds, settle, validate
from scorefield.data import load
from scorefield.errors import InputError, NonFiniteError
from scorefield.exact import Gaussian
from scorefield.noise import Levels, LogNormal, LogUniform, geometric, stratified
from scorefield.objectives import WEIGHTS, Denoising
from scorefield.runs import Run, write_bytes
from scorefield.training import Hooks, fit, loop, train
from scorefield.training.budget import Budget, learning_rate
from scorefield.training.ema import EMA, gamma_of
from scorefield.training.look import evaluation_seconds, look
from scorefield.training.optimisers import NEWTON_SCHULZ, OPTIMISERS, Muon, orthogonalise
from scorefield.training.trainer import Trainer

SMALL = [
    "network.name=mlp",
    "network.options.width=32",
    "optim.batch=64",
    "execution.threads=1",
    "optim.warmup=256",
]


def small(images: int, *extra: str, data: str = "ring"):
    config = dataclasses.replace(preset("fast"), images=images)
    return override(config, [f"data.source={data}", *SMALL, *extra])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state, notices = checkpoint.load_state(folder / "state")
    assert state is not None
    assert not notices
    flat = {f"live.{k}": v for k, v in state["network"].items()}
    for i, ema in enumerate(state["emas"]):
        flat |= {f"ema{i}.{k}": v for k, v in ema.items() if isinstance(v, torch.Tensor)}
    for i, slot in state["optimiser"]["state"].items():
        flat |= {f"optimiser{i}.{k}": v for k, v in slot.items() if isinstance(v, torch.Tensor)}
    return flat


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight")
    summary = train(small(64 * 60), folder)
    assert summary.reason == "image budget reached"
    assert summary.images == 64 * 60
    return folder


def interrupted_run(folder: Path, *extra: str) -> int:
    """A process that is sent SIGTERM by itself after its 23rd step; its exit code is returned."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training import small
from scorefield.training import loop
step = loop.Trainer.step
def counted(self):
    out = step(self)
    if self.images == 64 * 23:
        os.kill(os.getpid(), signal.SIGTERM)
    return out
loop.Trainer.step = counted
summary = loop.train(small(64 * 60, *{list(extra)!r}), {str(folder)!r})
sys.exit(128 + summary.signal if summary.signal else 0)
"""
    return subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode


def test_a_stopped_run_goes_on_bitwise(straight, tmp_path):
    assert interrupted_run(tmp_path / "run") == 128 + signal.SIGTERM
    state, _ = checkpoint.load_state(tmp_path / "run" / "state")
    assert state is not None
    assert state["images"] == 64 * 23
    train(small(64 * 60), tmp_path / "run")
    assert same(weights(straight), weights(tmp_path / "run"))
    model, other = checkpoint.load(straight), checkpoint.load(tmp_path / "run")
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_the_bitwise_check_can_fail(straight, tmp_path):
    """Another seed gives other weights: the comparison above is not vacuous."""
    train(small(64 * 60, "seed=1"), tmp_path / "run")
    assert not same(weights(straight), weights(tmp_path / "run"))


def test_metrics_of_a_resumed_run_are_in_order(tmp_path):
    interrupted_run(tmp_path / "run")
    train(small(64 * 60), tmp_path / "run")
    images = [r["images"] for r in Run(tmp_path / "run").records() if "loss" in r]
    assert images == sorted(set(images))
    assert images[-1] == 64 * 60


def test_a_finished_run_stays_as_it_is(straight):
    before = weights(straight)
    summary = train(small(64 * 60), straight)
    assert summary.reason.startswith("already complete")
    assert same(before, weights(straight))


def test_another_configuration_is_refused_and_nothing_changes(straight):
    before = {p: p.read_bytes() for p in straight.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=r"another configuration.*optim\.lr"):
        train(small(64 * 60, "optim.lr=0.5"), straight)
    assert before == {p: p.read_bytes() for p in straight.rglob("*") if p.is_file()}


def test_other_data_under_the_same_name_are_refused(tmp_path):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).numpy()
    settings = {"optim.batch": 32, "network.name": "mlp", "execution.threads": 1}
    fit(x, tmp_path / "run", images=64, settings=settings)
    with pytest.raises(InputError, match="data_sha256"):
        fit(x + 1, tmp_path / "run", images=64, settings=settings)


def test_a_torn_state_is_passed_over_in_words(tmp_path):
    folder = tmp_path / "state"
    for images in (1, 2, 3):
        checkpoint.save_state(folder, images, {"images": images, "w": torch.ones(3) * images})
    assert len(list(folder.glob("*.state"))) == checkpoint.GENERATIONS
    newest = max(folder.glob("*.state"))
    newest.write_bytes(newest.read_bytes()[:-5])
    state, notices = checkpoint.load_state(folder)
    assert state is not None
    assert state["images"] == 2
    assert "torn" in notices[0]


def test_a_full_disk_leaves_the_old_checkpoint(straight, tmp_path, monkeypatch):
    folder = tmp_path / "state"
    checkpoint.save_state(folder, 1, {"images": 1})
    old = (folder / "000000000001.state").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save_state(folder, 2, {"images": 2})
    with pytest.raises(OSError, match="No space left"):
        write_bytes(folder / "000000000001.state", b"new")
    monkeypatch.undo()
    assert [p.name for p in folder.iterdir()] == ["000000000001.state"]
    assert (folder / "000000000001.state").read_bytes() == old


def test_two_processes_do_not_write_one_run(tmp_path):
    run = Run(tmp_path / "run")
    with (
        run.lock(),
        pytest.raises(InputError, match=f"being written by process {os.getpid()}"),
        Run(tmp_path / "run").lock(),
    ):
        pass
    with run.lock():  # the lock is free again
        pass


def poison(monkeypatch):
    """Losses below sigma 0.02 become NaN."""
    monkeypatch.setitem(
        WEIGHTS,
        "edm",
        lambda sigma, sigma_data: torch.where(sigma < 0.02, float("nan"), 1.0) + 0 * sigma,
    )


def test_a_non_finite_step_stops_and_is_not_applied(tmp_path, monkeypatch):
    poison(monkeypatch)
    with pytest.raises(
        NonFiniteError,
        match=r"batch index \d+, sigma 0\.0.*the loss itself.*after [\d,]+ images, seed 0.*not applied",
    ):
        train(small(64 * 200), tmp_path / "run")
    kept, _ = checkpoint.load_state(tmp_path / "run" / "nonfinite")
    assert kept is not None
    assert all(torch.isfinite(v).all() for v in kept["network"].values())
    assert not torch.isfinite(kept["losses"]).all()


def test_skipping_is_bounded_and_counted(tmp_path, monkeypatch):
    poison(monkeypatch)
    said: list[str] = []
    with pytest.raises(NonFiniteError, match=r"guard\.limit is 3"):
        train(
            small(64 * 200, "guard.action=skip", "guard.limit=3"),
            tmp_path / "run",
            hooks=Hooks(on_notice=said.append),
        )
    assert [s for s in said if "skipped (3 of at most 3)" in s]


def test_the_layer_is_named(tmp_path):
    """An infinite weight is found by the name of its layer."""
    from scorefield.data import load
    from scorefield.training.guard import explain
    from scorefield.training.trainer import Trainer

    trainer = Trainer(settle(small(640), (2,)), load("ring"), Run(tmp_path), print)
    trainer.place(None)
    name, parameter = next(
        (n, p) for n, p in trainer.network.named_parameters() if n.endswith("weight")
    )
    with torch.no_grad():
        parameter[0, 0] = float("inf")
    x0, sigma, keys = trainer.draw()
    losses = trainer.objective.losses(trainer.model, x0, sigma, keys)
    assert f"layer {name.removesuffix('.weight')}" in explain(
        trainer.model, trainer.objective, x0, sigma, keys, losses, losses.sum()
    )


def test_accumulated_parts_give_the_whole_batch_s_step(straight, tmp_path):
    train(small(64 * 60, "optim.accumulate=4"), tmp_path / "run")
    whole, parts = weights(straight), weights(tmp_path / "run")
    moved = max((whole[k] - weights_at_start(k)).abs().max() for k in whole if k.startswith("live"))
    assert (
        max((whole[k] - parts[k]).abs().max() for k in whole if k.startswith("live")) < 1e-2 * moved
    )


def weights_at_start(name: str) -> torch.Tensor:
    from scorefield import networks

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator(0, rng.Stream.INIT).initial_seed())
        return networks.build("mlp", (2,), width=32).state_dict()[name.removeprefix("live.")]


def test_snapshots_rebuild_another_width(tmp_path):
    """A real run: width 0.075 from 64 snapshots of 0.05 and 0.10 against the one tracked directly."""
    train(small(64 * 640, "ema.snapshots=64"), tmp_path / "a")
    train(small(64 * 640, "ema.profiles=0.075", "ema.snapshots=0"), tmp_path / "b")
    from scorefield.training import rebuild

    direct, live = (
        checkpoint.load(tmp_path / "b").network.state_dict(),
        {k[5:]: v for k, v in weights(tmp_path / "b").items() if k[:5] == "live."},
    )
    rebuilt = rebuild(tmp_path / "a", 0.075)
    error = sum((rebuilt[k] - direct[k]).square().sum() for k in direct).sqrt()
    distance = sum((direct[k] - live[k]).square().sum() for k in direct).sqrt()
    assert error <= 1e-2 * distance


# -- values


@pytest.mark.parametrize(("sigma", "variance"), [(0.05, 0.3), (0.7, 2.0), (5.0, 0.5)])
@pytest.mark.parametrize("weight", list(WEIGHTS))
def test_the_denoising_loss_of_the_exact_score(sigma, variance, weight):
    """E |D - x0|² / d = s² sigma² / (s² + sigma²) for N(0, s² I), within 4.5 standard errors (7e-6
    of false alarms each).
    """
    n, d = 20_000, 3
    model = Gaussian(
        torch.zeros(d, dtype=torch.float64), variance * torch.eye(d, dtype=torch.float64)
    )
    keys = rng.keys(11, n)
    x0 = rng.normal(keys, rng.Stream.TOY, 0, (d,), torch.float64) * math.sqrt(variance)
    levels = torch.full((n,), sigma, dtype=torch.float64)
    losses = Denoising(weight, 0.5).losses(model, x0, levels, keys)
    truth = WEIGHTS[weight](levels[:1], 0.5).item() * variance * sigma**2 / (variance + sigma**2)
    error = abs(losses.mean().item() - truth) / (losses.std().item() / n**0.5)
    assert error < 4.5
    wrong = losses * 1.05  # negative control: 5 % off is seen
    assert abs(wrong.mean().item() - truth) / (losses.std().item() / n**0.5) > 4.5


def test_the_weights_are_those_of_the_papers():
    """lambda(sigma) 1/2 |s + (x - x0)/sigma²|² with lambda = sigma² is |D - x0|² / (2 sigma²);
    Karras et al. 2022, Table 1.
    """
    sigma = torch.tensor([0.01, 0.5, 3.0], dtype=torch.float64)
    assert torch.allclose(WEIGHTS["ncsn"](sigma, 0.5) * sigma**4, sigma**2 / 2)
    assert torch.allclose(WEIGHTS["edm"](sigma, 0.5), 1 / sigma**2 + 1 / 0.25)


@pytest.mark.parametrize("sigma_rel", [0.05, 0.075, 0.1, 0.2])
def test_power_profile_has_the_width_it_claims(sigma_rel):
    """Relative standard deviation of the weights' distribution over time, against the profile's own
    name (Karras et al. 2024, Eq. 9).
    """
    network = torch.nn.Linear(1, 1, bias=False)
    steps, batch = 4000, 1
    ema = EMA(network, "power", sigma_rel)
    share = torch.zeros(steps, dtype=torch.float64)
    for t in range(1, steps + 1):
        beta = ema.decay(t * batch, batch)
        share[: t - 1] *= beta
        share[t - 1] = 1 - beta
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    mean = (share * time).sum()
    width = ((share * (time - mean) ** 2).sum()).sqrt()
    assert share.sum() == pytest.approx(1.0, abs=1e-9)
    assert width.item() == pytest.approx(sigma_rel, rel=5e-3)
    assert gamma_of(sigma_rel) > 0


def test_ema_is_the_weighted_sum_of_the_live_weights():
    network = torch.nn.Linear(2, 1, bias=False).double()
    ema = EMA(network, "halflife", 100.0, warmup=0.0)
    start = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.fill_(3.0)
    for step in range(1, 11):
        ema.update(network, step * 10, 10)
    assert torch.allclose(ema.weights["weight"], 3.0 + (start - 3.0) * 0.5)
    assert ema.initial_share == pytest.approx(0.5)
    assert torch.equal(network.weight.detach(), torch.full_like(start, 3.0))


def test_time_becomes_images_once():
    budget = Budget(0, 100.0)
    elapsed, images = 30.0, 0  # compiling took 30 s
    while not budget.images:
        images += 100
        budget.observe(images, elapsed)
        elapsed += 1.0
    first = budget.images
    assert 5_500 < first < 7_000  # 100 images/s over what is left of 100 s
    budget.observe(images + 100, elapsed + 500)
    assert budget.images == first
    assert budget.over(first, 50.0) == "image budget reached"
    assert "machine slowed down" in budget.over(first // 2, 100.0)
    assert budget.over(first - 1, 100.0) == "time budget reached"
    assert budget.over(first - 1, 99.0) == ""


def test_long_steps_end_about_the_clock():
    """Steps of 14 s and a budget of 100: at 86 s another one is begun, at 94 s not, and nobody is
    told that the machine slowed down.
    """
    budget = Budget(0, 100.0)
    for step in range(6):
        budget.observe(64 * (step + 1), 10.0 + 14.0 * step)
    assert budget.images
    assert budget.over(384, 86.0) == ""
    assert budget.over(384, 94.0) == "time budget reached"


def untrained(folder: Path) -> Trainer:
    """An untrained perceptron on the ring, ready to be looked at."""
    config = small(6400)
    collection = load(config.data.source)
    trainer = Trainer(
        settle(config, collection.event_shape), collection, Run(folder), lambda _: None
    )
    trainer.place(None)
    return trainer


@pytest.mark.parametrize(("final", "looks"), [(False, 1), (True, 13)])
def test_a_look_at_a_slow_model_takes_no_longer_than_it_may(final, looks, tmp_path, monkeypatch):
    """At 0.1 s an evaluation: all there is without a limit; within 30 s at most 300 evaluations;
    within 1 s nothing on the way, and at the end
    two events at each level and one sample."""
    monkeypatch.setattr("scorefield.training.look.evaluation_seconds", lambda trainer: 0.1)
    trainer = untrained(tmp_path)
    evaluated = 0

    def count(module, inputs) -> None:
        nonlocal evaluated
        evaluated += len(inputs[0])

    trainer.shadow.network.register_forward_pre_hook(count)
    events = min(512, len(trainer.held_index))
    for allowed, least, most in [
        (math.inf, events * looks + 500 * 23, events * looks + 500 * 24),
        (30.0, 200, 300),
        (1.0, 2 * looks + 23 if final else 0, 2 * looks + 24 if final else 0),
    ]:
        evaluated = 0
        look(trainer, 0.0, allowed, final)
        assert least <= evaluated <= most, allowed
    records = [r for r in Run(tmp_path).records() if "held_out" in r]
    assert records[0]["held_out_events"] == events
    assert len(records) == (3 if final else 2)


def test_training_bounds_all_its_looks(tmp_path, monkeypatch):
    """A run of 3,840 images looks three times on the way, at most 0.3 % of the time it can take
    each, and once at the end, 5 s or 3 % of it.
    """
    allowed: list[tuple[float, bool]] = []
    monkeypatch.setattr(
        loop,
        "look",
        lambda trainer, elapsed, seconds, final=False: allowed.append((seconds, final)) or {},
    )
    summary = train(small(64 * 60), tmp_path)
    assert [final for _, final in allowed] == [False, False, False, True]
    assert all(
        0 < share <= 0.003 * 11 * summary.seconds for share, _ in allowed[:3]
    )  # judged at a tenth of the images at the earliest
    assert allowed[-1][0] == pytest.approx(max(5.0, 0.03 * summary.seconds), rel=0.1)


def test_seconds_of_an_evaluation_are_measured(tmp_path):
    trainer = untrained(tmp_path)
    trainer.shadow.network.register_forward_pre_hook(
        lambda module, inputs: time.sleep(0.002 * len(inputs[0]))
    )
    assert 0.002 <= evaluation_seconds(trainer) < 0.02


def test_learning_rate_warms_up_and_decays():
    assert learning_rate(1.0, 0, 100, "cosine", 0.0) == pytest.approx(0.01)
    assert learning_rate(1.0, 1000, 100, "cosine", 0.5) == pytest.approx(0.5)
    assert learning_rate(1.0, 1000, 100, "linear", 0.75) == pytest.approx(0.25)
    assert learning_rate(1.0, 1000, 0, "constant", 1.0) == 1.0


@pytest.mark.parametrize(
    "law",
    [
        LogNormal(-1.2, 1.2, 0.002, 80.0),
        LogUniform(0.01, 50.0),
        Levels(tuple(geometric(1.0, 0.01, 10).tolist())),
    ],
)
def test_laws_of_sigma(law):
    """Quantiles of a fine grid reproduce mean and standard deviation of ln sigma; all values lie in
    the range.
    """
    n = 200_000
    sigma = law.quantile((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    log = sigma.log()
    if isinstance(law, LogNormal):
        assert log.mean().item() == pytest.approx(-1.2, abs=0.01)
        assert log.std().item() == pytest.approx(1.2, abs=0.01)
    elif isinstance(law, LogUniform):
        assert log.mean().item() == pytest.approx((math.log(0.01) + math.log(50)) / 2, abs=1e-4)
        assert log.std().item() == pytest.approx(math.log(5000) / math.sqrt(12), rel=1e-3)
    else:
        values, counts = sigma.unique(return_counts=True)
        assert len(values) == 10
        assert counts.tolist() == [n // 10] * 10
    u = stratified(torch.rand(64, dtype=torch.float64))
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.allclose(u.diff(), torch.full((63,), 1 / 64, dtype=torch.float64))


def test_training_on_a_table_with_a_constant_column(tmp_path):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(500, 3, generator=g)
    x[:, 1] = 7.125
    said: list[str] = []
    fit(
        x,
        tmp_path / "run",
        images=2048,
        settings={"execution.threads": 1},
        hooks=Hooks(on_notice=said.append),
    )
    assert any("column 1" in s for s in said)
    from scorefield import sample

    y = sample(checkpoint.load(tmp_path / "run"), count=50, nfe=9)
    assert (y[:, 1] == 7.125).all()
    assert y[:, 0].std() > 0


@pytest.mark.parametrize("event", [(1, 9, 7), (3, 12, 12), (2, 40), (1, 6, 7, 8)])
def test_any_event_trains_through_the_same_code(event, tmp_path):
    """Signals, images of odd sizes and channels, volumes: loss falls below that of the untrained
    network (weight edm: 1 at the start).
    """
    g = torch.Generator().manual_seed(0)
    base = torch.randn(event, generator=g)
    x = base + 0.1 * torch.randn(256, *event, generator=g)
    options = {
        "optim.batch": 32,
        "execution.compile": "off",
        "execution.threads": 1,
        "network.options.widths": "[16,16]",
    }
    extra = {"data.channels": event[0]} if len(event) == 2 else {}
    summary = fit(
        x,
        tmp_path / "run",
        images=32 * 40,
        settings=options | extra | {"optim.lr": 1e-2, "network.options.depths": "[1,1]"},
    )
    assert summary.held_out["sigma"]
    losses = [r["held_out"] for r in Run(tmp_path / "run").records() if "held_out" in r]
    assert losses[-1] < 0.7


def test_progress_is_told_from_any_thread(tmp_path):
    """`fit` in a thread other than the main one watches no signals and still ends."""
    done = []
    thread = threading.Thread(target=lambda: done.append(train(small(640), tmp_path / "run")))
    thread.start()
    thread.join(60)
    assert done[0].images == 640


# -- configuration


def test_overrides_are_read_as_their_types():
    config = override(
        PRESETS["fast"],
        [
            "optim.lr=3e-4",
            "data.flip=true",
            "images=1M",
            "ema.profiles=0.05,0.2",
            "network.options.widths=[8,8]",
        ],
    )
    assert (config.optim.lr, config.data.flip, config.images) == (3e-4, True, 1_000_000)
    assert config.ema.profiles == (0.05, 0.2)
    assert config.network.options == {"widths": [8, 8]}
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lrr=1", "did you mean 'lr'"),
        ("optim.lr=fast", "takes float"),
        ("optim", "NAME=VALUE"),
        ("optim=3", "group of settings"),
        ("optim.batch=two", "takes int"),
    ],
)
def test_bad_overrides_are_worded(text, message):
    with pytest.raises(InputError, match=message):
        override(PRESETS["fast"], [text])


@pytest.mark.parametrize(
    "text",
    [
        "images=-1",
        "optim.lr=0",
        "optim.batch=-1",
        "noise.sigma_min=90",
        "execution.precision=half",
        "data.held_out=0.9",
        "ema.kind=none",
    ],
)
def test_values_out_of_range_are_refused(text):
    with pytest.raises(InputError):
        validate(override(PRESETS["fast"], [text]))


def test_numbers_with_units():
    assert (count("250k"), count("1.5M"), count("7")) == (250_000, 1_500_000, 7)
    assert (seconds("90"), seconds("5m"), seconds("1.5h")) == (90.0, 300.0, 5400.0)
    for bad in ("-5m", "0", "soon", "inf"):
        with pytest.raises(InputError):
            seconds(bad)


def test_presets_are_valid_and_settle():
    for name, config in PRESETS.items():
        assert config.preset == name
        settled = settle(validate(config), (1, 28, 28) if name != "mlp" else (2,))
        assert settled.network.name != "auto"
        assert settled.optim.batch > 0


def test_muon_s_direction_is_semi_orthogonal():
    """Singular values of the orthogonalised matrix lie near 1 whatever those of the matrix are; a
    plain scaled gradient's do not.
    """
    g = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 24, 60, generator=g) @ torch.diag(torch.logspace(0, -1.5, 60))
    found = torch.linalg.svdvals(orthogonalise(matrices))
    assert found.min() > 0.5
    assert found.max() < 1.3
    plain = torch.linalg.svdvals(matrices / matrices.norm(dim=(-2, -1), keepdim=True))
    assert plain.min() < 0.1
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    alignment = (orthogonalise(matrices) * (u @ v)).sum((-2, -1)) / 24
    assert (alignment > 0.8).all()


@pytest.mark.parametrize("shape", [(2, 8, 20), (2, 20, 8), (1, 6, 6)])
def test_muon_s_iteration_on_the_gram_matrix_is_the_plain_one(shape):
    """The same four steps on the matrix itself, as Jordan et al. 2024 print them; float64, and
    nearly so in float32. A gradient's scale is not seen,
    and where there is none the step is none."""
    m = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    a, b, c = NEWTON_SCHULZ
    x = (
        m
        / torch.linalg.matrix_norm(
            m @ m.mT if shape[1] <= shape[2] else m.mT @ m, keepdim=True
        ).sqrt()
    )
    for _ in range(4):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    assert torch.allclose(orthogonalise(m), x, rtol=0, atol=1e-12)
    assert torch.allclose(orthogonalise(m.float()).double(), x, rtol=0, atol=1e-3)
    assert torch.allclose(orthogonalise(1e-12 * m.float()).double(), x, rtol=0, atol=1e-3)
    assert (orthogonalise(0 * m.float()) == 0).all()


def test_muon_s_adamw_is_torch_s():
    """The groups Muon leaves to AdamW take the steps of torch.optim.AdamW."""
    start, other = torch.nn.Linear(4, 3).double(), torch.nn.Linear(4, 3).double()
    other.load_state_dict(start.state_dict())
    ours = Muon(
        [{"params": list(start.parameters()), "adamw": True}], 0.01, 0.95, (0.9, 0.99), 1e-8, 0.1
    )
    theirs = torch.optim.AdamW(other.parameters(), 0.01, (0.9, 0.99), 1e-8, 0.1)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double()
    for _ in range(5):
        for network, optimiser in ((start, ours), (other, theirs)):
            optimiser.zero_grad()
            network(x).square().sum().backward()
            optimiser.step()
    assert all(
        torch.allclose(a, b, rtol=1e-12)
        for a, b in zip(start.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", [n for n in OPTIMISERS if n != "adamw"])
def test_every_optimiser_goes_on_bitwise(name, tmp_path):
    """State saved after 23 steps and loaded into a new trainer gives the weights of 40 steps in one
    go.
    """
    from scorefield.data import load

    def trainer() -> Trainer:
        settings = [
            f"optim.name={name}",
            "optim.batch=16",
            "network.options.widths=[8,16]",
            "network.options.depths=[1,1]",
            "execution.compile=off",
            # `auto` is measured, and a loaded machine may measure two trainers differently; a run
            # keeps its choice
            "execution.precision=float32",
        ]
        new = Trainer(
            settle(
                override(dataclasses.replace(preset("fast"), images=16 * 40), settings), (1, 8, 8)
            ),
            load("digits"),
            Run(tmp_path),
            print,
        )
        new.place(None)
        return new

    straight, first, second = trainer(), trainer(), trainer()
    for _ in range(40):
        straight.step()
    for _ in range(23):
        first.step()
    checkpoint.save_state(tmp_path / "state", first.images, first.state(0.0))
    state, _ = checkpoint.load_state(tmp_path / "state")
    assert state is not None
    second.restore(state)
    for _ in range(17):
        second.step()
    assert all(
        torch.equal(a, b)
        for a, b in zip(straight.network.parameters(), second.network.parameters(), strict=True)
    )


def test_losses_per_level_are_pooled_right(tmp_path):
    """First against last tenth from metrics.jsonl, on losses whose law is known: 1 at first and 0.9
    at last, spread 0.5.
    """
    from bench.levels import levels

    g = torch.Generator().manual_seed(0)
    run = Run(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    for k in range(100):
        losses = 1.0 - 0.1 * (k >= 50) + 0.5 * torch.randn(2, 64, generator=g).double()
        se = (losses.var(1, unbiased=False) / 64).sqrt()
        run.log(
            {
                "images": 100 * (k + 1),
                "by_sigma": {
                    "sigma": [0.1, 1.0],
                    "count": [64, 64],
                    "loss": losses.mean(1).tolist(),
                    "se": se.tolist(),
                },
            }
        )
    for row in levels(tmp_path):
        expected = 0.5 / 640**0.5
        assert row["first_se"] == pytest.approx(expected, rel=0.15)
        assert abs(row["first"] - 1.0) < 4.5 * expected
        assert abs(row["last"] - 0.9) < 4.5 * expected
        assert row["z"] == pytest.approx(
            (row["first"] - row["last"]) / (row["first_se"] ** 2 + row["last_se"] ** 2) ** 0.5
        )


FAULTS = """
import resource
import torch
from scorefield.execution import keep_memory

keep_memory()

def churn():
    held = [torch.ones(5_000_000) for _ in range(8)]  # 160 MB in blocks of 20: more at the heap's end than glibc keeps by itself

for _ in range(3):
    churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="memory is kept through glibc's mallopt"
)
def test_freed_memory_is_kept_unless_the_user_set_the_allocator() -> None:
    """Page faults of a loop that frees and takes 160 MB: none once kept, as many as ever where the
    user asked for an allocator that gives all back.
    """

    def faults(**extra: str) -> int:
        clean = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD"))
        }
        done = subprocess.run(
            [sys.executable, "-c", FAULTS],
            env=clean | extra,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    assert faults() < 100 < 1000 < faults(MALLOC_TRIM_THRESHOLD_="131072")
