"""Informativeness as see-through colours (the paper's Figure 2)."""

from __future__ import annotations

import base64
import io

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

# Nine steps of matplotlib's "inferno" (CC0, Smith and van der Walt): perceptually even, lightness rises all the way.
INFERNO = np.array([
    [0, 0, 4], [32, 12, 74], [87, 16, 110], [136, 34, 106], [187, 55, 84], [227, 89, 51], [249, 140, 10],
    [246, 201, 50], [252, 255, 164],
], np.float64)  # fmt: skip
MOST_OPAQUE = 0.9
# Steps of an overlay, tried until it fits: the browser smooths them, and the file is a third of a full-colour one.
LEVELS = (128, 48, 16)
# Bright, and apart for most kinds of colour vision: thin lines of each member's boxes over a photo.
MEMBER_COLOURS = ("#56B4E9", "#FFA62B", "#2FD6A0", "#FF7BBD", "#F0E442", "#B39DFF", "#FF6A3D", "#FFFFFF")


def member_colour(number: int) -> str:
    """They repeat after eight."""
    return MEMBER_COLOURS[number % len(MEMBER_COLOURS)]


def colours(share: Float[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any 4"]:
    """RGBA of values from 0 to 1: the higher, the lighter and the more opaque; 0 is invisible.

    Colour and opacity follow the square root: on a dark photo the scale's dark half is hard to see, and so is left to
    the lowest quarter of the values.
    """
    root = np.sqrt(np.clip(share, 0, 1).astype(np.float64))
    steps = np.linspace(0, 1, len(INFERNO))
    rgb = [np.interp(root, steps, INFERNO[:, channel]) for channel in range(3)]
    return np.stack([*rgb, 255 * MOST_OPAQUE * root], axis=-1).round().astype(np.uint8)


def widened(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Each position the highest of itself and its four neighbours: a single hot one can be seen in a small picture."""
    wide = np.pad(values, 1, mode="edge").astype(np.float32)
    rows, columns = np.maximum(wide[:-2], wide[2:])[:, 1:-1], np.maximum(wide[:, :-2], wide[:, 2:])[1:-1]
    return np.maximum(np.maximum(rows, columns), wide[1:-1, 1:-1])


def overlay_uri(values: Float[np.ndarray, "h w"], highest: float, max_bytes: int | None = None) -> str:
    """A map as a PNG data URI of one pixel a position, coarser where that takes more than `max_bytes`.

    Args:
        values: informativeness.
        highest: top of the colour scale.
        max_bytes: of the text; a map too detailed for it gets fewer colours, then fewer pixels.
    """
    share = values / highest if highest > 0 else np.zeros_like(values)
    root = Image.fromarray(np.sqrt(share.clip(0, 1), dtype=np.float32))  # even steps of colour: no bands
    text = _palette_png(root, LEVELS[0])
    for levels in LEVELS[1:]:
        if max_bytes is None or len(text) <= max_bytes:
            return text
        text = _palette_png(root, levels)
    while max_bytes is not None and len(text) > max_bytes and min(root.size) > 8:
        root = root.resize((root.width // 2, root.height // 2), Image.Resampling.BOX)
        text = _palette_png(root, LEVELS[-1])
    return text


def _palette_png(root: Image.Image, levels: int) -> str:
    palette = colours(np.linspace(0, 1, levels) ** 2)
    image = Image.fromarray((np.asarray(root) * (levels - 1)).round().astype(np.uint8), "P")
    image.putpalette(palette[:, :3].tobytes(), "RGB")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, transparency=palette[:, 3].tobytes())
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def legend_css() -> str:
    """The colour scale as a CSS gradient."""
    steps = colours(np.linspace(0, 1, 13)).tolist()
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b} / {a / 255:.2f})' for r, g, b, a in steps)})"
