"""Tables, detections, embeddings, lists and detectors that a selection or a scoring is given, malformed."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from poolscout.config import DetectorConfig, SelectionConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.io import load_member, save_member
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.engine.progress import SilentProgress
from poolscout.single_score import score_detections
from poolscout.single_select import Sources, select_from_tables
from poolscout.single_shortlist import shortlist_source
from poolscout.tables.declared import CLASSES_KEY, DETECTIONS, EMBEDDINGS, KEYS, POOL, SCORES, SELECTION
from poolscout.tables.parquet import read_table, write_table
from poolscout.tables.schema import TableSpec
from tests.fuzz.kinds import Kind, Outcome
from tests.fuzz.mutations import ODD_TEXTS, damaged, damaged_json, damaged_text, damaged_tree
from tests.fuzz.pool_kinds import damaged_columns, parquet_bytes
from tests.pool.images import save

N = 12
_IDS = [f"clip{i // 4}/{i:02d}.png" for i in range(N)]
_BOX = {name: [float(at)] * N for name, at in (("x1_px", 1), ("y1_px", 2), ("x2_px", 20), ("y2_px", 30))}
_TABLES: dict[str, tuple[TableSpec, dict[str, list[Any]]]] = {
    "pool": (POOL, {
        "image_id": _IDS, "uri": _IDS, "width": [48] * N, "height": [32] * N,
        "sequence": [name.split("/")[0] for name in _IDS], "frame": list(range(N)),
        "speed": [float(i) for i in range(N)],
    }),
    "scores": (SCORES, {
        "image_id": _IDS, "mi_max_per_class": [[i / N, 0.1] for i in range(N)], "mi_max": [i / N for i in range(N)],
    }),
    "embeddings": (EMBEDDINGS, {"image_id": _IDS, "embedding": [[float(i), 1.0, i % 3.0] for i in range(N)]}),
    "detections": (DETECTIONS, {"image_id": _IDS, "member": [-1] * N, "class": ["car"] * N, "probability": [0.8] * N,
    **_BOX}),
}  # fmt: skip


def _typed(spec: TableSpec, columns: dict[str, list[Any]]) -> pa.Table:
    kinds = {name: spec.column_for(name) for name in columns}
    return pa.table({name: pa.array(v, kinds[name].type if kinds[name] else None) for name, v in columns.items()})


def _write_tables(folder: Path) -> None:
    for name, (spec, columns) in _TABLES.items():
        table = _typed(spec, columns)
        write_table(
            folder / f"{name}.parquet", spec, table.replace_schema_metadata({CLASSES_KEY: b'["car", "person"]'})
        )


def _make_tables(random: Random, folder: Path) -> None:
    _write_tables(folder)
    name = random.choice(list(_TABLES))
    spec, columns = _TABLES[name]
    table = read_table(folder / f"{name}.parquet", spec)
    metadata = dict(table.schema.metadata or {})
    how = random.random()
    if how < 0.5:
        changed = damaged_columns(random, columns)
        for at, field in enumerate(changed.schema):  # those columns that are not damaged have their declared types
            if changed[field.name].type == pa.array(columns[field.name]).type:
                changed = changed.set_column(at, field.name, _cast(changed[field.name], table[field.name].type))
        table = changed.replace_schema_metadata(metadata)
    elif how < 0.65:
        key = random.choice([*metadata, CLASSES_KEY])
        table = table.replace_schema_metadata(
            {**metadata, key: str(random.choice(ODD_TEXTS)).encode("utf-8", "replace")}
        )
    save(folder / f"{name}.parquet", parquet_bytes(random, table, broken=how >= 0.65))


def _read_tables(inside: Path) -> Outcome:
    sources = Sources(
        inside / "scores.parquet", pool=inside / "pool.parquet", embeddings=inside / "embeddings.parquet",
        detections=inside / "detections.parquet",
    )  # fmt: skip
    config = SelectionConfig.model_validate({
        "sampler": "coreset", "n": 4, "constraints": {"min_gap": 1, "cap_per_sequence": 3, "budget_boxes": 9},
    })  # fmt: skip
    shortlist_source(
        inside / "pool.parquet", "mi_max >= 0", {"s": inside / "scores.parquet"}, None, images=None, overrides=()
    )
    select_from_tables(sources, config, inside / "picks.parquet", 0)
    _check_picks(inside / "picks.parquet")
    return "succeeded"


def _check_picks(path: Path) -> None:
    picks = read_table(path, SELECTION)["image_id"].to_pylist()
    assert len(picks) <= 4
    assert len(set(picks)) == len(picks)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    try:
        return column.cast(kind)
    except pa.ArrowException:
        return column


def _make_keys(random: Random, folder: Path) -> None:
    _write_tables(folder)
    _select(folder, keys=folder / "keys")
    path = folder / "keys" / random.choice(("keys.parquet", "centres.parquet"))
    if path.name == "keys.parquet" and random.random() < 0.5:
        columns = read_table(path, KEYS)
        changed = damaged_columns(random, columns.to_pydict())
        save(path, parquet_bytes(random, changed.replace_schema_metadata(columns.schema.metadata), broken=False))
    else:
        save(path, damaged(random, path.read_bytes()))


def _read_keys(inside: Path) -> Outcome:
    """Damaged distances of an earlier selection cost time, never a pick."""
    expected = _select(inside, keys=None)
    assert _select(inside, keys=inside / "keys") == expected
    return "succeeded"


def _select(folder: Path, **more: Any) -> list[str]:
    sources = Sources(folder / "scores.parquet", embeddings=folder / "embeddings.parquet", **more)
    config = SelectionConfig(sampler="coreset", n=4)
    select_from_tables(sources, config, folder / "picks.parquet", 0)
    return read_table(folder / "picks.parquet", SELECTION)["image_id"].to_pylist()


def _make_results(random: Random, folder: Path) -> None:
    for name in ("a.png", "b.png"):
        save(folder / "images" / name)
    images = [{"id": i, "file_name": f"{name}.png", "width": 48, "height": 32} for i, name in enumerate("ab")]
    coco = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}]}
    save(folder / "pool.json", json.dumps(coco).encode())
    results = [
        {
            "image_id": i % 2,
            "category_id": 1 + i % 2,
            "bbox": [1, 2, 20, 10],
            "score": 0.5,
            "class_probabilities": [0.5, 0.2],
        }
        for i in range(4)
    ]
    if random.random() < 0.3:
        columns = {name: [row[name] for row in results] for name in results[0]}
        table, broken = (
            (damaged_columns(random, columns), False) if random.random() < 0.7 else (pa.table(columns), True)
        )
        save(folder / "results.parquet", parquet_bytes(random, table, broken=broken))
    else:
        save(folder / "results.json", damaged_json(random, damaged_tree(random, results)))


def _read_results(inside: Path) -> Outcome:
    (found,) = inside.glob("results.*")
    score_detections(
        inside / "pool.json", [found], inside / "out", images=None, overrides=(), progress=SilentProgress()
    )
    scores = read_table(inside / "out" / "scores", SCORES)
    assert np.isfinite(scores["detection_entropy_sum"].to_numpy()).all()
    boxes = read_table(inside / "out" / "detections", DETECTIONS)
    for name, most in (("x1_px", 48), ("y1_px", 32), ("x2_px", 48), ("y2_px", 32), ("probability", 1)):
        values = boxes[name].to_numpy()
        assert ((values >= 0) & (values <= most)).all(), name
    return "succeeded"


def _make_vectors(random: Random, folder: Path) -> None:
    _write_tables(folder)
    file = io.BytesIO()
    values: Any = (
        np.random.default_rng(0)
        .random((N, 4))
        .astype(random.choice(("f4", "f2", "f8", "i4", "c8", "U3", "O", "M8[s]", "?")))
    )
    np.save(file, values[:, :0] if random.random() < 0.1 else values)
    save(folder / "v.npy", damaged(random, file.getvalue()))
    ids = "\n".join(_IDS) + "\n"
    save(folder / "v.ids.txt", ids.encode())
    if random.random() < 0.3:
        np.save(folder / "v.npy", np.ones((N, 4), np.float32))
        text = damaged_text(random, ids)
        save(folder / "v.ids.txt", text if isinstance(text, bytes) else text.encode())


def _read_vectors(inside: Path) -> Outcome:
    sources = Sources(inside / "scores.parquet", embeddings=inside / "v.npy")
    select_from_tables(sources, SelectionConfig(sampler="coreset", n=4), inside / "picks.parquet", 0)
    _check_picks(inside / "picks.parquet")
    return "succeeded"


def _make_id_list(random: Random, folder: Path) -> None:
    _write_tables(folder)
    suffix = random.choice(("txt", "csv", "parquet"))
    columns = {"rank": list(range(4)), "image_id": _IDS[:4]}
    if suffix == "parquet":
        data: str | bytes = parquet_bytes(random, damaged_columns(random, columns), broken=random.random() < 0.5)
    else:
        data = damaged_text(
            random,
            "\n".join(_IDS[:4])
            if suffix == "txt"
            else "rank,image_id\n" + "\n".join(f"{i},{n}" for i, n in enumerate(_IDS[:4])),
        )
    save(folder / f"list.{suffix}", data if isinstance(data, bytes) else data.encode())


def _read_id_list(inside: Path) -> Outcome:
    (listed,) = inside.glob("list.*")
    config = SelectionConfig.model_validate({"sampler": "top-n", "n": 4, "constraints": {"exclude": str(listed)}})
    sources = Sources(inside / "scores.parquet", labelled=listed)
    select_from_tables(sources, config, inside / "picks.parquet", 0)
    _check_picks(inside / "picks.parquet")
    return "succeeded"


@cache
def _member() -> Member:
    torch.manual_seed(0)
    architecture = DetectorConfig(height=32, width=32, stem=4, widths=(4, 4, 4, 4), neck=4, bf16="off")
    calibration = Calibration(focus=0.0, biases=(5.0, 5.0), error_before=0.2, error_after=0.05, n_images=3, n_objects=9)
    card = MemberCard(
        architecture=architecture, classes=("car", "person"), calibration=calibration, seed=0, training={}
    )
    return Member(UNet(2, architecture), card)


def _make_member(random: Random, folder: Path) -> None:
    save_member(folder / "member-0", _member())
    card, weights = folder / "member-0.json", folder / "member-0.safetensors"
    if random.random() < 0.6:
        save(card, damaged_json(random, damaged_tree(random, json.loads(card.read_text()))))
        return
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little") + 8
    save(weights, damaged(random, data[:length]) + data[length:] if random.random() < 0.7 else damaged(random, data))


def _read_member(inside: Path) -> Outcome:
    load_member(inside / "member-0")
    return "succeeded"


_CONDITIONS = (
    "speed > 3 AND sequence = 'clip1'",
    "mi_max > 0.5 OR frame IN (1, 2)",
    "image_id LIKE 'clip%' AND width < 99",
)
_HOSTILE = (
    "read_text('../secret.png') IS NOT NULL", "1; DROP TABLE pool", "(SELECT 1) = 1", "speed > ",
    "repeat('x', 999999999) = ''",
    "true UNION SELECT 1", "getenv('HOME') = ''", "COLUMNS(*) > 1", "speed > 1e999", "1/0 > 1",
    "regexp_matches(image_id, '(')",
    "CAST(image_id AS INT) > 1", "strptime(image_id, '%Q') > now()", "(" * 900, "speed = [1]", "'a' 'b'", "--", "/*",
    "$$x", ";",
)  # fmt: skip


def _make_condition(random: Random, folder: Path) -> None:
    _write_tables(folder)
    text = random.choice(_HOSTILE) if random.random() < 0.5 else damaged_text(random, random.choice(_CONDITIONS))
    if random.random() < 0.3 and isinstance(text, str):
        text = f"{random.choice(_CONDITIONS)} AND {text}"
    save(folder / "condition.txt", text if isinstance(text, bytes) else text.encode())


def _read_condition(inside: Path) -> Outcome:
    where = (inside / "condition.txt").read_bytes().decode("utf-8", "surrogateescape")
    tables = {"scores": inside / "scores.parquet"}
    found = shortlist_source(inside / "pool.parquet", where, tables, None, images=None, overrides=())
    assert 0 < found["kept"] <= N
    return "succeeded"


KINDS = (
    Kind("tables", 40, _make_tables, _read_tables),
    Kind("keys", 5, _make_keys, _read_keys),
    Kind("detections", 40, _make_results, _read_results),
    Kind("embeddings-npy", 30, _make_vectors, _read_vectors),
    Kind("image-list", 20, _make_id_list, _read_id_list),
    Kind("detector", 30, _make_member, _read_member),
    Kind("condition", 20, _make_condition, _read_condition),
)
