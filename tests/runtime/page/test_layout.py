"""The page on screens of several widths, in the dark, by keyboard alone, and for screen readers."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mobilevlm.runtime.server.app import PAGE
from tests.conftest import ROOT
from tests.runtime.page.conftest import PICTURE

FOLDER = ROOT / "runtime" / "server" / "page"
# What stands out of the window at its sides; an element of which nothing is seen cannot.
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((element) => {
    const {left, right, width} = element.getBoundingClientRect();
    return width > 1 && (left < -0.5 || right > innerWidth + 0.5);
}).map((element) => element.outerHTML.slice(0, 80))"""


def test_all_files_of_the_page_are_served_under_its_policy(served):
    assert sorted(PAGE) == sorted(path.name for path in FOLDER.iterdir())
    for name in PAGE:
        response = httpx.get(f"{served.url}/{'' if name == 'index.html' else name}")
        assert response.content == (FOLDER / name).read_bytes()
        policy = response.headers["content-security-policy"].split("; ")
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "unsafe" not in str(policy) and "http" not in str(policy)
        assert response.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("width", [1280, 900, 390, 360, 320])
def test_nothing_overflows_to_the_side(opened, width):
    page = opened(width=width, height=800)
    page.tab.locator("#bundle:enabled").wait_for()
    assert page.tab.evaluate(OUTSIDE) == []
    page.show()
    page.tab.get_by_label("Closed question").check()
    page.tab.click("#key-open")
    page.tab.get_by_label("Free answer").check()
    page.ask("W" * 200)
    assert page.tab.evaluate(OUTSIDE) == []
    assert page.tab.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    frame, talk = (page.tab.locator(name).bounding_box() for name in (".side", ".talk"))
    beside = talk["x"] >= frame["x"] + frame["width"]
    assert beside == (width > 880)


def test_the_whole_page_works_by_keyboard(opened):
    page = opened()
    page.tab.on("filechooser", lambda chooser: chooser.set_files(PICTURE))
    page.tab.locator("#bundle:enabled").wait_for()
    order = []
    for _ in range(20):
        page.tab.keyboard.press("Tab")
        order.append(page.tab.evaluate("document.activeElement.id || document.activeElement.className"))
        if order[-1] == "question":
            break
    assert order == [
        *("skip", "bundle", "key-open", "theme", "empty", "take"),
        *("example", "example", "example"),
        *("", "question"),  # the kind of answer has no id: one stop for both
    ]
    page.tab.focus("#empty")
    page.tab.keyboard.press("Enter")
    page.tab.locator("#question:focus").wait_for()  # the button that had the focus is gone
    page.tab.keyboard.type("What color is")
    page.tab.keyboard.press("Shift+Enter")
    page.tab.keyboard.type("the circle?")
    assert page.tab.input_value("#question") == "What color is\nthe circle?"
    page.tab.keyboard.press("Enter")
    page.tab.locator('.answer[aria-busy="false"]').wait_for()
    assert page.answers == ["The circle is red."]
    assert page.tab.locator("#question:focus").count() == 1
    page.tab.focus("input[value=free]")
    page.tab.keyboard.press("ArrowRight")
    assert page.tab.locator("#choices").is_visible()


def test_a_screen_reader_hears_sentences_and_errors(page):
    page.show()
    answer = page.ask("Describe the image.")
    said = page.tab.locator("#spoken > p").all_inner_texts()
    assert said[0].startswith("Image: shapes.png") and " ".join(said[1:]) == answer
    assert len(said) > 3  # sentence by sentence
    assert page.tab.locator("#spoken").get_attribute("aria-live") == "polite"
    named = {
        "combobox": "Bundle",
        "button": "API key",
        "switch": "Dark mode",
        "textbox": "Question",
        "img": "shapes.png",
    }
    for role, name in named.items():
        assert page.tab.get_by_role(role, name=name).count() == 1, name


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing(opened, width, scheme):
    """Names, roles, contrast, landmarks: the rules of axe-core."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = opened(width=width, height=800, color_scheme=scheme, reduced_motion="reduce")
    page.tab.locator("#bundle:enabled").wait_for()
    assert found_by(axe, page) == []
    page.show()
    page.ask("Describe the image.")
    page.tab.get_by_label("Closed question").check()
    page.tab.click("#key-open")
    page.tab.route("**/v1/choose", lambda route: route.continue_(post_data='{"messages": []}'))  # a true error
    page.send("Is there a star?")
    page.tab.locator(".failed").wait_for()
    assert found_by(axe, page) == []


def found_by(axe, page) -> list[str]:
    found = axe.Axe().run(page.tab).response["violations"]
    return [f"{rule['id']}: {[node['html'][:100] for node in rule['nodes']]}" for rule in found]


def test_dark_mode_follows_the_system_until_it_is_switched(opened):
    page = opened(color_scheme="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.tab.evaluate(ground)
    switch = page.tab.get_by_role("switch", name="Dark mode")
    assert switch.get_attribute("aria-checked") == "true"
    switch.click()
    light = page.tab.evaluate(ground)
    assert sum(map(int, light[4:-1].split(","))) > 600 > 200 > sum(map(int, dark[4:-1].split(",")))
    page.tab.reload()
    assert page.tab.evaluate(ground) == light
    switch.click()
    page.tab.emulate_media(color_scheme="light")
    page.wait_for(f"{ground} === '{light}'")  # the system's choice again


def test_the_page_names_no_other_host():
    for path in Path(FOLDER).iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "innerHTML" not in text, path.name
