"""The Mask R-CNNs of the paper's tables that the release lacks: nobody has weights of them, anyone can train them.

The paper gives branches, resolutions and what is varied. Everything else is as in the released configurations: windows
of 28 tokens where a ViT-L takes part, else of 14. What the paper does not tell is inferred from the FLOPs that it
prints: windows of 14 tokens where there are three ViT-Ls, and in table 3; global attention in one block of three of
branch 1 of the parameter-direct pyramid; and the directions of table 10, which are drawn in a figure. Which of its two
circles is type 2 (box AP 43.2, mask AP 38.3) and which type 3 (43.6, 38.6) cannot be told. Of the subsets of branches
that are merged, the printed numbers are not at hand.
"""

from dataclasses import dataclass, replace

from piip.pyramid import ConvMergingConfig, InteractionConfig
from piip.pyramid.interaction import Edge
from piip.tasks.detection.mask_rcnn.model import MaskRCNNConfig
from piip.zoo.cards.branches import augreg, deit, in_stages, internvit_6b, pyramid, with_global_blocks
from piip.zoo.cards.card import (
    GLOBAL_BLOCKS,
    INTERNVIT_WINDOWS,
    LH6B_WINDOWS,
    MAE_NOTICE,
    ModelCard,
    PublishedScore,
)
from piip.zoo.cards.mask_rcnn import DEIT_NAMES, DEIT_SIZES, alone, mask_rcnn, prepare, wide

_WINDOWS = "windows of 14 tokens, from the printed FLOPs"
_DIRECTIONS = "the directions, from the printed FLOPs"
_CIRCLES = "if sampling is counted both ways; the circles have box AP 43.2 and 43.6, not known which has which"
_DOWN = ((3, 2), (2, 1), (1, 3))  # branch 3 reads 2, that 1, that 3
_UP = ((2, 3), (1, 2), (3, 1))
_ALL_PAIRS = ((2, 3), (3, 2), (1, 3), (3, 1), (1, 2), (2, 1))


@dataclass(frozen=True)
class _Row:
    """A row of a table; what it does not vary is that of the released pyramids.

    Attributes:
        letters: sizes of the DeiTs, from branch 1 on.
        sizes: of their images, in pixels.
        flops: as printed, in billions.
        scores: box AP and, where printed, mask AP.
        params: as printed, in millions, where they are.
        interactions: how often the branches interact; 0 for never.
        interaction: how.
        suffix: what the name of the model ends in.
        global_blocks: whether branch 1 has global attention in one block of three.
        assumed: what the paper does not tell.
        remark: what the paper calls it, for the summary.
    """

    letters: str
    sizes: tuple[int, ...]
    flops: float
    scores: tuple[float, ...]
    params: float | None = None
    interactions: int = 12
    interaction: InteractionConfig | None = None
    suffix: str = ""
    global_blocks: bool = False
    assumed: str = ""
    remark: str = ""

    def config(self) -> MaskRCNNConfig:
        window = 28 if "l" in self.letters and self.letters != "lll" else 14
        branches = [
            in_stages(deit(DEIT_SIZES[letter], size, window), self.interactions or 1)
            for letter, size in zip(self.letters, self.sizes, strict=True)
        ]
        if self.global_blocks:
            branches[0] = with_global_blocks(branches[0])
        config = pyramid(*branches)
        if self.interactions == 0:
            config = replace(config, interaction=InteractionConfig(edges=()))
        elif self.interaction is not None:
            config = replace(config, interaction=self.interaction)
        return mask_rcnn(config, prepare(wide(config.image_size), 224))

    def card(self, table: str) -> ModelCard:
        stem = "_".join(map(str, reversed(self.sizes)))
        pairs = [f"{letter.upper()} {size}" for letter, size in zip(self.letters, self.sizes, strict=True)]
        return ModelCard(
            name=f"paper_mask_rcnn_deit_{self.letters[::-1]}_{stem}{self.suffix}",
            task="detection",
            summary="DeiT " + ", ".join(pairs) + self.suffix.replace("_", " ") + self.remark,
            config=self.config,
            recipe="vit-1x",
            pretraining=tuple(DEIT_NAMES[letter] for letter in self.letters),
            published=PublishedScore(
                scores=dict(zip(("box_ap", "mask_ap"), self.scores, strict=False)),
                params=self.params,
                flops=self.flops,
            ),
            table=table,
            assumed=self.assumed,
            released=False,
        )


