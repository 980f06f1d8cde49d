"""`poolscout select` as a user types it: constraints, lists, embeddings from files, comparisons."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from poolscout.selection import notes_of
from poolscout.tables.declared import CLASSES_KEY, DETECTIONS, EMBEDDINGS, POOL, SCORES, SELECTION
from poolscout.tables.parquet import float_lists, part_path, read_table, write_table
from tests.cli.typed import poolscout

N = 60


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables as a scoring pass writes them, in two parts; images 55 … 59 are in the pool but not scored."""
    folder, rng = tmp_path_factory.mktemp("scored"), np.random.default_rng(0)
    ids = [f"clip{i // 10}/{i:04d}.jpg" for i in range(N)]
    per_class = rng.random((N, 2)).astype(np.float32)
    vectors = rng.standard_normal((N, 4)).astype(np.float32)
    write_table(
        folder / "pool.parquet",
        POOL,
        {
            "image_id": ids, "uri": ids, "width": [64] * N, "height": [48] * N,
            "sequence": [name.split("/")[0] for name in ids], "frame": [i % 10 for i in range(N)],
        },
    )  # fmt: skip
    for part, (lo, hi) in enumerate([(0, 30), (30, 55)]):
        table = pa.table(
            {
                "image_id": ids[lo:hi],
                "mi_max_per_class": float_lists(per_class[lo:hi]),
                "mi_max": per_class[lo:hi].max(1),
                "other": per_class[lo:hi, 0],
            },
            metadata={CLASSES_KEY: json.dumps(["person", "bicycle"])},
        )
        write_table(part_path(folder / "scores", part), SCORES, table)
        embeddings = {"image_id": ids[lo:hi], "embedding": float_lists(vectors[lo:hi])}
        write_table(part_path(folder / "embeddings", part), EMBEDDINGS, embeddings)
        where = [i for i in range(lo, hi) for _ in range(i % 4)]
        boxes = {
            "image_id": [ids[i] for i in where], "member": [-1] * len(where), "class": ["person"] * len(where),
            "probability": [0.8] * len(where), **{name: [1.0] * len(where) for name in ("x1_px", "y1_px")},
            **{name: [9.0] * len(where) for name in ("x2_px", "y2_px")},
        }  # fmt: skip
        write_table(part_path(folder / "detections", part), DETECTIONS, boxes)
    np.save(folder / "vectors.npy", vectors)
    return folder


def picks_of(path: Path) -> list[str]:
    return read_table(path, SELECTION)["image_id"].to_pylist()


