"""The classifier: heads, losses, and that it learns."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.export import Dim

from piip import (
    ClassificationConfig,
    ClassificationModel,
    LinearMergingConfig,
    MergedHeadConfig,
    PreprocessConfig,
    SeparateHeadsConfig,
)
from piip.ops import DeformableAttention, Kernel
from tiny_models import images, randomised, tiny_pyramid, tiny_vit

PYRAMID = tiny_pyramid(tiny_vit(image_size=32, embed_dim=64), tiny_vit(image_size=48), tiny_vit(image_size=64))
BATCH = images(2, 3, 64, 80)


def build(head: Any, pyramid: Any = PYRAMID) -> ClassificationModel:
    return randomised(ClassificationConfig(pyramid=pyramid, head=head).build()).eval()


@torch.no_grad()
@pytest.mark.parametrize("branches", [None, (1,), (3,), (3, 1)])
@pytest.mark.parametrize("reads", ["first_patch", "class_token", "mean"])
def test_separate_heads(reads: str, branches: tuple[int, ...] | None) -> None:
    model = build(SeparateHeadsConfig(num_classes=5, reads=reads, branches=branches))
    tokens = model.pyramid(BATCH)
    logits = []
    for number in branches or (1, 2, 3):
        head, branch = model.head.branches[str(number)], tokens[number - 1]
        feature = {
            "first_patch": head.norm(branch.map)[:, 0, 0],
            "class_token": head.norm(branch.class_token)[:, 0],
            "mean": head.norm(branch.map).mean(dim=(1, 2)),
        }[reads]
        logits.append(head.linear(feature))
    torch.testing.assert_close(model(BATCH)["logits"], sum(logits) / len(logits), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("branches", [None, (2,), (3, 1)])
def test_merged_head(branches: tuple[int, ...] | None) -> None:
    merging = LinearMergingConfig(branches=branches)
    model = build(MergedHeadConfig(num_classes=5, merging=merging))
    merged = model.head.merging(model.pyramid(BATCH), 4, 5)
    expected = model.head.linear(model.head.norm(merged).mean(dim=(1, 2)))
    torch.testing.assert_close(model(BATCH)["logits"], expected)
    assert model.head.linear.in_features == (64, 32, 32)[(branches or (1,))[0] - 1]


@torch.no_grad()
def test_no_classes_gives_the_merged_map() -> None:
    model = build(MergedHeadConfig(num_classes=0))
    assert model(BATCH)["features"].shape == (2, 4, 5, 64)
    with pytest.raises(ValueError, match=r"head\.num_classes: 0, so that this model has neither classes nor a loss"):
        model(BATCH, torch.zeros(2, dtype=torch.long))


@torch.no_grad()
@pytest.mark.parametrize(("branch", "shape"), [(1, (2, 2, 2, 64)), (3, (2, 4, 5, 32))])
def test_no_classes_gives_the_map_of_one_branch(branch: int, shape: tuple[int, ...]) -> None:
    model = build(SeparateHeadsConfig(num_classes=0, branches=(branch,)))
    features = model(BATCH)["features"]
    assert features.shape == shape
    assert torch.equal(features, model.pyramid(BATCH)[branch - 1].map)
    assert not model.head.state_dict()
    with pytest.raises(ValueError, match=r"head\.num_classes: 0, so that this model has neither classes nor a loss"):
        model(BATCH, torch.zeros(2, dtype=torch.long))
    assert model.with_classes(("a", "b"))(BATCH)["logits"].shape == (2, 2)


@pytest.mark.parametrize("head", [SeparateHeadsConfig(num_classes=5), MergedHeadConfig(num_classes=5)])
def test_losses(head: Any) -> None:
    model = build(head)
    logits = model(BATCH)["logits"]
    assert logits.shape == (2, 5)

    hard = torch.tensor([3, 0])
    losses = model(BATCH, hard)
    assert list(losses) == ["cross_entropy"]
    expected = F.cross_entropy(logits, hard)
    torch.testing.assert_close(losses["cross_entropy"], expected)

    one_hot = F.one_hot(hard, 5).float()
    torch.testing.assert_close(model(BATCH, one_hot)["cross_entropy"], expected)

    soft = images(2, 5).softmax(dim=1)
    expected = -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(model(BATCH, soft)["cross_entropy"], expected)

    losses["cross_entropy"].backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([3, 0], r"targets: expected a tensor; got \[3, 0\]"),
        (torch.tensor([3, 0], dtype=torch.int32), r"targets: expected classes .*, got a torch\.int32 tensor of shape"),
        (torch.tensor([3]), r"targets: expected classes of shape \(2,\), int64, or probabilities of shape \(2, 5\)"),
        (torch.tensor([3.0, 0.0]), r"targets: expected classes .*, got a torch\.float32 tensor of shape \(2,\)"),
        (torch.rand(2, 4), r"targets: expected classes .*, got a torch\.float32 tensor of shape \(2, 4\)"),
        (torch.eye(5)[:2].long(), r"targets: expected classes .*, got a torch\.int64 tensor of shape \(2, 5\)"),
    ],
)
def test_targets_that_do_not_fit(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(SeparateHeadsConfig(num_classes=5))(BATCH, targets)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (SeparateHeadsConfig(num_classes=-1), r"head\.num_classes: must not be negative, got -1"),
        (SeparateHeadsConfig(num_classes=0), r"head\.num_classes: 0 gives the features of one branch, but here are 3"),
        (MergedHeadConfig(num_classes=-1), r"head\.num_classes: must not be negative, got -1"),
        (SeparateHeadsConfig(branches=(4,)), r"head\.branches: \(4,\) does not name different ones of the 3 branches"),
        (SeparateHeadsConfig(branches=()), r"head\.branches: \(\) does not name"),
        (MergedHeadConfig(merging=LinearMergingConfig(branches=(1, 1))), r"merging\.branches: \(1, 1\)"),
    ],
)
def test_impossible_heads(head: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationConfig(pyramid=PYRAMID, head=head).build()


def test_a_class_token_must_be_there_to_be_read() -> None:
    with pytest.raises(ValueError, match=r"head\.reads: expected one of .*, got 'cls'"):
        SeparateHeadsConfig(reads="cls")
    pyramid = tiny_pyramid(tiny_vit(), tiny_vit(class_token=False))
    head = SeparateHeadsConfig(reads="class_token")
    with pytest.raises(ValueError, match=r"head\.reads: 'class_token', but branch 2 has none; set its class_token"):
        ClassificationConfig(pyramid=pyramid, head=head).build()
    build(replace(head, branches=(1,)), pyramid)


def test_classes() -> None:
    config = ClassificationConfig(pyramid=PYRAMID, head=MergedHeadConfig(num_classes=7))
    renamed = config.with_classes(("cat", "dog"))
    assert renamed.class_names == ("cat", "dog")
    assert renamed.head == MergedHeadConfig(num_classes=2)
    assert renamed.with_classes(("a", "b", "c")).head.num_classes == 3
    assert renamed.build()(BATCH)["logits"].shape == (2, 2)
    with pytest.raises(ValueError, match=r"class_names: 1 names, but head\.num_classes is 7"):
        replace(config, class_names=("cat",))
    with pytest.raises(ValueError, match="class_names: several classes are called 'cat'"):
        config.with_classes(("cat", "dog", "cat"))
    with pytest.raises(ValueError, match="class_names: a classifier needs at least one class"):
        config.with_classes(())


def test_images_are_prepared_for_the_pyramid() -> None:
    assert ClassificationConfig(pyramid=PYRAMID).preprocess == PreprocessConfig(input_size=64)
    other_colours = ClassificationConfig(pyramid=PYRAMID, preprocess=PreprocessConfig(mean=(0.5, 0.5, 0.5)))
    assert other_colours.preprocess == PreprocessConfig(input_size=64, mean=(0.5, 0.5, 0.5))
    assert ClassificationConfig(pyramid=PYRAMID, preprocess=PreprocessConfig(input_size=96)).preprocess.input_size == 96


@torch.no_grad()
def test_exports() -> None:
    model = build(SeparateHeadsConfig(num_classes=5))
    exported = torch.export.export(model, (BATCH,)).module()
    torch.testing.assert_close(exported(BATCH)["logits"], model(BATCH)["logits"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("head", "kernel"),
    [(SeparateHeadsConfig(num_classes=5), "reference"), (MergedHeadConfig(num_classes=5), "gather")],
)
def test_exports_for_images_of_every_size(head: Any, kernel: Kernel) -> None:
    model = build(head, tiny_pyramid(tiny_vit(embed_dim=64), tiny_vit(image_size=48)))
    for module in model.modules():
        if isinstance(module, DeformableAttention):
            module.kernel = kernel
    sizes = {0: Dim("batch", min=1, max=64), 2: Dim("height", min=48, max=512), 3: Dim("width", min=48, max=512)}
    exported = torch.export.export(model, (BATCH,), dynamic_shapes=(sizes,)).module()
    for shape in ((2, 3, 64, 80), (1, 3, 48, 48), (3, 3, 100, 77)):  # the second one needs no position resampled
        batch = images(*shape)
        torch.testing.assert_close(exported(batch)["logits"], model(batch)["logits"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("head", [SeparateHeadsConfig(num_classes=4), MergedHeadConfig(num_classes=4)])
def test_overfits_a_handful_of_images(head: Any) -> None:
    torch.manual_seed(0)
    pyramid = tiny_pyramid(tiny_vit(embed_dim=64), tiny_vit(image_size=48))
    model = ClassificationConfig(pyramid=pyramid, head=head).build().train()
    batch, targets = images(8, 3, 48, 48), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(60):
        loss = model(batch, targets)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert model.eval()(batch)["logits"].argmax(dim=1).equal(targets)
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("attn_scale")]
    assert all(scale.abs().max() > 0 for scale in scales)  # the interactions took part
