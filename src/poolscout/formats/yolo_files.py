"""Where the files of a YOLO data set lie: data.yaml, its splits, the images of each and the labels beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from poolscout.errors import AnnotationError, DataError, some
from poolscout.formats.content import is_class_name, is_clean
from poolscout.formats.faults import Faults
from poolscout.formats.image_files import images_below, kind_of

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_SPLITS = ("train", "val", "test")
_EXPECTED = "a YOLO data.yaml with names, and train, val or test (a folder, a list of files, or several of these)"


class YoloImage(NamedTuple):
    """An image, its name in the tables, and the file with its labels (which may be missing: no objects)."""

    image_id: str
    path: Path
    labels: Path


@dataclass(frozen=True)
class YoloFiles:
    """A YOLO data set before its labels are read.

    Attributes:
        path: what was named: data.yaml, its folder, or one split's folder or list.
        root: the data set's folder.
        names: class index → name, rising.
        with_keypoints: rows are a box and keypoints, not a polygon.
        images: in the order of the splits.
    """

    path: Path
    root: Path
    names: dict[int, str]
    with_keypoints: bool
    images: list[YoloImage]


def find_yolo(path: Path) -> YoloFiles:
    """List a data set, or one split of it.

    Args:
        path: data.yaml or a folder with one: all its splits. A folder of images or a .txt list below a folder with
            data.yaml: that split.

    Raises:
        DataError: a file that is not there, cannot be read, or is not YAML.
        AnnotationError: names or splits are wrong, paths outside the data set, two images of one name or label file.
    """
    at = Path(os.path.normpath(Path(path).absolute()))
    described = at if at.suffix.lower() in (".yaml", ".yml") else yaml_above(at)
    if described is None:
        raise DataError(
            f"{path}: no data.yaml with the classes' names", got="none in it nor in a folder above", expected=_EXPECTED,
            fix="put a data.yaml into the data set's folder",
        )  # fmt: skip
    values = _load_yaml(described)
    names = _names(described, values)
    root = _root(described, values.get("path"))
    if at in (described, described.parent):
        entries = [entry for split in _SPLITS for entry in _entries(described, split, values.get(split))]
        if not entries:
            raise AnnotationError(f"{path}: no split", got=f"keys {some(values, 20)}", expected=_EXPECTED)
    else:
        entries = [str(at)]
    files = [file for entry in entries for file in _split(described, root, entry)]
    return YoloFiles(Path(path), root, names, "kpt_shape" in values, _images(path, root, files))


def yaml_above(path: Path) -> Path | None:
    """The nearest data.yaml in `path` (a folder) or a folder above it."""
    folders = [path.absolute(), *path.absolute().parents]
    return next((at / name for at in folders for name in YAML_NAMES if kind_of(at / name) == "file"), None)


def label_path(image: PurePosixPath) -> PurePosixPath:
    """Where an image's labels are, both relative to the root: the last folder `images` becomes `labels`."""
    folders = list(image.parts[:-1])
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return PurePosixPath(*folders, f"{image.stem}.txt")


def read_text(path: Path, what: str) -> str:
    """A text file, with or without byte order mark.

    Raises:
        DataError: missing, unreadable or not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {what} cannot be read", got=getattr(error, "strerror", None) or str(error)[:200],
            expected="a text file in UTF-8", fix="check the path, or export the file again",
        ) from error  # fmt: skip


class _PlainLoader(yaml.BaseLoader):
    """Text, lists and mappings only: a class `no` stays text, keys are there once, and nothing stands for a copy."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not read", problem_mark=self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key twice in one mapping", problem_mark=node.start_mark)
        return mapping


def _load_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, "the data set's description")
    try:
        values = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not valid YAML", got=" ".join(str(error).split())[:200], expected=_EXPECTED,
            fix="mend the line it names",
        ) from error  # fmt: skip
    if not isinstance(values, dict) or "names" not in values:
        got = f"keys {some(values, 20)}" if isinstance(values, dict) else type(values).__name__
        raise AnnotationError(
            f"{path}: no 'names' in the data set's description",
            got=got,
            expected=_EXPECTED,
            fix="add the classes' names",
        )
    return values


def _names(path: Path, values: dict[str, Any]) -> dict[int, str]:
    given, faults, names = values["names"], Faults(), dict[int, str]()
    pairs = (
        list(given.items()) if isinstance(given, dict) else list(enumerate(given)) if isinstance(given, list) else []
    )
    for key, name in pairs:
        index = int(key) if re.fullmatch(r"[0-9]{1,9}", str(key)) else None
        if index is None or index in names:
            faults.add("no class index, or one used twice", repr(key)[:50])
        elif not is_class_name(name):
            faults.add("no name", f"index {index}")
        elif name in names.values():
            faults.add("two classes of one name", name)
        else:
            names[index] = name
    if not pairs:
        faults.add("neither a list nor a mapping with names", repr(given)[:50])
    count = values.get("nc", "")
    if count and pairs and not (isinstance(count, str) and count.isdecimal() and int(count[:9]) >= len(pairs)):
        faults.add("nc is less than the number of names", repr(count)[:50])
    faults.raise_if_any(
        f"{path}: 'names' is wrong", expected="names: [car, person] or names: {0: car, 1: person}, each name once",
        fix="mend names: classes are mapped by name",
    )  # fmt: skip
    return dict(sorted(names.items()))


