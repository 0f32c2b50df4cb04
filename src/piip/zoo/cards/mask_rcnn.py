"""The released Mask R-CNNs on pyramids of ViTs, and on single models.

Preprocessing and recipes are those that take effect in the official configurations.
"""

from collections.abc import Callable
from dataclasses import replace

from piip.branches import AnyBranchConfig, ViTConfig
from piip.branches.presets import ViTSize, convnext
from piip.pyramid import BackboneConfig, LevelConfig, PyramidConfig
from piip.tasks.detection.augmentation import DetectionPreprocessConfig
from piip.tasks.detection.coco_classes import COCO_CLASSES
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.zoo.cards.branches import (
    augreg,
    beit,
    deit,
    in_stages,
    internvit_6b,
    pyramid,
    uniperceiver,
    with_global_blocks,
)
from piip.zoo.cards.card import GLOBAL_BLOCKS, MAE_NOTICE, ModelCard, PublishedScore

DEIT_SIZES: dict[str, ViTSize] = {"t": "tiny", "s": "small", "b": "base", "l": "large"}
DEIT_NAMES = {"t": "DeiT-T", "s": "DeiT III-S", "b": "DeiT III-B", "l": "DeiT III-L"}

_SBL: tuple[tuple[ViTSize, int], ...] = (("large", 672), ("base", 1120), ("small", 1568))
_MAE_HUGE = "MAE ViT-H"


def prepare(scale: tuple[int, int], size_divisor: int) -> DetectionPreprocessConfig:
    """Preprocessing with a mean and deviation of one half, as nearly all official configurations have it."""
    half = (0.5, 0.5, 0.5)
    return DetectionPreprocessConfig(scale=scale, mean=half, std=half, size_divisor=size_divisor)


def wide(longer: int) -> tuple[int, int]:
    """A scale of 5 to 3."""
    return longer, int(longer * 0.6 + 0.5)


def lh6b_pyramid() -> PyramidConfig:
    """Three models without windows, which interact four times."""
    branches = (
        internvit_6b(512, gelu="tanh"),
        augreg("huge", 1024, None, 224, gelu="tanh"),
        replace(deit("large", 1536, None, 384), gelu="tanh"),
    )
    return pyramid(*(in_stages(branch, 4) for branch in branches), fast=True)


def mask_rcnn(pyramid_config: PyramidConfig, preprocess: DetectionPreprocessConfig) -> MaskRCNNConfig:
    """A Mask R-CNN for the classes of COCO, on four maps made of the last one."""
    backbone = BackboneConfig(pyramid=pyramid_config)
    return MaskRCNNConfig(backbone=backbone, class_names=COCO_CLASSES, preprocess=preprocess)


def _windowed(*branches: AnyBranchConfig, fast: bool = False) -> MaskRCNNConfig:
    """Maps that are divided into windows of 14 or 28 tokens: images are padded to multiples of 224."""
    config = pyramid(*branches, fast=fast)
    return mask_rcnn(config, prepare(wide(config.image_size), 224))


def _deits(letters: str, sizes: tuple[int, ...]) -> MaskRCNNConfig:
    window = 28 if "l" in letters else 14
    branches = [deit(DEIT_SIZES[letter], size, window) for letter, size in zip(letters, sizes, strict=True)]
    return _windowed(*branches)


def _deit_card(letters: str, sizes: tuple[int, ...], published: PublishedScore) -> ModelCard:
    """A card of a pyramid of DeiTs, from branch 1 on.

    Of four, the last one is tiny by the name and by the published numbers. The official code builds it from the
    arguments of branch 3 instead: a small one, which checkpoints may be of.
    """
    built = letters[:3] + letters[2] * (len(letters) == 4)
    return ModelCard(
        name=f"mask_rcnn_deit_{letters[::-1]}_{'_'.join(map(str, reversed(sizes)))}_fpn_1x_coco_bs16",
        task="detection",
        summary="DeiT " + ", ".join(f"{letter.upper()} {size}" for letter, size in zip(letters, sizes, strict=True)),
        config=lambda: _deits(letters, sizes),
        variants=() if built == letters else (lambda: _deits(built, sizes),),
        recipe="vit-1x",
        pretraining=tuple(DEIT_NAMES[letter] for letter in letters),
        published=published,
    )


