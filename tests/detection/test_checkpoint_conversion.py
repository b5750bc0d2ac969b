"""Every layout into every other and back, bit for bit; refusals; files; the tool."""

import argparse
import os
import runpy
import sys
from itertools import permutations
from pathlib import Path

import pytest
import torch
from deta_case import load_arrays
from safetensors.torch import load_file
from test_deta_layout import golden_state, synthetic_g
from vitdet_case import blank, official_vitdet, small_vitdet

from pe_dense.detection.checkpoint_conversion import LAYOUTS, convert, find_layout
from pe_dense.detection.checkpoint_files import convert_file, write_checkpoint
from pe_dense.detection.deta_layout import deta_from_official
from pe_dense.detection.vitdet_layout import vitdet_from_official
from pe_dense.encoders.conversion import official_to_timm
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.run.checkpoint import load_checkpoint_safely

REPO = Path(__file__).resolve().parents[2]
SPATIAL = dict(
    patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_hidden=40, image_size=16, cls_token=True
)
TOWERS = {
    "spatial": SPATIAL,
    "core": dict(SPATIAL, pool_heads=2, output_dim=12),
    "detection": dict(SPATIAL, cls_token=False, layer_scale=0.1),
}


def tower(kind):
    torch.manual_seed(0)
    encoder = PerceptionEncoder(**TOWERS[kind])
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    return encoder.state_dict()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype and torch.equal(found[key], value), key


@pytest.fixture(scope="module")
def deta():
    """The small official DETA, aliases included."""
    return golden_state(load_arrays())


@pytest.fixture(scope="module")
def vitdet():
    return small_vitdet(tables=False)


# Encoders


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize(("first", "second"), permutations(LAYOUTS, 2))
def test_encoders_go_there_and_back(kind, first, second):
    start = convert(tower(kind), first).state
    assert find_layout(start).layout == first
    there = convert(start, second).state
    assert find_layout(there).layout == second
    assert_equal(convert(there, first).state, start)
    assert_equal(convert(there, "official").state, tower(kind))


def test_names_of_encoders():
    state = tower("detection")
    for target, prefix in {
        "detectron2": "backbone.net.", "deta": "backbone.0.body.", "ours": "backbone.encoder.",
    }.items():  # fmt: skip
        found = convert(state, target).state
        assert found.keys() == {prefix + key for key in state}
        shape = found[prefix + "positional_embedding"].shape
        assert shape == ((16, 16) if target == "ours" else (1, 16, 16))
    assert_equal(convert(state, "timm").state, official_to_timm(state))


def test_low_precision_is_kept():
    state = {key: value.bfloat16() for key, value in tower("core").items()}
    assert_equal(convert(convert(state, "timm").state, "official").state, state)


def test_wrappers_and_text_towers_are_taken_off():
    state = tower("core")
    clip = {f"visual.{key}": value for key, value in state.items()}
    clip |= {"logit_scale": torch.ones(1), "transformer.resblocks.0.ln_1.weight": torch.ones(3)}
    found = convert(clip, "official")
    assert_equal(found.state, state)
    assert "whatever lies beside the encoder is left out" in found.notes
    wrapped = {f"module.{key}": value for key, value in state.items()}
    assert_equal(convert(wrapped, "official").state, state)


def test_notes_say_what_an_official_tower_would_not_do():
    notes = " ".join(convert(tower("core"), "detectron2").notes)
    assert "patch is 4 px" in notes and "pretrain_use_cls_token" in notes
    assert "bias" in " ".join(convert(tower("core"), "timm").notes)


# Detectors


def test_deta_there_and_back(deta):
    ours = convert(deta, "ours")
    assert_equal(ours.state, deta_from_official(deta))
    assert "a DETA" in ours.found and "12 classes" in ours.found
    assert_equal(convert(ours.state, "deta").state, deta)
    assert_equal(convert(ours.state, "ours").state, ours.state)


def test_vitdet_there_and_back(vitdet):
    ours = convert(vitdet, "ours")
    assert_equal(ours.state, vitdet_from_official(vitdet))
    assert_equal(convert(ours.state, "detectron2").state, vitdet)


def test_tables_are_left_out_and_the_canvas_is_said():
    official = small_vitdet(canvas=1024)
    found = convert(official, "detectron2")
    assert_equal(found.state, {k: v for k, v in official.items() if "freqs_" not in k})
    assert "canvas 1024 px" in found.found


