"""From the mask probabilities of detections to masks of the image's size, a few at a time.

A hundred masks of a 4000 x 3000 photo take 1.2 GB as bool and several times that while they are computed. So masks are
pasted one by one, only where their box is, and handed out in chunks.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from piip.batches import Size
from piip.rle import Rle, encode_rle
from piip.tasks.detection.structures import Detections

CHUNK_PIXELS = 2**27
"""How many pixels the masks have that are there at once: 128 MiB of bool."""

_THRESHOLD = 0.5


def mask_chunks(detections: Detections, *, max_pixels: int = CHUNK_PIXELS) -> Iterator[Tensor]:
    """Paste the masks of one image, in the order of its detections.

    Args:
        detections: with `mask_probs`.
        max_pixels: how many pixels the masks of a chunk have in all; a chunk has one mask at least.

    Yields:
        (n, H, W), bool, on the device of the detections.

    Raises:
        ValueError: for detections without masks.
    """
    if detections.mask_probs is None:
        raise ValueError("detections.mask_probs: None, so that there are no masks to paste")
    height, width = detections.image_size
    step = max(1, max_pixels // max(1, height * width))
    for start in range(0, len(detections.boxes), step):
        chosen = slice(start, start + step)
        yield paste_masks(detections.mask_probs[chosen], detections.boxes[chosen], detections.image_size)


def paste_masks(probs: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Resize each grid of probabilities to its box; a pixel is the object's where its centre gets 0.5 or more.

    Outside of the box nothing does. Waits for the device once, for where the boxes are.

    Args:
        probs: (N, M, M).
        boxes: (N, 4), in pixels of the image; an empty one has an empty mask.
        size: of the image.

    Returns:
        (N, H, W), bool.
    """
    height, width = size
    masks = torch.zeros((len(boxes), height, width), dtype=torch.bool, device=boxes.device)
    for mask, prob, box, (x1, y1, x2, y2) in zip(masks, probs.float(), boxes.float(), boxes.tolist(), strict=True):
        columns, rows = _pixels(x1, x2, width), _pixels(y1, y2, height)
        if columns and rows:
            probs_inside = _sample(prob, box, columns, rows)
            mask[rows.start : rows.stop, columns.start : columns.stop] = probs_inside >= _THRESHOLD
    return masks


def encode_masks(detections: Detections) -> list[Rle]:
    """Encode the masks of one image as COCO does, in the order of its detections.

    Raises:
        ValueError: for detections without masks.
    """
    return [encode_rle(mask) for chunk in mask_chunks(detections) for mask in chunk.cpu().numpy()]


def _pixels(start: float, end: float, size: int) -> range:
    """The pixels along one axis that a mask may fill, with one to spare for rounding."""
    if not (start < end and math.isfinite(start) and math.isfinite(end)):
        return range(0)
    return range(max(0, math.floor(start) - 1), min(size, math.ceil(end) + 1))


def _sample(prob: Tensor, box: Tensor, columns: range, rows: range) -> Tensor:
    """The probabilities at the centres of a range of pixels."""
    x, y = (
        (torch.arange(pixels.start, pixels.stop, device=box.device, dtype=torch.float32) + 0.5 - start)
        / (end - start)
        * 2
        - 1
        for pixels, start, end in ((columns, box[0], box[2]), (rows, box[1], box[3]))
    )
    grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
    return F.grid_sample(prob[None, None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False)[0, 0]
