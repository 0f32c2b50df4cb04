"""An UperNet that learns the generated shapes within a minute."""

from piip.branches import ViTConfig
from piip.pyramid import BackboneConfig, InteractionConfig, PyramidConfig, simple_pyramid
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from piip.tasks.segmentation.upernet import FCNHeadConfig, UperHeadConfig, UperNetConfig


def small_segmentor() -> UperNetConfig:
    """Two branches on images of 48 and 96 pixels, four classes."""

    def branch(image_size: int, embed_dim: int) -> ViTConfig:
        return ViTConfig(
            image_size=image_size,
            depth=2,
            embed_dim=embed_dim,
            num_heads=2,
            stages=(1, 1),
            patch_size=8,
            class_token=False,
        )

    pyramid = PyramidConfig(branches=(branch(48, 64), branch(96, 64)), interaction=InteractionConfig(num_heads=4))
    return UperNetConfig(
        backbone=BackboneConfig(pyramid=pyramid, levels=simple_pyramid(2, 1, 0.5)),
        num_classes=4,
        decode_head=UperHeadConfig(channels=64),
        auxiliary_head=FCNHeadConfig(level=1, channels=32),
        preprocess=SegmentationPreprocessConfig(short_side=96),
    )
