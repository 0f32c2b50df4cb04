"""Pictures for people: predictions written on images, and many images on one sheet."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_PAPER = (255, 255, 255)
_INK = (28, 31, 36)
_BAR = (203, 222, 246)
_MIN_SIDE = 320  # in pixels; on less than this, names do not fit in a size that can be read


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
