"""Score models: the contract, networks with preconditioning, wrappers, priors and their cost."""

from .base import Moments, Quantity, ScoreModel, as_sigma, broadcast, check_model, jacobian
from .cost import Cost, count_cost
from .guidance import Guidance, Guided, check_levels
from .preconditioned import (
    FORMS,
    PRECONDITIONERS,
    Coefficients,
    Energy,
    Preconditioned,
    Preconditioner,
    ScalarEnergy,
    SquareEnergy,
)
from .prior import Prior, prior
from .restricted import Restricted, constant_elements, off_constants
from .wrapped import Bound, Wrapped

__all__ = [
    "FORMS",
    "PRECONDITIONERS",
    "Bound",
    "Coefficients",
    "Cost",
    "Energy",
    "Guidance",
    "Guided",
    "Moments",
    "Preconditioned",
    "Preconditioner",
    "Prior",
    "Quantity",
    "Restricted",
    "ScalarEnergy",
    "ScoreModel",
    "SquareEnergy",
    "Wrapped",
    "as_sigma",
    "broadcast",
    "check_levels",
    "check_model",
    "constant_elements",
    "count_cost",
    "jacobian",
    "off_constants",
    "prior",
]
