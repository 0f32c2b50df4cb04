"""The released Mask R-CNNs on pyramids with ConvNeXt branches.

Their own data settings are commented out in the official configurations, so that they are trained as the base
configuration says: 1333 x 800 pixels, and the mean and deviation of ImageNet.
"""

from piip.branches import AnyBranchConfig, ConvNeXtConfig
from piip.branches.presets import ConvNeXtSize, convnext
from piip.pyramid import BackboneConfig, ConvMergingConfig, LevelConfig
from piip.tasks.detection.coco_classes import COCO_CLASSES
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.zoo.cards.branches import deit, pyramid
from piip.zoo.cards.card import ModelCard, PublishedScore

_SIZES: tuple[tuple[ConvNeXtSize, int], ...] = (("base", 448), ("small", 672), ("tiny", 1024))
_NAMES = {"convnext": "ConvNeXt", "vit": "DeiT"}
_PRETRAINING = {
    "convnext": ("ConvNeXt-B", "ConvNeXt-S", "ConvNeXt-T"),
    "vit": ("DeiT III-B", "DeiT III-S", "DeiT-T"),
}
_STAGES = (0, 1, 10, -1)  # of the four maps


def _branch(kind: str, size: ConvNeXtSize, image_size: int) -> AnyBranchConfig:
    if kind == "convnext":
        return convnext(size, image_size=image_size, drop_path=0.2)
    if size == "large":
        raise ValueError("size: no official pyramid mixes a ViT-L with ConvNeXts")
    return deit(size, image_size, 14)


def _mask_rcnn(kinds: tuple[str, str, str]) -> MaskRCNNConfig:
    """One map of each of four interactions; where the last branch is a ViT, which keeps one size, they are resized."""
    branches = [_branch(kind, size, image_size) for kind, (size, image_size) in zip(kinds, _SIZES, strict=True)]
    scales = (1, 1, 1, 1) if isinstance(branches[-1], ConvNeXtConfig) else (4, 2, 1, 0.5)
    levels = tuple(LevelConfig(stage=stage, scale=scale) for stage, scale in zip(_STAGES, scales, strict=True))
    backbone = BackboneConfig(pyramid=pyramid(*branches), merging=ConvMergingConfig(form="light"), levels=levels)
    return MaskRCNNConfig(backbone=backbone, class_names=COCO_CLASSES)


def _card(base: str, small: str, tiny: str, flops: float) -> ModelCard:
    """A card by the kinds of its branches, `convnext` or `vit`."""
    kinds = (base, small, tiny)
    stem = "_".join(f"{kind}-{letter}" for kind, letter in zip(reversed(kinds), "tsb", strict=True))
    return ModelCard(
        name=f"mask_rcnn_{'convnext-tsb' if set(kinds) == {'convnext'} else stem}_1024_672_448_regular-fpn",
        task="detection",
        summary=", ".join(
            f"{_NAMES[kind]} {size[0].upper()} {pixels}" for kind, (size, pixels) in zip(kinds, _SIZES, strict=True)
        ),
        config=lambda: _mask_rcnn(kinds),
        recipe="convnext-1x",
        pretraining=tuple(_PRETRAINING[kind][number] for number, kind in enumerate(kinds)),
        published=PublishedScore(scores={}, params=None, flops=flops),
    )


CARDS = (
    _card("convnext", "convnext", "convnext", 326),
    _card("vit", "vit", "convnext", 373),
    _card("vit", "convnext", "convnext", 431),
    _card("convnext", "vit", "convnext", 297),
    _card("vit", "convnext", "vit", 291),
    _card("convnext", "convnext", "vit", 231),
    _card("convnext", "vit", "vit", 193),
)
