"""The network: branches at their own sizes that read each other."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip.batches import ImageBatch
from piip.branches import Tokens, ViTConfig
from piip.pyramid import BackboneConfig, Pyramid, PyramidConfig
from piip.pyramid.resize import resize_in_proportion
from tiny_models import images, randomised, tiny_pyramid, tiny_vit

FIVE = tuple(
    tiny_vit(image_size=size, embed_dim=width, num_heads=4, class_token=size != 64)
    for size, width in ((32, 80), (48, 64), (64, 48), (80, 32), (96, 16))
)


def build(config: PyramidConfig) -> Pyramid:
    return randomised(config.build()).eval()


def grids(tokens: tuple[Tokens, ...]) -> list[tuple[int, ...]]:
    return [tuple(branch.map.shape[1:3]) for branch in tokens]


def alone(pyramid: Pyramid, batch: Tensor) -> list[list[Tokens]]:
    """Each branch's tokens after each stage, without the others."""
    result = []
    for branch, ratio in zip(pyramid.branches, pyramid.ratios, strict=True):
        tokens, stages = branch.embed(resize_in_proportion(batch, ratio)), []
        for stage in range(len(pyramid.interactions)):
            tokens = branch.run_stage(stage, tokens)
            stages.append(tokens)
        result.append(stages)
    return result


@torch.no_grad()
@pytest.mark.parametrize("attention", ["deformable", "regular"])
@pytest.mark.parametrize("num_branches", [1, 2, 3, 4, 5])
def test_any_number_of_branches(num_branches: int, attention: str) -> None:
    vits = FIVE[-num_branches:]
    pyramid = build(tiny_pyramid(*vits, attention=attention))
    assert len(pyramid.interactions[0].injectors) == 2 * (num_branches - 1)
    tokens = pyramid(images(2, 3, 96, 96))
    for branch, vit in zip(tokens, vits, strict=True):
        assert branch.map.shape == (2, vit.image_size // 16, vit.image_size // 16, vit.embed_dim)
        assert (branch.class_token is not None) == vit.class_token
        assert branch.map.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(32, 48, 64), (64, 48, 32), (48, 48, 48), (32, 64, 48)])
@pytest.mark.parametrize("widths", [(64, 32, 32), (32, 32, 64), (32, 32, 32)])
def test_inverted_direct_and_equal_pyramids(sizes: tuple[int, ...], widths: tuple[int, ...]) -> None:
    vits = [tiny_vit(image_size=size, embed_dim=width) for size, width in zip(sizes, widths, strict=True)]
    config = tiny_pyramid(*vits)
    largest = max(sizes)
    assert config.image_size == largest
    assert config.channels == widths
    assert grids(build(config)(images(1, 3, largest, largest))) == [(size // 16, size // 16) for size in sizes]


@torch.no_grad()
@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (48, 48, [(2, 2), (3, 3)]),
        (48, 96, [(2, 4), (3, 6)]),
        (100, 50, [(4, 2), (6, 3)]),
        (24, 24, [(1, 1), (1, 1)]),
    ],
)
def test_images_of_any_size_and_shape(height: int, width: int, expected: list[tuple[int, int]]) -> None:
    for attention in ("deformable", "regular"):
        assert grids(build(tiny_pyramid(attention=attention))(images(1, 3, height, width))) == expected


@torch.no_grad()
def test_patch_sizes_may_differ() -> None:
    vits = (
        tiny_vit(image_size=28, patch_size=14),
        tiny_vit(image_size=48),
        tiny_vit(image_size=32, patch_size=8, class_token=False, window_size=3),
    )
    assert grids(build(tiny_pyramid(*vits))(images(1, 3, 48, 48))) == [(2, 2), (3, 3), (4, 4)]


@torch.no_grad()
@pytest.mark.parametrize("attention", ["deformable", "regular"])
def test_a_new_pyramid_computes_what_its_branches_compute(attention: str) -> None:
    pyramid = tiny_pyramid(*FIVE, attention=attention).build().eval()
    batch = images(1, 3, 96, 64)
    intermediates = pyramid.forward_intermediates(batch)
    for number, stages in enumerate(alone(pyramid, batch)):
        for stage, expected in enumerate(stages):
            assert torch.equal(intermediates[stage][number].map, expected.map)


