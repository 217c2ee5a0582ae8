"""compile=auto on a machine that cannot compile: one notice, and eager; only compile=on fails."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from scorefield import networks
from scorefield.compilation import compile_network, reason
from scorefield.config import Request
from scorefield.errors import InputError
from scorefield.execution import Execution
from scorefield.models import Preconditioned
from scorefield.objectives import Denoising
from scorefield.runs import Run, read_lines
from scorefield.sampling import sample
from scorefield.training import Batch, Hooks, TrainState, train, train_step
from small_runs import BATCH, small

COMPILED = Execution("cpu", "float32", False, True, 1)
EAGER = Execution("cpu", "float32", False, False, 1)


class BackwardFails(torch.autograd.Function):
    """The identity, whose backward pass raises as a compiler does."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError("C++ compile error\n\nOutput:\nx.cpp:1: fatal error: no")


def pretend_compiler(monkeypatch, fails: str) -> list[str]:
    """Module.compile marks a call that fails where `fails` says; returns a list of its calls."""
    calls: list[str] = []

    def compile(self: nn.Module, **options: object) -> None:
        calls.append("compile")
        if fails == "import":
            raise PermissionError(13, "Permission denied", "/cache")

        def call(*args, **kwargs):
            calls.append("call")
            if fails == "forward":
                raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")
            out = self.forward(*args, **kwargs)
            return BackwardFails.apply(out) if fails == "backward" and out.requires_grad else out

        self._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", compile)
    return calls


def model() -> Preconditioned:
    torch.manual_seed(0)
    return Preconditioned(networks.build("mlp", (2,), width=8), (2,))


def step(made: Preconditioned) -> dict[str, torch.Tensor]:
    """Weights after two training steps."""
    state = TrainState(made, Denoising(), torch.optim.Adam(made.parameters()))
    g = torch.Generator().manual_seed(0)
    for _ in range(2):
        x0, keys = torch.randn(16, 2, generator=g), torch.arange(32).reshape(16, 2)
        train_step(state, Batch(x0, torch.full((16,), 0.5), keys), 1e-2)
    return made.network.state_dict()


@pytest.mark.parametrize("fails", ["import", "forward", "backward"])
def test_training_step_is_the_eager_one_where_compiling_fails(fails, monkeypatch):
    """One notice, in the first step; the result is that of eager execution, bitwise."""
    expected = step(EAGER.apply(model()))
    calls, said = pretend_compiler(monkeypatch, fails), []
    made = COMPILED.apply(model(), notice=said.append)
    found = step(made)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    (notice,) = said
    assert notice.startswith("compiling failed, so the network runs eagerly, slower: ")
    assert made.compiled is False and made.network._compiled_call_impl is None
    assert calls.count("call") == (0 if fails == "import" else 1)


@pytest.mark.parametrize("fails", ["import", "forward", "backward"])
def test_required_compilation_that_fails_is_an_error_in_words(fails, monkeypatch):
    pretend_compiler(monkeypatch, fails)
    with pytest.raises(InputError, match=r"compile=on was requested, and compiling failed: .*off"):
        step(COMPILED.apply(model(), required=True))


def test_working_compiler_stays_in_use(monkeypatch):
    """The negative control: no notice, every call is the compiled one."""
    calls = pretend_compiler(monkeypatch, "never")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = COMPILED.apply(model())
        step(made)
    assert made.compiled and calls.count("call") == 2


def test_error_of_the_network_itself_is_not_taken_for_the_compilers(monkeypatch):
    """It recurs in eager execution, is raised, and the network stays compiled."""

    class Broken(nn.Module):
        def forward(self, x, noise_input, condition=None):
            raise ValueError("own error")

    pretend_compiler(monkeypatch, "forward")
    network, said = Broken(), []
    leaf = model()
    compile_network(leaf, network, notice=said.append)
    with pytest.raises(ValueError, match="own error"):
        network(torch.zeros(1, 2), torch.zeros(1))
    assert said == [] and leaf.compiled


def test_memory_that_runs_out_is_not_taken_for_the_compilers(monkeypatch):
    network, said, leaf = nn.Linear(2, 2), [], model()
    pretend_compiler(monkeypatch, "never")
    compile_network(leaf, network, notice=said.append)

    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    network._compiled_call_impl.call = full  # type: ignore[union-attr]
    with pytest.raises(torch.OutOfMemoryError):
        network(torch.zeros(1, 2))
    assert said == []


