"""What the classes of COCO are called."""

from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

COCO_CLASSES: tuple[str, ...] = tuple(
    name for name in MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"] if name not in ("__background__", "N/A")
)
"""The 80 classes in the order of their category ids, which have gaps: that of the labels of the released detectors."""