@pytest.mark.parametrize("make", [synthetic_g, lambda: official_vitdet(blank)])
def test_g_of_full_size_is_whole(make):
    state = make()
    ours = convert(state, "ours")
    assert "width 1536, 50 blocks" in ours.found
    back = convert(ours.state, "deta" if "level_embed" in ours.state else "detectron2")
    tables = {key for key in state if key.endswith(("freqs_cos", "freqs_sin"))}
    assert len(tables) == 104
    assert {k: v.shape for k, v in back.state.items()} == {
        k: v.shape for k, v in state.items() if k not in tables
    }


@pytest.mark.parametrize("target", LAYOUTS)
def test_the_encoder_of_a_detector(deta, vitdet, target):
    for state, prefix in ((deta, "backbone.0.body."), (vitdet, "backbone.net.")):
        found = convert(state, target, encoder_only=True).state
        encoder = {
            k.removeprefix(prefix): v
            for k, v in state.items()
            if k.startswith(prefix) and "fpn1" not in k
        }
        encoder["positional_embedding"] = encoder["positional_embedding"][0]
        assert_equal(convert(found, "official").state, encoder)
        assert find_layout(found).detector is None


@pytest.mark.parametrize("target", ["official", "timm", "detectron2"])
def test_what_cannot_be_expressed_is_refused(deta, target):
    with pytest.raises(ValueError, match=f"a DETA, of which layout {target} .*--encoder-only"):
        convert(deta, target)


def test_a_vitdet_is_no_deta(vitdet):
    with pytest.raises(ValueError, match="a ViTDet, of which layout deta .*--encoder-only"):
        convert(vitdet, "deta")


def test_other_detectors_keep_our_layout():
    state = convert(tower("spatial"), "ours").state | {"bbox_head.weight": torch.ones(2)}
    assert_equal(convert(state, "ours").state, state)
    with pytest.raises(ValueError, match="another detector, of which layout detectron2"):
        convert(state, "detectron2")
    assert_equal(convert(state, "official", encoder_only=True).state, tower("spatial"))


def test_class_rows(deta):
    large = synthetic_g()
    small = convert(large, "ours", num_classes=80).state
    assert small["bbox_head.cls_branches.3.weight"].shape == (80, 256)
    back = convert(small, "deta", num_classes=91)
    assert back.state["class_embed.3.weight"].shape == (91, 256)
    assert any("80 classes" in note for note in convert(large, "ours").notes)
    assert any("--num-classes 91" in note for note in convert(small, "deta").notes)
    with pytest.raises(ValueError, match="12 classes, not 91"):
        convert(deta, "ours", num_classes=80)
    with pytest.raises(ValueError, match="leave --num-classes out"):
        convert(tower("core"), "timm", num_classes=80)


# Bad input


def test_incomplete_and_foreign_parts_are_listed(deta, vitdet):
    without = {k: v for k, v in deta.items() if "decoder.layers.1.norm2" not in k}
    with pytest.raises(ValueError, match=r"looks like deta, a DETA.*missing: decoder\.layers\.1"):
        convert(without, "ours")
    with pytest.raises(ValueError, match=r"unexpected: roi_heads\.more"):
        convert(vitdet | {"roi_heads.more": torch.ones(1)}, "ours")
    half = tower("core")
    del half["transformer.resblocks.1.mlp.c_fc.bias"]
    with pytest.raises(ValueError, match=r"missing: transformer\.resblocks\.1\.mlp\.c_fc\.bias"):
        convert(half, "timm")


def test_files_without_a_pe_tower_are_refused():
    with pytest.raises(ValueError, match="no PE vision tower"):
        convert({"backbone.conv1.weight": torch.ones(1)}, "ours")


def test_two_towers_need_a_choice():
    both = tower("spatial") | convert(tower("core"), "ours").state
    with pytest.raises(ValueError, match=r"several layouts \(official, ours\); choose .*--from"):
        convert(both, "timm")
    found = convert(both, "official", source="ours", encoder_only=True)
    assert_equal(found.state, tower("core"))
    assert_equal(convert(both, "official", source="official").state, tower("spatial"))
    with pytest.raises(ValueError, match="not of layout timm, but official and ours"):
        convert(both, "official", source="timm")
    twins = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in tower("core").items()}
    with pytest.raises(ValueError, match="2 towers .*save one alone"):
        convert(twins, "timm")


# Files


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files_of_every_suffix(tmp_path, deta, suffix):
    source = tmp_path / "official.pth"
    torch.save({"model": deta, "epoch": 1}, source)
    ours, back = tmp_path / f"ours{suffix}", tmp_path / f"new/back{suffix}"
    convert_file(str(source), ours, "ours")
    convert_file(str(ours), back, "deta")
    stored = load_file(back) if suffix == ".safetensors" else torch.load(back)["model"]
    assert_equal(stored, deta)
    expected = load_file(ours) if suffix == ".safetensors" else torch.load(ours)["state_dict"]
    assert_equal(load_checkpoint_safely(str(ours))["state_dict"], expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["new", ours.name, "official.pth"])


