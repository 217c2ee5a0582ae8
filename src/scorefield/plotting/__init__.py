"""Pictures: grids, animations, restoration sheets, score fields and curves, each one to be
understood alone.

Every function takes arrays or tensors in *data units* (images: floats in [0, 1] or uint8) and, if
it writes, writes atomically: a temporary
name in the same folder, then a rename, so that a picture is whole or absent. Image pixels are only
ever enlarged by whole factors
(nearest), so a stored pixel is the model's pixel. Colours are viridis, cividis and the palette of
Okabe & Ito: safe for colour-blind
readers.
"""

from .animation import save_animation
from .curves import save_loss_per_sigma, save_training_curve
from .fields import save_scatter, save_score_field
from .images import Layout, grid, read_layout, save_grid, to_pixels
from .planes import Panel, grid_points, save_moving_points, save_planes
from .samples import save_samples
from .sheet import save_inpainting
from .spread import Chart, save_spread

__all__ = [
    "Chart",
    "Layout",
    "Panel",
    "grid",
    "grid_points",
    "read_layout",
    "save_animation",
    "save_grid",
    "save_inpainting",
    "save_loss_per_sigma",
    "save_moving_points",
    "save_planes",
    "save_samples",
    "save_scatter",
    "save_score_field",
    "save_spread",
    "save_training_curve",
    "to_pixels",
]
