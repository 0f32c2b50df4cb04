"""Our ViT with a checkpoint of each family, and timm's model with the same weights, compute the same features."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from piip.branches import AnyBranchConfig, BEiTConfig, ConvNeXtConfig, ViTConfig
from piip.pyramid import InteractionConfig, Pyramid, PyramidConfig
from piip.tasks.classification.heads import SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.weights import WeightsError
from piip.zoo.pretrained import Family, load_branch, load_branches
from piip.zoo.pretrained.families import family_of_timm
from tiny_models import images, randomised

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}


@dataclass(frozen=True)
class Example:
    """A model of timm, which the tests make small, and how our ViT computes the same."""

    name: str
    family: Family
    patch_size: int = 16
    class_positions: bool = True
    layer_scale: bool = False

    def branch(self, image_size: int, **changes: Any) -> ViTConfig:
        settings: dict[str, Any] = {
            "image_size": image_size,
            "stages": (1, 1),
            "patch_size": self.patch_size,
            "class_pos_embed": "added" if self.class_positions else "none",
            "layer_scale": 1.0 if self.layer_scale else None,
        }
        return ViTConfig(**settings | SMALL | changes)


EXAMPLES = [
    Example("deit_tiny_patch16_224.fb_in1k", "deit"),
    Example("deit3_small_patch16_224.fb_in22k_ft_in1k", "deit3", class_positions=False, layer_scale=True),
    Example("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "augreg"),
    Example("vit_base_patch16_224.mae", "mae"),
    Example("vit_small_patch14_dinov2.lvd142m", "dinov2", patch_size=14, layer_scale=True),
]
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.family)


def classifier(branch: ViTConfig, num_classes: int = 5) -> ClassificationModel:
    pyramid = PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=()))
    return ClassificationConfig(pyramid=pyramid, head=SeparateHeadsConfig(num_classes=num_classes)).build().eval()


@torch.inference_mode()
def features(model: ClassificationModel, pixels: Tensor) -> Tensor:
    """The normalised class token and patches (B, 1 + H*W, C), as timm's `forward_features` returns them."""
    (tokens,) = model.pyramid(pixels)
    return model.head.branches["1"].norm(torch.cat([tokens.class_token, tokens.map.flatten(1, 2)], 1))


