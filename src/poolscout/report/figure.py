"""One image as a figure: each member's boxes, then a grid of informativeness maps (the paper's Figure 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageColor, ImageDraw, ImageEnhance, ImageFont

from poolscout.report.heat import colours, member_colour, widened
from poolscout.report.seen import LEAST_SHOWN, Seen, in_unit
from poolscout.scoring.registry import scorers

# All sizes in px of the file, which is meant to be shown at half its size.
MARGIN, GAP, ROW_GAP, LABEL = 56, 22, 28, 190
FACT, MEMBER = 34, 40  # from line to line
PAPER, INK, SOFT = "#14171b", "#e6e9ed", "#9aa5b1"
TITLE, TEXT, SMALL = 40, 30, 25
MIN_CELL, MAX_CELL, MIN_COLUMN = 376, 560, 340  # a map's longer side; narrowest column, for the head
MIN_WIDTH, SIDE = 1800, 500  # of the figure; of the words beside the photo
FEW_MEMBERS = 8  # are always listed
RADIUS = 10
FOOTNOTE = "Each column has its own colour scale. Spots are drawn one map position wider than they are, to be seen."
OTHER_FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "Arial.ttf")  # Pillow's own knows ASCII only

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Photo = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True)
class Layout:
    """Where things are: x of the columns, sizes of the pictures; px."""

    width: int  # of the figure
    columns: list[int]
    cell: tuple[int, int]  # (width, height) of a large map
    photo: tuple[int, int]
    block: int  # height of the photo and the words beside it
    column: int  # width of a column

    @property
    def thumb(self) -> tuple[int, int]:
        """A class in which nothing is seen."""
        return self.cell[0] // 2, self.cell[1] // 2


def draw_figure(photo: Photo, seen: Seen, title: str, facts: list[str]) -> Image.Image:
    """The photo with every member's boxes above, below one row a class and one column a scorer.

    Classes in which next to nothing is seen come last, at half the size. Each column has its own colour scale, from
    0 to its highest value: columns can be compared in where they are hot, not in how hot they are.

    Args:
        photo: the whole upright image.
        seen: what the ensemble sees in it.
        title: of the figure.
        facts: short lines below it.
    """
    at = _lay_out(photo, len(seen.maps), _height_of_words(len(facts), min(len(seen.members), FEW_MEMBERS)))
    loud = seen.loud()
    order = [*loud, *(c for c in range(len(seen.classes)) if c not in loud)]
    heights = [at.cell[1] + TEXT + 12 if c in loud else max(at.thumb[1], 2 * SMALL + 8) for c in order]
    top = MARGIN + at.block + MARGIN
    head = 2 * TEXT + 40
    height = top + head + sum(heights) + ROW_GAP * len(heights) + SMALL + MARGIN if seen.maps else top
    figure = Image.new("RGB", (at.width, height), PAPER)
    draw = ImageDraw.Draw(figure)
    _draw_members(figure, at, photo, seen)
    _draw_words(figure, at, photo, seen, title, facts)
    if not seen.maps:
        return figure
    for x, name in zip(at.columns, seen.maps, strict=True):
        _draw_head(figure, x, top, at.column, name, seen.highest(name))
    y = top + head
    dimmed = dim(photo)
    for c, row_height in zip(order, heights, strict=True):
        _draw_row(figure, y, at, dimmed, seen, c, c in loud)
        y += row_height + ROW_GAP
    _write(draw, (MARGIN, y), FOOTNOTE, SMALL, SOFT, at.width - 2 * MARGIN)
    return figure


def dim(photo: Photo) -> Image.Image:
    """The photo as a ground for heat: darker and nearly grey."""
    grey = ImageEnhance.Color(Image.fromarray(photo)).enhance(0.25)
    return ImageEnhance.Brightness(grey).enhance(0.55)


def glow(
    ground: Image.Image, values: Float[np.ndarray, "h w"], highest: float, seen: Seen, size: tuple[int, int]
) -> Image.Image:
    """A map over the ground, both brought to `size` (width, height)."""
    width, height = size
    reach = max(1, round(width * seen.width_share)), max(1, round(height * seen.height_share))
    smooth = Image.fromarray(widened(values)).resize(reach, Image.Resampling.BICUBIC).crop((0, 0, *size))
    share = np.asarray(smooth).clip(0) / highest if highest > 0 else np.zeros((height, width), np.float32)
    small = ground.resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    return Image.alpha_composite(small, Image.fromarray(colours(share))).convert("RGB")


def _lay_out(photo: Photo, n_columns: int, height_of_words: int) -> Layout:
    aspect = photo.shape[1] / photo.shape[0]
    n = max(n_columns, 1)
    side = min(MAX_CELL, max(MIN_CELL, (MIN_WIDTH - 2 * MARGIN - LABEL + GAP) // n - GAP))
    cell = _inside(side, side, aspect)
    column = max(cell[0], MIN_COLUMN)
    width = max(MIN_WIDTH, 2 * MARGIN + LABEL + n * column + (n - 1) * GAP)
    columns = [MARGIN + LABEL + i * (column + GAP) for i in range(n_columns)]
    largest = width - 2 * MARGIN - SIDE - 2 * GAP
    shown = _inside(largest, int(0.75 * largest), aspect)
    return Layout(width, columns, cell, shown, max(shown[1], height_of_words), column)


def _inside(width: int, height: int, aspect: float) -> tuple[int, int]:
    """The largest picture of an aspect within a rectangle."""
    return (width, max(1, round(width / aspect))) if width / aspect <= height else (
        max(1, round(height * aspect)), height
    )  # fmt: skip


def _draw_members(figure: Image.Image, at: Layout, photo: Photo, seen: Seen) -> None:
    width, height = at.photo
    picture = Image.fromarray(photo).resize(at.photo, Image.Resampling.LANCZOS).convert("RGBA")
    picture = Image.alpha_composite(picture, Image.new("RGBA", at.photo, (0, 0, 0, 60)))  # lines stand out
    scale_x, scale_y = width / photo.shape[1], height / photo.shape[0]
    for number, boxes in enumerate(seen.members):
        for box in reversed(boxes):
            layer = Image.new("RGBA", at.photo)
            corners = (box.x1 * scale_x, box.y1 * scale_y, box.x2 * scale_x, box.y2 * scale_y)
            opacity = round(255 * (0.35 + 0.65 * box.probability))
            colour = (*ImageColor.getrgb(member_colour(number))[:3], opacity)
            ImageDraw.Draw(layer).rectangle([round(v) for v in corners], outline=colour, width=3)
            picture.alpha_composite(layer)
    _paste(figure, picture.convert("RGB"), (MARGIN, MARGIN))


def _height_of_words(n_facts: int, n_members: int) -> int:
    """Of the words beside the photo, as `_draw_words` sets them."""
    return TITLE + 16 + n_facts * FACT + 24 + TEXT + 18 + n_members * MEMBER + 6 + 2 * FACT


def _draw_words(figure: Image.Image, at: Layout, photo: Photo, seen: Seen, title: str, facts: list[str]) -> None:
    """Beside the boxes: what it is, whose boxes have which colour, and the photo by itself where there is room."""
    draw = ImageDraw.Draw(figure)
    x, y = MARGIN + at.photo[0] + 2 * GAP, MARGIN
    width, bottom = at.width - MARGIN - x, MARGIN + at.block
    _write(draw, (x, y), title, TITLE, INK, width)
    y += TITLE + 16
    for fact in facts:
        _write(draw, (x, y), fact, SMALL, SOFT, width)
        y += FACT
    y += 24
    _write(draw, (x, y), "What each member sees", TEXT, INK, width)
    y += TEXT + 18
    room = FEW_MEMBERS + (at.block - _height_of_words(len(facts), FEW_MEMBERS)) // MEMBER
    listed = len(seen.members) if len(seen.members) <= max(room, 1) else room - 1
    for number, boxes in enumerate(seen.members[:listed]):
        draw.rectangle((x, y + 1, x + 34, y + SMALL - 3), outline=member_colour(number), width=4)
        count = f"{len(boxes)} box{'es' if len(boxes) != 1 else ''}"
        _write(draw, (x + 54, y), f"member {number}", SMALL, INK, 170)
        _write(draw, (x + 230, y), count, SMALL, SOFT, width - 230)
        y += MEMBER
    if listed < len(seen.members):
        _write(draw, (x, y), f"and {len(seen.members) - listed} more; colours repeat", SMALL, SOFT, width)
        y += MEMBER
    y += 6
    for words in (f"Boxes with p of at least {LEAST_SHOWN};", "the fainter, the less probable."):
        _write(draw, (x, y), words, SMALL, SOFT, width)
        y += FACT
    size = _inside(width, max(1, bottom - y - 24), photo.shape[1] / photo.shape[0])
    if size[0] >= width // 2:
        plain = Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS)
        _paste(figure, plain, (x, bottom - size[1]))


def _draw_head(figure: Image.Image, x: int, y: int, width: int, name: str, highest: float) -> None:
    """A scorer's name and colour scale."""
    draw = ImageDraw.Draw(figure)
    _write(draw, (x, y), name.replace("_", " "), TEXT, INK, width)
    words = in_unit(highest, scorers.get(name).unit)
    bar = min(150, width // 2)
    y += TEXT + 18
    _write(draw, (x, y), "0", SMALL, SOFT, 30)
    ramp = np.broadcast_to(np.linspace(0, 1, bar, dtype=np.float32), (14, bar)).copy()
    ground = Image.new("RGBA", (bar, 14), "#4a4f55")
    _paste(figure, Image.alpha_composite(ground, Image.fromarray(colours(ramp))).convert("RGB"), (x + 24, y + 5), 4)
    _write(draw, (x + 24 + bar + 12, y), words, SMALL, SOFT, width - bar - 36)


def _draw_row(figure: Image.Image, y: int, at: Layout, ground: Image.Image, seen: Seen, c: int, is_loud: bool) -> None:
    draw = ImageDraw.Draw(figure)
    size = at.cell if is_loud else at.thumb
    text, ink = (TEXT, INK) if is_loud else (SMALL, SOFT)
    lines = _folded(seen.classes[c], _font(text, seen.classes[c].isascii()), LABEL - GAP)
    for number, line in enumerate(lines[: size[1] // (text + 6)] or lines[:1]):
        _write(draw, (MARGIN, y + number * (text + 6)), line, text, ink, LABEL - GAP)
    for x, (name, maps) in zip(at.columns, seen.maps.items(), strict=True):
        _paste(figure, glow(ground, maps[c], seen.highest(name), seen, size), (x, y))
        most, highest = float(maps[c].max()), seen.highest(name)
        words = in_unit(most, scorers.get(name).unit)
        colour = INK if most == highest else SOFT
        if is_loud:
            _write(draw, (x, y + size[1] + 9), f"max {words}", SMALL, colour, at.cell[0])
        else:
            beside, room = x + size[0] + 14, at.column - size[0] - 14
            _write(draw, (beside, y), "max", SMALL, colour, room)
            _write(draw, (beside, y + SMALL + 8), words, SMALL, colour, room)


def _paste(figure: Image.Image, picture: Image.Image, place: tuple[int, int], radius: int = RADIUS) -> None:
    """With rounded corners; the mask is drawn large, as Pillow's corners are jagged."""
    large = Image.new("L", (picture.width * 4, picture.height * 4))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, large.width - 1, large.height - 1), radius * 4, fill=255)
    figure.paste(picture, place, large.resize(picture.size, Image.Resampling.BOX))


def _write(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: str, width: int) -> None:
    """One line, cut with dots where it is wider than `width`."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    font = _font(size, text.isascii())
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + "...", font) > width:
            text = text[:-1]
        text += "..."
    # anchored at the top of the capitals, so that text and pictures start at one height
    draw.text((place[0], place[1] + size * 0.72), text, colour, font, "ls")


def _folded(text: str, font: Font, width: int) -> list[str]:
    """Broken after spaces, _ and - where it is wider than `width`."""
    lines = [""]
    for part in re.findall(r"[^ _-]*[ _-]*", text):
        if lines[-1] and font.getlength((lines[-1] + part).strip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.strip() for line in lines]


@cache
def _font(size: int, is_ascii: bool) -> Font:
    for name in () if is_ascii else OTHER_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
