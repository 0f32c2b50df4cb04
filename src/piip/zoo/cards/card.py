"""What is known of a model that has a name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from piip.tasks.models import TaskConfig

Task = Literal["classification", "detection", "segmentation"]
"""What models are for."""

GLOBAL_BLOCKS = "which third of the blocks has global attention; the printed FLOPs tell how many have it"
REPOSITORY = "OpenGVLab/PIIP"
"""The official release, on the Hugging Face hub."""

LICENCE = "MIT"
"""Of its weights."""

INTERNVIT_WINDOWS = "windows of 14 tokens, from which the printed FLOPs follow if their padding is not counted"
LH6B_WINDOWS = f"{INTERNVIT_WINDOWS}, nor the layers of 20 of the 32 blocks of ViT-H: what runs costs more"
MAE_NOTICE = "descend from MAE's, whose repository allows non-commercial use only"


@dataclass(frozen=True, kw_only=True)
class PublishedScore:
    """What the paper or the release reports of a model; not measured by us.

    Attributes:
        scores: in per cent: `top1` on ImageNet-1K; `box_ap` and `mask_ap` on COCO; `miou` on
            ADE20K; empty where none is at hand.
        params: millions of parameters, as printed; None where none are.
        flops: billions of multiply-adds, as printed, by the official convention; None where none are. For detectors
            both are those of the branches and interactions, without the merging convolutions, the feature pyramid and
            the heads.
    """

    scores: Mapping[str, float]
    params: float | None
    flops: float | None


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a named model.

    Attributes:
        name: of a released model, its official file stem.
        task: what it is for.
        summary: one line for people.
        config: makes the configuration.
        variants: make the other configurations that checkpoints of this name may be of.
        recipe: name of the recipe that fits it.
        pretraining: what the branches of the released weights start from, from branch 1 on.
        published: scores of the released weights, or None.
        table: of the paper, that has it, as `7`; empty for models of the release, which several have, and for others.
        assumed: what of the configuration neither the release nor the paper tells, and where it is from; empty for
            nothing.
        weights_notice: what their licence asks for beside MIT's, the release's own; empty for nothing.
        released: whether the official release has weights of this name.
    """

    name: str
    task: Task
    summary: str
    config: Callable[[], TaskConfig]
    variants: tuple[Callable[[], TaskConfig], ...] = ()
    recipe: str = "scratch"
    pretraining: tuple[str, ...] = ()
    published: PublishedScore | None = None
    table: str = ""
    assumed: str = ""
    weights_notice: str = ""
    released: bool = True

    @property
    def checkpoint(self) -> str | None:
        """Which file of the official release has the weights, or None."""
        return f"{self.task}/{self.name}.pth" if self.released else None

    @property
    def licence(self) -> str | None:
        """Of the released weights, or None where there are none; see also `weights_notice`."""
        return LICENCE if self.released else None

    def configs(self) -> Iterator[TaskConfig]:
        """The configurations that checkpoints of this name may be of, the usual one first."""
        yield self.config()
        for variant in self.variants:
            yield variant()
