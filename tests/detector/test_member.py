import json

import pytest
import torch

from poolscout.config import DetectorConfig
from poolscout.detector.calibration import Calibration, no_calibration
from poolscout.detector.io import load_member, member_files, save_member
from poolscout.detector.member import Member, MemberCard, use_bf16
from poolscout.detector.model import UNet
from poolscout.errors import CorruptPartError, TableError

SMALL = DetectorConfig(height=64, width=96, stem=8, widths=(8, 12, 16, 24), neck=16, bf16="off")
IMAGES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_member(
    config: DetectorConfig = SMALL, calibration: Calibration | None = None, seed: int = 0, loud: bool = False
) -> Member:
    """An untrained member; `loud`: with weights so large that its maps depend on what it sees."""
    torch.manual_seed(seed)
    model = UNet(3, config)
    torch.nn.init.normal_(model.output.weight, std=0.5)
    if loud:
        for lateral in model.laterals:
            torch.nn.init.normal_(lateral.weight, std=5.0)
        torch.nn.init.zeros_(model.output.bias)
    model.train()(torch.rand(4, 3, 64, 96))  # batch statistics that are not 0 and 1
    calibration = calibration or no_calibration(3, focus=2.0)
    card = MemberCard(
        architecture=config, classes=("a", "b", "c"), calibration=calibration, seed=seed, training={"steps": 7}
    )
    return Member(model, card)


def test_output_is_the_plain_model_calibrated():
    calibration = Calibration(focus=2.0, temperature=1.5, biases=(0.1, -0.2, 0.3))
    member = make_member(calibration=calibration)
    plain = member.model(IMAGES.float() / 255)  # batch norm not folded
    output = member(IMAGES)
    assert torch.allclose(output.probabilities, calibration.apply(plain.logits), atol=1e-4)
    assert torch.allclose(output.box_parameters, plain.boxes, atol=1e-3)
    assert torch.allclose(output.hidden, plain.hidden, atol=1e-3)
    assert torch.allclose(output.features, plain.features, atol=1e-4)
    assert output.probabilities.dtype == torch.float32
    assert output.features.dtype == torch.float32


def test_provenance_says_whether_it_is_calibrated():
    assert make_member().provenance == "sigmoid map, not calibrated"
    fitted = Calibration(focus=2.0, biases=(0.1, -0.2, 0.3), n_images=7)
    assert make_member(calibration=fitted).provenance == "sigmoid map, calibrated on held-back images"


def test_dropout_passes_are_the_same_for_every_image_and_differ_among_each_other():
    member = make_member(SMALL.model_copy(update={"dropout": 0.3}), loud=True)
    both = list(member.dropout_maps(member(IMAGES).encoding, 4))
    alone = list(member.dropout_maps(member(IMAGES[1:]).encoding, 4))
    both, alone = [p for p, _ in both], [p for p, _ in alone]
    for p, q in zip(both, alone, strict=True):
        assert torch.allclose(p[1:], q, atol=1e-5)
    assert all(not torch.allclose(both[i], both[j], atol=1e-3) for i in range(4) for j in range(i))
    assert all((p >= 0).all() and (p <= 1).all() for p in both)


def test_dropout_passes_scatter_around_the_member_without_dropout():
    member = make_member(SMALL.model_copy(update={"dropout": 0.05}), loud=True)
    output = member(IMAGES)
    passes = torch.stack([p for p, _ in member.dropout_maps(output.encoding, 200)])
    off = (passes.mean(0) - output.probabilities).abs().mean()
    assert off < 0.3 * passes.std(0).mean()


def test_an_image_does_not_depend_on_its_batch():
    member = make_member()
    both, alone = member(IMAGES), member(IMAGES[1:])
    assert torch.allclose(both.probabilities[1:], alone.probabilities, atol=1e-5)


def test_bfloat16_is_close_to_float32_and_its_probabilities_are_not_quantised():
    exact, rough = make_member()(IMAGES), make_member(SMALL.model_copy(update={"bf16": "on"}))(IMAGES)
    assert rough.probabilities.dtype == torch.float32
    assert not torch.equal(exact.probabilities, rough.probabilities)
    assert torch.allclose(exact.probabilities, rough.probabilities, atol=0.1)
    assert not torch.equal(rough.probabilities, rough.probabilities.bfloat16().float())


def test_bf16_choice():
    assert use_bf16("on", torch.device("cpu")) is True
    assert use_bf16("off", torch.device("cpu")) is False


def test_saved_and_loaded_is_the_same_member(tmp_path):
    member = make_member()
    save_member(tmp_path / "models" / "member-0", member)
    loaded = load_member(tmp_path / "models" / "member-0")
    assert loaded.card == member.card
    for a, b in zip(member(IMAGES)[2:5], loaded(IMAGES)[2:5], strict=True):
        assert torch.equal(a, b)
    assert torch.equal(member(IMAGES).probabilities, loaded(IMAGES).probabilities)
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["member-0.json", "member-0.safetensors"]


def test_same_member_same_bytes(tmp_path):
    for name in ("x", "y"):
        save_member(tmp_path / name, make_member())
    for x, y in zip(member_files(tmp_path / "x"), member_files(tmp_path / "y"), strict=True):
        assert x.read_bytes() == y.read_bytes()


def test_unknown_format_version_is_refused(tmp_path):
    save_member(tmp_path / "m", make_member())
    card = tmp_path / "m.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format_version": 99}))
    with pytest.raises(TableError, match=r"(?s)m\.json: unknown format version.*got:\s+99.*expected: 1.*fix:"):
        load_member(tmp_path / "m")


def test_a_missing_file_is_named(tmp_path):
    save_member(tmp_path / "m", make_member())
    (tmp_path / "m.safetensors").unlink()
    with pytest.raises(TableError, match=r"m\.safetensors: no such file"):
        load_member(tmp_path / "m")


def test_cut_off_weights_are_refused(tmp_path):
    save_member(tmp_path / "m", make_member())
    weights = tmp_path / "m.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CorruptPartError, match=r"m\.safetensors: not the weights that m\.json describes"):
        load_member(tmp_path / "m")


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_member(tmp_path / "m", make_member())
    save_member(tmp_path / "n", make_member(SMALL.model_copy(update={"neck": 24})))
    (tmp_path / "n.safetensors").replace(tmp_path / "m.safetensors")
    with pytest.raises(CorruptPartError, match="not the weights"):
        load_member(tmp_path / "m")


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_json_that_is_no_member_is_refused(tmp_path, text):
    save_member(tmp_path / "m", make_member())
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(CorruptPartError, match=r"m\.json: not a member's json"):
        load_member(tmp_path / "m")


def test_a_wrong_field_is_named(tmp_path):
    save_member(tmp_path / "m", make_member())
    card = tmp_path / "m.json"
    values = json.loads(card.read_text())
    values["architecture"]["stride"] = 5
    card.write_text(json.dumps(values))
    with pytest.raises(CorruptPartError, match=r"m\.json: architecture\.stride is wrong"):
        load_member(tmp_path / "m")


def test_a_card_of_before_compiling_became_a_matter_of_scoring_is_read(tmp_path):
    save_member(tmp_path / "m", make_member())
    card = tmp_path / "m.json"
    values = json.loads(card.read_text())
    values["architecture"]["compile"] = True
    card.write_text(json.dumps(values))
    assert load_member(tmp_path / "m").card == make_member().card
