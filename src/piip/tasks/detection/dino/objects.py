"""The objects of a batch as tensors of one shape."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from piip.tasks.detection.structures import Target

NO_OBJECT = -1
"""The label of what is no object."""


class Objects(NamedTuple):
    """The objects of each image of a batch, followed by padding up to the largest number of them.

    Attributes:
        labels: (B, N), `NO_OBJECT` in the padding.
        boxes: (B, N, 4), centre x, centre y, width and height in units of the image; zeros in the padding.
        counts: how many objects each image has.
    """

    labels: Tensor
    boxes: Tensor
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many objects there are in all images."""
        return sum(self.counts)


def gather_objects(targets: Sequence[Target], image_sizes: Tensor) -> Objects:
    """Put the objects of all images together, without waiting for the device.

    Args:
        targets: of each image.
        image_sizes: (B, 2), widths and heights in pixels, without padding.
    """
    boxes = pad_sequence([target.boxes.float() for target in targets], batch_first=True)
    return Objects(
        labels=pad_sequence([target.labels for target in targets], batch_first=True, padding_value=NO_OBJECT),
        boxes=box_convert(boxes, "xyxy", "cxcywh") / image_sizes.repeat(1, 2)[:, None],
        counts=tuple(len(target.labels) for target in targets),
    )
