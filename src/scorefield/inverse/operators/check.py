"""Checks of an operator, in words: `check_operator` for one's own, `quick_check` before a run.

Every check compares numbers that have to agree for random inputs in float64, with a tolerance wide
enough for operators that compute with float32 constants:

    linear        A(a x + b x') = a A(x) + b A(x')
    adjoint       <A x, y> = <x, A_adjoint y>
    pseudo-inverse (Penrose 1955), P = A_pinv
                  A P A = A,   P A P = P,   A P and P A symmetric
    SVD           A = U S V^T,   V^T V = 1 on the range of V^T,   U^T U = 1 where S > 0
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import InputError
from ...values import describe
from ...values import shape as read_shape
from .base import SVD, Operator
from .drawn import PROBE, operator_normals

#: Relative error that counts as a mistake; rounding of float32 is below 1e-6.
TOLERANCE = 1e-5
#: The same for pseudo-inverses, which enlarge rounding by the condition number.
PENROSE_TOLERANCE = 1e-4
#: The same between results in float32 and in float64.
FLOAT32_TOLERANCE = 1e-3

Map = Callable[[Tensor], Tensor]
TYPES = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class OperatorReport:
    """What `check_operator` found.

    Attributes:
        operator: The operator's short form.
        event_shape: The shape of an example.
        measurement_shape: The shape of one measurement; None where A gave none.
        linear: Whether the operator claims to be linear.
        has_svd: Whether it gave a singular value decomposition.
        errors: The relative error of each check that was made.
        problems: A sentence for each mistake, with what to do; empty where all is well.
    """

    operator: str
    event_shape: tuple[int, ...]
    measurement_shape: tuple[int, ...] | None = None
    linear: bool = True
    has_svd: bool = False
    errors: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def raise_problems(self) -> None:
        """Raise an InputError with all problems, where there are any."""
        if self.problems:
            raise InputError(f"{self.operator}: " + "; ".join(self.problems))

    def __repr__(self) -> str:
        kind = "linear" if self.linear else "not linear"
        svd = ", with a singular value decomposition" if self.has_svd else ""
        to = self.measurement_shape if self.measurement_shape is not None else "nothing"
        lines = [f"{self.operator}: {self.event_shape} -> {to}, {kind}{svd}"]
        if self.problems:
            count = len(self.problems)
            lines += [f"{count} problem{'s' if count > 1 else ''}:"]
            lines += [f"  - {problem}" for problem in self.problems]
        else:
            lines += ["no problems"]
        if self.errors:
            lines += ["relative errors:"]
            lines += [f"  {name}: {error:.1e}" for name, error in self.errors.items()]
        return "\n".join(lines)


class _Stop(Exception):
    """What follows would only repeat a problem that was found."""


class _Checks:
    """One operator under test.

    Args:
        operator: The operator.
        event_shape: The shape of an example.
        seed: The random inputs are a function of it.
        examples: (B, *event) in data units, at which an operator that is not linear is measured.
    """

    def __init__(
        self, operator: Operator, event_shape: tuple[int, ...], seed: int, examples: Tensor | None
    ) -> None:
        self.operator, self.event_shape, self.seed = operator, event_shape, seed
        self.examples = examples
        self.linear = bool(operator.linear)
        self.has_svd = False
        self.measured: tuple[int, ...] | None = None
        self.errors: dict[str, float] = {}
        self.problems: list[str] = []
        self._drawn = 0

    # -- inputs, and problems of results

    def normals(self, count: int, shape: tuple[int, ...]) -> Tensor:
        """Standard normals that were not drawn before: float64 (count, *shape)."""
        self._drawn += count
        return operator_normals(self.seed, PROBE, (count, *shape), self._drawn - count)

    def x(self, count: int) -> Tensor:
        """Inputs of A: normals, or the examples where the operator is not linear."""
        if self.linear or self.examples is None:
            return self.normals(count, self.event_shape)
        rows = torch.arange(count) % len(self.examples)
        return self.examples.to("cpu", torch.float64)[rows]

    def rows(self, count: int) -> Operator:
        """The operator of the first observation, for `count` rows."""
        return self.operator.take(torch.zeros(count, dtype=torch.int64))

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def fail(self, text: str) -> _Stop:
        self.problems.append(text)
        return _Stop()

    def apply(self, function: Map, x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        """A result of the expected shape and type, finite and real; x stays as it is.

        Args:
            function: A, A_adjoint or the like.
            x: What it is applied to.
            name: Its name, for messages.
            shape: What one row of the result must be.

        Raises:
            _Stop: It is not; the problem is noted.
        """
        before = x.clone()
        try:
            with torch.no_grad():
                found = function(x)
        except Exception as error:
            raise self.fail(
                f"{name} fails for {TYPES[x.dtype]} of shape {tuple(x.shape)} with "
                f"{type(error).__name__}: {error}. It must take any batch, in float32 and float64; "
                "move constants to the input with constant.to(x.device, x.dtype)"
            ) from error
        if not torch.equal(x, before):
            raise self.fail(f"{name} writes to its input; work on a copy, x.clone()")
        if not isinstance(found, Tensor):
            raise self.fail(f"{name} must give a tensor; got {describe(found)}")
        if found.is_complex():
            raise self.fail(
                f"{name} gives complex numbers; give real and imaginary parts in a dimension of "
                "their own, torch.view_as_real(y)"
            )
        if tuple(found.shape) != (len(x), *shape):
            raise self.fail(
                f"{name} gives shape {tuple(found.shape)} for input of shape {tuple(x.shape)}; "
                f"({', '.join(map(str, (len(x), *shape)))}) is needed, one row for each row of the "
                "input"
            )
        if not bool(torch.isfinite(found).all()):
            count = int((~torch.isfinite(found)).sum())
            raise self.fail(
                f"{name} gives {count} of {found.numel()} values that are not finite for finite "
                "input; look for divisions by zero and for roots and logarithms of negative numbers"
            )
        if found.dtype != x.dtype:
            raise self.fail(
                f"{name} gives {str(found.dtype).removeprefix('torch.')} for {TYPES[x.dtype]}; "
                "keep the type of the input, result.to(x.dtype)"
            )
        return found

    def compare(self, name: str, error: Tensor, scale: Tensor, tolerance: float) -> bool:
        """Note the largest error relative to a scale, row by row; True where it is too large."""
        floor = torch.finfo(torch.float64).tiny
        relative = float((norms(error) / norms(scale).clamp_min(floor)).max())
        self.errors[name] = max(relative, self.errors.get(name, 0.0))
        return not relative <= tolerance

    # -- the checks

    def shapes(self, counts: tuple[int, ...]) -> None:
        """Batches of some sizes have the shape that `measurement_shape` states."""
        try:
            shape = tuple(self.operator.measurement_shape(self.event_shape))
        except Exception as error:
            raise self.fail(
                f"measurement_shape({self.event_shape}) fails with {type(error).__name__}: {error}"
            ) from error
        for count in counts:
            self.apply(self.rows(count).A, self.x(count), "A", shape)
        self.measured = shape

    def types(self) -> None:
        """float32 stays float32, and has nearly the values of float64."""
        x = self.x(2)
        assert self.measured is not None
        wide = self.apply(self.rows(2).A, x, "A", self.measured)
        narrow = self.apply(self.rows(2).A, x.float(), "A", self.measured)
        reference = torch.maximum(norms(wide), norms(x))
        if self.linear and self.compare(
            "float32", narrow.double() - wide, reference, FLOAT32_TOLERANCE
        ):
            self.problem(
                f"A differs by a part of {self.errors['float32']:.1e} between float32 and float64; "
                "look for sums of numbers of very different size"
            )

    def repeats(self) -> None:
        """The same input gives the same result, alone and beside others."""
        x, A = self.x(3), self.rows(3).A
        assert self.measured is not None
        y = self.apply(A, x, "A", self.measured)
        if self.compare(
            "same input", self.apply(A, x, "A", self.measured) - y, both(y, x), TOLERANCE
        ):
            raise self.fail(
                "A gives different results for the same input; leave noise out of A and state it "
                "in the Measurement, and draw random constants once, in __init__"
            )
        if self.mixes("A", A, self.rows(1).A, x, self.measured):
            self.problem(
                "A mixes the rows of a batch: the result of an example depends on the others; "
                "take means, norms and maxima over dimensions after the first, such as "
                "x.flatten(1).norm(dim=1)"
            )

    def mixes(
        self, name: str, function: Map, alone: Map, x: Tensor, shape: tuple[int, ...]
    ) -> bool:
        """Whether a row's result depends on the other rows."""
        y = self.apply(function, x, name, shape)
        for k in range(len(x)):
            own = self.apply(alone, x[k : k + 1].clone(), name, shape)
            if self.compare("batch", own - y[k : k + 1], both(own, x[k : k + 1]), TOLERANCE):
                return True
        return False

    def linearity(self) -> None:
        """A(a x + b x') = a A(x) + b A(x')."""
        assert self.measured is not None
        x, other, A = self.x(2), self.x(2), self.rows(2).A
        a, b = 1.75, -0.5
        first = a * self.apply(A, x, "A", self.measured)
        second = b * self.apply(A, other, "A", self.measured)
        both_at_once = self.apply(A, a * x + b * other, "A", self.measured)
        scale = both(first, second, x)
        if self.compare("linear", both_at_once - first - second, scale, TOLERANCE):
            nothing = self.apply(A, torch.zeros_like(x), "A", self.measured)
            why = (
                f"A(0) is not 0 but has norm {float(norms(nothing).max()):.4g}; subtract it from A "
                "and from the observation"
                if float(norms(nothing).max()) > TOLERANCE * float(scale.max())
                else "set linear = False on the class"
            )
            raise self.fail(
                f"A is not linear though it claims to be: A(a x + b x') differs from a A(x) + b "
                f"A(x') by a part of {self.errors['linear']:.1e}; {why}"
            )

    def adjoint(self) -> None:
        """<A x, y> = <x, A_adjoint y>, for random y and for y = A x'."""
        assert self.measured is not None
        count = 3
        operator = self.rows(count)
        x, y = self.x(count), self.normals(count, self.measured)
        seen = self.apply(operator.A, x, "A", self.measured)
        for probe in (y, self.apply(operator.A, self.x(count), "A", self.measured)):
            back = self.apply(operator.A_adjoint, probe, "A_adjoint", self.event_shape)
            left, right = (seen * probe).flatten(1).sum(1), (x * back).flatten(1).sum(1)
            # The size of an inner product with a random vector: |A x| |y| / sqrt(m).
            size = torch.maximum(
                norms(seen) * norms(probe) / math.sqrt(max(1, probe[0].numel())),
                norms(x) * norms(back) / math.sqrt(max(1, x[0].numel())),
            )
            if self.compare("adjoint", left - right, size, TOLERANCE):
                k = int((left - right).abs().argmax())
                self.problem(
                    f"A_adjoint is not the adjoint of A: <A x, y> = {float(left[k]):.4g} but <x, "
                    f"A_adjoint y> = {float(right[k]):.4g}; LinearFunction finds the adjoint of A "
                    "by automatic differentiation"
                )
                return
        self.apply(operator.A_adjoint, y.float(), "A_adjoint", self.event_shape)

    def adjoint_rows(self) -> None:
        """The adjoint takes a batch of one and mixes no rows."""
        assert self.measured is not None
        y = self.normals(3, self.measured)
        functions = self.rows(3).A_adjoint, self.rows(1).A_adjoint
        if self.mixes("A_adjoint", *functions, y, self.event_shape):
            self.problem("A_adjoint mixes the rows of a batch; sum over dimensions after the first")

    def gradient(self) -> None:
        """PyTorch finds a gradient through A."""
        x = self.x(1).requires_grad_()
        try:
            with torch.enable_grad():
                y = self.rows(1).A(x)
            found = torch.autograd.grad(y.sum(), x)[0]
        except Exception as error:
            advice = (
                "wrap A and its adjoint in LinearFunction(A, event_shape, adjoint)"
                if self.linear
                else "write A with PyTorch's functions, without detach, numpy or in-place changes"
            )
            self.problem(f"PyTorch finds no gradient through A ({error}); {advice}")
            return
        if not bool(torch.isfinite(found).all()):
            self.problem(
                "the gradient through A is not finite; look for roots and norms at zero, and add a "
                "small number under the root"
            )

    def decomposition(self) -> None:
        """The singular value decomposition, where there is one, is that of A."""
        assert self.measured is not None
        operator = self.rows(2)
        try:
            svd = operator.svd(self.event_shape)
            self.has_svd = svd is not None
            if svd is not None:
                self._decomposition(svd, operator, self.measured)
        except _Stop:
            raise
        except Exception as error:
            self.problem(f"svd fails with {type(error).__name__}: {error}")

    def _decomposition(self, svd: SVD, operator: Operator, shape: tuple[int, ...]) -> None:
        x, y = self.x(2), self.normals(2, shape)
        c = svd.V_adjoint(x)
        values = svd.values_like(c)
        if bool((values < 0).any()):
            self.problem("the singular values of svd must not be negative; move signs into U")
        there, back = operator.A(x), operator.A_adjoint(y)
        inside = c  # coefficients in the range of V^T
        found = svd.U_adjoint(y)
        pairs = {
            "A = U S V^T": (svd.U(values * c), there, both(there, x)),
            "A_adjoint = V S U^T": (svd.V(values * found), back, both(back, y)),
            "V^T V = 1": (svd.V_adjoint(svd.V(inside)), inside, both(inside)),
            "U U^T is a projection": (
                svd.U_adjoint(svd.U(found)),
                found,
                both(y),
            ),
        }
        for name, (one, other, scale) in pairs.items():
            if self.compare(f"svd, {name}", flat(one - other), scale, TOLERANCE):
                self.problem(
                    f"svd is not that of A: {name} fails by a part of "
                    f"{self.errors[f'svd, {name}']:.1e}; return None where it is not known"
                )

    def pseudo_inverse(self) -> None:
        """The four conditions of Penrose, where A_pinv is the operator's own or an SVD's."""
        assert self.measured is not None
        if type(self.operator).A_pinv is Operator.A_pinv and not self.has_svd:
            return
        operator, shape = self.rows(2), self.event_shape
        A = operator.A

        def P(y: Tensor) -> Tensor:
            return self.apply(lambda v: operator.A_pinv(v, shape), y, "A_pinv", shape)

        x, other = self.x(2), self.x(2)
        y, z = self.normals(2, self.measured), self.normals(2, self.measured)
        Ax, Py = A(x), P(y)
        PAx, APy = P(Ax), A(Py)
        APz, PAo = A(P(z)), P(A(other))
        conditions = {
            "A P A = A": (A(PAx) - Ax, both(Ax)),
            "P A P = P": (P(APy) - Py, both(Py)),
            "A P symmetric": (inner(APy, z) - inner(y, APz), norms(y) * norms(z)),
            "P A symmetric": (inner(PAx, other) - inner(x, PAo), norms(x) * norms(other)),
        }
        for name, (error, scale) in conditions.items():
            if self.compare(f"pinv, {name}", error, scale, PENROSE_TOLERANCE):
                self.problem(
                    f"A_pinv is not the pseudo-inverse of A: {name} (P = A_pinv) fails by a part "
                    f"of {self.errors[f'pinv, {name}']:.1e}; leave A_pinv out to use the default"
                )

    def report(self) -> OperatorReport:
        return OperatorReport(
            repr(self.operator),
            self.event_shape,
            self.measured,
            self.linear,
            self.has_svd,
            self.errors,
            self.problems,
        )


