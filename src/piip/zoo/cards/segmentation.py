"""The named segmentors.

The five released UperNets are as their checkpoints and their pipelines on ADE20K have them. Their mIoU is not at hand
here; rates of drop path, which matter in training only, are those of the detectors, see `piip.zoo.cards.branches`.

The release has neither weights nor configurations of the paper's PIIP-TSB and PIIP-SBL (tables 4 and 5). The paper
gives their branches and resolutions. Windows of 28 tokens, with projections and norms in 12 interactions, cost exactly
what it prints. Assumed are the heads, which are those that UperNet usually has on ViTs; images, as in the release, as
large as the largest branch's; and windows at inference that overlap by a third, also as in the release.
"""

from dataclasses import replace

from piip.branches import ViTConfig
from piip.branches.presets import ViTSize
from piip.pyramid import BackboneConfig, PyramidConfig
from piip.tasks.segmentation.ade20k import ADE20K_CLASSES, ADE20K_PALETTE
from piip.tasks.segmentation.augmentation import SegmentationPreprocessConfig
from piip.tasks.segmentation.upernet import FCNHeadConfig, SlidingInference, UperHeadConfig, UperNetConfig
from piip.zoo.cards.branches import augreg, deit, internvit_6b, pyramid, with_global_blocks
from piip.zoo.cards.card import GLOBAL_BLOCKS, INTERNVIT_WINDOWS, LH6B_WINDOWS, MAE_NOTICE, ModelCard, PublishedScore
from piip.zoo.cards.demo import shapes_backbone
from piip.zoo.cards.mask_rcnn import DEIT_NAMES, DEIT_SIZES

_WINDOW = 28


