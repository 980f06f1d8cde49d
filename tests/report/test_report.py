from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poolscout.config import ScoringConfig
from poolscout.detector.io import load_member
from poolscout.detector.stream import read_batch
from poolscout.errors import RunError
from poolscout.pool import ImageReader
from poolscout.report import write_report
from poolscout.report.grid import MAX_CLASSES, grid
from poolscout.report.heat import MEMBER_COLOURS, colours, widened
from poolscout.report.pictures import jpeg_uri
from poolscout.report.seen import LEAST_SHOWN, MAX_BOXES, Seen, in_unit
from poolscout.scoring import View, view
from poolscout.tables.declared import POOL, SELECTION
from poolscout.tables.parquet import read_table

from .fake_run import CHOSEN, CLASSES, FULL, HEIGHT, RANDOM, WIDTH
from .reading import Page

# The page's own scorer first, then the others of the paper's Figure 2.
UNITS = {
    "mutual_information": "nats",
    "entropy": "nats",
    "gradient": "1",
    "gradient_variance": "1",
    "mc_dropout": "nats",
}


def rgba(uri: str | None) -> np.ndarray:
    """The pixels of a data URI, [h, w, 4]."""
    data = base64.b64decode((uri or "").partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)


@pytest.fixture(scope="module")
def page(finished: Path) -> Page:
    return Page(write_report(finished))


def test_the_headline_says_what_was_gained_and_paid(page: Page) -> None:
    assert "Labelling 12 more images with 50 boxes raised AP50 from 0.110 to 0.260" in page.text
    # Two detectors 0.01 around their mean in each of three rounds: s = √(6 · 0.01² / 3), t = 3.18 for 3 degrees of
    # freedom, and two detectors against one: 3.18 · s · √(1/2 + 1) = 0.055.
    assert "As many random images reach 0.220 with 66 boxes instead of 80: no clear difference" in page.text
    assert "(+0.040 ± 0.055 between trainings)" in page.text
    # At 66 boxes the run's curve is between 55 (0.19) and 80 (0.26) boxes.
    assert f"at an equal 66 boxes (read off the curves) it stands {0.19 + 11 / 25 * 0.07:.3f} to 0.220" in page.text
    assert "this run is at 65% of that for 50% of the images and 50% of the boxes" in page.text


def test_the_curves_hold_every_arm_member_and_cost(page: Page) -> None:
    spec = page.charts["curve-boxes"]
    dots, line, full = (layer["data"]["values"] for layer in spec["layer"])
    drawn = {(r["arm"], r["round"], r["boxes"], r["images"]): r["value"] for r in line if r["metric"] == "AP50"}
    assert drawn == {
        ("this run", 0, 30, 8): CHOSEN[0], ("this run", 1, 55, 14): CHOSEN[1], ("this run", 2, 80, 20): CHOSEN[2],
        ("random picks", 0, 30, 8): CHOSEN[0], ("random picks", 1, 48, 14): RANDOM[1],
        ("random picks", 2, 66, 20): RANDOM[2],
    }  # fmt: skip
    last = sorted(r["value"] for r in dots if r["arm"] == "this run" and r["round"] == 2 and r["metric"] == "AP50")
    assert last == pytest.approx([CHOSEN[2] - 0.01, CHOSEN[2] + 0.01])
    assert [r["value"] for r in full if r["metric"] == "wMAP"] == [FULL / 3]
    assert page.charts["curve-images"]["layer"][1]["encoding"]["x"]["field"] == "images"
    assert {tuple(a.values())[2:3] for a in page.all("input", name="metric")} == {("AP50",), ("AP",), ("wMAP",)}


def test_the_histogram_counts_every_candidate_once(page: Page) -> None:
    values = page.charts["scores-0"]["data"]["values"]
    count = {what: sum(r["images"] for r in values if r["what"] == what) for what in ("picked", "not picked")}
    assert count == {"picked": 6, "not picked": 34}
    lowest_picked = min(r["from"] for r in values if r["what"] == "picked")
    assert all(r["to"] <= lowest_picked + 0.02 for r in values if r["what"] == "not picked")


