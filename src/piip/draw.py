"""Pictures for people: predictions written on images, and many images on one sheet."""

import colorsys
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_PAPER = (255, 255, 255)
_INK = (28, 31, 36)
_BAR = (203, 222, 246)
_MIN_SIDE = 320  # in pixels; on less than this, names do not fit in a size that can be read
_MASK_OPACITY = 0.5

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True, kw_only=True)
class DrawnObject:
    """An object to be marked in an image.

    Attributes:
        box: Where it is.
        label: Number of its class, which decides the colour.
        name: What is written; the name of the class.
        score: How certain it is, 0 to 1; None for what is known.
    """

    box: Rectangle
    label: int
    name: str
    score: float | None = None


@dataclass(frozen=True, kw_only=True)
class DrawnClass:
    """A class of pixels to be marked in an image.

    Attributes:
        label: What its pixels hold in the label map.
        name: What is written.
        colour: What its pixels are tinted with.
        share: Its part of the image, 0 to 1.
    """

    label: int
    name: str
    colour: Colour
    share: float


def annotate_classification(image: Image.Image, predictions: Sequence[tuple[str, float]]) -> Image.Image:
    """Writes class predictions under an image.

    A caption bar is added below, one line a prediction: its name, its score in per cent, and the score as a bar behind
    them. The image itself stays uncovered; a small one is enlarged, and a narrow one gets margins, for the text to fit.

    Args:
        image: Any RGB image.
        predictions: Names and scores (0 to 1), best first.

    Returns:
        A new, higher image.
    """
    image = _resize(image, max(1.0, _MIN_SIDE / max(image.size)))
    width = max(_MIN_SIDE, image.width)
    text_size = max(16, round(0.045 * math.sqrt(image.width * image.height)))
    line_height = round(1.6 * text_size)
    picture = Image.new("RGB", (width, image.height + line_height * len(predictions)), _PAPER)
    picture.paste(image, ((width - image.width) // 2, 0))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(text_size)
    margin = text_size // 2
    for line, (name, score) in enumerate(predictions):
        top = image.height + line * line_height
        draw.rectangle((0, top + 1, round(score * width), top + line_height - 2), fill=_BAR)
        middle = top + line_height // 2
        percent = f"{100 * score:.1f} %"
        draw.text((width - margin, middle), percent, _INK, font, anchor="rm")
        room = width - 3 * margin - font.getlength(percent)
        draw.text((margin, middle), _shorten(name, font, room), _INK, font, anchor="lm")
    return picture


def annotate_detection(
    image: Image.Image, objects: Sequence[DrawnObject], masks: Iterable[NDArray[np.bool_]] = ()
) -> Image.Image:
    """Marks objects in an image: boxes, names and scores, and masks as a tint of their pixels.

    What is more certain covers what is less so. Small images are enlarged, for the text to be read.

    Args:
        image: Any RGB image.
        objects: Best first, in pixels of the image.
        masks: Of the objects, in their order, `(H, W)` each, or none at all; read one by one, since all those of a
            large photo need much memory.

    Returns:
        A new image.
    """
    tinted = _tint(image, objects, masks)
    picture = _resize(tinted, max(1.0, _MIN_SIDE / max(image.size)))
    scale_x, scale_y = picture.width / image.width, picture.height / image.height
    unit = math.sqrt(picture.width * picture.height)
    width = max(2, round(0.0025 * unit))
    font = ImageFont.load_default(max(12, round(0.02 * unit)))
    draw = ImageDraw.Draw(picture)
    boxes = [
        (item.box[0] * scale_x, item.box[1] * scale_y, item.box[2] * scale_x, item.box[3] * scale_y) for item in objects
    ]
    for item, box in reversed(list(zip(objects, boxes, strict=True))):
        _outline(draw, box, class_colour(item.label), width, picture.size)
    signs: list[Rectangle] = []
    for item, box in zip(objects, boxes, strict=True):
        signs.append(_place_sign(font, _title(item), box, signs, picture.size))
    for item, sign in reversed(list(zip(objects, signs, strict=True))):
        colour = class_colour(item.label)
        draw.rectangle(sign, fill=colour)
        middle = (sign[1] + sign[3]) / 2
        text = _shorten(_title(item), font, sign[2] - sign[0])
        draw.text(((sign[0] + sign[2]) / 2, middle), text, _ink_on(colour), font, anchor="mm")
    return picture


def annotate_segmentation(
    image: Image.Image, label_map: NDArray[np.uint8], classes: Sequence[DrawnClass]
) -> Image.Image:
    """Tints the pixels of an image by their classes, and writes under it what the colours mean.

    Pixels of a label that is none of the classes stay as they are. Small images are enlarged, for the text to be read.

    Args:
        image: Any RGB image.
        label_map: The label of each pixel `(H, W)`.
        classes: In the order in which they are written.

    Returns:
        A new, higher image.
    """
    tinted = _resize(_tint_classes(image, label_map, classes), max(1.0, _MIN_SIDE / max(image.size)))
    width = max(_MIN_SIDE, tinted.width)
    text_size = max(14, round(0.025 * math.sqrt(tinted.width * tinted.height)))
    font = ImageFont.load_default(text_size)
    line_height, gap = round(1.6 * text_size), text_size // 2
    places = _flow([1.5 * text_size + font.getlength(_legend(item)) for item in classes], width - 2 * gap, 2 * gap)
    lines = places[-1][1] + 1 if places else 0
    picture = Image.new("RGB", (width, tinted.height + line_height * lines), _PAPER)
    picture.paste(tinted, ((width - tinted.width) // 2, 0))
    draw = ImageDraw.Draw(picture)
    for item, (left, line) in zip(classes, places, strict=True):
        x, middle = gap + left, tinted.height + (line + 0.5) * line_height
        draw.rectangle((x, middle - text_size / 2, x + text_size, middle + text_size / 2), item.colour, _INK)
        text = _shorten(_legend(item), font, width - x - 1.5 * text_size)
        draw.text((x + 1.5 * text_size, middle), text, _INK, font, anchor="lm")
    return picture


def class_colour(label: int) -> Colour:
    """The colour of a class, always the same; those of neighbouring numbers are far from one another."""
    hue = label * 0.61803398875 % 1  # the golden ratio spreads any number of hues evenly
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.6)[label // 2 % 2], (1.0, 0.85)[label % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def contact_sheet(
    images: Sequence[Image.Image], columns: int, titles: Sequence[str] = (), cell_size: int = 192
) -> Image.Image:
    """Lays images out on one sheet, row by row.

    Args:
        images: At least one; each is scaled to fit a square cell, small ones up, keeping its shape.
        columns: Cells in a row.
        titles: Text under each image; none by default.
        cell_size: Side of a cell in pixels.

    Raises:
        ValueError: If there is no image or no column, or there are titles but not one for each image.
    """
    if not images or columns < 1:
        raise ValueError(f"a sheet needs images and columns, got {len(images)} images and columns={columns}")
    if titles and len(titles) != len(images):
        raise ValueError(f"{len(images)} images need as many titles, got {len(titles)}")
    columns = min(columns, len(images))
    gap = max(4, cell_size // 24)
    text_size = max(12, cell_size // 16)
    pitch_x, pitch_y = cell_size + gap, cell_size + gap + (round(1.5 * text_size) if titles else 0)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * pitch_x + gap, rows * pitch_y + gap), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(text_size)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        left, top = gap + column * pitch_x, gap + row * pitch_y
        fitted = _resize(image, cell_size / max(image.size))
        sheet.paste(fitted, (left + (cell_size - fitted.width) // 2, top + (cell_size - fitted.height) // 2))
        if titles:
            title = _shorten(titles[number], font, cell_size)
            draw.text((left + cell_size / 2, top + cell_size + text_size * 0.75), title, _INK, font, anchor="mm")
    return sheet


def _tint(image: Image.Image, objects: Sequence[DrawnObject], masks: Iterable[NDArray[np.bool_]]) -> Image.Image:
    pixels = np.array(image.convert("RGB"))
    is_free = np.ones(pixels.shape[:2], dtype=bool)
    for item, mask in zip(objects, masks, strict=False):
        x1, y1, x2, y2 = item.box
        left, top = max(0, math.floor(x1) - 1), max(0, math.floor(y1) - 1)
        around = (slice(top, max(top, math.ceil(y2) + 1)), slice(left, max(left, math.ceil(x2) + 1)))
        where = mask[around] & is_free[around]
        is_free[around] &= ~where
        mixed = (1 - _MASK_OPACITY) * pixels[around][where] + _MASK_OPACITY * np.array(class_colour(item.label))
        pixels[around][where] = mixed.round().astype(np.uint8)
    return Image.fromarray(pixels)


def _tint_classes(image: Image.Image, label_map: NDArray[np.uint8], classes: Sequence[DrawnClass]) -> Image.Image:
    """Mixes each pixel with the colour of its class; where classes meet, there is nothing but the colour."""
    pixels = np.array(image.convert("RGB"))
    colours, is_drawn = np.zeros((256, 3), dtype=np.uint8), np.zeros(256, dtype=bool)
    for item in classes:
        colours[item.label], is_drawn[item.label] = item.colour, True
    is_edge = np.zeros(label_map.shape, dtype=bool)
    is_edge[1:] |= label_map[1:] != label_map[:-1]
    is_edge[:, 1:] |= label_map[:, 1:] != label_map[:, :-1]
    where = is_drawn[label_map]
    tint = colours[label_map[where]]
    pixels[where] = np.where(is_edge[where][:, None], tint, pixels[where] // 2 + tint // 2)
    return Image.fromarray(pixels)


def _flow(widths: Sequence[float], room: float, gap: float) -> list[tuple[float, int]]:
    """Places (left, line) for things of these widths, side by side, in as many lines as are needed."""
    places: list[tuple[float, int]] = []
    left, line = 0.0, 0
    for width in widths:
        if left > 0 and left + width > room:
            left, line = 0.0, line + 1
        places.append((left, line))
        left += width + gap
    return places


def _legend(item: DrawnClass) -> str:
    return f"{item.name} {100 * item.share:.1f} %"


def _outline(draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, width: int, size: tuple[int, int]) -> None:
    """A frame around a box, within the picture, with dark lines beside it, so that it stands out from anything."""
    left, top = max(width, box[0]), max(width, box[1])
    right, bottom = max(left, min(size[0] - width, box[2])), max(top, min(size[1] - width, box[3]))
    for grow, line, thickness in ((width, _INK, width + 2), (width - 1, colour, width)):
        frame = (left - grow, top - grow, right + grow - 1, bottom + grow - 1)
        draw.rectangle(frame, outline=line, width=thickness)


def _title(item: DrawnObject) -> str:
    return item.name if item.score is None else f"{item.name} {100 * item.score:.0f} %"


def _place_sign(
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    title: str,
    box: Rectangle,
    taken: Sequence[Rectangle],
    size: tuple[int, int],
) -> Rectangle:
    """A place for a name at its box: above, inside or below, within the picture and not over another if possible."""
    height = 1.4 * font.getbbox("Ag")[3]
    width = min(font.getlength(title) + 0.5 * height, size[0])
    places = []
    for top in (box[1] - height, box[1], box[3], box[3] - height):
        inside = min(max(0.0, top), max(0.0, size[1] - height))
        for left in (box[0], box[2] - width):
            start = min(max(0.0, left), size[0] - width)
            places.append((start, inside, start + width, inside + height))
    return next((place for place in places if not any(_meet(place, other) for other in taken)), places[0])


def _meet(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _ink_on(colour: Colour) -> Colour:
    """Dark or light, whichever can be read on a colour."""
    red, green, blue = colour
    return _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else _PAPER


def _resize(image: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: float) -> str:
    """Cuts a text so that it is at most `room` pixels wide, with dots for what is gone."""
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."
