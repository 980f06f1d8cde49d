"""Labels from people: the run stops and says what to label; it goes on when enough is back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolscout.errors import AnnotationError, RunError
from poolscout.labelling import add_labels, ids_of, picks_of
from poolscout.loop import run
from tests.loop.tiny import CLASSES, selections, tiny_config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


def human(data: Path, image_ids: list[str], file: Path) -> Path:
    """Somebody who labels these images right, and exports them from a tool of their own."""
    truth = json.loads((data / "pool.json").read_text())
    images = [image for image in truth["images"] if image["file_name"] in image_ids]
    kept = {image["id"] for image in images}
    boxes = [box for box in truth["annotations"] if box["image_id"] in kept]
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": truth["categories"]}))
    return file


def asked(folder: Path) -> list[str]:
    return (folder / "list.txt").read_text().split()


def test_people_label_what_the_oracle_would_and_the_picks_agree(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(data, labelling__mode="files", labelling__classes=CLASSES)

    waiting = run(config, out).waiting_for
    assert waiting == out / "initial" / "to_label"
    first = asked(waiting)
    assert len(first) == 8
    assert len(list((waiting / "images").iterdir())) == 8

    # Half comes back: the run still waits, for the other half.
    half = add_labels(out, human(data, first[:4], tmp_path / "half.json"))
    assert half["still missing"] == 4
    assert run(config, out).waiting_for == waiting
    add_labels(out, human(data, first[4:], tmp_path / "rest.json"))

    waiting = run(config, out).waiting_for
    assert waiting == out / "round-000" / "to_label"
    guesses = json.loads((waiting / "preannotations.json").read_text())
    assert [category["name"] for category in guesses["categories"]] == list(CLASSES)
    assert len(guesses["images"]) == 6

    # A correction of an old image arrives together with the new ones; round 0 stays as it was.
    frozen = (out / "round-000" / "labels.json").read_bytes()
    receipt = add_labels(out, human(data, [*asked(waiting), first[0]], tmp_path / "second.json"))
    assert receipt["replaced"] == 1
    waiting = run(config, out).waiting_for
    assert (out / "round-000" / "labels.json").read_bytes() == frozen
    add_labels(out, human(data, asked(waiting), tmp_path / "third.json"))
    assert run(config, out).waiting_for is None

    run(tiny_config(data), tmp_path / "oracle")
    assert selections(out) == selections(tmp_path / "oracle")


def test_enough_is_enough(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(data, rounds=1, labelling__mode="files", labelling__classes=CLASSES, labelling__enough=0.5)
    waiting = run(config, out).waiting_for
    add_labels(out, human(data, asked(waiting)[:4], tmp_path / "a.json"))
    waiting = run(config, out).waiting_for
    assert waiting == out / "round-000" / "to_label"
    never_back = set(ids_of(picks_of(out / "initial"))[4:])
    assert not never_back & set(asked(waiting)), "what was asked for is not asked for again"
    assert json.loads((out / "round-000" / "labels.json").read_text())["n_unique"] == 4


def test_labels_that_exist_already_start_the_run(data: Path, tmp_path: Path) -> None:
    file = human(data, [f"pool-{n:03d}.png" for n in range(10)], tmp_path / "old.json")
    out = tmp_path / "run"
    config = tiny_config(data, rounds=1, labelling__mode="files", labelling__initial_labels=str(file))
    assert run(config, out).waiting_for == out / "round-000" / "to_label"
    assert json.loads((out / "round-000" / "labels.json").read_text())["n_unique"] == 10


def test_labels_are_refused_where_they_cannot_belong(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        add_labels(tmp_path, tmp_path / "a.json")
    out = tmp_path / "run"
    waiting = run(tiny_config(data, labelling__mode="files", labelling__classes=CLASSES), out).waiting_for
    empty = human(data, asked(waiting), tmp_path / "empty.json")
    document = json.loads(empty.read_text()) | {"annotations": []}
    empty.write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match="without any box"):
        add_labels(out, empty)
    assert not list((out / "labels").glob("*"))
    assert add_labels(out, empty, allow_empty=True)["images"] == 8
    (tmp_path / "o").mkdir()
    run(tiny_config(data, rounds=1), tmp_path / "o" / "run")
    with pytest.raises(RunError, match="come from an oracle"):
        add_labels(tmp_path / "o" / "run", empty)
