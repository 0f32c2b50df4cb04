"""UperNet (arXiv 1807.10221): the model, its configuration, and its parts."""

from piip.tasks.segmentation.upernet.fcn_head import FCNHead, FCNHeadConfig
from piip.tasks.segmentation.upernet.inference import SlidingInference, WholeInference
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig
from piip.tasks.segmentation.upernet.uper_head import UperHead, UperHeadConfig

__all__ = [
    "FCNHead",
    "FCNHeadConfig",
    "SlidingInference",
    "UperHead",
    "UperHeadConfig",
    "UperNet",
    "UperNetConfig",
    "WholeInference",
]
