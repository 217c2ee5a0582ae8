"""`adapt` on real operators of deepinv and pylops: they stay what they are, and are operators here.

Truths: the other library's own product, element by element; the adjoint identity; the dense matrix
of the operator. The libraries are not dependencies: `make bench-env` installs them, and
`.venv-bench/bin/python -m pytest tests/test_adapted_operators.py` runs these tests.
"""

import numpy as np
import pytest
import torch

import scorefield as sf
from scorefield.errors import InputError
from scorefield.exact import Gaussian
from scorefield.inverse.operators import Operator
from scorefield.inverse.operators.adapted import adapt


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(operator: Operator, event_shape):
    """The operator's matrix (m, d), column by column."""
    count = int(np.prod(event_shape))
    unit = torch.eye(count, dtype=torch.float64).reshape(count, *event_shape)
    return operator.A(unit).flatten(1).T


def check_linear_operator(operator: Operator, event_shape, tolerance=1e-9, penrose=1e-6):
    """Shape, linearity, adjoint, gradient and pseudo-inverse.

    `tolerance` is for values, `penrose` for the largest error of A A^+ A relative to A.
    """
    x, v = normal(3, *event_shape), normal(3, *event_shape, seed=1)
    shape = operator.measurement_shape(event_shape)
    y = normal(3, *shape, seed=2)
    assert operator.linear
    assert operator.A(x).shape == y.shape
    assert operator.A_adjoint(y).shape == x.shape
    assert operator.A(x).dtype == torch.float64
    assert operator.A(x.float()).dtype == torch.float32
    assert torch.allclose(
        operator.A(2 * x - 3 * v), 2 * operator.A(x) - 3 * operator.A(v), atol=tolerance
    )
    inner = (operator.A(x) * y).flatten(1).sum(1), (x * operator.A_adjoint(y)).flatten(1).sum(1)
    assert torch.allclose(*inner, atol=100 * tolerance)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((operator.A(leaf) * y).sum(), leaf)
    assert torch.allclose(slope, operator.A_adjoint(y), atol=100 * tolerance)
    image = operator.A(x)
    again = operator.A(operator.A_pinv(image, event_shape))
    assert float((again - image).abs().max()) < penrose * float(image.abs().max())
    alone = torch.cat([operator.A(row[None]) for row in x])
    assert torch.allclose(operator.A(x), alone, atol=tolerance)


# -- deepinv


def deepinv_physics(name):
    """A physics of deepinv and the shape of its images."""
    physics = pytest.importorskip("deepinv.physics")
    kernel = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 0.0], [1.0, 0.0, 1.0]])[None, None] / 8
    g = torch.Generator().manual_seed(0)
    if name == "blur by fft":
        return physics.BlurFFT(img_size=(1, 8, 8), filter=kernel), (1, 8, 8)
    if name.startswith("blur"):
        return physics.Blur(filter=kernel, padding=name.split()[1]), (1, 8, 9)
    if name == "inpainting":
        mask = (torch.rand(2, 6, 5, generator=g) < 0.6).float()
        return physics.Inpainting((2, 6, 5), mask=mask), (2, 6, 5)
    if name == "mri":
        mask = (torch.rand(6, 8, generator=g) < 0.5).float()
        return physics.MRI(mask=mask, img_size=(2, 6, 8)), (2, 6, 8)
    if name == "downsampling":
        return physics.Downsampling(img_size=(1, 8, 8), factor=2, filter="gaussian"), (1, 8, 8)
    return physics.Decolorize(), (3, 5, 5)


DEEPINV = [
    "blur valid",
    "blur circular",
    "blur reflect",
    "blur by fft",
    "inpainting",
    "mri",
    "downsampling",
    "decolorize",
]


# A module of PyTorch loses the imaginary part of complex constants when it is made float64.
COMPLEX = ("blur by fft", "downsampling")
PHYSICS = [(name, torch.float32) for name in DEEPINV]
PHYSICS += [(name, torch.float64) for name in DEEPINV if name not in COMPLEX]


@pytest.mark.parametrize(("name", "precision"), PHYSICS)
def test_deepinv_physics_is_a_linear_operator(name, precision):
    """In the type of the physics: its own is float32, whose rounding ends conjugate gradients."""
    physics, event_shape = deepinv_physics(name)
    physics = physics.to(precision)
    before = {key: value.clone() for key, value in physics.state_dict().items()}
    operator = adapt(physics)
    wide = precision == torch.float64
    check_linear_operator(operator, event_shape, *((1e-9, 1e-6) if wide else (1e-5, 1e-3)))
    after = physics.state_dict()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert after[key].dtype == value.dtype, key
        assert torch.equal(after[key], value), key
    x = normal(3, *event_shape).to(precision)
    assert torch.equal(operator.A(x), physics.A(x))


def test_noise_of_a_deepinv_physics_is_left_out():
    physics = pytest.importorskip("deepinv.physics")
    noisy = physics.Inpainting((1, 4, 4), mask=0.5, noise_model=physics.GaussianNoise(5.0))
    x = normal(2, 1, 4, 4).float()
    operator = adapt(noisy)
    assert torch.equal(operator.A(x), operator.A(x))
    assert float((noisy(x) - operator.A(x)).std()) > 1  # negative control: a measurement has it


