"""Operators: adjoints, pseudo-inverses and decompositions against dense matrices; known truths.

Every operator of OPERATORS and every case below goes through the same tests. The dense matrix of an
operator, column by column, is the truth for its adjoint, pseudo-inverse and singular values.
"""

import itertools
import math
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.sparse
import scipy.sparse.linalg
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield.errors import InputError
from scorefield.inverse import operators as ops
from scorefield.inverse.operators import OPERATORS, Operator, check_operator, quick_check
from scorefield.inverse.operators.filters import hartley
from scorefield.inverse.operators.sampling import cubic_kernel
from scorefield.rng import Stream, keys, normal
from scorefield.units import Units

ROOT = Path(__file__).parent.parent
Case = tuple[Operator, tuple[int, ...]]


def normals(*shape: int, seed: int = 0) -> Tensor:
    return normal(keys(seed, shape[0]), Stream.TOY, 0, shape[1:], torch.float64)


def near_identity(*shape: int) -> Tensor:
    """A kernel without symmetry whose transfer function stays away from zero."""
    kernel = 0.3 * normals(1, *shape, seed=3)[0] / math.sqrt(math.prod(shape))
    kernel[tuple(k // 2 for k in shape)] += 1
    return kernel


def half_of(*shape: int) -> Tensor:
    return normals(1, *shape, seed=5)[0] > 0


class Flipped:
    """An operator on NumPy vectors, as pylops and SciPy have them."""

    shape = (5, 10)
    dtype = np.dtype(np.float64)

    def matvec(self, x):
        return x[::-2].copy()

    def rmatvec(self, y):
        x = np.zeros(10)
        x[::-2] = y
        return x


class Physics(nn.Module):
    """A linear physics with constants in float32, as deepinv has them; calling it adds noise.

    Some constants are not known to PyTorch as such.
    """

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0, dtype=dtype))
        self.register_buffer("turn", torch.tensor([1j, -1j], dtype=dtype.to_complex()))
        self.register_buffer("columns", torch.tensor([2, 0, 1]))
        self.matrix = torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, -1.0]], dtype=dtype)

    def whole(self):
        return self.factor.detach() * self.turn.prod().real * self.matrix[:, self.columns]

    def A(self, x, **kwargs):
        return self.factor * x @ self.whole().T / self.factor

    def A_adjoint(self, y, **kwargs):
        return y @ self.whole()

    def forward(self, x):
        return self.A(x) + torch.randn(len(x), 2)


def rescaled(operator: Operator, *scale: float, ndim: int = 3) -> Operator:
    spread = torch.tensor(scale, dtype=torch.float64).reshape(-1, *[1] * (ndim - 1))
    return ops.Rescaled(operator, spread)


def numpy_sum() -> Operator:
    def there(x):
        return torch.from_numpy(x.detach().numpy().cumsum(-1))

    def back(y):
        return torch.from_numpy(np.ascontiguousarray(y.detach().numpy()[..., ::-1]).cumsum(-1))

    return ops.LinearFunction(there, (5,), lambda y: back(y).flip(-1))