def test_picked_images_come_in_order_with_their_reasons(page: Page, finished: Path) -> None:
    picks = read_table(finished / "round-000" / "selection.parquet", SELECTION).to_pylist()[:4]
    at = [page.text.index(f"{p['score']:.3g} nats") for p in picks]
    assert at == sorted(at)
    for pick in picks:
        assert pick["image_id"] in page.text
        assert f"sequence {pick['image_id'].split('/')[0]}" in page.text
    assert "6 images picked, the first 4 shown" in page.text
    assert len(page.all("img", class_="photo")) == len(page.all("img", class_="heat")) == 8
    assert len(page.all("rect")) == 8 * 3  # two rounds of four pictures, three boxes each
    assert ("rect", {"x": "20", "y": "30", "width": "25", "height": "20"}) in page.elements


def test_heat_maps_are_those_of_the_round_s_own_ensemble(page: Page, finished: Path) -> None:
    ids = read_table(finished / "round-001" / "selection.parquet", SELECTION)["image_id"].to_pylist()[:4]
    maps = _viewed(finished, "round-001", ids).maps["mutual_information"].amax(1).numpy()
    for nats, shown in zip(maps, page.all("img", class_="heat")[4:], strict=True):
        expected = colours((np.round(np.sqrt(nats / maps.max()) * 127).astype(np.float64) / 127) ** 2)  # 128 steps
        np.testing.assert_allclose(rgba(shown["src"]), expected.astype(int), atol=1)
        assert shown["style"] == "width:100.0%;height:100.0%"


