"""The models that have a name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from piip.branches import ViTConfig
from piip.branches.presets import ViTSize, vit
from piip.config import nearest
from piip.pyramid import InteractionConfig, PyramidConfig
from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.tasks.classification.names import imagenet_synsets


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """What the paper or the release reports of a model; not measured by us.

    Attributes:
        top1: ImageNet-1K top-1 accuracy, in per cent.
        params: millions of parameters, as printed.
        flops: billions of multiply-adds, as printed, by the official convention.
    """

    top1: float
    params: float
    flops: float


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a named model.

    Attributes:
        name: of a released model, its official file stem.
        summary: one line for people.
        config: makes the configuration.
        pretraining: what the branches of the released weights start from, from branch 1 on.
        published: scores of the released weights, or None.
    """

    name: str
    summary: str
    config: Callable[[], ClassificationConfig]
    pretraining: tuple[str, ...] = ()
    published: PublishedScore | None = None


class UnknownModelError(ValueError):
    """There is no model of this name; the message has the nearest one."""


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models that match a shell-style pattern, sorted."""
    return sorted(name for name in _CARDS if fnmatchcase(name, pattern))


def find_card(name: str) -> ModelCard:
    """The card of a model.

    Raises:
        UnknownModelError: when there is none of this name.
    """
    if name not in _CARDS:
        raise UnknownModelError(f"model: there is no {name!r}{nearest(name, list(_CARDS))}")
    return _CARDS[name]


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


_CARDS = {
    card.name: card
    for card in (
        ModelCard(
            name="piip_3branch_tsb_368-192-128_cls_token_deit1",
            summary="DeiT B 128, S 192, T 368",
            config=_tsb,
            pretraining=("DeiT-B", "DeiT-S", "DeiT-T"),
            published=PublishedScore(top1=82.1, params=144, flops=17.4),
        ),
        ModelCard(
            name="piip_3branch_sbl_320-160-96_cls_token_augreg",
            summary="AugReg L 96, B 160, S 320",
            config=lambda: _sbl(96, 160, 320),
            pretraining=("AugReg ViT-L/16", "AugReg ViT-B/16", "AugReg ViT-S/16"),
            published=PublishedScore(top1=85.2, params=489, flops=39.0),
        ),
        ModelCard(
            name="piip_3branch_sbl_384-192-128_cls_token_augreg",
            summary="AugReg L 128, B 192, S 384",
            config=lambda: _sbl(128, 192, 384),
            pretraining=("AugReg ViT-L/16", "AugReg ViT-B/16", "AugReg ViT-S/16"),
            published=PublishedScore(top1=85.9, params=489, flops=61.2),
        ),
        ModelCard(
            name="piip_demo_shapes_96-48-32",
            summary="tiny ViTs 32, 48, 96",
            config=_demo,
        ),
    )
}
