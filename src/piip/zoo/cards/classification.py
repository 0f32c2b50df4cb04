"""The named classifiers."""

from dataclasses import replace

from piip.branches import ViTConfig
from piip.branches.presets import ViTSize, vit
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.classification.names import imagenet_synsets
from piip.zoo.cards.card import ModelCard, PublishedScore


def _classifier(*branches: ViTConfig, num_heads: int = 16, drop_path: float = 0.4) -> ClassificationConfig:
    """As the released models: the paper's interactions, and a head on the first patch of each branch."""
    pyramid = PyramidConfig(branches=branches, interaction=InteractionConfig(num_heads=num_heads, drop_path=drop_path))
    return ClassificationConfig(
        pyramid=pyramid,
        head=SeparateHeadsConfig(num_classes=1000, reads="first_patch"),
        class_names=imagenet_synsets(),
    )


def _deit(size: ViTSize, image_size: int, drop_path: float) -> ViTConfig:
    return vit(size, image_size=image_size, layer_scale=1.0, drop_path=drop_path)


def _augreg(size: ViTSize, image_size: int, drop_path: float) -> ViTConfig:
    branch = vit(size, image_size=image_size, drop_path=drop_path)
    return replace(branch, class_pos_embed="unused")


def _tsb() -> ClassificationConfig:
    return _classifier(_deit("base", 128, 0.2), _deit("small", 192, 0.05), _deit("tiny", 368, 0.05))


def _sbl(large: int, base: int, small: int) -> ClassificationConfig:
    return _classifier(_augreg("large", large, 0.4), _augreg("base", base, 0.2), _augreg("small", small, 0.05))


def _alone(branch: ViTConfig) -> ClassificationConfig:
    """One branch, whose head reads its class token as usual."""
    return ClassificationConfig(
        pyramid=PyramidConfig(
            branches=(replace(branch, stages=(branch.depth,)),), interaction=InteractionConfig(edges=())
        ),
        head=SeparateHeadsConfig(num_classes=1000, reads="class_token"),
        class_names=imagenet_synsets(),
    )


def _scratch_branch(image_size: int, embed_dim: int, num_heads: int, window_size: int | None = None) -> ViTConfig:
    return ViTConfig(
        image_size=image_size,
        depth=12,
        embed_dim=embed_dim,
        num_heads=num_heads,
        stages=(1,) * 12,
        class_token=False,
        window_size=window_size,
        layer_scale=1.0,
        drop_path=0.05,
    )


def _piip_b() -> ClassificationConfig:
    """Of table 13, trained from scratch, with one head on the merged branches.

    What the third branch costs tells that it has windows of 16 tokens, which is all of the second.
    """
    branches = _scratch_branch(128, 640, 8), _scratch_branch(256, 320, 4), _scratch_branch(512, 160, 2, 16)
    config = _classifier(*branches)
    return replace(config, head=MergedHeadConfig(num_classes=1000))


def _tiny_branch(image_size: int, depth: int, embed_dim: int) -> ViTConfig:
    stages = (depth // 2,) * 2
    return ViTConfig(
        image_size=image_size, depth=depth, embed_dim=embed_dim, num_heads=embed_dim // 32, stages=stages, patch_size=8
    )


def _demo() -> ClassificationConfig:
    config = _classifier(
        _tiny_branch(32, 4, 96), _tiny_branch(48, 2, 64), _tiny_branch(96, 2, 32), num_heads=4, drop_path=0.0
    )
    return replace(config, head=SeparateHeadsConfig(num_classes=1000, reads="mean"))


CARDS = (
    ModelCard(
        name="piip_3branch_tsb_368-192-128_cls_token_deit1",
        task="classification",
        summary="DeiT B 128, S 192, T 368",
        config=_tsb,
        recipe="released",
        pretraining=("DeiT-B", "DeiT-S", "DeiT-T"),
        published=PublishedScore(scores={"top1": 82.1}, params=144, flops=17.4),
    ),
    ModelCard(
        name="piip_3branch_sbl_320-160-96_cls_token_augreg",
        task="classification",
        summary="AugReg L 96, B 160, S 320",
        config=lambda: _sbl(96, 160, 320),
        recipe="released",
        pretraining=("AugReg ViT-L/16", "AugReg ViT-B/16", "AugReg ViT-S/16"),
        published=PublishedScore(scores={"top1": 85.2}, params=489, flops=39.0),
    ),
    ModelCard(
        name="piip_3branch_sbl_384-192-128_cls_token_augreg",
        task="classification",
        summary="AugReg L 128, B 192, S 384",
        config=lambda: _sbl(128, 192, 384),
        recipe="released",
        pretraining=("AugReg ViT-L/16", "AugReg ViT-B/16", "AugReg ViT-S/16"),
        published=PublishedScore(scores={"top1": 85.9}, params=489, flops=61.2),
    ),
    ModelCard(
        name="paper_deit_b_224",
        task="classification",
        summary="DeiT B 224",
        config=lambda: _alone(vit("base", image_size=224, drop_path=0.1)),
        recipe="imagenet-scratch",
        published=PublishedScore(scores={"top1": 81.8}, params=None, flops=17.2),
        table="6",
        released=False,
    ),
    ModelCard(
        name="paper_vit_l_224",
        task="classification",
        summary="AugReg L 224",
        config=lambda: _alone(vit("large", image_size=224, drop_path=0.4)),
        recipe="released",
        pretraining=("AugReg ViT-L/16",),
        published=PublishedScore(scores={"top1": 85.2}, params=None, flops=61.6),
        table="6",
        released=False,
    ),
    ModelCard(
        name="paper_piip_b_512-256-128_from_scratch",
        task="classification",
        summary="ViT-640 128, ViT-320 256, ViT-160 512",
        config=_piip_b,
        table="13",
        released=False,
        recipe="imagenet-scratch",
        published=PublishedScore(scores={"top1": 82.7}, params=100.3, flops=18.4),
    ),
    ModelCard(
        name="piip_demo_shapes_96-48-32",
        task="classification",
        summary="tiny ViTs 32, 48, 96",
        config=_demo,
        released=False,
    ),
)
