"""Pascal VOC in: one XML file an image; pixels count from 1 and both corners belong to the box."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from poolscout.errors import DataError
from poolscout.formats.content import (
    AnnotatedImage,
    Annotations,
    BadBoxes,
    BoxRows,
    Sizes,
    SourceImage,
    is_class_name,
    safe_name,
)
from poolscout.formats.faults import Faults
from poolscout.formats.image_files import images_below, kind_of
from poolscout.formats.xml import XmlError, parse_xml
from poolscout.formats.yolo_files import read_text
from poolscout.tables.manifest import file_hash, fingerprint

LABEL_MAP = "labelmap.txt"
_LABEL_LINE = re.compile(r"(?P<name>.+):(?P<colour>(\d+,\d+,\d+)?):[^:]*:[^:]*")
_MAX_SIDE_PX = 2**31 - 1


@dataclass(frozen=True)
class _Entry:
    image: AnnotatedImage
    objects: list[ET.Element]
    where: str


def read_voc(path: Path, *, bad_boxes: BadBoxes = "error", sizes: Sizes | None = None) -> Annotations:
    """Read and check a VOC data set or one split of it.

    A box becomes x1 = xmin − 1, y1 = ymin − 1, x2 = xmax, y2 = ymax. An image's name is its path below JPEGImages/.
    `difficult` and `truncated` objects are objects like any other; `part`s are not used.

    Args:
        path: the folder with Annotations/ (all its XML files), or a list such as ImageSets/Main/train.txt in it.
        bad_boxes: "drop" goes on without unusable objects and lists them; "error" refuses the data set.
        sizes: image_id → (width, height) in px, for images whose `size` is missing or 0.

    Raises:
        DataError: a file that is not there, or cannot be read.
        AnnotationError: a file that is not XML or no annotation, or a name, size or box that is wrong.
    """
    path = Path(path)
    entries, rows, used = _entries(path), BoxRows(), set[str]()
    for entry in entries:
        width, height = (sizes or {}).get(entry.image.image_id, (None, None))
        size = (entry.image.width or width, entry.image.height or height)
        for number, element in enumerate(entry.objects, 1):
            name = _text(element, "name")
            fault = (
                rows.add(entry.image.image_id, name, _bbox(element), size) if is_class_name(name) else "no class name"
            )
            if fault is None:
                used.add(name)
            else:
                rows.refuse(fault, f"{entry.where} object {number}", f"{entry.where} object {number}")
    if bad_boxes == "error":
        rows.faults.raise_if_any(
            f"{path}: {rows.faults.count} of {rows.count} objects are unusable",
            expected="a name, and bndbox with xmin, ymin, xmax, ymax in px from 1, of positive size, inside the image",
            fix="mend these objects, or set labelling.bad_boxes: drop to go on without them",
        )
    known = _label_map(_root(path) / LABEL_MAP, used)
    classes = (*known, *sorted(used - set(known)))
    images = [entry.image for entry in entries]
    return Annotations(path, classes, images, rows.table("VOC boxes"), rows.dropped, rows.n_clipped)


def voc_images(path: Path) -> list[SourceImage]:
    """The images of a VOC data set or split; their objects are not looked at.

    Raises:
        DataError, AnnotationError: as `read_voc`, for all but boxes.
    """
    root = _root(Path(path))
    images = [entry.image for entry in _entries(Path(path))]
    return [SourceImage(i.image_id, root / "JPEGImages" / i.image_id, i.width, i.height, {}) for i in images]


def voc_hash(path: Path) -> str:
    """Changes with the list of images and every XML file.

    Raises:
        DataError, AnnotationError: as `read_voc`, for the list.
    """
    root = _root(Path(path))
    names = [LABEL_MAP, *(f"Annotations/{stem}.xml" for stem in _stems(Path(path)))]
    try:
        return fingerprint([(name, file_hash(root / name)) for name in names if kind_of(root / name) == "file"])
    except OSError as error:
        raise DataError(
            f"{path}: an annotation file cannot be read",
            got=str(error),
            expected="XML files",
            fix="check its permissions",
        ) from error


def is_voc(folder: Path) -> bool:
    return (folder / "Annotations").is_dir() and any((folder / name).is_dir() for name in ("JPEGImages", "ImageSets"))


def voc_above(path: Path) -> Path | None:
    """The VOC data set that a list of an ImageSets folder belongs to."""
    inside = "ImageSets" in path.absolute().parts[:-1]
    return next((folder for folder in path.absolute().parents if is_voc(folder)), None) if inside else None


def _root(path: Path) -> Path:
    root = path if path.is_dir() else voc_above(path)
    if root is None or not (root / "Annotations").is_dir():
        raise DataError(
            f"{path}: no VOC data set", got="no folder Annotations" if path.exists() else "nothing at this path",
            expected="a folder with Annotations/ and JPEGImages/, or its ImageSets/Main/NAME.txt", fix="check the path",
        )  # fmt: skip
    return root


def _stems(path: Path) -> list[str]:
    """The images' names without suffix, as the list has them, else of all XML files, sorted."""
    folder = _root(path) / "Annotations"
    if path.is_dir():
        found = (Path(at) / name for at, _, names in os.walk(folder) for name in names if not name.startswith("."))
        return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in found if file.suffix == ".xml")
    faults, stems = Faults(), dict[str, None]()
    for number, line in enumerate(read_text(path, "the list of images").split("\n"), 1):
        text = line.strip().replace("\\", "/")
        if not text:
            continue
        # Lists of one class say after each name whether the image shows it: -1, 0 or 1.
        flagged = re.fullmatch(r"(.*\S)\s+-?[01]", text)
        if flagged and safe_name(text) and kind_of(folder / f"{text}.xml") != "file":
            text = flagged[1]
        stem = safe_name(text)
        if stem is None:
            faults.add("absolute, leaving the folder (..) or with control characters", f"line {number}: {text[:200]!a}")
        else:
            stems[stem] = None
    faults.raise_if_any(
        f"{path}: {faults.count} lines do not name an image", expected="names in JPEGImages/, without suffix",
        fix="mend these lines",
    )  # fmt: skip
    return list(stems)


