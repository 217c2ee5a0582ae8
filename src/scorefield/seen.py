"""What training has shown of a condition: which classes had examples, and the range of vectors.

unseen_classes   classes that no training example had, whose embedding was never trained
far_vectors      vectors beyond the range of training by more than its width
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .values import listed

SHOWN = 3  # classes or elements that a sentence lists


def unseen_classes(condition: Mapping[str, Tensor] | None, specs: Mapping[str, Any]) -> list[str]:
    """Sentences about classes that no training example had.

    Args:
        condition: In the internal form, or None.
        specs: The `ConditionSpec` of each name.

    Returns:
        One sentence for each condition with such a class; [] where the specs do not tell.
    """
    found = []
    for name, value in (condition or {}).items():
        spec = specs[name]
        numbers = sorted(set(value.unique().tolist()).intersection(spec.unseen or ()))
        if numbers:
            shown = listed(map(spec.name_of, numbers), SHOWN)
            which = f"class {shown}" if len(numbers) == 1 else f"classes {shown}"
            found.append(
                f"no training example had the {which}, so that the model has not learned it; it "
                f"takes {spec.describe()}"
            )
    return found


def far_vectors(condition: Mapping[str, Tensor] | None, specs: Mapping[str, Any]) -> list[str]:
    """Sentences about vectors that lie outside the training data by far.

    Args:
        condition: In the internal form, or None.
        specs: The `ConditionSpec` of each name.

    Returns:
        One sentence for each condition with an element beyond the range that it had in training by
        more than the width of that range; [] where the specs do not tell.
    """
    found = []
    for name, value in (condition or {}).items():
        spec = specs[name]
        if spec.low is None or spec.high is None:
            continue
        wide = value.detach().cpu().double()
        low, high = (torch.tensor(end, dtype=torch.float64) for end in (spec.low, spec.high))
        width = high - low
        far = (wide < low - width) | (wide > high + width)
        words = [
            f"{wide[far[:, k], k][0]:.6g} for {spec.name_of(k)} ({low[k]:.6g} to {high[k]:.6g})"
            for k in far.any(0).nonzero().flatten().tolist()
        ]
        if words:
            more = f" and {len(words) - SHOWN} elements more" if len(words) > SHOWN else ""
            found.append(
                f"the {name} lies far outside the training data, whose range is in brackets: "
                f"{', '.join(words[:SHOWN])}{more}. Nothing was learned there"
            )
    return found
