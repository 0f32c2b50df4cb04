"""From images to logits of their pixels: the whole image at once, or window by window."""

from dataclasses import dataclass

from piip.config import check_fields
from piip.tasks.segmentation.structures import Size


@dataclass(frozen=True, kw_only=True)
class WholeInference:
    """The network sees the whole image."""


@dataclass(frozen=True, kw_only=True)
class SlidingInference:
    """The network sees windows, and where they overlap, their logits are averaged.

    Attributes:
        crop: height and width of a window. An image that is smaller is one window.
        stride: from a window to the next, down and right; the last ones are moved back to end with the image.
        batch_size: windows that the network sees at a time.
    """

    crop: Size = (512, 512)
    stride: Size = (341, 341)
    batch_size: int = 4

    def __post_init__(self) -> None:
        """Refuse windows that leave pixels out."""
        check_fields(self, "inference.")
        if min(self.stride) < 1 or any(step > side for step, side in zip(self.stride, self.crop, strict=True)):
            raise ValueError(
                f"inference.stride: expected from 1 to the crop's {self.crop}, so that every pixel is in a window; got "
                f"{self.stride}"
            )
        if self.batch_size < 1:
            raise ValueError(f"inference.batch_size: expected at least 1, got {self.batch_size}")


Inference = WholeInference | SlidingInference
