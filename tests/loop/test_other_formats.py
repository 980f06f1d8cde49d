"""A run on YOLO and Pascal VOC picks what it picks on COCO."""

from __future__ import annotations

from pathlib import Path

from poolscout.formats.convert import convert
from poolscout.loop import run
from tests.loop.tiny import selections, tiny_config, write_data


def test_a_run_on_other_formats(tmp_path: Path) -> None:
    data = write_data(tmp_path / "coco")
    changes = {"rounds": 1, "pool__sequence": None, "report__images_per_round": 0}
    run(tiny_config(data, **changes), tmp_path / "on-coco")
    sources = {
        "pool__source": str(convert(data / "pool.json", tmp_path / "pool", "yolo").path),
        "evaluation__annotations": str(convert(data / "test.json", tmp_path / "test", "voc").path),
    }
    run(tiny_config(data, **changes, **sources), tmp_path / "on-others")
    assert selections(tmp_path / "on-others") == selections(tmp_path / "on-coco")
    metrics = [(tmp_path / name / "round-001/metrics.json").read_text() for name in ("on-coco", "on-others")]
    assert metrics[0] == metrics[1]
