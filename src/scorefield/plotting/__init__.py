"""Pictures: image grids, animations, restoration sheets, tables, score fields and curves.

Every function takes arrays or tensors in *data units* (images: floats in [0, 1] or stored whole
numbers). Every file is written atomically, so a picture is either complete or absent. Images are
only enlarged by whole factors (nearest neighbour), so a stored pixel is a pixel of the model.
Labels are measured and never overlap; `palette` states the colours, which colour-blind readers can
tell apart.
"""

from .animation import save_animation
from .class_grid import save_class_grid
from .columns import TableColumn
from .curves import save_loss_per_sigma, save_training_curve
from .display import Picture, facts_table, paragraph, with_picture
from .fields import save_scatter, save_score_field
from .images import grid, save_grid
from .layout import Layout, read_layout
from .pixels import shown_intensity, to_pixels
from .planes import Panel, grid_points, save_moving_points, save_planes
from .restoration_sheet import save_signals
from .samples import save_samples
from .seed_curves import Chart, save_seed_curves
from .sheet import save_inpainting
from .tables import save_table

__all__ = [
    "Chart",
    "Layout",
    "Panel",
    "Picture",
    "TableColumn",
    "facts_table",
    "grid",
    "grid_points",
    "paragraph",
    "read_layout",
    "save_animation",
    "save_class_grid",
    "save_grid",
    "save_inpainting",
    "save_loss_per_sigma",
    "save_moving_points",
    "save_planes",
    "save_samples",
    "save_scatter",
    "save_score_field",
    "save_seed_curves",
    "save_signals",
    "save_table",
    "save_training_curve",
    "shown_intensity",
    "to_pixels",
    "with_picture",
]
