"""The HTML page without a browser: what is in it, and that text stays text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import shutil
import subprocess

import pytest
from html_case import HOSTILE, all_records, hostile_records

from pe_dense.results.html_page import PAGE, SCRIPTS, encoder_family, page_data, render_html
from pe_dense.results.leaderboard import EMPTY_PAGE
from pe_dense.results.record import content_sha256, record_from_json, record_to_json


@pytest.fixture
def made(make_record, make_reported):
    return all_records(make_record, make_reported)


def element(page: str, pattern: str) -> str:
    """The content of the only element that starts so."""
    (text,) = re.findall(rf"<{pattern}>(.*?)</(?:script|style)>", page, re.DOTALL)
    return text


def embedded(page: str) -> dict:
    return json.loads(element(page, 'script type="application/json" id="data"'))


def all_rows(page: str) -> list[dict]:
    return [row for section in embedded(page)["sections"] for row in section["rows"]]


def code_of(page: str) -> str:
    return re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)


def test_the_page_holds_every_record_whole(made):
    records, findings = made
    assert len(records) == 42 and len({record.protocol.id for record in records}) == 5
    rows = all_rows(render_html(records, findings))
    found = [one["record"] for row in rows for one in row["seeds"] or [row]]
    texts = [
        record_to_json(record_from_json(json.dumps({**r, "content_sha256": content_sha256(r)})))
        for r in found
    ]
    assert sorted(texts) == sorted(map(record_to_json, records))


def test_one_file_that_needs_no_network(made):
    page = render_html(*made)
    own_name = "http://www.w3.org/2000/svg"  # a name, not an address
    code = code_of(page).replace(own_name, "")
    assert not re.search(r"\b(src|srcset)\s*=|<link|@import|\burl\(|https?://", code)
    assert not re.search(r"\bfetch\b|XMLHttpRequest|WebSocket|\bimport\b", code)
    assert page.count("<script") == page.count("</script>") == 2
    assert page.isascii()


def test_the_policy_allows_the_own_style_and_script_only(made):
    page = render_html(*made)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    hashes = {
        kind: base64.b64encode(hashlib.sha256(element(page, kind).encode()).digest()).decode()
        for kind in ("style", "script")
    }
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; "
        f"script-src 'sha256-{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )


def test_scripts_never_make_code_or_markup_of_text():
    code = "".join((PAGE / name).read_text() for name in SCRIPTS)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", code)
    assert not re.search(r"\beval\(|new Function|setTimeout\(\s*[\"']", code)


def test_every_script_is_on_the_page():
    assert sorted(path.name for path in PAGE.glob("*.js")) == sorted(SCRIPTS)


def test_scripts_are_valid(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node to read the scripts")
    script = tmp_path / "page.js"
    script.write_text(element(render_html([]), "script"))
    checked = subprocess.run([node, "--check", script], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_text_of_records_cannot_become_code(make_record, make_reported):
    page = render_html(hostile_records(make_record, make_reported))
    assert HOSTILE not in page and "<img" not in page and "</b>" not in page
    assert page.count("</script>") == 2
    rows = {row["origin"]: row for row in all_rows(page)}
    assert rows["measured"]["encoder"] == rows["measured"]["record"]["notes"] == HOSTILE
    assert rows["reported"]["mark"] == HOSTILE


def test_same_records_same_bytes(make_record, make_reported):
    records = [make_record(), make_record({"seed": 1}), make_reported()]
    assert len({render_html(order) for order in itertools.permutations(records)}) == 1


def test_order_of_keys_does_not_matter(make_record):
    scores = {"AP": 0.5, "AP50": 0.8, "APs": 0.2}
    backwards = dict(reversed(scores.items()))
    pages = [render_html([make_record({"scores": s})]) for s in (scores, backwards)]
    assert pages[0] == pages[1]


def test_rows_are_best_first_and_know_their_group(made):
    for section in page_data(*made):
        scores = [row["scores"][section["metric"]] for row in section["rows"]]
        assert scores == sorted(scores, reverse=section["higher"])
        measured = [row for row in section["rows"] if row["origin"] == "measured"]
        has_ranks = section["id"] in ("coco-deta-pe", "davis-dinov3-m")
        assert all((row["group"] is not None) == has_ranks for row in measured)
        assert all(row["group"] is None for row in section["rows"] if row not in measured)


def test_rows_of_seeds_hold_their_mean_and_each_seed(made):
    (section,) = [s for s in page_data(*made) if s["id"] == "bccd-detection-scratch"]
    row, other = section["rows"]
    assert row["encoder"] == "pe_spatial_t16_512" and other["encoder"] == "pe_core_t16_384"
    assert row["scores"]["AP"] == pytest.approx((0.517 + 0.509 + 0.521) / 3)
    assert [seed["scores"]["AP"] for seed in row["seeds"]] == [0.517, 0.509, 0.521]
    assert [seed["record"]["seed"] for seed in row["seeds"]] == [0, 1, 2]
    assert row["interval"] is None  # without evidence nobody knows


def test_notes_and_intervals_say_what_they_rest_on(made):
    (section,) = [s for s in page_data(*made) if s["id"] == "davis-dinov3-m"]
    row = next(row for row in section["rows"] if row["origin"] == "measured")
    assert row["interval"]["unit"] == "video" and row["interval"]["num_units"] == 30
    assert row["notes"][0]["words"] == "one seed"
    assert "compares checkpoints" in row["notes"][0]["meaning"]


def test_without_ranks_there_are_no_groups(made):
    assert {row["group"] for row in all_rows(render_html(made[0]))} == {None}


def test_the_difference_to_a_paper(made):
    (section,) = [s for s in page_data(*made) if s["id"] == "ade20k-linear-dinov3"]
    found = {row["encoder"]: row["difference"] for row in section["rows"] if row["difference"]}
    assert found == {
        "dinov3_l16": pytest.approx(0.5385 - 0.543),
        "dinov2_l14": pytest.approx(0.4771 - 0.477),
        "pe_core_g14_448": pytest.approx(0.3904 - 0.389),
    }
    assert all(row["difference"] is None for row in section["rows"] if row["origin"] == "reported")


def test_an_empty_store_has_a_page_that_says_what_to_do():
    assert embedded(render_html([])) == {
        "empty": EMPTY_PAGE,
        "sections": [],
        "meanRanks": None,
    }


def test_records_that_disagree_are_refused(make_record):
    other = make_record({"encoder.name": "x", "dataset.split": "val"})
    with pytest.raises(ValueError, match="measures one thing"):
        render_html([make_record(), other])


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("pe_spatial_g14_448", "pe_spatial"),
        ("pe_core_l14_336", "pe_core"),
        ("pe_lang_g14_448_tiling", "pe_lang"),
        ("dinov2_b14_reg", "dinov2"),
        ("dinov3_l16", "dinov3"),
        ("siglip2_so400m_16_512", "siglip2"),
        ("vjepa2.1_g16", "vjepa2.1"),
        ("mae", "mae"),
        ("timm:eva02_x.y", "timm"),
    ],
)
def test_families(name, family):
    assert encoder_family(name) == family
