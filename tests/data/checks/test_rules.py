"""Findings are counted, put into words the same way everywhere, refused or accepted by name."""

from __future__ import annotations

import numpy as np
import pytest

from pe_dense.data.checks.rules import (
    Fault,
    Finding,
    FindingCollector,
    Rule,
    from_plain,
    require_known,
    require_sound,
    to_plain,
)

NEGATIVE = Rule(
    "negative-boxes", "boxes of negative width", "put the width right", "left out of training"
)
BROKEN = Rule("broken", "files that cannot be decoded", "fetch them again")
NOTE = Rule("empty", "images without objects", is_problem=False)


def collected() -> list[Finding]:
    found = FindingCollector("a.json")
    for number in range(5):
        found.add(NEGATIVE, f"annotation {number}", "has bbox [1, 1, -3, 2]")
    found.add_count(NOTE, 7)
    found.add_count(BROKEN, 0)
    return found.findings()


def test_faults_are_counted_and_the_first_are_told() -> None:
    negative, note = collected()
    assert (negative.count, len(negative.examples)) == (5, 3)
    assert negative.lines() == [
        "boxes of negative width: 5",
        "    a.json: annotation 0 has bbox [1, 1, -3, 2]",
        "    a.json: annotation 1 has bbox [1, 1, -3, 2]",
        "    a.json: annotation 2 has bbox [1, 1, -3, 2]",
        "    ... and 2 more",
        "    put the width right",
    ]
    assert note.lines() == ["images without objects: 7"]


def test_marked_places_join_those_that_were_added() -> None:
    found = FindingCollector("a.json")
    found.add(NEGATIVE, "annotation 9", "is wrong", file="b.json")
    found.add_marked(NEGATIVE, np.array([False, True, True]), lambda a: (f"annotation {a}", "too"))
    found.add_marked(NOTE, np.zeros(3, bool), None)
    [finding] = found.findings()
    assert finding.count == 3
    assert list(map(str, finding.examples)) == [
        "b.json: annotation 9 is wrong",
        "a.json: annotation 1 too",
        "a.json: annotation 2 too",
    ]


def test_a_problem_is_one_sentence_with_count_and_remedy() -> None:
    with pytest.raises(ValueError) as caught:
        require_sound(collected())
    assert str(caught.value) == (
        "a.json: annotation 0 has bbox [1, 1, -3, 2] (and 4 more of this kind); put the width "
        "right, or accept them with --accept negative-boxes"
    )


def test_accepted_problems_are_returned_and_others_still_refused() -> None:
    assert [f.rule for f in require_sound(collected(), ["negative-boxes"])] == [NEGATIVE]
    found = FindingCollector("c.png")
    found.add(BROKEN, "", "is cut short")
    with pytest.raises(ValueError, match="c.png: is cut short; fetch them again$"):
        require_sound([*collected(), *found.findings()], ["negative-boxes", "broken"])


def test_several_kinds_are_named_in_the_sentence() -> None:
    found = FindingCollector("c.png")
    found.add(BROKEN, "", "is cut short")
    with pytest.raises(ValueError, match=r"besides: files that cannot be decoded"):
        require_sound([*collected(), *found.findings()])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("negative-boxs", "near: negative-boxes"),
        ("broken", "can be accepted with: negative-boxes"),
        ("", "names no fault"),
    ],
)
def test_a_name_that_no_rule_has_is_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        require_known([name], [NEGATIVE, BROKEN, NOTE])
    with pytest.raises(ValueError, match="nothing can be accepted"):
        require_known([name], [BROKEN])


def test_findings_survive_json() -> None:
    assert from_plain(to_plain(collected())) == collected()


def test_a_record_names_the_one_file_of_what_was_accepted() -> None:
    rule = Rule("negative-boxes", "boxes")
    faults = [Fault(f"/data/set/annotations/{name}.json", "", "") for name in ("train", "val")]
    assert Finding(rule, 1200, (faults[1],) * 3).brief() == (
        "negative-boxes (1,200 in annotations/val.json)"
    )
    assert (
        Finding(rule, 2, tuple(faults)).brief() == Finding(rule, 2).brief() == "negative-boxes (2)"
    )