def flat(x: Tensor) -> Tensor:
    """(B, ...) as real (B, n)."""
    return (torch.view_as_real(x) if x.is_complex() else x).flatten(1)


def norms(x: Tensor) -> Tensor:
    """The norm of each row (B,); numbers (B,) as their magnitude."""
    return x.abs().double() if x.ndim == 1 else flat(x).double().norm(dim=1)


def both(*parts: Tensor) -> Tensor:
    """The larger of the norms of each row (B,)."""
    return torch.stack([norms(part) for part in parts]).amax(0)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """The inner product of each pair of rows (B,)."""
    return (x * y).flatten(1).sum(1)


def _run(checks: _Checks, quick: bool) -> OperatorReport:
    try:
        checks.shapes((2,) if quick else (1, 3))
        if not quick:
            checks.types()
        checks.repeats()
        if checks.linear:
            checks.linearity()
            checks.adjoint()
            if not quick:
                checks.adjoint_rows()
                checks.decomposition()
                checks.pseudo_inverse()
        checks.gradient()
    except _Stop:
        pass
    return checks.report()


def _checks(
    operator: Operator, event_shape: tuple[int, ...], examples: Tensor | None, seed: int
) -> _Checks:
    if not isinstance(operator, Operator):
        raise InputError(
            f"operator must be an Operator; got {describe(operator)}. sf.operators.adapt makes one "
            "of an object with A and A_adjoint, of a matrix or of a function"
        )
    return _Checks(operator, read_shape(event_shape, "event_shape"), seed, examples)


