"""Evidence beside records: written first, checked, replaced together."""

from __future__ import annotations

import dataclasses

import pytest

from pe_dense.results.record import record_to_json
from pe_dense.results.store import (
    LOCK,
    evidence_path,
    find_problems,
    find_record,
    load_records,
    record_path,
    remove_leftovers,
    save_record,
)

STEM = "pe_spatial_t16_512/random/bccd-detection-scratch-v1.seed0"


def files(root) -> list[str]:
    found = (file for file in root.rglob("*") if file.is_file() and file.name != LOCK)
    return sorted(str(file.relative_to(root)) for file in found)


def test_evidence_lies_beside_its_record(make_record, tmp_path):
    save_record(make_record(), tmp_path, evidence=b"some bytes")
    (record,) = load_records(tmp_path)
    path = evidence_path(record, tmp_path)
    assert path.read_bytes() == b"some bytes"
    assert files(tmp_path) == [f"{STEM}.{record.evidence.sha256[:8]}.npz", f"{STEM}.json"]
    assert find_problems(tmp_path) == []


def test_records_without_evidence_stay_possible(make_record, tmp_path):
    save_record(make_record(), tmp_path)
    (record,) = load_records(tmp_path)
    assert record.evidence is None and evidence_path(record, tmp_path) is None


def test_a_refused_record_leaves_no_evidence(make_record, tmp_path):
    save_record(make_record(), tmp_path, evidence=b"first")
    before = files(tmp_path)
    with pytest.raises(ValueError, match="already holds"):
        save_record(make_record(), tmp_path, evidence=b"second")
    assert files(tmp_path) == before


def test_superseding_replaces_both(make_record, tmp_path):
    save_record(make_record(), tmp_path, evidence=b"first")
    other = make_record({"encoder.name": "another"})
    save_record(other, tmp_path, evidence=b"first")
    save_record(make_record({"scores.AP": 0.3}), tmp_path, supersede=True, evidence=b"second")
    assert len(files(tmp_path)) == 4
    record = find_record(f"{STEM}.json", tmp_path)
    assert record.scores["AP"] == 0.3
    assert evidence_path(record, tmp_path).read_bytes() == b"second"
    assert find_problems(tmp_path) == []


def test_other_seeds_and_versions_keep_their_evidence(make_record, tmp_path):
    for changes in ({"seed": 1}, {"seed": 10}, {"protocol.version": 10}, {"seed": None}):
        save_record(make_record(changes), tmp_path, evidence=b"x")
    save_record(make_record({"seed": 1}), tmp_path, supersede=True, evidence=b"y")
    assert find_problems(tmp_path) == [] and len(files(tmp_path)) == 8


def test_problems_with_evidence_are_told(make_record, tmp_path):
    names = ("missing", "edited", "broken")
    for name in names:
        save_record(make_record({"encoder.name": name}), tmp_path, evidence=name.encode())
    places = [record_path(make_record({"encoder.name": name})) for name in names]
    records = [find_record(place, tmp_path) for place in places]
    missing, edited, _ = (evidence_path(record, tmp_path) for record in records)
    missing.unlink()
    edited.write_bytes(b"other")
    (record_file,) = (tmp_path / "broken").rglob("*.json")
    record_file.write_text("{}")
    (tmp_path / "edited" / "left over.npz").write_bytes(b"")
    problems = find_problems(tmp_path)
    assert len(problems) == 4 and not any("\n" in problem for problem in problems)
    broken, changed, gone, left_over = problems
    assert "schema_version" in broken
    assert "is not the evidence" in changed and "evaluate again" in changed
    assert "is missing" in gone and "evaluate again" in gone
    assert "left over.npz: belongs to no record; remove it" in left_over


def test_evidence_of_another_record_is_not_this_ones(make_record, tmp_path):
    """Two seeds that point at each other's evidence: each file is whole, and each is wrong."""
    paths = [save_record(make_record({"seed": n}), tmp_path, evidence=b"%d" % n) for n in (0, 1)]
    first, second = load_records(tmp_path)
    for path, record, other in ((paths[0], first, second), (paths[1], second, first)):
        swapped = dataclasses.replace(record, evidence=other.evidence)
        path.write_text(record_to_json(swapped))
    problems = find_problems(tmp_path)
    assert len(problems) == 2 and all("but its own would be" in problem for problem in problems)
    assert f"names {second.evidence.file} as its evidence" in problems[0]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(make_record, tmp_path):
    save_record(make_record(), tmp_path, evidence=b"mine")
    save_record(make_record({"seed": 1}), tmp_path, evidence=b"of a broken record")
    (tmp_path / f"{STEM[:-1]}1.json").write_text("{")
    before = files(tmp_path)
    folder = (tmp_path / STEM).parent
    left = [folder / f"{name}.npz" for name in ("x", "bccd-detection-scratch-v1.seed0.0badc0de")]
    left.append(folder / ".bccd-detection-scratch-v1.seed0.json.0123456789ab.tmp")
    for file in left:
        file.write_bytes(b"")
    named = [problem for problem in find_problems(tmp_path) if "leaderboard.py clean" in problem]
    assert len(named) == 3
    assert sorted(remove_leftovers(tmp_path)) == sorted(left)
    assert files(tmp_path) == before and remove_leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"code.dirty": True}, "code.dirty"), ({"code.commit": "unknown"}, "code.commit")],
)
def test_uncommitted_code_is_not_published(make_record, make_reported, tmp_path, changes, field):
    save_record(make_record(changes), tmp_path)
    assert len(load_records(tmp_path)) == 1
    with pytest.raises(ValueError, match=rf"'{field}' is .*; commit, evaluate again"):
        load_records(tmp_path, published=True)


def test_clean_records_and_those_of_papers_are_published(make_record, make_reported, tmp_path):
    save_record(make_record(), tmp_path)
    save_record(make_reported(), tmp_path)
    assert len(load_records(tmp_path, published=True)) == 2


def test_a_record_is_found_by_file_or_name(make_record, tmp_path, monkeypatch):
    path = save_record(make_record(), tmp_path / "store")
    for name in (path, f"{STEM}.json", STEM):
        assert find_record(name, tmp_path / "store") == make_record()
    monkeypatch.chdir(tmp_path)
    assert find_record(f"store/{STEM}.json", "store") == make_record()
    with pytest.raises(ValueError, match="no such record; .*for example .*seed0.json"):
        find_record("pe_spatial", "store")
