"""Small pools, readers that need no files, and members whose maps are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional as F

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member, MemberCard, MemberOutput
from poolscout.detector.model import UNet
from poolscout.pool import FittedImage, ImageReader, RejectedImage, fit_image

HEIGHT, WIDTH, STRIDE = 64, 96, 4
CLASSES = ("car", "person")
TINY = DetectorConfig(height=HEIGHT, width=WIDTH, stem=4, widths=(4, 6, 8, 10), neck=4)


class MadeUpImages(ImageReader):
    """Images of noise, each following from its id; some are broken."""

    def __init__(self, ids: Sequence[str], broken: Sequence[str] = (), size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
        super().__init__({image_id: f"/nowhere/{image_id}" for image_id in ids}, max_pixels=10**6)
        self.broken, self.size = set(broken), size
        self.read_ids: list[str] = []

    def read_fitted(self, image_id: str, height: int, width: int) -> FittedImage:
        return fit_image(self.read(image_id), height, width)

    def read(self, image_id: str) -> np.ndarray:
        self.read_ids.append(image_id)
        if image_id in self.broken:
            raise RejectedImage("truncated", f"{image_id} ends early")
        generator = np.random.default_rng(list(image_id.encode()))
        coarse = generator.integers(0, 256, (self.size[0] // 8, self.size[1] // 8, 3), dtype=np.uint8)
        return coarse.repeat(8, axis=0).repeat(8, axis=1)


class KnownMember(Member):
    """Reads its maps off the pixels: p of class c = channel c's brightness of the cell · `strength`, everywhere the box
    of `side` px around the cell's middle, moved by `shift` px; features = the mean colour · `strength`."""

    def __init__(
        self, strength: float = 1.0, side: float = 8.0, shift: float = 0.0, classes: tuple[str, ...] = CLASSES
    ):
        calibration = Calibration(focus=0.0, biases=(0.0,) * len(classes))
        self.card = MemberCard(architecture=TINY, classes=classes, calibration=calibration, seed=0, training={})
        self.model, self.device, self._dtype = torch.nn.Linear(1, 1), torch.device("cpu"), torch.float32
        self.strength, self.side, self.shift = strength, side, shift

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        return images.float() / 255

    def look(self, prepared: torch.Tensor) -> MemberOutput:
        cells = F.avg_pool2d(prepared, STRIDE)
        n_images, _, height, width = cells.shape
        log_side = math.log(self.side / STRIDE)
        box = torch.tensor([self.shift / STRIDE, 0.0, log_side, log_side])
        parameters = box[:, None, None].expand(n_images, 4, height, width).contiguous()
        probabilities = (cells[:, : len(self.classes)] * self.strength).contiguous()
        return MemberOutput(probabilities, None, parameters, cells.mean((2, 3)) * self.strength, cells, [cells])

    def dropout_maps(self, encoding: list[torch.Tensor], passes: int) -> Iterator[tuple[torch.Tensor, None]]:
        """Pass t sees everything t + 1 times as faint."""
        for number in range(passes):
            yield (encoding[0][:, : len(self.classes)] * self.strength / (number + 1)).contiguous(), None


def real_member(seed: int) -> Member:
    """An untrained detector."""
    torch.manual_seed(seed)
    calibration = Calibration(focus=0.0, biases=(2.0,) * len(CLASSES))
    model = UNet(len(CLASSES), TINY)
    torch.nn.init.normal_(model.output.weight)
    return Member(
        model, MemberCard(architecture=TINY, classes=CLASSES, calibration=calibration, seed=seed, training={})
    )


def pool_rows(ids: Sequence[str]) -> pa.Table:
    return pa.table({"image_id": pa.array(ids, pa.string())})


def parts_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("part-*.parquet"))}
