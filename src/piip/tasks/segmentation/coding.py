"""What the pixels of a mask stand for, and reading masks as labels."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from piip.config import check_fields, listing
from piip.images import read_pixels
from piip.problems import DatasetError
from piip.tasks.segmentation.structures import IGNORED

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

_MAX_VALUE = 65535  # of 16 bits
_MAX_COLOUR = 2**24 - 1
_UNDECLARED = -1


class MaskError(DatasetError):
    """A mask that holds what stands for nothing; the message has its path and what that is.

    No `ImageError`, in whose place another image is trained on: other masks will hold the same.
    """


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """What the pixels of masks stand for.

    Attributes:
        class_names: What the classes are called.
        values: What pixels of each class hold: grey values, or indices of a palette; by default 0, 1, 2, ...
        ignored: Values of pixels that are neither learned from nor counted.
        palette: The colour of each class: in pictures of what was found, and in masks that hold colours (RGB) in place
            of values. Empty where the classes have none.
        ignored_colours: In masks that hold colours, those of the pixels that are neither learned from nor counted.
    """

    class_names: tuple[str, ...]
    values: tuple[int, ...] = ()
    ignored: tuple[int, ...] = (IGNORED,)
    palette: tuple[Colour, ...] = ()
    ignored_colours: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= len(self.class_names) <= IGNORED:
            raise ValueError(f"class_names: {len(self.class_names)} classes; there must be 1 to {IGNORED}")
        _refuse_twice("class_names", self.class_names)
        for name in ("values", "palette"):
            entries = getattr(self, name)
            if entries and len(entries) != len(self.class_names):
                raise ValueError(f"{name}: {len(entries)} of them for {len(self.class_names)} classes")
        values = (*self.values, *self.ignored) if self.values else self.ignored
        if not all(0 <= value <= _MAX_VALUE for value in values):
            raise ValueError(f"values={self.values}, ignored={self.ignored} must be within 0...{_MAX_VALUE}")
        _refuse_twice("values, ignored", (*self.class_values, *self.ignored))
        check_colours("palette", self.palette)
        check_colours("ignored_colours", self.ignored_colours)

    @property
    def class_values(self) -> tuple[int, ...]:
        """`values`, or what they are by default."""
        return self.values or tuple(range(len(self.class_names)))


class MaskReader:
    """Reads masks as labels.

    Args:
        coding: What the pixels stand for.
        class_names: Of each label, those of the model or of the training images: classes are told by their names. By
            default those of the coding.

    Raises:
        ValueError: If a class of the coding is none of these.
    """

    def __init__(self, coding: MaskCoding, class_names: Sequence[str] | None = None) -> None:
        self.coding = coding
        self.class_names = coding.class_names if class_names is None else tuple(class_names)
        unknown = [name for name in coding.class_names if name not in self.class_names]
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(coding.class_names)} classes are none of the {len(self.class_names)} classes "
                f"of the model or of the training images: {listing(unknown)}"
            )
        labels = [self.class_names.index(name) for name in coding.class_names]
        self._by_value = np.full(_MAX_VALUE + 1, _UNDECLARED, dtype=np.int16)
        self._by_value[list(coding.class_values)] = labels
        self._by_value[list(coding.ignored)] = IGNORED
        self._by_colour = {_pack(colour): label for colour, label in zip(coding.palette, labels, strict=False)}
        self._by_colour |= {_pack(colour): IGNORED for colour in coding.ignored_colours}

    def read(self, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
        """Reads a mask as labels `(H, W)`: those of the classes, and 255 for pixels that are ignored.

        Raises:
            MaskError: If it holds what stands for nothing.
            ImageError: If the file cannot be decoded.
        """
        mask, scaled = read_pixels(path)
        try:
            if scaled:
                raise ValueError(
                    "has grey pixels of 2 or 4 bits, which may stand for themselves or be scaled to 255; save it with "
                    "8 bits"
                )
            if mask.mode == "P":
                self._check_palette(mask)
            labels = self._from_colours(mask) if mask.mode in ("RGB", "RGBA") else self._from_values(mask)
        except ValueError as error:
            raise MaskError(f"mask '{os.fspath(path)}' {error}") from error
        return labels.astype(np.uint8)

    def _check_palette(self, mask: Image.Image) -> None:
        """Refuses indices whose colour in the file is declared for something else: one of both must be wrong."""
        coding = self.coding
        owners: dict[tuple[int, ...], str] = dict(zip(coding.palette, map(repr, coding.class_names), strict=False))
        owners |= dict.fromkeys(coding.ignored_colours, "ignored pixels")
        colours, counts = mask.getpalette("RGB") or [], mask.histogram()
        for index, name, declared in zip(coding.class_values, coding.class_names, coding.palette, strict=False):
            found = tuple(colours[3 * index : 3 * index + 3])
            if index < len(counts) and counts[index] and found != declared and found in owners:
                raise ValueError(
                    f"has pixels of the index {index}, which stands for {name!r}, but is {found} in the palette of the "
                    f"file, the colour declared for {owners[found]}: save the mask as RGB if its colours are right, or "
                    f"as grey if its indices are"
                )

    def _from_values(self, mask: Image.Image) -> NDArray[np.int16]:
        values = np.asarray(mask)
        if mask.mode == "1":
            values = values * np.uint8(self._value_of_bit())
        if values.ndim != 2 or values.dtype.kind not in "ui":
            raise ValueError(f"has pixels of the kind {mask.mode}; save it as grey, palette or RGB PNG")
        labels = self._by_value.take(values, mode="clip")
        if values.dtype.itemsize > 2:
            labels[(values < 0) | (values > _MAX_VALUE)] = _UNDECLARED
        if (labels == _UNDECLARED).any():
            found = [str(value) for value in np.unique(values[labels == _UNDECLARED])]
            raise ValueError(
                f"has pixels of {listing(found, 3)}, which is no value of a class and not ignored: correct the mask, "
                f"or declare the value"
            )
        return labels

    def _value_of_bit(self) -> int:
        """What pixels stand for that are set in a mask of one bit."""
        declared = [value for value in (1, 255) if self._by_value[value] != _UNDECLARED]
        if len(declared) > 1:
            raise ValueError(
                "has pixels of 1 bit, which may stand for 0 and 1 or for 0 and 255, and the dataset declares both 1 "
                "and 255: save it with 8 bits, or take one of them out of its values and ignored (by default [255])"
            )
        return declared[0] if declared else 255

    def _from_colours(self, mask: Image.Image) -> NDArray[np.int16]:
        if not self.coding.palette:
            raise ValueError("has colours (RGB), and the dataset names none: add its palette, or save it with values")
        if len(self._by_colour) < len(self.coding.palette) + len(self.coding.ignored_colours):
            raise ValueError("has colours (RGB), and a colour of the palette stands there twice; save it with values")
        pixels = mask.convert("RGB").tobytes("raw", "RGBX")
        packed = (np.frombuffer(pixels, dtype="<u4") & _MAX_COLOUR).reshape(mask.height, mask.width)
        labels = self._label_of_colour.take(packed, mode="clip")
        if (labels == _UNDECLARED).any():
            colours = np.unique(packed[labels == _UNDECLARED])
            found = [str(tuple(int(colour).to_bytes(3, "little"))) for colour in colours]
            raise ValueError(
                f"has pixels of the colour {listing(found, 3)}, which is that of no class and not ignored: correct "
                f"the mask, or declare the colour"
            )
        return labels

    @cached_property
    def _label_of_colour(self) -> NDArray[np.int16]:
        """By packed colours; of 32 MB, so it is made for masks with colours alone."""
        table = np.full(_MAX_COLOUR + 1, _UNDECLARED, dtype=np.int16)
        table[list(self._by_colour)] = list(self._by_colour.values())
        return table


def check_colours(where: str, colours: Sequence[Colour]) -> None:
    """Raises `ValueError` if one of them is none, naming it."""
    for colour in colours:
        if not all(0 <= part <= 255 for part in colour):
            raise ValueError(f"{where}: {colour} must be red, green and blue within 0...255")


def _pack(colour: Colour) -> int:
    return int.from_bytes(bytes(colour), "little")


def _refuse_twice(where: str, entries: Sequence[object]) -> None:
    twice = [str(entry) for entry, count in Counter(entries).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {listing(twice)} more than once")