def _fewer_interactions(count: int, flops: float, box_ap: float, *, regular: bool = False) -> _Row:
    """A row of table 9."""
    interaction = InteractionConfig(drop_path=0.4, attention="regular") if regular else None
    suffix = f"_{count}_{'regular' if regular else 'deformable'}" if count else "_0_interactions"
    return _Row("bst", (448, 896, 1120), flops, (box_ap,), interactions=count, interaction=interaction, suffix=suffix)


def _directions(
    suffix: str, flops: float, scores: tuple[float, ...], edges: tuple[Edge, ...] | None = None, turns: int = 1
) -> _Row:
    """A row of table 10."""
    interaction = InteractionConfig(drop_path=0.4, edges=edges, turns=turns)
    assumed = _DIRECTIONS if scores else f"{_DIRECTIONS}, {_CIRCLES}"
    return _Row("bst", (448, 896, 1120), flops, scores, interaction=interaction, suffix=suffix, assumed=assumed)


_TABLE_7 = (
    _Row("bbb", (224, 448, 896), 369, (43.3, 37.9), 262, interactions=0, suffix="_0_interactions"),
    _Row("bbb", (224, 672, 896), 457, (43.8, 38.2), 263, interactions=0, suffix="_0_interactions"),
    _Row("bbb", (224, 448, 896), 466, (44.5, 38.7), 341, remark=", parameter-equivalent"),
    _Row("bst", (896, 896, 896), 468, (44.6, 39.0), 148, remark=", equal resolutions"),
    _Row(
        "bst",
        (896, 672, 448),
        452,
        (42.6, 36.5),
        147,
        global_blocks=True,
        assumed=f"{GLOBAL_BLOCKS} in branch 1",
        remark=", parameter-direct",
    ),
    _Row("lll", (224, 448, 896), 1458, (46.9, 40.8), 1053, assumed=_WINDOWS, remark=", parameter-equivalent"),
    _Row("lbs", (848, 848, 848), 1539, (47.2, 41.1), 495, remark=", equal resolutions"),
)
_TABLE_9 = (
    _fewer_interactions(0, 176, 41.3),
    _fewer_interactions(1, 211, 41.1, regular=True),
    _fewer_interactions(1, 182, 41.9),
    _fewer_interactions(2, 245, 41.7, regular=True),
    _fewer_interactions(2, 187, 42.5),
    _fewer_interactions(4, 315, 41.6, regular=True),
    _fewer_interactions(4, 198, 43.0),
    _fewer_interactions(6, 384, 42.1, regular=True),
    _fewer_interactions(6, 210, 43.3),
    _fewer_interactions(12, 592, 42.0, regular=True),
)
_TABLE_10 = (
    _directions("_in_turn", 210, (43.5, 38.7), turns=2),
    _directions("_circle_down", 230, (), edges=_DOWN),
    _directions("_circle_up", 230, (), edges=_UP),
    _directions("_all_pairs", 283, (44.0, 38.7), edges=_ALL_PAIRS),
)
_TABLE_12 = (
    _Row("bst", (448, 672, 896), 176, (42.1, 36.9)),
    _Row("bst", (448, 672, 1120), 192, (42.7, 37.9)),
    _Row("bst", (448, 672, 1344), 212, (43.5, 38.9)),
    _Row("bst", (448, 896, 1344), 263, (44.5, 39.5)),
    _Row("bst", (672, 896, 1568), 387, (45.8, 40.7)),
    _Row("bst", (672, 1120, 1792), 480, (46.7, 41.7)),
    _Row("bst", (672, 1344, 1792), 561, (46.8, 42.0)),
    _Row("lbs", (224, 448, 672), 245, (41.1, 35.3)),
    _Row("lbs", (224, 448, 896), 298, (43.5, 37.7)),
    _Row("lbs", (224, 448, 1120), 367, (45.2, 39.6)),
    _Row("lbs", (224, 672, 1120), 504, (45.8, 40.3)),
    _Row("lbs", (448, 672, 1344), 811, (47.5, 42.0)),
    _Row("lbs", (672, 1120, 1792), 1824, (49.9, 44.6)),
    _Row("lbst", (448, 896, 1120, 1568), 1052, (48.7, 43.4)),
    _Row("lbst", (448, 896, 1344, 1792), 1180, (49.0, 43.7)),
)


