"""*Shapes*: a generated dataset of drawn objects on clutter, with a label, a box and a mask for each.

It stands in for ImageNet, COCO and ADE20K where those are too large: in tests, in the demo, in a first try of a recipe.
Scenes are drawn from their number alone, and written to disk in the layouts of the real datasets, so that one data path
serves both.
"""

from piip.shapes.ade20k import write_ade20k
from piip.shapes.coco import write_coco
from piip.shapes.dataset import split_indices
from piip.shapes.folder import write_image_folder
from piip.shapes.outlines import SHAPE_NAMES
from piip.shapes.scene import Scene, ShapesConfig, draw_scene

__all__ = [
    "SHAPE_NAMES",
    "Scene",
    "ShapesConfig",
    "draw_scene",
    "split_indices",
    "write_ade20k",
    "write_coco",
    "write_image_folder",
]
