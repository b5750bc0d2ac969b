"""The HTML page in headless Chromium: sort, filter, open a record, small screens, no errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from html_case import ADE, COCO, HOSTILE, NYU, all_records, hostile_records

from pe_dense.results.encoder_rows import NOTHING_FOUND, Findings, row_key
from pe_dense.results.html_page import render_html
from pe_dense.results.leaderboard import render_markdown
from pe_dense.results.mean_rank import MeanRank, MeanRanks
from pe_dense.results.power import Detectable
from pe_dense.results.rank_groups import Rank
from pe_dense.results.refusals import with_html
from pe_dense.results.statistics import CombinedInterval
from pe_dense.results.store import record_path

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="needs selenium: pip install -e .[dev]"
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")  # named, so that selenium never looks for one to download
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
)
COCO_TABLE = '[data-protocol="coco-deta-pe-v1"]'
ADE_TABLE = '[data-protocol="ade20k-linear-dinov3-v1"]'
NYU_TABLE = '[data-protocol="nyu-dpt-pe-v1"]'
DAVIS_TABLE = '[data-protocol="davis-dinov3-m-v1"]'
BCCD_TABLE = '[data-protocol="bccd-detection-scratch-v1"]'
HEADS = "[data-origin=measured] thead th"
ESCAPE = "\ue00c"
ENTER = "\ue007"


class Page:
    """A browser on one page, with the few things that tests do to it."""

    def __init__(self, driver, path):
        self.driver, self.path = driver, path

    def run(self, code, *args):
        return self.driver.execute_script(code, *args)

    def texts(self, selector):
        code = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.run(code, selector)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center', inline: 'end'})", element)
        element.click()
        return element

    def press(self, key):
        self.driver.switch_to.active_element.send_keys(key)

    def choose(self, name, value):
        """Sets a filter as a user does; `value` of a checkbox is True or False."""
        code = (
            "const f = document.querySelector(`#filters [name=${arguments[0]}]`);"
            "if (f.type === 'checkbox') f.checked = arguments[1]; else f.value = arguments[1];"
            "f.dispatchEvent(new Event('input', {bubbles: true}))"
        )
        self.run(code, name, value)

    def select_axis(self, figure, value):
        code = (
            "const s = document.querySelector(`${arguments[0]} select`); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change'))"
        )
        self.run(code, figure, value)

    def names(self, table):
        """Encoders of the first table of a section, in order."""
        code = (
            "const [body] = document.querySelector(`${arguments[0]} table`).tBodies;"
            "return [...body.rows].map(row => row.cells[0].textContent)"
        )
        return self.run(code, table)

    def head(self, table, name):
        """Selector of the sort button of a column of measured rows."""
        heads = self.run(
            "const buttons = [...document.querySelectorAll(arguments[0])];"
            "return buttons.map(button => button.firstChild.textContent)",
            f"{table} {HEADS} button",
        )
        return f"{table} {HEADS}:nth-child({heads.index(name) + 1}) button"


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(driver, tmp_path):
    """Function: a page of some records. Afterwards: no errors, and nothing hostile ran."""

    def build(records, findings=NOTHING_FOUND):
        path = tmp_path / "leaderboard.html"
        path.write_text(render_html(records, findings))
        driver.get("about:blank")  # else only the part after '#' would change
        driver.get(path.as_uri())
        return Page(driver, path)

    driver.get_log("browser")  # forget those of the test before
    yield build
    entries = [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"]
    assert entries == []
    assert driver.execute_script("return window.hacked") is None
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.fixture
def page(open_page, make_record, make_reported):
    return open_page(*all_records(make_record, make_reported))


def set_width(page, width):
    size = {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 500}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_every_protocol_is_there(page):
    assert len(page.texts("main section")) == 5
    assert page.texts("main > h2") == ["detection", "segmentation", "tracking", "depth"]
    assert page.texts(f"{COCO_TABLE} h4") == ["Measured here", "Reported by others"]
    assert page.texts("#count") == ["38 results under 5 protocols"]
    assert "COCO 2017, split val, 5000 items; AP, percent" in page.texts(f"{COCO_TABLE} .about")[0]
    assert page.names(COCO_TABLE) == list(COCO) and page.names(NYU_TABLE) == list(NYU)


def test_the_numbers_are_those_of_the_markdown(page, make_record, make_reported):
    markdown = render_markdown(*all_records(make_record, make_reported))
    scores = page.texts("td.score button")
    assert len(scores) == 44  # the 38, and three seeds of two
    assert [text for text in scores if f"| {text} |" not in markdown] == []


def test_numbers_round_as_in_python(page):
    values = [0.125, 0.375, 51.25, 51.35, 51.75, 0.0625, 0.1875, 2.5, 1e-9, 0.0, 99.95]
    for decimals in (0, 1, 2, 3):
        found = page.run("return arguments[0].map(v => fixed(v, arguments[1]))", values, decimals)
        assert found == [f"{value:.{decimals}f}" for value in values]


def test_sorting_changes_the_order(page):
    best_first = page.names(COCO_TABLE)
    page.click(page.head(COCO_TABLE, "Encoder"))
    assert page.names(COCO_TABLE) == sorted(best_first) != best_first
    assert page.texts(f"{COCO_TABLE} {HEADS}[aria-sort=ascending] .order") == ["A to Z"]
    page.click(page.head(COCO_TABLE, "Encoder"))
    assert page.names(COCO_TABLE) == sorted(best_first, reverse=True)
    page.click(page.head(COCO_TABLE, "AP"))  # the first press gives the best first
    assert page.names(COCO_TABLE) == best_first
    assert page.names(NYU_TABLE) == list(NYU)  # the other tables stay as they are


@pytest.mark.parametrize("table", [COCO_TABLE, NYU_TABLE, DAVIS_TABLE, BCCD_TABLE])
def test_every_column_sorts_by_the_keyboard(page, table):
    rows = sorted(page.names(table))
    for number in range(1, len(page.texts(f"{table} {HEADS}")) + 1):
        head = f"{table} {HEADS}:nth-child({number})"
        directions = set()
        for _ in range(2):
            page.run("document.querySelector(arguments[0]).focus()", f"{head} button")
            page.press(ENTER)
            directions.add(page.run("return document.activeElement.parentNode.ariaSort"))
        assert directions == {"ascending", "descending"}
        assert sorted(page.names(table)) == rows
        assert len(page.texts(f"{table} {HEADS}:not([aria-sort=none])")) == 1


@pytest.mark.parametrize("name", ["RMSE", "AbsRel", "\u03b41"])
def test_the_order_is_told_in_words_that_do_not_read_as_a_direction(page, name):
    page.click(page.head(NYU_TABLE, "Encoder"))
    for words in ("best first", "worst first"):
        page.click(page.head(NYU_TABLE, name))
        assert [text for text in page.texts(f"{NYU_TABLE} {HEADS} .order") if text] == [words]
        assert page.names(NYU_TABLE) == (list(NYU) if words == "best first" else list(NYU)[::-1])
    arrows = (
        "return [...document.querySelectorAll('thead *')].map(e => getComputedStyle(e, '::before')"
        ".content + getComputedStyle(e, '::after').content + e.textContent).join('')"
    )
    assert not set("\u2191\u2193\u25b2\u25bc") & set(page.run(arrows))


def test_what_is_missing_comes_last_in_both_directions(page):
    head = page.head(ADE_TABLE, "vs reported")
    with_difference = {"dinov3_l16", "dinov2_l14", "pe_core_g14_448"}
    for _ in range(2):
        page.click(head)
        assert set(page.names(ADE_TABLE)[:3]) == with_difference


def test_lower_is_better_starts_with_the_lowest(page):
    assert page.find(f"{NYU_TABLE} th.score").get_attribute("aria-sort") == "ascending"
    page.click(page.head(NYU_TABLE, "AbsRel"))
    assert page.names(NYU_TABLE) == list(NYU)
    page.click(page.head(NYU_TABLE, "\u03b41"))
    assert page.names(NYU_TABLE) == list(NYU)


def test_filters(page):
    page.choose("family", "pe_spatial")
    assert all(
        name.startswith("pe_spatial_") for name in page.texts("tr:not(.seed) > th[scope=row]")
    )
    page.choose("family", "")
    page.choose("task", "depth")
    assert page.texts("main section h3 a") == ["nyu-dpt-pe"]
    page.choose("task", "")
    page.choose("origin", "reported")
    assert set(page.texts("h4")) == {"Reported by others"}
    page.choose("origin", "measured")
    assert set(page.texts("h4")) == {"Measured here"}
    page.choose("q", "SigLIP2 ade20k")  # every word, in any case
    assert page.texts("tbody th") == ["siglip2_so400m_16_512"]
    page.choose("q", "no such thing")
    assert page.texts("#count") == ["No result fits these filters."]
    page.click("#clear")
    assert page.texts("#count") == ["38 results under 5 protocols"]
    assert "#" not in page.driver.current_url


def test_a_protocol_and_a_task_never_contradict(page):
    page.choose("task", "depth")
    page.choose("protocol", "coco-deta-pe-v1")
    assert page.texts("main section h3 a") == ["coco-deta-pe"]
    page.choose("task", "tracking")
    assert page.texts("main section h3 a") == ["davis-dinov3-m"]


def test_the_address_restores_a_view(page):
    for name, value in (("family", "dinov3"), ("task", "tracking"), ("q", "davis & more")):
        page.choose(name, value)
    page.choose("q", "davis")
    address = page.driver.current_url
    assert all(part in address for part in ("family=dinov3", "task=tracking", "q=davis"))
    expected = page.texts("tbody th")
    assert set(expected) == {"dinov3_l16"}
    page.driver.get("about:blank")
    page.driver.get(address)
    assert page.texts("tbody th") == expected
    assert page.run("return document.querySelector('[name=family]').value") == "dinov3"
    page.run("location.hash = 'family=no-such&origin=reported'")  # as if another link was pressed
    page.driver.implicitly_wait(0)
    wait_for(page, "return document.querySelector('#count').textContent[0] === '8'")


def wait_for(page, condition):
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(page.driver, 5, 0.05).until(lambda _: page.run(condition))


def test_few_tables_are_open_and_many_are_drawn_when_opened(open_page, make_record):
    def page_of(count):
        return open_page([make_record({"protocol.id": f"p{i:02d}"}) for i in range(count)])

    assert len(page_of(8).texts("main section table")) == 8
    page = page_of(9)
    assert page.texts("main section h3 a") == [f"p{i:02d}" for i in range(9)]
    assert page.texts("main section table") == []
    assert "1 measured" in page.texts("main summary")[0]
    page.click("main section:nth-of-type(2) summary h3 + .note")
    wait_for(page, "return document.querySelectorAll('main section table').length === 1")
    assert len(page.texts("main section:nth-of-type(2) td.score button")) == 1
    page.click("main section:nth-of-type(3) summary a")  # the name leads to this protocol alone
    wait_for(page, "return document.querySelectorAll('main section').length === 1")
    assert page.texts("main section h3 a") == ["p02"]
    assert len(page.texts("main section table")) == 1


MATRIX = "#overview table.matrix"


def cells(page, row):
    """Cells of a line of the matrix: the scores in each."""
    code = (
        "const rows = [...document.querySelectorAll(arguments[0] + ' tbody tr')];"
        "const row = rows.find(r => r.cells[0].textContent === arguments[1]);"
        "return [...row.cells].slice(1).map(c => [...c.querySelectorAll('.cell')]"
        ".map(s => [s.textContent, s.className]))"
    )
    return page.run(code, MATRIX, row)


def test_the_matrix_has_measured_and_reported_apart(page):
    assert page.texts(f"{MATRIX} thead a") == [
        "BCCDdetection, AP",
        "COCO 2017detection, AP",
        "ADE20Ksegmentation, mIoU",
        "DAVIS 2017tracking, J&F",
        "NYUv2depth, RMSE",
    ]  # fmt: skip
    page.click("#overview .more")
    reported = cells(page, "webdino_7b14")
    assert [[text for text, _ in cell] for cell in reported] == [[], [], [], ["57.1"], []]
    measured = next(t for t in page.texts(f"{MATRIX} tbody th") if t.startswith("dinov3_l16, "))
    found = [cell[0] for cell in cells(page, measured) if cell]
    assert {text for text, _ in found} <= {"55.9", "53.8", "73.1", "0.309"}  # weights by protocol
    assert all("ours" in kind for _, kind in found)
    assert not any("ours" in kind for cell in reported for _, kind in cell)
    best = set(page.texts(f"{MATRIX} .best-cell"))
    assert best == {"57.0", "51.6", "54.3", "73.3", "0.309"}  # RMSE: the lowest


def test_the_matrix_of_a_task_has_its_protocols(open_page, make_record, make_reported):
    names = {"a": (0.2, 0.6), "b": (0.4, 0.5), "c": (0.3, None)}
    page = open_page([
        make_reported({"protocol.id": f"p{i}", "encoder.name": name, "scores": {"AP": score}})
        for name, scores in names.items() for i, score in enumerate(scores) if score is not None
    ])  # fmt: skip
    assert page.texts(MATRIX) == []  # one data set: one column says no more than its table
    page.choose("task", "detection")
    assert page.texts(f"{MATRIX} tbody th") == ["a", "b", "c"]
    assert cells(page, "c") == [[["30.0", "cell"]], []]
    assert page.texts(f"{MATRIX} .best-cell") == ["60.0", "40.0"]


def test_two_encoders_side_by_side(open_page, make_record, make_reported):
    depth = {"task": "depth", "protocol.metric": "rmse", "protocol.higher_is_better": False}
    records, ranks = [], {}
    for name, score, group in (("a", 0.5, 1), ("b", 0.46, 2)):
        here = {"encoder.name": name, "encoder.weights": "w.pt", "encoder.weights_sha256": "d" * 64}
        both = [
            make_record({**here, "protocol.id": "p", "scores": {"AP": score}}),
            make_record({**here, **depth, "protocol.id": "q", "scores": {"rmse": score}}),
        ]
        ranks[str(record_path(both[0]))] = Rank(name, score, group, 0.01, 1, False)
        records += both
    records.append(make_record({"encoder.name": "c", "protocol.id": "p", "scores": {"AP": 0.1}}))
    papers = {"r": 0.61, "s": 0.62}
    records += [
        make_reported({"protocol.id": "t", "encoder.name": name, "scores": {"AP": score}})
        for name, score in papers.items()
    ]
    page = open_page(records, Findings(ranks))
    lines = (
        "return [...document.querySelectorAll(arguments[0])].map(r => [...r.cells].map(c =>"
        " c.textContent).concat(r.cells[5].className))"
    )
    page.choose("a", "a, weights dddddddd")
    page.choose("b", "b, weights dddddddd")
    first, second = page.run(lines, f"{MATRIX} tbody tr")
    assert first == ["p-v1", "BCCD", "AP", "50.0", "46.0", "+4.0",
                     "both measured here, groups 1 and 2", "better"]  # fmt: skip
    assert second[3:] == ["0.500", "0.460", "+0.040", "both measured here", "worse"]
    command = "python tools/leaderboard.py compare a b --protocol p"
    assert page.texts("#overview pre") == [command]
    assert page.texts("main section h3 a") == ["p", "q"]
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    assert page.run(lines, f"{MATRIX} tbody tr") == [first, second]
    page.click("#clear")
    page.choose("a", "r")
    page.choose("b", "s")
    ((*_, difference, compared, kind),) = page.run(lines, f"{MATRIX} tbody tr")
    assert (difference, compared, kind) == ("\u22121.0", "both reported by others", "worse")
    assert page.texts("#overview pre") == []
    page.choose("b", "c, random weights")
    assert "No protocol has both." in page.texts("#overview p")


def test_metrics_of_classes_are_shown_on_demand(page):
    heads = f"{COCO_TABLE} thead th"
    assert "AP/person" not in page.texts(heads)
    page.choose("metrics", True)
    assert {"AP/person", "AP/car"} <= set(page.texts(heads))
    assert "metrics=all" in page.driver.current_url


@pytest.mark.parametrize("way", ["click", "key"])
def test_a_score_opens_its_record(page, way):
    button = page.find(f"{DAVIS_TABLE} td.score button")
    if way == "click":
        page.click(f"{DAVIS_TABLE} td.score button")
    else:
        page.run("arguments[0].focus()", button)
        page.press(ENTER)
    assert page.run("return document.querySelector('dialog').matches(':modal')")
    (text,) = page.texts("dialog")
    for part in (
        "dinov3_l16", "davis-dinov3-m, version 1", "n = 30 videos, 1000 resamples",
        "n = 61 objects",
        "NVIDIA H100 80GB HBM3", "AMD EPYC 9B14, 32 cores", "torch 2.9.1", "1234567890" * 4,
        "0123456789abcdef", "c" * 64, "d" * 64, "e" * 64, "1f3a5c7b" * 8, "GiB",
        "2026-01-31T12:00:00Z", "compares checkpoints", "measured minus reported \u22120.2",
        "w.pt", "Seed", "303 M", "davis-dinov3-m-v1.seed0.1f3a5c7b.npz",
    ):  # fmt: skip
        assert part in text, part
    command = "python tools/benchmark.py tracking --encoder dinov3_l16 --protocol davis-dinov3-m"
    assert page.texts("dialog pre")[0] == command
    assert '"schema_version": 6' in page.texts("dialog pre")[1]
    page.press(ESCAPE)
    assert not page.run("return document.querySelector('dialog').open")
    assert page.driver.switch_to.active_element == button


def test_a_record_tells_data_checkpoint_weights_and_layers(open_page, make_record):
    page = open_page([make_record({
        "dataset.sha256": "8" * 64, "encoder.published": "no published hash",
        "encoder.revision": "7" * 40, "encoder.whole_params": 6_700_000,
        "encoder.weights": "hf://a/b", "encoder.weights_sha256": "6" * 64,
        "options": {"amp": "bfloat16"},
        "training.rule": "test-best (paper-compat)", "by_layer": {"AP": {"0": 0.1, "0+1": 0.25}},
    })])  # fmt: skip
    page.click("td.score button")
    (text,) = page.texts("dialog")
    for part in ("8" * 64, "no published hash", "7" * 40, "6 M of 6.7 M", "amp bfloat16",
                 "blocks 0+125.0",
                 "end of training, 8 of 8 epochs; test-best (paper-compat)"):  # fmt: skip
        assert part in text, part


def test_other_ways_to_close_a_record(page):
    is_open = "return document.querySelector('dialog').open"
    page.click(f"{ADE_TABLE} td.score button")
    page.click("dialog .close")
    assert not page.run(is_open)
    page.click(f"{ADE_TABLE} td.score button")
    page.click("dialog h2")
    assert page.run(is_open)
    beside = {"type": "mousePressed", "x": 8, "y": 450, "button": "left", "clickCount": 1}
    for kind in ("mousePressed", "mouseReleased"):
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {**beside, "type": kind})
    assert not page.run(is_open)


def test_a_reported_record_has_its_source(page):
    page.click(f"{ADE_TABLE} [data-origin=reported] tr:last-child td.score button")
    (text,) = page.texts("dialog")
    assert "pe_core_g14_448" in text and "arXiv:2504.13181" in text and "Table 5" in text
    assert "settings unknown" in text and "Command" not in page.texts("dialog h3")


@pytest.mark.parametrize("works", [True, False])
def test_the_command_can_be_copied(page, works):
    page.run(
        "const write = arguments[0] ? async (text) => { window.copied = text; }"
        " : async () => { throw new Error('not allowed'); };"
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: write}})",
        works,
    )
    page.click(f"{ADE_TABLE} td.score button")
    page.click("dialog .copy")
    (command, _) = page.texts("dialog pre")
    if works:
        wait_for(page, "return window.copied")
        assert page.run("return window.copied") == command
    else:
        wait_for(page, "return getSelection().toString()")
        assert page.run("return getSelection().toString()") == command


def test_whiskers_lie_on_one_scale(page):
    assert len(page.texts(f"{COCO_TABLE} td.interval svg")) == 8
    assert page.texts(f"{COCO_TABLE} th.interval .ends span") == ["43.2", "56.9"]
    assert page.texts(f"{COCO_TABLE} td.interval .bounds")[0] == "55.7 to 56.9"
    dots = page.run(
        "return [...document.querySelectorAll(`${arguments[0]} td.interval circle`)]"
        ".map(c => Number(c.getAttribute('cx')))",
        COCO_TABLE,
    )
    assert dots == sorted(dots, reverse=True) and len(set(dots)) == 8
    assert not page.texts(f"{BCCD_TABLE} .interval")


def test_groups_and_differences(page):
    assert page.texts(f"{COCO_TABLE} .badge") == list("11233333")
    assert page.texts(f"{COCO_TABLE} .worse") == ["\u22120.7"]
    assert page.texts(f"{ADE_TABLE} .better") == ["+0.0", "+0.1"]
    assert not page.texts(f"{ADE_TABLE} .badge")


def test_seeds_are_folded_below_their_mean(page):
    table = f"{BCCD_TABLE} tbody"
    shown = "return [...document.querySelectorAll(arguments[0])].filter(e => !e.hidden).length"
    assert page.texts(f"{table} tr:not(.seed) td.score") == ["51.6", "50.2"]
    assert page.texts(f"{table} .fold") == ["3 seeds"] * 2
    assert page.run(shown, f"{table} tr") == 2
    assert page.texts(f"{table} .notes-list li")[0] == "mean of 3 seeds, 50.9 to 52.1"
    fold = page.click(f"{table} .fold")
    assert fold.get_attribute("aria-expanded") == "true"
    assert page.run(shown, f"{table} tr") == 5
    assert page.texts(f"{table} tr.seed:not([hidden]) th") == ["seed 0", "seed 1", "seed 2"]
    assert page.texts(f"{table} tr.seed:not([hidden]) td.score") == ["51.7", "50.9", "52.1"]
    page.click(page.head(BCCD_TABLE, "AP"))  # worst first: seeds stay with their mean
    names = ["pe_core_t16_384", *(f"seed {i}" for i in range(3)), "pe_spatial_t16_512"]
    assert page.names(BCCD_TABLE)[:5] == names
    page.click(f"{table} .fold[aria-expanded=true]")
    assert page.run(shown, f"{table} tr") == 2


def test_the_mean_opens_and_leads_to_each_seed(open_page, make_record):
    interval = {"low": 0.3, "high": 0.5, "unit": "image", "num_units": 72, "resamples": 1000,
                "method": "m", "stretch": 1.0, "thin_classes": 0}  # fmt: skip
    records = [
        make_record({"seed": s, "scores": {"AP": 0.4 + s / 100}, "ci95": {"AP": [interval]}})
        for s in range(2)
    ]
    mean = CombinedInterval(
        mean=0.405, low=0.35, high=0.46, item_standard_error=0.0123, seed_standard_error=0.0045,
        standard_error=0.013, seed_freedom=1, num_seeds=2, compares="encoders", unit="image",
        num_units=72, num_items=72, resamples=1000, undefined=0, few_units=False, thin_classes=0,
    )  # fmt: skip
    page = open_page(records, Findings(means={row_key(records[0]): mean}))
    assert page.texts("td.interval .size")[0] == "n = 72 images"
    button = page.find("td.score button")
    page.click("td.score button")
    (text,) = page.texts("dialog")
    assert "35.0 to 46.0 (n = 72 images)" in text
    assert "1.23 from the images, 0.45 from the seeds" in text
    assert page.texts("dialog td.score") == ["40.0", "41.0"]
    page.click("dialog tr:nth-child(2) td.score button")
    assert '"seed": 1' in page.texts("dialog pre")[1]
    assert "30.0 to 50.0" in page.texts("dialog table")[0]
    page.press(ESCAPE)
    assert page.driver.switch_to.active_element == button


def test_mean_ranks_and_power_are_shown(open_page, make_record):
    ranks = MeanRanks(
        ("one-v1", "two-v1"),
        (
            MeanRank(
                "timm+x=a/random", 1.2, 1.0, 1.5, {"one-v1": 1.0, "two-v1": 1.5}, True, "encoders"
            ),
            MeanRank("b/random", 1.8, 1.5, 2.0, {"one-v1": 2.0, "two-v1": 1.5}, True, "encoders"),
        ),
        {"c/random": ("two-v1",)},
    )  # fmt: skip
    power = Detectable(0.0123, 3, "image", 72, "encoders", 0.8)
    findings = Findings(detectable={("bccd-detection-scratch", 1): power}, mean_ranks=ranks)
    page = open_page([make_record()], findings)
    assert page.texts("table.ranks tbody th") == ["timm:x/a", "b"]
    assert page.texts("table.ranks tbody tr:first-child td") == [
        "random", "1.2", "1.0 to 1.5", "1", "1.5"
    ]  # fmt: skip
    assert "1 other lacks some of these protocols" in "".join(page.texts(".meanings li"))
    (line,) = page.texts("p.power")
    assert line.endswith("AP 1.2 between encoders (n = 72 images; from 3 pairs of rows).")
    page.choose("q", "bccd")  # of one protocol: the list over all goes
    assert not page.texts("table.ranks") and page.texts("p.power")


def test_notes_stand_in_the_row_and_their_meaning_below(page):
    assert page.texts(f"{COCO_TABLE} .notes-list li")[0] == "one seed"
    assert page.texts(f"{COCO_TABLE} .meanings li")[0] == (
        "One seed: the row compares checkpoints, not encoders."
    )
    sizes = page.texts(f"{DAVIS_TABLE} td.interval .size")
    assert sizes and set(sizes) == {"n = 30 videos"}


def test_layer_curves(page):
    figure = f"{ADE_TABLE} figure.layers"
    with_layers = [name for name in ADE if not name.startswith(("siglip2", "timm"))]
    assert len(page.texts(f"{figure} .plot path.curve")) == len(with_layers)
    assert page.texts(f"{figure} .legend .name") == with_layers
    assert len(page.texts(f"{figure} circle.best")) == len(with_layers)
    assert len(page.texts(f"{figure} circle.last")) == len(with_layers)
    core = next(t for t in page.texts(f"{figure} .legend li") if t.startswith("pe_core"))
    assert core == "pe_core_g14_448 best 39.0 at block 35, last 25.8 at block 49"
    ends = (
        "return new Set([...document.querySelectorAll(`${arguments[0]} circle.last`)]"
        ".map(c => c.getAttribute('cx'))).size"
    )
    assert page.run(ends, figure) > 1
    page.select_axis(figure, "relative depth")
    assert page.run(ends, figure) == 1
    assert not page.texts(f"{COCO_TABLE} figure.layers")


def test_seeds_of_one_encoder_are_one_curve(open_page, make_record):
    by_seed = [
        {"0": 0.1, "1": 0.30, "2": 0.2, "0+2": 0.5}, {"0": 0.1, "1": 0.20, "2": 0.4, "0+2": 0.3}
    ]  # fmt: skip
    records = [
        make_record({"seed": seed, "scores": {"AP": 0.3}, "by_layer": {"AP": by_layer}})
        for seed, by_layer in enumerate(by_seed)
    ]
    other = {"encoder.name": "another", "scores": {"AP": 0.2}, "by_layer": {"AP": by_seed[0]}}
    page = open_page([*records, make_record(other)])
    figure = "figure.layers"
    assert len(page.texts(f"{figure} path.band")) == 1
    assert len(page.texts(f"{figure} .plot path.curve")) == 2
    assert page.texts(f"{figure} .legend li") == [
        "pe_spatial_t16_512, mean of 2 seeds: best 30.0 at block 2, last 30.0 at block 2, "
        "40.0 at blocks 0+2 together",
        "another best 30.0 at block 1, last 20.0 at block 2, 50.0 at blocks 0+2 together",
    ]
    assert "Band: lowest to highest seed." in page.texts(f"{figure} .note")[0]


def test_the_cost_plot(page):
    figure = f"{COCO_TABLE} figure.cost"
    circles = f"{figure} circle.dot"
    assert len(page.texts(circles)) == 8 and len(page.texts(f"{figure} path.whisker")) == 8
    assert len(page.texts(f"{figure} text.name")) == 8
    bounds = "95 % 55.7 to 56.9 (n = 5000 images)"
    assert page.texts(circles)[0] == f"pe_spatial_g14_448: 56.3, {bounds}, 1,852 M"
    for choice, unit in (("training time", "min"), ("evaluation time", "s")):
        page.select_axis(figure, choice)
        assert len(page.texts(circles)) == 8
        assert page.texts(circles)[0].split()[-1] in (unit, "h", "min")


@pytest.mark.parametrize("width", [390, 1280])
def test_labels_of_charts_keep_clear_of_each_other(page, width):
    set_width(page, width)
    page.driver.refresh()
    overlaps = page.run(
        """let found = 0;
        for (const svg of document.querySelectorAll("figure .plot svg")) {
          const frame = svg.getBoundingClientRect();
          const boxes = [...svg.querySelectorAll("text.name")].map(t => t.getBoundingClientRect());
          boxes.forEach((a, i) => {
            if (a.left < frame.left || a.right > frame.right + 1) found += 1;
            for (const b of boxes.slice(i + 1)) {
              const [w, h] = [Math.min(a.right, b.right) - Math.max(a.left, b.left),
                Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top)];
              if (w > 1 && h > 3) found += 1;
            }
          });
        }
        return found;"""
    )
    assert overlaps == 0


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_until_the_button_is_pressed(page, system):
    features = [{"name": "prefers-color-scheme", "value": system}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    background = "return getComputedStyle(document.body).backgroundColor"
    colors = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}
    other = {"light": "dark", "dark": "light"}[system]
    assert page.run(background) == colors[system]
    wait_for(
        page,
        f"return document.querySelector('#theme').textContent === '{other.capitalize()} theme'",
    )
    page.click("#theme")
    assert page.run(background) == colors[other]
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": "print", "features": features}
    )
    assert page.run(background) == colors["light"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough_to_read(page, theme):
    """WCAG AA: 4.5 to 1 for every colour of text on every colour that it may stand on."""
    page.run("document.documentElement.dataset.theme = arguments[0]", theme)
    ratios = page.run(
        """const style = getComputedStyle(document.documentElement);
        const probe = document.body.appendChild(document.createElement("i"));
        const light = (name) => {
          probe.style.color = `var(--${name})`;
          const [r, g, b] = getComputedStyle(probe).color.match(/[\\d.]+/g).map(Number)
            .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ratio = (a, b) => {
          const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
          return (x + 0.05) / (y + 0.05);
        };
        const result = {accent: ratio("accent", "accent-shade")};
        for (const text of ["ink", "soft", "accent", "better", "worse"]) {
          result[text + " on page"] = ratio(text, "page");
          result[text + " on shade"] = ratio(text, "shade");
        }
        probe.remove();
        return result;"""
    )
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    set_width(page, width)
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(overflow) <= 0
    assert page.run("return innerWidth") == width
    page.choose("metrics", True)
    assert page.run(overflow) <= 0
    page.click(f"{COCO_TABLE} td.score button")
    code = "const d = document.querySelector('dialog'); return d.scrollWidth - d.clientWidth"
    assert page.run(code) <= 0
    page.press(ESCAPE)


def test_refused_records_are_named_and_fit(page):
    name = Path("root") / ("a" * 90) / f"{'b' * 90}.json"
    text = f"{name}: field 'notes' is {HOSTILE}; restore it"
    page.path.write_text(with_html(page.path.read_text(), {name: [text]}, Path("root")))
    page.driver.refresh()
    set_width(page, 390)
    assert page.texts("[role=alert] h2") == ["1 record is refused and not shown"]
    assert HOSTILE in page.texts("[role=alert] li")[0]
    assert len(page.texts("main section")) == 5
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(overflow) <= 0


def test_the_first_column_stays_in_sight(page):
    set_width(page, 390)
    left = "return document.querySelector(arguments[0]).getBoundingClientRect().left"
    names = f"{COCO_TABLE} tbody th"
    before = page.run(left, names)
    page.run("document.querySelector(arguments[0]).scrollLeft = 400", f"{COCO_TABLE} .scroll")
    assert page.run(left, names) == before
    assert page.run(left, f"{COCO_TABLE} td.score") < 0


def test_text_of_records_is_shown_as_text(open_page, make_record, make_reported):
    page = open_page(hostile_records(make_record, make_reported))
    assert page.texts("tbody th")[0] == HOSTILE
    assert page.texts("td.mark") == [HOSTILE]
    for button in page.driver.find_elements("css selector", "td.score button"):
        page.run("arguments[0].click()", button)
        assert page.texts("dialog .notes") == [HOSTILE]
        page.press(ESCAPE)
    page.choose(
        "family", page.run("return document.querySelector('[name=family]').options[1].value")
    )
    assert page.run("return document.querySelectorAll('img, b').length") == 0
    assert page.run("return document.querySelectorAll('script').length") == 2


def test_an_empty_page_says_what_to_do(open_page):
    page = open_page([])
    (text,) = page.texts("#count")
    assert text.startswith("No records yet.") and "`" not in text
    assert "python tools/leaderboard.py build" in page.texts("#count code")
    assert page.texts("main section") == []


def test_one_record_alone(open_page, make_record):
    page = open_page([make_record({"ci95": {"AP": [
        {"low": 0.4512, "high": 0.4512, "unit": "unknown"}
        | dict.fromkeys(("num_units", "resamples", "method", "stretch", "thin_classes"))
    ]}})])  # fmt: skip
    assert page.texts("#count") == ["1 result under 1 protocol"]
    assert page.texts("figure") == [] and len(page.texts("td.interval svg")) == 1
    page.click("td.score button")
    assert "unknown" in page.texts("dialog table")[0]