def _lh6b(size: int) -> MaskRCNNConfig:
    branches = internvit_6b(size, 14), augreg("huge", 1024, 14, 224), deit("large", 1280, 14, 384)
    return mask_rcnn(pyramid(*branches), prepare((1333, 800), 64))


def _lh6b_card(size: int, params: float, flops: float, box_ap: float, mask_ap: float) -> ModelCard:
    """A row of table 3."""
    return ModelCard(
        name=f"paper_mask_rcnn_internvit_lh6b_1280_1024_{size}",
        task="detection",
        summary=f"InternViT 6B {size}, MAE H 1024, DeiT L 1280",
        config=lambda: _lh6b(size),
        recipe="internvit-1x",
        pretraining=("InternViT-6B", "MAE ViT-H", "DeiT III-L 384"),
        published=PublishedScore(scores={"box_ap": box_ap, "mask_ap": mask_ap}, params=params, flops=flops),
        table="3",
        assumed=LH6B_WINDOWS,
        weights_notice=MAE_NOTICE,
        released=False,
    )


_INTERNVIT = ModelCard(
    name="paper_mask_rcnn_internvit_6b_1024",
    task="detection",
    summary="InternViT 6B 1024",
    config=lambda: alone(internvit_6b(1024, 14), prepare((1333, 800), 64)),
    recipe="internvit-baseline-1x",
    pretraining=("InternViT-6B",),
    published=PublishedScore(scores={"box_ap": 53.8, "mask_ap": 48.1}, params=5919, flops=24418),
    table="3",
    assumed=INTERNVIT_WINDOWS,
    released=False,
)


def _merging_card(merged: tuple[int, ...]) -> ModelCard:
    """The PIIP-TSB of table 9 that merges some branches only; all of them interact."""
    whole = _Row("bst", (448, 896, 1120), 243, (43.9, 38.6))
    suffix = f"_merge_{''.join(whole.letters[branch - 1] for branch in merged)}"

    def config() -> MaskRCNNConfig:
        detector = whole.config()
        backbone = replace(detector.backbone, merging=ConvMergingConfig(branches=merged))
        return replace(detector, backbone=backbone)

    card = whole.card("")  # the table that has them is not at hand
    return replace(
        card,
        name=f"paper_mask_rcnn_deit_tsb_1120_896_448{suffix}",
        summary=f"{whole.card('9').summary}{suffix.replace('_', ' ')}",
        config=config,
        published=None,
    )


CARDS = (
    *(row.card("7") for row in _TABLE_7),
    *(row.card("9") for row in _TABLE_9),
    *(row.card("10") for row in _TABLE_10),
    *(row.card("12") for row in _TABLE_12),
    *(_merging_card(merged) for merged in ((1,), (2,), (3,), (1, 2), (1, 3), (2, 3))),
    _INTERNVIT,
    _lh6b_card(256, 7269, 5643, 53.5, 47.5),
    _lh6b_card(512, 7271, 10368, 54.4, 47.8),
    _lh6b_card(640, 7273, 13911, 55.7, 49.0),
)
