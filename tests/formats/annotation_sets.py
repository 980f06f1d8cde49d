"""Small YOLO and Pascal VOC data sets to read and to damage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def save_image(path: Path, size: tuple[int, int] = (100, 50), orientation: int = 1) -> Path:
    """An image of `size` (width, height) as stored, with an EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    return path


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def yolo_set(folder: Path, description: str = "train: images/train\nnames: [car, person]\n") -> Path:
    """Two images of 100 × 50 px in images/train/: a.jpg shows a car at (10, 20, 40, 25), b.jpg nothing."""
    save_image(folder / "images/train/a.jpg")
    save_image(folder / "images/train/b.jpg")
    return write_files(folder, {"data.yaml": description, "labels/train/a.txt": "0 0.25 0.45 0.3 0.1\n"})


def voc_object(name: str = "car", corners: tuple[object, ...] = (11, 21, 40, 25), more: str = "") -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def voc_xml(filename: str, *objects: str, size: str = "<width>100</width><height>50</height><depth>3</depth>") -> str:
    return f"<annotation><filename>{filename}</filename><size>{size}</size>{''.join(objects)}</annotation>"


def voc_set(folder: Path) -> Path:
    """The same two images, as VOC."""
    for name in ("a", "b"):
        save_image(folder / f"JPEGImages/{name}.jpg")
    return write_files(folder, {
        "Annotations/a.xml": voc_xml("a.jpg", voc_object()), "Annotations/b.xml": voc_xml("b.jpg"),
        "ImageSets/Main/train.txt": "a\n", "ImageSets/Main/val.txt": "b\n",
    })  # fmt: skip