def check_operator(
    operator: Operator,
    event_shape: tuple[int, ...],
    examples: Tensor | None = None,
    seed: int = 0,
) -> OperatorReport:
    """Check that an operator keeps the rules that methods of restoration rely on.

    Shapes of batches of one and of three, real and finite results, float32 and float64, no change
    of the input, no noise, no mixing of batch rows, a gradient; for linear operators linearity, the
    adjoint, and the singular value decomposition and the pseudo-inverse where there are any.

    Args:
        operator: The operator.
        event_shape: The shape of an example.
        examples: (B, *event) in data units, at which an operator that is not linear is measured;
            None: standard normals.
        seed: The random inputs are a function of it.

    Returns:
        A report, whose `problems` are sentences and whose `raise_problems` raises them.

    Raises:
        InputError: `operator` is not an Operator.

    Example:
        >>> sf.operators.check_operator(sf.operators.Downsample(4), (1, 28, 28))
    """
    return _run(_checks(operator, event_shape, examples, seed), quick=False)


def quick_check(
    operator: Operator,
    event_shape: tuple[int, ...],
    examples: Tensor | None = None,
    seed: int = 0,
) -> None:
    """Refuse an operator that is wrong, by a dozen products with A and two with its adjoint.

    The arguments are those of `check_operator`. float32, the decomposition and the pseudo-inverse
    are left to it.

    Raises:
        InputError: Shape, type, linearity, adjoint or gradient are wrong, or a result is complex or
            not finite.
    """
    _run(_checks(operator, event_shape, examples, seed), quick=True).raise_problems()
