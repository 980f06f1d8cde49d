"""The pass: right numbers, shards, restarts, quarantine, bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from poolscout.config import ScorerChoice, ScoringConfig
from poolscout.detector.stream import stream_images
from poolscout.engine import ThreadExecutor
from poolscout.errors import CapabilityError, ConfigError, DataError, NonFiniteError, StorageError
from poolscout.scoring import ScoringSummary, score_maps, score_pool, view
from poolscout.tables import shardfolder
from poolscout.tables.declared import DETECTIONS, EMBEDDINGS, QUARANTINE, SCORES
from poolscout.tables.parquet import read_table
from tests.scoring.pools import (
    CLASSES,
    HEIGHT,
    WIDTH,
    KnownMember,
    MadeUpImages,
    parts_bytes,
    pool_rows,
    real_member,
)

ALL = tuple(ScorerChoice(scorer=s, aggregate=a) for s in ("mutual_information", "entropy") for a in ("max", "average"))
CONFIG = ScoringConfig(scorers=ALL, batch_size=4, shard_size=10)
IDS = [f"seq/{number:03d}.jpg" for number in range(25)]
ENSEMBLE = [KnownMember(1.0), KnownMember(0.5), KnownMember(0.1)]


def run(
    out: Path, reader: MadeUpImages | None = None, members: list | None = None, config=CONFIG, **more
) -> ScoringSummary:
    reader = reader or MadeUpImages(IDS)
    rows = pool_rows(list(reader.uris))
    return score_pool(rows, reader, members or ENSEMBLE, config, out, height=HEIGHT, width=WIDTH, **more)


def test_scores_are_those_of_the_maps(tmp_path: Path) -> None:
    assert run(tmp_path) == ScoringSummary(n_scored=25, n_rejected=0, n_kept=0)
    scores = read_table(tmp_path / "scores", SCORES)
    embeddings = read_table(tmp_path / "embeddings", EMBEDDINGS)
    assert scores["image_id"].to_pylist() == embeddings["image_id"].to_pylist() == IDS
    (batch,) = stream_images(IDS, MadeUpImages(IDS), height=HEIGHT, width=WIDTH, batch_size=25, stage="test")
    outputs = [member(batch.pixels) for member in ENSEMBLE]
    maps = torch.stack([output.probabilities for output in outputs])
    for choice in ALL:
        expected = score_maps(maps, choice.scorer, choice.aggregate).numpy()
        per_class = np.stack(scores[f"{choice.column}_per_class"].to_numpy())
        np.testing.assert_allclose(per_class, expected, atol=1e-6)
        np.testing.assert_array_equal(scores[choice.column], per_class.max(1))
    np.testing.assert_allclose(np.stack(embeddings["embedding"].to_numpy()), outputs[0].features, atol=1e-6)


def test_one_part_a_shard(tmp_path: Path) -> None:
    run(tmp_path)
    for name in ("scores", "embeddings", "detections", "quarantine"):
        assert [p.name for p in sorted((tmp_path / name).glob("[!.]*"))] == [f"part-{i:05d}.parquet" for i in range(3)]
    assert read_table(tmp_path / "scores" / "part-00002.parquet", SCORES).num_rows == 5


def test_padding_is_not_scored(tmp_path: Path) -> None:
    # a wide image fills the upper half; the grey below it is brighter than a black image
    class Black(MadeUpImages):
        def read(self, image_id: str) -> np.ndarray:
            return np.zeros((self.size[0], self.size[1], 3), np.uint8)

    run(tmp_path, Black(["a"], size=(32, 96)))
    scores = read_table(tmp_path / "scores", SCORES)
    assert scores["entropy_max"].to_pylist() == [0]
    assert read_table(tmp_path / "detections", DETECTIONS).num_rows == 0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_does_not_change_the_numbers(tmp_path: Path, batch_size: int) -> None:
    members = [real_member(0), real_member(1)]
    run(tmp_path / "a", members=members)
    run(tmp_path / "b", members=members, config=CONFIG.model_copy(update={"batch_size": batch_size}))
    a, b = (read_table(tmp_path / name / "scores", SCORES) for name in "ab")
    for choice in ALL:
        assert np.ptp(a[choice.column].to_numpy()) > 0
        np.testing.assert_allclose(a[choice.column], b[choice.column], atol=3e-3)  # bf16 kernels differ with the batch


def test_same_settings_same_bytes(tmp_path: Path) -> None:
    members = [real_member(0), real_member(1)]
    run(tmp_path / "a", members=members, executor=ThreadExecutor(1))
    run(tmp_path / "b", members=members, executor=ThreadExecutor(3))
    first = parts_bytes(tmp_path / "a")
    assert len(first) == 12
    assert first == parts_bytes(tmp_path / "b")


def test_a_stopped_pass_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    class Killed(MadeUpImages):
        def read(self, image_id: str) -> np.ndarray:
            if image_id == IDS[17]:
                raise KeyboardInterrupt
            return super().read(image_id)

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Killed(IDS), executor=ThreadExecutor(1))
    done: list[tuple[int, int]] = []
    reader = MadeUpImages(IDS)
    summary = run(tmp_path / "stopped", reader, progress=lambda n, total: done.append((n, total)))
    assert summary == ScoringSummary(n_scored=25, n_rejected=0, n_kept=10)
    assert set(reader.read_ids) == set(IDS[10:])
    assert done == [(14, 25), (18, 25), (20, 25), (24, 25), (25, 25)]
    assert parts_bytes(tmp_path / "stopped") == parts_bytes(tmp_path / "whole")
    again = MadeUpImages(IDS)
    assert run(tmp_path / "stopped", again) == ScoringSummary(25, 0, 25)
    assert again.read_ids == []


@pytest.mark.parametrize("lost", ["scores", "detections"])
def test_a_shard_that_lacks_a_part_is_made_again(tmp_path: Path, lost: str) -> None:
    run(tmp_path)
    before = parts_bytes(tmp_path)
    (tmp_path / lost / "part-00001.parquet").unlink()
    assert run(tmp_path).n_kept == 15
    assert parts_bytes(tmp_path) == before


def test_scores_commit_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = shardfolder.write_table
    monkeypatch.setattr(
        shardfolder, "write_table", lambda path, *rest: (written.append(path.parent.name), write(path, *rest))
    )
    run(tmp_path)
    assert len(written) == 12
    assert written[3::4] == ["scores"] * 3


@pytest.mark.parametrize(
    ("reader", "members", "config", "n_kept"),
    [
        (MadeUpImages(IDS), [KnownMember(0.9), KnownMember(0.5)], CONFIG, 0),
        (MadeUpImages(IDS[:-1]), ENSEMBLE, CONFIG, 20),  # the first two shards are of the same images
        (MadeUpImages(IDS), ENSEMBLE, CONFIG.model_copy(update={"min_probability": 0.5}), 0),
    ],
)  # fmt: skip
def test_parts_of_another_pass_are_not_mixed_in(tmp_path: Path, reader, members, config, n_kept: int) -> None:
    run(tmp_path)
    assert run(tmp_path, reader, members, config).n_kept == n_kept
    run(tmp_path / "fresh", reader, members, config)
    assert {k: v for k, v in parts_bytes(tmp_path).items() if not k.startswith("fresh")} == parts_bytes(
        tmp_path / "fresh"
    )


def test_retrained_weights_are_another_pass(tmp_path: Path) -> None:
    run(tmp_path, members=[real_member(0), real_member(1)])
    assert run(tmp_path, members=[real_member(0), real_member(1)]).n_kept == 25
    assert run(tmp_path, members=[real_member(0), real_member(2)]).n_kept == 0


def test_bad_images_are_quarantined_and_the_pass_goes_on(tmp_path: Path) -> None:
    broken = [IDS[3], *IDS[10:20]]  # the second shard holds nothing but bad images
    summary = run(tmp_path, MadeUpImages(IDS, broken))
    assert summary == ScoringSummary(n_scored=14, n_rejected=11, n_kept=0)
    quarantine = read_table(tmp_path / "quarantine", QUARANTINE)
    assert quarantine["image_id"].to_pylist() == broken
    assert set(quarantine["stage"].to_pylist()) == {"scoring"}
    assert set(quarantine["reason"].to_pylist()) == {"truncated"}
    scores = read_table(tmp_path / "scores", SCORES)
    assert scores["image_id"].to_pylist() == [i for i in IDS if i not in broken]
    assert read_table(tmp_path / "scores" / "part-00001.parquet", SCORES).num_rows == 0
    # the neighbours of a bad image score as they do without it
    run(tmp_path / "good")
    good = read_table(tmp_path / "good" / "scores", SCORES)
    np.testing.assert_allclose(scores["entropy_max"].to_numpy()[:3], good["entropy_max"].to_numpy()[:3], atol=1e-6)


def test_a_pool_of_bad_images_only(tmp_path: Path) -> None:
    assert run(tmp_path, MadeUpImages(IDS, IDS)) == ScoringSummary(0, 25, 0)
    assert read_table(tmp_path / "scores", SCORES).num_rows == 0


def test_detections_are_the_ensembles_in_pixels_of_the_image(tmp_path: Path) -> None:
    class OneSpot(MadeUpImages):
        def read(self, image_id: str) -> np.ndarray:
            image = np.zeros((128, 192, 3), np.uint8)  # twice the input's size
            image[32:40, 64:72, 1] = 255  # the cell at row 4, column 8: middle at (34, 18) input px
            return image

    # strengths 0.8 and 0.4, boxes 8 px wide, the second one 6 px further right: mean shift (0.8·0 + 0.4·6) / 1.2 = 2
    run(tmp_path, OneSpot(["a"]), [KnownMember(0.8), KnownMember(0.4, shift=6.0)])
    (row,) = read_table(tmp_path / "detections", DETECTIONS).to_pylist()
    assert (row["image_id"], row["member"], row["class"]) == ("a", -1, "person")
    assert row["probability"] == pytest.approx(0.6, abs=1e-5)
    box = [row[name] for name in ("x1_px", "y1_px", "x2_px", "y2_px")]
    assert box == pytest.approx([2 * 32, 2 * 14, 2 * 40, 2 * 22], abs=1e-3)


def test_detections_end_at_the_images_border(tmp_path: Path) -> None:
    run(tmp_path, MadeUpImages(IDS[:3], size=(40, 80)), [KnownMember(side=60.0)] * 2)
    detections = read_table(tmp_path / "detections", DETECTIONS)
    assert detections.num_rows > 0
    for low, high, most in (("x1_px", "x2_px", 80), ("y1_px", "y2_px", 40)):
        lows, highs = detections[low].to_numpy(), detections[high].to_numpy()
        assert (lows >= 0).all()
        assert (highs <= most).all()
        assert (lows < highs).all()
    assert (detections["x2_px"].to_numpy() == 80).any()


def test_boxes_outside_the_image_are_not_stored(tmp_path: Path) -> None:
    run(tmp_path, members=[KnownMember(shift=2.0 * WIDTH)] * 2)
    assert read_table(tmp_path / "detections", DETECTIONS).num_rows == 0


@pytest.mark.parametrize("field", ["probabilities", "box_parameters", "features"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_names_the_images(tmp_path: Path, field: str, bad: float) -> None:
    class Sick(KnownMember):
        def look(self, prepared: torch.Tensor):
            output = super().look(prepared)
            value = getattr(output, field).clone()
            value[1].view(-1)[2] = bad
            return output._replace(**{field: value})

    with pytest.raises(NonFiniteError, match=r"the detectors gave NaN or infinity for 1 images[\s\S]*seq/001.jpg"):
        run(tmp_path, members=[Sick(), KnownMember()])
    assert not (tmp_path / "scores").exists()


def test_a_view_shows_what_the_pass_reduces(tmp_path: Path) -> None:
    members = [real_member(0), real_member(1)]
    config = CONFIG.model_copy(update={"batch_size": 25, "shard_size": 25})
    run(tmp_path, members=members, config=config)
    (batch,) = stream_images(IDS, MadeUpImages(IDS), height=HEIGHT, width=WIDTH, batch_size=25, stage="test")
    seen = view(members, batch, ["mutual_information", "gradient"], config)
    assert list(seen.maps) == ["mutual_information", "gradient"]
    maps = seen.maps["mutual_information"]
    assert maps.shape == (25, len(CLASSES), HEIGHT // 4, WIDTH // 4)
    stored = np.stack(read_table(tmp_path / "scores", SCORES)["mutual_information_max_per_class"].to_numpy())
    np.testing.assert_allclose(maps.amax((2, 3)), stored, atol=1e-6)
    assert len(seen.detections) == 2
    with pytest.raises(CapabilityError, match=r"'margin' has no map[\s\S]*entropy"):
        view(members, batch, ["margin"], config)


def test_what_cannot_be_scored_stops_before_anything_is_read(tmp_path: Path) -> None:
    reader = MadeUpImages(IDS)
    with pytest.raises(CapabilityError, match="needs several members"):
        run(tmp_path, reader, [KnownMember()])
    with pytest.raises(ConfigError, match=r"member 1 was trained on other classes[\s\S]*person, car[\s\S]*car, person"):
        run(tmp_path, reader, [KnownMember(), KnownMember(classes=("person", "car"))])
    with pytest.raises(DataError, match="nothing to score"):
        run(tmp_path, MadeUpImages([]))
    assert reader.read_ids == []
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("shard", [1, 2])
def test_a_full_disk_is_reported_and_finished_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int
) -> None:
    write = shardfolder.write_table

    def fails_at_the_shard(path: Path, *rest) -> None:
        if path.name == f"part-{shard:05d}.parquet":
            raise StorageError(f"{path}: the disk is full")
        write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shardfolder, "write_table", fails_at_the_shard)
        with pytest.raises(StorageError, match="disk is full"):
            run(tmp_path)
    assert run(tmp_path).n_kept == 10 * shard


def test_a_repaired_image_is_looked_at_again(tmp_path: Path) -> None:
    class OnDisk(MadeUpImages):
        def __init__(self) -> None:
            super().__init__(IDS)
            self.uris = {image_id: str(tmp_path / f"{number}.jpg") for number, image_id in enumerate(IDS)}

    for uri in OnDisk().uris.values():
        Path(uri).write_bytes(b"as it was")
    run(tmp_path / "out", OnDisk())
    assert run(tmp_path / "out", OnDisk()).n_kept == 25
    (tmp_path / "7.jpg").write_bytes(b"as it is now")
    assert run(tmp_path / "out", OnDisk()).n_kept == 15, "its shard alone"
