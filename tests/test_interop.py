"""Published checkpoints: the originals' outputs through the importer, and wrong files refused."""

import hashlib
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import scorefield as sf
from scorefield import cli
from scorefield.checkpoint import CARD_VERSION, load, save_model
from scorefield.errors import InputError
from scorefield.interop import import_checkpoint
from scorefield.networks import build
from scorefield.noise import geometric
from scorefield.units import Quantisation

HERE = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared" / "vectors"
NAMES = (
    "ncsn_28x28x1",
    "ncsn_32x32x3",
    "ncsnv2_32x32x3",
    "ncsnv2_deeper_64x64x3",
    "ncsnv2_deepest_64x64x3",
)


def vector(name: str) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """Tensors and metadata of a published network's vector, from beside the tests or from beside
    the checkout.
    """
    found = [
        folder / f"{name}.safetensors"
        for folder in (HERE, SHARED)
        if (folder / f"{name}.safetensors").exists()
    ]
    if not found:
        pytest.skip(
            f"the vector {name} is not here: it is kept beside the checkout, in shared/vectors"
        )
    with safe_open(str(found[0]), "pt") as archive:
        names = archive.keys()
        tensors = {name: archive.get_tensor(name) for name in names}
        return tensors, {k: json.loads(v) for k, v in archive.metadata().items()}


def adam_state(state: dict[str, torch.Tensor]) -> dict[str, object]:
    """What an optimiser saves beside the weights."""
    moments = {
        i: {"step": 7, "exp_avg": v, "exp_avg_sq": v.square()} for i, v in enumerate(state.values())
    }
    return {
        "state": moments,
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(len(state)))}],
    }


def save_original(
    path: Path, state: dict[str, torch.Tensor], family: str, ema: bool = False, **more: object
) -> Path:
    """`state` as the original code saves it: a list, with DataParallel's prefix; with `ema` the
    weights proper are in the last entry only.
    """
    weights = {
        f"module.{k}": v if k == "sigmas" or not ema else torch.zeros_like(v)
        for k, v in state.items()
    }
    entries = [weights, adam_state(state)] + ([300, 90_000] if family == "ncsnv2" else [])
    torch.save(entries + [{k: v for k, v in state.items() if k != "sigmas"}] * ema, path, **more)
    return path


def random_state(
    variant: str, event: tuple[int, ...], levels: int, width: int = 4
) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state = build("refinenet", event, variant=variant, width=width, levels=levels).state_dict()
    return state if variant == "ncsn" else state | {"sigmas": geometric(50, 0.01, levels).float()}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command line in this process -> (exit code, standard output, standard error)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorefield", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