@torch.no_grad()
def test_no_interaction() -> None:
    pyramid = build(tiny_pyramid(*FIVE, edges=()))
    assert not list(pyramid.interactions.parameters())
    batch = images(1, 3, 96, 64)
    for tokens, stages in zip(pyramid(batch), alone(pyramid, batch), strict=True):
        assert torch.equal(tokens.map, stages[-1].map)


@torch.no_grad()
@pytest.mark.parametrize(
    ("edges", "moved"),
    [
        (((1, 2),), {1, 2}),  # branch 2 and its reader
        (((2, 1),), {2}),
        (((3, 2),), {2, 3}),
        (((3, 2), (1, 3)), {1, 2, 3}),
        (((1, 3), (3, 1)), {2}),
    ],
)
def test_information_flows_along_edges_only(edges: tuple[tuple[int, int], ...], moved: set[int]) -> None:
    """Disturb branch 2's weights: only it and those that read it, directly or not, may change."""
    pyramid = build(tiny_pyramid(*FIVE[:3], edges=edges))
    batch = images(1, 3, 64, 64)
    before = pyramid(batch)
    randomised(pyramid.branches[1].patch_embed, seed=1)
    after = pyramid(batch)
    changed = {n for n in (1, 2, 3) if not torch.equal(before[n - 1].map, after[n - 1].map)}
    assert changed == moved


@torch.no_grad()
def test_intermediates_are_those_of_the_stages() -> None:
    vits = [tiny_vit(depth=3, stages=(1, 0, 2)), tiny_vit(image_size=48, depth=4, stages=(2, 1, 0), unused_blocks=1)]
    pyramid = build(tiny_pyramid(*vits))
    batch = images(2, 3, 48, 48)
    intermediates = pyramid.forward_intermediates(batch)
    assert len(intermediates) == 3
    for last, token in zip(pyramid(batch), intermediates[2], strict=True):
        assert torch.equal(last.map, token.map)
        assert torch.equal(last.class_token, token.class_token)
    maps = [stage[0].map for stage in intermediates.values()]
    assert not torch.equal(maps[0], maps[1])  # its own stage is empty, but it still reads the other branch
    # Block 4 of branch 2 is never run.
    randomised(pyramid.branches[1].blocks[3], seed=1)
    assert torch.equal(pyramid(batch)[0].map, intermediates[2][0].map)
    some = pyramid.forward_intermediates(batch, {1})
    assert list(some) == [1]
    assert torch.equal(some[1][1].map, intermediates[1][1].map)


