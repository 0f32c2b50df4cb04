"""Changes to an image together with the labels of its pixels, on `torchvision.transforms.v2`.

Images are uint8 until they are normalised, as in the official release. All draws are from PyTorch's process-wide
generator.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import InterpolationMode, adjust_hue, crop, resize

from piip.bilinear import fit_size, resize_bilinear
from piip.tasks.segmentation.structures import IGNORED

Sample = tuple[tv_tensors.Image, tv_tensors.Mask]
"""An image `(3, H, W)` and the labels of its pixels, uint8 `(1, H, W)`."""

_CROPS_TRIED = 10


class ResizeShortSide(nn.Module):
    """Makes the shorter side of an image so long, keeping its ratio.

    Args:
        short_side: In pixels.
    """

    def __init__(self, short_side: int) -> None:
        super().__init__()
        self.short_side = short_side

    def forward(self, image: tv_tensors.Image) -> tv_tensors.Image:
        """Takes and gives an image without labels."""
        height, width = image.shape[-2:]
        longer = self.short_side * max(height, width) / min(height, width)
        return _resize_image(image, fit_size((height, width), (longer, self.short_side)))


class RandomResize(nn.Module):
    """Makes an image as large as it can be within a random multiple of a scale, keeping its ratio.

    Args:
        scale: Longest and shortest side at most, in pixels, with the factor 1.
        factors: Smallest and largest factor.
    """

    def __init__(self, scale: tuple[int, int], factors: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale
        self.factors = factors

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Sample:
        """Images bilinearly, as OpenCV does; labels by the nearest pixel."""
        factor = _draw(*self.factors)
        longer, shorter = (max(1, int(side * factor)) for side in self.scale)
        size = fit_size((image.shape[-2], image.shape[-1]), (longer, shorter))
        resized = resize(labels, list(size), InterpolationMode.NEAREST)
        return _resize_image(image, size), tv_tensors.wrap(resized, like=labels)


class RandomCropOfClasses(nn.Module):
    """Cuts out a square at a random place, where no class has too large a part of it if possible.

    Of several places that are tried the first that will do is taken, or the last one. Pixels that are ignored do not
    count, and there must be two classes. Of a smaller image, as much is taken as there is.

    Args:
        size: Side of the square.
        class_limit: What a class may have of the labelled pixels; with 1, the first place is taken.
    """

    def __init__(self, size: int, class_limit: float) -> None:
        super().__init__()
        self.size = size
        self.class_limit = class_limit

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Sample:
        """Takes and gives an image and its labels."""
        place = self._draw_place(labels)
        if self.class_limit < 1:
            for _ in range(_CROPS_TRIED):
                if self._is_mixed(crop(labels, *place)):
                    break
                place = self._draw_place(labels)
        return tv_tensors.wrap(crop(image, *place), like=image), tv_tensors.wrap(crop(labels, *place), like=labels)

    def _draw_place(self, labels: Tensor) -> tuple[int, int, int, int]:
        """Top, left, height and width."""
        height, width = (min(side, self.size) for side in labels.shape[-2:])
        top, left = (
            int(torch.randint(side - extent + 1, ()).item())
            for side, extent in zip(labels.shape[-2:], (height, width), strict=True)
        )
        return top, left, height, width

    def _is_mixed(self, labels: Tensor) -> bool:
        counts = torch.bincount(labels.as_subclass(Tensor).flatten(), minlength=IGNORED + 1)[:IGNORED]
        most = counts.max().item()
        return 0 < most < self.class_limit * counts.sum().item() and int((counts > 0).sum()) > 1


class RandomColours(nn.Module):
    """Changes brightness, contrast, saturation and hue, each in half of the images (as SSD, arXiv 1512.02325).

    Contrast comes second or last. Saturation and hue are those of the hue-saturation-value model.

    Args:
        brightness: The most that is added to or taken from all colours, of 255.
        contrast: Smallest and largest factor of all colours.
        saturation: Smallest and largest factor of the saturation.
        hue: The most that the hue is turned either way, as a part of the circle.
    """

    def __init__(
        self, brightness: float, contrast: tuple[float, float], saturation: tuple[float, float], hue: float
    ) -> None:
        super().__init__()
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Sample:
        """Takes and gives an image and its labels, which stay as they are."""
        pixels = image.as_subclass(Tensor)
        if _toss():
            pixels = _to_bytes(pixels + _draw(-self.brightness, self.brightness))
        contrast_is_second = _toss()
        if contrast_is_second:
            pixels = self._change_contrast(pixels)
        if _toss():
            pixels = _saturate(pixels, _draw(*self.saturation))
        if _toss():
            pixels = adjust_hue(pixels, _draw(-self.hue, self.hue))
        if not contrast_is_second:
            pixels = self._change_contrast(pixels)
        return tv_tensors.wrap(pixels, like=image), labels

    def _change_contrast(self, pixels: Tensor) -> Tensor:
        return _to_bytes(pixels * _draw(*self.contrast)) if _toss() else pixels


class PadToSquare(nn.Module):
    """Pads images with zeros and labels with what is ignored, right and below, to a square.

    Args:
        size: Side of the square.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: tv_tensors.Image, labels: tv_tensors.Mask) -> Sample:
        """Takes and gives an image and its labels, which are no larger than the square."""
        padding = (0, self.size - image.shape[-1], 0, self.size - image.shape[-2])
        padded, labelled = F.pad(image, padding), F.pad(labels, padding, value=IGNORED)
        return tv_tensors.wrap(padded, like=image), tv_tensors.wrap(labelled, like=labels)


def normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> list[nn.Module]:
    """The steps from pixels of 0 to 255 to what a model takes; mean and deviation are on the scale 0 to 1."""
    mean_of_bytes, std_of_bytes = ([255 * value for value in values] for values in (mean, std))
    return [v2.ToDtype(torch.float32), v2.Normalize(mean_of_bytes, std_of_bytes)]


def _resize_image(image: tv_tensors.Image, size: tuple[int, int]) -> tv_tensors.Image:
    return tv_tensors.wrap(resize_bilinear(image.as_subclass(Tensor), size), like=image)


def _saturate(pixels: Tensor, factor: float) -> Tensor:
    """Multiplies the saturation `(max - min) / max` of each pixel, to 1 at most; hue and value (max) stay."""
    value = pixels.amax(dim=0, keepdim=True).float()
    spread = value - pixels.amin(dim=0, keepdim=True)
    factors = torch.clamp(value / spread.clamp(min=1), max=factor)
    return (value - factors * (value - pixels)).round().to(torch.uint8)


def _to_bytes(pixels: Tensor) -> Tensor:
    """Cuts off fractions, as the official release does."""
    return pixels.clamp(0, 255).to(torch.uint8)


def _draw(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()


def _toss() -> bool:
    return torch.rand(()).item() < 0.5