CASES: dict[str, Callable[[], Case]] = {
    **{name: info.example for name, info in OPERATORS.items()},
    **{
        f"blur {padding}, {'x'.join(map(str, shape))}": (
            lambda padding=padding, shape=shape, event=event: (
                ops.Blur(near_identity(*shape), padding),
                event,
            )
        )
        for padding in ops.PADDINGS
        for shape, event in [
            ((3,), (8,)),
            ((4,), (2, 9)),
            ((3, 4), (2, 7, 6)),
            ((3, 1, 2), (1, 4, 3, 5)),
        ]
    },
    **{
        f"blur {padding}, wider than the image": (
            lambda padding=padding: (ops.Blur(near_identity(9, 12), padding), (1, 4, 5))
        )
        for padding in ops.PADDINGS
        if padding != "valid"
    },
    "blur of zeros in the spectrum": lambda: (ops.Blur([0.5, 0.5]), (1, 8)),
    "blur of one element": lambda: (ops.Blur([2.0, 1.0], "reflect"), (3, 1)),
    "downsample 1-D": lambda: (ops.Downsample(3, ndim=1), (2, 9)),
    "downsample 3-D": lambda: (ops.Downsample((2, 1, 2), ndim=3), (2, 4, 3, 2)),
    "downsample bicubic": lambda: (ops.Downsample(2, "bicubic"), (1, 12, 10)),
    "downsample bicubic circular": lambda: (
        ops.Downsample((2, 3), "bicubic", "circular"),
        (2, 8, 9),
    ),
    "downsample own kernel": lambda: (
        ops.Downsample(2, near_identity(3, 3), "circular"),
        (1, 6, 8),
    ),
    "downsample one of two": lambda: (ops.Downsample(2, [1.0], "zeros"), (2, 6)),
    "fourier whole": lambda: (ops.Fourier(), (2, 5, 6)),
    "fourier 1-D": lambda: (ops.Fourier(half_of(9)), (3, 9)),
    "fourier half plane": lambda: (ops.Fourier(ops.half_plane((6, 5))), (1, 6, 5)),
    "fourier complex": lambda: (ops.Fourier(half_of(5, 6), complex_channels=True), (2, 5, 6)),
    "fourier complex whole": lambda: (ops.Fourier(None, True), (2, 4, 3)),
    "fourier 3-D": lambda: (ops.Fourier(half_of(3, 4, 2)), (1, 3, 4, 2)),
    "matrix tall": lambda: (ops.Matrix(normals(9, 4)), (4,)),
    "matrix of rank one": lambda: (ops.Matrix(torch.ones(3, 6), (2, 3)), (2, 3)),
    "random projection orthonormal": lambda: (
        ops.RandomProjection(4, (2, 3), 1, orthonormal=True),
        (2, 3),
    ),
    "radon many": lambda: (ops.Radon(range(0, 180, 20), 5, detectors=9, spacing=0.7), (1, 5, 5)),
    "mask one an observation": lambda: (
        ops.Mask(torch.tensor([[True, False, True], [False, True, True]]), batched=True),
        (3,),
    ),
    "composition with identity": lambda: (
        ops.Composition(ops.Identity(), ops.Blur(near_identity(3)), ops.Identity()),
        (2, 5),
    ),
    "stacked in stacked": lambda: (
        ops.Stacked(
            [ops.Stacked([ops.Identity(), ops.Downsample(2)], (1, 4, 4)), ops.Mask([1, 0, 0, 1])],
            (1, 4, 4),
        ),
        (1, 4, 4),
    ),
    "numpy vectors": lambda: (ops.adapt(Flipped(), (2, 5)), (2, 5)),
    "sparse": lambda: (ops.adapt(scipy.sparse.eye_array(4, 6, k=1, format="csr")), (6,)),
    "physics": lambda: (ops.adapt(Physics(torch.float64)), (3,)),
    "numpy function": lambda: (numpy_sum(), (5,)),
    "rescaled by one number": lambda: (rescaled(ops.Grey(), -2.0), (3, 2, 2)),
    "rescaled mask": lambda: (rescaled(ops.Mask([1, 0, 1]), 2.0, -3.0), (2, 4, 3)),
    "rescaled weights": lambda: (
        ops.Rescaled(ops.PerElement([1.0, -2.0, 0.0]), torch.tensor([3.0, 1.0, 2.0])),
        (3,),
    ),
    "rescaled identity": lambda: (rescaled(ops.Identity(), 2.0, 0.0, ndim=2), (2, 3)),
    "rescaled matrix": lambda: (
        rescaled(ops.Matrix(normals(3, 6), (2, 3)), 2.0, -0.5, ndim=2),
        (2, 3),
    ),
    "rescaled grey": lambda: (rescaled(ops.Grey(), 2.0, 0.5, -1.0), (3, 2, 4)),
    "rescaled blur": lambda: (rescaled(ops.Blur(near_identity(3, 2)), 2.0, -0.5), (2, 4, 5)),
    "rescaled blur, constant channel": lambda: (
        rescaled(ops.Blur(near_identity(3, 2)), 2.0, 0.0),
        (2, 4, 5),
    ),
    "rescaled downsample": lambda: (rescaled(ops.Downsample(2), 2.0, -0.5), (2, 4, 6)),
    "rescaled fourier": lambda: (rescaled(ops.Fourier(half_of(4, 5)), 2.0, -0.5), (2, 4, 5)),
    "rescaled composition": lambda: (
        rescaled(ops.Composition(ops.Downsample(2), ops.Blur(near_identity(2, 2))), 2.0, 1.0),
        (2, 4, 6),
    ),
}
# Cases that have no singular value decomposition; all other linear ones must have one.
WITHOUT_SVD = {
    *("radon", "radon many", "composition", "stacked", "stacked in stacked", "linear-function"),
    *("adapted", "physics", "sparse", "numpy vectors", "numpy function", "downsample bicubic"),
    *("downsample one of two", "rescaled composition", "blur of one element"),
}
LINEAR = [name for name, make in CASES.items() if make()[0].linear]
COLUMNS = 1e-10  # of the largest element


def one_row(operator: Operator) -> Operator:
    """The operator of the first observation."""
    return operator.take(torch.tensor([0]))


def dense(operator: Operator, event_shape: tuple[int, ...]) -> Tensor:
    """The matrix (m, d), one column at a time."""
    d = math.prod(event_shape)
    columns = [
        one_row(operator).A(e.reshape(1, *event_shape)).flatten() for e in torch.eye(d).double()
    ]
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("name", CASES)
def test_no_check_finds_a_problem(name: str) -> None:
    """Shape, types, gradient, rows, linearity, adjoint, SVD, Penrose: rounding errors only."""
    operator, shape = CASES[name]()
    report = check_operator(operator, shape)
    assert not report.problems
    assert len(repr(operator)) < 200 and "object at" not in repr(operator)
    for check, error in report.errors.items():
        bound = 1e-5 if check == "float32" else 1e-9 if check.startswith("pinv") else 1e-10
        assert error < bound, check
    quick_check(operator, shape)
    if operator.linear:
        assert report.has_svd == (name not in WITHOUT_SVD and not name.startswith("blur ")) or (
            name.startswith("blur ")
            and report.has_svd == ("circular" in name or "zeros in" in name)
        )


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint_and_pseudo_inverse_are_those_of_the_dense_matrix(name: str) -> None:
    operator, shape = CASES[name]()
    matrix, one = dense(operator, shape), one_row(operator)
    m = len(matrix)
    measured = operator.measurement_shape(shape)
    assert math.prod(measured) == m
    many = operator.take(torch.zeros(m, dtype=torch.long))
    transposed = many.A_adjoint(torch.eye(m).double().reshape(m, *measured)).reshape(m, -1)
    assert float((transposed - matrix).abs().max()) < COLUMNS * float(matrix.abs().max())
    y = normals(2, *measured)
    found = torch.cat([one.A_pinv(row[None], shape) for row in y])
    truth = y.flatten(1) @ torch.linalg.pinv(matrix, rtol=1e-10).T
    # Conjugate gradients stop at a relative residual of 1e-10 in the normal equations.
    bound = 1e-9 if name not in WITHOUT_SVD and not name.startswith("blur ") else 1e-6
    assert float((found.flatten(1) - truth).abs().max()) < bound * float(truth.abs().max())


