"""The models that there are, of all tasks."""

from piip.pyramid import Backbone, BackboneConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.tasks.detection.dino.model import DINO, DINOConfig
from piip.tasks.detection.mask_rcnn.model import MaskRCNN, MaskRCNNConfig
from piip.tasks.segmentation.upernet.model import UperNet, UperNetConfig

TaskModel = ClassificationModel | MaskRCNN | DINO | UperNet
"""A model that is trained for a task, and predicts."""

TaskConfig = ClassificationConfig | MaskRCNNConfig | DINOConfig | UperNetConfig
"""The configuration of one."""

AnyModel = TaskModel | Backbone
"""Any of them, or the backbone of a detector or segmentor by itself."""

AnyModelConfig = TaskConfig | BackboneConfig
"""The configuration of one of these."""
