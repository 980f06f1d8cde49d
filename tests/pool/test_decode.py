import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from poolscout.errors import DataError
from poolscout.pool import ImageReader, RejectedImage, decode_image
from poolscout.pool.decode import size_in_header
from tests.pool.images import corners, encoded, save

LIMIT = 10**6

# What a camera stores so that undoing orientation k shows `upright`; EXIF 2.32, table of the tag Orientation.
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_orientations_come_out_upright_and_boxes_fit(orientation, form):
    upright = corners()
    stored = np.ascontiguousarray(STORED[orientation](upright))
    options = {"TIFF": {}, "PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}[form]
    data = encoded(stored, form, orientation, **options)
    image = decode_image(data, max_pixels=LIMIT)
    assert image.shape == (32, 48, 3)
    # A box in upright pixels must frame its colour: the green corner is at x 40–48, y 0–8.
    for channel, (x1, y1) in enumerate([(0, 0), (40, 0), (0, 24)]):
        inside = image[y1 : y1 + 8, x1 : x1 + 8, channel].astype(int)
        assert inside.mean() > 240
        assert image[..., channel].astype(int).sum() - inside.sum() < 0.05 * inside.sum()
    assert size_in_header(io.BytesIO(data), LIMIT) == (48, 32)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientations_that_do_not_exist_change_nothing(orientation):
    assert (decode_image(encoded(corners(), "PNG", orientation), max_pixels=LIMIT) == corners()).all()


def test_late_exif_is_ignored_alike_when_listing_and_when_decoding():
    plain = encoded(corners())
    rotated = encoded(corners(), orientation=6)
    start = rotated.index(b"eXIf") - 4
    chunk = rotated[start : start + 12 + struct.unpack(">I", rotated[start : start + 4])[0]]
    late = plain[:-12] + chunk + plain[-12:]  # after the pixels, before IEND
    assert decode_image(late, max_pixels=LIMIT).shape == (32, 48, 3)
    assert size_in_header(io.BytesIO(late), LIMIT) == (48, 32)


def test_result_is_writable_rgb():
    image = decode_image(encoded(corners()), max_pixels=LIMIT)
    assert (image == corners()).all()
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert image.flags.c_contiguous


grey = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
GREY_RGB = np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize(
    ("image", "form", "expected"),
    [
        (Image.fromarray(grey), "PNG", GREY_RGB),
        (Image.fromarray(grey.astype(np.uint16) * 256 + 77), "PNG", GREY_RGB),
        (Image.fromarray(grey.astype(np.uint16) * 256 + 77), "TIFF", GREY_RGB),
        (Image.fromarray(corners()).quantize(8), "PNG", corners()),
        (Image.fromarray(corners()).convert("RGBA"), "PNG", corners()),
        (Image.fromarray(grey).convert("LA"), "PNG", GREY_RGB),
        (Image.fromarray(grey).convert("1", dither=Image.Dither.NONE), "PNG", (GREY_RGB > 127) * np.uint8(255)),
        (Image.fromarray(corners()).convert("CMYK"), "TIFF", corners()),
    ],
    ids=["grey", "16 bit png", "16 bit tiff", "palette", "alpha", "grey and alpha", "1 bit", "cmyk"],
)
def test_every_kind_of_pixel_becomes_rgb(image, form, expected):
    assert (decode_image(encoded(image, form), max_pixels=LIMIT) == expected).all()


def test_palette_with_transparency_and_cmyk_jpeg():
    palette = Image.fromarray(corners()).quantize(8)
    palette.info["transparency"] = bytes(8)
    data = encoded(palette, "PNG", transparency=bytes(range(8)))
    assert (decode_image(data, max_pixels=LIMIT) == corners()).all()
    cmyk = decode_image(encoded(Image.fromarray(corners()).convert("CMYK"), "JPEG", quality=95), max_pixels=LIMIT)
    assert np.abs(cmyk.astype(int) - corners()).mean() < 8


def test_32_bit_pixels_are_refused_because_their_range_is_unknown():
    data = encoded(Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)), "TIFF")
    assert reason_of(data) == ("undecodable", "32-bit pixels (mode F) have no agreed range; save as 8 or 16 bit")


def reason_of(data, limit=LIMIT):
    with pytest.raises(RejectedImage) as caught:
        decode_image(data, max_pixels=limit)
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_at_any_place_is_rejected(form):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(noise, form)
    reasons = {}
    for share in (0.01, 0.1, 0.3, 0.6, 0.9):
        reasons[share] = reason_of(whole[: int(len(whole) * share)])[0]
    assert set(reasons.values()) <= {"truncated", "undecodable"}
    if form in ("JPEG", "PNG", "BMP"):
        assert reasons[0.6] == "truncated"
    assert decode_image(whole, max_pixels=LIMIT).shape == (64, 64, 3)


def test_empty_and_foreign_bytes():
    assert reason_of(b"")[0] == "empty"
    assert reason_of(b"GIF, but not really")[0] == "undecodable"
    assert reason_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")[0] == "undecodable"


def bomb(side_px):
    """A PNG whose header promises side² pixels; a few hundred bytes."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_oversized_is_refused_before_decoding():
    # Decoding would end in "truncated": the pixels are not there.
    assert reason_of(bomb(1001))[0] == "oversized"
    assert reason_of(bomb(1000))[0] == "truncated"
    assert reason_of(bomb(50_000), 89_000_000)[0] == "oversized"
    with pytest.raises(RejectedImage) as caught:
        size_in_header(io.BytesIO(bomb(1001)), LIMIT)
    assert caught.value.reason == "oversized"
    assert "1001×1001 = 1002001 pixels, at most 1000000" in caught.value.detail


def test_garbled_bytes_never_raise_anything_else():
    rng = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"):
        whole = encoded(corners(), form)
        for _ in range(40):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(0, 256)
            with contextlib.suppress(RejectedImage):
                assert decode_image(bytes(data), max_pixels=LIMIT).shape[2] == 3


def test_reader_reads_by_image_id(tmp_path):
    reader = ImageReader(
        {"a": str(save(tmp_path / "a.png")), "gone": str(tmp_path / "gone.png"), "folder": str(tmp_path),
         "empty": str(save(tmp_path / "e.png", b""))},
        LIMIT,
    )  # fmt: skip
    assert (reader.read("a") == corners()).all()
    reasons = {}
    for name in ("gone", "folder", "empty"):
        with pytest.raises(RejectedImage) as caught:
            reader.read(name)
        reasons[name] = caught.value.reason
    assert reasons == {"gone": "missing", "folder": "unreadable", "empty": "empty"}
    with pytest.raises(DataError, match="did you mean 'gone'"):
        reader.read("gonee")
