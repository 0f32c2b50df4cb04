"""Loading checkpoints into branches, with every tensor accounted for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from piip.branches import BEiTConfig, ConvNeXtConfig, UniPerceiverConfig, ViTConfig
from piip.pyramid import Pyramid
from piip.tasks.classification.heads import MergedHeadConfig, SeparateHeadsConfig
from piip.tasks.classification.model import ClassificationConfig, ClassificationModel
from piip.weights import WeightsError
from piip.zoo.names import branch_tensor
from piip.zoo.pretrained import Family, LoadReport, load_branch, load_branches
from tiny_models import images, randomised, tiny_pyramid, tiny_vit


def checkpoint_of(config: ViTConfig, num_classes: int = 5, seed: int = 1) -> dict[str, Tensor]:
    """What a plain ViT of this configuration holds, with a row for the class token, a norm and a head."""
    vit = randomised(config.build(), seed)
    norm = randomised(config.make_final_norm(), seed)
    head = randomised(nn.Linear(config.embed_dim, num_classes), seed)
    tensors: dict[str, Tensor] = dict(vit.state_dict())
    tensors["pos_embed"] = images(1, 1 + config.pos_embed_grid**2, config.embed_dim, seed=seed)
    tensors["cls_token"] = images(1, 1, config.embed_dim, seed=seed)
    tensors |= {f"norm.{name}": tensor for name, tensor in norm.state_dict().items()}
    return tensors | {f"head.{name}": tensor for name, tensor in head.state_dict().items()}


def save(tensors: Mapping[str, Any], folder: Path, name: str = "vit.pth") -> Path:
    torch.save({"model": dict(tensors)}, folder / name)
    return folder / name


def pyramid(**changes: Any) -> Pyramid:
    """Two branches, of which the second gets the changes."""
    return tiny_pyramid(tiny_vit(embed_dim=64), tiny_vit(image_size=48, **changes)).build()


def classifier(head: SeparateHeadsConfig | MergedHeadConfig) -> ClassificationModel:
    return ClassificationConfig(pyramid=tiny_pyramid(), head=head).build()


def assert_unchanged(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def load_error(model: Pyramid, branch: int, path: Path, family: Family) -> str:
    """The message of an attempt that must fail and change nothing."""
    before = copy_of(model)
    with pytest.raises(WeightsError) as error:
        load_branch(model, branch, path, family)
    assert_unchanged(model, before)
    assert str(error.value).startswith(f"{path}, branch {branch}: ")
    return str(error.value)


def test_only_the_branch_changes(tmp_path: Path) -> None:
    model = pyramid()
    before = copy_of(model)
    tensors = checkpoint_of(tiny_vit(image_size=48))
    report = load_branch(model, 2, save(tensors, tmp_path), "deit")
    for name, tensor in model.state_dict().items():
        if name == "branches.1.pos_embed":
            assert torch.equal(tensor, tensors["pos_embed"][:, 1:])
        elif name.startswith("branches.1."):
            assert torch.equal(tensor, tensors[name.removeprefix("branches.1.")])
        else:
            assert torch.equal(tensor, before[name])
    assert report.adapted == {"branches.1.pos_embed": "class row dropped"}
    own = {name for name in model.state_dict() if name.startswith("branches.1.")}
    assert {*report.loaded, *report.adapted, *report.kept} == own
    assert len(report.loaded) + len(report.adapted) + len(report.kept) == len(own)


def test_weights_in_half_precision(tmp_path: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in checkpoint_of(tiny_vit(image_size=64)).items()}
    model = pyramid()
    load_branch(model, 2, save(tensors, tmp_path), "mae")
    weight = model.state_dict()["branches.1.blocks.0.attn.qkv.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, tensors["blocks.0.attn.qkv.weight"].float())


def test_a_load_is_seen_by_a_model_that_has_already_run(tmp_path: Path) -> None:
    model, again = pyramid(pos_embed_size=32).eval(), pyramid(pos_embed_size=32).eval()
    again.load_state_dict(model.state_dict())
    path = save(checkpoint_of(tiny_vit(image_size=48)), tmp_path)
    with torch.no_grad():
        model(images(1, 3, 48, 48))  # resamples the position embedding, and keeps it
        load_branch(model, 2, path, "deit")
        load_branch(again, 2, path, "deit")
        for one, other in zip(model(images(1, 3, 48, 48)), again(images(1, 3, 48, 48)), strict=True):
            assert torch.equal(one.map, other.map)


def test_separate_heads_take_norm_and_head(tmp_path: Path) -> None:
    model = classifier(SeparateHeadsConfig(num_classes=5))
    tensors = checkpoint_of(tiny_vit(embed_dim=64))
    before = copy_of(model)
    report = load_branch(model, 1, save(tensors, tmp_path), "deit")
    after = model.state_dict()
    assert torch.equal(after["head.branches.1.norm.weight"], tensors["norm.weight"])
    assert torch.equal(after["head.branches.1.linear.weight"], tensors["head.weight"])
    assert torch.equal(after["head.branches.1.linear.bias"], tensors["head.bias"])
    assert torch.equal(after["head.branches.2.linear.weight"], before["head.branches.2.linear.weight"])
    assert not report.ignored
    assert "head.branches.1.linear.bias" in report.loaded


def test_a_head_for_other_classes_is_left_out(tmp_path: Path) -> None:
    model = classifier(SeparateHeadsConfig(num_classes=3))
    before = copy_of(model)
    tensors = checkpoint_of(tiny_vit(embed_dim=64), num_classes=1000)
    report = load_branch(model, 1, save(tensors, tmp_path), "deit")
    reason = "is for 1000 classes, and the model has 3"
    assert report.ignored == {"head.weight": reason, "head.bias": reason}
    reason = "the checkpoint has none that fits"
    assert report.kept == {"head.branches.1.linear.weight": reason, "head.branches.1.linear.bias": reason}
    after = model.state_dict()
    assert torch.equal(after["head.branches.1.norm.weight"], tensors["norm.weight"])
    assert torch.equal(after["head.branches.1.linear.weight"], before["head.branches.1.linear.weight"])


@pytest.mark.parametrize("head", [MergedHeadConfig(num_classes=5), SeparateHeadsConfig(num_classes=5, branches=(2,))])
def test_norm_and_head_are_left_out_where_the_branch_has_none(
    head: SeparateHeadsConfig | MergedHeadConfig, tmp_path: Path
) -> None:
    model = classifier(head)
    report = load_branch(model, 1, save(checkpoint_of(tiny_vit(embed_dim=64)), tmp_path), "deit")
    assert set(report.ignored) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert set(report.ignored.values()) == {"the model has no head of its own on this branch"}


def test_no_class_token(tmp_path: Path) -> None:
    model = pyramid(class_token=False)
    report = load_branch(model, 2, save(checkpoint_of(tiny_vit(image_size=48)), tmp_path), "deit")
    assert report.ignored["cls_token"] == "the branch has no class token"


def test_position_embedding_is_resampled(tmp_path: Path) -> None:
    model = pyramid(class_pos_embed="unused")
    tensors = checkpoint_of(tiny_vit(image_size=80))
    report = load_branch(model, 2, save(tensors, tmp_path), "mae")
    assert report.adapted == {"branches.1.pos_embed": "grid 5x5 resampled to 3x3"}
    loaded = model.state_dict()["branches.1.pos_embed"]
    assert torch.equal(loaded[:, 0], tensors["pos_embed"][:, 0])
    grid = tensors["pos_embed"][:, 1:].transpose(1, 2).unflatten(2, (5, 5))
    expected = nn.functional.interpolate(grid, (3, 3), mode="bicubic", align_corners=False)
    torch.testing.assert_close(loaded[:, 1:], expected.flatten(2).transpose(1, 2), atol=1e-6, rtol=0)


def test_patch_kernel_is_resampled(tmp_path: Path) -> None:
    model = pyramid()
    tensors = checkpoint_of(tiny_vit(image_size=42, patch_size=14, layer_scale=1.0))
    with pytest.raises(WeightsError, match="layer_scale: present in the checkpoint, None in the branch"):
        load_branch(model, 2, save(tensors, tmp_path), "dinov2")
    model = pyramid(layer_scale=0.1)
    report = load_branch(model, 2, save(tensors | {"mask_token": torch.zeros(1, 32)}, tmp_path), "dinov2")
    assert report.adapted["branches.1.patch_embed.proj.weight"] == "kernel 14x14 resampled to 16x16"
    assert report.ignored["mask_token"] == "stands for masked patches in pretraining"


def test_layer_scales_stay_where_the_family_has_none(tmp_path: Path) -> None:
    model = pyramid(layer_scale=0.1)
    report = load_branch(model, 2, save(checkpoint_of(tiny_vit(image_size=48)), tmp_path), "deit")
    assert report.kept == {
        f"branches.1.blocks.{block}.{scale}.gamma": "this family has no layer scales"
        for block in range(2)
        for scale in ("ls1", "ls2")
    }
    assert (model.state_dict()["branches.1.blocks.0.ls1.gamma"] == 0.1).all()


def test_deit3_has_its_own_names_and_no_class_row(tmp_path: Path) -> None:
    model = pyramid(layer_scale=0.1)
    tensors = checkpoint_of(tiny_vit(image_size=48, layer_scale=1.0))
    tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    theirs = {name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): t for name, t in tensors.items()}
    report = load_branch(model, 2, save(theirs, tmp_path), "deit3")
    assert not report.adapted
    assert not report.kept
    assert torch.equal(model.state_dict()["branches.1.blocks.1.ls2.gamma"], theirs["blocks.1.gamma_2"])
    with pytest.raises(WeightsError, match="has tensors under two names"):
        load_branch(model, 2, save(theirs | tensors, tmp_path), "deit3")
    with pytest.raises(WeightsError, match="no row for the class token, but the branch has class_pos_embed 'unused'"):
        load_branch(pyramid(layer_scale=0.1, class_pos_embed="unused"), 2, save(theirs, tmp_path), "deit3")


def test_internvit_with_rms_norms_and_without_biases(tmp_path: Path) -> None:
    own = {"layer_scale": 0.1, "norm": "rmsnorm", "qk_norm": True, "qkv_bias": False}
    tensors = checkpoint_of(tiny_vit(image_size=48, **own)) | {"clip_projector.cross_attn.q.weight": torch.ones(3)}
    report = load_branch(pyramid(**own), 2, save(tensors, tmp_path), "internvit_6b")
    assert report.ignored["clip_projector.cross_attn.q.weight"] == "pools the tokens for contrastive pretraining"
    assert not report.kept
    message = load_error(pyramid(), 2, save(tensors, tmp_path), "internvit_6b")
    assert "norm: rmsnorm in the checkpoint, layernorm in the branch" in message
    assert "qk_norm: True in the checkpoint, False in the branch" in message
    assert "qkv_bias: False in the checkpoint, True in the branch" in message
    assert "unexpected: blocks.*.attn.q_norm.weight (2 times)" in message
    assert "missing: blocks.*.norm1.bias (2 times)" in message


def test_a_decoder_is_left_out(tmp_path: Path) -> None:
    tensors = checkpoint_of(tiny_vit(image_size=48))
    decoder = {"mask_token": torch.zeros(1, 1, 16), "decoder_blocks.0.attn.qkv.weight": torch.zeros(48, 16)}
    report = load_branch(pyramid(), 2, save(tensors | decoder, tmp_path), "mae")
    assert {report.ignored[name] for name in decoder} == {"part of the decoder"}
    assert "unexpected: mask_token" in load_error(pyramid(), 2, save(tensors | decoder, tmp_path), "deit")


def test_missing_left_over_and_reshaped_tensors(tmp_path: Path) -> None:
    tensors = checkpoint_of(tiny_vit(image_size=48))
    del tensors["blocks.0.attn.qkv.bias"], tensors["cls_token"]
    tensors["dist_token"] = torch.zeros(1, 1, 32)
    tensors["blocks.1.norm1.weight"] = torch.ones(31)
    message = load_error(pyramid(), 2, save(tensors, tmp_path), "deit")
    assert "the checkpoint does not fit the branch" in message
    assert "missing: cls_token, blocks.*.attn.qkv.bias" in message
    assert "unexpected: dist_token" in message
    assert "of another shape: blocks.*.norm1.weight (31,), expected (32,)" in message


def test_another_size_is_told_by_settings(tmp_path: Path) -> None:
    tensors = checkpoint_of(tiny_vit(image_size=48, embed_dim=64, depth=3, stages=(1, 2), mlp_ratio=2.0))
    message = load_error(pyramid(), 2, save(tensors, tmp_path), "deit")
    assert "embed_dim: 64 in the checkpoint, 32 in the branch" in message
    assert "depth: 3 in the checkpoint, 2 in the branch" in message
    assert "mlp_ratio: 2.0 in the checkpoint, 4.0 in the branch" in message


@pytest.mark.parametrize("rows", [0, 3, 8, 11])
def test_positions_that_are_no_square_grid(rows: int, tmp_path: Path) -> None:
    tensors = checkpoint_of(tiny_vit(image_size=48)) | {"pos_embed": torch.zeros(1, rows, 32)}
    assert f"pos_embed: {rows} rows are not a square grid" in load_error(pyramid(), 2, save(tensors, tmp_path), "deit")


def test_positions_of_another_rank(tmp_path: Path) -> None:
    tensors = checkpoint_of(tiny_vit(image_size=48)) | {"pos_embed": torch.zeros(10, 32)}
    message = load_error(pyramid(), 2, save(tensors, tmp_path), "deit")
    assert "pos_embed: expected the shape (1, rows, width), got (10, 32)" in message


def test_another_format_or_family(tmp_path: Path) -> None:
    path = save({"model.layers.0.weight": torch.ones(3)}, tmp_path)
    message = load_error(pyramid(), 2, path, "deit")
    assert "unexpected: model.layers.0.weight" in message
    deit3 = {f"blocks.{block}.gamma_1": torch.ones(32) for block in range(2)}
    path = save(checkpoint_of(tiny_vit(image_size=48)) | deit3, tmp_path)
    assert "unexpected: blocks.*.gamma_1 (2 times)" in load_error(pyramid(), 2, path, "mae")
    np.savez(tmp_path / "vit.npz", cls=np.zeros((1, 1, 32)))
    with pytest.raises(WeightsError, match=r"vit\.npz: \.npz is the format of the family 'augreg', not of 'mae'"):
        load_branch(pyramid(), 2, tmp_path / "vit.npz", "mae")


def test_bad_arguments(tmp_path: Path) -> None:
    model, path = pyramid(), save(checkpoint_of(tiny_vit(image_size=48)), tmp_path)
    for branch in (0, 3, -1):
        with pytest.raises(ValueError, match=f"branch: {branch} is not one of 1 to 2"):
            load_branch(model, branch, path, "deit")
    with pytest.raises(ValueError, match="family: there is no 'diet'; did you mean 'deit'"):
        load_branch(model, 2, path, "diet")
    with pytest.raises(ValueError, match=r"family: say whose checkpoint .* is: deit, deit3, "):
        load_branch(model, 2, path)
    with pytest.raises(ValueError, match="family: timm/deit_tiny_patch16_224 tells it; leave 'deit' out"):
        load_branch(model, 2, "timm/deit_tiny_patch16_224", "deit")
    with pytest.raises(WeightsError, match=r"nowhere\.pth: there is no such file"):
        load_branch(model, 2, tmp_path / "nowhere.pth", "deit")


def test_a_model_on_the_meta_device(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = pyramid()
    with pytest.raises(ValueError, match="model: is on the meta device"):
        load_branch(model, 2, save(checkpoint_of(tiny_vit(image_size=48)), tmp_path), "deit")


def convnext_config(**changes: Any) -> ConvNeXtConfig:
    return ConvNeXtConfig(
        **{"image_size": 48, "depths": (1, 2), "widths": (32, 64), "stages": (1, 3), "layer_scale": 0.1} | changes
    )


def test_a_branch_of_another_kind(tmp_path: Path) -> None:
    model = tiny_pyramid(tiny_vit(embed_dim=64), convnext_config()).build()
    message = load_error(model, 2, save(checkpoint_of(tiny_vit(image_size=48)), tmp_path), "deit")
    assert "'deit' is for a ViTConfig, not a ConvNeXtConfig" in message


def theirs_of(branch: nn.Module) -> dict[str, Tensor]:
    """The tensors of a branch by the names in the code that its architecture is from."""
    return {branch_tensor(name.split("."), branch.config): tensor for name, tensor in branch.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "convnext."])
def test_convnext(tmp_path: Path, prefix: str) -> None:
    source = randomised(convnext_config().build(), seed=1)
    tensors = {prefix + name: tensor for name, tensor in theirs_of(source).items()}
    assert f"{prefix}encoder.stages.1.downsampling_layer.1.weight" in tensors
    assert f"{prefix}encoder.stages.1.layers.1.layer_scale_parameter" in tensors
    tensors |= {f"{prefix}layernorm.weight": torch.ones(64), "classifier.weight": torch.ones(5, 64)}
    model = tiny_pyramid(tiny_vit(embed_dim=64), convnext_config()).build()

    report = load_branch(model, 2, save(tensors, tmp_path), "convnext")

    assert_unchanged(model.branches[1], source.state_dict())
    assert not report.adapted
    assert not report.kept
    assert set(report.ignored) == {"layernorm.weight", "classifier.weight"}
    other = tiny_pyramid(tiny_vit(embed_dim=64), convnext_config(depths=(2, 2), stages=(2, 3))).build()
    message = load_error(other, 2, tmp_path / "vit.pth", "convnext")
    assert "missing" in message
    assert "depth: 4 in the checkpoint, 5 in the branch" in message


def test_uniperceiver(tmp_path: Path) -> None:
    config = UniPerceiverConfig(
        image_size=48, depth=2, embed_dim=32, num_heads=2, stages=(1, 1), layer_scale=0.0, pos_embed_size=32
    )
    source = randomised(config.build(), seed=1)
    tensors = theirs_of(source)
    assert {"layers.1.self_attn.in_proj.bias", "visual_embed.patch_embed.temporal_pos_embed.weight"} <= set(tensors)
    tensors["token_embed.embeddings.weight"] = torch.ones(7, 32)
    model = tiny_pyramid(tiny_vit(embed_dim=64), config).build()

    report = load_branch(model, 2, save(tensors, tmp_path), "uniperceiver")

    assert_unchanged(model.branches[1], source.state_dict())
    assert report.ignored == {"token_embed.embeddings.weight": "no part of the image encoder"}
    stray = tensors | {"layers.0.self_attn.q_bias": torch.ones(32)}
    message = load_error(model, 2, save(stray, tmp_path), "uniperceiver")
    assert "unexpected: layers.0.self_attn.q_bias" in message
    unscaled = {name: tensor for name, tensor in tensors.items() if "gamma" not in name}
    assert "layer_scale: None in the checkpoint" in load_error(model, 2, save(unscaled, tmp_path), "uniperceiver")


def beit(window_size: int = 3) -> BEiTConfig:
    return BEiTConfig(
        image_size=48,
        depth=2,
        embed_dim=32,
        num_heads=2,
        stages=(1, 1),
        window_size=window_size,
        layer_scale=0.1,
    )


def test_beit_with_a_table_for_all_blocks(tmp_path: Path) -> None:
    source = randomised(beit().build(), seed=1)
    tensors = {name: tensor for name, tensor in theirs_of(source).items() if "bias_table" not in name}
    table = images(5**2 + 3, 2, seed=2)
    tensors |= {"rel_pos_bias.relative_position_bias_table": table, "rel_pos_bias.relative_position_index": table}
    model = tiny_pyramid(tiny_vit(embed_dim=64), beit()).build()

    report = load_branch(model, 2, save(tensors, tmp_path), "beit")

    for block in (0, 1):
        name = f"branches.1.blocks.{block}.attn.relative_position_bias_table"
        assert torch.equal(model.state_dict()[name], table[:-3])
        assert report.adapted[name] == "copied from the shared table, class rows dropped"
    assert set(report.ignored) == {"rel_pos_bias.relative_position_index"}


def test_beit_windows_of_another_size(tmp_path: Path) -> None:
    tensors = theirs_of(randomised(beit(3).build(), seed=1))
    model = tiny_pyramid(tiny_vit(embed_dim=64), beit(2)).build()
    report = load_branch(model, 2, save(tensors, tmp_path), "beit")
    name = "branches.1.blocks.1.attn.relative_position_bias_table"
    assert report.adapted[name] == "offsets 5x5 resampled to 3x3"
    table, theirs = model.state_dict()[name], tensors["blocks.1.attn.relative_position_bias_table"]
    torch.testing.assert_close(table[4], theirs[12])  # the offset 0
    tensors["blocks.1.attn.relative_position_bias_table"] = torch.zeros(20, 2)
    message = load_error(model, 2, save(tensors, tmp_path), "beit")
    assert "relative_position_bias_table: 17 rows are not those of a square window" in message


def test_all_branches_at_once(tmp_path: Path) -> None:
    model = classifier(SeparateHeadsConfig(num_classes=5))
    large, small = checkpoint_of(tiny_vit(embed_dim=64)), checkpoint_of(tiny_vit(image_size=48))
    paths = save(large, tmp_path, "large.pth"), save(small, tmp_path, "small.pth")
    reports = load_branches(model, [f"deit:{paths[0]}", f"mae:{paths[1]}"])
    assert [(report.branch, report.family, report.source) for report in reports] == [
        (1, "deit", str(paths[0])),
        (2, "mae", str(paths[1])),
    ]
    after = model.state_dict()
    assert torch.equal(after["pyramid.branches.0.cls_token"], large["cls_token"])
    assert torch.equal(after["pyramid.branches.1.cls_token"], small["cls_token"])


def test_some_branches_can_stay_random(tmp_path: Path) -> None:
    model = pyramid()
    before = copy_of(model)
    (report,) = load_branches(model, ["none", f"deit:{save(checkpoint_of(tiny_vit(image_size=48)), tmp_path)}"])
    assert report.branch == 2
    first = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("branches.0.")}
    assert all(torch.equal(tensor, before[name]) for name, tensor in first.items())


def test_all_branches_or_none_are_loaded(tmp_path: Path) -> None:
    model = pyramid()
    before = copy_of(model)
    path = save(checkpoint_of(tiny_vit(embed_dim=64)), tmp_path)
    with pytest.raises(WeightsError, match=r"vit\.pth, branch 2: .*does not fit the branch"):
        load_branches(model, [f"deit:{path}", f"deit:{path}"])
    with pytest.raises(ValueError, match=r"pretrained: give one source for each of the 2 branches.*got 1: none"):
        load_branches(model, ["none"])
    assert_unchanged(model, before)


def test_report_as_text() -> None:
    report = LoadReport(
        source="vit.pth",
        family="deit",
        branch=2,
        loaded=("branches.1.cls_token", "branches.1.blocks.0.norm1.weight"),
        adapted={"branches.1.pos_embed": "grid 5x5 resampled to 3x3"},
        kept={f"branches.1.blocks.{block}.ls1.gamma": "this family has no layer scales" for block in range(12)},
        ignored={"norm.weight": "no head", "norm.bias": "no head", "mask_token": "part of the decoder"},
    )
    assert str(report).splitlines() == [
        "branch 2 from vit.pth (deit): 2 tensors as they are",
        "  adapted: branches.1.pos_embed: grid 5x5 resampled to 3x3",
        "  kept: branches.1.blocks.*.ls1.gamma (12 times): this family has no layer scales",
        "  ignored: norm.weight, norm.bias: no head",
        "  ignored: mask_token: part of the decoder",
    ]
