"""Everything that touches the network lives on its device, shown without a GPU.

The tests run on a pretend CUDA device (`pretend_cuda`), whose tensors refuse to meet those of the
CPU. What is checked here is placement; values on a real GPU are not.
"""

import copy

import pytest
import torch

from pretend_cuda import CUDA, OnDevice, pretend_cuda
from scorefield import checkpoint, rng
from scorefield.errors import InputError
from scorefield.execution import Execution, check_device, choose
from scorefield.models import Guided, Preconditioned
from scorefield.networks import build
from scorefield.objectives import OBJECTIVES, Denoising, make_objective
from scorefield.sampling import sample
from scorefield.training import EMA, Batch, TrainState, fit, train_step

SETTINGS = {
    "network.options": {"widths": [8, 16], "depths": [1, 1]},
    "optim.batch": 16,
    "execution.compile": "off",
    "execution.precision": "float32",
    "execution.threads": 1,
}
DEVICE = Execution("cuda", "float32", channels_last=False, compile=False, threads=1)


@pytest.fixture
def cuda(monkeypatch):
    with pretend_cuda(monkeypatch):
        yield


def model(form: type[Preconditioned] = Preconditioned) -> Preconditioned:
    return form(build("mlp", (3,), width=8, depth=1), (3,))


def batch(device: str = "cpu", count: int = 6) -> Batch:
    keys = rng.keys(0, count)
    x0 = rng.normal(keys, rng.Stream.TOY, 0, (3,))
    return Batch(x0, torch.full((count,), 0.7), keys).to(device)


def state(objective: str = "denoising") -> TrainState:
    from scorefield.models import FORMS

    made = DEVICE.apply(model(FORMS["square" if objective == "energy" else "score"]))
    optimiser = torch.optim.AdamW(made.parameters(), 1e-2, fused=True)
    return TrainState(made, make_objective(objective), optimiser, [EMA(made.network)])


def test_device_refuses_tensors_of_the_cpu(cuda):
    """The negative control of this file: what CUDA refuses is refused here."""
    made = DEVICE.apply(model())
    with pytest.raises(RuntimeError, match="same device"):
        made.network(batch().x0, None, None)
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(3, device="cuda") + torch.ones(3)
    assert (torch.ones(3, device="cuda") + torch.tensor(1.0)).device == CUDA


def test_average_built_before_the_placement_is_refused(cuda):
    made = model()
    average = EMA(made.network)
    DEVICE.apply(made)
    with pytest.raises(RuntimeError, match="same device"):
        average.update(made.network, 10, 10)


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_steps_on_the_device(name, cuda):
    made = state(name)
    before = made.model.network.state_dict()["stem.weight"].cpu().clone()
    for _ in range(3):
        # A batch of the CPU is moved, and one of the device stays.
        result = train_step(made, batch("cuda" if made.images else "cpu"), clip=1.0, accumulate=2)
    assert result.applied
    assert result.losses.device == CUDA
    assert not torch.equal(made.model.network.state_dict()["stem.weight"].cpu(), before)
    assert made.averaged_model().denoise(batch("cuda").x0, 1.0).device == CUDA


def test_step_on_the_device_equals_the_step_on_the_cpu(cuda):
    """The pretend device computes on the CPU: the same batch gives the same weights, bitwise."""
    torch.manual_seed(0)
    there, here = model(), model()
    here.load_state_dict(copy.deepcopy(there.state_dict()))
    DEVICE.apply(there)
    for made in (there, here):
        optimiser = torch.optim.AdamW(made.parameters(), 1e-2, fused=True)
        train_step(TrainState(made, Denoising(), optimiser, [EMA(made.network)]), batch())
    for a, b in zip(there.parameters(), here.parameters(), strict=True):
        assert isinstance(a.detach(), OnDevice)
        assert torch.equal(a.detach().cpu(), b.detach())


@pytest.mark.parametrize("condition", [None, "class"])
def test_training_evaluation_save_and_resume_on_the_device(condition, tmp_path, cuda):
    """A run with Muon, averages, snapshots, previews and checkpoints; then its model sampled."""
    budget = {"images": 16 * 8, "condition": condition, "settings": SETTINGS}
    summary = fit("digits", tmp_path / "run", **budget)
    assert any("running on cuda, float32" in text for text in summary.notices)
    assert len(summary.held_out["sigma"]) == 12
    assert (tmp_path / "run" / "previews" / f"{16 * 8:09d}.png").exists()
    stored, _ = checkpoint.load_state(tmp_path / "run" / "state")
    assert stored is not None
    assert all(not isinstance(value, OnDevice) for value in stored["network"].values())
    assert fit("digits", tmp_path / "run", **budget).reason.startswith("already complete")
    loaded = checkpoint.load(tmp_path / "run", device="cuda")
    assert next(loaded.parameters()).device == CUDA
    given = None if condition is None else {"class": [3, 5]}
    drawn = sample(loaded, 2, nfe=3, sampler="heun", condition=given)
    assert isinstance(drawn, torch.Tensor)
    assert torch.isfinite(drawn.cpu()).all()


def test_device_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, message in [("tpu9", "no device"), ("mps", "cpu or cuda"), ("cuda", "no CUDA")]:
        with pytest.raises(InputError, match=message):
            check_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert check_device(None) == "cuda"
    assert check_device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="there are 2"):
        check_device("cuda:2")


def test_apply_sets_every_leaf_and_nothing_of_the_process():
    inner, weak = model(), model()
    threads = torch.get_num_threads()
    guided = Guided(inner, 1.5, weak=weak)
    Execution("cpu", "bfloat16", False, False, threads + 1).apply(guided)
    assert [leaf.autocast for leaf in guided.leaves()] == [torch.bfloat16] * 2
    assert torch.get_num_threads() == threads
    choose(precision="float32", threads=1)
    assert torch.get_num_threads() == threads
