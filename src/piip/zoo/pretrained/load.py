"""Putting pretrained models into branches, with every tensor of both accounted for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from piip.branches import Branch
from piip.pyramid import Pyramid
from piip.tasks.classification.heads import BranchHead, SeparateHeads
from piip.tasks.classification.model import ClassificationModel
from piip.weights import WeightsError
from piip.zoo.pretrained.checkpoint import Checkpoint
from piip.zoo.pretrained.families import Family
from piip.zoo.pretrained.plan import Plan, make_plan
from piip.zoo.pretrained.report import LoadReport
from piip.zoo.pretrained.sources import Source, parse_source


def load_branch(
    model: ClassificationModel | Pyramid, branch: int, source: str | Path, family: Family | None = None
) -> LoadReport:
    """Load pretrained weights into one branch, as the official loaders adapt them.

    The position embedding and the patch kernel of a ViT are resampled (bicubic, no antialiasing) to the branch's grid
    and patch, the relative position biases of a BEiT (splines) to its windows. A head that the model has for this
    branch alone is loaded too, where the checkpoint is a ViT's and has one for as many classes. Either every tensor is
    accounted for, or nothing is changed.

    Args:
        model: a classifier, or the pyramid of any model, as `backbone.pyramid`.
        branch: which branch, counted from 1.
        source: a file, see `read_checkpoint`; or `timm/` and the name of one of timm's weights, for example
            `timm/deit_base_patch16_224.fb_in1k`, which are downloaded.
        family: whose format the file has; None for timm, where the name tells.

    Returns:
        What became of every tensor.

    Raises:
        WeightsError: when the checkpoint cannot be read, or does not fit the branch: with the tensors that are
            missing, left over or of another shape, and the settings of the branch that do not agree with it.
        ValueError: for a branch that is not there or has no memory yet (meta device), or a family that
            is missing or not needed.
    """
    return _prepare(model, branch, Source(source, family)).apply()


def load_branches(model: ClassificationModel | Pyramid, sources: Sequence[str]) -> tuple[LoadReport, ...]:
    """Load pretrained weights into the branches of a model, see `load_branch`; into all of them or none.

    Args:
        model: a classifier, or the pyramid of any model.
        sources: for each branch, from branch 1 on, `FAMILY:PATH` (for example `deit:weights/deit_base.pth`),
            `timm/NAME`, or `none` to leave it as it is.

    Returns:
        What became of every tensor, for each branch that has a source.

    Raises:
        WeightsError: as `load_branch`.
        ValueError: as `load_branch`, for a source that is none of these forms, or not one for each branch.
    """
    parsed = [parse_source(source) for source in sources]
    branches = len(_pyramid(model).branches)
    if len(parsed) != branches:
        raise ValueError(
            f"pretrained: give one source for each of the {branches} branches, from branch 1 on, 'none' for random "
            f"weights; got {len(parsed)}: {' '.join(sources)}"
        )
    loads = [_prepare(model, branch, source) for branch, source in enumerate(parsed, 1) if source is not None]
    return tuple(load.apply() for load in loads)


class _Target(NamedTuple):
    name: str  # in the state dict of the model
    tensor: Tensor  # shares its memory with the model


@dataclass(frozen=True)
class _Load:
    """A checkpoint that is known to fit, and where it goes."""

    checkpoint: Checkpoint
    branch: int
    targets: dict[str, _Target]
    plan: Plan

    @torch.no_grad()
    def apply(self) -> LoadReport:
        plan, targets = self.plan, self.targets
        for name, tensor in plan.tensors.items():
            targets[name].tensor.copy_(tensor)
        return LoadReport(
            source=self.checkpoint.source,
            family=self.checkpoint.family,
            branch=self.branch,
            loaded=tuple(targets[name].name for name in plan.tensors if name not in plan.adapted),
            adapted={targets[name].name: what for name, what in plan.adapted.items()},
            kept={targets[name].name: reason for name, reason in plan.kept.items()},
            ignored=plan.ignored,
        )


def _prepare(model: ClassificationModel | Pyramid, branch: int, source: Source) -> _Load:
    pyramid = _pyramid(model)
    if not 1 <= branch <= len(pyramid.branches):
        raise ValueError(f"branch: {branch} is not one of 1 to {len(pyramid.branches)}")
    targets = _targets(model, branch, cast("Branch", pyramid.branches[branch - 1]))
    checkpoint = source.read()
    own = {name: target.tensor for name, target in targets.items()}
    try:
        plan = make_plan(checkpoint, own, pyramid.config.branches[branch - 1])
    except WeightsError as error:
        raise WeightsError(f"{checkpoint.source}, branch {branch}: {error}") from error
    return _Load(checkpoint, branch, targets, plan)


def _pyramid(model: ClassificationModel | Pyramid) -> Pyramid:
    return model if isinstance(model, Pyramid) else model.pyramid


def _targets(model: ClassificationModel | Pyramid, branch: int, module: Branch) -> dict[str, _Target]:
    """The tensors of the branch and its own head, by the names that checkpoints have for them."""
    prefix = "" if isinstance(model, Pyramid) else "pyramid."
    parts: list[tuple[str, str, nn.Module]] = [("", f"{prefix}branches.{branch - 1}.", module)]  # theirs, ours, module
    heads = model.head if isinstance(model, ClassificationModel) else None
    if isinstance(heads, SeparateHeads) and str(branch) in heads.branches:
        head = cast("BranchHead", heads.branches[str(branch)])
        parts.append(("norm.", f"head.branches.{branch}.norm.", head.norm))
        parts.append(("head.", f"head.branches.{branch}.linear.", head.linear))
    targets = {
        theirs + name: _Target(ours + name, tensor)
        for theirs, ours, part in parts
        for name, tensor in part.state_dict().items()
    }
    if any(target.tensor.is_meta for target in targets.values()):
        raise ValueError("model: is on the meta device, where weights cannot be put; build it on a real one")
    return targets
