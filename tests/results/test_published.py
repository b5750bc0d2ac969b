"""What the repository publishes agrees with its records."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pe_dense.encoders.zoo import ENCODERS, licences_in_words
from pe_dense.results import pages
from pe_dense.results.comparison import evidence_of
from pe_dense.results.store import find_problems, load_records, save_record

ROOT = Path(__file__).resolve().parents[2]
STORE = Path("benchmarks/records")
RECORDS = load_records(ROOT / STORE)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_pages_are_what_the_records_give() -> None:
    assert pages.outdated(STORE, licences_in_words()) == [], "run python tools/leaderboard.py build"


def test_pages_name_the_licence_of_every_encoder_of_the_zoo() -> None:
    """Non-commercial ones are marked; names that no zoo row has are left out."""
    shown = {record.encoder.name for record in pages.load_all(STORE)} & set(ENCODERS)
    assert {"mae_l16", "eupe_b16", "sam3_l14_1008", "clip_l14"} <= shown
    markdown = (ROOT / "benchmarks/LEADERBOARD.md").read_text(encoding="utf-8")
    html = (ROOT / "benchmarks/leaderboard.html").read_text(encoding="utf-8")
    listed = markdown.partition("## Licences of released weights\n\n")[2].strip().splitlines()
    found = {}
    for line in listed:
        licence, _, names = line.removeprefix("- ").rpartition(": ")
        found |= dict.fromkeys(names.split(", "), licence)
        assert f"<li>{licence}: {names}</li>" in html
    assert found == {name: licences_in_words()[name] for name in shown}
    assert found["mae_l16"].endswith(", non-commercial")
    assert found["sam3_l14_1008"] == "SAM License"


def test_nothing_that_is_published_is_refused() -> None:
    assert pages.open_store(STORE).problems == []


def test_published_seeds_have_curves_and_gaps_of_their_own() -> None:
    for task in ("depth", "segmentation"):
        seeds = [r for r in RECORDS if r.protocol.id == f"mini-{task}-probe"]
        metric = seeds[0].protocol.metric
        assert [r.seed for r in seeds] == [0, 1, 2]
        assert len({str(r.by_layer) for r in seeds}) == len({str(r.selection) for r in seeds}) == 3
        for record in seeds:
            curve = record.by_layer[metric]
            assert curve["8+9+10+11"] == record.scores[metric] and len(curve) == 13
            gap = record.scores[metric] - curve["11"]
            assert record.selection.best_minus_last == pytest.approx(gap)


def test_readme_states_the_recorded_scores() -> None:
    readme = (ROOT / "README.md").read_text()
    (record,) = [r for r in RECORDS if r.protocol.id == "bccd-detection-scratch"]
    interval = record.ci95["AP"][0]
    for value in (record.scores["AP"], record.scores["AP50"], interval.low, interval.high):
        assert f"{100 * value:.1f}" in readme, value


def test_records_and_their_evidence_are_whole() -> None:
    assert find_problems(STORE) == []


def test_every_number_is_what_its_evidence_gives() -> None:
    store = pages.open_store(STORE)
    assert store.problems == [] and len(store.records) == len(RECORDS)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r.encoder.name}-{r.protocol.id}")
def test_every_published_record_can_be_trusted(record) -> None:
    assert not record.code.dirty and record.code.commit != "unknown"
    evidence = evidence_of(record, STORE)  # gives the score of the record, or raises
    assert set(record.ci95) >= {record.protocol.metric}
    if record.task != "tracking":  # items are objects there
        assert evidence.num_items == record.dataset.num_items


def test_what_is_checked_does_not_depend_on_where_it_is_called(tmp_path, monkeypatch) -> None:
    """From another folder the list of protocols and the numbers of papers are found as well."""
    monkeypatch.chdir(tmp_path)
    assert pages.is_published(ROOT / STORE)
    assert pages.outdated(ROOT / STORE, licences_in_words()) == []
    (record,) = [r for r in RECORDS if r.protocol.id == "mini-vos-layers"]
    own = tmp_path / "records"
    assert record.evidence is not None
    evidence = (ROOT / STORE / record.evidence.file).read_bytes()
    forged = dataclasses.replace(record.dataset, split="train")
    save_record(dataclasses.replace(record, dataset=forged, evidence=None), own, evidence=evidence)
    (problem,) = pages.open_store(own).problems
    assert "'dataset.split' is 'train', but protocol mini-vos-layers-v1 has 'val'" in problem
