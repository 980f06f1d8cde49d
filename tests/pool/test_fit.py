import numpy as np
import pytest

from poolscout.pool import fit_image


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
