"""AdamW with a learning rate for each part and depth of a model."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import nn
from torch.optim import AdamW

from piip.branches import Branch
from piip.config import check_fields, nearest
from piip.pyramid import Pyramid

_EMBEDDINGS = ("pos_embed", "cls_token", "spatial_pos_embed", "temporal_pos_embed")

Exempt = Literal["vectors", "scalars", "embeddings"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101), and how learning rate and weight decay differ between parameters.

    Attributes:
        lr: base learning rate.
        weight_decay: of all parameters but those that are exempt.
        exempt: kinds of parameters without weight decay: vectors (biases, norms, scales of channels), scalars (such as
            the weights of merged branches), embeddings (of positions and class tokens). The official detectors and
            segmentors exempt only vectors.
        betas: decay rates of the two moments.
        layer_decay: what the rate is multiplied by for each layer further from the head, in the deepest branch; the
            layers of a branch with fewer decay faster in proportion (paper, section 4.1), counted in whole layers of
            the deepest. 1 for one rate.
        lr_multipliers: by the beginning of a parameter's name, what its rate is multiplied by; where several fit, the
            longest counts. For example {"pyramid.interactions": 10} for the parts that nothing has pretrained.
    """

    lr: float
    weight_decay: float = 0.05
    exempt: tuple[Exempt, ...] = ("vectors", "scalars", "embeddings")
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        check_fields(self, "optimizer.")
        if not 0 <= self.lr < math.inf:
            raise ValueError(f"optimizer.lr: must not be negative, got {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"optimizer.weight_decay: must not be negative, got {self.weight_decay}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optimizer.betas: must be at least 0 and below 1, got {self.betas}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"optimizer.layer_decay: must be above 0 and at most 1, got {self.layer_decay}")
        for prefix, multiplier in self.lr_multipliers.items():
            if not 0 <= multiplier < math.inf:
                raise ValueError(f"optimizer.lr_multipliers.{prefix}: must not be negative, got {multiplier}")

    def build(self, model: nn.Module) -> AdamW:
        """The optimizer of a model.

        Parameters of the same rate and decay share a group; its `initial_lr` is the rate that a schedule multiplies.

        Raises:
            ValueError: for a multiplier whose beginning fits no parameter, or a model with nothing to train.
        """
        groups = parameter_groups(model, self)
        if not groups:
            raise ValueError("model: has no parameter to train; all are frozen")
        return AdamW(groups, betas=self.betas, fused=True)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort the trainable parameters of a model by learning rate and weight decay.

    Returns:
        Groups for an optimizer: `params`, their `names`, `lr`, `initial_lr` and `weight_decay`.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    _check_prefixes(config.lr_multipliers, [name for name, _ in model.named_parameters()])
    depth_factor = _depth_factors(model, config.layer_decay)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trainable:
        fitting = [prefix for prefix in config.lr_multipliers if _starts_with(name, prefix)]
        multiplier = config.lr_multipliers[max(fitting, key=len)] if fitting else 1.0
        lr = config.lr * multiplier * depth_factor.get(name, 1.0)
        weight_decay = 0.0 if _kind(name, parameter) in config.exempt else config.weight_decay
        group = groups.setdefault(
            (lr, weight_decay), {"params": [], "names": [], "lr": lr, "initial_lr": lr, "weight_decay": weight_decay}
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _depth_factors(model: nn.Module, rate: float) -> dict[str, float]:
    """The layer-wise factor of each parameter of a branch; layers of shallow branches are stretched to the deepest.

    Branches that do not count their layers (`depth` 0) are left out.
    """
    if rate == 1:
        return {}
    factors = {}
    for path, pyramid in model.named_modules():
        if isinstance(pyramid, Pyramid):
            branches = cast("list[Branch]", list(pyramid.branches))
            deepest = max(branch.depth for branch in branches)
            for number, branch in enumerate(branches):
                prefix = f"{path}." if path else ""
                for name, _ in branch.named_parameters() if branch.depth else ():
                    layer = branch.layer_of(name) * deepest // branch.depth
                    factors[f"{prefix}branches.{number}.{name}"] = rate ** (deepest + 1 - layer)
    return factors


def _kind(name: str, parameter: nn.Parameter) -> str:
    if parameter.dim() < 2:
        return "vectors" if parameter.dim() else "scalars"
    return "embeddings" if name.rpartition(".")[2] in _EMBEDDINGS else "matrices"


def _check_prefixes(prefixes: Iterable[str], names: list[str]) -> None:
    for prefix in prefixes:
        if not any(_starts_with(name, prefix) for name in names):
            beginnings = {".".join(name.split(".")[:length]) for name in names for length in (1, 2, 3)}
            raise ValueError(
                f"optimizer.lr_multipliers: no parameter's name begins with {prefix!r}"
                f"{nearest(prefix, sorted(beginnings))}"
            )


def _starts_with(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
