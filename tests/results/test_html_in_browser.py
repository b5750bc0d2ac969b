"""The HTML page in headless Chromium: sort, filter, open a record, small screens, no errors."""

from __future__ import annotations

import shutil

import pytest
from page_case import HOSTILE, many_records

from pe_dense.results.html_page import render_html

webdriver = pytest.importorskip(
    "selenium.webdriver", reason="needs selenium (pip install selenium)"
)
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, make_record, make_reported, tmp_path):
    path = tmp_path / "leaderboard.html"
    path.write_text(render_html(*many_records(make_record, make_reported)))
    browser.set_window_size(1280, 900)
    browser.get(path.as_uri())
    yield browser
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
    assert browser.execute_script("return window.hacked") is None


def run(page, code, *args):
    return page.execute_script(code, *args)


def texts(page, selector):
    return run(
        page,
        "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)",
        selector,
    )


def click(page, selector):
    page.find_element("css selector", selector).click()


def choose(page, name, value):
    run(
        page,
        "const s = document.querySelector(`[name=${arguments[0]}]`); s.value = arguments[1];"
        "s.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


DETA = '[data-protocol="coco-deta-v1"]'


def test_every_protocol_is_there(page):
    assert len(texts(page, "main section")) == 5
    assert texts(page, f"{DETA} h3") == ["Measured here", "Reported by others"]
    assert texts(page, "#count") == ["39 results"]
    assert texts(page, '[data-protocol="bccd-detection-v1"] tr.seeds td')[1] == "51.0 \u00b1 1.0"


def test_sorting_changes_the_order(page):
    first = f"{DETA} table tbody th"
    before = texts(page, first)[:8]
    assert before[0] == "pe_spatial_g14_448"
    run(page, "document.querySelector(arguments[0]).scrollIntoView()", DETA)
    click(page, f"{DETA} thead th:nth-child(1) button")
    assert texts(page, first)[:8] == sorted(before)
    click(page, f"{DETA} thead th:nth-child(1) button")
    assert texts(page, first)[:8] == sorted(before, reverse=True)
    sort = "return document.querySelector(arguments[0]).getAttribute('aria-sort')"
    assert run(page, sort, f"{DETA} thead th") == "descending"
    click(page, f"{DETA} thead th:nth-child(3) button")  # the score, best first
    assert texts(page, first)[:8] == before


def test_filters_and_their_link(page):
    choose(page, "family", "pe_spatial")
    names = set(texts(page, "tbody th"))
    assert names == {"pe_spatial_g14_448", "pe_spatial_b16_512", "pe_spatial_t16_512"}
    choose(page, "task", "depth")
    choose(page, "origin", "reported")
    assert texts(page, "tbody th") == ["pe_spatial_g14_448"]
    assert "family=pe_spatial" in page.current_url and "origin=reported" in page.current_url
    page.get(page.current_url)
    page.refresh()
    assert texts(page, "tbody th") == ["pe_spatial_g14_448"]
    for name in ("family", "task", "origin"):
        choose(page, name, "")
    choose(page, "q", "siglip2")
    assert set(texts(page, "tbody th")) == {"siglip2_b16_512"} and len(texts(page, "tbody th")) == 4


def test_a_score_opens_its_record(page):
    button = page.find_element("css selector", f"{DETA} td.score button")
    run(page, "arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    text = texts(page, "dialog")[0]
    assert "python tools/test.py configs/detection/bccd.py best.pth" in text
    assert HOSTILE in text and "over 5000 images" in text and "1234567890" in text
    assert run(page, "return document.querySelector('dialog').open")
    page.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not run(page, "return document.querySelector('dialog').open")
    assert page.switch_to.active_element == button


def test_charts_have_their_points(page):
    assert len(texts(page, '[data-protocol="ade20k-linear-v1-v1"] figure.layers path')) == 3
    assert len(texts(page, f"{DETA} figure.cost circle")) == 8
    run(
        page,
        "const s = document.querySelector(arguments[0]); s.value = 'training time';"
        "s.dispatchEvent(new Event('change'))",
        f"{DETA} figure.cost select",
    )
    assert "16.7 min" in texts(page, f"{DETA} figure.cost text")
    assert len(texts(page, f"{DETA} td.score svg")) == 8


def test_light_and_dark(page):
    color = "return getComputedStyle(document.body).backgroundColor"
    before = run(page, color)
    click(page, "#theme")
    assert run(page, color) != before


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 850, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        run(page, "window.dispatchEvent(new Event('resize'))")
        assert run(page, "return document.documentElement.scrollWidth") <= width
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_an_empty_page(browser, tmp_path):
    path = tmp_path / "empty.html"
    path.write_text(render_html([]))
    browser.get(path.as_uri())
    assert texts(browser, "#count") == ["No records yet."]