def test_all_used_parameters_learn() -> None:
    pyramid = randomised(tiny_pyramid(*FIVE).build())
    tokens = pyramid(images(2, 3, 96, 96))
    sum(branch.map.square().sum() for branch in tokens).backward()
    without = [name for name, parameter in pyramid.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ("vits", "interaction", "message"),
    [
        ((tiny_vit(), tiny_vit(stages=(2,))), {}, r"stages: .* numbers of stages differ: \[2, 1\]"),
        ((tiny_vit(), tiny_vit()), {"num_heads": 12}, r"interaction\.num_heads: 12 does not divide .* of branch 1"),
        (
            (tiny_vit(embed_dim=64), tiny_vit(embed_dim=36)),
            {"num_heads": 32},
            r"width int\(36 \* 0\.5\) = 18 of branch 2",
        ),
        (
            (tiny_vit(), tiny_vit(in_channels=1)),
            {},
            r"in_channels: the branches look at one image, but their values differ: \[3, 1\]",
        ),
        (FIVE[:3], {"turns": 3}, r"interaction\.turns: with 3 turns in 2 stages the edges \[\(1, 2\)\] never run"),
        ((tiny_vit(), tiny_vit()), {"edges": ((1, 3),)}, r"interaction\.edges: \(1, 3\) .* 2 branches"),
        ((tiny_vit(),), {"edges": ((1, 2),)}, r"interaction\.edges: \(1, 2\) .* 1 branches"),
    ],
)
def test_impossible_pyramids(vits: tuple[ViTConfig, ...], interaction: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_pyramid(*vits, **interaction)


def test_a_pyramid_needs_a_branch() -> None:
    with pytest.raises(ValueError, match="branches: a pyramid needs at least one branch"):
        PyramidConfig(branches=())


def test_widths_that_no_edge_reads_for_may_be_any() -> None:
    config = tiny_pyramid(tiny_vit(embed_dim=64), tiny_vit(embed_dim=34), num_heads=16, edges=((1, 2),))
    assert grids(config.build()(images(1, 3, 32, 32))) == [(2, 2), (2, 2)]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 48, 48), r"images: expected a batch \(B, 3, H, W\) of floating-point numbers, got a .* \(3, 48, 48\)"),
        ((1, 48, 48, 3), r"images: expected a batch \(B, 3, H, W\) of .*, got a .* \(1, 48, 48, 3\)"),
        ((1, 3, 16, 48), r"images: a branch with patch_size 16 would see \(10, 32\) pixels"),
        ((1, 3, 48, 1), r"images: \(48, 1\) pixels are too few to be resized by 2/3"),
    ],
)
def test_impossible_images(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_pyramid().build()(images(*shape))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (None, r"images: expected a batch \(B, 3, H, W\); got None"),
        ([torch.zeros(3, 48, 48)] * 2, r"images: expected a batch \(B, 3, H, W\); got a list"),
        (ImageBatch.of(torch.zeros(1, 3, 48, 48)), r"images: expected a batch \(B, 3, H, W\); got a ImageBatch"),
        (torch.zeros(1, 3, 48, 48, dtype=torch.uint8), r"images: .* of floating-point numbers, got a torch\.uint8"),
    ],
)
def test_what_is_no_batch_of_images(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_pyramid().build()(batch)


@pytest.mark.parametrize("config", [None, "tiny", tiny_vit(), BackboneConfig(pyramid=tiny_pyramid())])
def test_what_is_no_configuration(config: Any) -> None:
    with pytest.raises(ValueError, match="config: expected a PyramidConfig; got "):
        Pyramid(config)


def test_bfloat16_autocast() -> None:
    pyramid, batch = build(tiny_pyramid()), images(2, 3, 48, 48)
    expected = pyramid(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = pyramid(batch)
    sum(branch.map.square().sum() for branch in mixed).backward()
    assert all(parameter.grad.isfinite().all() for parameter in pyramid.parameters())
    for ours, reference in zip(mixed, expected, strict=True):
        assert (ours.map - reference.map).abs().max() < 0.1 * reference.map.abs().max()


def single_stage() -> Pyramid:
    """As little as shows everything, because compilation takes seconds for each block."""
    vits = (tiny_vit(embed_dim=64, depth=1, stages=(1,)), tiny_vit(image_size=48, depth=1, stages=(1,)))
    return randomised(tiny_pyramid(*vits).build())


def gradients(pyramid: Pyramid, tokens: tuple[Tokens, ...]) -> list[Tensor]:
    loss = sum(branch.map.square().sum() for branch in tokens)
    return list(torch.autograd.grad(loss, list(pyramid.parameters()), allow_unused=True, materialize_grads=True))


def assert_compiled_equals_eager(backend: str) -> None:
    pyramid = single_stage()
    compiled = torch.compile(pyramid, fullgraph=True, backend=backend)
    batch = images(2, 3, 48, 64)
    expected, result = pyramid(batch), compiled(batch)
    for ours, reference in zip(result, expected, strict=True):
        torch.testing.assert_close(ours.map, reference.map, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.class_token, reference.class_token, atol=1e-5, rtol=1e-5)
    for ours, reference in zip(gradients(pyramid, result), gradients(pyramid, expected), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4 * max(1.0, reference.abs().max().item()), rtol=0)


def test_compiles_to_one_graph() -> None:
    assert_compiled_equals_eager("aot_eager")


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="inductor needs a C++ compiler")
def test_compiles_with_inductor() -> None:
    assert_compiled_equals_eager("inductor")


@torch.no_grad()
def test_compiled_network_takes_another_image_size() -> None:
    """At the second size the sides become symbols."""
    pyramid = single_stage().eval()
    compiled = torch.compile(pyramid, fullgraph=True, backend="eager")
    for shape in ((2, 3, 48, 48), (2, 3, 48, 80)):
        batch = images(*shape)
        for ours, reference in zip(compiled(batch), pyramid(batch), strict=True):
            torch.testing.assert_close(ours.map, reference.map, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["deformable", "regular"])
def test_exports(attention: str) -> None:
    vits = (tiny_vit(embed_dim=64), tiny_vit(image_size=48, class_token=False, window_size=2))
    pyramid = build(tiny_pyramid(*vits, attention=attention))
    batch = images(2, 3, 48, 64)
    any_batch = ({0: torch.export.Dim("batch", min=1, max=16)},)
    exported = torch.export.export(pyramid, (batch,), dynamic_shapes=any_batch).module()
    for inputs in (batch, images(5, 3, 48, 64)):
        for ours, reference in zip(exported(inputs), pyramid(inputs), strict=True):
            torch.testing.assert_close(ours.map, reference.map, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_compiles_once_for_images_of_every_size() -> None:
    pyramid = single_stage().eval()
    compiled = torch.compile(pyramid, fullgraph=True, backend="eager", dynamic=True)
    compiled(images(2, 3, 64, 80))
    with torch.compiler.set_stance("fail_on_recompile"):
        for shape in ((2, 3, 48, 48), (3, 3, 64, 64), (2, 3, 100, 77)):  # no position of the first is resampled
            batch = images(*shape)
            for ours, reference in zip(compiled(batch), pyramid(batch), strict=True):
                torch.testing.assert_close(ours.map, reference.map, atol=1e-5, rtol=1e-5)


def test_activation_checkpointing_changes_no_gradient() -> None:
    stored = randomised(tiny_pyramid().build()).train()
    vits = tuple(replace(branch, activation_checkpointing=True) for branch in stored.config.branches)
    recomputed = replace(stored.config, branches=vits).build().train()
    recomputed.load_state_dict(stored.state_dict())
    batch = images(2, 3, 48, 48)
    pairs = zip(gradients(stored, stored(batch)), gradients(recomputed, recomputed(batch)), strict=True)
    for expected, ours in pairs:
        torch.testing.assert_close(ours, expected)


@torch.no_grad()
def test_the_input_branch_sees_the_image_itself() -> None:
    vits = (tiny_vit(), tiny_vit(image_size=48), tiny_vit(image_size=80))
    config = replace(tiny_pyramid(*vits, edges=()), input_branch=2)
    assert (config.image_size, config.finest) == (48, 3)
    pyramid, batch = build(config), images(1, 3, 48, 64)
    tokens = pyramid(batch)
    assert grids(tokens) == [(2, 2), (3, 4), (5, 6)]
    for branch, vit, own in zip(pyramid.branches, vits, tokens, strict=True):
        scale = vit.image_size / 48
        seen = batch if scale == 1 else F.interpolate(batch, scale_factor=scale, mode="bilinear")
        expected = branch.run_stage(1, branch.run_stage(0, branch.embed(seen)))
        torch.testing.assert_close(own.map, expected.map)
    with pytest.raises(ValueError, match=r"input_branch: 4 is none of the 3 branches"):
        replace(config, input_branch=4)


@torch.no_grad()
def test_edges_in_turn_reach_the_network() -> None:
    pyramid = build(tiny_pyramid(*FIVE[-3:], turns=2))
    names = [set(stage.injectors) for stage in pyramid.interactions]
    assert names[0] == {"3to2", "2to1"}
    assert names[1] == {"2to3", "1to2"}
    assert all(branch.map.isfinite().all() for branch in pyramid(images(1, 3, 96, 96)))
