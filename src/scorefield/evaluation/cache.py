"""Where trained feature extractors are kept: a folder of the user, or the one of SCOREFIELD_CACHE.

    $SCOREFIELD_CACHE, else $XDG_CACHE_HOME/scorefield, else ~/.cache/scorefield

Files are safetensors and are written atomically. A file that cannot be read is made anew, and a
folder that cannot be written keeps nothing: a cache never stops an evaluation.
"""

import os
from pathlib import Path

from torch import Tensor

from ..errors import InputError
from ..files import write_bytes


def cache_folder() -> Path:
    """The folder of feature extractors; it need not exist."""
    own = os.environ.get("SCOREFIELD_CACHE")
    if own:
        return Path(own) / "features"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scorefield" / "features"


def read_tensors(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file; None where there is no file, or none that can be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        return None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> bool:
    """Keep tensors in a file.

    Args:
        path: The file.
        tensors: Name -> values.

    Returns:
        Whether they could be written.
    """
    from safetensors.torch import save

    try:
        write_bytes(path, save({name: value.contiguous() for name, value in tensors.items()}))
    except (OSError, InputError):
        return False
    return True
