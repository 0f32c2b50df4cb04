"""What queries and cells say: a class, and how their box must change."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_FIRST_SCORE = 0.01  # of every class, before anything is learned
_EDGE = 1e-3


class Predictions(NamedTuple):
    """Logits (..., num_classes), and boxes (..., 4) as centre x, centre y, width, height in units of the image."""

    logits: Tensor
    boxes: Tensor

    def queries(self, which: slice) -> "Predictions":
        """Those of some of the queries (..., queries, ...)."""
        return Predictions(self.logits[..., which, :], self.boxes[..., which, :])


def stack_layers(layers: Sequence[Predictions]) -> Predictions:
    """The predictions (...) of each layer as one: (layers, ...)."""
    return Predictions(*(torch.stack(parts) for parts in zip(*layers, strict=True)))


def make_classifier(embed_dim: int, num_classes: int) -> nn.Linear:
    """Tells the class."""
    layer = nn.Linear(embed_dim, num_classes)
    nn.init.constant_(layer.bias, math.log(_FIRST_SCORE / (1 - _FIRST_SCORE)))
    return layer


def make_regressor(embed_dim: int) -> nn.Sequential:
    """Tells how the logits of a box must change; not at all at first."""
    layers = [nn.Linear(embed_dim, embed_dim), nn.ReLU(), nn.Linear(embed_dim, embed_dim), nn.ReLU()]
    last = nn.Linear(embed_dim, 4)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


def refine(boxes: Tensor, changes: Tensor) -> Tensor:
    """Change boxes (..., 4) by what a regressor says of them, in float32."""
    return (inverse_sigmoid(boxes) + changes.float()).sigmoid()


def inverse_sigmoid(x: Tensor) -> Tensor:
    """The logits of numbers from 0 to 1, bounded near both: near 0 only the number is, near 1 only what it lacks."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=_EDGE) / (1 - x).clamp(min=_EDGE))
