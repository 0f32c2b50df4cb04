"""Masks of detections: where they are pasted, in which pieces, and how they are encoded."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from piip.tasks.detection.masks import encode_masks, mask_chunks, paste_masks
from piip.tasks.detection.structures import Detections


def detections(boxes: Tensor, probs: Tensor, size: tuple[int, int]) -> Detections:
    count = len(boxes)
    return Detections(
        boxes=boxes,
        scores=torch.ones(count),
        labels=torch.zeros(count, dtype=torch.int64),
        mask_probs=probs,
        image_size=size,
    )


def paste_whole(prob: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """The definition: the grid of probabilities is stretched over the box, and every pixel of the image is asked."""
    height, width = size
    y = (torch.arange(height) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    x = (torch.arange(width) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    grid = torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), dim=-1)[None]
    return F.grid_sample(prob[None, None], grid, align_corners=False)[0, 0] >= 0.5


@given(
    st.integers(0, 2**32 - 1),
    st.floats(-20, 60),
    st.floats(-20, 60),
    st.floats(0.01, 80),
    st.floats(0.01, 80),
    st.integers(1, 40),
    st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
def test_only_the_pixels_around_the_box_can_belong_to_it(seed, x, y, w, h, height, width) -> None:
    generator = torch.Generator().manual_seed(seed)
    prob = torch.rand((1, 7, 7), generator=generator).round(decimals=1)  # 1.0 and 0.5, the edge cases, too
    box = torch.tensor([[x, y, x + w, y + h]])
    assert torch.equal(paste_masks(prob, box, (height, width))[0], paste_whole(prob[0], box[0], (height, width)))


def test_full_mask_fills_the_pixels_whose_centre_is_well_in_the_box() -> None:
    masks = paste_masks(torch.ones(1, 28, 28), torch.tensor([[2.0, 3.0, 30.0, 31.0]]), (40, 40))
    expected = torch.zeros(1, 40, 40, dtype=torch.bool)
    expected[:, 3:31, 2:30] = True
    assert torch.equal(masks, expected)


def test_half_mask_fills_half_of_the_box() -> None:
    prob = torch.zeros(1, 4, 4)
    prob[:, :, :2] = 1
    mask = paste_masks(prob, torch.tensor([[0.0, 0.0, 40.0, 20.0]]), (20, 40))[0]
    assert mask[5:15, :20].all()  # the corners fade, because the cells at the edge are halfway to zero there
    assert not mask[:, 20:].any()


@pytest.mark.parametrize(
    "box", [[3.0, 3, 3, 9], [3, 9, 9, 9], [9, 9, 3, 3], [-9, -9, -5, -5], [50, 50, 60, 60], [float("nan"), 0, 5, 5]]
)
def test_box_without_pixels_has_an_empty_mask(box: list[float]) -> None:
    assert not paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), (10, 10)).any()


def test_chunks_are_the_masks_in_order_and_no_larger_than_asked() -> None:
    boxes = torch.rand(11, 4) * 10
    boxes[:, 2:] += 10 + boxes[:, :2]
    found = detections(boxes, torch.rand(11, 28, 28), (20, 30))
    chunks = list(mask_chunks(found, max_pixels=4 * 600 + 1))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3]
    assert torch.equal(torch.cat(chunks), paste_masks(found.mask_probs, boxes, (20, 30)))
    assert [len(chunk) for chunk in mask_chunks(found, max_pixels=1)] == [1] * 11


def test_encoding_is_that_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.mask")
    boxes = torch.rand(9, 4) * 20
    boxes[:, 2:] += boxes[:, :2] + 2
    found = detections(boxes, torch.rand(9, 28, 28), (33, 47))
    masks = paste_masks(found.mask_probs, boxes, (33, 47)).numpy()
    for run, mask in zip(encode_masks(found), masks, strict=True):
        assert run["size"] == [33, 47]
        assert run["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


def test_nothing_found_has_no_masks() -> None:
    found = detections(torch.zeros(0, 4), torch.zeros(0, 28, 28), (20, 30))
    assert encode_masks(found) == []
    assert paste_masks(found.mask_probs, found.boxes, (20, 30)).shape == (0, 20, 30)


def test_detector_without_masks_has_none_to_paste() -> None:
    found = Detections(
        boxes=torch.zeros(1, 4), scores=torch.ones(1), labels=torch.zeros(1), mask_probs=None, image_size=(5, 5)
    )
    with pytest.raises(ValueError, match=r"detections\.mask_probs: None"):
        encode_masks(found)


_HUNDRED_LARGE_MASKS = """
import resource, torch
from piip.tasks.detection.masks import encode_masks
from piip.tasks.detection.structures import Detections

torch.manual_seed(0)
boxes = torch.rand(100, 4) * torch.tensor([500., 500., 3000., 2000.]) + torch.tensor([0., 0., 900., 900.])
boxes[0] = torch.tensor([0., 0., 4000., 3000.])
found = Detections(boxes=boxes, scores=torch.ones(100), labels=torch.zeros(100, dtype=torch.int64),
                   mask_probs=torch.rand(100, 28, 28), image_size=(3000, 4000))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert len(encode_masks(found)) == 100
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_hundred_masks_of_a_large_photo_take_little_memory() -> None:
    result = subprocess.run([sys.executable, "-c", _HUNDRED_LARGE_MASKS], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 800  # MiB; all at once, the bool masks alone would be 1,145
