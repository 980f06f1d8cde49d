"""Every scorer and aggregate in one pass: what must not change the numbers does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from poolscout.config import ScorerChoice, ScoringConfig
from poolscout.detector.calibration import Calibration
from poolscout.detector.member import Member, MemberCard
from poolscout.detector.model import UNet
from poolscout.detector.stream import stream_images
from poolscout.engine import ThreadExecutor
from poolscout.errors import ConfigError
from poolscout.scoring import gives_of, score_pool, view
from poolscout.scoring.registry import OF_FIRST, scorers
from poolscout.tables.declared import CLASSES_KEY, PROVENANCE_KEY, SCORES
from poolscout.tables.parquet import read_table
from tests.scoring.given import CHOICES
from tests.scoring.pools import CLASSES, HEIGHT, TINY, WIDTH, KnownMember, MadeUpImages, parts_bytes, pool_rows

CONFIG = ScoringConfig(scorers=tuple(CHOICES), batch_size=4, shard_size=20, min_probability=0.02, dropout_passes=3)
IDS = [f"{number:03d}.jpg" for number in range(14)]


def untrained(seed: int) -> Member:
    """In float32, with maps all over the place, and not calibrated: its logits are what its output layer gives."""
    torch.manual_seed(seed)
    architecture = TINY.model_copy(update={"bf16": "off", "dropout": 0.2})
    model = UNet(len(CLASSES), architecture)
    torch.nn.init.normal_(model.output.weight)
    for lateral in model.laterals:
        torch.nn.init.normal_(lateral.weight, std=3.0)
    torch.nn.init.zeros_(model.output.bias)
    calibration = Calibration(focus=0.0, biases=(0.0,) * len(CLASSES))
    return Member(
        model, MemberCard(architecture=architecture, classes=CLASSES, calibration=calibration, seed=seed, training={})
    )


ENSEMBLE = [untrained(seed) for seed in range(3)]


def scores(out: Path, members=ENSEMBLE, ids=IDS, reader=None, height=HEIGHT, **config) -> dict[str, np.ndarray]:
    """Score column → [images, classes], in the order of IDS."""
    settings = CONFIG.model_copy(update=config)
    score_pool(pool_rows(ids), reader or MadeUpImages(ids), members, settings, out, height=height, width=WIDTH)
    table = read_table(out / "scores", SCORES)
    order = np.argsort(table["image_id"].to_pylist())
    return {c.column: np.stack(table[f"{c.column}_per_class"].to_numpy())[order] for c in CHOICES}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    found = scores(tmp_path_factory.mktemp("plain"))
    assert all(np.ptp(per_class) > 0 for per_class in found.values()), "scores that could differ"
    return found


def assert_alike(a: dict[str, np.ndarray], b: dict[str, np.ndarray], but: tuple[str, ...] = ()) -> None:
    for column in a:
        if not column.startswith(but or ("-",)):
            np.testing.assert_allclose(a[column], b[column], rtol=2e-4, atol=2e-5, err_msg=column)


def test_order_of_the_images(plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert_alike(scores(tmp_path, ids=IDS[::-1]), plain)


@pytest.mark.parametrize("batch_size", [1, 5, 20])
def test_batch_size(plain: dict[str, np.ndarray], tmp_path: Path, batch_size: int) -> None:
    assert_alike(scores(tmp_path, batch_size=batch_size), plain)


def test_order_of_the_members(plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Only what looks at the first member alone may change."""
    alone = [c for c in CHOICES if all(i in OF_FIRST or "dropout" in i.name for i in scorers.get(c.scorer).inputs)]
    of_first = tuple(c.column for c in alone)
    turned = scores(tmp_path, members=ENSEMBLE[::-1])
    assert_alike(turned, plain, but=of_first)
    assert not np.allclose(turned["gradient_max"], plain["gradient_max"])