def _sbl_card(
    family: str,
    make: Callable[[], MaskRCNNConfig],
    pretraining: tuple[str, str, str],
    suffix: str = "",
    notice: str = "",
) -> ModelCard:
    return ModelCard(
        name=f"mask_rcnn_{family}_sbl_1568_1120_672_fpn_1x_coco_bs16{suffix}",
        task="detection",
        summary=", ".join(f"{name} {size}" for name, (_, size) in zip(pretraining, _SBL, strict=True)),
        config=make,
        recipe="vit-1x",
        pretraining=pretraining,
        weights_notice=notice,
    )


def _augreg_sbl(pretrained_size: int) -> MaskRCNNConfig:
    return _windowed(*(augreg(size, pixels, 28, pretrained_size) for size, pixels in _SBL))


def _augreg_sbl_speedup() -> MaskRCNNConfig:
    return _windowed(*(augreg(size, pixels, 28, 384, gelu="tanh") for size, pixels in _SBL), fast=True)


def _with_deit_small(make: Callable[[ViTSize, int], AnyBranchConfig]) -> MaskRCNNConfig:
    """Families that have no small model start their last branch from a DeiT."""
    large, base, (_, pixels) = _SBL
    return _windowed(make(*large), make(*base), deit("small", pixels, 28))


def alone(branch: ViTConfig, preprocess: DetectionPreprocessConfig) -> MaskRCNNConfig:
    """A detector on one branch."""
    single = pyramid(replace(branch, stages=(branch.depth,)))
    backbone = BackboneConfig(pyramid=single, merging=None, upsampling_norm="layernorm")
    return MaskRCNNConfig(backbone=backbone, class_names=COCO_CLASSES, preprocess=preprocess)


def _single_deit(size: ViTSize) -> MaskRCNNConfig:
    return alone(with_global_blocks(deit(size, 1024, 14)), prepare(wide(1024), 64))


def _convnext_base() -> MaskRCNNConfig:
    levels = tuple(LevelConfig(stage=stage, scale=1) for stage in range(4))
    alone = pyramid(convnext("base", image_size=1024, num_stages=4, drop_path=0.2))
    backbone = BackboneConfig(pyramid=alone, merging=None, levels=levels)
    return MaskRCNNConfig(backbone=backbone, class_names=COCO_CLASSES, preprocess=prepare(wide(1024), 64))


def _h6b(*, fast: bool) -> MaskRCNNConfig:
    branches = internvit_6b(512), augreg("huge", 1024, None, 224)
    if fast:
        branches = replace(branches[0], gelu="tanh"), replace(branches[1], gelu="tanh")
    return mask_rcnn(pyramid(*branches, fast=fast), prepare((1333, 800), 64))


def _big_card(
    name: str,
    make: Callable[[], MaskRCNNConfig],
    summary: str,
    pretraining: tuple[str, ...],
    recipe: str = "internvit-1x",
    published: PublishedScore | None = None,
    assumed: str = "",
) -> ModelCard:
    return ModelCard(
        name=f"mask_rcnn_{name}",
        task="detection",
        summary=summary,
        config=make,
        recipe=recipe,
        pretraining=pretraining,
        published=published,
        assumed=assumed,
        weights_notice=MAE_NOTICE if _MAE_HUGE in pretraining else "",
    )


def _published(params: float | None, flops: float, box_ap: float | None = None, mask_ap: float = 0) -> PublishedScore:
    scores = {} if box_ap is None else {"box_ap": box_ap, "mask_ap": mask_ap}
    return PublishedScore(scores=scores, params=params, flops=flops)


