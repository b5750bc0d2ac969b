"""What is said of a row: one note for each thing that limits it, and none for what is fine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pe_dense.results import row_notes as row_notes_of
from pe_dense.results.encoder_rows import Findings, encoder_rows
from pe_dense.results.leaderboard import render_excerpt, render_markdown, render_terminal
from pe_dense.results.rank_groups import Rank
from pe_dense.results.row_notes import row_notes
from pe_dense.results.statistics import METHOD
from pe_dense.results.store import record_path
from pe_dense.results.tables import build_sections

READING = (Path(__file__).parents[2] / "docs/leaderboard.md").read_text()
SOUND = {"method": METHOD, "stretch": 1.0, "thin_classes": 0}
INTERVAL = {"low": 0.4, "high": 0.5, "unit": "image", "num_units": 72, "resamples": 1000, **SOUND}
UNCOUNTED = {"unit": None, "done": None, "planned": None, "rule": ""}
LAYERS = {
    "metric": "AP", "candidates": 12, "chosen": {"layer": "7"}, "best_minus_last": None,
    "best_minus_last_ci95": None,
    "at_edge": None, "rising": None,
}  # fmt: skip


@pytest.fixture
def make_record(make_record):
    """Records with evidence and an interval, as those of tools/test.py are."""
    whole = {"evidence": {"file": "a/random/x.npz", "sha256": "e" * 64}, "ci95": {"AP": [INTERVAL]}}
    return lambda changes=None: make_record({**whole, **(changes or {})})


def words(*records):
    (row,) = encoder_rows(records)
    return [note.words for note in row_notes(row)]


def test_a_sound_row_of_one_seed_says_only_that(make_record):
    assert words(make_record({"ci95": {"AP": [INTERVAL]}})) == ["one seed"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"training.chosen": "unfinished", "training.done": 3}, "unfinished at 3 of 8 epochs"),
        (
            {"training.chosen": "best on the scored split"},
            "checkpoint chosen on the scored split",
        ),
        ({"training.chosen": "best on held-out"}, "checkpoint chosen on held-out"),
        ({"training.rule": "test-best (paper-compat)"}, "test-best (paper-compat)"),
        (
            {"training": {**UNCOUNTED, "chosen": "not trained here"}},
            "not trained here",
        ),
        ({"training": None}, "training unknown"),
        ({"dataset.sha256": None}, "data hash unknown"),
        ({"evidence": None}, "no evidence"),
        ({"evidence": None, "ci95": None}, "no evidence"),
        ({"ci95": None}, "no interval"),
        (
            {"notes": "the scored files are not those of BCCD test as published (0123...)"},
            "other files than published",
        ),
        (
            {
                "notes": "encoder in bfloat16; held out: 279 of 2,975 training images (9.38 %), "
                "3 of 18 sequences; evaluated at commit abc"
            },
            "held out: 279 of 2,975 training images (9.38 %), 3 of 18 sequences",
        ),
        ({"options": {"amp": "bfloat16"}}, "amp bfloat16"),
        ({"blind": {"a map": 0.41, "a constant": 0.1}}, "not above blind"),
        (
            {
                "selection": {
                    **LAYERS,
                    "on": "holdout",
                    "at_edge": {"7": "lr 0.1, the largest of 3"},
                }
            },
            "learning rate at the edge",
        ),
        (
            {"selection": {**LAYERS, "on": "holdout", "rising": {"7": "AP 4, 2 at half"}}},
            "not trained to its end",
        ),
        ({"selection": {**LAYERS, "on": "test"}}, "layer chosen on the scored split"),
        ({"ci95": {"AP": [{**INTERVAL, "num_units": 29}]}}, "fewer than 30 images"),
        (
            {"ci95": {"AP": [{**INTERVAL, "thin_classes": 2}]}},
            "2 classes on fewer than 10 images",
        ),
        ({"ci95": {"AP": [{**INTERVAL, "method": None}]}}, "older interval"),
    ],
)
def test_what_limits_a_row_is_said_on_every_page(make_record, changes, expected):
    record = make_record(changes)
    found = words(record)
    assert expected in found and "one seed" in found and len(found) == 2
    for render in (render_markdown, render_terminal, render_excerpt):
        assert expected in render([record])
    assert expected not in render_markdown([make_record()])


def test_choices_on_held_out_data_are_no_note(make_record):
    alone = "held out: 2,021 of 20,210 training images (10.00 %), each for itself"
    held = {"selection": {**LAYERS, "on": "holdout"}, "notes": alone}
    assert words(make_record(held)) == ["one seed"]


def test_a_fault_of_one_seed_is_said_of_the_row(make_record):
    fine = make_record({"seed": 0, "scores": {"AP": 0.4}})
    late = make_record(
        {"seed": 1, "scores": {"AP": 0.5}, "training.chosen": "unfinished", "training.done": 3}
    )
    assert words(fine, late) == ["unfinished at 3 of 8 epochs", "mean of 2 seeds, 40.0 to 50.0"]


def test_reported_numbers_have_no_notes(make_reported):
    assert words(make_reported()) == []


@pytest.mark.parametrize(
    "note", [row_notes_of.ONE_SEED, row_notes_of.OLD_INTERVAL, row_notes_of.NOT_TRAINED_HERE,
             row_notes_of.TRAINING_UNKNOWN, row_notes_of.DATA_UNKNOWN, row_notes_of.ON_HELD_OUT]
)  # fmt: skip
def test_the_page_on_reading_knows_every_note(note):
    assert note.words in READING


def test_the_page_on_reading_knows_every_column(make_record, make_reported):
    records = [
        make_record({
            "seed": s, "scores": {"AP": 0.4}, "ci95": {"AP": [INTERVAL]},
            "selection": {**LAYERS, "on": "holdout"}, "encoder.weights": "w.pt",
            "encoder.weights_sha256": "a" * 64,
        })
        for s in range(2)
    ]  # fmt: skip
    rank = Rank("a", 0.4, 1, 1.0, 2, False)
    findings = Findings(ranks={str(record_path(records[0])): rank})
    (section,) = build_sections([*records, make_reported()], findings)
    header = set(section.tables[0].header) - {"Encoder", "Weights", "AP", "95 %"}
    assert header == {"Group", "vs reported", "Seeds", "Notes", "Chosen", "Train", "Commit", "Date"}
    assert all(name in READING for name in header)


@pytest.mark.parametrize("blind", [None, {}, {"a map": 0.39}, {"a map": 0.39, "another": 0.2}])
def test_what_clears_the_blind_line_says_nothing(make_record, blind):
    assert words(make_record({"blind": blind})) == ["one seed"]


@pytest.mark.parametrize("forged", [None, {}, {"a map": 0.01}, {"another map": 0.01}])
def test_no_record_has_a_lower_blind_line_than_the_others(make_record, forged):
    own = make_record({"blind": forged})
    other = make_record({"encoder.name": "other_encoder", "blind": {"a map": 0.41}})
    rows = encoder_rows([own, other])
    assert [row.blind.score for row in rows] == [0.41, 0.41]
    assert all("not above blind" in [n.words for n in row_notes(row)] for row in rows)


def test_errors_clear_the_blind_line_from_below(make_record):
    depth = {
        "protocol.metric": "rmse",
        "protocol.higher_is_better": False,
        "scores": {"rmse": 0.45},
    }
    depth |= {"ci95": {"rmse": [INTERVAL]}}
    assert words(make_record({**depth, "blind": {"mean map": 0.51}})) == ["one seed"]
    assert "not above blind" in words(make_record({**depth, "blind": {"mean map": 0.49}}))
