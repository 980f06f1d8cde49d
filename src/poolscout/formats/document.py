"""The parts of a COCO document: json, `images` and `categories`, checked entry by entry."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from poolscout.errors import AnnotationError, DataError, nearest
from poolscout.formats.content import Scalar, is_class_name, safe_name
from poolscout.formats.faults import Faults

_OWN_KEYS = ("id", "file_name", "width", "height")
_MAX_SIDE_PX = 2**31 - 1


def load_document(path: Path) -> dict[str, Any]:
    """The json object in `path`.

    Raises:
        DataError: missing, unreadable or not json.
        AnnotationError: json, but not an object.
    """
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_unique)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such annotation file", got="nothing at this path", expected="a COCO json file",
            fix="check the path; paths in a config are relative to the config file",
        ) from error  # fmt: skip
    except OSError as error:
        raise DataError(
            f"{path}: the annotation file cannot be read", got=error.strerror, expected="a COCO json file",
            fix="check the path and its permissions",
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not valid json", got=str(error)[:200], expected="a COCO json file",
            fix="export or copy the file again: it looks cut off, edited or pasted together",
        ) from error  # fmt: skip
    if not isinstance(document, dict):
        raise AnnotationError(
            f"{path}: not a COCO annotation file", got=f"a json {_json_type(document)}",
            expected="an object with images, annotations and categories",
            fix="give the ground truth file; a list is what COCO results (detections) look like",
        )  # fmt: skip
    return document


def records(path: Path, document: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The list of objects under `key`.

    Raises:
        AnnotationError: no such key, or something else than a list of objects.
    """
    expected = f"'{key}': a list of objects"
    if key not in document:
        raise AnnotationError(
            f"{path}: no '{key}' in the COCO file", got=f"keys {sorted(document)}", expected=expected,
            fix=nearest(key, document) or "export the file as COCO detection",
        )  # fmt: skip
    entries = document[key]
    if not isinstance(entries, list):
        raise AnnotationError(f"{path}: '{key}' is not a list", got=_json_type(entries), expected=expected)
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise AnnotationError(
                f"{path}: {key}[{position}] is not an object", got=_json_type(entry), expected=expected
            )
    return entries


def read_images(path: Path, document: dict[str, Any]) -> list[tuple[str, int | None, int | None, dict[str, Scalar]]]:
    """(image_id, width, height, metadata) of every entry of `images`, in the file's order.

    Raises:
        AnnotationError: names or ids that are missing, bad or used twice; sizes that are not positive px.
    """
    faults, seen, found = Faults(), (set[Any](), set[str]()), []
    for position, entry in enumerate(records(path, document, "images")):
        identity, name = entry.get("id"), safe_name(entry.get("file_name"))
        who = name if name is not None else f"images[{position}] {entry.get('file_name')!r}"
        width, height = _side(entry.get("width")), _side(entry.get("height"))
        if not _is_id(identity):
            faults.add("no id (number or text)", who)
        elif identity in seen[0]:
            faults.add("id used twice", identity)
        if name is None:
            faults.add("file_name missing, absolute, leaving the folder (..) or with control characters", who)
        elif name in seen[1]:
            faults.add("file_name listed twice", name)
        if width == -1 or height == -1:
            faults.add("width or height is not a positive whole number", who)
        if _is_id(identity) and name is not None:
            seen[0].add(identity)
            seen[1].add(name)
            found.append((name, width, height, _metadata(entry)))
    faults.raise_if_any(
        f"{path}: {faults.count} entries of 'images' are wrong",
        expected="each image once, with an id and a file_name relative to the images' folder",
        fix="mend or remove these entries",
    )
    return found


def read_categories(path: Path, document: dict[str, Any]) -> dict[Any, str]:
    """Category id → name in the file's order; ids may start anywhere and have gaps.

    Raises:
        AnnotationError: an id or a name that is missing or used twice.
    """
    faults, names = Faults(), dict[Any, str]()
    for position, entry in enumerate(records(path, document, "categories")):
        identity, name = entry.get("id"), entry.get("name")
        if not _is_id(identity):
            faults.add("no id (number or text)", f"categories[{position}]")
        elif identity in names:
            faults.add("id used twice", identity)
        elif not is_class_name(name):
            faults.add("no name", f"id {identity}")
        elif name in names.values():
            faults.add("two categories of one name", name)
        else:
            names[identity] = name
    faults.raise_if_any(
        f"{path}: {faults.count} entries of 'categories' are wrong",
        expected="each category with an id and a name of its own: classes are mapped by name",
        fix="rename or merge these categories",
    )
    return names


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return entry


def _is_id(identity: object) -> bool:
    return isinstance(identity, int | str) or (isinstance(identity, float) and math.isfinite(identity))


def _side(value: object) -> int | None:
    """Pixels, None where the file does not say, -1 where it says nonsense."""
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 < value <= _MAX_SIDE_PX and value == int(value) else -1  # type: ignore


def _metadata(entry: dict[str, Any]) -> dict[str, Scalar]:
    return {
        _text(key): _text(value) if isinstance(value, str) else value
        for key, value in entry.items()
        if key not in _OWN_KEYS and isinstance(value, str | int | float | bool | None)
    }


def _text(value: str) -> str:
    return value.encode("utf-8", "replace").decode("utf-8")


def _json_type(value: object) -> str:
    return {list: "list", dict: "object", str: "text", type(None): "null"}.get(type(value), type(value).__name__)
