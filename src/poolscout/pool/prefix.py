"""What lies below a prefix of a storage, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A file below a folder or prefix.

    Attributes:
        name: relative to it, with `/`.
        size: in bytes.
        state: tells this version of it from an earlier one: its ETag or the time of its last change.
    """

    name: str
    size: int
    state: str


Answered = Callable[[str, Callable[[Any, str], Any]], Any]


def pages(url: str, answered: Answered) -> Iterator[list[Entry]]:
    """Files below `url`, at any depth, some at a time; nothing where there is none.

    An S3 prefix is asked for a thousand keys at a time, so that a large one is never held, and a trouble on the way
    costs one page. Of other storages, one folder at a time.

    Args:
        url: of the prefix.
        answered: (url, ask) → what `ask(filesystem, path)` gives, retried; see `Storage.answered`.

    Raises:
        DataError: from `answered`.
    """
    if url.lower().startswith(("s3://", "s3a://")):
        yield from _of_s3(url, answered)
    else:
        yield from _of_folders(url, answered)


def _of_s3(url: str, answered: Answered) -> Iterator[list[Entry]]:
    bucket, _, prefix = url.partition("://")[2].partition("/")
    prefix = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
    more: dict[str, str] = {}
    while True:
        page = answered(url, partial(_s3_page, Bucket=bucket, Prefix=prefix, **more))
        found = [
            Entry(key["Key"][len(prefix) :], int(key["Size"]), version_of(key))
            for key in page.get("Contents", ())
            if not key["Key"].endswith("/")  # what some tools put in the place of a folder
        ]
        if found:
            yield found
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _of_folders(url: str, answered: Answered) -> Iterator[list[Entry]]:
    root = answered(url, lambda _, path: str(path)).rstrip("/")
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        listed = answered(url, partial(_ls, folder=folder or "/"))
        listed = [entry for entry in listed if entry["name"].rstrip("/") != folder]
        waiting += [entry["name"].rstrip("/") for entry in listed if entry["type"] == "directory"]
        found = [
            Entry(entry["name"][len(root) :].lstrip("/"), int(entry.get("size") or 0), version_of(entry))
            for entry in listed
            if entry["type"] == "file"
        ]
        if found:
            yield found


def _s3_page(fs: Any, path: str, **which: str) -> dict[str, Any]:
    return fs.call_s3("list_objects_v2", **which)


def _ls(fs: Any, path: str, folder: str) -> list[dict[str, Any]]:
    try:
        return fs.ls(folder, detail=True)
    except FileNotFoundError:
        return []


def version_of(info: Mapping[str, Any]) -> str:
    """The first of what a filesystem says about an object's version."""
    names = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
    return next((f"{name} {info[name]}" for name in names if info.get(name)), "")