def test_padding_is_cut_off_the_heat_map(run: Path) -> None:
    config = (run / "run.yaml").read_text().replace(f"width: {WIDTH}\n", f"width: {WIDTH + 32}\n")
    (run / "run.yaml").write_text(config)  # input 64×128, pictures 3:2: the right quarter of the map is padding
    heat = Page(write_report(run)).all("img", class_="heat")[0]
    png = Image.open(io.BytesIO(base64.b64decode((heat["src"] or "").partition(",")[2])))
    assert png.size == (WIDTH // 4, HEIGHT // 4)


def test_tables_of_costs_classes_and_calibration(page: Page) -> None:
    assert "round 2 20 80 0.260 0.130 0.087 6 25 4.2" in page.text
    assert "random, round 1 14 48 0.180 0.090 0.060 6 18 3.0" in page.text
    assert "whole pool 40 160 0.400" in page.text
    assert "car 70 test boxes 0.210 AP 0.055 27 labelled 0.290 AP 0.095 52 labelled" in page.text
    assert f"{CLASSES[2]} 0 test boxes – AP – 0 labelled" in page.text
    assert "member 1 0.200 → 0.050" in page.text


def test_quarantine_config_and_versions_are_told(page: Page) -> None:
    assert "2 images could not be used" in page.text
    assert "broken.jpg truncated image file is truncated <i>" in page.text
    assert "images_per_round: 4" in page.text
    assert "torch 2.11.0" in page.text


def test_user_strings_are_text_and_never_markup(page: Page, finished: Path) -> None:
    source = (finished / "report.html").read_text()
    assert "<script>alert(1)" not in source
    assert page.text.count("<script>alert(1)</script>") >= 2
    assert not page.all("b", **{"&.jpg": ""})
    assert "frame 000 <b>" not in source
    assert source.count("<script") == source.count("</script>") == 3


def test_the_page_needs_no_network(page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
    assert "@import" not in page.text
    assert not page.all("link")


def test_the_same_run_gives_the_same_bytes(finished: Path) -> None:
    first = write_report(finished).read_bytes()
    assert write_report(finished).read_bytes() == first
    assert not re.search(rb"\b20[2-9]\d-\d\d-\d\d", first)  # no dates


def test_pictures_shrink_to_their_share_of_the_page() -> None:
    image = np.random.default_rng(0).integers(0, 255, (800, 1200, 3), dtype=np.uint8)
    large, small = jpeg_uri(image, 10**7), jpeg_uri(image, 30_000)
    assert len(small) <= 30_000 < len(large)
    sizes = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size for uri in (large, small)]
    assert sizes[0][0] == 520 > sizes[1][0]
    assert sizes[0][0] / sizes[0][1] == pytest.approx(1.5, abs=0.01)


def test_colours_rise_from_invisible_to_light() -> None:
    rgba = colours(np.linspace(0, 1, 50)).astype(int)
    assert rgba[0, 3] == 0
    assert (np.diff(rgba[:, 3]) >= 0).all()
    luminance = rgba[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.5).all()
    assert luminance[-1] > 240 > 5 > luminance[0]


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run's folder"):
        write_report(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_every_detector_s_boxes_are_on_the_cards(page: Page, finished: Path) -> None:
    layers = page.all("svg", class_="members")
    paths = [path for path in page.all("path") if path.get("d") and path.get("stroke") in MEMBER_COLOURS[:2]]
    assert (len(layers), len(paths)) == (8, 16)  # two rounds of four pictures, two members each
    ids = read_table(finished / "round-000" / "selection.parquet", SELECTION)["image_id"].to_pylist()[:4]
    found = _viewed(finished, "round-000", ids).detections[1]
    own = found.take((found.images == 3) & (found.probabilities >= LEAST_SHOWN)).boxes_xyxy_px.round().int().tolist()
    expected = "".join(f"M{x1} {y1}H{x2}V{y2}H{x1}z" for x1, y1, x2, y2 in own[:MAX_BOXES])
    assert paths[7] == {"stroke": MEMBER_COLOURS[1], "d": expected}
    assert expected
    toggle = {"type": "checkbox", "id": "show-members"}
    assert ("input", toggle) in page.elements, "off by default"
    assert "what each detector saw member 0 member 1 p ≥ 0.3" in page.text
    assert "body:has(#show-members:not(:checked)) .members" in (finished / "report.html").read_text()


def test_the_first_picks_are_seen_by_every_scorer(page: Page, finished: Path) -> None:
    grids = page.all("figure", class_="views")
    assert len(grids) == 4  # the first two picks of two rounds
    photos = [(grid["style"] or "").partition("url(")[2].partition(")")[0] for grid in grids]
    source = (finished / "report.html").read_text()
    for photo in photos:
        assert photo.startswith("data:image/jpeg;base64,")
        assert source.count(f"--photo:url({photo})") == 1, "one photo for all its maps"
    ids = read_table(finished / "round-000" / "selection.parquet", SELECTION)["image_id"].to_pylist()[:2]
    maps = _viewed(finished, "round-000", ids).maps
    first = {name: every[0].numpy() for name, every in maps.items()}
    cells = page.all("img", class_="glow")[: len(CLASSES) * len(first)]
    shown = [(c, name) for c in range(len(CLASSES)) for name in first]
    for cell, (c, name) in zip(cells, shown, strict=True):
        share = widened(first[name][c]) / first[name].max()
        expected = colours((np.round(np.sqrt(share) * 127) / 127) ** 2).astype(int)
        np.testing.assert_allclose(rgba(cell["src"]), expected, atol=5)
    heads = [f"{name.replace('_', ' ')} 0 {in_unit(float(first[name].max()), unit)}" for name, unit in UNITS.items()]
    assert " ".join(heads) in page.text
    assert "Next to nothing is seen of" not in page.text


def test_only_the_last_rounds_get_grids(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poolscout.report.page.MAX_GRID_ROUNDS", 1)
    page = Page(write_report(finished))
    assert len(page.all("figure", class_="views")) == 2
    assert page.text.index("How the scorers see") > page.text.index("Round 1")


def test_a_grid_keeps_to_its_bytes_however_many_classes() -> None:
    noise = np.random.default_rng(0).random((5, 40, 96, 160), np.float32)
    seen = Seen(dict(zip(UNITS, noise, strict=True)), 1.0, 1.0, [], tuple(f"class {c}" for c in range(40)))
    made = grid("a", "p" * 30_000, np.zeros((4, 6, 3), np.uint8), seen, 200_000)
    assert [len(cells) for _, cells in made.rows] == [5] * MAX_CLASSES
    assert len(made.quiet) == 40 - MAX_CLASSES
    assert 80_000 < len(made.photo) + sum(len(cell.uri) for _, cells in made.rows for cell in cells) <= 200_000
    loudest = max(range(40), key=lambda c: noise[1, c].max())
    assert [name for name, cells in made.rows if cells[1].is_highest] == [f"class {loudest}"]


def _viewed(run: Path, round_name: str, ids: list[str]) -> View:
    members = [load_member(run / round_name / "models" / f"member-{m}") for m in range(2)]
    uris = {r["image_id"]: r["uri"] for r in read_table(run / "pool" / "images", POOL).to_pylist()}
    batch = read_batch(ids, ImageReader(uris, 10**8), HEIGHT, WIDTH, "test")
    return view(members, batch, list(UNITS), ScoringConfig())