def _root(described: Path, path: object) -> Path:
    """The folder that `path` names where there is one, else that of data.yaml: data sets are moved about."""
    beside = described.parent
    if not isinstance(path, str) or not path or not is_clean(path):
        return beside
    named = Path(os.path.normpath(beside / path.replace("\\", "/")))
    return named if kind_of(named) == "folder" else beside


def _entries(described: Path, split: str, value: object) -> list[str]:
    if value in (None, "", "null", "~", []):
        return []
    entries = value if isinstance(value, list) else [value]
    good = [entry for entry in entries if isinstance(entry, str) and entry and is_clean(entry)]
    if len(good) < len(entries):
        raise AnnotationError(f"{described}: '{split}' is wrong", got=repr(value)[:200], expected=_EXPECTED)
    return good


def _split(described: Path, root: Path, entry: str) -> list[Path]:
    """The image files of a folder or a list, as absolute paths."""
    text = entry.replace("\\", "/")
    at = _inside(root, root, text)
    if text.startswith("../") and (at is None or kind_of(at) is None):
        # What some tools write means the folder beside data.yaml.
        at = _inside(root, root, re.sub(r"^(\.\./)+", "", text))
    if at is None:
        raise AnnotationError(
            f"{described}: a split outside the data set", got=entry, expected=f"folders or lists below {root}",
            fix="mend the split's path, or 'path'",
        )  # fmt: skip
    if kind_of(at) == "folder":
        return list(images_below(at))
    if kind_of(at) == "file" and at.suffix.lower() == ".txt":
        return list(_listed(at, root))
    raise DataError(
        f"{described}: a split that is not there", got=entry,
        expected=f"a folder of images or a .txt list below {root}", fix="check 'path' and the split's path",
    )  # fmt: skip


def _listed(at: Path, root: Path) -> Iterator[Path]:
    faults = Faults()
    for number, line in enumerate(read_text(at, "the list of images").split("\n"), 1):
        text = line.strip().replace("\\", "/")
        if not text:
            continue
        file = _named(text, at.parent, root) if is_clean(text) else None
        if file is None:
            faults.add("outside the data set, or no file name", f"line {number}: {text[:200]!a}")
        else:
            yield file
    faults.raise_if_any(
        f"{at}: {faults.count} lines do not name an image of the data set",
        expected=f"paths below {root}: relative to the list or to the data set, or absolute",
        fix="write the paths relative to the list, e.g. ./images/a.jpg",
    )


def _named(text: str, folder: Path, root: Path) -> Path | None:
    """The file that a line of a list in `folder` means: the first place with an image or labels, else the first."""
    # Some tools name files from the folder above the data set, and call it `data` there.
    places = dict.fromkeys([(folder, text), (root, text), (root, text.removeprefix("data/"))])
    first = None
    for base, name in places:
        file = _inside(base, root, name)
        if file is None or file == root:
            continue
        if kind_of(file) == "file" or kind_of(root / label_path(_relative(file, root))) == "file":
            return file
        first = first or file
    return first


def _inside(base: Path, root: Path, text: str) -> Path | None:
    """`text` from `base`, when that is in `root` (links are not followed: they may show files elsewhere)."""
    if "\0" in text or re.match(r"[A-Za-z]:/", text):
        return None
    at = Path(os.path.normpath(base / text))
    if at.is_relative_to(root):
        return at
    real = root.resolve()
    return root / at.relative_to(real) if at.is_relative_to(real) else None


def _relative(file: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(file.relative_to(root).as_posix())


def _images(path: Path, root: Path, files: list[Path]) -> list[YoloImage]:
    faults, by_id, by_labels = Faults(), dict[str, YoloImage](), dict[PurePosixPath, str]()
    for file in files:
        relative = _relative(file, root)
        parts = relative.parts[1:] if relative.parts[0] == "images" and len(relative.parts) > 1 else relative.parts
        image_id, labels = str(PurePosixPath(*parts)), label_path(relative)
        known = by_id.get(image_id)
        if not is_clean(image_id):
            faults.add("a name that cannot be stored", ascii(image_id))
        elif known is not None and known.path != file:
            faults.add("two images of one name", f"{known.path} and {file}")
        elif known is None and labels in by_labels:
            faults.add("two images of one label file", f"{by_labels[labels]} and {image_id}")
        else:  # an image in several splits counts once
            by_id[image_id], by_labels[labels] = YoloImage(image_id, file, root / labels), image_id
    faults.raise_if_any(
        f"{path}: {faults.count} images cannot be told apart", expected="each image with a name and labels of its own",
        fix="rename these files",
    )  # fmt: skip
    return list(by_id.values())
