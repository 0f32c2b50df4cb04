"""The published weights that the branches of named models start from, by what their cards call them.

The official configurations name files. Where timm has the same file (its configuration of the model has the address),
that is taken. Which ConvNeXts and BEiTv2s they are is not known: these have seen ImageNet-21K, like the DeiT IIIs that
they are mixed with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from piip.config import nearest
from piip.downloads import fetch, verify
from piip.weights import WeightsError
from piip.zoo.cards import ModelCard
from piip.zoo.pretrained.families import Family

CARD = "card"
"""As the only source of weights: those that the card of the model names."""


@dataclass(frozen=True)
class PublishedFile:
    """Weights that timm does not have.

    Attributes:
        family: whose format the file has.
        file: its name.
        place: a repository on the hub; or, with a space in it, where people find it.
    """

    family: Family
    file: str
    place: str

    @property
    def on_hub(self) -> bool:
        """Whether it is fetched from the hub."""
        return " " not in self.place


def _uniperceiver(file: str) -> PublishedFile:
    return PublishedFile("uniperceiver", file, "the releases of github.com/czczup/ViT-Adapter")


PUBLISHED: Mapping[str, str | PublishedFile] = {
    "DeiT-T": "timm/deit_tiny_patch16_224.fb_in1k",
    "DeiT-S": "timm/deit_small_patch16_224.fb_in1k",
    "DeiT-B": "timm/deit_base_patch16_224.fb_in1k",
    "DeiT III-S": "timm/deit3_small_patch16_224.fb_in22k_ft_in1k",  # deit_3_small_224_21k.pth
    "DeiT III-B": "timm/deit3_base_patch16_224.fb_in22k_ft_in1k",
    "DeiT III-L": "timm/deit3_large_patch16_224.fb_in22k_ft_in1k",
    "DeiT III-S 384": "timm/deit3_small_patch16_384.fb_in22k_ft_in1k",
    "DeiT III-B 384": "timm/deit3_base_patch16_384.fb_in22k_ft_in1k",
    "DeiT III-L 384": "timm/deit3_large_patch16_384.fb_in22k_ft_in1k",
    "AugReg ViT-S/16": "timm/vit_small_patch16_224.augreg_in21k_ft_in1k",
    "AugReg ViT-B/16": "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    "AugReg ViT-L/16": "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
    "AugReg S": "timm/vit_small_patch16_384.augreg_in21k_ft_in1k",  # of the detectors
    "AugReg B": "timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
    "AugReg L": "timm/vit_large_patch16_384.augreg_in21k_ft_in1k",
    "MAE B": "timm/vit_base_patch16_224.mae",
    "MAE L": "timm/vit_large_patch16_224.mae",
    "MAE ViT-H": "timm/vit_huge_patch14_224.mae",
    "DINOv2 S": "timm/vit_small_patch14_dinov2.lvd142m",
    "DINOv2 B": "timm/vit_base_patch14_dinov2.lvd142m",
    "DINOv2 L": "timm/vit_large_patch14_dinov2.lvd142m",
    "BEiTv2-B": "timm/beitv2_base_patch16_224.in1k_ft_in22k",
    "BEiTv2-L": "timm/beitv2_large_patch16_224.in1k_ft_in22k",
    "ConvNeXt-T": "timm/convnext_tiny.fb_in22k_ft_in1k",
    "ConvNeXt-S": "timm/convnext_small.fb_in22k_ft_in1k",
    "ConvNeXt-B": "timm/convnext_base.fb_in22k_ft_in1k",
    "InternViT-6B": PublishedFile("internvit_6b", "intern_vit_6b_224px.pth", "OpenGVLab/InternVL"),
    "Uni-Perceiver B": _uniperceiver("uni-perceiver-base-L12-H768-224size-torch-pretrained_converted.pth"),
    "Uni-Perceiver L": _uniperceiver("uni-perceiver-large-L24-H1024-224size-pretrained_converted.pth"),
}


def card_sources(card: ModelCard) -> tuple[str, ...]:
    """What `load_branches` loads into the branches of a model, as its card names it.

    What timm does not have and the hub does is fetched, and held to the hub's checksum the first time.

    Raises:
        WeightsError: when the card names nothing, or something that must be fetched by hand: with what that is, from
            where, and how to go on; or when the hub does not give it; or when it is damaged.
    """
    if not card.pretraining:
        raise WeightsError(f"pretrained: the card of {card.name} names no pretrained models; give the sources yourself")
    published = [_find(name) for name in card.pretraining]
    by_hand = [source for source in published if isinstance(source, PublishedFile) and not source.on_hub]
    if by_hand:
        files = "; ".join(f"{source.file}, from {source.place}" for source in by_hand)
        sources = " ".join(map(_as_written, published))
        raise WeightsError(f"pretrained: fetch these by hand: {files}. Then give all sources: --pretrained {sources}")
    return tuple(source if isinstance(source, str) else _fetch(source) for source in published)


def _find(name: str) -> str | PublishedFile:
    if name not in PUBLISHED:
        raise WeightsError(f"pretrained: it is not known where {name!r} is published{nearest(name, list(PUBLISHED))}")
    return PUBLISHED[name]


def _as_written(source: str | PublishedFile) -> str:
    return source if isinstance(source, str) else f"{source.family}:{source.file}"


def _fetch(source: PublishedFile) -> str:
    path = fetch(source.place, source.file, f"name the file: --pretrained ... {_as_written(source)} ...")
    verify(path, again=False)  # 12 GB are not read at every start
    return f"{source.family}:{path}"
