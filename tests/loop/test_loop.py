"""Whole runs: what they leave behind, what they may not see, how they go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolscout.engine.progress import SilentProgress
from poolscout.errors import CapabilityError, ConfigError, DataError, OtherRunError, RunError
from poolscout.labelling import ids_of, picks_of
from poolscout.loop import run
from poolscout.tables.declared import LABELLED, QUARANTINE
from poolscout.tables.parquet import read_table
from tests.loop.tiny import selections, tiny_config, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run(tiny_config(data, references__random=True, references__full=True, references__members=1), out)
    return out


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_pays_what_it_says_and_reports_it(finished: Path) -> None:
    assert (finished / "report.html").stat().st_size > 10_000
    costs = [metrics(finished / f"round-{r:03d}")["images"]["unique"] for r in range(3)]
    assert costs == [8, 14, 20]
    picked = [set(ids_of(picks_of(finished / name))) for name in ("initial", "round-000", "round-001")]
    assert len(set.union(*picked)) == 20, "no image is paid for twice"
    labelled = [read_table(p, LABELLED) for p in sorted((finished / "labels").glob("labelled-*"))]
    assert [set(ids_of(table)) for table in labelled] == picked
    last = metrics(finished / "round-002")
    assert len(last["members"]) == 2
    assert 0 <= last["mean"]["AP50"] <= 1
    assert not (finished / "round-002" / "selection.parquet").exists()


def test_references_start_from_the_same_labels(finished: Path) -> None:
    random = finished / "references" / "random"
    assert picks_of(random / "initial").equals(picks_of(finished / "initial"))
    assert picks_of(random / "round-000") != picks_of(finished / "round-000")
    assert metrics(random / "round-002")["images"]["unique"] == 20
    assert metrics(finished / "references" / "full" / "round-000")["images"]["unique"] == 40


def test_the_same_command_again_does_nothing(finished: Path, data: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    run(tiny_config(data, references__random=True, references__full=True, references__members=1), finished)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")} == before


def test_no_stage_sees_a_label_that_was_not_paid_for(finished: Path, data: Path, tmp_path: Path) -> None:
    """Every box of every image that was never picked is made nonsense: the picks stay byte for byte the same."""
    paid = {i for name in ("initial", "round-000", "round-001") for i in ids_of(picks_of(finished / name))}
    poisoned = tmp_path / "data"
    poisoned.mkdir()
    (poisoned / "images").symlink_to(data / "images")
    truth = json.loads((data / "pool.json").read_text())
    unpaid = {image["id"] for image in truth["images"] if image["file_name"] not in paid}
    for box in truth["annotations"]:
        if box["image_id"] in unpaid:
            box |= {"bbox": [1, 1, 60, 60], "category_id": 1 - box["category_id"]}
    (poisoned / "pool.json").write_text(json.dumps(truth))
    (poisoned / "test.json").write_text((data / "test.json").read_text())
    run(tiny_config(poisoned), tmp_path / "run")
    theirs = {name: content for name, content in selections(finished).items() if "references" not in name}
    assert selections(tmp_path / "run") == theirs
    revealed = set(ids_of(read_table(tmp_path / "run" / "labels" / "labelled-00000.parquet", LABELLED)))
    assert not revealed & {i["file_name"] for i in truth["images"] if i["id"] in unpaid}


def test_more_rounds_go_on_from_the_last(finished: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(tiny_config(data, rounds=1), out)
    first = (out / "round-000" / "models" / "member-0.safetensors").stat().st_mtime_ns
    run(tiny_config(data, rounds=2), out)
    assert (out / "round-000" / "models" / "member-0.safetensors").stat().st_mtime_ns == first
    assert selections(out)["round-001/selection.parquet"] == selections(finished)["round-001/selection.parquet"]


def test_changed_settings_are_refused_until_asked_for(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(tiny_config(data, rounds=1), out)
    before = selections(out)
    changed = tiny_config(data, rounds=1, scoring__scorers=[{"scorer": "entropy"}])
    with pytest.raises(RunError, match=r"stage 'score' of round-000 is stale.*\n.*scorers"):
        run(changed, out)
    assert selections(out) == before
    run(changed, out, redo_stale=True)
    assert "entropy_max" in picks_of(out / "round-000")["reason"][0].as_py()
    assert metrics(out / "round-001")["images"]["unique"] == 14


def test_scoring_over_all_repeats_picks_at_no_cost(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, rounds=2, labelling__initial=20, selection__n=15, scoring__over="all")
    run(config, tmp_path / "run")
    picks = picks_of(tmp_path / "run" / "round-000")
    repeated = ids_of(picks.filter(picks["labelled_already"]))
    assert repeated, "with half the pool labelled some picks repeat"
    frozen = json.loads((tmp_path / "run" / "round-001" / "labels.json").read_text())
    assert frozen["weights"] == dict.fromkeys(repeated, 2)
    assert frozen["n_images"] == 20 + 15
    assert frozen["n_unique"] == 20 + 15 - len(repeated)


def test_images_that_cannot_be_read_are_set_aside(data: Path, tmp_path: Path) -> None:
    spoiled = write_data(tmp_path / "data")
    whole = tiny_config(spoiled, rounds=1)
    run(whole, tmp_path / "first")
    picked_first, never = ids_of(picks_of(tmp_path / "first" / "initial"))[0], "pool-000.png"
    for name, keep in ((picked_first, 0.5), (never, 0.0)):
        path = spoiled / "images" / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    run(tiny_config(spoiled, rounds=1), tmp_path / "second")
    listed = read_table(tmp_path / "second" / "pool" / "quarantine.parquet", QUARANTINE).to_pylist()
    assert [(row["image_id"], row["reason"]) for row in listed] == [(never, "empty")]
    for name in ids_of(picks_of(tmp_path / "second" / "initial")):
        assert name != never
    found = [read_table(p, QUARANTINE) for p in (tmp_path / "second").rglob("training_quarantine.parquet")]
    scored = [read_table(p, QUARANTINE) for p in (tmp_path / "second").glob("round-*/quarantine")]
    assert {row["reason"] for table in found + scored for row in table.to_pylist()} == {"truncated"}


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"selection__n": 100}, ConfigError, "8 initial images + 2 × 100, but 40 images in the pool"),
        ({"labelling__initial_labels": "DATA/pool.json"}, ConfigError, "40 initial images + 2 × 6, but 40 images"),
        ({"labelling__initial": 0}, ConfigError, "the first detectors need labels"),
        ({"labelling__classes": ["disk"]}, ConfigError, "did you mean 'disc'"),
        ({"selection__sampler": "topn"}, ConfigError, "did you mean 'top-n'"),
        ({"scoring__scorers": [{"scorer": "entropie"}]}, ConfigError, "did you mean 'entropy'"),
        ({"scoring__scorers": [{"scorer": "entropy", "aggregate": "maximum"}]}, ConfigError, "did you mean 'max'"),
        ({"labelling__mode": "files"}, ConfigError, "the classes to learn are not known"),
        ({"device": "cuda:99"}, ConfigError, "cannot be used"),
        ({"pool__sequence": "clib"}, ConfigError, "did you mean 'clip'"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_trained(
    data: Path, tmp_path: Path, changes: dict, error: type[Exception], words: str
) -> None:
    given = {
        key: value.replace("DATA", str(data)) if isinstance(value, str) else value for key, value in changes.items()
    }
    with pytest.raises(error) as caught:
        run(tiny_config(data, **given), tmp_path / "run")
    assert words in str(caught.value)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_test_set_inside_the_pool_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40 images are in the pool and in the test set"):
        run(tiny_config(data, evaluation__annotations=str(data / "pool.json")), tmp_path / "run")


def test_a_missing_source_and_an_unknown_test_class(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        run(tiny_config(data, pool__source=str(tmp_path / "none.json")), tmp_path / "a")
    test = json.loads((data / "test.json").read_text())
    test["categories"][0]["name"] = "disk"
    (data / "other.json").write_text(json.dumps(test))
    with pytest.raises(ConfigError, match="did you mean 'disk'"):
        run(tiny_config(data, evaluation__annotations=str(data / "other.json")), tmp_path / "b")
    (data / "bare.json").write_text(json.dumps(test | {"annotations": []}))
    with pytest.raises(DataError, match="not one box of the classes to learn"):
        run(tiny_config(data, evaluation__annotations=str(data / "bare.json")), tmp_path / "c")


def test_a_folder_with_another_run_or_strange_files_is_left_alone(finished: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(OtherRunError, match="holds another run"):
        run(tiny_config(data, name="other"), finished)
    (tmp_path / "thesis.tex").write_text("do not overwrite")
    with pytest.raises(OtherRunError, match="files that no run wrote"):
        run(tiny_config(data), tmp_path)
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["thesis.tex"]


def test_a_mistake_that_was_corrected_is_not_held_against_the_run(data: Path, tmp_path: Path) -> None:
    """Settings that failed before anything was made leave nothing that the right ones would be refused for."""
    out = tmp_path / "run"
    for mistake in (
        {"pool__sequence": "clib"},
        {"pool__source": str(data / "pol.json")},
        {"selection__sampler": "tpo-n"},
    ):
        with pytest.raises((ConfigError, DataError)):
            run(tiny_config(data, rounds=1, **mistake), out)
    run(tiny_config(data, rounds=1), out)
    assert metrics(out / "round-001")["images"]["unique"] == 14


def test_ground_truth_that_changed_is_noticed(data: Path, tmp_path: Path) -> None:
    """Old rounds with the old labels and new rounds with the new ones would make one curve of two things."""
    truth = tmp_path / "truth.json"
    truth.write_bytes((data / "pool.json").read_bytes())
    config = tiny_config(data, rounds=1, labelling__annotations=str(truth))
    run(config, tmp_path / "run")
    document = json.loads(truth.read_text())
    for box in document["annotations"]:
        box["bbox"][2] += 2
    truth.write_text(json.dumps(document))
    with pytest.raises(RunError, match="stage 'delivery-00000' of labels is stale"):
        run(config, tmp_path / "run")
    before = (tmp_path / "run" / "round-000" / "models" / "member-0.safetensors").read_bytes()
    run(config, tmp_path / "run", redo_stale=True)
    assert (tmp_path / "run" / "round-000" / "models" / "member-0.safetensors").read_bytes() != before


def test_labels_without_boxes_and_a_class_without_examples(data: Path, tmp_path: Path) -> None:
    """Nothing to learn is an error; a class that the labels do not show yet is told, and the run goes on."""
    truth = json.loads((data / "pool.json").read_text())
    initial = set(ids_of(picks_of_initial(data, tmp_path / "first")))
    labelled = {image["id"] for image in truth["images"] if image["file_name"] in initial}
    for name, dropped in (("empty", {0, 1}), ("partial", {1})):
        kept = [b for b in truth["annotations"] if not (b["image_id"] in labelled and b["category_id"] in dropped)]
        (data / f"{name}.json").write_text(json.dumps(truth | {"annotations": kept}))
    with pytest.raises(DataError, match=r"show no object.*\n.*8 labelled images, 0 boxes of disc, bar"):
        run(tiny_config(data, labelling__annotations=str(data / "empty.json")), tmp_path / "empty")
    told: list[str] = []
    config = tiny_config(data, rounds=1, labelling__annotations=str(data / "partial.json"))
    run(config, tmp_path / "partial", progress=Telling(told))
    assert any("no labelled example of bar" in line for line in told)


def picks_of_initial(data: Path, out: Path):
    run(tiny_config(data, rounds=1), out)
    return picks_of(out / "initial")


class Telling(SilentProgress):
    """Keeps what a run says."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def say(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scoring__scorers": [{"scorer": "mc_dropout"}], "detector__dropout": 0}, r"'mc_dropout' needs dropout"),
        ({"training__members": 1}, r"'mutual_information' needs several members[\s\S]*a single U-Net"),
        ({"scoring__scorers": [{"scorer": "gradient_total"}]}, r"'gradient_total' does not go with aggregate 'max'"),
        (
            {"selection__over_classes": "weighted", "selection__class_weights": {"disk": 2.0}},
            r"class_weights: no class 'disk'[\s\S]*did you mean 'disc'",
        ),
    ],
)
def test_what_cannot_be_scored_or_ranked_stops_before_anything_is_trained(
    data: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises((CapabilityError, ConfigError), match=message):
        run(tiny_config(data, **changes), tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert not list((tmp_path / "run").rglob("selection.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection__sampler": "topn"}, "no sampler 'topn'"),
        ({"labelling__initial_sampler": "coreset"}, "needs scores, embeddings"),
        ({"scoring__scorers": [{"scorer": "mutal_information"}]}, "did you mean 'mutual_information'"),
        ({"scoring__scorers": [{"scorer": "entropy", "aggregate": "mean"}]}, "did you mean 'average'"),
        ({"device": "cuda:99"}, "'cuda:99' cannot be used"),
        ({"references__full": True, "labelling__mode": "files"}, "references need labels"),
        ({"labelling__initial": 0}, "the first detectors need labels"),
        ({"evaluation__size_buckets": [9, 3]}, "size_buckets"),
    ],
)
def test_what_needs_no_data_to_be_wrong_is_refused_before_there_is_a_folder(
    data: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises((CapabilityError, ConfigError), match=message):
        run(tiny_config(data, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_with_every_kind_of_scorer_ranked_over_classes(data: Path, tmp_path: Path) -> None:
    scorers = [
        {"scorer": "entropy", "aggregate": "average"}, {"scorer": "mutual_information", "aggregate": "top_k", "k": 5},
        {"scorer": "gradient_total", "aggregate": "whole"}, {"scorer": "mc_dropout", "aggregate": "max"},
        {"scorer": "detection_entropy", "aggregate": "sum"}, {"scorer": "box_disagreement", "aggregate": "max"},
    ]  # fmt: skip
    config = tiny_config(
        data, rounds=1, scoring__scorers=scorers, selection__over_classes="mean", selection__normalise_classes=True
    )
    run(config, tmp_path / "run")
    picks = picks_of(tmp_path / "run" / "round-000")
    assert set(picks["reason"].to_pylist()) == {"top-n by entropy_average, mean over classes, classes normalised"}
    assert 0 <= min(picks["score"].to_pylist()) <= max(picks["score"].to_pylist()) < 1
    assert "entropy (average), the highest of the classes" in (tmp_path / "run" / "report.html").read_text()
