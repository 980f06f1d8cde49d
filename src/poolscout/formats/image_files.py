"""Image files as annotation sources name them: found, measured without being decoded, linked or copied."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from PIL import ExifTags, Image

from poolscout.errors import DataError, some
from poolscout.tables.atomic import atomic_path, storage_errors

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")  # Pillow would hand others to outside programs
_SIDEWAYS = (5, 6, 7, 8)

Placing = Literal["link", "copy", "none"]


def kind_of(path: Path) -> Literal["file", "folder"] | None:
    """What lies at `path`; None for nothing, and for names that no file can have."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def images_below(folder: Path) -> Iterator[Path]:
    """Files with an image's suffix, sorted; hidden ones, and what links to folders show, are left out."""
    for at, subfolders, names in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(at) / name


def upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) in px with the EXIF orientation applied, from the header alone; None where it cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            return (height, width) if _is_sideways(image) else (width, height)
    except Exception:  # Pillow's parsers raise nearly anything on garbled headers
        return None


def _is_sideways(image: Image.Image) -> bool:
    if image.format == "TIFF":
        return False  # Pillow gives the upright size by itself
    try:
        # The base class's method: PNG's own decodes the whole image in search of a late chunk.
        return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) in _SIDEWAYS
    except Exception:  # damaged EXIF does not spoil the pixels
        return False


def find_images_root(annotations: Path, images: Path | None) -> Path:
    """The folder that a COCO file's names start from: `images` when given, else `images` beside it, else its folder.

    Raises:
        DataError: `images` is given and is no folder.
    """
    if images is None:
        beside = annotations.parent / "images"
        return beside if beside.is_dir() else annotations.parent
    if not images.is_dir():
        raise DataError(
            f"images: {images} is not a folder", got="a file" if images.exists() else "nothing at this path",
            expected="the folder that the file names start from", fix="check the path",
        )  # fmt: skip
    return images


def check_there(files: Mapping[str, Path]) -> None:
    """Before anything is written: name → file, all of them files.

    Raises:
        DataError: files that are not there.
    """
    missing = [name for name, file in files.items() if kind_of(file) != "file"]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} images are not there", got=some(missing), expected="files to link or copy",
            fix="name the folder with --images-from, or write the annotations alone with --images none",
        )  # fmt: skip


def place_images(folder: Path, files: Mapping[str, Path], how: Literal["link", "copy"]) -> None:
    """Bring images into `folder` under their names.

    Args:
        folder: made when missing.
        files: name relative to `folder` → file that is there.
        how: "link" makes symbolic links, and copies where the file system has none.

    Raises:
        StorageError: the disk is full or refuses.
    """
    for name, file in files.items():
        target = folder / name
        if how == "copy" or not _linked(target, file):
            with atomic_path(target) as temporary:
                shutil.copyfile(file, temporary)


def _linked(target: Path, file: Path) -> bool:
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
    try:
        target.symlink_to(file.resolve())
    except (OSError, NotImplementedError):  # a file system without links
        return False
    return True
