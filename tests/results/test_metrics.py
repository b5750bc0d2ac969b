"""The table of metrics: everything that the repository reports has its spelling and direction."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pe_dense.results.metrics import TABLE, check_direction, in_order, metric_of

REPO = Path(__file__).parents[2]
KNOWN = {metric.name for metric in TABLE}


def published_rows():
    for path in sorted((REPO / "benchmarks/records").rglob("*.json")):
        record = json.loads(path.read_text())
        yield record["protocol"], {*record["scores"], *(record["by_layer"] or {})}
    for path in sorted((REPO / "benchmarks/reported").glob("*.json")):
        for table in json.loads(path.read_text())["tables"]:
            yield table["protocol"], {name for row in table["rows"] for name in row["scores"]}


def test_every_published_metric_has_an_entry():
    names = {name for _, scores in published_rows() for name in scores}
    # 'AP/cat' is of one class, 'text_to_image_R@5' of five answers: shown as what stands before.
    assert len(names) > 50 and {re.split("[/@]", name)[0] for name in names} - KNOWN == set()


def test_every_protocol_has_the_direction_of_the_table():
    for protocol, _ in published_rows():
        check_direction(protocol["metric"], protocol["higher_is_better"])
    setting = re.compile(r'metric="(.+)",\s+higher_is_better=(True|False)')
    texts = [path.read_text() for path in sorted((REPO / "configs").rglob("*.py"))]
    found = [match for text in texts for match in setting.findall(text)]
    assert len(found) == sum("higher_is_better" in text for text in texts) > 40
    for name, higher_is_better in found:
        assert name.partition("@")[0] in KNOWN
        check_direction(name, higher_is_better == "True")


# As papers and the reference tools print them.
SHOWN = {
    "AP": (0.4512, "AP 45.1"),
    "APs": (0.1, "APs 10.0"),
    "mask_AP": (0.5, "mask AP 50.0"),
    "mIoU": (0.188, "mIoU 18.8"),
    "J&F": (0.6151, "J&F 61.5"),
    "J_decay": (-0.041, "J-Decay -4.1"),
    "rmse": (2.98989, "RMSE 2.990"),
    "abs_rel": (0.1, "AbsRel 0.100"),
    "silog": (9.876, "SILog 9.88"),
    "delta1": (0.95, "\u03b41 95.0"),
    "rmse_degrees": (24.3, "angular RMSE 24.3"),
    "HOTA": (0.33, "HOTA 33.0"),
    "IDSW": (24.0, "IDSW 24"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_people_see(name):
    value, words = SHOWN[name]
    assert f"{metric_of(name).spelling} {metric_of(name).shown(value)}" == words


def test_names_and_spellings_are_unique():
    for values in ([m.name.lower() for m in TABLE], [m.spelling for m in TABLE]):
        assert len(set(values)) == len(values)


def test_units_decide_what_is_a_fraction():
    fractions = ["AP", "AP50", "mIoU", "delta1", "J&F", "frequency", "MOTA", "F"]
    raw = ["rmse", "RMSE", "abs_rel", "rmse@80m", "rmse/near", "log10", "IDs", "fps"]
    assert all(metric_of(name).is_fraction for name in fractions)
    assert not any(metric_of(name).is_fraction for name in raw)


def test_an_unknown_name_takes_its_longest_known_beginning():
    assert metric_of("rmse_log@80m").spelling == "RMSE log@80m"
    assert metric_of("AP/white blood cell").spelling == "AP/white blood cell"
    assert metric_of("mask_AP/cat").spelling == "mask AP/cat"
    assert not metric_of("F_decay/ball").higher_is_better and metric_of("F/ball").higher_is_better


def test_a_metric_of_ones_own_is_a_fraction_where_higher_is_better():
    metric = metric_of("Apples")
    assert (metric.spelling, metric.unit, metric.shown(0.5)) == ("Apples", "percent", "50.0")
    assert metric.higher_is_better
    check_direction("Apples", higher_is_better=False)  # only the protocol knows


def test_a_contradiction_is_one_sentence():
    with pytest.raises(ValueError, match="'rmse' comes with higher_is_better=True, but lower is"):
        check_direction("rmse", higher_is_better=True)


def test_order():
    names = ["zebra", "AP_x10", "AP_x2", "abs_rel", "AP50", "AP", "IDSW", "HOTA", "AP/cat"]
    assert in_order(names) == [
        "AP", "AP50", "abs_rel", "HOTA", "IDSW", "AP/cat", "AP_x2", "AP_x10", "zebra"
    ]  # fmt: skip