CARDS = (
    _deit_card("bst", (448, 896, 1120), _published(146, 243, 43.9, 38.6)),
    _deit_card("bst", (448, 896, 1568), _published(147, 287, 45.0, 40.2)),
    _deit_card("bst", (672, 1120, 1568), _published(149, 453, 46.6, 41.4)),
    _deit_card("lbs", (448, 672, 1120), _published(493, 727, 46.7, 40.8)),
    _deit_card("lbs", (448, 896, 1344), _published(495, 1002, 48.2, 42.5)),
    _deit_card("lbs", (672, 896, 1568), _published(497, 1464, 49.4, 43.7)),
    _deit_card("lbs", (672, 1120, 1568), _published(None, 1709, 49.9, 44.3)),
    _deit_card("lbst", (448, 672, 896, 1344), _published(506, 755, 46.9, 41.6)),
    _deit_card("lbst", (448, 672, 1120, 1568), _published(507, 861, 48.2, 42.8)),
    _deit_card("lbst", (448, 1120, 1568, 1792), _published(512, 1535, 49.6, 44.2)),
    _sbl_card("augreg", lambda: _augreg_sbl(384), ("AugReg L", "AugReg B", "AugReg S")),
    _sbl_card("augreg", _augreg_sbl_speedup, ("AugReg L", "AugReg B", "AugReg S"), suffix="_speedup"),
    _sbl_card("dinov2", lambda: _augreg_sbl(518), ("DINOv2 L", "DINOv2 B", "DINOv2 S")),
    _sbl_card(
        "mae",
        lambda: _with_deit_small(lambda size, pixels: augreg(size, pixels, 28, 224)),
        ("MAE L", "MAE B", "DeiT III-S"),
        notice=MAE_NOTICE,
    ),
    _sbl_card("beit", lambda: _with_deit_small(beit), ("BEiTv2-L", "BEiTv2-B", "DeiT III-S")),
    _sbl_card(
        "uniperceiver", lambda: _with_deit_small(uniperceiver), ("Uni-Perceiver L", "Uni-Perceiver B", "DeiT III-S")
    ),
    _big_card(
        "deit_vit_b_fpn_1x_coco_bs16",
        lambda: _single_deit("base"),
        "DeiT B 1024",
        ("DeiT III-B",),
        "vit-baseline-1x",
        _published(90, 463, 43.8, 39.9),
        GLOBAL_BLOCKS,
    ),
    _big_card(
        "deit_vit_l_fpn_1x_coco_bs16",
        lambda: _single_deit("large"),
        "DeiT L 1024",
        ("DeiT III-L",),
        "vit-baseline-1x",
        _published(308, 1542, 46.8, 42.5),
        GLOBAL_BLOCKS,
    ),
    _big_card(
        "convnext-base_1024_regular-fpn",
        _convnext_base,
        "ConvNeXt B 1024",
        ("ConvNeXt-B",),
        "convnext-baseline-1x",
        _published(None, 321),
    ),
    _big_card(
        "internvit_6b_fpn_1x_coco_bs16_ms",
        lambda: alone(internvit_6b(1024), prepare((1333, 800), 64)),
        "InternViT 6B 1024",
        ("InternViT-6B",),
        "internvit-baseline-1x",
        _published(5919, 29323),
    ),
    _big_card(
        "internvit_h6b_1024_512_fpn_1x_coco_bs16_ms",
        lambda: _h6b(fast=False),
        "InternViT 6B 512, MAE H 1024",
        ("InternViT-6B", _MAE_HUGE),
        published=_published(6872, 11080),
    ),
    _big_card(
        "internvit_h6b_1024_512_fpn_1x_coco_bs16_ms_speedup",
        lambda: _h6b(fast=True),
        "InternViT 6B 512, MAE H 1024",
        ("InternViT-6B", _MAE_HUGE),
    ),
    _big_card(
        "internvit_lh6b_1536_1024_512_fpn_1x_coco_bs32_ms",
        lambda: mask_rcnn(lh6b_pyramid(), prepare((1999, 1200), 64)),
        "InternViT 6B 512, MAE H 1024, DeiT L 1536",
        ("InternViT-6B", _MAE_HUGE, "DeiT III-L 384"),
        "internvit-lh6b-1x",
    ),
)