def test_other_scorers_beside_it(plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    for number, choice in enumerate(CHOICES[::5]):
        settings = CONFIG.model_copy(update={"scorers": (choice,)})
        out = tmp_path / str(number)
        score_pool(pool_rows(IDS), MadeUpImages(IDS), ENSEMBLE, settings, out, height=HEIGHT, width=WIDTH)
        alone = np.stack(read_table(out / "scores", SCORES)[f"{choice.column}_per_class"].to_numpy())
        np.testing.assert_array_equal(alone, plain[choice.column])


def test_padding_takes_no_part(tmp_path: Path) -> None:
    """Members that look at single cells see the same in an image with and without padding below it."""
    members = [KnownMember(1.0), KnownMember(0.5), KnownMember(0.8, side=10.0)]
    half = HEIGHT // 2
    reader = MadeUpImages(IDS, size=(half, WIDTH))
    mixed = dict(zip(IDS, [(half, WIDTH), (HEIGHT, WIDTH)] * 7, strict=True))

    class Mixed(MadeUpImages):
        def read(self, image_id: str) -> np.ndarray:
            self.size = mixed[image_id]
            return super().read(image_id)

    without = scores(tmp_path / "a", members, reader=reader, height=half)
    assert_alike(scores(tmp_path / "b", members, reader=reader), without)
    beside_others = scores(tmp_path / "c", members, reader=Mixed(IDS))
    for column, per_class in without.items():
        np.testing.assert_allclose(beside_others[column][::2], per_class[::2], rtol=2e-4, atol=2e-5, err_msg=column)


def test_gradients_are_those_of_autograd_on_the_output_layer(tmp_path: Path) -> None:
    """∂ binary cross-entropy with the believed label / ∂ (weights, bias) of the real output layer, class by class."""
    member = ENSEMBLE[0]
    (batch,) = stream_images(IDS[:3], MadeUpImages(IDS), height=HEIGHT, width=WIDTH, batch_size=3, stage="test")
    found = scores(tmp_path, ids=IDS[:3])["gradient_total_whole"]
    shown = view([member], batch, ["gradient"], CONFIG).maps["gradient"].double()
    hidden = member(batch.pixels).hidden.double()
    layer = torch.nn.Conv2d(hidden.shape[1], len(CLASSES), 1).double()
    with torch.no_grad():
        layer.weight.copy_(member.model.output.weight[: len(CLASSES)])
        layer.bias.copy_(member.model.output.bias[: len(CLASSES)])
    for image in range(3):
        logits = layer(hidden[image].clone())
        believed = (logits > 0).double().detach()
        loss = F.binary_cross_entropy_with_logits(logits, believed, reduction="none")
        for c in range(len(CLASSES)):
            whole = torch.autograd.grad(loss[c].sum(), list(layer.parameters()), retain_graph=True)
            expected = torch.cat([g.flatten() for g in whole]).norm().item()
            assert found[image, c] == pytest.approx(expected, rel=1e-5)
            for y, x in ((0, 0), (3, 7), (15, 23), (8, 11)):
                here = torch.autograd.grad(loss[c, y, x], list(layer.parameters()), retain_graph=True)
                expected = torch.cat([g.flatten() for g in here]).norm().item()
                assert expected > 1e-4
                assert shown[image, c, y, x].item() == pytest.approx(expected, rel=1e-5)


def test_float32_is_what_members_trained_in_bf16_are_scored_in_on_request(tmp_path: Path) -> None:
    architecture = ENSEMBLE[0].architecture.model_copy(update={"bf16": "on"})
    rough = [Member(m.model, m.card.model_copy(update={"architecture": architecture})) for m in ENSEMBLE]
    in_float32 = scores(tmp_path / "c", float32="off")  # of members whose card says so
    assert_alike(scores(tmp_path / "a", rough, float32="on"), in_float32)
    blurred = scores(tmp_path / "b", rough, float32="off")
    assert not np.allclose(blurred["gradient_max"], in_float32["gradient_max"], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("first", "is_float32"),
    [("mutual_information max", False), ("entropy average", False), ("entropy max", True), ("margin sum", True)],
)
def test_what_bf16_would_rank_otherwise_is_scored_in_float32_by_itself(
    first: str, is_float32: bool, tmp_path: Path
) -> None:
    architecture = ENSEMBLE[0].architecture.model_copy(update={"bf16": "on"})
    rough = [Member(m.model, m.card.model_copy(update={"architecture": architecture})) for m in ENSEMBLE]
    scorer, aggregate = first.split()
    choices = (ScorerChoice(scorer=scorer, aggregate=aggregate), ScorerChoice(scorer="gradient"))
    found = []
    for members in (rough, ENSEMBLE):
        out = tmp_path / str(len(found))
        settings = CONFIG.model_copy(update={"scorers": choices})
        score_pool(pool_rows(IDS), MadeUpImages(IDS), members, settings, out, height=HEIGHT, width=WIDTH)
        found.append(read_table(out / "scores", SCORES)["gradient_max"].to_numpy())
    assert np.allclose(*found, rtol=1e-4, atol=0) == is_float32


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler here")
def test_compiled_members_see_the_same(plain: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Also in batches that are not full, which would otherwise be compiled again."""
    compiled = scores(tmp_path, compile=True, reader=MadeUpImages(IDS), batch_size=4)
    for column, per_class in plain.items():
        np.testing.assert_allclose(compiled[column], per_class, rtol=2e-3, atol=2e-3, err_msg=column)


def test_what_torch_cannot_compile_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_, **__):
        raise RuntimeError("Python.h: No such file or directory")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(ConfigError, match=r"cannot compile the detector here[\s\S]*Python.h[\s\S]*compile to false"):
        scores(tmp_path, compile=True)


def test_the_number_of_threads_changes_no_byte_of_any_score(tmp_path: Path) -> None:
    """Members that have not looked at anything yet: their dropout masks are made by the first thread that comes."""
    for workers in (1, 4):
        members = [untrained(seed) for seed in range(2)]
        out, settings = tmp_path / str(workers), CONFIG.model_copy(update={"batch_size": 2, "dropout_passes": 9})
        rows, images, threads = pool_rows(IDS), MadeUpImages(IDS), ThreadExecutor(workers)
        score_pool(rows, images, members, settings, out, height=HEIGHT, width=WIDTH, executor=threads)
    assert parts_bytes(tmp_path / "1") == parts_bytes(tmp_path / "4")


def test_the_scores_say_what_their_probabilities_are(tmp_path: Path) -> None:
    scores(tmp_path)
    metadata = read_table(tmp_path / "scores", SCORES).schema.metadata
    assert metadata[PROVENANCE_KEY] == b"sigmoid map, not calibrated"
    assert json.loads(metadata[CLASSES_KEY]) == list(CLASSES)
    fitted = untrained(7)
    card = fitted.card.model_copy(update={"calibration": Calibration(focus=2.0, biases=(0.0, 0.0), n_images=9)})
    mixed = gives_of([ENSEMBLE[0], Member(fitted.model, card)]).provenance
    assert mixed == "sigmoid map, not calibrated; sigmoid map, calibrated on held-back images"


def test_the_gradient_of_a_calibrated_member_is_that_at_its_calibrated_logit() -> None:
    """∂ BCE / ∂z times [h; 1] with z the calibrated logit, by autograd; the calibration's own slope is left out."""
    plain = ENSEMBLE[0]
    calibration = Calibration(focus=2.0, temperature=1.4, biases=(0.8, -0.5))
    member = Member(plain.model, plain.card.model_copy(update={"calibration": calibration}))
    (batch,) = stream_images(IDS[:2], MadeUpImages(IDS), height=HEIGHT, width=WIDTH, batch_size=2, stage="test")
    shown = view([member], batch, ["gradient"], CONFIG).maps["gradient"].double()
    output = member(batch.pixels)
    z = output.probabilities.clamp(1e-30, 1 - 1e-7).double().logit().requires_grad_()
    loss = F.binary_cross_entropy_with_logits(z, (z > 0).double().detach(), reduction="sum")
    (at_logit,) = torch.autograd.grad(loss, z)
    expected = at_logit.abs() * (output.hidden.double().square().sum(1, keepdim=True) + 1).sqrt()
    torch.testing.assert_close(shown, expected, rtol=1e-5, atol=1e-6)
