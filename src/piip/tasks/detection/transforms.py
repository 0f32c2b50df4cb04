"""Changes to an image together with its objects, on `torchvision.transforms.v2`.

Images are uint8 until they are normalised, as in the official release. All draws are from PyTorch's process-wide
generator.

The official release resizes, flips and crops a mask of the whole image for each object. Hundreds of those would take
gigabytes; here one `pixel_grid` is changed in their place, which tells then which pixels to take of each mask.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import crop, resize

from piip.batches import Size
from piip.bilinear import fit_size, resize_bilinear

Scale = tuple[int, int]
"""What an image is made to fit: the longer and the shorter side that it may have at most, in pixels."""


def pixel_grid(size: Size) -> tv_tensors.Mask:
    """The row and the column of each pixel: (2, H, W), float32, to be changed together with an image."""
    return tv_tensors.Mask(torch.stack(torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")))


def sampled_pixels(grid: Tensor) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and the columns, of the mask of an object, that a changed `pixel_grid` is made of: (h,) and (w,)."""
    rows, columns = grid[0, :, 0], grid[1, 0, :]  # each change is one of rows and one of columns
    return rows.long().numpy(), columns.long().numpy()


class ResizeToFit(v2.Transform):
    """Makes an image as large as it can be within a scale, keeping its ratio.

    Args:
        scales: One of them is drawn for each image.
    """

    def __init__(self, scales: Sequence[Scale]) -> None:
        super().__init__()
        self.scales = tuple(scales)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size of the result."""
        return {"size": fit_size(_size_of(flat_inputs), self.draw_scale())}

    def draw_scale(self) -> Scale:
        """One of the scales; nothing is drawn where there is but one."""
        return self.scales[_draw(0, len(self.scales) - 1)]

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Images bilinearly, as OpenCV does; of grids and masks the nearest pixel."""
        if isinstance(inpt, tv_tensors.Image):
            return tv_tensors.wrap(resize_bilinear(inpt.as_subclass(Tensor), params["size"]), like=inpt)
        return resize(inpt, list(params["size"]))


class ScaleJitter(ResizeToFit):
    """`ResizeToFit` to a square of a random side.

    Args:
        size: The side that goes with the factor 1.
        factors: Smallest and largest factor.
    """

    def __init__(self, size: int, factors: tuple[float, float]) -> None:
        super().__init__([(size, size)])
        self.size = size
        self.factors = factors

    def draw_scale(self) -> Scale:
        """A square."""
        low, high = self.factors
        side = int(self.size * (low + (high - low) * torch.rand(()).item()))
        return side, side


class RandomCrop(v2.Transform):
    """Cuts out a rectangle of a random size at a random place; of a smaller image, as much as there is.

    Args:
        min_size: Least height and least width.
        max_size: Largest height and largest width.
    """

    def __init__(self, min_size: int, max_size: int) -> None:
        super().__init__()
        self.min_size = min_size
        self.max_size = max_size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Where the rectangle is."""
        size = _size_of(flat_inputs)
        height, width = (_draw(min(side, self.min_size), min(side, self.max_size)) for side in size)
        top, left = _draw(0, size[0] - height), _draw(0, size[1] - width)
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Boxes are cut at the edge of the rectangle, to nothing where they are outside."""
        return crop(inpt, **params)


class DropEmptyBoxes(torch.nn.Module):
    """Takes away the objects whose box has no area left, with all that belongs to them.

    `v2.SanitizeBoundingBoxes` also takes those of less than a pixel, which the official release trains on.
    """

    def forward(
        self, image: tv_tensors.Image, objects: dict[str, Tensor], grid: tv_tensors.Mask | None
    ) -> tuple[tv_tensors.Image, dict[str, Tensor], tv_tensors.Mask | None]:
        """Takes and gives image, grid and objects: `boxes` (x1, y1, x2, y2) and what there is for each of them."""
        boxes = objects["boxes"].as_subclass(Tensor)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        if keep.all():
            return image, objects, grid
        return image, {name: tv_tensors.wrap(value[keep], like=value) for name, value in objects.items()}, grid


def _size_of(inputs: list[Any]) -> Size:
    for item in inputs:
        if isinstance(item, tv_tensors.Image):
            return item.shape[-2], item.shape[-1]
    raise TypeError("there is no tv_tensors.Image to be transformed")


def _draw(low: int, high: int) -> int:
    """A whole number, both ends included."""
    return low if low == high else int(torch.randint(low, high + 1, ()).item())