@pytest.mark.parametrize("name", NAMES)
def test_outputs_of_the_originals(name, tmp_path, record_property):
    """max|error| / max|output| <= 1e-5 in float32, through a .pth of the original form, the
    averaged weights where there are some.
    """
    tensors, facts = vector(name)
    state = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    family = str(facts["family"])
    path = save_original(tmp_path / "checkpoint.pth", state, family, ema=family == "ncsnv2")
    found = import_checkpoint(path, family, tmp_path / "run", image_size=facts["image_size"])
    assert (found.levels, found.width, found.ema) == (
        facts["num_classes"],
        facts["ngf"],
        family == "ncsnv2",
    )

    model = sf.load(tmp_path / "run")
    x, level, output = tensors["input.x"], tensors["input.level"], tensors["output"]
    for sigma in (
        model.ladder[level],
        model.ladder[level].float(),
        geometric(found.sigma_begin, found.sigma_end, found.levels)[level],
    ):
        error = float((model.score(x, sigma) - output).abs().max() / output.abs().max())
        record_property(name, error)
        assert error <= 1e-5
    assert torch.equal(model.units.to_data(x), x)
    wrong = model.score(
        x, model.ladder[(level + 1) % len(model.ladder)]
    )  # the control: another level is seen
    assert float((wrong - output).abs().max() / output.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("variant", "event", "levels"),
    [
        ("ncsn", (2, 20, 12), 7),
        ("ncsnv2", (1, 9, 9), 3),
        ("deeper", (3, 8, 8), 232),
        ("deepest", (1, 16, 16), 4),
    ],
)
def test_sizes_are_read_off_shapes(variant, event, levels, tmp_path):
    state = random_state(variant, event, levels)
    family = "ncsn" if variant == "ncsn" else "ncsnv2"
    path = save_original(
        tmp_path / "c.pth", state, family, _use_new_zipfile_serialization=False
    )  # as torch before 1.6 wrote them
    found = import_checkpoint(path, family, tmp_path / "m.safetensors", image_size=event[1:])
    assert (found.variant, found.event_shape, found.levels, found.width, found.ema) == (
        variant,
        event,
        levels,
        4,
        False,
    )
    assert found.round_trip == 0 and found.tensors == len(state) - (family == "ncsnv2")
    model = load(tmp_path / "m.safetensors")
    assert set(model.network.state_dict()) == set(state) - {"sigmas"}
    assert model.card["version"] == CARD_VERSION
    assert model.card["conditions"] == {}
    assert model.units.quantisation == Quantisation(256, dequantised=family == "ncsn")
    assert model.card["imported"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    ends = (1.0, 0.01) if family == "ncsn" else (50.0, 0.01)
    for end in ends:  # the ends as people write them, however the buffer rounded them
        model.score(torch.rand(1, *event), end)


@pytest.mark.parametrize(("logit", "rescaled"), [(True, False), (False, True)])
def test_units_of_transformed_models(logit, rescaled, tmp_path):
    state = random_state("ncsn", (1, 8, 8), 4)
    path = save_original(tmp_path / "c.pth", state, "ncsn")
    import_checkpoint(
        path,
        "ncsn",
        tmp_path,
        sigma_begin=2,
        sigma_end=0.1,
        image_size=8,
        logit_transform=logit,
        rescaled=rescaled,
    )
    model = sf.load(tmp_path)
    assert (model.ladder[0], model.ladder[-1]) == (2, 0.1)
    image = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    inside = model.units.to_model(image)
    u = 1e-6 + (1 - 2e-6) * image
    torch.testing.assert_close(
        inside, u.log() - (1 - u).log() if logit else 2 * image - 1, rtol=1e-9, atol=1e-9
    )
    bare = build(
        "refinenet", (1, 8, 8), variant="ncsn", width=4, levels=4, rescaled=True
    )  # the network takes what it is given as it is
    bare.load_state_dict(state)
    x = inside.float()
    assert torch.equal(model.score(x, model.ladder[2]), bare(x, torch.tensor([2, 2]), None))


def test_sampling_an_imported_model(tmp_path, command):
    path = save_original(tmp_path / "c.pth", random_state("ncsn", (1, 8, 8), 3), "ncsn")
    code, out, err = command(
        "import", path, "--family", "ncsn", "--out", tmp_path / "run", "--image-size", "8x8"
    )
    assert code == 0, err
    assert "all" in out and "mapped" in out and "3 noise levels, 1 to 0.01" in out
    assert command("info", tmp_path / "run")[0] == 0
    code, _, err = command(
        "sample",
        tmp_path / "run",
        "--count",
        2,
        "--steps-per-level",
        2,
        "--out",
        tmp_path / "out",
        "--threads",
        1,
    )
    assert code == 0, err
    assert np.load(tmp_path / "out" / "samples.npz")["samples"].shape == (2, 1, 8, 8)


class Malice:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused(zipped, tmp_path, command):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    entries = [
        {f"module.{k}": v for k, v in random_state("ncsn", (1, 8, 8), 2).items()},
        Malice(mark),
    ]
    torch.save(entries, path, _use_new_zipfile_serialization=zipped)
    code, _, err = command("import", path, "--family", "ncsn", "--out", tmp_path / "run")
    assert code == 2 and "refused" in err and "system" in err and "Traceback" not in err
    assert not mark.exists() and not (tmp_path / "run").exists()
    path.write_bytes(pickle.dumps(Malice(mark)))  # a bare pickle
    code, _, err = command("import", path, "--family", "ncsn", "--out", tmp_path / "run")
    assert code == 2 and "refused" in err and not mark.exists()
    pickle.loads(path.read_bytes())  # the control: it does harm where it is loaded plainly
    assert mark.exists()


def test_files_that_are_no_checkpoints_are_refused(tmp_path, command):
    good = save_original(tmp_path / "good.pth", random_state("ncsnv2", (1, 8, 8), 3), "ncsnv2")
    whole = good.read_bytes()
    (tmp_path / "short.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.pth").write_text("not a checkpoint\n")
    flipped = bytearray(whole)
    flipped[100:200] = bytes(100)
    (tmp_path / "flipped.pth").write_bytes(flipped)
    (tmp_path / "noise.pth").write_bytes(np.random.default_rng(0).bytes(4096))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("a.txt", "hello")
    torch.save([1, 2], tmp_path / "numbers.pth")
    torch.save([{"weight": torch.zeros(3)}], tmp_path / "other.pth")
    torch.save([], tmp_path / "none.pth")
    names = [
        "short",
        "empty",
        "text",
        "flipped",
        "noise",
        "zip",
        "numbers",
        "other",
        "none",
        "absent",
    ]
    for name in names:
        code, _, err = command(
            "import", tmp_path / f"{name}.pth", "--family", "ncsnv2", "--out", tmp_path / "run"
        )
        assert code == 2 and err.startswith("error:") and "Traceback" not in err, (name, err)
        assert not (tmp_path / "run").exists(), name
    assert command("import", tmp_path, "--family", "ncsnv2", "--out", tmp_path / "run")[0] == 2


def test_every_name_must_map(tmp_path):
    state = random_state("ncsnv2", (1, 8, 8), 3)

    def attempt(
        changed: dict[str, torch.Tensor], words: str, family: str = "ncsnv2", **flags: object
    ) -> None:
        with pytest.raises(InputError, match=words):
            import_checkpoint(
                save_original(tmp_path / "c.pth", changed, family),
                family,
                tmp_path / "run",
                **flags,
            )
        assert not (tmp_path / "run").exists()

    attempt(
        state | {"res9.0.conv1.weight": torch.zeros(1)}, r"did not map \(1\): res9.0.conv1.weight"
    )
    attempt(
        {k: v for k, v in state.items() if k != "res2.1.conv2.bias"},
        r"missing \(1\): res2.1.conv2.bias",
    )
    attempt(
        state | {"end_conv.bias": torch.zeros(2)},
        r"other shape \(1\): end_conv.bias \(2,\) for \(1,\)",
    )
    attempt(
        state | {"end_conv.bias": torch.tensor([float("nan")])}, r"not finite \(1\): end_conv.bias"
    )
    attempt({k: v for k, v in state.items() if k != "sigmas"}, "no buffer `sigmas`")
    attempt(state, "sigma-begin 90 contradicts", sigma_begin=90.0)
    attempt(state, "sigma-end 0.1 contradicts", sigma_end=0.1)
    attempt(state, "not both", logit_transform=True, rescaled=True)
    attempt(state, "this is a checkpoint of ncsnv2", family="ncsn")
    attempt(state | {"sigmas": state["sigmas"].flip(0)}, "sigmas must decrease")
    attempt(state, "image_size", image_size=0)
    path = tmp_path / "ema.pth"
    torch.save(
        [state, adam_state(state), 1, 2, {"begin_conv.weight": state["begin_conv.weight"]}], path
    )
    with pytest.raises(InputError, match=r"averaged weights .* missing"):
        import_checkpoint(path, "ncsnv2", tmp_path / "run")


def test_flags_that_agree_with_the_buffer_pass_and_a_trained_model_is_kept(tmp_path):
    path = save_original(tmp_path / "c.pth", random_state("ncsnv2", (1, 8, 8), 3), "ncsnv2")
    for _ in range(2):  # an import may be repeated over itself
        found = import_checkpoint(
            path, "ncsnv2", tmp_path / "m.safetensors", sigma_begin=50, sigma_end=0.01, image_size=8
        )
    model = load(found.file)
    card = {k: v for k, v in model.card.items() if k != "imported"}
    save_model(found.file, model, card=card)
    with pytest.raises(InputError, match="holds a trained model"):
        import_checkpoint(path, "ncsnv2", found.file)
