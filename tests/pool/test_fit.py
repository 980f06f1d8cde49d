import io

import numpy as np
import pytest
from PIL import Image

from poolscout.pool import decode_fitted, decode_image, fit_image


@pytest.mark.parametrize(
    ("size", "target", "valid"),
    [
        ((380, 640), (192, 320), (190, 320)),
        ((100, 50), (64, 64), (64, 32)),
        ((64, 64), (64, 64), (64, 64)),
        ((10, 20), (64, 64), (32, 64)),
        ((1, 5000), (64, 64), (1, 64)),
    ],
)
def test_letterbox_is_top_left_with_grey_padding(size, target, valid):
    image = np.full((*size, 3), (250, 10, 60), np.uint8)
    fitted = fit_image(image, *target)
    assert fitted.pixels.shape == (3, *target)
    assert (fitted.valid_height, fitted.valid_width) == valid
    assert fitted.scale == min(target[0] / size[0], target[1] / size[1])
    shown = fitted.pixels[:, : valid[0], : valid[1]]
    assert (shown == np.array([250, 10, 60])[:, None, None]).all()
    assert (fitted.pixels[:, valid[0] :] == 114).all()
    assert (fitted.pixels[:, :, valid[1] :] == 114).all()


def test_same_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    assert (fit_image(image, 32, 48).pixels == image.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [(380, 640), (381, 643), (300, 700), (720, 1280), (90, 130)])
def test_boxes_land_where_scale_says(size):
    image = np.zeros((*size, 3), np.uint8)
    x1, y1, x2, y2 = size[1] // 3, size[0] // 4, size[1] // 3 + 41, size[0] // 4 + 33
    image[y1:y2, x1:x2] = 255
    fitted = fit_image(image, 192, 320)
    mass = fitted.pixels[0].astype(float) * (np.arange(320) < fitted.valid_width)
    mass[fitted.valid_height :] = 0
    centre_x = (mass.sum(0) * (np.arange(320) + 0.5)).sum() / mass.sum()
    centre_y = (mass.sum(1) * (np.arange(192) + 0.5)).sum() / mass.sum()
    assert centre_x == pytest.approx((x1 + x2) / 2 * fitted.scale, abs=0.5)
    assert centre_y == pytest.approx((y1 + y2) / 2 * fitted.scale, abs=0.5)
    assert mass.sum() / 255 == pytest.approx((x2 - x1) * (y2 - y1) * fitted.scale**2, rel=0.03)


def test_shrinking_averages_and_does_not_skip_pixels():
    stripes = np.zeros((400, 640, 3), np.uint8)
    stripes[:, ::2] = 200
    shown = fit_image(stripes, 200, 320).pixels.astype(int)
    assert np.abs(shown - 100).max() <= 1
    finer = fit_image(stripes, 100, 160).pixels.astype(int)
    assert np.abs(finer - 100).max() <= 1
    uneven = fit_image(stripes, 150, 240).pixels.astype(int)  # 2.67: by 2, then by 1.33
    assert np.abs(uneven[:, :, 1:-1] - 100).max() <= 2


def a_scene(width: int, height: int, orientation: int, kind: str = "JPEG") -> bytes:
    """Smooth, with another colour in every corner, so that a turn or a shift shows."""
    corners = np.array([[[250, 30, 30], [30, 250, 30]], [[30, 30, 250], [240, 240, 40]]], np.uint8)
    image = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    if orientation:
        exif[274] = orientation
    file = io.BytesIO()
    image.save(file, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("size", [(640, 380), (641, 383), (1280, 720), (1283, 727), (2560, 1440)])
def test_a_shrunk_decode_shows_what_the_whole_one_shows(size: tuple[int, int], orientation: int) -> None:
    data = a_scene(*size, orientation)
    whole, found = (
        fit_image(decode_image(data, max_pixels=10**8), 96, 160),
        decode_fitted(data, 96, 160, max_pixels=10**8),
    )
    for name in ("scale", "valid_height", "valid_width", "image_height", "image_width"):
        assert getattr(found, name) == getattr(whole, name), name
    difference = np.abs(found.pixels.astype(int) - whole.pixels)
    assert difference.mean() < 0.6
    assert difference.max() <= 6


@pytest.mark.parametrize(
    ("size", "orientation", "kind", "loaded"),
    [
        ((640, 380), 0, "JPEG", (320, 190)),
        ((1280, 720), 6, "JPEG", (320, 180)),  # turned, the long side fits into the short one: 1/4
        ((1101, 621), 0, "JPEG", (551, 311)),  # 3.4 times too large: 1/2, not below what is needed
        ((1283, 727), 6, "JPEG", (1283, 727)),  # turned, and no whole number of blocks
        ((400, 300), 0, "JPEG", (400, 300)),
        ((640, 380), 0, "PNG", (640, 380)),
    ],
)
def test_how_much_of_a_file_is_decoded(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], orientation: int, kind: str, loaded: tuple[int, int]
) -> None:
    sizes: list[tuple[int, int]] = []
    convert = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, *rest: (sizes.append(self.size), convert(self, *rest))[1])
    decode_fitted(a_scene(*size, orientation, kind), 192, 320, max_pixels=10**8)
    assert sizes[-1] == loaded
