"""Encoders as files: the same numbers, and no file where they are not."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from export_case import REPO, TINY, runner_module
from torch import nn

from pe_dense.encoders.build import build_encoder
from pe_dense.export.adaptive_pool import PooledByProducts
from pe_dense.export.checkpoint_program import Wanted
from pe_dense.export.command import export_encoder
from pe_dense.export.map_programs import encoder_program
from pe_dense.export.program import Sizes, made_up_pictures
from pe_dense.export.writing import write_checked

pytest.importorskip("onnxruntime")
NAME = "pe_spatial_t16_512"


def tiny():
    torch.manual_seed(0)
    encoder = build_encoder(NAME, **{**TINY, "depth": 2}).eval().requires_grad_(False)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


SIZES = Sizes(48, 32)


def program(sizes=SIZES, layers=(0, -1)):
    facts = dict(encoder=NAME, format=2, input=dict(open_size=False, height=48, width=32))
    return encoder_program(tiny(), layers, sizes, facts)


def test_a_file_gives_what_the_encoder_gives(tmp_path):
    file = tmp_path / "folder" / "e.onnx"
    written = write_checked(program(), file)
    assert [path.name for path in file.parent.iterdir()] == ["e.onnx"]
    assert str(REPO).encode() not in file.read_bytes()  # no notes on where it was made
    assert written.operators["MatMul"] and not any("." in name for name in written.operators)
    picture = made_up_pictures(1, 48, 32, seed=5)[0].transpose(1, 2, 0).astype(np.uint8)
    found = runner_module().ExportedModel(file, threads=1)(picture)
    encoder = tiny()
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    expected = encoder.forward_intermediates((image - mean) / std, (0, 1))
    assert list(found) == ["layer_0", "layer_1"]
    for array, tensor in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(array, tensor[0].numpy(), atol=1e-4 * float(np.ptp(array)))
    with pytest.raises(ValueError, match="exists; add --overwrite"):
        write_checked(program(), file)


def test_a_file_that_differs_is_not_kept_and_an_old_one_stays(tmp_path):
    file = tmp_path / "e.onnx"
    file.write_text("old")
    with pytest.raises(ValueError, match="differs from torch by .* it was not kept"):
        write_checked(program(), file, limit=1e-12, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["e.onnx"]
    assert file.read_text() == "old"


def test_half_precision_differs_by_little_and_not_by_nothing(tmp_path):
    written = write_checked(program(), tmp_path / "e.onnx", precision="fp16")
    assert 1e-5 < max(trial.difference for trial in written.trials) < 1e-2
    num_parameters = sum(p.numel() for p in tiny().parameters())
    assert written.file.stat().st_size < 3 * num_parameters  # and not 4 bytes for each


def test_a_program_of_torch_takes_any_number_of_pictures(tmp_path):
    sizes = Sizes(32, 32, open_batch=True)
    written = write_checked(program(sizes), tmp_path / "e.pt2", "torch")
    assert [trial.shape for trial in written.trials] == [(2, 32, 32), (1, 32, 32)]
    extra = {"pe_dense.json": ""}
    module = torch.export.load(tmp_path / "e.pt2", extra_files=extra).module()
    assert module(torch.zeros(3, 3, 32, 32))[1].shape == (3, 32, 2, 2)
    assert json.loads(extra["pe_dense.json"])["layers"] == [0, 1]


class Strange(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, image):
        return (torch.linalg.matrix_exp(image[:, :, :8, :8]),)


def test_what_has_no_form_in_onnx_is_named(tmp_path):
    strange = dataclasses.replace(program(), module=Strange(tiny()), outputs=("x",))
    with pytest.raises(ValueError, match="operator aten.linalg_matrix_exp.* has no form in ONNX"):
        write_checked(strange, tmp_path / "e.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(layers=[1, -1]), "name block 1 twice"),
        (dict(layers=[9]), "outside an encoder of 2 blocks"),
    ],
    ids=["twice", "outside"],
)
def test_what_makes_no_sense_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        program(**arguments)


def test_an_export_for_any_size_begins_from_whole_patches():
    with pytest.raises(ValueError, match="30x32 is not a multiple of 16"):
        Sizes(30, 32, open_size=True, multiple=16)


def test_a_name_of_another_format_is_refused():
    with pytest.raises(ValueError, match="--out e.pt does not end in .onnx"):
        export_encoder(NAME, "random", [0], False, Wanted(size=(32, 32)), target=Path("e.pt"))


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (12, 18)])
@pytest.mark.parametrize("bins", [(1, 1), (2, 2), (3, 6)])
def test_pooling_by_products_is_adaptive_pooling(size, bins):
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = nn.functional.adaptive_avg_pool2d(maps, bins)
    torch.testing.assert_close(PooledByProducts(bins)(maps), expected)


def test_the_tool_says_what_is_missing():
    tool = str(REPO / "tools/export.py")
    done = subprocess.run([sys.executable, tool, "--out", "a.onnx"], capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr.strip() == "error: name a checkpoint, or an encoder with --encoder; one of both"
    )