@pytest.mark.parametrize(
    "name", [name for name in LINEAR if CASES[name]()[0].svd(CASES[name]()[1])]
)
def test_decomposition_has_the_singular_values_of_the_dense_matrix(name: str) -> None:
    operator, shape = CASES[name]()
    matrix, svd = dense(operator, shape), one_row(operator).svd(shape)
    assert svd is not None
    truth = torch.linalg.svdvals(matrix)
    c = svd.V_adjoint(normals(1, *shape))
    found = svd.values.expand_as(c).flatten().sort(descending=True).values
    count = min(len(found), len(truth))
    assert torch.allclose(found[:count], truth[:count], rtol=0, atol=1e-7 * float(truth.max()))
    assert float(found[count:].sum() + truth[count:].sum()) < 1e-7
    # (spread A A^T + noise I)^-1, by the coefficients and by the matrix
    y = normals(1, *operator.measurement_shape(shape))
    normal_matrix = 0.7 * matrix @ matrix.T + 0.1 * torch.eye(len(matrix)).double()
    expected = torch.linalg.solve(normal_matrix, y.flatten())
    assert torch.allclose(svd.solve(y, 0.7, 0.1).flatten(), expected, rtol=0, atol=1e-9)
    assert torch.allclose(
        svd.solve(y, 0.7, 0.0).flatten(),
        torch.linalg.pinv(0.7 * matrix @ matrix.T, rtol=1e-12, hermitian=True) @ y.flatten(),
        rtol=0,
        atol=1e-8 * float(1 / truth[truth > 1e-9].min() ** 2),
    )


@pytest.mark.parametrize("name", LINEAR)
def test_the_gradient_of_a_linear_operator_is_its_adjoint(name: str) -> None:
    operator, shape = CASES[name]()
    one = one_row(operator)
    x = normals(1, *shape).requires_grad_()
    y = normals(1, *operator.measurement_shape(shape), seed=1)
    (found,) = torch.autograd.grad((one.A(x) * y).sum(), x, create_graph=False)
    assert torch.allclose(
        found, one.A_adjoint(y), rtol=0, atol=1e-12 * float(found.abs().max() + 1)
    )


# NumPy's operators copy to the CPU; PyTorch has no sparse products on its pretend device.
ON_CPU = {"numpy vectors", "numpy function", "sparse", "physics", "radon", "radon many"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in ON_CPU])
def test_constants_follow_the_input_to_its_device(name: str) -> None:
    """A tensor of the CPU in an operation on another device would raise."""
    operator, shape = CASES[name]()
    one = one_row(operator)
    y = one.A(torch.zeros(1, *shape, device="meta"))
    assert y.device.type == "meta" and y.shape == (1, *operator.measurement_shape(shape))
    if operator.linear:
        x = one.A_adjoint(y)
        assert x.device.type == "meta" and x.shape == (1, *shape)
        svd = one.svd(shape)
        if svd is not None:
            c = svd.V_adjoint(x)
            assert svd.V(c).shape == x.shape and svd.U(c).shape == y.shape
            assert svd.U_adjoint(y).shape == c.shape and c.device.type == "meta"


@pytest.mark.parametrize("name", [name for name in CASES if "mask" not in name])
def test_complex_numbers_and_whole_numbers_are_refused(name: str) -> None:
    """Masks take any type."""
    operator, shape = CASES[name]()
    for dtype in (torch.complex64, torch.int64):
        with pytest.raises((InputError, RuntimeError)) as caught:
            operator.A(torch.zeros(1, *shape, dtype=dtype))
        assert isinstance(caught.value, InputError) and "real floating tensor" in str(caught.value)


# ---- blur


@pytest.mark.parametrize(
    ("padding", "mode"),
    [
        *(("circular", "wrap"), ("zeros", "constant")),
        *(("reflect", "mirror"), ("replicate", "nearest")),
    ],
)
@pytest.mark.parametrize("size", [(3, 3), (5, 2), (4, 4), (1, 7), (15, 13)])
def test_blur_is_that_of_scipy(padding: str, mode: str, size: tuple[int, int]) -> None:
    kernel, x = normals(*size), normals(2, 11, 14, seed=1)
    found = ops.Blur(kernel, padding).A(x[None])[0]
    for channel, own in zip(x, found, strict=True):
        truth = scipy.ndimage.convolve(channel.numpy(), kernel.numpy(), mode=mode)
        assert np.allclose(own.numpy(), truth, rtol=0, atol=1e-12 * np.abs(truth).max())


def test_blur_without_padding_is_that_of_scipy() -> None:
    kernel, x = normals(3, 4), normals(1, 9, 8, seed=1)
    truth = scipy.signal.convolve2d(x[0].numpy(), kernel.numpy(), mode="valid")
    assert np.allclose(ops.Blur(kernel, "valid").A(x)[0].numpy(), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.5, 1.3, 3.0])
def test_gaussian_kernel_is_that_of_scipy(sigma: float) -> None:
    x = normals(1, 40, 30)
    found = ops.Blur(ops.gaussian_kernel(sigma)).A(x)[0].numpy()
    assert np.allclose(found, scipy.ndimage.gaussian_filter(x[0].numpy(), sigma, mode="wrap"))
    assert ops.gaussian_kernel(sigma, 5, 1).shape == (5,)
    assert float(ops.gaussian_kernel(sigma, ndim=3).sum()) == pytest.approx(1, abs=1e-12)