def test_all_constraints_at_once(capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path) -> None:
    out = tmp_path / "picks.parquet"
    (tmp_path / "no.txt").write_text("clip0/0000.jpg\n")
    (tmp_path / "yes.csv").write_text("rank,image_id\n0,clip5/0054.jpg\n1,clip2/0021.jpg\n")
    (tmp_path / "labelled.txt").write_text("clip3/0035.jpg\nclip5/0059.jpg\n")
    code, text, err = poolscout(
        capsys, "select", "--scores", scored / "scores", "--embeddings", scored / "embeddings", "--pool",
        scored / "pool.parquet", "--detections", scored / "detections", "--n", 20, "--sampler", "coreset", "--metric",
        "cosine", "--classes", "person,bicycle", "--quota", "person=0.7, bicycle=0.3", "--budget-boxes", 25,
        "--seconds-per-box", 10, "--budget-minutes", 4, "--cap-per-sequence", 4, "--min-gap", 2, "--gap-to-labelled",
        "--min-distance", 0.01, "--prefilter", 4, "--score-power", 2, "--exclude", tmp_path / "no.txt", "--include",
        tmp_path / "yes.csv", "--labelled", tmp_path / "labelled.txt", "--out", out, "--json",
    )  # fmt: skip
    assert code == 0, err
    result, picks = json.loads(text), picks_of(out)
    numbers = [int(name[6:10]) for name in picks]
    assert result["picked"] == len(picks) == len(set(picks)) > 8
    assert picks[:2] == ["clip5/0054.jpg", "clip2/0021.jpg"]
    assert not {"clip0/0000.jpg", "clip3/0035.jpg", "clip5/0059.jpg"} & set(picks)
    assert result["predicted boxes"] == sum(number % 4 for number in numbers) <= 24
    assert result["labelling minutes"] == round(result["predicted boxes"] / 6, 1) <= 4
    for clip in range(6):
        frames = sorted(n % 10 for n in numbers if n // 10 == clip) + ([5] if clip == 3 else [9] if clip == 5 else [])
        assert len(frames) <= 4 + (clip in (3, 5))
        assert all(b - a >= 2 for a, b in zip(sorted(frames), sorted(frames)[1:], strict=False))
    assert result["for person"] > result["for bicycle"] > 0
    assert any(note.startswith("minimum gap") for note in result["notes"])
    assert notes_of(read_table(out, SELECTION)) == result["notes"]


def test_people_are_told_what_the_constraints_did(
    capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path
) -> None:
    code, text, err = poolscout(
        capsys, "select", "--scores", scored / "scores", "--pool", scored / "pool.parquet", "--n", 30,
        "--cap-per-sequence", 3, "--out", tmp_path / "p.csv",
    )  # fmt: skip
    assert code == 0
    assert "30 asked for, 18 picked of 55: no other candidate is within the constraints" in err
    assert "cap per sequence:" in err
    assert "18" in text
    assert str(tmp_path / "p.csv") in text
    assert len(list(csv.DictReader((tmp_path / "p.csv").open()))) == 18


def test_embeddings_may_be_npy(capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path) -> None:
    words = ["select", "--scores", scored / "scores", "--n", 10, "--sampler", "coreset"]
    code, _, _ = poolscout(capsys, *words, "--embeddings", scored / "embeddings", "--out", tmp_path / "a.parquet")
    assert code == 0
    npy = [*words, "--embeddings", scored / "vectors.npy"]
    code, _, err = poolscout(capsys, *npy, "--out", tmp_path / "b.parquet")
    assert code == 4
    assert "vectors.ids.txt" in err
    code, _, _ = poolscout(capsys, *npy, "--pool", scored / "pool.parquet", "--out", tmp_path / "b.parquet")
    assert code == 0
    assert picks_of(tmp_path / "a.parquet") == picks_of(tmp_path / "b.parquet")


def test_an_earlier_selection_goes_on(capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path) -> None:
    words = ["select", "--scores", scored / "scores", "--embeddings", scored / "embeddings", "--sampler", "coreset"]
    few, many, next_ten = (tmp_path / f"{name}.parquet" for name in ("few", "many", "next"))
    poolscout(capsys, *words, "--n", 10, "--out", few)
    poolscout(capsys, *words, "--n", 20, "--include", few, "--out", many)
    poolscout(capsys, *words, "--n", 10, "--labelled", few, "--out", next_ten)
    assert picks_of(many) == picks_of(few) + picks_of(next_ten)
    code, _, _ = poolscout(capsys, *words, "--n", 55, "--labelled", few, "--repeats", "--out", next_ten)
    table = read_table(next_ten, SELECTION)
    assert (code, table.num_rows, sum(table["labelled_already"].to_pylist())) == (0, 55, 10)


def test_a_comparison(capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path) -> None:
    words = [
        "select", "--scores", scored / "scores", "--embeddings", scored / "embeddings", "--n", 12, "--compare",
        "top-n,coreset", "--pool", scored / "pool.parquet", "--detections", scored / "detections",
    ]  # fmt: skip
    code, text, err = poolscout(capsys, *words, "--out", tmp_path / "both", "--json")
    assert code == 0, err
    result = json.loads(text)
    one, other = (picks_of(tmp_path / "both" / f"{name}.parquet") for name in ("top-n", "coreset"))
    assert result["overlap"]["top-n"]["coreset"] == len(set(one) & set(other)) / 12
    vectors = np.load(scored / "vectors.npy").astype(float)[:55]
    for row, picks in zip(result["samplers"], (one, other), strict=True):
        at = [int(name[6:10]) for name in picks]
        nearest = ((vectors[:, None] - vectors[at]) ** 2).sum(2).min(1)
        assert row["farthest"] == pytest.approx(nearest.max())
        assert row["mean distance"] == pytest.approx(nearest.mean())
        assert row["boxes"] == sum(number % 4 for number in at)
        assert row["sequences"] == len({number // 10 for number in at})
    code, text, _ = poolscout(capsys, *words)
    assert code == 0
    assert "shared with" in text
    assert f"{result['overlap']['top-n']['coreset']:.0%}" in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--classes", "persn"], 2, "did you mean 'person'"),
        (["--classes", "person", "--quota", "person"], 2, "CLASS=PART"),
        (["--classes", "person,bicycle", "--quota", "person=1"], 2, "one for each of classes"),
        (["--budget-minutes", 3], 2, "seconds_per_image"),
        (["--budget-boxes", 3], 8, "--detections"),
        (["--min-gap", 3], 8, "--pool"),
        (["--min-distance", 1], 8, "--embeddings"),
        (["--sampler", "coreset"], 8, "needs embeddings"),
        (["--exclude", "none.txt"], 4, "cannot be read"),
        (["--include", "FOLDER/pool.parquet"], 4, "5 images are no candidates"),
        (["--compare", "top-n"], 2, "two or more"),
        (["--compare", "top-n,topn"], 2, "no sampler 'topn'"),
        (["--compare", "top-n,random", "--out", "x.csv"], 2, "not a folder"),
        (["--labelled", "FOLDER/pool.parquet", "--out", "FOLDER/pool.parquet"], 2, "that is what is read"),
        (["--class-weight", "person=2", "--over-classes", "max"], 2, "does not go with"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str], scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list, code: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = [str(word).replace("FOLDER", str(scored)) for word in words]
    got, _, err = poolscout(capsys, "select", "--scores", scored / "scores", "--n", 60, *words)
    assert message in err
    assert "Traceback" not in err
    assert got == code
