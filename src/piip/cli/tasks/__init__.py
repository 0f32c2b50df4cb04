"""What `piip eval`, `piip predict` and `piip info` do for each task."""

from typing import Any

from piip.cli.tasks.arguments import EvalArguments, PredictArguments
from piip.cli.tasks.base import Prediction, TaskCommands, refuse_unused
from piip.cli.tasks.classification import ClassificationCommands
from piip.cli.tasks.detection import DINOCommands, MaskRCNNCommands
from piip.cli.tasks.segmentation import SegmentationCommands
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.detection.dino.model import DINOConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.tasks.models import TaskConfig
from piip.tasks.segmentation.upernet.model import UperNetConfig

__all__ = ["EvalArguments", "PredictArguments", "Prediction", "TaskCommands", "find_task", "refuse_unused"]

_TASKS: dict[type, TaskCommands[Any]] = {
    ClassificationConfig: ClassificationCommands(),
    MaskRCNNConfig: MaskRCNNCommands(),
    DINOConfig: DINOCommands(),
    UperNetConfig: SegmentationCommands(),
}


def find_task(config: TaskConfig) -> TaskCommands[Any]:
    """The task of a model with this configuration."""
    return _TASKS[type(config)]