def test_motion_kernels_are_lines() -> None:
    assert torch.allclose(ops.motion_kernel(5), torch.full((1, 5), 0.2).double(), atol=1e-9)
    assert torch.allclose(ops.motion_kernel(3, 90), torch.full((3, 1), 1 / 3).double(), atol=1e-3)
    up = ops.motion_kernel(7, 45)  # from the lower left to the upper right
    assert float(up.flip(1).diagonal().sum()) == pytest.approx(1, abs=2e-3)
    rows, columns = torch.meshgrid(*(torch.arange(n) - n // 2 for n in up.shape), indexing="ij")
    assert float((up * rows * columns).sum()) == pytest.approx(-(7**2) / 24, abs=0.1)
    # The second moments are those of a line of length L, L²/12, but for a pixel's own width.
    long = ops.motion_kernel(40, 20)
    rows, columns = torch.meshgrid(*(torch.arange(n) - n // 2 for n in long.shape), indexing="ij")
    for moment, part in (
        ((long * rows**2).sum(), math.sin(math.radians(20))),
        ((long * columns**2).sum(), math.cos(math.radians(20))),
    ):
        assert float(moment) == pytest.approx(40**2 / 12 * part**2, abs=0.2)


def test_the_hartley_transform_is_orthonormal_and_its_own_inverse() -> None:
    x = normals(3, 5, 6)
    assert torch.allclose(hartley(hartley(x, 2), 2), x, rtol=0, atol=1e-13)
    assert torch.allclose(hartley(x, 2).square().sum((1, 2)), x.square().sum((1, 2)))
    place = torch.arange(5).double() * 2 * math.pi / 5
    row = normals(1, 5)
    truth = (row * (place * 2).cos() + row * (place * 2).sin()).sum() / math.sqrt(5)
    assert float(hartley(row, 1)[0, 2] - truth) == pytest.approx(0, abs=1e-13)


# ---- down-sampling


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_mean_is_average_pooling(factor: int) -> None:
    x = normals(2, 3, 12, 24)
    truth = F.avg_pool2d(x, factor)
    assert torch.allclose(ops.Downsample(factor).A(x), truth, rtol=0, atol=1e-14)
    if factor > 1:  # the mean written as a kernel
        own = ops.Downsample(factor, torch.full((factor, factor), 1 / factor**2), "zeros")
        assert torch.allclose(own.A(x), truth, rtol=0, atol=1e-7)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_that_of_pytorch_inside(factor: int) -> None:
    """PyTorch cuts the kernel off at the border, and normalises what is left."""
    x = normals(1, 1, 24 * factor, 20 * factor)
    truth = F.interpolate(x, scale_factor=1 / factor, mode="bicubic", antialias=True)
    found = ops.Downsample(factor, "bicubic").A(x)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert float((found - truth)[inside].abs().max()) < 1e-5
    assert float(cubic_kernel(factor).sum()) == pytest.approx(1, abs=1e-12)


def test_bicubic_keeps_a_slope() -> None:
    """Interpolation by cubic convolution is exact for a straight line: no shift of half a pixel."""
    for factor in (2, 3, 4):
        line = torch.arange(24.0 * factor).double()
        x = line.expand(1, 24 * factor, -1)
        coarse = ops.Downsample(factor, "bicubic").A(x)[0, 12]
        middle = (torch.arange(24.0) * factor + (factor - 1) / 2).double()
        assert torch.allclose(coarse[3:-3], middle[3:-3], rtol=0, atol=1e-10)


# ---- colour, Fourier


def test_grey_is_luma() -> None:
    x = normals(2, 3, 4, 5)
    truth = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    assert torch.allclose(ops.Grey().A(x)[:, 0], truth)


def test_fourier_is_that_of_numpy() -> None:
    x, mask = normals(2, 6, 7), half_of(6, 7)
    truth = np.fft.fftshift(np.fft.fft2(x.numpy(), norm="ortho"), axes=(1, 2))
    whole = torch.view_as_complex(ops.Fourier().A(x[None])[0])
    assert np.allclose(whole.numpy(), truth)
    operator = ops.Fourier(mask)
    y = operator.A(x[None])[0]
    assert np.allclose(torch.view_as_complex(y).numpy(), truth[:, mask.numpy()])
    grid = torch.view_as_real(torch.from_numpy(truth.copy()))
    assert torch.allclose(operator.gather(grid), y)
    filled = torch.view_as_complex(operator.spread(y)).numpy()
    assert np.allclose(filled, np.where(mask.numpy(), truth, 0))
    pair = ops.Fourier(None, complex_channels=True).A(x[None])[0]
    both = np.fft.fft2(x[0].numpy() + 1j * x[1].numpy(), norm="ortho")
    assert np.allclose(torch.view_as_complex(pair).numpy(), np.fft.fftshift(both))


@pytest.mark.parametrize("shape", [(6, 5), (6, 6), (7,), (4, 3, 6)])
def test_half_the_plane_holds_a_real_image(shape: tuple[int, ...]) -> None:
    mask = ops.half_plane(shape)
    assert int(mask.sum()) == (mask.numel() + math.prod(2 if n % 2 == 0 else 1 for n in shape)) // 2
    x = normals(2, *shape)[None]
    operator = ops.Fourier(mask)
    assert torch.allclose(operator.A_pinv(operator.A(x), tuple(x.shape[1:])), x)


def test_cartesian_mask_has_its_lines_and_its_centre() -> None:
    mask = ops.cartesian_mask((16, 40), 4, 0.1, seed=3)
    assert mask.shape == (16, 40) and mask.dtype == torch.bool
    assert (mask == mask[:1]).all()  # whole lines
    lines = mask[0]
    assert int(lines.sum()) == 10 and bool(lines[18:22].all())
    assert torch.equal(mask, ops.cartesian_mask((16, 40), 4, 0.1, seed=3))
    masks = torch.stack([ops.cartesian_mask((1, 40), 4, 0.1, seed=s)[0] for s in range(400)])
    # 6 of 36 lines, evenly: 4.5 standard errors of a hypergeometric share
    share = torch.cat([masks[:, :18], masks[:, 22:]], 1).double().mean(0)
    assert float((share - 6 / 36).abs().max()) < 4.5 * math.sqrt(6 / 36 * 30 / 36 / 400)


# ---- Radon


def disk(size: int, radius: float, p0: float, q0: float, fine: int = 16) -> Tensor:
    """The part of each pixel that a disk covers; lengths in units of the image's side."""
    place = ((torch.arange(size * fine) + 0.5) / (size * fine) - 0.5).double()
    inside = (place[None] - p0) ** 2 + (-place[:, None] - q0) ** 2 <= radius**2
    return F.avg_pool2d(inside.double()[None], fine)


def chord_error(size: int) -> float:
    """Mean error over the mean chord, over 24 angles."""
    radius, p0, q0 = 0.3, 0.11, -0.07
    angles = [7.5 * k for k in range(24)]
    operator = ops.Radon(angles, size)
    found = operator.A(disk(size, radius, p0, q0))[0] / size
    s = (torch.arange(operator.detectors).double() - (operator.detectors - 1) / 2) / size
    turn = torch.tensor(angles).double().deg2rad()[:, None]
    away = s - (p0 * turn.cos() + q0 * turn.sin())
    truth = 2 * (radius**2 - away**2).clamp_min(0).sqrt()
    return float((found - truth).abs().mean() / truth.mean())


def test_line_integrals_of_a_disk_are_its_chords() -> None:
    """2 sqrt(r² - s²) for a disk off the middle; the error falls with the resolution."""
    errors = [chord_error(size) for size in (16, 32, 64, 128)]
    assert errors[0] < 0.05 and errors[-1] < 0.004
    for coarse, finer in itertools.pairwise(errors):
        assert finer < coarse / 1.8


def test_line_integrals_along_the_axes_are_sums() -> None:
    x = normals(1, 6, 9)
    operator = ops.Radon([0, 90, 180], (6, 9))
    middle = (operator.detectors - 9) // 2
    y = operator.A(x)[0]
    assert torch.allclose(y[0, middle : middle + 9], x[0].sum(0))
    assert torch.allclose(y[2], y[0].flip(0))
    square = ops.Radon([90], 7, detectors=7).A(x := normals(1, 7, 7))[0, 0]
    assert torch.allclose(square, x[0].sum(1).flip(0))  # q points upwards


def test_every_angle_holds_the_mass_of_the_image() -> None:
    x = disk(64, 0.35, 0.0, 0.05)
    mass = ops.Radon(range(0, 180, 15), 64).A(x)[0].sum(1)
    assert float((mass / x.sum() - 1).abs().max()) < 0.005


# ---- random projections, matrices, stacks


def test_random_projection_keeps_norms_on_average() -> None:
    """E |A x|² = |x|², and the variance of |A x|² / |x|² is 2 / m."""
    m, x = 50, normals(1, 30)
    ratios = torch.stack(
        [
            ops.RandomProjection(m, (30,), seed).A(x).square().sum() / x.square().sum()
            for seed in range(400)
        ]
    )
    assert abs(float(ratios.mean()) - 1) < 4.5 * math.sqrt(2 / m / 400)
    assert abs(float(ratios.var()) / (2 / m) - 1) < 4.5 * math.sqrt(2 / 400) * 1.2
    again = ops.RandomProjection(m, (30,), 7).matrix
    assert torch.equal(again, ops.RandomProjection(m, (30,), 7).matrix)
    assert not torch.equal(again, ops.RandomProjection(m, (30,), 8).matrix)


def test_orthonormal_rows_point_anywhere() -> None:
    """Rows are orthonormal; the first element has the law of a random direction: mean 0, 1/d."""
    first = []
    for seed in range(600):
        matrix = ops.RandomProjection(3, (2, 4), seed, orthonormal=True).matrix
        if seed < 5:
            assert torch.allclose(matrix @ matrix.T, torch.eye(3).double(), rtol=0, atol=1e-13)
        first.append(matrix[0, 0])
    found = torch.stack(first)
    assert abs(float(found.mean())) < 4.5 / math.sqrt(8 * 600)
    variance_se = math.sqrt((3 / (8 * 10) - 1 / 64) / 600)
    assert abs(float(found.square().mean()) - 1 / 8) < 4.5 * variance_se


def test_matrix_of_an_operator_measures_the_same() -> None:
    operator = ops.Radon([0, 40, 80], 5)
    matrix = ops.Matrix.of(operator, (1, 5, 5))
    x = normals(3, 1, 5, 5)
    assert torch.allclose(matrix.A(x), operator.A(x).flatten(1))
    y = matrix.A(x)
    found = operator.A_pinv(y.reshape(3, 1, 3, -1), (1, 5, 5))
    assert torch.allclose(matrix.A_pinv(y, (1, 5, 5)), found, rtol=0, atol=1e-7)


def test_a_stack_is_split_into_its_parts() -> None:
    parts = [ops.Grey(), ops.Downsample(2), ops.PhaseRetrieval()]
    operator, x = ops.Stacked(parts, (3, 4, 6)), normals(2, 3, 4, 6)
    assert not operator.linear
    for part, found in zip(parts, operator.split(operator.A(x)), strict=True):
        assert torch.equal(found, part.A(x))
    assert operator.split(operator.A(x)[0])[1].shape == (3, 2, 3)


def test_masks_of_each_observation_are_taken_through_other_operators() -> None:
    masks = ops.Mask(torch.tensor([[1, 0], [0, 1], [1, 1]]), batched=True)
    index, x = torch.tensor([2, 0]), torch.ones(2, 2)
    truth = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    weights = torch.ones(2)
    for operator in (
        ops.Scaled(masks, 1.0),
        ops.Composition(ops.Identity(), masks),
        ops.Rescaled(masks, weights),
        ops.Composed(masks, Units.affine(0.0, 1.0)),
    ):
        assert torch.equal(operator.take(index).A(x), truth)
    stack = ops.Stacked([masks, ops.Identity()], (2,)).take(index)
    assert torch.equal(stack.A(x), torch.cat([truth, x], 1))


# ---- operators that are not linear


@pytest.mark.parametrize("power", [1, 2])
def test_phase_retrieval_is_the_magnitude_of_numpys_transform(power: int) -> None:
    x = normals(1, 4, 5)
    grid = np.fft.fft2(x[0].numpy(), s=(8, 10)) / math.sqrt(80)
    found = ops.PhaseRetrieval(power).A(x)[0].numpy()
    assert np.allclose(found, np.abs(grid) ** power)
    assert np.allclose(ops.PhaseRetrieval(power).A(-x)[0].numpy(), found)
    flipped = ops.PhaseRetrieval(power).A(x.flip(1, 2))[0].numpy()
    assert np.allclose(flipped, found)


def test_gradients_of_clipping_and_rounding_are_as_stated() -> None:
    x = torch.tensor([[-0.5, 0.1, 0.4, 1.5]], dtype=torch.float64, requires_grad=True)
    clipped = ops.Clip().A(x)
    assert clipped.tolist() == [[0.0, 0.1, 0.4, 1.0]]
    rounded = ops.Quantise(3).A(x)
    assert rounded.tolist() == [[0.0, 0.0, 0.5, 1.0]]
    for y in (clipped, rounded):
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [[0.0, 1.0, 1.0, 0.0]]


# ---- adapted operators


def test_adapted_physics_measures_without_its_noise_and_is_not_changed() -> None:
    physics = Physics()
    operator, x = ops.adapt(physics), normals(4, 3)
    assert torch.equal(operator.A(x), operator.A(x))
    assert torch.allclose(operator.A(x), x @ physics.whole().double().T, rtol=0, atol=1e-5)
    assert operator.A(x).dtype == torch.float64 and physics.matrix.dtype == torch.float32
    assert not operator.A(x).requires_grad and physics.factor.requires_grad
    report = check_operator(operator, (3,))
    assert not report.problems and max(report.errors.values()) > 1e-9  # float32 inside
    quick_check(operator, (3,))
    assert ops.adapt(operator) is operator
    assert isinstance(ops.adapt([[1.0, 2.0]]), ops.Matrix)
    assert not ops.adapt(lambda x: x**2).linear


def test_adapted_physics_that_is_not_linear() -> None:
    class Saturating:
        def A(self, x):
            return x.tanh()

    class Described(Saturating):
        def A_adjoint(self, y):
            return y

    x = normals(4, 3)
    for operator in (ops.adapt(Saturating()), ops.adapt(Described(), linear=False)):
        assert not operator.linear and torch.equal(operator.A(x), x.tanh())
        assert not check_operator(operator, (3,)).problems
    assert "is not linear" in check_operator(ops.adapt(Described()), (3,)).problems[0]
    with pytest.raises(InputError, match="has no A_adjoint"):
        ops.adapt(Saturating(), linear=True)

    class Pair:
        def A(self, x):
            return [x, x]

    with pytest.raises(InputError, match="must give one tensor"):
        ops.adapt(Pair()).A(x)


def test_vectors_of_numpy_measure_as_they_do() -> None:
    matrix = normals(3, 8).numpy()
    operator = ops.adapt(scipy.sparse.linalg.aslinearoperator(matrix), (2, 4))
    x = normals(5, 2, 4)
    assert np.allclose(operator.A(x).numpy(), x.flatten(1).numpy() @ matrix.T)
    assert operator.measurement_shape((2, 4)) == (3,)


def test_physics_of_deepinv() -> None:
    physics = pytest.importorskip("deepinv").physics
    shape = (1, 8, 8)
    x = normals(2, *shape)
    for made in (
        physics.Inpainting(shape, mask=0.5),
        physics.Downsampling(img_size=shape, factor=2, filter="bicubic"),
        physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular"),
        physics.Denoising(),
        physics.Tomography(angles=10, img_width=8),
        physics.CompressedSensing(m=20, img_size=shape),
    ):
        operator = ops.adapt(made)
        assert not check_operator(operator, shape).problems
        quick_check(operator, shape)
        assert torch.allclose(operator.A(x.float()), made.A(x.float()), atol=1e-6)
    assert torch.allclose(
        ops.adapt(physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular")).A(x),
        ops.Blur(torch.ones(3, 3) / 9).A(x),
        atol=1e-6,
    )


def test_operators_of_pylops() -> None:
    pylops = pytest.importorskip("pylops")
    for made, shape in (
        (pylops.FirstDerivative((6, 5), axis=0), (6, 5)),
        (pylops.Restriction(12, [0, 3, 7]), (12,)),
        (pylops.MatrixMult(normals(4, 6).numpy()), (6,)),
    ):
        operator = ops.adapt(made)
        assert not check_operator(operator, shape).problems
        x = normals(1, *shape)
        assert np.allclose(operator.A(x).numpy().ravel(), made.matvec(x.numpy().ravel()))
    with pytest.raises(InputError, match="complex"):
        ops.adapt(pylops.Diagonal(np.ones(3) * 1j, dtype="complex128"))


# ---- bad arguments

GRID = torch.ones(4, 4)
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "kernel of rank four": (lambda: ops.Blur(torch.ones(1, 1, 3, 3)), "one, two or three"),
    "kernel of zeros": (lambda: ops.Blur([0.0, 0.0]), "zero everywhere"),
    "kernel with NaN": (lambda: ops.Blur([math.nan, 1.0]), "kernel must be finite"),
    "padding": (lambda: ops.Blur([1.0], "mirror"), "padding must be one of"),
    "kernel too large": (lambda: ops.Blur([1.0] * 5, "valid").A(torch.ones(1, 3)), "as large as"),
    "too few dimensions": (lambda: ops.Blur(GRID).A(torch.ones(2, 4)), "acts on 2 dimensions"),
    "sigma": (lambda: ops.gaussian_kernel(0.0), "sigma must be above 0"),
    "length": (lambda: ops.motion_kernel(-1.0), "length must be above 0"),
    "factor": (lambda: ops.Downsample(0), "factor"),
    "factors": (lambda: ops.Downsample((2, 2, 2)), "one for each dimension"),
    "factor that does not divide": (
        lambda: ops.Downsample(3).A(torch.ones(1, 1, 8, 9)),
        "divides; got",
    ),
    "kernel of down-sampling": (lambda: ops.Downsample(2, "nearest"), "'mean', 'bicubic'"),
    "padding of down-sampling": (lambda: ops.Downsample(2, "mean", "valid"), "padding"),
    "mask of rank four": (lambda: ops.Fourier(torch.ones(1, 1, 4, 4)), "shape of the grid"),
    "mask of another size": (lambda: ops.Fourier(GRID).A(torch.ones(1, 4, 5)), "mask of the"),
    "mask of nothing": (lambda: ops.Fourier(torch.zeros(4, 4)), "hides everything"),
    "complex image of one channel": (
        lambda: ops.Fourier(GRID, True).A(torch.ones(1, 1, 4, 4)),
        "real and the imaginary",
    ),
    "too wide a centre": (lambda: ops.cartesian_mask((8, 8), 4, 0.5), "lower one of them"),
    "no angles": (lambda: ops.Radon([], 8), "angles must not be empty"),
    "angles of nothing": (lambda: ops.Radon([math.inf], 8), "angles"),
    "spacing": (lambda: ops.Radon([0.0], 8, spacing=0.0), "spacing must be above 0"),
    "image of another size": (
        lambda: ops.Radon([0.0], 8).A(torch.ones(1, 1, 8, 9)),
        "needs images of size",
    ),
    "matrix of rank three": (lambda: ops.Matrix(torch.ones(1, 2, 3)), "two dimensions"),
    "event of another size": (lambda: ops.Matrix(GRID, (2, 3)), "4 elements"),
    "matrix of another event": (lambda: ops.Matrix(GRID).A(torch.ones(2, 5)), r"\(B, 4\)"),
    "too many orthonormal rows": (
        lambda: ops.RandomProjection(9, (8,), orthonormal=True),
        "at most 8",
    ),
    "matrix of what is not linear": (lambda: ops.Matrix.of(ops.Clip(), (3,)), "not linear"),
    "too large a matrix": (
        lambda: ops.Matrix.of(ops.Identity(), (3, 256, 256)),
        "would have",
    ),
    "channels": (lambda: ops.Grey().A(torch.ones(1, 1, 4, 4)), "3 channels"),
    "mixing vector": (lambda: ops.MixChannels([1.0, 2.0]), "two dimensions"),
    "weights of zeros": (lambda: ops.PerElement([0.0]), "zero everywhere"),
    "weights of another shape": (
        lambda: ops.PerElement([1.0, 2.0]).A(torch.ones(1, 3)),
        "broadcast",
    ),
    "factor of zero": (lambda: ops.Scaled(ops.Identity(), 0.0), "must not be 0"),
    "parts that are no operators": (lambda: ops.Composition(GRID), "adapt makes one"),
    "no parts": (lambda: ops.Stacked([], (3,)), "must not be empty"),
    "no function": (lambda: ops.Function(3), "must be a function"),
    "no linear function": (lambda: ops.LinearFunction(abs, (3,), 2), "adjoint must be a function"),
    "power": (lambda: ops.PhaseRetrieval(3), "power must be at most 2"),
    "range": (lambda: ops.Clip(1.0, 1.0), "low must be below high"),
    "levels": (lambda: ops.Quantise(1), "levels must be at least 2"),
    "nothing to adapt": (lambda: ops.adapt(3), "adapt needs"),
    "complex operator": (
        lambda: ops.adapt(scipy.sparse.linalg.aslinearoperator(np.eye(2) * 1j)),
        "complex",
    ),
    "vectors of another size": (lambda: ops.adapt(Flipped(), (3, 3)), "takes 10 elements"),
    "no operator": (lambda: check_operator(GRID, (4,)), "must be an Operator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_in_words(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(InputError, match=words):
        make()


# ---- negative controls: mistakes that check_operator must find


class Sum(Operator):
    """Sums of pairs; right, and the base of the wrong ones."""

    def A(self, x):
        return x[..., ::2] + x[..., 1::2]

    def A_adjoint(self, y):
        return y.repeat_interleave(2, -1)


class WrongAdjoint(Sum):
    def A_adjoint(self, y):
        return super().A_adjoint(y) * 1.01


class AdjointWrongInOneElement(Sum):
    def A_adjoint(self, y):
        x = super().A_adjoint(y)
        x[:, 0] = 0
        return x


class NoAdjoint(Operator):
    def A(self, x):
        return x


class AdjointOfAnotherShape(Sum):
    def A_adjoint(self, y):
        return y


class ShapeThatIsNotStated(Sum):
    def measurement_shape(self, event_shape):
        return event_shape


class NoBatch(Sum):
    def A(self, x):
        return super().A(x)[0]


class Complex(Sum):
    def A(self, x):
        return torch.fft.fft(x)

    def measurement_shape(self, event_shape):
        return event_shape


class NotANumber(Sum):
    def A(self, x):
        return super().A(x) / 0


class NotLinear(Sum):
    def A(self, x):
        return super().A(x) ** 3


class Affine(Sum):
    def A(self, x):
        return super().A(x) + 1


class WritesToItsInput(Sum):
    def A(self, x):
        x *= 2
        return super().A(x) / 2


class MixesRows(Sum):
    def A(self, x):
        return super().A(x - 0.1 * x.mean(0))


class AdjointMixesRows(Sum):
    def A_adjoint(self, y):
        return super().A_adjoint(y) + 0.01 * y.mean(0)[:1]


class Noisy(Sum):
    def A(self, x):
        return super().A(x) + 0.1 * torch.randn(len(x), x.shape[1] // 2, dtype=x.dtype)


class LosesTheType(Sum):
    def A(self, x):
        return super().A(x).float()


class ConstantOfOneType(Sum):
    matrix = torch.ones(6, 3)

    def A(self, x):
        return x @ self.matrix


class NoGradient(Sum):
    def A(self, x):
        return super().A(x.detach())


class WrongValues(Sum):
    def svd(self, event_shape):
        svd = ops.Downsample(2, ndim=1).svd(event_shape)  # its values are 1/sqrt(2), not sqrt(2)
        assert svd is not None
        return svd


class NegativeValues(Sum):
    def svd(self, event_shape):
        svd = ops.Downsample(2, ndim=1).svd(event_shape)
        return ops.SVD(-2 * svd.values, svd.V, svd.V_adjoint, lambda c: -c, lambda y: -y)


class WrongPseudoInverse(Sum):
    def A_pinv(self, y, event_shape):
        return self.A_adjoint(y)  # twice too large


MISTAKES = {
    WrongAdjoint: "A_adjoint is not the adjoint of A: <A x, y> =",
    AdjointWrongInOneElement: "A_adjoint is not the adjoint of A",
    NoAdjoint: "does not implement A_adjoint",
    AdjointOfAnotherShape: "A_adjoint gives shape",
    ShapeThatIsNotStated: "A gives shape",
    NoBatch: "one row for each row of the input",
    Complex: "A gives complex numbers",
    NotANumber: "values that are not finite",
    NotLinear: "set linear = False",
    Affine: "A(0) is not 0",
    WritesToItsInput: "A writes to its input",
    MixesRows: "A mixes the rows of a batch",
    AdjointMixesRows: "A_adjoint mixes the rows",
    Noisy: "different results for the same input",
    LosesTheType: "keep the type of the input",
    ConstantOfOneType: "move constants to the input",
    NoGradient: "finds no gradient through A",
    WrongValues: "svd is not that of A",
    NegativeValues: "must not be negative",
    WrongPseudoInverse: "A_pinv is not the pseudo-inverse of A",
}
# What quick_check leaves to check_operator.
SLOW_TO_FIND = (WrongValues, NegativeValues, WrongPseudoInverse)


@pytest.mark.parametrize("wrong", MISTAKES, ids=[one.__name__ for one in MISTAKES])
def test_a_mistake_is_found_and_named(wrong: type[Operator]) -> None:
    report = check_operator(wrong(), (6,))
    assert any(MISTAKES[wrong] in problem for problem in report.problems), report
    assert MISTAKES[wrong] in repr(report) and "problem" in repr(report)
    with pytest.raises(InputError) as caught:
        report.raise_problems()
    assert wrong.__name__ in str(caught.value)


@pytest.mark.parametrize("wrong", MISTAKES, ids=[one.__name__ for one in MISTAKES])
def test_the_quick_check_refuses_what_would_end_a_run(wrong: type[Operator]) -> None:
    if wrong in SLOW_TO_FIND:
        quick_check(wrong(), (6,))
    else:
        with pytest.raises(InputError, match=wrong.__name__):
            quick_check(wrong(), (6,))


def test_a_right_operator_has_no_problems_whatever_the_seed() -> None:
    for seed in range(20):
        report = check_operator(Sum(), (6,), seed=seed)
        assert not report.problems and max(report.errors.values()) < 1e-6
    assert "no problems" in repr(report)
    report.raise_problems()


def test_operators_of_a_range_are_checked_at_examples() -> None:
    operator = ops.Function(torch.log)
    assert "not finite" in check_operator(operator, (4,)).problems[0]
    examples = normals(3, 4).abs() + 0.1
    assert not check_operator(operator, (4,), examples).problems
    quick_check(operator, (4,), examples)


# ---- the example and the table of the page


def test_the_example_draws_every_measurement(tmp_path: Path) -> None:
    example = runpy.run_path(str(ROOT / "examples" / "operators.py"))
    errors = example["main"](str(tmp_path / "operators.png"))
    assert (tmp_path / "operators.png").stat().st_size > 50_000
    for name, operator in example["shown_operators"]().items():
        assert math.isfinite(errors[name]) == operator.linear
    # Frequencies and coarse pixels give a recognisable picture; deconvolved noise does not.
    assert errors["Fourier"] < 0.1 and errors["Downsample"] < 0.1 and errors["Blur, Gaussian"] > 1


def test_the_page_lists_every_operator() -> None:
    page = (ROOT / "docs" / "operators.md").read_text()
    for info in OPERATORS.values():
        name = info.make.__name__
        assert f"`{name}(" in page or f"`{name}`" in page, name
