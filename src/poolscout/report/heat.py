"""Informativeness maps as see-through overlays (the paper's Figure 2)."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from poolscout.detector.io import load_member
from poolscout.errors import RunError
from poolscout.pool import FittedImage, fit_image
from poolscout.report.rundata import Round, RunData
from poolscout.scoring import informativeness_maps

# Nine steps of matplotlib's "inferno" (CC0, Smith and van der Walt): perceptually even, lightness rises all the way.
INFERNO = np.array([
    [0, 0, 4], [32, 12, 74], [87, 16, 110], [136, 34, 106], [187, 55, 84], [227, 89, 51], [249, 140, 10],
    [246, 201, 50], [252, 255, 164],
], np.float64)  # fmt: skip
MOST_OPAQUE = 0.9
LEVELS = 128  # steps of an overlay: the browser smooths them, and the file is a third of a full-colour one
BATCH = 4  # images a forward pass: a report must not need more memory than the run did


@dataclass(frozen=True)
class HeatMap:
    """One image's informativeness, the maximum over classes, cut to the part that shows the image.

    Attributes:
        nats: map positions, float32 [h, w].
        width_share, height_share: extent of the map relative to the image; the last cells may reach over its border.
    """

    nats: Float[np.ndarray, "h w"]
    width_share: float
    height_share: float


def heat_maps(run: RunData, shown: Round, images: list[UInt8[np.ndarray, "_ _ 3"]]) -> list[HeatMap]:
    """Recompute the maps of a few images with the ensemble that picked them.

    Raises:
        RunError: the round's models are not there.
        PoolscoutError: a model cannot be read; the scorer is unknown or works on no map.
    """
    files = sorted(shown.path.glob("models/member-*.safetensors"), key=lambda p: int(p.stem.partition("-")[2]))
    if not files:
        raise RunError("the round's models are not there", got="no models/member-*.safetensors", fix="train them again")
    members = [load_member(file.with_suffix("")) for file in files]
    scorer, shape = run.config.scoring.scorers[0].scorer, run.config.detector
    fitted = [fit_image(image, shape.height, shape.width) for image in images]
    maps: list[HeatMap] = []
    for start in range(0, len(fitted), BATCH):
        batch = fitted[start : start + BATCH]
        pixels = torch.from_numpy(np.stack([one.pixels for one in batch]))
        over_classes = informativeness_maps(members, pixels, scorer).amax(dim=1).float().numpy()
        maps += [_cut(one, nats) for one, nats in zip(batch, over_classes, strict=True)]
    return maps


def _cut(fitted: FittedImage, nats: Float[np.ndarray, "h w"]) -> HeatMap:
    """Leave out the positions that show padding only."""
    cell_y, cell_x = fitted.pixels.shape[1] / nats.shape[0], fitted.pixels.shape[2] / nats.shape[1]
    rows, columns = math.ceil(fitted.valid_height / cell_y), math.ceil(fitted.valid_width / cell_x)
    return HeatMap(nats[:rows, :columns], columns * cell_x / fitted.valid_width, rows * cell_y / fitted.valid_height)


def colours(share: Float[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any 4"]:
    """RGBA of values from 0 to 1: the higher, the lighter and the more opaque; 0 is invisible."""
    at = np.clip(share, 0, 1).astype(np.float64)
    steps = np.linspace(0, 1, len(INFERNO))
    rgb = [np.interp(at, steps, INFERNO[:, channel]) for channel in range(3)]
    return np.stack([*rgb, 255 * MOST_OPAQUE * np.sqrt(at)], axis=-1).round().astype(np.uint8)


def overlay_uri(heat: HeatMap, highest_nats: float) -> str:
    """The map as a PNG data URI of one pixel a position; `highest_nats` is the top of the colour scale."""
    share = heat.nats / highest_nats if highest_nats > 0 else np.zeros_like(heat.nats)
    palette = colours(np.linspace(0, 1, LEVELS) ** 2)  # even steps of opacity: no bands where little is seen
    image = Image.fromarray((np.sqrt(share.clip(0, 1)) * (LEVELS - 1)).round().astype(np.uint8), "P")
    image.putpalette(palette[:, :3].tobytes(), "RGB")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, transparency=palette[:, 3].tobytes())
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def legend_css() -> str:
    """The colour scale as a CSS gradient."""
    steps = colours(np.linspace(0, 1, 13)).tolist()
    return f"linear-gradient(to right, {', '.join(f'rgb({r} {g} {b} / {a / 255:.2f})' for r, g, b, a in steps)})"
