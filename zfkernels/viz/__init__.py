"""Drawing: the only place that turns tensors into pictures. One module for each kind of figure."""

from zfkernels.viz.ablation import ablation_figure
from zfkernels.viz.correspondence import correspondence_figure
from zfkernels.viz.diagnosis import diagnosis_figure
from zfkernels.viz.evolution import convergence_figure, evolution_sheet
from zfkernels.viz.gallery import gallery_figure
from zfkernels.viz.invariance import invariance_figure
from zfkernels.viz.occlusion import OcclusionRow, occlusion_sheet
from zfkernels.viz.plan import LayerBox, boxes_figure, plan_figure
from zfkernels.viz.receptive_field import receptive_field_figure
from zfkernels.viz.store import store_figure
from zfkernels.viz.tiles import (
    SpriteGrid,
    as_picture,
    feature_sheet,
    heat_tiles,
    map_sprite,
    resize_tiles,
    save_picture,
    save_sheet,
    stretch_projections,
    tile_board,
)
from zfkernels.viz.training import learning_curve_figure
from zfkernels.viz.transfer import probe_figure, transfer_figure

__all__ = [
    "LayerBox",
    "OcclusionRow",
    "SpriteGrid",
    "ablation_figure",
    "as_picture",
    "boxes_figure",
    "convergence_figure",
    "correspondence_figure",
    "diagnosis_figure",
    "evolution_sheet",
    "feature_sheet",
    "gallery_figure",
    "heat_tiles",
    "invariance_figure",
    "learning_curve_figure",
    "map_sprite",
    "occlusion_sheet",
    "plan_figure",
    "probe_figure",
    "receptive_field_figure",
    "resize_tiles",
    "save_picture",
    "save_sheet",
    "store_figure",
    "stretch_projections",
    "tile_board",
    "transfer_figure",
]
