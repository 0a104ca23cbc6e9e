"""Report page in a real browser: sorting, filters, gallery, charts, colours, width; and no request leaves the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_study import EXPECTED, HOSTILE

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Debian's chromium and chromium-driver, which are not installed"
)
ROWS = "return [...document.querySelectorAll('#s1-board tbody tr')].map(row => row.cells[2].textContent)"
ORDER = "return [...document.querySelectorAll('#s1-board tbody tr')].map(row => row.cells[3].textContent)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any, study_report: Path) -> Any:
    """The browser with the page open and its tables ready."""
    resize(chromium, 1280, 900)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.get(study_report.as_uri())
    until(chromium, "return document.documentElement.dataset.tables === 'ready'")
    return chromium


def until(browser: Any, script: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 240, poll_frequency=0.05).until(lambda driver: driver.execute_script(script))


def resize(browser: Any, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def press(element: Any, *keys: str) -> None:
    element.send_keys(*keys)


def test_nothing_leaves_the_page_and_the_console_is_empty(browser: Any) -> None:
    for figure in browser.find_elements("css selector", "figure.chart, .gallery img, .paper img"):
        browser.execute_script("arguments[0].scrollIntoView()", figure)
    until(browser, "return [...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)")
    until(browser, "return [...document.images].every(image => image.complete && (image.naturalWidth || !image.src))")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent" and not m["params"]["documentURL"].startswith("chrome:")
    ]  # the empty page of a new window
    assert {url.split(":")[0] for url in urls} == {"file", "blob", "data"}
    assert {url.rsplit("/", 1)[-1] for url in urls} >= {"index.html", "plotly.js", "tables.js", "s1-ranks.svg"}
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_names_are_shown_as_they_are_and_run_nothing(browser: Any) -> None:
    assert HOSTILE in browser.execute_script(ROWS)
    assert browser.execute_script("return document.querySelectorAll('td script, td img, td b b').length") == 0
    figure = find(browser, "#s1-cost")
    browser.execute_script("arguments[0].scrollIntoView()", figure)
    until(browser, "return document.querySelector('#s1-cost').dataset.drawn")
    legend = browser.execute_script("return document.querySelector('#s1-cost .legend').textContent")
    assert EXPECTED[: EXPECTED.index("|")] in legend  # a long name is cut in its middle


def test_a_column_of_numbers_is_sorted_by_mouse_and_keyboard(browser: Any) -> None:
    shown = browser.execute_script(ORDER)
    assert [text.split(" ")[0] for text in shown] == ["67.6", "37.5", "37.5", "–"]
    head = find(browser, "#s1-board thead th:nth-child(4)")
    head.click()
    head.click()
    assert browser.execute_script(ORDER) == [*shown[2::-1], "–"]
    head = find(browser, "#s1-board thead th:nth-child(3) [role=button]")
    press(head, "\ue007")  # Enter
    assert [name for name in browser.execute_script(ROWS) if name != HOSTILE] == ["full", "lora_qv", "zero_shot"]


def test_rows_without_a_number_come_last_in_both_directions(browser: Any) -> None:
    place = "[...document.querySelectorAll('#audit thead th')].findIndex(h => h.textContent === 'trainable')"
    head = browser.execute_script(f"return document.querySelectorAll('#audit thead th')[{place}]")
    for _ in range(2):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", head)
        head.click()
        cells = browser.execute_script(
            f"const i = {place}; return [...document.querySelectorAll('#audit table:first-of-type tbody tr')]"
            ".map(row => row.cells[i]?.textContent).filter(text => text !== undefined)"
        )
        assert cells.index("–") == len(cells) - 1


def test_rows_are_filtered_by_text_and_by_lists(browser: Any) -> None:
    search = find(browser, "#s1-leaderboard input[type=search]")
    press(search, "zero_shot")
    assert browser.execute_script(ROWS) == ["zero_shot"]
    search.clear()
    press(search, " ", "\ue003")
    assert len(browser.execute_script(ROWS)) == 4
    choice = find(browser, "#s1-leaderboard select[data-column=backbone]")
    press(choice, "mobile_sam")
    assert browser.execute_script(ROWS) == ["lora_qv", HOSTILE]


def test_a_chart_shows_another_score_and_cost(browser: Any) -> None:
    figure = find(browser, "#s1-cost")
    browser.execute_script("arguments[0].scrollIntoView()", figure)
    until(browser, "return document.querySelector('#s1-cost').dataset.drawn")
    title = "return document.querySelector('#s1-cost .xtitle').textContent"
    assert browser.execute_script(title) == "trainable parameters of the encoder"
    browser.execute_script(
        "const list = document.querySelector('#s1-cost select');"
        "list.value = 'AJI against latency, ms'; list.dispatchEvent(new Event('change'))"
    )
    until(browser, f"{title} === 'latency, ms'")
    assert browser.execute_script("return document.querySelector('#s1-cost .ytitle').textContent") == "AJI, %"


def test_a_picture_of_the_gallery_opens_and_escape_closes_it(browser: Any) -> None:
    button = find(browser, "#s2-gallery button.open")
    browser.execute_script("arguments[0].focus()", button)
    press(button, "\ue007")
    assert browser.execute_script("return document.getElementById('viewer').open")
    assert find(browser, "#viewer p").text == "tiny_sam/full"
    until(browser, "return document.querySelector('#viewer img').naturalWidth > 300")
    press(find(browser, "#viewer button"), "\ue00c")  # Escape
    assert not browser.execute_script("return document.getElementById('viewer').open")


def test_the_page_is_as_wide_as_a_phone(browser: Any) -> None:
    resize(browser, 360, 800)
    for figure in browser.find_elements("css selector", "figure.chart"):
        browser.execute_script("arguments[0].scrollIntoView()", figure)
    until(browser, "return [...document.querySelectorAll('figure.chart')].every(figure => figure.dataset.drawn)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360


def test_colours_are_dark_where_the_reader_wants_that(browser: Any) -> None:
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(colour) == "rgb(255, 255, 255)"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert browser.execute_script(colour) == "rgb(20, 23, 26)"
    until(browser, "return document.documentElement.classList.contains('dark')")


def test_the_page_can_be_used_by_keyboard(browser: Any) -> None:
    press(find(browser, "body"), "\ue004")  # Tab
    assert browser.execute_script("return document.activeElement.className") == "skip"
    unreachable = browser.execute_script(
        "return [...document.querySelectorAll('.dt-layout-table, .scroll, pre')].filter(e => e.tabIndex !== 0).length"
    )
    assert unreachable == 0
    assert browser.execute_script("return [...document.images].every(image => image.alt || image.closest('dialog'))")