def timm_features(model: Any, pixels: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.eval().forward_features(pixels)


@each_example
def test_a_file_gives_timms_features(example: Example, tmp_path: Path) -> None:
    side = 4 * example.patch_size
    theirs: Any = randomised(timm.create_model(example.name.partition(".")[0], img_size=side, **SMALL))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    ours = classifier(example.branch(side))
    load_branch(ours, 1, tmp_path / "vit.pth", example.family)
    pixels = images(2, 3, side, side)
    torch.testing.assert_close(features(ours, pixels), timm_features(theirs, pixels), atol=1e-5, rtol=0)


@each_example
def test_a_name_of_timm_gives_its_features(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: Any = randomised(timm.create_model(example.name, **SMALL))
    torch.save(theirs.state_dict(), tmp_path / "vit.pth")
    small = partial(timm.create_model, pretrained_cfg_overlay={"file": str(tmp_path / "vit.pth")}, **SMALL)
    monkeypatch.setattr(timm, "create_model", small)
    side = theirs.patch_embed.img_size[0]
    ours = classifier(example.branch(side), num_classes=1000)
    (report,) = load_branches(ours, [f"timm/{example.name}"])
    assert report.source == f"timm/{example.name}"
    assert report.family == example.family
    pixels = images(1, 3, side, side)
    torch.testing.assert_close(features(ours, pixels), timm_features(theirs, pixels), atol=1e-5, rtol=0)
    if theirs.num_classes:
        torch.testing.assert_close(ours.head.branches["1"].linear.weight, theirs.head.weight)
    else:
        assert report.kept["head.branches.1.linear.weight"] == "the checkpoint has none that fits"


def alone(branch: AnyBranchConfig) -> Pyramid:
    return PyramidConfig(branches=(branch,), interaction=InteractionConfig(edges=())).build().eval()


def test_timms_convnext(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
    theirs: Any = randomised(timm.models.ConvNeXt(**shape)).eval()
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: theirs)
    branch = ConvNeXtConfig(image_size=64, depths=shape["depths"], widths=shape["dims"], stages=(8,))
    ours = alone(branch)
    report = load_branch(ours, 1, "timm/convnext_tiny.fb_in22k")
    assert set(report.ignored) == {
        f"{part}.{kind}" for part in ("layernorm", "classifier") for kind in ("weight", "bias")
    }
    pixels = images(2, 3, 64, 96)
    with torch.inference_mode():
        (tokens,) = ours(pixels)
    expected = theirs.stages(theirs.stem(pixels)).permute(0, 2, 3, 1)
    torch.testing.assert_close(tokens.map, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_a_block_of_timms_beit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attention, on the tokens of one window without a class token."""
    theirs: Any = timm.models.Beit(img_size=64, init_values=0.1, use_rel_pos_bias=True, use_abs_pos_emb=False, **SMALL)
    randomised(theirs).eval()
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: theirs)
    ours = alone(BEiTConfig(image_size=64, stages=(1, 1), window_size=4, layer_scale=0.1, **SMALL))
    report = load_branch(ours, 1, "timm/beitv2_base_patch16_224.in1k_ft_in22k")
    assert set(report.adapted.values()) == {"class rows dropped"}
    assert not report.kept
    attention = theirs.blocks[1].attn
    tokens = images(2, 16, SMALL["embed_dim"])
    with_class = attention._get_rel_pos_bias()  # (1, heads, 17, 17)
    monkeypatch.setattr(attention, "_get_rel_pos_bias", lambda: with_class[..., 1:, 1:])
    own = ours.branches[0].blocks[1].attn(tokens.unflatten(1, (4, 4)))
    torch.testing.assert_close(own.flatten(1, 2), attention(tokens), atol=1e-5, rtol=0)


def test_augreg_arrays_are_read_as_timm_reads_them(tmp_path: Path) -> None:
    theirs: Any = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, **SMALL)
    save_as_jax(randomised(theirs), tmp_path / "vit.npz")
    again: Any = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=5, **SMALL)
    again.load_pretrained(str(tmp_path / "vit.npz"))
    ours = classifier(EXAMPLES[2].branch(64))
    report = load_branch(ours, 1, tmp_path / "vit.npz", "augreg")
    assert not report.kept
    assert not report.ignored
    pixels = images(2, 3, 64, 64)
    torch.testing.assert_close(features(ours, pixels), timm_features(again, pixels), atol=1e-5, rtol=0)


def save_as_jax(model: Any, path: Path) -> None:
    """Write a model of timm in the layout of AugReg's files."""
    heads = model.blocks[0].attn.num_heads
    arrays: dict[str, Tensor] = {
        "cls": model.cls_token,
        "Transformer/posembed_input/pos_embedding": model.pos_embed,
        "embedding/kernel": model.patch_embed.proj.weight.permute(2, 3, 1, 0),
        "embedding/bias": model.patch_embed.proj.bias,
        "Transformer/encoder_norm/scale": model.norm.weight,
        "Transformer/encoder_norm/bias": model.norm.bias,
        "head/kernel": model.head.weight.T,
        "head/bias": model.head.bias,
    }
    for number, block in enumerate(model.blocks):
        prefix = f"Transformer/encoderblock_{number}"
        attention = f"{prefix}/MultiHeadDotProductAttention_1"
        for norm, own in (("LayerNorm_0", block.norm1), ("LayerNorm_2", block.norm2)):
            arrays |= {f"{prefix}/{norm}/scale": own.weight, f"{prefix}/{norm}/bias": own.bias}
        for dense, own in (("Dense_0", block.mlp.fc1), ("Dense_1", block.mlp.fc2)):
            arrays |= {
                f"{prefix}/MlpBlock_3/{dense}/kernel": own.weight.T,
                f"{prefix}/MlpBlock_3/{dense}/bias": own.bias,
            }
        weights, biases = block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            arrays[f"{attention}/{name}/kernel"] = weight.T.unflatten(1, (heads, -1))
            arrays[f"{attention}/{name}/bias"] = bias.unflatten(0, (heads, -1))
        arrays[f"{attention}/out/kernel"] = block.attn.proj.weight.T.unflatten(0, (heads, -1))
        arrays[f"{attention}/out/bias"] = block.attn.proj.bias
    np.savez(path, **{name: tensor.detach().numpy() for name, tensor in arrays.items()})


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("deit_base_patch16_384.fb_in1k", "deit"),
        ("deit3_huge_patch14_224.fb_in22k_ft_in1k", "deit3"),
        ("vit_base_patch16_224.augreg2_in21k_ft_in1k", "augreg"),
        ("vit_huge_patch14_224.mae", "mae"),
        ("vit_large_patch14_dinov2.lvd142m", "dinov2"),
        ("beitv2_large_patch16_224.in1k_ft_in22k", "beit"),
        ("beit_base_patch16_384.in22k_ft_in22k_in1k", "beit"),
        ("convnext_tiny.fb_in22k_ft_in1k_384", "convnext"),
        ("convnext_small.in12k", "convnext"),
        ("convnext_tiny.dinov3_lvd1689m", None),
        ("convnext_base.clip_laion2b", None),
        ("beit3_base_patch16_224.pt", None),
        ("deit_base_distilled_patch16_224.fb_in1k", None),
        ("vit_base_patch14_reg4_dinov2.lvd142m", None),
        ("vit_giant_patch14_dinov2.lvd142m", None),
        ("vit_base_patch16_224.dino", None),
        ("resnet50.a1_in1k", None),
    ],
)
def test_families_of_timm(name: str, family: Family | None) -> None:
    assert timm.is_model_pretrained(name)
    assert family_of_timm(name) == family


def test_a_name_without_tag_is_the_default_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(name: str, **_: Any) -> None:
        asked.append(name)
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    model = classifier(EXAMPLES[0].branch(64))
    message = r"timm/vit_base_patch16_224\.augreg2_in21k_ft_in1k: the weights cannot be had: no route to host"
    with pytest.raises(WeightsError, match=message):
        load_branch(model, 1, "timm/vit_base_patch16_224")
    assert asked == ["vit_base_patch16_224.augreg2_in21k_ft_in1k"]


def test_other_models_of_timm_are_refused() -> None:
    model = classifier(EXAMPLES[0].branch(64))
    with pytest.raises(WeightsError, match=r"timm/deit_bas_patch16_224.*did you mean 'deit_base_patch16_224\.fb_in1k'"):
        load_branch(model, 1, "timm/deit_bas_patch16_224.fb_in1k")
    with pytest.raises(WeightsError, match=r"timm/resnet50\.a1_in1k: not one of timm's weights"):
        load_branch(model, 1, "timm/resnet50")
