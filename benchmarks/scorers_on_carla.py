"""All scorers on real driving frames: how they rank, what their picks cost, what calibration and bf16 change.

Trains an ensemble on 225 random frames of the pool of `carla_driving` and scores the other 525. Every step is kept in
--out and continued when it is started again. Prints the tables of docs/results.md as Markdown.

    python benchmarks/scorers_on_carla.py [--data data/carla_driving] [--out runs/scorers]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from poolscout.assemble import image_reader, load_members
from poolscout.cli.console import ConsoleProgress
from poolscout.config import PoolConfig, ScorerChoice, ScoringConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member
from poolscout.pool import list_pool
from poolscout.scoring import score_pool
from poolscout.single import train_from_coco
from poolscout.tables.declared import DETECTIONS, SCORES
from poolscout.tables.parquet import read_table

LABELLED, TOP = 225, 100
SETTINGS = (
    "training.members=6", "training.min_steps=600", "pool.sequence=block", "detector.height=384", "detector.width=640",
)  # fmt: skip
PAPER = (
    "entropy max", "entropy average", "mutual_information max", "mutual_information average", "mc_dropout max",
    "mc_dropout average", "gradient max", "gradient average", "gradient_total whole", "gradient_variance max",
    "gradient_variance average", "detection_entropy max", "detection_entropy average", "detection_entropy sum",
    "least_confidence sum", "margin sum", "box_disagreement max", "box_disagreement sum",
)  # fmt: skip
CONFIG = ScoringConfig(
    scorers=(
        *(ScorerChoice(scorer=s, aggregate=a) for s, a in map(str.split, PAPER)),
        ScorerChoice(scorer="mutual_information", aggregate="top_k", k=20),
    ),
    float32="off",  # as the members say
)


def split(data: Path, out: Path) -> None:
    """labelled.json and rest.json: the pool's frames, 225 of them at random."""
    document = json.loads((data / "annotations_pool.json").read_text())
    names = sorted(image["file_name"] for image in document["images"])
    chosen = set(np.random.default_rng(0).permutation(names)[:LABELLED].tolist())
    for name, wanted in (("labelled", True), ("rest", False)):
        images = [image for image in document["images"] if (image["file_name"] in chosen) == wanted]
        ids = {image["id"] for image in images}
        boxes = [box for box in document["annotations"] if box["image_id"] in ids]
        kept = {"images": images, "annotations": boxes, "categories": document["categories"]}
        (out / f"{name}.json").write_text(json.dumps(kept))


def variant(member: Member, *, calibrated: bool = True, bf16: str = "auto") -> Member:
    """The same weights seen otherwise; not calibrated = the plain sigmoid of the network's logits."""
    plain = Calibration(focus=0.0, biases=(0.0,) * len(member.classes))
    card = member.card.model_copy(update={
        "calibration": member.calibration if calibrated else plain,
        "architecture": member.architecture.model_copy(update={"bf16": bf16}),
    })  # fmt: skip
    return Member(member.model, card, member.device)


def scored(data: Path, out: Path, name: str, members: list[Member], *, compiled: bool = False) -> dict[str, np.ndarray]:
    """Score column → the highest of the classes for each image, in the pool's order."""
    pool = list_pool(PoolConfig(source=out / "rest.json", images=data / "images")).pool
    architecture, progress = members[0].architecture, ConsoleProgress()
    with progress.task(f"scoring, {name}", pool.num_rows) as task:
        score_pool(
            pool, image_reader(pool, 10**8), members, CONFIG.model_copy(update={"compile": compiled}), out / name,
            height=architecture.height, width=architecture.width, progress=lambda done, _: task.update(done),
        )  # fmt: skip
    table = read_table(out / name / "scores", SCORES)
    return {"image_id": np.array(table["image_id"].to_pylist())} | {
        choice.column: table[choice.column].to_numpy() for choice in CONFIG.scorers
    }


def top(scores: np.ndarray) -> np.ndarray:
    """Positions of the highest, ties to the lowest position."""
    return np.argsort(-scores, kind="stable")[:TOP]