def test_files_have_the_usual_mode(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    for name in ("a.pth", "a.safetensors"):
        write_checkpoint({"a": torch.ones(2)}, tmp_path / name, "official")
        assert (tmp_path / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_views_do_not_carry_their_storage(tmp_path):
    large = torch.zeros(1000, 1000)
    write_checkpoint({"a": large[:1], "b": blank(3, 2)}, tmp_path / "a.pth", "official")
    assert (tmp_path / "a.pth").stat().st_size < 10_000


def test_existing_files_are_not_overwritten_unasked(tmp_path):
    source, target = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(tower("core"), source)
    target.write_bytes(b"precious")
    with pytest.raises(ValueError, match="exists already; pass --overwrite"):
        convert_file(str(source), target, "timm")
    assert target.read_bytes() == b"precious"
    convert_file(str(source), target, "timm", overwrite=True)
    assert_equal(torch.load(target), official_to_timm(tower("core")))
    convert_file(str(source), source, "timm", overwrite=True)  # onto itself
    assert_equal(torch.load(source), official_to_timm(tower("core")))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, suffix):
    target = tmp_path / f"b{suffix}"
    target.write_bytes(b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tower("core"), target, "official")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "message"), [("a.bin", r"must end in \.pth"), ("folder.pth", "is a folder")]
)
def test_targets_that_are_no_files(tmp_path, name, message):
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ValueError, match=message):
        convert_file("missing.pth", tmp_path / name, "timm")


def test_a_missing_source_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"missing\.pth does not exist"):
        convert_file("missing.pth", tmp_path / "a.pth", "timm")


def test_facts_of_training_stay_in_our_files(tmp_path, deta):
    facts = {"encoder": "pe_spatial_g14_448", "seed": 3, "weights": {"source": "random"}}
    source = tmp_path / "epoch_1.pth"
    content = {"state_dict": deta_from_official(deta), "meta": {"pe_dense": facts, "epoch": 1}}
    torch.save(content | {"optimizer": {"state": {}}}, source)
    convert_file(str(source), tmp_path / "small.pth", "ours")
    found = torch.load(tmp_path / "small.pth")
    assert found.keys() == {"state_dict", "meta"} and found["meta"] == {"pe_dense": facts}
    notes = convert_file(str(source), tmp_path / "small.safetensors", "ours").notes
    assert any("use .pth" in note for note in notes)
    convert_file(str(source), tmp_path / "deta.pth", "deta")
    assert torch.load(tmp_path / "deta.pth").keys() == {"model"}


# The tool


def run_tool(monkeypatch, *arguments):
    tool = REPO / "tools/convert_weights.py"
    monkeypatch.setattr(sys, "argv", [str(tool), *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(tool), run_name="__main__")
    return left.value.code


def test_the_tool_says_what_it_found_and_wrote(tmp_path, monkeypatch, capsys, deta):
    source, target = tmp_path / "official.pth", tmp_path / "encoder.safetensors"
    torch.save({"model": deta, "args": argparse.Namespace(lr=1)}, source)
    assert run_tool(monkeypatch, source, target, "--to", "timm", "--encoder-only") == 0
    printed = capsys.readouterr().out
    assert f"{source}: deta, a DETA (width 64, 4 blocks" in printed.splitlines()[0]
    assert "  note: whatever lies beside the encoder is left out" in printed
    assert f"{target}: timm, an encoder alone, 60 tensors, 0.7 MB" in printed


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--to", "timm"], "add --encoder-only"),
        (["--to", "nothing"], "invalid choice: 'nothing'"),
        (["--to", "ours", "--num-classes", "80"], "12 classes, not 91"),
        (["--to", "ours", "--from", "timm"], "not of layout timm, but deta"),
    ],
)
def test_the_tool_refuses_in_one_sentence(tmp_path, monkeypatch, capsys, deta, options, sentence):
    source, target = tmp_path / "official.pth", tmp_path / "x.pth"
    torch.save({"model": deta}, source)
    assert run_tool(monkeypatch, source, target, *options) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("error: ") and sentence in printed and "\n" not in printed
    assert not target.exists()


def test_the_tool_offers_every_layout():
    assert runpy.run_path(str(REPO / "tools/convert_weights.py"))["LAYOUTS"] == LAYOUTS
