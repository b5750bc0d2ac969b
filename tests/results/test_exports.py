"""Exports read back by others' parsers: csv, yaml, and LaTeX checked by its own rules."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess

import pytest
import yaml
from page_case import many_records

from pe_dense.results.exports import (
    CSV_COLUMNS,
    latex_text,
    render_csv,
    render_latex,
    render_metafile,
)
from pe_dense.results.store import record_path


@pytest.fixture
def made(make_record, make_reported):
    return many_records(make_record, make_reported)


def test_csv_has_every_score_exactly(made):
    records, _ = made
    rows = list(csv.DictReader(io.StringIO(render_csv(records))))
    assert tuple(rows[0]) == CSV_COLUMNS
    found = {(row["path"], row["metric"]): float(row["score"]) for row in rows}
    expected = {
        (str(record_path(r)), metric): value for r in records for metric, value in r.scores.items()
    }
    assert found == expected
    with_interval = [row for row in rows if row["ci95_low"]]
    assert all(float(row["ci95_low"]) <= float(row["score"]) for row in with_interval)
    assert len(with_interval) == 32
    sizes = {(row["ci95_unit"], row["ci95_num_units"]) for row in with_interval}
    assert sizes == {("image", n) for n in ("5000", "2000", "654", "61")}
    reported = [row for row in rows if row["origin"] == "reported"]
    assert len(reported) == 4 and all(row["source"] and not row["commit"] for row in reported)


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1"])
def test_csv_starts_no_formula(make_record, text):
    record = make_record()
    encoder = dataclasses.replace(record.encoder, weights=text, weights_sha256="0" * 64)
    record = dataclasses.replace(record, encoder=encoder)
    [row, *_] = csv.DictReader(io.StringIO(render_csv([record]), newline=""))
    assert row["weights"] == f"'{text}"


def test_csv_of_nothing_has_a_header():
    assert render_csv([]) == ",".join(CSV_COLUMNS) + "\n"


def test_latex_bolds_the_best_group(made):
    text = render_latex(*made)
    tables = text.split(r"\begin{table}")[1:]
    (deta,) = [t for t in tables if "coco-deta" in t]
    bold = re.findall(r"^(\S+) & \$\\mathbf", deta, re.MULTILINE)
    assert bold == [r"pe\_spatial\_g14\_448", r"pe\_spatial\_b16\_512", r"pe\_spatial\_t16\_512"]
    assert r"coco-deta, version 1; 95 \% intervals over n = 5000 images}" in deta
    others = [t for t in tables if "coco-deta" not in t]
    assert all(t.count(r"\mathbf") == 1 for t in others)
    assert re.search(r"\$\\mathbf\{58\.4\}_\{\[57\.4,\\,59\.4\]\}\$", deta)
    assert deta.index(r"\midrule", deta.index("siglip2")) < deta.index("[arXiv:2504.13181]")


def test_latex_has_means_of_seeds(make_record):
    scores = enumerate((0.4, 0.6))
    text = render_latex([make_record({"seed": s, "scores": {"AP": v}}) for s, v in scores])
    assert text.count("pe\\_spatial") == 1 and r"$\mathbf{50.0}$" in text


def test_latex_is_balanced_and_escaped(made):
    text = render_latex(*made)
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 5
    assert not re.search(r"(?<!\\)_(?!\{)", text)
    for line in text.splitlines():
        if "&" in line:
            table = text[: text.index(line)].rsplit(r"\begin{tabular}{", 1)[1]
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            assert cells == len(table.split("}")[0])


def test_latex_text():
    assert latex_text(r"a_b & 50% #1 $x {y} \z ~^") == (
        r"a\_b \& 50\% \#1 \$x \{y\} \textbackslash{}z \textasciitilde{}\textasciicircum{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(made, tmp_path):
    head = r"\documentclass{article}\usepackage{booktabs}\begin{document}"
    (tmp_path / "t.tex").write_text(f"{head}{render_latex(*made)}\\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_metafiles_are_what_openmmlab_reads(make_record, make_reported):
    command = "python tools/train.py configs/detection/dino_pe_t16_bccd.py && python tools/test.py"
    depth = {"task": "depth", "protocol.id": "nyu", "protocol.metric": "rmse",
             "protocol.higher_is_better": False, "scores": {"rmse": 0.31249}}  # fmt: skip
    records = [make_record({"command": command}), make_record(depth), make_reported()]
    files = {name: yaml.safe_load(text) for name, text in render_metafile(records).items()}
    assert files["model-index.yml"] == {
        "Import": ["configs/depth/metafile.yml", "configs/detection/metafile.yml"]
    }
    (model,) = files["configs/detection/metafile.yml"]["Models"]
    (collection,) = files["configs/detection/metafile.yml"]["Collections"]
    assert model["In Collection"] == collection["Name"]
    assert model["Config"] == "configs/detection/dino_pe_t16_bccd.py"
    assert model["Results"] == [
        {"Task": "Detection", "Dataset": "BCCD test", "Metrics": {"AP": 45.12, "AP50": 80.0}}
    ]
    (model,) = files["configs/depth/metafile.yml"]["Models"]
    assert model["Results"][0]["Metrics"] == {"RMSE": 0.3125}
    assert model["Name"] == "pe_spatial_t16_512_random_nyu-v1.seed0"
