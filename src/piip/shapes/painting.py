"""Painting clutter and textured objects onto a picture."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from piip.shapes.outlines import outline

Colour = tuple[int, int, int]
Size = tuple[int, int]
"""Width, height, as Pillow has it."""

_SUPERSAMPLING = 4
_OBJECT_TEXTURES = ("plain", "stripes", "dots", "noise")
_BACKGROUND_TEXTURES = ("plain", "gradient", "blobs", "noise", "stripes")
_MIN_CONTRAST = 140.0  # between an object's colour and what is behind it, as a distance in RGB


def draw_background(rng: np.random.Generator, size: Size, dark: bool) -> Image.Image:
    """Returns clutter to draw objects on: two related colours in some texture, crossed by lines and specks.

    Args:
        rng: Source of everything that is not given.
        size: Of the picture.
        dark: Whether to take dark colours only.
    """
    colour = _near(rng, _grey(int(rng.integers(20, 80) if dark else rng.integers(40, 215))), 60)
    side = min(size)
    texture = str(rng.choice(_BACKGROUND_TEXTURES))
    picture = _textured(rng, texture, size, side * rng.uniform(0.1, 0.4), colour, _near(rng, colour, 60))
    draw = ImageDraw.Draw(picture)
    for _ in range(rng.integers(0, 7)):
        ends = (rng.uniform(0, size), rng.uniform(0, size))
        line_width = max(1, round(side * rng.uniform(0.005, 0.02)))
        draw.line([(x, y) for x, y in ends], fill=_near(rng, colour, 80), width=line_width)
    for _ in range(rng.integers(0, 12)):
        x, y = rng.uniform(0, size)
        draw.circle((x, y), side * rng.uniform(0.005, 0.025), fill=_near(rng, colour, 80))
    return picture


def draw_object(
    rng: np.random.Generator,
    picture: Image.Image,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    angle: float,
    lighter: bool,
) -> NDArray[np.bool_]:
    """Draws an object into the picture, a little squeezed, and textured in colours unlike those behind it.

    Args:
        rng: Source of everything that is not given.
        picture: Changed in place.
        shape: One of `SHAPE_NAMES`.
        centre: x, y in pixels.
        radius: Of the circle that the object fits, in pixels; the circle must be inside the picture.
        angle: By which the object is turned, in radians.
        lighter: Whether its colours are lighter than those behind it, rather than just different.

    Returns:
        Its pixels, bool `(H, W)`: those covered by half or more.
    """
    left, top = math.floor(centre[0] - radius), math.floor(centre[1] - radius)
    right, bottom = math.ceil(centre[0] + radius), math.ceil(centre[1] + radius)
    size = (right - left, bottom - top)
    squeeze = rng.uniform(0.8, 1)
    coverage = _coverage(shape, (centre[0] - left, centre[1] - top), radius, angle, squeeze, size)
    behind = np.asarray(picture.crop((left, top, right, bottom))).mean(axis=(0, 1))
    colour = _contrasting(rng, behind, lighter)
    texture = str(rng.choice(_OBJECT_TEXTURES))
    second = _shade(colour, behind, lighter)
    surface = _textured(rng, texture, size, radius * rng.uniform(0.25, 0.5), colour, second)
    picture.paste(surface, (left, top), coverage)
    mask = np.zeros((picture.height, picture.width), dtype=bool)
    mask[top:bottom, left:right] = np.asarray(coverage) >= 128
    return mask


def _coverage(
    shape: str, centre: tuple[float, float], radius: float, angle: float, squeeze: float, size: Size
) -> Image.Image:
    """How much of each pixel a shape covers, 0 to 255."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-squeeze * sin, squeeze * cos]])  # rows are the images of the shape's axes
    stencil = Image.new("L", (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
    draw = ImageDraw.Draw(stencil)
    for polygon, fill in zip(outline(shape), (255, 0), strict=False):
        corners = (polygon @ turn * radius + centre) * _SUPERSAMPLING
        draw.polygon(corners.flatten().tolist(), fill=fill)
    return stencil.reduce(_SUPERSAMPLING)


def _textured(
    rng: np.random.Generator, texture: str, size: Size, period: float, first: Colour, second: Colour
) -> Image.Image:
    """A picture of two colours in a pattern whose size is about `period` pixels."""
    picture = Image.new("RGB", size, first)
    if texture != "plain":
        picture.paste(second, (0, 0), _pattern(rng, texture, size, period))
    return picture


def _pattern(rng: np.random.Generator, texture: str, size: Size, period: float) -> Image.Image:
    """How much of the second colour is at each pixel, 0 to 255."""
    if texture in ("noise", "blobs"):
        cell = period if texture == "blobs" else max(1.0, period / 8)
        cells = (math.ceil(size[1] / cell) + 1, math.ceil(size[0] / cell) + 1)
        coarse = Image.fromarray(rng.integers(256, size=cells, dtype=np.uint8))
        return coarse.resize(size, Image.Resampling.BICUBIC)
    angle, phase = rng.uniform(0, 2 * math.pi, size=2)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    if texture == "gradient":
        values = (along - along.min()) / np.ptp(along)
    else:
        wave = np.sin(2 * math.pi / period * along + phase)
        if texture == "dots":
            across = y * math.cos(angle) - x * math.sin(angle)
            wave += np.sin(2 * math.pi / period * across) - 0.6
        values = (0.5 + 2 * wave).clip(0, 1)  # steep rather than a step, for soft edges
    return Image.fromarray((255 * values).astype(np.uint8))


def _grey(value: int) -> Colour:
    return value, value, value


def _near(rng: np.random.Generator, colour: Colour, distance: int) -> Colour:
    """A random colour, each of whose channels is at most `distance` from those of another."""
    offsets = rng.integers(-distance, distance, size=3, endpoint=True).tolist()
    red, green, blue = (min(255, max(0, value + offset)) for value, offset in zip(colour, offsets, strict=True))
    return red, green, blue


def _contrasting(rng: np.random.Generator, behind: NDArray[np.float64], lighter: bool) -> Colour:
    candidates = rng.integers(256, size=(16, 3))
    enough = np.minimum(_contrast(candidates, behind, lighter), _MIN_CONTRAST)
    return _to_colour(candidates[enough.argmax()])  # the first with enough contrast, else the one with most


def _shade(colour: Colour, behind: NDArray[np.float64], lighter: bool) -> Colour:
    """A second colour for a texture: nearer to black or to white, whichever is less like what is behind."""
    shades = colour + 0.45 * (np.array([_grey(0), _grey(255)]) - colour)
    return _to_colour(shades[_contrast(shades, behind, lighter).argmax()])


def _contrast(
    colours: NDArray[np.int64] | NDArray[np.float64], behind: NDArray[np.float64], lighter: bool
) -> NDArray[np.float64]:
    """Distance in RGB of each colour `(N, 3)` from another one; along the grey axis, with a sign, for `lighter`."""
    difference: NDArray[np.float64] = colours - behind
    distance: NDArray[np.float64]
    distance = difference.sum(axis=1) / math.sqrt(3) if lighter else np.linalg.norm(difference, axis=1)
    return distance


def _to_colour(values: NDArray[np.int64] | NDArray[np.float64]) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