def _upernet(backbone: BackboneConfig, decode_channels: int, auxiliary_channels: int) -> UperNetConfig:
    """An UperNet for the classes of ADE20K, on images as large as the backbone is made for."""
    side = backbone.pyramid.image_size
    windows = max(1, 4 * 512**2 // side**2)  # four of the released size, or no more pixels than those have
    return UperNetConfig(
        backbone=backbone,
        class_names=ADE20K_CLASSES,
        palette=ADE20K_PALETTE,
        decode_head=UperHeadConfig(channels=decode_channels),
        auxiliary_head=FCNHeadConfig(channels=auxiliary_channels),
        inference=SlidingInference(crop=(side, side), stride=(side * 2 // 3,) * 2, batch_size=windows),
        preprocess=SegmentationPreprocessConfig(short_side=side),
    )


def _own_positions(branch: ViTConfig) -> ViTConfig:
    """The branch with positions that are stored for the image that it sees, as officially in segmentation."""
    return replace(branch, pos_embed_size=None)


def _h6b(size: int) -> UperNetConfig:
    branches = internvit_6b(size, gelu="tanh"), augreg("huge", 512, None, 512, gelu="tanh")
    return _upernet(BackboneConfig(pyramid=pyramid(*map(_own_positions, branches), fast=True)), 1536, 1536)


def _alone(branch: ViTConfig, decode_channels: int, auxiliary_channels: int) -> UperNetConfig:
    """A segmentor on one branch."""
    single = pyramid(replace(_own_positions(branch), stages=(branch.depth,)))
    backbone = BackboneConfig(pyramid=single, merging=None, upsampling_norm="layernorm")
    return _upernet(backbone, decode_channels, auxiliary_channels)


def _h6b_card(size: int, params: float, flops: float) -> ModelCard:
    return ModelCard(
        name=f"upernet_internvit_h6b_{size}_512_80k_ade20k_bs16_lr4e-5",
        task="segmentation",
        summary=f"InternViT 6B {size}, MAE H 512",
        config=lambda: _h6b(size),
        recipe="internvit-80k",
        pretraining=("InternViT-6B", "MAE ViT-H"),
        published=PublishedScore(scores={}, params=params, flops=flops),
        weights_notice=MAE_NOTICE,
    )


def _deits(letters: str, sizes: tuple[int, ...]) -> PyramidConfig:
    branches = zip(letters, sizes, strict=True)
    return pyramid(*(_own_positions(deit(DEIT_SIZES[letter], size, _WINDOW)) for letter, size in branches))


def _paper_card(letters: str, sizes: tuple[int, ...], flops: float, miou: float) -> ModelCard:
    """A row of tables 4 and 5, from branch 1 on."""
    pairs = [f"{letter.upper()} {size}" for letter, size in zip(letters, sizes, strict=True)]
    return ModelCard(
        name=f"paper_upernet_deit_{letters[::-1]}_{'_'.join(map(str, reversed(sizes)))}",
        task="segmentation",
        summary="DeiT " + ", ".join(pairs),
        config=lambda: _upernet(BackboneConfig(pyramid=_deits(letters, sizes)), 512, 256),
        recipe="vit-160k",
        pretraining=tuple(DEIT_NAMES[letter] for letter in letters),
        published=PublishedScore(scores={"miou": miou}, params=None, flops=flops),
        table="5",
        assumed="the heads, and how windows overlap at inference",
        released=False,
    )


def _lh6b_card(size: int, flops: float, miou: float) -> ModelCard:
    """A row of table 3; its windows are inferred from the printed FLOPs."""
    branches = internvit_6b(size, 14), augreg("huge", 512, 14, 512), deit("large", 640, 14, 640)
    return ModelCard(
        name=f"paper_upernet_internvit_lh6b_640_512_{size}",
        task="segmentation",
        summary=f"InternViT 6B {size}, MAE H 512, DeiT L 640",
        config=lambda: _upernet(BackboneConfig(pyramid=pyramid(*map(_own_positions, branches))), 1536, 1536),
        recipe="internvit-160k",
        pretraining=("InternViT-6B", "MAE ViT-H", "DeiT III-L 384"),
        published=PublishedScore(scores={"miou": miou}, params=None, flops=flops),
        table="3",
        assumed=f"{LH6B_WINDOWS}; the heads, and how windows overlap at inference",
        weights_notice=MAE_NOTICE,
        released=False,
    )


def _paper_baseline(size: ViTSize, flops: float, miou: float) -> ModelCard:
    """A row of table 5. Its ViTs cost what those of AugReg do, which pad windows before they project."""
    return ModelCard(
        name=f"paper_upernet_vit_{size[0]}_640",
        task="segmentation",
        summary=f"ViT {size[0].upper()} 640",
        config=lambda: _alone(with_global_blocks(augreg(size, 640, 14, 640)), 512, 256),
        recipe="vit-160k",
        published=PublishedScore(scores={"miou": miou}, params=None, flops=flops),
        table="5",
        assumed=f"{GLOBAL_BLOCKS}; the pretraining and the heads, and how windows overlap at inference",
        released=False,
    )


_PAPER_INTERNVIT = ModelCard(
    name="paper_upernet_internvit_6b_512",
    task="segmentation",
    summary="InternViT 6B 512",
    config=lambda: _alone(internvit_6b(512, 14), 1536, 1536),
    recipe="internvit-160k",
    pretraining=("InternViT-6B",),
    published=PublishedScore(scores={"miou": 58.36}, params=None, flops=6105),
    table="3",
    assumed=f"{INTERNVIT_WINDOWS}; the heads, and how windows overlap at inference",
    released=False,
)


def _demo() -> UperNetConfig:
    """Small heads on three tiny branches, for the generated shapes: it learns in minutes on a CPU."""
    return UperNetConfig(
        backbone=shapes_backbone(2, 1, 0.5),
        num_classes=7,
        decode_head=UperHeadConfig(channels=64, dropout=0.0),
        auxiliary_head=FCNHeadConfig(level=1, channels=64, dropout=0.0),
        preprocess=SegmentationPreprocessConfig(short_side=192),
    )


CARDS = (
    ModelCard(
        name="upernet_internvit_6b_512_80k_ade20k_bs16_lr4e-5",
        task="segmentation",
        summary="InternViT 6B 512",
        config=lambda: _alone(internvit_6b(512, gelu="tanh"), 1536, 1536),
        recipe="internvit-80k",
        pretraining=("InternViT-6B",),
        published=PublishedScore(scores={}, params=5910, flops=6364),
    ),
    _h6b_card(192, 6745, 1663),
    _h6b_card(256, 6745, 2354),
    _h6b_card(384, 6746, 4374),
    _h6b_card(512, 6747, 7308),
    _paper_card("bst", (336, 448, 896), 118, 51.6),
    _paper_card("lbs", (336, 448, 1120), 456, 54.3),
    _paper_baseline("base", 159, 51.0),
    _paper_baseline("large", 545, 53.6),
    _PAPER_INTERNVIT,
    _lh6b_card(192, 1903, 57.82),
    _lh6b_card(256, 2592, 58.42),
    _lh6b_card(384, 4560, 59.65),
    ModelCard(
        name="upernet_demo_shapes_192-96-64",
        task="segmentation",
        summary="tiny ViTs 64, 96, 192",
        config=_demo,
        released=False,
    ),
)
