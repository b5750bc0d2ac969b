"""Curves over layers: what is put together, what is marked, what is drawn."""

from __future__ import annotations

import dataclasses

import pytest

from pe_dense.results.record import ProtocolInfo, Selection
from pe_dense.results.store import load_records
from pe_dense.suites import plan
from pe_dense.suites.layer_curves import (
    LayerScore,
    layer_curves,
    markdown_table,
    write_layer_curves,
)

METRIC = {"segmentation": ("mIoU", True), "depth": ("rmse", False)}


@pytest.fixture(scope="module")
def published():
    return next(r for r in load_records("benchmarks/records") if r.protocol.id == "mini-depth")


def record_of(published, task, scores, suffix="", chosen=None, on="holdout"):
    metric, higher = METRIC[task]
    selection = None if chosen is None else Selection(on, metric, 9, {"layer": chosen})
    return dataclasses.replace(
        published,
        task=task,
        protocol=ProtocolInfo(f"mini-{task}-probe{suffix}", 1, metric, higher, "0" * 64),
        scores={metric: next(iter(scores.values()))},
        ci95=None,
        by_layer={metric: scores},
        selection=selection,
    )


def test_records_of_single_layers_make_one_curve(published):
    records = [
        record_of(published, "segmentation", {str(i): 0.1 * i}, f".mod-{i:08d}") for i in (1, 3, 2)
    ]
    (curve,) = layer_curves(records)
    assert {i: s.mean for i, s in curve.layers.items()} == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3})
    assert (curve.best, curve.last, curve.chosen) == (3, 3, None)
    assert curve.protocol == "mini-segmentation-probe-v1"


def test_errors_are_best_where_they_are_low_and_seeds_are_averaged(published):
    records = [
        record_of(published, "depth", {"0": 1.0, "1": low, "2": 0.9}, chosen="1")
        for low in (0.4, 0.6)
    ]
    (curve,) = layer_curves(records)
    assert (curve.best, curve.chosen, curve.seeds) == (1, "1", 2)
    assert curve.layers[1] == LayerScore(0.5, 0.4, 0.6, 2)
    row = markdown_table([curve]).splitlines()[-1]
    assert "0.500 (1; 0.400 to 0.600) on holdout | 0.500 (1; 0.400 to 0.600) | " in row
    assert "| 0.900 (2; 0.900 to 0.900) | -0.400 |" in row


def test_concatenations_are_told_but_are_no_point_of_the_curve(published):
    scores = [{"0": 0.2, "1": 0.3, "0+1": joined} for joined in (0.4, 0.44)]
    records = [record_of(published, "segmentation", s, chosen="0+1") for s in scores]
    (curve,) = layer_curves(records)
    assert list(curve.layers) == [0, 1] and (curve.best, curve.marked) == (1, 1)
    assert curve.joined["0+1"] == LayerScore(pytest.approx(0.42), 0.4, 0.44, 2)
    assert "| 2 | mIoU | 42.0 (0+1; 40.0 to 44.0) on holdout | " in markdown_table([curve])


def test_other_weights_of_an_encoder_are_another_curve(published):
    other = dataclasses.replace(
        published.encoder, weights="own.pt", weights_sha256="abcdef12" + "0" * 56
    )
    first = record_of(published, "depth", {"0": 1.0, "1": 0.5})
    second = dataclasses.replace(record_of(published, "depth", {"0": 2.0, "1": 1.5}), encoder=other)
    own, random = layer_curves([first, second])
    assert own.encoder.endswith("(abcdef12)") and random.encoder.endswith("(random)")
    assert own.seeds == random.seeds == 1 and own.layers[0].mean == 2.0


def test_figure_and_table_are_written_and_repeat(published, tmp_path):
    records = [
        record_of(published, "segmentation", {"0": 0.2, "1": 0.3, "1+0": 0.4}, chosen="1+0"),
        record_of(published, "depth", {"0": 1.2, "1": 0.9}),
    ]
    curves = layer_curves(records)
    assert curves[1].chosen == "1+0" and curves[1].marked == 1  # it is no single layer
    assert "40.0 (1+0) on holdout |" in markdown_table(curves)
    first = [path.read_bytes() for path in write_layer_curves(curves, tmp_path / "a" / "layers")]
    assert first[0].startswith(b"\x89PNG") and b"<svg" in first[1] and b"| depth |" in first[2]


def test_nothing_to_draw_says_what_to_run(published):
    plain = dataclasses.replace(published, by_layer=None)
    assert layer_curves([plain]) == []
    with pytest.raises(ValueError, match="--suite layers"):
        markdown_table([])


def test_a_suite_repeats_a_run_for_layers_of_any_depth():
    suite = plan.load_suite("layers")
    assert suite.layer_curves
    jobs = plan.make_jobs(suite, ["pe_spatial_b16_512", "pe_spatial_l14_448"], ["detection"])
    layers = {
        encoder: [dict(job.options)["layer"] for job in jobs if job.encoder == encoder]
        for encoder in ("pe_spatial_b16_512", "pe_spatial_l14_448")
    }
    assert list(layers.values()) == [[1, 3, 5, 7, 9, 11], [3, 7, 11, 15, 19, 23]]
    assert len({job.work_dir for job in jobs}) == 12


def test_layers_for_a_config_without_a_layer():
    suite = plan.load_suite("mini")
    run = {**suite.runs[0], "layers": 3}
    with pytest.raises(ValueError, match="has no 'layer'"):
        plan.make_jobs(dataclasses.replace(suite, runs=(run,)), ["pe_spatial_t16_512"])


def test_curves_of_heads_at_an_edge_are_told_apart(published):
    record = record_of(published, "segmentation", {str(i): 0.1 for i in range(8)}, chosen="1")
    words = "lr 0.01, the largest of 3"
    for layers, is_converged in (((), True), (("3",), True), (("3", "0", "0+1"), False)):
        selection = dataclasses.replace(record.selection, at_edge=dict.fromkeys(layers, words))
        (curve,) = layer_curves([dataclasses.replace(record, selection=selection)])
        assert curve.is_converged == is_converged
    assert curve.at_edge == ("0", "3") and "2 of 8 layers (0, 3) have" in curve.unfinished_in_words


def test_curves_of_heads_that_a_longer_training_would_raise_are_told_apart(published):
    record = record_of(published, "segmentation", {str(i): 0.1 for i in range(8)}, chosen="1")
    edge, rises = {"3": "lr 0.01, the largest of 3"}, "mIoU 10.0, 8.0 after a training half as long"
    for layers, is_converged in (((), True), (("3", "0+1"), True), (("5",), False)):
        selection = dataclasses.replace(
            record.selection, at_edge=edge, rising=dict.fromkeys(layers, rises)
        )
        (curve,) = layer_curves([dataclasses.replace(record, selection=selection)])
        assert curve.is_converged == is_converged
    assert "1 of 8 layers (5) gained" in curve.unfinished_in_words


def test_the_line_without_the_picture_is_drawn(published, tmp_path):
    scores = {"0": 0.2, "1": 0.3}
    record = record_of(published, "segmentation", scores, chosen="1")
    blind = {"mean map": 0.25, "most frequent class": 0.03}
    (curve,) = layer_curves([dataclasses.replace(record, blind=blind)])
    assert curve.blind == 0.25
    write_layer_curves([curve], tmp_path / "layers")
    assert "without the picture" in (tmp_path / "layers.svg").read_text()
    write_layer_curves(layer_curves([record]), tmp_path / "none")
    assert "without the picture" not in (tmp_path / "none.svg").read_text()
