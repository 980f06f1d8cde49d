"""Seeded damage to bytes, to text and to trees of JSON values: the same generator, the same damage."""

from __future__ import annotations

import copy
import json
import math
from random import Random
from typing import Any

LEADING_OUT = ("../secret.png", "a/../../secret.png", "..\\secret.png", "images/../../../secret.png", "./../secret.png")
ODD_TEXTS = (
    "", " ", ".", "..", "/", "\0", "a\0b", "\n", "ü" * 300, "x" * 5000, "\ud800", "‮", "NaN", "1e999", "-1", "{}",
    "[", "'", "~", "*a", "&a", "!!python/object:os.system", "%s%n", "C:\\x", "null", "9" * 5000,
    "2001-13-45", "0x_", "0x" + "f" * 6000, "file:///%00a", "!!bool x", "!!int", "!!int x", "!!timestamp x",
    "!!binary =", "<<: 1", "? [a]", "- - -", "[" * 1200, "[&a [*a, *a]]", *LEADING_OUT,
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, math.nan, math.inf, -math.inf)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": []}}, *ODD_NUMBERS, *ODD_TEXTS,
)  # fmt: skip
ODD_BYTES = (b"", b"\0", b"\xff" * 9, b"\xef\xbb\xbf", b"\xff\xfe", b"PK\x03\x04", b"<", b"{", b'"', b"\r", b"\n\n")
OTHER_FILES = (
    b"", b"\0" * 700, b"GIF89a", b"%PDF-1.7\n%%EOF", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"RIFF\0\0\0\0WEBP",
    b"\x1f\x8b\x08\0\0\0\0\0", b"PK\x05\x06" + b"\0" * 18, b"PAR1PAR1", b"BM" + b"\xff" * 52, b"II*\0\xff\xff\xff\x7f",
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"%!PS-Adobe-3.0\n", b"#!/bin/sh\n", b"\x93NUMPY\x01\0v\0{",
    b"P6 9 9 255\n",
    b"P5\n99999999 99999999\n255\n", b"not what it seems",
)  # fmt: skip


def damaged(random: Random, data: bytes) -> bytes:
    """One to four changes: bits and bytes, cuts, insertions, doubled and swapped pieces; or another file altogether."""
    if random.random() < 0.04:
        return random.choice(OTHER_FILES)
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        random.choice((_flip, _set, _cut, _insert, _drop, _double, _zero, _number))(random, changed)
    return bytes(changed)


def damaged_text(random: Random, text: str) -> str | bytes:
    """The text with a word or line replaced, doubled or gone; at times with broken bytes."""
    if random.random() < 0.35:
        return damaged(random, text.encode())
    parts = text.split("\n") if random.random() < 0.4 else _words(text)
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(parts))
        odd = random.choice([str(value) for value in ODD_VALUES])
        parts[at : at + 1] = random.choice(([odd], [], [parts[at]] * 2, [parts[at] + odd], [odd, parts[at]]))
        parts = parts or [""]
    joined = ("\n" if "\n" not in "".join(parts) else "").join(parts)
    return joined.encode("utf-8", "surrogatepass")


def damaged_tree(random: Random, tree: Any) -> Any:
    """The tree with one to three of its values replaced, gone, doubled or nested, or with keys that are others."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return random.choice(ODD_VALUES)
        holder, key = random.choice(places)
        change = random.randrange(7)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, dict):
            holder[random.choice(ODD_TEXTS)] = holder.pop(key)
        elif change == 2 and isinstance(holder, list):
            holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        elif change == 3:
            holder[key] = random.choice(([holder[key]], {"value": holder[key]}, str(holder[key])))
        elif change == 4:
            holder[key] = copy.deepcopy(random.choice([other[k] for other, k in places]))
        else:
            holder[key] = copy.deepcopy(random.choice(ODD_VALUES))
    return tree


def json_bytes(tree: Any) -> bytes:
    """Python's own JSON: NaN, infinity and lone surrogates are written as they are."""
    return json.dumps(tree, ensure_ascii=False, allow_nan=True).encode("utf-8", "surrogatepass")


def damaged_json(random: Random, tree: Any) -> bytes:
    """JSON whose values are damaged, or whose bytes are."""
    return json_bytes(damaged_tree(random, tree)) if random.random() < 0.75 else damaged(random, json_bytes(tree))


def _places(tree: Any) -> Any:
    """(holder, key) of every value in the tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def _words(text: str) -> list[str]:
    words, word = [], ""
    for letter in text:
        if letter.isalnum() or letter in "._-":
            word += letter
        else:
            words += [word, letter] if word else [letter]
            word = ""
    return [*words, word] if word else words


def _piece(random: Random, data: bytearray) -> slice:
    start = random.randrange(len(data) + 1)
    return slice(start, min(len(data), start + random.choice((1, 4, 16, 100, 600))))


def _flip(random: Random, data: bytearray) -> None:
    for _ in range(random.choice((1, 1, 3, 40))):
        if data:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: Random, data: bytearray) -> None:
    if data:  # headers are at the start
        data[random.randrange(min(len(data), random.choice((64, 600, len(data)))))] = random.choice(
            (0, 1, 127, 128, 255)
        )


def _cut(random: Random, data: bytearray) -> None:
    del data[random.choice((random.randrange(len(data) + 1), max(0, len(data) - random.randrange(1, 20)))) :]


def _insert(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice((*ODD_BYTES, random.randbytes(random.randrange(1, 40))))


def _drop(random: Random, data: bytearray) -> None:
    del data[_piece(random, data)]


def _double(random: Random, data: bytearray) -> None:
    piece = bytes(data[_piece(random, data)])
    at = random.randrange(len(data) + 1)
    data[at:at] = piece


def _zero(random: Random, data: bytearray) -> None:
    piece = _piece(random, data)
    data[piece] = bytes(len(data[piece]))


def _number(random: Random, data: bytearray) -> None:
    """A number of 2, 4 or 8 bytes that is much too large, or negative."""
    n_bytes = random.choice((2, 4, 8))
    value = random.choice((0, 1, 2 ** (8 * n_bytes) - 1, 2 ** (8 * n_bytes - 1), 2 ** (8 * n_bytes - 1) - 1))
    at = random.randrange(min(len(data), random.choice((64, len(data) or 1))) + 1)
    data[at : at + n_bytes] = value.to_bytes(n_bytes, random.choice(("big", "little")))
