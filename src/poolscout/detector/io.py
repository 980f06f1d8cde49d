"""Members on disk: NAME.safetensors with the weights, NAME.json with everything else."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.errors import CorruptPartError, TableError
from poolscout.tables.atomic import atomic_path, write_json

FORMAT_VERSION = 1


def save_member(path: Path, member: Member) -> None:
    """Write `path`.safetensors, then `path`.json: the member is there when its json is.

    Raises:
        StorageError: the disk is full or the folder may not be written.
    """
    weights, card = member_files(path)
    tensors = {name: value.contiguous().cpu() for name, value in member.model.state_dict().items()}
    with atomic_path(weights) as temporary:
        temporary.write_bytes(save(tensors))  # plain file errors, so that a full disk is told as such
    write_json(card, {"format_version": FORMAT_VERSION, **member.card.model_dump(mode="json")})


def load_member(path: Path, device: torch.device | str = "cpu") -> Member:
    """Read a member written by `save_member`.

    Raises:
        TableError: a file is missing, or was written in another format version.
        CorruptPartError: the json or the weights are not those of a member.
    """
    weights, card_path = member_files(path)
    for file in (card_path, weights):
        if not file.is_file():
            raise TableError(f"{file}: no such file", got="nothing", expected="a trained member", fix="train it again")
    card = _read_card(card_path)
    model = UNet(len(card.classes), card.architecture)
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise CorruptPartError(
            f"{weights}: not the weights that {card_path.name} describes",
            got=str(error).splitlines()[0],
            expected="the safetensors file written with it",
            fix="delete both files and train the member again",
        ) from error
    return Member(model, card, device)


def member_files(path: Path) -> tuple[Path, Path]:
    """The weights and the json of the member `path` (a path without suffix)."""
    path = Path(path)
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")


def _read_card(path: Path) -> MemberCard:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("format_version")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CorruptPartError(
            f"{path}: not a member's json", got=str(error), expected="the file written with the weights",
            fix="delete it and train the member again",
        ) from error  # fmt: skip
    if version != FORMAT_VERSION:
        raise TableError(
            f"{path}: unknown format version", got=version, expected=FORMAT_VERSION,
            fix="read it with the release of poolscout that wrote it, or train the member again",
        )  # fmt: skip
    try:
        return MemberCard.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CorruptPartError(
            f"{path}: {'.'.join(str(part) for part in first['loc'])} is wrong", got=first.get("input"),
            expected=first["msg"], fix="delete it and train the member again",
        ) from error  # fmt: skip
