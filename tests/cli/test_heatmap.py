"""`poolscout heatmap` as a user types it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poolscout.config import ScoringConfig
from poolscout.detector.io import load_member
from poolscout.detector.stream import read_batch
from poolscout.pool import ImageReader
from poolscout.report.heatmap import MOST_GUESSED, find_target
from poolscout.report.seen import FIGURE_SCORERS
from poolscout.scoring import view
from poolscout.tables.declared import POOL
from poolscout.tables.parquet import part_path, read_table, write_table
from tests.report.fake_run import CLASSES, HEIGHT, WIDTH, make_run
from tests.report.test_states import edit_config

from .test_commands import poolscout

FRAME = "clip 0/frame 003 <b>&.jpg"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("heatmap"), n_pool=12, n=2)
    edit_config(run, training={"members": 2})
    picture = run.parent / "pictures" / "test one.png"
    Image.fromarray(np.full((40, 60, 3), 80, np.uint8)).save(picture)
    write_table(part_path(run / "test" / "images", 0), POOL, {
        "image_id": ["drive.mp4#000120", "held out.png"], "uri": [str(picture)] * 2, "width": [60] * 2,
        "height": [40] * 2, "sequence": ["x"] * 2, "frame": [120, None],
    })  # fmt: skip
    (run.parent / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    return run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_each_frame_of_a_video_has_a_figure_of_its_own(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    code, out, _ = poolscout(capsys, "heatmap", "drive.mp4#000120", "--run", finished, "--scorer", "entropy", "--json")
    assert (code, json.loads(out)["written"]) == (0, "heatmap-drive.mp4#000120.png")


def test_an_image_of_the_pool(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    code, out, _ = poolscout(capsys, "heatmap", FRAME, "--run", finished, "--json")
    result = json.loads(out)
    assert (code, result["written"], result["members"]) == (0, "heatmap-frame 003 <b>&.png", 2)
    assert [path.name for path in tmp_path.iterdir()] == [result["written"]]
    with Image.open(result["written"]) as figure:
        assert figure.format == "PNG"
        assert figure.size[0] > 1500

    members = [load_member(finished / "round-002" / "models" / f"member-{m}") for m in range(2)]
    uri = dict(zip(*(read_table(finished / "pool" / "images", POOL)[c].to_pylist() for c in ("image_id", "uri")),
                   strict=True))[FRAME]  # fmt: skip
    batch = read_batch([FRAME], ImageReader({FRAME: uri}, 10**7), HEIGHT, WIDTH, "test")
    maps = view(members, batch, FIGURE_SCORERS, ScoringConfig()).maps
    for name in FIGURE_SCORERS:
        expected = maps[name][0].amax((1, 2)).tolist()
        assert result["highest"][name] == pytest.approx(dict(zip(CLASSES, expected, strict=True)))


def test_the_same_image_gives_the_same_bytes(capsys: pytest.CaptureFixture[str], finished: Path) -> None:
    for name in ("a.png", "b.png"):
        assert poolscout(capsys, "heatmap", "held out.png", "--run", finished, "--out", name)[0] == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_any_file_without_a_run(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    picture, models = finished.parent / "pictures" / "3.jpg", finished / "round-000" / "models"
    code, out, _ = poolscout(
        capsys, "heatmap", picture, "--models", models, "--scorer", "entropy", "--out", "sub/x.png"
    )
    assert code == 0
    assert "round-000/models, members: 2" in out
    assert out.count("at most") == 1
    assert " nats (" in out.split("entropy")[1]
    assert (tmp_path / "sub" / "x.png").exists()


def test_a_single_detector_is_not_asked_for_disagreement(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path
) -> None:
    models = Path(shutil.copytree(finished / "round-000" / "models", tmp_path / "models"))
    for file in models.glob("member-1.*"):
        file.unlink()
    picture = finished.parent / "pictures" / "3.jpg"
    code, out, _ = poolscout(capsys, "heatmap", picture, "--models", models, "--json")
    assert (code, list(json.loads(out)["highest"])) == (0, ["entropy", "gradient", "mc_dropout"])
    code, _, err = poolscout(capsys, "heatmap", picture, "--models", models, "--scorer", "mutual_information")
    assert code == 8
    assert "needs several members" in err


def test_the_last_whole_ensemble_is_taken(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    assert find_target(FRAME, run=run, models=None).models == run / "round-002" / "models"
    assert find_target(FRAME, run=run, models=None, number=0).models == run / "round-000" / "models"
    for file in (run / "round-002" / "models").glob("member-1.*"):
        file.unlink()  # still in training
    assert find_target(FRAME, run=run, models=None).models == run / "round-001" / "models"
    shutil.rmtree(run / "round-000" / "models")
    shutil.rmtree(run / "round-001" / "models")
    assert find_target(FRAME, run=run, models=None).models == run / "round-002" / "models"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("clip 0/frame 03 <b>&.jpg --run RUN", 4, f"did you mean '{FRAME}'?"),
        ("held.png --run RUN", 4, "did you mean 'held out.png'?"),
        ("zzz --run RUN", 4, "an image_id of the run's pool or test set"),
        ("PICTURES/33.jpg --models MODELS", 4, "did you mean '3.jpg'?"),
        ("nowhere/33.jpg --models MODELS", 4, "no such image"),
        ("PICTURES/broken.jpg --models MODELS", 4, "broken.jpg: the image cannot be used"),
        ("PICTURES --run RUN", 4, "a folder"),
        (f"{FRAME} --models MODELS", 4, "no such image"),
        ("PICTURES/3.jpg --models PICTURES", 4, "no detectors"),
        (f"{FRAME} --run nowhere", 6, "not a run's folder"),
        (f"{FRAME} --run RUN --round 7", 6, "a round with trained detectors: 0, 1, 2"),
        ("PICTURES/3.jpg --models MODELS --round 0", 2, "--round goes with --run"),
        (f"{FRAME}", 2, "neither --run nor --models"),
        (f"{FRAME} --run RUN --models MODELS", 2, "both --run and --models"),
        (f"{FRAME} --run RUN --scorer mutual_informtion", 2, "did you mean 'mutual_information'?"),
        (f"{FRAME} --run RUN --scorer detection_entropy", 8, "entropy, gradient, gradient_variance, mc_dropout"),
        (f"{FRAME} --run RUN --scorer gradient_total", 8, "has no map to show"),
        (f"{FRAME} --run RUN --out figure.jpg", 2, "a name ending in .png"),
        ("PICTURES/test one.png --models MODELS --out PICTURES/test one.png", 2, "is the image itself"),
        (f"{FRAME} --run RUN --out PICTURES/3.jpg/x.png", 9, "cannot be written"),
    ],
)
def test_mistakes_end_in_a_message_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path, words: str, code: int, message: str
) -> None:
    places = {"RUN": finished, "PICTURES": finished.parent / "pictures", "MODELS": finished / "round-001" / "models"}
    for name, place in places.items():
        words = words.replace(name, str(place))
    image, *options = words.split(" --")
    arguments = [part for option in options for part in ("--" + option).split(" ", 1)]
    got, _, err = poolscout(capsys, "heatmap", image, *arguments)
    assert message in err
    assert "Traceback" not in err
    assert got == code
    assert not list(tmp_path.iterdir())


def test_no_models_yet(capsys: pytest.CaptureFixture[str], finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for models in run.glob("round-*/models"):
        shutil.rmtree(models)
    code, _, err = poolscout(capsys, "heatmap", FRAME, "--run", run)
    assert code == 6
    assert "no models yet" in err


def test_interrupted(capsys: pytest.CaptureFixture[str], finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("poolscout.report.heatmap.draw_figure", stop)
    code, _, err = poolscout(capsys, "heatmap", FRAME, "--run", finished)
    assert code == 130
    assert "stopped; nothing was written" in err


def test_a_mistyped_name_in_a_large_pool_is_answered_soon(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    n = 3 * MOST_GUESSED
    names = sorted(f"drive/{i:08d}.jpg" for i in range(n))
    write_table(part_path(run / "pool" / "images", 0), POOL, {
        "image_id": names, "uri": names, "width": [9] * n, "height": [9] * n, "sequence": names, "frame": [None] * n,
    })  # fmt: skip
    with pytest.raises(Exception, match="did you mean 'drive/00059999.jpg'"):
        find_target("00059999.jpg", run=run, models=None)
