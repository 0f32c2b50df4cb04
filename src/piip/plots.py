"""Plots: bars with their spread, and points in a plane."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from piip.draw import Colour, Rectangle

PALETTE: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
"""Colours that also people who see few of them tell apart: of Okabe and Ito, "Color Universal Design" (2008), without
black, which text has, and yellow, which is hardly seen on white."""

_PAPER = (255, 255, 255)
_INK = (28, 31, 36)
_GRID = (222, 226, 230)
_TEXT = 22  # in pixels
_SMALL = 16
_GAP = 16
_SIDES = (0, 4, 3, 5)  # of the marks of groups, where there are more than colours; 0 for a disc


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar: its name, length and spread, and what is written after it."""

    name: str
    value: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point: where it is, what is written at it, and the group that gives its colour."""

    x: float
    y: float
    name: str
    group: str


def plot_bars(title: str, bars: Sequence[Bar]) -> Image.Image:
    """Draws bars from zero, one below the other, each with a line from the low to the high end of its spread.

    Args:
        title: Written above.
        bars: At least one, with values of which one is positive.

    Raises:
        ValueError: If there is no bar to be seen.
    """
    if not bars or max(bar.high for bar in bars) <= 0:
        raise ValueError(f"a plot needs a bar with a positive value, got {len(bars)} bars")
    font = ImageFont.load_default(_TEXT)
    left = 2 * _GAP + round(max(font.getlength(bar.name) for bar in bars))
    right = 2 * _GAP + round(max(font.getlength(bar.text) for bar in bars))
    length, pitch, top = 600, 2 * _TEXT, 2 * _TEXT + _GAP
    width = max(left + length + right, round(font.getlength(title)) + 2 * _GAP)
    picture = Image.new("RGB", (width, top + pitch * len(bars) + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((_GAP, _GAP), title, _INK, font)
    scale = length / max(bar.high for bar in bars)
    for number, bar in enumerate(bars):
        start, middle = top + number * pitch, top + number * pitch + pitch // 2
        draw.text((left - _GAP, middle), bar.name, _INK, font, anchor="rm")
        draw.rectangle((left, start + 6, left + bar.value * scale, start + pitch - 6), fill=_colour(number))
        low, high = left + bar.low * scale, left + bar.high * scale
        draw.line((low, middle, high, middle), _INK, 3)
        for end in (low, high):
            draw.line((end, middle - 6, end, middle + 6), _INK, 3)
        draw.text((high + _GAP, middle), bar.text, _INK, font, anchor="lm")
    return picture


def plot_points(points: Sequence[Point], *, x_title: str, y_title: str) -> Image.Image:
    """Draws points over a logarithmic axis, those of a group in one colour and shape.

    Of each group, those that none further left of it is above are joined. A name is left out where it would cover
    another.

    Args:
        points: At least one, with positive x.
        x_title: What x is.
        y_title: What y is.

    Raises:
        ValueError: If there is no point, or one with x that is not positive.
    """
    if not points or min(point.x for point in points) <= 0:
        raise ValueError(f"a plot needs points, with positive x for its logarithm; got {len(points)} points")
    axes = _Axes.around(points)
    font = ImageFont.load_default(_SMALL)
    groups = list(dict.fromkeys(point.group for point in points))
    legend = round(max(font.getlength(group) for group in groups))
    height = max(axes.bottom + 4 * _GAP, axes.top + 2 * _GAP * len(groups)) + 2 * _GAP
    picture = Image.new("RGB", (axes.right + legend + 6 * _GAP, height), _PAPER)
    draw = ImageDraw.Draw(picture)
    _draw_grid(draw, axes, x_title, y_title)
    for number, group in enumerate(groups):
        own = sorted((point for point in points if point.group == group), key=lambda point: (point.x, -point.y))
        front = [point for place, point in enumerate(own) if all(point.y > other.y for other in own[:place])]
        draw.line([axes.place(point) for point in front], _colour(number), 3)
        sign = (axes.right + 3 * _GAP, axes.top + number * 2 * _GAP)
        for place in (*map(axes.place, own), sign):
            _draw_mark(draw, place, number)
        draw.text((sign[0] + _GAP, sign[1]), group, _INK, font, anchor="lm")
    taken = [_disc(*axes.place(point)) for point in points]
    for point in points:
        x, y = axes.place(point)
        for place, anchor in (((x + 10, y + 4), "la"), ((x - 10, y - 4), "rd"), ((x + 10, y - 4), "ld")):
            box = draw.textbbox(place, point.name, font, anchor=anchor)
            if not any(_meet(box, other) for other in taken):
                draw.text(place, point.name, _INK, font, anchor=anchor)
                taken.append(box)
                break
    return picture


def _draw_grid(draw: ImageDraw.ImageDraw, axes: "_Axes", x_title: str, y_title: str) -> None:
    font, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_SMALL)
    for tick in _log_ticks(axes.x_low, axes.x_high):
        draw.line((axes.x(tick), axes.top, axes.x(tick), axes.bottom), _GRID, 2)
        draw.text((axes.x(tick), axes.bottom + _GAP // 2), f"{tick:g}", _INK, small, anchor="ma")
    for tick in _ticks(axes.y_low, axes.y_high):
        draw.line((axes.left, axes.y(tick), axes.right, axes.y(tick)), _GRID, 2)
        draw.text((axes.left - _GAP // 2, axes.y(tick)), f"{tick:g}", _INK, small, anchor="rm")
    draw.text(((axes.left + axes.right) / 2, axes.bottom + 3 * _GAP), x_title, _INK, font, anchor="ma")
    draw.text((axes.left, axes.top - 2 * _GAP), y_title, _INK, font, anchor="lm")


def _colour(number: int) -> Colour:
    return PALETTE[number % len(PALETTE)]


def _draw_mark(draw: ImageDraw.ImageDraw, place: tuple[float, float], group: int) -> None:
    sides = _SIDES[group // len(PALETTE) % len(_SIDES)]
    if sides:
        draw.regular_polygon((place, 9), sides, fill=_colour(group), outline=_PAPER)
    else:
        draw.ellipse(_disc(*place), _colour(group), _PAPER, 2)


def _disc(x: float, y: float) -> Rectangle:
    return x - 7, y - 7, x + 7, y + 7


def _meet(first: Rectangle, second: Rectangle) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


@dataclass(frozen=True, kw_only=True)
class _Axes:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    left: int = 90
    right: int = 1090
    top: int = 70
    bottom: int = 670

    @classmethod
    def around(cls, points: Sequence[Point]) -> "_Axes":
        x, y = [point.x for point in points], [point.y for point in points]
        margin = max(0.1 * (max(y) - min(y)), 0.5)
        return cls(x_low=min(x) / 1.25, x_high=max(x) * 1.6, y_low=min(y) - margin, y_high=max(y) + margin)

    def place(self, point: Point) -> tuple[float, float]:
        """Where a point is, in pixels."""
        return self.x(point.x), self.y(point.y)

    def x(self, value: float) -> float:
        """Pixels from the left."""
        share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        return self.left + share * (self.right - self.left)

    def y(self, value: float) -> float:
        """Pixels from above."""
        return self.bottom - (value - self.y_low) / (self.y_high - self.y_low) * (self.bottom - self.top)


def _ticks(low: float, high: float) -> list[float]:
    """Some round numbers between two."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if (high - low) / (factor * power) <= 6)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Numbers of one digit, and zeros, between two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 3, 5, 7)]
    return [tick for tick in ticks if low <= tick <= high]