def test_nonlinear_deepinv_physics_is_a_differentiable_function():
    physics = pytest.importorskip("deepinv.physics")

    class Saturation(physics.Physics):
        def A(self, x, **_):
            return torch.tanh(x)

    operator = adapt(Saturation())
    assert not operator.linear
    x = normal(2, 1, 3, 3).requires_grad_()
    assert torch.allclose(operator.A(x), torch.tanh(x))
    (slope,) = torch.autograd.grad(operator.A(x).sum(), x)
    assert torch.allclose(slope, 1 - torch.tanh(x).square())


def test_complex_deepinv_physics_is_refused():
    physics = pytest.importorskip("deepinv.physics")

    class Spectrum(physics.LinearPhysics):
        def A(self, x, **_):
            return torch.fft.fft(x)

        def A_adjoint(self, y, **_):
            return torch.fft.ifft(y)

    with pytest.raises(InputError, match="real"):
        adapt(Spectrum()).A(normal(2, 1, 4))


# -- pylops


def pylops_operator(name, dtype="float64"):
    """An operator of pylops, and the shape of its examples."""
    pylops = pytest.importorskip("pylops")
    rng = np.random.default_rng(0)
    if name == "matrix":
        return pylops.MatrixMult(rng.normal(size=(4, 7)).astype(dtype), dtype=dtype), (7,)
    if name == "derivative":
        return pylops.FirstDerivative((6, 5), axis=0, dtype=dtype), (6, 5)
    if name == "restriction":
        return pylops.Restriction(9, [0, 3, 4, 8], dtype=dtype), (9,)
    if name == "convolution":
        kernel = rng.normal(size=(3, 3)).astype(dtype)
        convolve = pylops.signalprocessing.Convolve2D
        return convolve((6, 7), h=kernel, offset=(1, 1), dtype=dtype), (6, 7)
    if name == "stack":
        parts = [pylops.CausalIntegration(8, dtype=dtype), pylops.Identity(8, dtype=dtype)]
        return pylops.VStack(parts), (8,)
    return pylops.Restriction(6, [1, 4], dtype=dtype) @ pylops.Diagonal(
        np.arange(1.0, 7.0).astype(dtype), dtype=dtype
    ), (6,)


PYLOPS = ["matrix", "derivative", "restriction", "convolution", "stack", "product"]


@pytest.mark.parametrize("name", PYLOPS)
def test_pylops_operator_is_a_linear_operator(name):
    wrapped, event_shape = pylops_operator(name)
    operator = adapt(wrapped)
    check_linear_operator(operator, event_shape)
    x = normal(2, *event_shape)
    for row, found in zip(x, operator.A(x), strict=True):
        assert np.allclose(wrapped.matvec(row.numpy().ravel()), found.numpy().ravel(), atol=1e-12)
    assert np.allclose(dense(operator, event_shape).numpy(), wrapped.todense(), atol=1e-12)


def test_pylops_operator_of_single_precision_gives_what_the_example_has():
    wrapped, event_shape = pylops_operator("convolution", "float32")
    x = normal(2, *event_shape)
    exact = adapt(pylops_operator("convolution")[0]).A(x)
    found = adapt(wrapped).A(x)
    assert found.dtype == torch.float64
    assert torch.allclose(found, exact, atol=1e-5)


def test_pylops_operator_takes_another_shape_of_as_many_elements():
    wrapped, _ = pylops_operator("derivative")
    operator = adapt(wrapped, (1, 6, 5))
    x = normal(2, 1, 6, 5)
    assert torch.equal(operator.A(x).flatten(1), adapt(wrapped).A(x[:, 0]).flatten(1))
    with pytest.raises(InputError, match="30"):
        adapt(wrapped, (4, 5))


def test_complex_pylops_operator_is_refused():
    pylops = pytest.importorskip("pylops")
    with pytest.raises(InputError, match="complex"):
        adapt(pylops.signalprocessing.FFT(8)).A(normal(1, 8))


# -- restorations


@pytest.mark.parametrize("library", ["deepinv", "pylops"])
def test_restorations_are_those_of_the_dense_matrix(library):
    """Draw by draw, of moment matching on a normal prior with a full covariance."""
    pytest.importorskip(library)
    if library == "deepinv":
        wrapped, event_shape = deepinv_physics("blur valid")
    else:
        wrapped, event_shape = pylops_operator("convolution")
    operator = adapt(wrapped)
    d = int(np.prod(event_shape))
    root = normal(d, d, seed=3) / d**0.5
    spread = root @ root.T + 0.1 * torch.eye(d, dtype=torch.float64)
    prior = Gaussian(normal(*event_shape, seed=4), spread)
    y = operator.A(prior.sample(1, seed=5)) + 0.1 * normal(
        1, *operator.measurement_shape(event_shape)
    )
    matrix = sf.operators.Matrix(dense(operator, event_shape), event_shape)
    options = {"tolerance": 1e-10, "iterations": 200}
    found = [
        sf.restore(
            prior, sf.Measurement(seen, one, 0.1), 3, 0, method="mmps", nfe=6, options=options
        ).draws.reshape(3, d)
        for one, seen in ((operator, y), (matrix, y.flatten(1)))
    ]
    assert torch.allclose(*found, atol=1e-4)
