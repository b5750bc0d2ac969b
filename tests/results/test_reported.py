"""Reported numbers: read strictly, kept apart, and equal to what the papers print."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from pe_dense.results.reported import add_reported, load_reported

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "reported"
GOOD = {
    "schema_version": 1,
    "paper": "arXiv:0000.00000",
    "read_on": "2026-01-31",
    "tables": [
        {
            "table": "Table 1",
            "task": "depth",
            "dataset": "nyu",
            "split": "test",
            "protocol": {
                "id": "nyu-linear", "version": 1, "metric": "rmse", "higher_is_better": False,
            },
            "rows": [
                {"encoder": "a", "scores": {"rmse": 0.3}},
                {"encoder": "b", "scores": {"rmse": 0.4, "delta1": 0.9}, "mark": "uncertain"},
            ],
        }
    ],
}  # fmt: skip
# Typed from the papers, in the units that they print.
SPOT_CHECKS = [
    ("coco-deta-pe-tta", "pe_spatial_g14_448", "AP", 66.0),
    ("coco-deta-pe-plain", "pe_spatial_g14_448", "AP", 65.2),
    ("coco-vitdet-pe", "pe_spatial_g14_448", "AP", 57.8),
    ("coco-vitdet-pe", "pe_spatial_g14_448", "mask_AP", 50.3),
    ("lvis-vitdet-pe", "pe_spatial_g14_448", "AP", 54.2),
    ("lvis-vitdet-pe", "siglip2_g_opt16_384", "mask_AP", 48.5),
    ("coco-vitdet-pe", "dinov2_l14", "AP", 55.7),
    ("coco-frozen-pe-best-layer", "pe_spatial_g14_448", "AP", 46.1),
    ("coco-frozen-pe-last-layer", "pe_spatial_g14_448", "AP", 44.5),
    ("ade20k-linear-pe-best-layer", "pe_spatial_g14_448", "mIoU", 49.3),
    ("ade20k-linear-pe-last-layer", "pe_spatial_g14_448", "mIoU", 48.9),
    ("ade20k-linear-pe-best-layer", "pe_spatial_t16_512", "mIoU", 27.6),
    ("ade20k-linear-pe-last-layer", "aimv2_3b_448", "mIoU", 31.9),
    ("davis-pe-best-layer", "pe_spatial_g14_448", "J&F", 61.5),
    ("davis-pe-last-layer", "pe_core_g14_448", "J&F", 42.8),
    ("davis-pe-last-layer", "pe_spatial_b16_512", "J&F", 58.4),
    ("nyu-dpt-pe-best-layer", "pe_core_g14_448", "rmse", 0.249),
    ("nyu-dpt-pe-last-layer", "siglip2_so400m_16_512", "rmse", 0.329),
    ("ade20k-linear-dinov3", "dinov3_7b16", "mIoU", 55.9),
    ("ade20k-linear-dinov3", "pe_spatial_g14_448", "mIoU", 49.3),
    ("voc2012-linear-dinov3", "radiov2.5_g14", "mIoU", 85.4),
    ("kitti-linear-dinov3", "dinov2_g14_reg", "rmse", 2.624),
    ("nyu-linear-dinov3", "dinov3_s16", "rmse", 0.403),
    ("davis-dinov3-l", "pe_spatial_g14_448", "J&F", 70.5),
    ("davis-dinov3-m", "dinov3_b16", "J&F", 77.2),
    ("ytvos-dinov3-s", "dinov3_7b16", "J&F", 74.1),
    ("mose-dinov3-l", "pe_core_g14_448", "J&F", 15.4),
    ("ade20k-linear-ms-dinov2", "dinov2_l14", "mIoU", 53.1),
    ("nyu-linear4-dinov2", "dinov2_s14", "rmse", 0.417),
    ("kitti-dpt-dinov2", "dinov2_g14", "rmse", 2.11),
    ("nyu-to-sunrgbd-linear1-dinov2", "dinov2_b14", "rmse", 0.448),
    ("davis-dino", "dino_s16", "J&F", 61.8),
    ("coco-deta-pe-queries-softnms", "pe_spatial_g14_448", "AP", 65.8),
    ("coco-system-dinov3", "dinov3_7b16", "AP", 65.6),
    ("nyu-linear-640px-dinov3", "dinov3_convnext_t", "rmse", 0.448),
    ("davis-vjepa2.1-s", "vjepa2.1_gg16", "J&F", 69.0),
    ("ade20k-linear-siglip2", "siglip2_so400m_14_384", "mIoU", 45.4),
    ("voc2012-linear-tips", "tipsv2_b14", "mIoU", 84.0),
    ("ade20k-logreg-capi", "dinov2_g14_reg", "mIoU", 39.0),
    ("ade20k-knn-capi", "capi_l14", "mIoU", 33.0),
    ("ade20k-linear-radio", "c-radiov4_h16", "mIoU", 55.20),
]


@pytest.fixture(scope="module")
def published():
    return load_reported(FOLDER)


@pytest.mark.parametrize(("protocol", "encoder", "metric", "printed"), SPOT_CHECKS)
def test_numbers_are_those_of_the_papers(published, protocol, encoder, metric, printed):
    values = {
        record.scores[metric]
        for record in published
        if (record.protocol.id, record.encoder.name) == (protocol, encoder)
    }
    shown = {value if metric == "rmse" else round(100 * value, 2) for value in values}
    assert shown == {printed}


def test_every_number_has_a_source(published):
    assert len(published) > 500
    assert all(record.origin == "reported" and record.source.paper for record in published)
    families = ("pe_", "dinov2", "dinov3", "siglip2", "aimv2", "radio", "tips", "franca", "capi")
    for family in families:
        assert any(record.encoder.name.startswith(family) for record in published), family


def test_layer_curves_have_their_peak_where_the_paper_says(published):
    (curve,) = [
        record.by_layer["J&F"]
        for record in published
        if record.by_layer and record.protocol.id == "davis-pe-best-layer"
        and record.encoder.name == "pe_core_g14_448"
    ]  # fmt: skip
    assert max(curve, key=curve.get) == "31" and len(curve) == 23  # block 32 of the paper


def test_a_number_of_a_paper_is_there_once(published):
    cells = [(r.encoder.name, r.protocol.id, r.protocol.version, r.source.paper) for r in published]
    assert len(cells) == len(set(cells))


def test_doubt_is_marked(published):
    marks = {(record.protocol.id, record.encoder.name): record.source.mark for record in published}
    assert "uncertain" in marks["lvis-vitdet-pe", "siglip_so400m_14_224"]
    assert "second-hand" in marks["ade20k-linear-dinov3", "lingbot_vision_1b16"]
    assert "test" in marks["davis-pe-best-layer", "dinov2_g14"]
    assert marks["coco-deta-pe-tta", "pe_spatial_g14_448"] == ""


def written(folder, data, name="f.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def changed(place, value):
    data = copy.deepcopy(GOOD)
    *parents, last = place
    target = data
    for parent in parents:
        target = target[parent]
    target[last] = value
    return data


def test_a_good_file(tmp_path):
    first, second = load_reported(written(tmp_path, GOOD).parent)
    assert first.scores == {"rmse": 0.3} and first.source.mark == ""
    assert second.source.mark == "uncertain" and second.created == "2026-01-31T00:00:00Z"
    assert load_reported(tmp_path / "nowhere") == []


ROW = ("tables", 0, "rows", 0)
BAD = [
    (("schema_version",), 2, "schema_version"),
    (("read_on",), "yesterday", "read_on"),
    (("read_on",), "2026-13-01", "read_on"),
    (("tables",), [], "'tables' is empty"),
    (("extra",), 1, "extra"),
    (("paper",), "", "source.paper"),
    (("tables",), {}, "tables"),
    (("tables", 0, "rows"), [], "no rows"),
    (("tables", 0, "task"), "Depth!", "task"),
    (("tables", 0, "protocol", "id"), "NYU", "protocol.id"),
    (("tables", 0, "protocol", "higher_is_better"), True, "'rmse' comes with higher_is_better"),
    (("tables", 0, "protocol", "metric"), "mIoU", "lacks the main metric"),
    ((*ROW, "scores"), {"rmse": "0.3"}, "rmse"),
    ((*ROW, "scores"), {"rmse": 0.3, "delta1": 90.0}, "divide percent by 100"),
    ((*ROW, "encoder"), "b", "b has two rows"),
    ((*ROW, "encoder"), "../x", "encoder.name"),
    ((*ROW, "marks"), "x", "marks"),
    ((*ROW, "by_layer"), {"rmse": {"last": 0.3}}, "by_layer"),
]


@pytest.mark.parametrize(("place", "value", "words"), BAD)
def test_wrong_files_are_refused_in_one_sentence(tmp_path, place, value, words):
    with pytest.raises(ValueError, match=r"f\.json: ") as caught:
        load_reported(written(tmp_path, changed(place, value)).parent)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", '{"paper": 1, "paper": 2}'])
def test_other_json_is_refused(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(ValueError, match=r"f\.json: "):
        load_reported(tmp_path)


def test_adding_a_file(tmp_path):
    mine = written(tmp_path, GOOD, "mine.json")
    folder = tmp_path / "reported"
    assert add_reported(mine, folder) == folder / "mine.json"
    assert len(load_reported(folder)) == 2
    with pytest.raises(ValueError, match="exists already"):
        add_reported(mine, folder)
    add_reported(mine, folder, supersede=True)

    with pytest.raises(ValueError, match=r"again\.json.*reported twice.*mine\.json"):
        add_reported(written(tmp_path, GOOD, "again.json"), folder)
    other = changed(("tables", 0, "split"), "val")
    other["paper"] = "another"
    with pytest.raises(ValueError, match=r"other\.json.*dataset.split.*mine\.json.*one thing"):
        add_reported(written(tmp_path, other, "other.json"), folder)
    with pytest.raises(ValueError, match="cannot be read"):
        add_reported(tmp_path / "none.json", folder)
    assert [path.name for path in folder.iterdir()] == ["mine.json"]


def paper(tmp_path, name, protocol, marks):
    """A file of one paper: encoders a and b with numbers that every such file has."""
    table = {
        "table": "Table 1", "task": "depth", "dataset": "nyu", "split": "test",
        "protocol": {"id": protocol, "version": 1, "metric": "rmse", "higher_is_better": False},
        "rows": [
            {"encoder": encoder, "scores": {"rmse": value}, "mark": mark}
            for encoder, value, mark in zip("abc", (0.641, 0.512, 0.3), marks, strict=False)
        ],
    }  # fmt: skip
    content = {"schema_version": 1, "paper": name, "read_on": "2026-01-31", "tables": [table]}
    return written(tmp_path, content, f"{name}.json").parent


SAME = "baseline; the same digits as in first, whose recipe differs"


def test_numbers_of_another_paper_and_protocol_are_marked(tmp_path):
    paper(tmp_path, "first", "nyu-first", ["", ""])
    folder = paper(tmp_path, "second", "nyu-second", ["", SAME])
    with pytest.raises(ValueError, match=r"nyu-second, a: its number is that of .*nyu-first, a"):
        load_reported(folder)
    assert len(load_reported(paper(tmp_path, "second", "nyu-second", [SAME, SAME]))) == 4


def test_one_equal_number_or_the_same_protocol_is_no_repeat(tmp_path):
    paper(tmp_path, "first", "nyu-first", ["", ""])
    assert len(load_reported(paper(tmp_path, "second", "nyu-second", [""]))) == 3
    assert len(load_reported(paper(tmp_path, "second", "nyu-first", ["", ""]))) == 4


def test_metrics_have_the_name_of_records(tmp_path):
    content = changed(("tables", 0, "rows", 0, "scores"), {"rmse": 0.3, "AbsRel": 0.1})
    with pytest.raises(ValueError, match=r"metric 'AbsRel' is called 'abs_rel' here"):
        load_reported(written(tmp_path, content).parent)


REPORTED = Path(__file__).resolve().parents[2] / "benchmarks" / "reported"


def test_baselines_that_eupe_took_over_are_flagged_on_the_page():
    page = (REPORTED.parent / "LEADERBOARD.md").read_text(encoding="utf-8")
    for protocol, numbers in (
        ("ade20k-linear-eupe", {"dinov3_b16": "51.8", "siglip2_b16_512": "41.6"}),
        ("nyu-linear-eupe", {"dinov3_b16": "0.373", "pe_core_b16_224": "0.641"}),
    ):
        section = page.partition(f"### {protocol}, version 1")[2].partition("\n### ")[0]
        for encoder, number in numbers.items():
            row = next(r for r in section.splitlines() if r.startswith(f"| {encoder} | {number} "))
            assert "the same digits as in DINOv3" in row
        own = next(row for row in section.splitlines() if row.startswith("| eupe_b16 "))
        assert "same digits" not in own


def test_names_that_the_zoo_has_are_written_as_there():
    """A name with another separator than the zoo's would stand apart from measured rows."""
    from pe_dense.encoders.zoo import ENCODERS

    spelled = {name.replace("_", "").replace("-", "").lower(): name for name in ENCODERS}
    names = {record.encoder.name for record in load_reported(REPORTED)}
    plain = {name: name.replace("_", "").replace("-", "").lower() for name in names}
    wrong = {name: spelled[key] for name, key in plain.items() if spelled.get(key, name) != name}
    assert wrong == {}
    assert {"eupe_b16", "tipsv2_so400m14", "sam3_l14_1008", "dinov2_g14_reg"} <= names & set(
        ENCODERS
    )