def _entries(path: Path) -> list[_Entry]:
    root = _root(path)
    files, faults, entries, seen = _files_by_stem(root / "JPEGImages"), Faults(), [], set[str]()
    for stem in _stems(path):
        where = f"Annotations/{stem}.xml"
        try:
            element = parse_xml((root / where).read_bytes())
            if element.tag != "annotation":
                raise XmlError(f"<{element.tag[:50]}> and not <annotation>")
            image = AnnotatedImage(_image_id(stem, _text(element, "filename"), files), *_size(element))
        except (OSError, ValueError) as error:
            faults.add(error.strerror or "cannot be read" if isinstance(error, OSError) else str(error), ascii(where))
            continue
        if image.image_id in seen:
            faults.add("an image that another file is about too", ascii(where))
        seen.add(image.image_id)
        entries.append(_Entry(image, element.findall("object"), where))
    faults.raise_if_any(
        f"{path}: {faults.count} annotation files are wrong",
        expected="for each image an XML file <annotation> with filename, size and objects",
        fix="mend these files, or name a list (ImageSets/Main/NAME.txt) without them",
    )
    return entries


def _files_by_stem(folder: Path) -> dict[str, list[str]]:
    files: dict[str, list[str]] = {}
    for file in images_below(folder):
        name = file.relative_to(folder)
        files.setdefault(name.with_suffix("").as_posix(), []).append(name.as_posix())
    return files


def _image_id(stem: str, filename: str, files: dict[str, list[str]]) -> str:
    """The image of `stem`.xml: the file of that name, whatever `filename` says; it decides where there are several."""
    if safe_name(stem) is None:
        raise ValueError("a name that cannot be stored")
    said = safe_name(filename)
    if filename and said is None:
        raise ValueError(f"filename absolute, leaving the folder (..) or with control characters: {filename[:100]!a}")
    folder = PurePosixPath(stem).parent
    told = [name for name in (said, said and str(folder / said)) if name]
    there = files.get(stem, [])
    if len(there) > 1 and not set(there) & set(told):
        raise ValueError(f"several images of this name: {', '.join(there[:3])}")
    if there:
        return next((name for name in told if name in there), there[0])
    if said is None:
        return f"{stem}.jpg"
    lying = [name for name in told if name in files.get(_without_suffix(name), [])]
    alike = [name for name in told if _without_suffix(name) == stem and name != stem]
    return next(iter(lying + alike), f"{stem}.jpg")


def _without_suffix(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _size(element: ET.Element) -> tuple[int | None, int | None]:
    size = element.find("size")
    return (None, None) if size is None else (_side(size, "width"), _side(size, "height"))


def _side(size: ET.Element, name: str) -> int | None:
    """Pixels; None where the file does not say (some tools write 0)."""
    text = _text(size, name)
    try:
        value = float(text or 0)
    except ValueError:
        value = -1.0
    if not (0 <= value <= _MAX_SIDE_PX and value == int(value)):
        raise ValueError("width or height is not a positive whole number")
    return int(value) or None


def _bbox(element: ET.Element) -> object:
    """[x, y, width, height] in px from 0, or None where there is no bndbox; what is no number is left as text."""
    box = element.find("bndbox")
    if box is None:
        return None
    corners = [_number(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax")]
    numbers = [corner for corner in corners if corner is not None]
    if len(numbers) < 4:
        return [""]
    x1, y1, x2, y2 = numbers[0] - 1, numbers[1] - 1, *numbers[2:]
    return [x1, y1, x2 - x1, y2 - y1]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(element: ET.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _label_map(path: Path, used: set[str]) -> tuple[str, ...]:
    """Class names in the order of labelmap.txt (`name:r,g,b:parts:actions`), which some tools write."""
    if not path.is_file():
        return ()
    names, faults = dict[str, None](), Faults()
    for number, line in enumerate(read_text(path, "the classes' names").split("\n"), 1):
        entry = _LABEL_LINE.fullmatch(line.strip("\r"))
        if entry is None and line.strip() and not line.startswith("#"):
            faults.add("not name:r,g,b:parts:actions", f"line {number}")
        # Masks need a background, boxes do not: tools list it with its colour, black.
        if entry and not (entry["name"] == "background" and entry["colour"] == "0,0,0" and "background" not in used):
            if is_class_name(entry["name"]):
                names[entry["name"]] = None
            else:
                faults.add("no name", f"line {number}")
    faults.raise_if_any(
        f"{path}: {faults.count} lines name no class", expected="name:r,g,b:parts:actions", fix="mend it"
    )
    return tuple(names)
