"""The page of a run: whatever text comes in stays text, and nothing is loaded or run."""

from __future__ import annotations

import html.parser
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pe_dense.results.confusion import Confusion, of_boxes, of_labels
from pe_dense.results.run_page import Curve, Picture, RunPage, chart, render_run_page, thinned

HOSTILE = (
    "</style><script>window.hacked=1</script><img src=x onerror=\"hacked=1\"> & 'q' \ud800\x00"
)
CHROME = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")


def jpeg(side: int = 40) -> bytes:
    cv2 = pytest.importorskip("cv2")
    picture = np.linspace(0, 255, side * 3 * side * 3).reshape(side, 3 * side, 3)
    return cv2.imencode(".jpg", picture.astype(np.uint8))[1].tobytes()


def hostile_page(picture: bytes = b"\xff\xd8") -> RunPage:
    classes = [HOSTILE, "cat", "dog" * 30]
    counts = np.array([[5, 1, 0], [0, 9, 1], [0, 0, 0]])
    return RunPage(
        title=HOSTILE,
        about=HOSTILE,
        facts=[(HOSTILE, HOSTILE), ("weights", "random"), ("config", "w/" + "long" * 60)],
        loud=["weights"],
        scores=[("mIoU", "4.6 %"), (HOSTILE, HOSTILE)],
        curves=[
            Curve(HOSTILE, [(1, 2.0), (2, math.nan), (3, 1.0)]),
            Curve("loss", [(i, 1 / (i + 1)) for i in range(3000)]),
            Curve("one", [(5, 0.5)], "epoch"),
            Curve("none", []),
        ],
        worst=[Picture(picture, HOSTILE)],
        best=[Picture(picture, "good")],
        seen=HOSTILE,
        confusion=Confusion(classes, classes, counts, "pixels", HOSTILE),
        data=HOSTILE + "\n  table",
        commands=[HOSTILE, "python tools/train.py"],
        versions={HOSTILE: HOSTILE},
    )


