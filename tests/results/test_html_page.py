"""The HTML page without a browser: what is in it, and that text stays text."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from page_case import HOSTILE, many_records

from pe_dense.results.html_page import encoder_family, page_data, render_html
from pe_dense.results.record import record_from_json, record_to_json


@pytest.fixture
def made(make_record, make_reported):
    return many_records(make_record, make_reported)


def embedded(page: str) -> list:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    return json.loads(text)


def test_the_page_holds_every_record_whole(made):
    records, ranks = made
    rows = [row for section in embedded(render_html(records, ranks)) for row in section["rows"]]
    assert len(rows) == len(records)
    texts = {record_to_json(record) for record in records}
    assert {record_to_json(rebuilt(row["record"])) for row in rows} == texts


def rebuilt(data):
    from pe_dense.results.record import content_sha256

    return record_from_json(json.dumps({**data, "content_sha256": content_sha256(data)}))


def test_one_file_that_needs_no_network(made):
    page = render_html(*made)
    assert not re.search(
        r"""(src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org)""", page_code(page)
    )
    assert page.count("<script") == page.count("</script>") == 2
    assert page.isascii()


def page_code(page: str) -> str:
    return re.sub(r'<script type="application/json".*?</script>', "", page)


def test_text_of_records_cannot_become_code(made):
    page = render_html(*made)
    assert HOSTILE not in page and "<img" not in page and "</b>" not in page
    notes = [row["record"]["notes"] for section in embedded(page) for row in section["rows"]]
    assert HOSTILE in notes


def test_same_records_same_bytes(make_record, make_reported):
    records = [make_record(), make_record({"seed": 1}), make_reported()]
    assert len({render_html(order) for order in itertools.permutations(records)}) == 1


def test_rows_are_best_first_and_know_their_group(made):
    records, ranks = made
    for section in page_data(records, ranks):
        scores = [row["record"]["scores"][section["metric"]] for row in section["rows"]]
        assert scores == sorted(scores, reverse=section["higher"])
        groups = {row["group"] for row in section["rows"] if row["origin"] == "measured"}
        assert (groups == {None}) == (section["id"] != "coco-deta")


def test_the_difference_to_a_paper(made):
    (section,) = [s for s in page_data(*made) if s["id"] == "coco-deta"]
    found = {row["encoder"]: row["difference"] for row in section["rows"] if row["difference"]}
    ours = next(r for r in section["rows"] if r["origin"] == "measured")["record"]["scores"]["AP"]
    assert found == {"pe_spatial_g14_448": pytest.approx(ours - 0.6)}


def test_an_empty_store_has_a_page():
    page = render_html([])
    assert embedded(page) == [] and "No records yet" in page


def test_records_that_disagree_are_refused(make_record):
    other = make_record({"encoder.name": "x", "dataset.split": "val"})
    with pytest.raises(ValueError, match="measures one thing"):
        render_html([make_record(), other])


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("pe_core_l14_336", "pe_core"),
        ("pe_lang_g14_448_tiling", "pe_lang"),
        ("siglip2_b16_512", "siglip2"),
        ("mae", "mae"),
        ("timm:eva02_x.y", "timm"),
    ],
)
def test_families(name, family):
    assert encoder_family(name) == family
