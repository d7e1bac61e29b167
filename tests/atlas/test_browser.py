"""The page in a browser: every card is drawn, and search, filter, sort and keys do their work."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.image
import numpy as np
import pytest
from atlas_runs import MAGENTA, report, verdict, write_run

from jaxrl_lab import atlas

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM = next((p for n in ("chromium", "google-chrome") if (p := shutil.which(n))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no chromium and chromedriver on the path"
)
WIDTH, HEIGHT = 1300, 1000
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    f"--window-size={WIDTH},{HEIGHT}",
)  # fmt: skip
GREEN = (0x00, 0x7A, 0x59)
"""``--reproduced`` of the light style."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": "light"}]},
    )
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three phenomena whose orders by name, outcomes and time all differ."""
    folder = tmp_path_factory.mktemp("atlas")
    alpha = [verdict("wins"), verdict("loses", "refuted", estimate=0.1, low=0.0, high=0.2)]
    beta = [verdict("falls", "refuted", estimate=0.1, low=0.0, high=0.2)]
    gamma = [verdict("rises"), verdict("keeps", note="<script>console.log(1)</script>")]
    for name, verdicts, seconds in (("alpha", alpha, 30), ("beta", beta, 20), ("gamma", gamma, 40)):
        write_run(folder / "runs" / name, report(name, verdicts, seconds=seconds))
    return atlas.build([folder / "runs"], folder / "atlas.html")


@pytest.fixture
def opened(browser: Chrome, page: Path) -> Iterator[Chrome]:
    visit(browser, page)
    yield browser
    assert browser.get_log("browser") == [], "nothing on the console"


def visit(browser: Chrome, page: Path) -> None:
    """Open a page and wait for all of it: ``get`` may return before a large file is parsed."""
    from selenium.webdriver.support.ui import WebDriverWait

    address = page.as_uri()
    browser.get(address)
    ready = "return document.readyState === 'complete' && location.href === arguments[0]"
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(ready, address))


def shown(browser: Chrome, what: str = ".card") -> list[str]:
    """Names of the cards, or ids of the claims, that are to be seen."""
    label = ".querySelector('h2, .facts code').textContent"
    code = f"return [...document.querySelectorAll({what!r})].filter(e => e.checkVisibility())"
    return list(browser.execute_script(f"{code}.map(e => e{label})"))


def find(browser: Chrome, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def pixels(png: bytes) -> np.ndarray:
    return np.rint(255 * matplotlib.image.imread(io.BytesIO(png))[..., :3]).astype(int)


def amount(image: np.ndarray, color: tuple[int, int, int]) -> int:
    """Pixels of (nearly) a color."""
    return int((np.abs(image - np.array(color)).max(-1) <= 3).sum())


def test_every_published_card_is_there(browser: Chrome, tmp_path: Path) -> None:
    cards = atlas.collect([])
    visit(browser, atlas.build([], tmp_path / "atlas.html"))
    assert shown(browser) == [card.name for card in cards]
    assert len(shown(browser, ".claim")) == sum(len(card.said.verdicts) for card in cards)
    for image in browser.find_elements("css selector", ".card img"):
        browser.execute_script("arguments[0].scrollIntoView(); return arguments[0].decode()", image)
        assert int(str(image.get_property("naturalWidth"))) > 500
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    assert wide <= WIDTH, "nothing reaches beyond the page"
    assert browser.get_log("browser") == []


def test_what_is_drawn(opened: Chrome) -> None:
    image = pixels(opened.get_screenshot_as_png())
    assert image.shape[1] in (WIDTH, 2 * WIDTH)
    assert amount(image, MAGENTA) > 10_000, "the figures"
    assert amount(image, GREEN) > 300, "intervals and words of what was reproduced"
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50, "text has soft edges"


def test_cards_are_sorted(opened: Chrome) -> None:
    from selenium.webdriver.support.ui import Select

    order = Select(find(opened, "#sort"))
    for by, expected in (
        ("name", ["alpha", "beta", "gamma"]),
        ("reproduced", ["gamma", "alpha", "beta"]),
        ("refuted", ["beta", "alpha", "gamma"]),
        ("seconds", ["beta", "alpha", "gamma"]),
    ):
        order.select_by_value(by)
        assert shown(opened) == expected


def test_claims_are_filtered_by_outcome(opened: Chrome) -> None:
    refuted = find(opened, "button[data-outcome=refuted]")
    refuted.click()
    assert refuted.get_attribute("aria-pressed") == "true"
    assert shown(opened, ".claim") == ["loses", "falls"]
    assert shown(opened) == ["alpha", "beta"]
    assert find(opened, "#status").text == "2 of 3 phenomena, 2 of 5 claims"
    find(opened, "button[data-outcome=inconclusive]").click()
    assert shown(opened) == []
    assert find(opened, "#nothing").is_displayed()
    find(opened, "button[data-outcome='']").click()
    assert len(shown(opened, ".claim")) == 5


def test_search_takes_words_of_cards_and_of_claims(opened: Chrome) -> None:
    field = find(opened, "#search")
    for words, cards, claims in (
        ("RISES", ["gamma"], ["rises"]),
        ("gamma", ["gamma"], ["rises", "keeps"]),
        ("what of beta", ["beta"], ["falls"]),
        ("gamma keeps", ["gamma"], ["keeps"]),
        ("alpha keeps", [], []),
    ):
        field.clear()
        field.send_keys(words)
        assert (shown(opened), shown(opened, ".claim")) == (cards, claims), words


def test_it_can_be_used_without_a_mouse(opened: Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> Any:
        opened.switch_to.active_element.send_keys(*keys)
        return opened.switch_to.active_element

    assert press(Keys.TAB).get_attribute("class") == "skip"
    assert press("j").get_attribute("data-name") == "alpha"
    assert press("j").get_attribute("data-name") == "beta"
    assert press("k").get_attribute("data-name") == "alpha"
    assert press("/").get_attribute("id") == "search"
    press("gamma")
    assert shown(opened) == ["gamma"]
    press(Keys.ESCAPE)
    assert len(shown(opened)) == 3
    button = find(opened, ".card[data-name=beta] .enlarge")
    opened.execute_script("arguments[0].focus()", button)
    press(Keys.ENTER)
    assert find(opened, "#large img").is_displayed()
    press(Keys.ESCAPE)
    assert not find(opened, "#large").is_displayed()
    assert opened.switch_to.active_element == button, "the focus is back where it was"


def test_without_script_everything_is_shown(opened: Chrome) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.refresh()
        seen = [e.text for e in opened.find_elements("css selector", "h2") if e.is_displayed()]
        assert seen == ["alpha", "beta", "gamma"]
        assert not find(opened, ".tools").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_every_claim_is_printed(opened: Chrome) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert len(shown(opened, ".claim")) == 5
        assert not find(opened, ".tools").is_displayed()
    finally:
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_there_is_a_dark_side(opened: Chrome) -> None:
    def paper(scheme: str) -> int:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        return int(pixels(opened.get_screenshot_as_png())[:50].sum(-1).mean())

    assert paper("dark") < 150 < 700 < paper("light")
