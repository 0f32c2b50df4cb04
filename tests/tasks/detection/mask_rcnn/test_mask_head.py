"""The mask head: its targets and its loss."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import clip_boxes_to_image, roi_align

from piip.costs.memory import StorageTracker
from piip.tasks.detection.mask_rcnn import mask_head
from piip.tasks.detection.mask_rcnn.mask_head import MaskHeadConfig, mask_targets, of_class
from piip.tasks.detection.masks import paste_masks

HALF = torch.zeros(1, 64, 64, dtype=torch.bool)
HALF[:, :, :32] = True


def test_target_is_what_the_box_shows_of_the_object() -> None:
    boxes = torch.tensor([[0.0, 0, 64, 64], [0, 0, 32, 32], [32, 0, 64, 64], [16, 16, 48, 48]])
    targets = mask_targets(HALF, torch.zeros(4, dtype=torch.int64), boxes, 8)
    left = (torch.arange(8) < 4).float().expand(8, 8)
    assert torch.equal(targets, torch.stack((left, torch.ones(8, 8), torch.zeros(8, 8), left)))


def test_each_box_sees_its_own_object() -> None:
    masks = torch.cat((HALF, ~HALF))
    box = torch.tensor([[0.0, 0, 64, 64]]).repeat(3, 1)
    targets = mask_targets(masks, torch.tensor([1, 0, 1]), box, 4)
    assert targets[:, 0].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]


def test_box_beyond_the_image_is_cut() -> None:
    box = torch.tensor([[-64.0, 0, 128, 64]])
    assert torch.equal(
        mask_targets(HALF, torch.tensor([0]), box, 8),
        mask_targets(HALF, torch.tensor([0]), torch.tensor([[0.0, 0, 64, 64]]), 8),
    )


@pytest.mark.parametrize("num_masks", [1, 3, 4, 11])
def test_few_masks_at_a_time_give_what_all_at_once_do(num_masks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mask_head, "_CHUNK_PIXELS", 3 * 200 * 300 + 1)
    generator = torch.Generator().manual_seed(num_masks)
    masks = torch.rand((num_masks, 200, 300), generator=generator) > 0.5
    objects = torch.randint(num_masks, (20,), generator=generator)
    corners = torch.rand((20, 2, 2), generator=generator).sort(dim=1).values * torch.tensor([320.0, 220])
    boxes = corners.flatten(1)
    regions = torch.cat((objects[:, None].float(), clip_boxes_to_image(boxes, (200, 300))), dim=1)
    with StorageTracker((masks,)) as whole:
        coverage = roi_align(masks[:, None].float(), regions, 28, sampling_ratio=0, aligned=True)
    with StorageTracker((masks,)) as tracker:
        targets = mask_targets(masks, objects, boxes, 28)
    assert torch.equal(targets, (coverage[:, 0] >= 0.5).float())
    assert 0.2 < targets.mean() < 0.8
    grids = 3 * targets.numel() * 4  # of all boxes, of those of some masks, and the targets
    assert tracker.peak < min(num_masks, 3) * 200 * 300 * 4 + grids
    assert whole.peak > num_masks * 200 * 300 * 4


@given(st.integers(0, 20), st.integers(0, 20), st.integers(28, 40), st.integers(28, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=50)
def test_a_target_pasted_back_is_the_object_again(x: int, y: int, width: int, height: int, seed: int) -> None:
    """In blocks of at least two pixels a box of 28 cells or more holds all there is to see, but for the edges."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand((1, 8, 8), generator=generator) > 0.5
    masks = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    box = torch.tensor([[float(x), y, x + width, y + height]])
    target = mask_targets(masks, torch.tensor([0]), box, 28)
    pasted = paste_masks(target, box, (64, 64))
    inside = (slice(None), slice(y + 2, y + height - 2), slice(x + 2, x + width - 2))
    assert (pasted[inside] != masks[inside]).float().mean() < 0.2
    outside = pasted.clone()
    outside[:, y : y + height, x : x + width] = False
    assert not outside.any()


def test_loss_is_of_the_own_class_only() -> None:
    head = MaskHeadConfig(channels=8, num_convs=1, pool_size=2).build(4, 3)
    logits = torch.full((2, 3, 4, 4), 99.0)
    logits[0, 1], logits[1, 2] = 0, 1
    goals = torch.stack((torch.ones(4, 4), torch.zeros(4, 4)))
    loss = head.loss(logits, torch.tensor([1, 2]), goals)["loss_mask"]
    expected = (torch.tensor(2.0).log() + torch.tensor(1.0).exp().add(1).log()) / 2
    torch.testing.assert_close(loss, expected)
    assert torch.equal(of_class(logits, torch.tensor([1, 2])), torch.stack((torch.zeros(4, 4), torch.ones(4, 4))))


def test_no_object_gives_no_loss_and_zero_gradients() -> None:
    head = MaskHeadConfig(channels=8, num_convs=1, pool_size=2).build(4, 3)
    labels = torch.zeros(0, dtype=torch.int64)
    goals = mask_targets(HALF[:0], labels, torch.zeros(0, 4), head.config.mask_size)
    loss = head.loss(head(torch.zeros(0, 4, 2, 2)), labels, goals)["loss_mask"]
    assert loss == 0
    loss.backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in head.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"channels": 0}, "channels"), ({"pool_size": 0}, "pool_size"), ({"num_convs": -1}, "num_convs")],
)
def test_heads_without_extent_are_refused(changes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"mask_head\.{message}"):
        MaskHeadConfig(**changes)
