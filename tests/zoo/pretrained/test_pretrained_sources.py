"""Sources of weights as the command line has them."""

from pathlib import Path

import pytest

from piip.zoo.pretrained import FAMILIES, parse_source
from piip.zoo.pretrained.sources import Source


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    assert parse_source(f"{family}:weights/vit.pth") == Source(Path("weights/vit.pth"), family)


def test_other_forms() -> None:
    assert parse_source("none") is None
    assert parse_source("timm/deit_base_patch16_224") == Source("timm/deit_base_patch16_224", None)
    assert parse_source("deit:C:/weights/a:b.pth") == Source(Path("C:/weights/a:b.pth"), "deit")
    assert parse_source("mae:timm/vit.pth") == Source(Path("timm/vit.pth"), "mae")  # a file in a folder of this name


@pytest.mark.parametrize("text", ["", "deit", "deit:", ":vit.pth", "weights/vit.pth", "None", "vgg:weights.pth"])
def test_mistakes(text: str) -> None:
    with pytest.raises(ValueError, match="pretrained") as error:
        parse_source(text)
    message = str(error.value)
    assert repr(text) in message
    for form in ("FAMILY:PATH", "deit, deit3, augreg, mae, dinov2, internvit_6b", "timm/NAME", "'none'"):
        assert form in message


def test_a_mistyped_family() -> None:
    with pytest.raises(ValueError, match="there is no family 'dino2'; did you mean 'dinov2'"):
        parse_source("dino2:weights.pth")
