"""The two heads: shapes, what they refuse, and that all their parameters learn."""

from typing import Any

import pytest
import torch

from piip.tasks.segmentation.upernet import FCNHeadConfig, UperHeadConfig
from tiny_models import images

FEATURES = (images(2, 8, 20, 28), images(2, 16, 10, 14), images(2, 24, 5, 7))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_decode_head(levels: int) -> None:
    features = FEATURES[:levels]
    head = UperHeadConfig(channels=12, pool_scales=(1, 2)).build([one.shape[1] for one in features], 5)
    logits = head(features)
    assert logits.shape == (2, 5, 20, 28)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


@pytest.mark.parametrize("num_convs", [1, 3])
def test_auxiliary_head(num_convs: int) -> None:
    head = FCNHeadConfig(channels=12, num_convs=num_convs).build(24, 5)
    logits = head(FEATURES[2])
    assert logits.shape == (2, 5, 5, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_whole_channels_are_left_out_in_training_alone() -> None:
    head = UperHeadConfig(channels=64, dropout=0.5).build([24], 5)
    left_out = (head.dropout(torch.ones(1, 64, 4, 4)) == 0).flatten(2)
    assert torch.equal(left_out.any(2), left_out.all(2))
    assert 0 < left_out.all(2).sum() < 64
    head.eval()
    assert torch.equal(head([FEATURES[2]]), head([FEATURES[2]]))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (UperHeadConfig, {"channels": 0}, r"decode_head\.channels: expected at least 1, got 0"),
        (UperHeadConfig, {"pool_scales": ()}, r"decode_head\.pool_scales: expected at least one, from 1 on, got \(\)"),
        (UperHeadConfig, {"pool_scales": (1, 0)}, r"decode_head\.pool_scales: .* got \(1, 0\)"),
        (UperHeadConfig, {"dropout": 1.0}, r"decode_head\.dropout: expected from 0 to less than 1, got 1\.0"),
        (UperHeadConfig, {"loss_weight": 0}, r"decode_head\.loss_weight: expected a positive number"),
        (FCNHeadConfig, {"level": -1}, r"auxiliary_head\.level: expected at least 0, got -1"),
        (FCNHeadConfig, {"num_convs": 0}, r"auxiliary_head\.num_convs: expected at least 1, got 0"),
        (FCNHeadConfig, {"dropout": -0.1}, r"auxiliary_head\.dropout: expected from 0"),
        (FCNHeadConfig, {"loss_weight": -1.0}, r"auxiliary_head\.loss_weight: expected a positive number"),
        (FCNHeadConfig, {"channels": "many"}, r"auxiliary_head\.channels: expected"),
    ],
)
def test_impossible_heads(kind: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**settings)