def table(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/carla_driving"))
    parser.add_argument("--out", type=Path, default=Path("runs/scorers"))
    options = parser.parse_args()
    if not options.data.exists():
        print(f"skipped: no data set at {options.data}; put or link carla_driving there, or name it with --data")
        return
    data, out = options.data.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    split(data, out)
    train_from_coco(
        out / "labelled.json", out / "models", images=data / "images", overrides=SETTINGS, progress=ConsoleProgress()
    )
    members = load_members(out / "models", "cpu")
    runs = {
        "calibrated": scored(data, out, "calibrated", members),
        "raw": scored(data, out, "raw", [variant(m, calibrated=False) for m in members]),
        "fp32": scored(data, out, "fp32", [variant(m, bf16="off") for m in members]),
        "compiled": scored(data, out, "compiled", members, compiled=True),
    }
    print_calibration(members)
    print_scorers(runs, boxes_of(out / "rest.json"), out)
    print_correlations(runs["calibrated"])


def boxes_of(annotations: Path) -> dict[str, int]:
    """Image → how many labelled boxes it has."""
    document = json.loads(annotations.read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    counts = dict.fromkeys(names.values(), 0)
    for box in document["annotations"]:
        counts[names[box["image_id"]]] += 1
    return counts


def print_calibration(members: list[Member]) -> None:
    print("Calibration error on held-back frames\n")
    rows = [
        [
            f"member {i}",
            str(m.calibration.n_images),
            f"{m.calibration.error_before:.4f}",
            f"{m.calibration.error_after:.4f}",
        ]
        for i, m in enumerate(members)
    ]
    errors = np.array([(m.calibration.error_before, m.calibration.error_after) for m in members], np.float64)
    rows.append(["mean", "", *(f"**{error:.4f}**" for error in errors.mean(0))])
    table(["", "held-back frames", "before", "after"], rows)


def print_scorers(runs: dict[str, dict[str, np.ndarray]], n_boxes: dict[str, int], out: Path) -> None:
    print(f"Top {TOP} of {len(n_boxes)} frames\n")
    ids = runs["calibrated"]["image_id"]
    labelled = np.array([n_boxes[image_id] for image_id in ids])
    found = Counter(read_table(out / "calibrated" / "detections", DETECTIONS)["image_id"].to_pylist())
    predicted = np.array([found[image_id] for image_id in ids])
    rows = [["*all frames*", f"{labelled.mean():.2f}", f"{predicted.mean():.2f}", "", "", "", ""]]
    compiled = []
    for choice in CONFIG.scorers:
        scores = {name: run[choice.column] for name, run in runs.items()}
        picks = {name: top(values) for name, values in scores.items()}
        kept = {name: len(set(picks["calibrated"]) & set(picks[name])) for name in runs}
        rho = {name: spearmanr(scores["calibrated"], values).statistic for name, values in scores.items()}
        compiled.append(rho["compiled"])
        own = picks["calibrated"]
        rows.append([
            choice.column, f"{labelled[own].mean():.2f}", f"{predicted[own].mean():.2f}",
            str(kept["raw"]), f"{rho['raw']:.2f}", str(kept["fp32"]), f"{rho['fp32']:.4f}",
        ])  # fmt: skip
    head = ["score", "labelled boxes", "predicted boxes", "same picks, raw", "ρ, raw", "same picks, fp32", "ρ, fp32"]
    table(head, rows)
    print(f"Compiled against not compiled, both bf16: ρ ≥ {min(compiled):.5f} for every score\n")


def print_correlations(run: dict[str, np.ndarray]) -> None:
    print("Spearman's rank correlation\n")
    columns = [choice.column for choice in CONFIG.scorers]
    rho = spearmanr(np.stack([run[column] for column in columns], 1)).statistic
    rows = [
        [f"{i + 1} {c}", *(f"{v:.2f}" for v in rho[i, : i + 1]), *[""] * (len(columns) - i - 1)]
        for i, c in enumerate(columns)
    ]
    table(["", *(str(i + 1) for i in range(len(columns)))], rows)


if __name__ == "__main__":
    main()
