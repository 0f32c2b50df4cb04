"""Images as they come: rotated phones, scanners, printers' colours, transparency, broken downloads; arrays, tensors."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from piip.checks import check_type
from piip.workers import LoaderError

ImageSource = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""A file, a picture of Pillow, an array of bytes `(H, W)` or `(H, W, 3)`, or a tensor `(3, H, W)` of bytes or 0...1."""

SourceT = TypeVar("SourceT", bound=ImageSource)

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings, in lower case, by which a file in a folder is taken for an image."""

_SCALED = re.compile("L;[24]")  # as Pillow calls such pixels in a file
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


class ImageError(LoaderError):
    """An image that cannot be found or decoded; the message has its path and the cause."""


class ImageWarning(UserWarning):
    """Tells of an image that cannot be read, and what is done without it."""


def read_image(path: str | os.PathLike[str], *, upright: bool = True) -> Image.Image:
    """Reads an image file as 8-bit RGB, upright.

    - The orientation in the EXIF data is applied, unless `upright` is False: a dataset may tell the places of objects
      in the pixels as they are stored. Pillow applies that of TIFF files in any case.
    - Grey and palette images become RGB. 16-bit grey values are scaled to 8 bits (not cut off at 255).
    - Transparent images are laid on white, the page that their authors saw them on; the colours hidden under
      transparent pixels are arbitrary.
    - CMYK and the like are converted by Pillow's formula; embedded colour profiles are not applied.
    - Of animations and multi-page files, the first picture is taken.

    Raises:
        ImageError: If the file is missing, truncated, not an image, or of a pixel type with no defined brightness range
            (floating point, 32-bit integer).
    """
    try:
        # Not by its name: Pillow would map a grey TIFF file into memory then, and scramble one that is to be turned.
        with Path(path).open("rb") as file, Image.open(file) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image) if upright else image)
    # Decoders answer a damaged file with nearly any exception, from OSError and SyntaxError to struct.error.
    except Exception as error:
        raise ImageError(f"cannot read image '{os.fspath(path)}': {_cause(error)}") from error


def read_pixels(path: str | os.PathLike[str]) -> tuple[Image.Image, bool]:
    """Reads an image file as it is stored: a mask, whose pixels are no colours.

    Returns:
        The image, and whether Pillow has scaled its values to 0...255, as it does with grey ones of 2 and 4 bits.

    Raises:
        ImageError: If the file is missing, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            scaled = any(_SCALED.search(str(tile.args)) for tile in image.tile)
            image.load()
            return image, scaled
    except Exception as error:
        raise ImageError(f"cannot read image '{os.fspath(path)}': {_cause(error)}") from error


def list_sources(images: ImageSource | Sequence[ImageSource]) -> list[ImageSource]:
    """One image, or several, as a list.

    Raises:
        ValueError: For what is neither.
    """
    if isinstance(images, str | os.PathLike | Image.Image | np.ndarray | Tensor):
        return [images]
    check_type("images", images, Iterable, "a file, a picture, an array or a tensor, or several of them")
    return list(images)


def read_batches(
    images: Iterable[SourceT], batch_size: int, skip: Callable[[SourceT, ImageError], None] | None = None
) -> Iterator[list[tuple[SourceT, Image.Image]]]:
    """Reads images in batches, in their order, each beside where it is from.

    Args:
        images: What `as_image` takes.
        batch_size: Images in a batch.
        skip: Is told what cannot be read, and why; that is left out then. By default the error is raised.

    Raises:
        ImageError: Without `skip`, as `as_image` does.
    """
    batch: list[tuple[SourceT, Image.Image]] = []
    for source in images:
        try:
            batch.append((source, as_image(source)))
        except ImageError as error:
            if skip is None:
                raise
            skip(source, error)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def as_image(source: ImageSource) -> Image.Image:
    """Makes an 8-bit RGB image of what people have, upright where that is known.

    Args:
        source: See `ImageSource`. Colours are in the order red, green, blue.

    Raises:
        ImageError: As `read_image` does; for an array or a tensor of another shape, type or range.
    """
    if isinstance(source, str | os.PathLike):
        return read_image(source)
    if isinstance(source, Image.Image):
        try:
            return _to_rgb(ImageOps.exif_transpose(source))
        except Exception as error:  # one that was opened and not read is as damaged as its file
            raise ImageError(
                f"cannot read {getattr(source, 'filename', '') or 'the picture'}: {_cause(error)}"
            ) from error
    if not isinstance(source, Tensor | np.ndarray):
        raise ImageError(f"a {type(source).__name__} is no image: expected a file, a picture, an array or a tensor")
    pixels = _bytes_of_tensor(source) if isinstance(source, Tensor) else source
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ImageError(
            f"an array of {pixels.dtype} of shape {pixels.shape} is no image: expected uint8, height x width x 3 (red, "
            f"green, blue) or height x width (grey)"
        )
    return Image.fromarray(pixels).convert("RGB")


