"""The weights that the branches of named models start from."""

import dataclasses
import io
import re
from pathlib import Path

import pytest
import torch
from timm.models import get_pretrained_cfg

from hub_server import Hub
from piip import list_models
from piip.branches import AnyBranchConfig, ConvNeXtConfig
from piip.tasks.classification.model import ClassificationConfig
from piip.weights import WeightsError
from piip.zoo.cards import ModelCard, find_card
from piip.zoo.pretrained import FAMILIES, card_sources, load_branches
from piip.zoo.pretrained.families import family_of_timm
from piip.zoo.pretrained.of_cards import PUBLISHED, PublishedFile
from tiny_models import tiny_pyramid, tiny_vit

NAMED = [name for name in list_models() if find_card(name).pretraining]
ALL = sorted({name for model in NAMED for name in find_card(model).pretraining})


def branches(config: object) -> tuple[AnyBranchConfig, ...]:
    pyramid = config.pyramid if isinstance(config, ClassificationConfig) else config.backbone.pyramid
    return pyramid.branches


def family(name: str) -> str | None:
    source = PUBLISHED[name]
    return family_of_timm(source.removeprefix("timm/")) if isinstance(source, str) else source.family


@pytest.mark.parametrize("name", ALL)
def test_every_name_is_published(name: str) -> None:
    assert family(name) in FAMILIES


@pytest.mark.parametrize("name", [name for name, source in PUBLISHED.items() if isinstance(source, str)])
def test_timm_has_what_is_named(name: str) -> None:
    timm = PUBLISHED[name].removeprefix("timm/")
    known = get_pretrained_cfg(timm)
    assert known is not None
    assert known.hf_hub_id == f"timm/{timm}"
    letter = re.search(r"[-\s]([TSBLH])\b", name)
    assert f"_{ {'T': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large', 'H': 'huge'}[letter[1]] }" in timm
    if name.startswith("DeiT III"):
        size = re.search(r"\d+", name)
        files = {"S": "small", "B": "base", "L": "large"}
        expected = f"deit_3_{files[letter[1]]}_{size[0] if size else 224}_21k.pth"
        assert known.url.endswith(f"/{expected}")


@pytest.mark.parametrize("model", NAMED)
def test_families_are_for_the_branches(model: str) -> None:
    for branch, name in zip(branches(find_card(model).config()), find_card(model).pretraining, strict=True):
        assert isinstance(branch, FAMILIES[family(name)].branch)
        if not isinstance(branch, ConvNeXtConfig) and isinstance(PUBLISHED[name], str):
            width = {"tiny": 192, "small": 384, "base": 768, "large": 1024, "huge": 1280}
            assert any(f"_{size}_" in PUBLISHED[name] and branch.embed_dim == dim for size, dim in width.items())


def test_sources() -> None:
    assert card_sources(find_card("mask_rcnn_deit_tsb_1120_896_448_fpn_1x_coco_bs16")) == (
        "timm/deit3_base_patch16_224.fb_in22k_ft_in1k",
        "timm/deit3_small_patch16_224.fb_in22k_ft_in1k",
        "timm/deit_tiny_patch16_224.fb_in1k",
    )


def test_what_must_be_fetched_by_hand() -> None:
    with pytest.raises(WeightsError) as caught:
        card_sources(find_card("mask_rcnn_uniperceiver_sbl_1568_1120_672_fpn_1x_coco_bs16"))
    large = "uni-perceiver-large-L24-H1024-224size-pretrained_converted.pth"
    base = "uni-perceiver-base-L12-H768-224size-torch-pretrained_converted.pth"
    deit = "timm/deit3_small_patch16_224.fb_in22k_ft_in1k"
    assert f"{large}, from the releases of github.com/czczup/ViT-Adapter; {base}, from" in str(caught.value)
    assert str(caught.value).endswith(f"--pretrained uniperceiver:{large} uniperceiver:{base} {deit}")


def test_from_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    source = PUBLISHED["InternViT-6B"]
    assert isinstance(source, PublishedFile)
    branch = tiny_vit(norm="rmsnorm", qk_norm=True, qkv_bias=False, layer_scale=0.1, class_pos_embed="unused")
    config = ClassificationConfig(pyramid=tiny_pyramid(branch, branch))
    trained = config.build().pyramid.branches[0]
    file = io.BytesIO()
    torch.save({"module": trained.state_dict() | {"clip_projector.norm.bias": torch.ones(2)}}, file)
    hub.upload(source.place, **{source.file: file.getvalue()})

    card = ModelCard(name="x", task="", summary="", config=lambda: config, pretraining=("InternViT-6B",) * 2)
    sources = card_sources(card)
    assert [Path(text.removeprefix("internvit_6b:")).name for text in sources] == [source.file] * 2
    model = config.build()
    assert len(load_branches(model.pyramid, sources)) == 2
    assert len(hub.downloads) == 1
    assert torch.equal(model.pyramid.branches[1].patch_embed.proj.weight, trained.patch_embed.proj.weight)

    path = Path(sources[0].removeprefix("internvit_6b:"))
    path.write_bytes(file.getvalue()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"intern_vit_6b_224px\.pth: is damaged"):
        card_sources(card)
    assert card_sources(card) == sources


def test_cards_that_name_nothing_or_something_unknown() -> None:
    card = find_card("piip_demo_shapes_96-48-32")
    with pytest.raises(WeightsError, match="the card of piip_demo_shapes_96-48-32 names no pretrained models"):
        card_sources(card)
    with pytest.raises(WeightsError, match="not known where 'DeiT IV-B' is published; did you mean 'DeiT III-B'"):
        card_sources(dataclasses.replace(card, pretraining=("DeiT IV-B",)))