def test_samples_are_the_eager_ones_where_compiling_fails(monkeypatch):
    expected = sample(EAGER.apply(model().eval()), 5, nfe=5)
    pretend_compiler(monkeypatch, "forward")
    with pytest.warns(RuntimeWarning, match="runs eagerly, slower: InvalidCxxCompiler"):
        found = sample(COMPILED.apply(model().eval()), 5, nfe=5)
    assert torch.equal(found, expected)


@pytest.mark.training
def test_run_records_that_compiling_failed_and_is_the_eager_run(tmp_path, monkeypatch):
    """compile left open and worth its time: the record has eager execution from the start on."""
    monkeypatch.setattr("scorefield.execution.COMPILE_SECONDS", 0.0)
    monkeypatch.setattr("scorefield.execution.COMPILE_SECONDS_PER_LAYER", 0.0)
    values = small(2 * BATCH).to_dict(explicit=True)
    values["network"] = {"name": "unet", "options": {"widths": [8], "depths": [1]}}
    values["execution"]["compile"] = None
    request, said = Request.from_dict(values), []
    pretend_compiler(monkeypatch, "forward")
    train(request, tmp_path / "run", hooks=Hooks(on_notice=said.append))
    assert len([text for text in said if "compiling failed" in text]) == 1
    lines = [r for r in read_lines(Run(tmp_path / "run").schedule) if r["kind"] == "execution"]
    assert [(r["images"], r["execution"]["compile"]) for r in lines] == [(0, True), (0, False)]
    values["execution"]["compile"] = "on"
    with pytest.raises(InputError, match="compile=on"):
        train(Request.from_dict(values), tmp_path / "other")


def test_reason_is_the_line_that_names_the_fault():
    error = RuntimeError("backend failed")
    error.__cause__ = RuntimeError("C++ compile error\n\ng++ -O3\nx.h:1: fatal error: gone")
    assert reason(error) == "x.h:1: fatal error: gone"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 500))) == 160


# -- real failures, each in a process of its own

SCRIPT = """
import sys, torch
from scorefield import networks
from scorefield.execution import Execution, choose
from scorefield.models import Preconditioned
network = networks.build("unet", (1, 8, 8), widths=[8], depths=[1])
required = sys.argv[1] == "on"
execution = choose(precision="float32", compile="on" if required else None, planned=1e6)
model = Preconditioned(network, (1, 8, 8))
execution.apply(model, required, lambda text: print("notice:", text))
optimiser = torch.optim.Adam(model.parameters())
model.denoise(torch.zeros(4, 1, 8, 8), torch.ones(4)).square().sum().backward()
optimiser.step()
print("done", execution.notice, model.compiled)
"""


def failing_compiler(folder: Path, probe: bool) -> str:
    """A g++ that fails always, or (probe=False) only when it compiles something with Python.h."""
    path = folder / "g++"
    body = 'case "$*" in *--version*) exec /usr/bin/env g++ "$@";; esac\n' if not probe else ""
    path.write_text(
        f'#!/bin/sh\n{body}echo "x.cpp:1:10: fatal error: Python.h: gone" >&2\nexit 1\n'
    )
    path.chmod(0o755)
    return str(path)


def run_script(mode: str, tmp_path: Path, **environment: str) -> tuple[int, str]:
    base = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "c")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, mode],
        env=base | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def environment(case: str, folder: Path) -> dict[str, str]:
    """Variables with which compiling cannot work."""
    folder.mkdir()
    if case == "no compiler":
        return {"PATH": str(folder), "CXX": ""}
    if case == "cache that cannot be written":
        (folder / "file").write_text("in the way")
        return {"TORCHINDUCTOR_CACHE_DIR": str(folder / "file" / "c")}
    return {"CXX": failing_compiler(folder, probe=case == "compiler that always fails")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        "no compiler",
        "compiler that always fails",
        "compiler without Python's headers",
        "cache that cannot be written",
    ],
)
def test_machine_that_cannot_compile_runs_eagerly_with_one_line(case, tmp_path):
    """compile=auto succeeds with a reason; compile=on fails in words, if it cannot compile."""
    code, output = run_script("auto", tmp_path, **environment(case, tmp_path / "auto"))
    assert code == 0 and "done" in output, output
    notices = [line for line in output.splitlines() if line.startswith("notice:")]
    if case == "no compiler":
        assert notices == [] and "done no C++ compiler found: eager, slower False" in output
    elif case == "cache that cannot be written":  # another folder is taken, which compiles
        assert "kept for this process only" in notices[0] and "True" in output
    else:
        assert len(notices) == 1 and "runs eagerly, slower" in notices[0], output
    if case != "cache that cannot be written":
        code, output = run_script("on", tmp_path, **environment(case, tmp_path / "on"))
        assert code == 1 and "InputError" in output and "compile=on was requested" in output