def _bytes_of_tensor(tensor: Tensor) -> NDArray[np.uint8]:
    """The pixels `(H, W, 3)` of a tensor as torchvision has them."""
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ImageError(f"a tensor of shape {tuple(tensor.shape)} is no image: expected 3 (or 1) x height x width")
    if tensor.is_floating_point():
        if not (tensor >= 0).logical_and(tensor <= 1).all():
            raise ImageError(
                f"a tensor of values from {tensor.min().item():.3g} to {tensor.max().item():.3g} is no image: expected "
                f"0 to 1, before normalisation, or bytes"
            )
        tensor = (tensor * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        raise ImageError(f"a tensor of {tensor.dtype} is no image: expected uint8, or floats from 0 to 1")
    return tensor.detach().cpu().expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()


def stored_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The height and width of what `read_pixels` gives, without decoding it.

    Raises:
        ImageError: If the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except Exception as error:
        raise ImageError(f"cannot read image '{os.fspath(path)}': {_cause(error)}") from error


def image_sizes(path: str | os.PathLike[str]) -> set[tuple[int, int]]:
    """The heights and widths that `read_image` may give, upright and as stored, without decoding the image.

    Raises:
        ImageError: If the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            stored = (image.height, image.width)
            # Of a PNG, `getexif` decodes the pixels, to see whether something stands behind them. A TIFF is turned by
            # Pillow itself, which tells its size as turned.
            may_be_turned = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            if may_be_turned and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8):
                return {stored, stored[::-1]}
            return {stored}
    except Exception as error:
        raise ImageError(f"cannot read image '{os.fspath(path)}': {_cause(error)}") from error


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Lists image files: files as they are named, folders with all the images in and below them.

    Below a folder, files with one of `IMAGE_SUFFIXES` count, hidden ones and those in hidden folders do not; linked
    folders are followed, but not back to where they are linked from. Files come in the order of `paths`, sorted within
    each folder, each once.

    Raises:
        ImageError: If something does not exist or a folder holds no image; the message names all such paths. If a
            folder cannot be read, naming it.
    """
    found: dict[Path, None] = {}
    problems = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = images_below(path)
            found.update(dict.fromkeys(map(Path, inside)))
            if not inside:
                problems.append(f"'{path}' holds no image file ({', '.join(IMAGE_SUFFIXES)})")
        elif path.exists():
            found[path] = None
        else:
            problems.append(f"'{path}' does not exist")
    if problems:
        raise ImageError("no images to read: " + "; ".join(problems))
    return list(found)


def images_below(folder: str | os.PathLike[str]) -> list[str]:
    """Lists the image files in and below a folder, sorted, as `find_images` counts them; possibly none.

    Gives strings, which a dataset of millions of images holds in half the memory of `Path` objects.

    Raises:
        ImageError: If a folder cannot be read, naming it.
    """
    return sorted(_walk(os.fspath(folder), frozenset()))


def _walk(folder: str, way: frozenset[str]) -> Iterator[str]:
    """Yield the images in and below a folder, but for folders on the way to it (by their real names)."""
    real = os.path.realpath(folder)
    if real in way:
        return
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise ImageError(f"cannot read folder '{folder}': {_cause(error)}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, way | {real})
        elif entry.name.lower().endswith(IMAGE_SUFFIXES):
            yield entry.path


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # "I;16" and its byte orders, or "I", which some 16-bit formats are opened as
        image = _scale_16_bit(image)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no defined brightness range; convert the file to 8 or 16 bits")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit integer pixels have no defined brightness range; convert the file to 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _cause(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image in a format that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