class Elements(html.parser.HTMLParser):
    """Names of all elements, and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))


def test_text_of_a_run_is_never_html() -> None:
    text = render_run_page(hostile_page())
    found = Elements(text).found
    names = {name for name, _ in found}
    assert not {"script", "iframe", "object", "link", "a", "form", "base"} & names
    assert sum(name == "style" for name, _ in found) == 1
    for name, attributes in found:
        assert not any(key.startswith("on") or key == "style" for key in attributes), name
        assert attributes.get("src", "data:image/jpeg;base64,").startswith(
            "data:image/jpeg;base64,"
        )
    assert text.count("window.hacked=1") == text.count("&lt;script&gt;window.hacked=1")
    assert "\x00" not in text and "\ud800" not in text
    text.encode("utf-8")
    policy = next(a["content"] for n, a in found if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy


def test_equal_runs_give_equal_bytes_and_what_is_empty_is_left_out() -> None:
    assert render_run_page(hostile_page()) == render_run_page(hostile_page())
    bare = render_run_page(RunPage("x"))
    assert "<h2>" not in bare and "<h1>x</h1>" in bare


def test_nothing_is_asked_of_the_network() -> None:
    text = render_run_page(hostile_page())
    assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", text)


# Curves -----------------------------------------------------------------------------------------


def test_a_curve_has_its_first_and_last_point_in_its_corners() -> None:
    drawn = chart(Curve("loss", [(0, 4.0), (5, 1.0), (10, 2.0)]))
    points = re.search(r'<polyline class="line" points="([^"]+)"', drawn)[1].split()
    xy = np.array([[float(v) for v in point.split(",")] for point in points])
    assert np.allclose(np.diff(xy[:, 0]), (xy[2, 0] - xy[0, 0]) / 2, atol=0.2)
    height = xy[1, 1] - xy[0, 1]  # down: 4 is at the top, 1 at the bottom
    assert height > 0 and np.isclose(xy[1, 1] - xy[2, 1], height / 3, atol=0.2)
    assert "loss: 2 at step 10" in drawn and ">4</text>" in drawn and ">1</text>" in drawn


def test_gaps_are_gaps_and_long_curves_are_means() -> None:
    assert len(thinned([(0, 1.0), (1, math.inf), (2, 1.0), (3, 2.0)])) == 2
    [piece] = thinned([(i, float(i % 2)) for i in range(8000)], limit=100)
    assert len(piece) == 100 and np.allclose(piece[:, 1], 0.5)
    assert thinned([]) == [] and thinned([(1, math.nan)]) == [] and chart(Curve("a", [])) == ""
    assert "NaN" not in chart(Curve("flat", [(1, 3.0), (2, 3.0)]))
    assert "nan" not in chart(Curve("point", [(1, 3.0)]))


# Confusion --------------------------------------------------------------------------------------


def test_labels_are_counted_as_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(-1, 6, (2, 9, 7))
    expected = np.zeros((5, 5), int)
    for t, p in zip(truth.ravel(), predicted.ravel()):
        if 0 <= t < 5 and 0 <= p < 5:
            expected[t, p] += 1
    assert of_labels(truth, predicted, 5).tolist() == expected.tolist()
    assert of_labels(np.zeros(0), np.zeros(0), 2).tolist() == [[0, 0], [0, 0]]


def test_boxes_find_each_true_box_once_the_surest_first() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30.0], [50, 50, 60, 60]])
    found = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [21, 20, 30, 30], [80, 80, 90, 90.0]])
    counts = of_boxes(
        truth, np.array([0, 1, 1]), found, np.array([1, 0, 1, 0]), np.array([0.5, 0.9, 0.8, 0.7]), 2
    )
    # The 0.9 takes the first box; the 0.5 on it is one too many; one is nowhere, one not found.
    assert counts.tolist() == [[1, 0, 0], [0, 1, 1], [1, 1, 0]]
    empty = np.zeros((0, 4))
    none = of_boxes(empty, np.zeros(0), empty, np.zeros(0), np.zeros(0), 1)
    assert none.tolist() == [[0, 0], [0, 0]]


def test_many_classes_show_the_most_frequent_mistakes() -> None:
    counts = np.eye(150, dtype=int) * 50
    counts[3, 7], counts[100, 2] = 30, 10
    names = [f"class{i}" for i in range(150)]
    text = render_run_page(RunPage("x", confusion=Confusion(names, names, counts, "pixels", "p")))
    rows = re.findall(r"<tr><td>(\w+)</td><td>(\w+)</td><td>(\d+)</td><td>(\d+)</td></tr>", text)
    assert rows == [("class3", "class7", "30", "38"), ("class100", "class2", "10", "17")]


# In a browser -----------------------------------------------------------------------------------


@pytest.mark.skipif(not (CHROME and DRIVER), reason="needs chromium and its driver")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_on_a_phone_and_on_a_screen_and_runs_nothing(scheme: str, tmp_path: Path) -> None:
    webdriver = pytest.importorskip("selenium.webdriver")
    file = tmp_path / "report.html"
    file.write_text(render_run_page(hostile_page(jpeg())), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = set()
        for width in (390, 1200):
            size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(file.as_uri())
            got = json.loads(
                driver.execute_script(
                    "return JSON.stringify({wide: document.documentElement.scrollWidth,"
                    "hacked: typeof window.hacked,"
                    "pictures: [...document.images].map(i => i.naturalWidth),"
                    "line: getComputedStyle(document.querySelector('.line')).stroke,"
                    "page: getComputedStyle(document.body).backgroundColor})"
                )
            )
            assert got["wide"] <= width and got["hacked"] == "undefined"
            assert got["pictures"] == [120, 120] and got["line"] != "none"
            colours.add(got["page"])
        assert driver.get_log("browser") == []
        assert colours == {"rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)"}
    finally:
        driver.quit()
