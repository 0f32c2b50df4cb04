"""Learning rates and weight decay of every parameter of a segmentor, against what the official optimizers give them."""

import gzip
import json

import pytest
import torch

from parity import DATA
from piip.training.optimizer import OptimizerConfig, parameter_groups
from piip.zoo import official
from piip.zoo.official.keys import official_names
from zoo.released_segmenters import segmenter

OFFICIAL = json.loads(gzip.decompress((DATA / "optimizer_groups_segmentation.json.gz").read_bytes()))


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_parameter_has_its_official_rate_and_decay(name: str) -> None:
    settings = OFFICIAL[OFFICIAL[name].get("same_as", name)]
    expected = {parameter: tuple(settings["groups"][group]) for parameter, group in settings["params"].items()}
    with torch.device("meta"):
        model = official.build_model(segmenter(name), "segmentation")
    names = official_names(model.state_dict(), model.config)
    config = OptimizerConfig(lr=1.0, weight_decay=0.05, exempt=("vectors",), layer_decay=settings["layer_decay"])
    found = {
        names[own]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for own in group["names"]
    }
    assert set(found) == set(expected)
    for parameter, values in found.items():
        assert values == pytest.approx(expected[parameter], rel=1e-9), parameter
