"""Asking: answers that stream, follow-ups, stopping, figures, bundles, closed questions, and errors."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any

import pytest
from PIL import Image

from tests.runtime.page.conftest import PICTURE
from tests.runtime.server.conftest import data_url, engine_pids, serving, slowed

SHORT = "Answer the question using a single word or phrase."
NOTE_LENGTHS = """() => {
    window.lengths = new Set();
    const note = () => window.lengths.add(document.querySelector(".answer > .text")?.textContent.length ?? 0);
    new MutationObserver(note).observe(document.getElementById("turns"), {subtree: true, childList: true});
}"""


def test_an_answer_streams_and_a_follow_up_knows_what_was_said(page, served):
    page.tab.evaluate(NOTE_LENGTHS)
    page.show()
    first = page.ask("Describe the image.")
    assert len(page.tab.evaluate("[...window.lengths]")) > 5  # it grew on the page, it did not appear
    follow_up = page.ask("What color is it?")

    question = [
        {"type": "image_url", "image_url": {"url": data_url(PICTURE)}},
        {"type": "text", "text": "Describe the image."},
    ]
    messages = [{"role": "user", "content": question}]
    assert first == served.chat(messages).json()["choices"][0]["message"]["content"]
    messages += [{"role": "assistant", "content": first}, {"role": "user", "content": "What color is it?"}]
    assert follow_up == served.chat(messages).json()["choices"][0]["message"]["content"]
    assert page.asked[-1]["messages"] == messages
    page.tab.click("text=New conversation")
    page.ask("Is there a star?")
    assert len(page.asked[-1]["messages"]) == 1


def test_figures_are_those_of_the_engine(page, tmp_path):
    Image.new("RGB", (300, 200), (31, 97, 42)).save(tmp_path / "new.png")  # an image that the engine has not seen
    page.show(tmp_path / "new.png")
    bodies: list[str] = []

    def keep(route: Any) -> None:
        response = route.fetch()
        bodies.append(response.text())
        route.fulfill(response=response)

    page.tab.route("**/v1/chat/completions", keep)
    page.ask("Is there a star?")
    page.tab.unroute("**/v1/chat/completions")
    lines = [line[6:] for line in bodies[0].splitlines() if line.startswith("data: {")]
    (timings,) = [chunk["timings"] for chunk in map(json.loads, lines) if "timings" in chunk]
    rate = float(page.text("#rate").replace(",", ""))
    assert rate == pytest.approx(timings["predicted_per_second"], abs=0.51)
    assert page.text("#rate-more") == f"{timings['predicted_n']} tokens"
    for name, field in (("encode", "image_encode_ms"), ("prefill", "prompt_ms"), ("ttft", "ttft_ms")):
        shown = re.fullmatch(r"([\d.]+) ms", page.text(f"#{name}"))
        assert shown and float(shown[1]) == pytest.approx(timings[field], abs=0.51), name
    assert float(page.text("#memory").removesuffix(" MiB")) == pytest.approx(timings["peak_rss_mib"], abs=0.51)
    assert re.fullmatch(r"[\d.]+ m?s as this page sees it", page.text("#ttft-more"))
    page.ask("Is there a square?")
    assert page.text("#encode-more") == "image was encoded before"
    assert re.fullmatch(r"\d+ tokens, \d+ reused", page.text("#prefill-more"))


@pytest.mark.parametrize("how", ["Escape", "button"])
def test_stop_keeps_what_came_and_frees_the_engine(page, served, how):
    page.show()
    page.make_endless()
    with slowed(engine_pids(served)[0]):
        page.send("Describe the image.")
        page.wait_for_tokens()
        page.tab.keyboard.press("Escape") if how == "Escape" else page.tab.click("#stop")
        page.tab.locator(".facts", has_text="stopped").wait_for()
    came = page.answers[-1]
    begin = time.monotonic()
    assert served.chat("Hi", max_tokens=1).status_code == 200
    assert time.monotonic() - begin < 5
    assert page.answers[-1] == came
    assert page.tab.locator("#ask").is_visible()
    page.make_usual()
    page.ask("Is there a star?")
    assert page.asked[-1]["messages"][1]["content"] == came


def test_a_question_stopped_before_its_first_token_can_be_sent_again(page, served):
    os.kill(engine_pids(served)[0], signal.SIGSTOP)  # an engine that takes its time
    try:
        page.send("Is there a star?")
        page.tab.locator(".answer.waiting").wait_for()
        page.tab.keyboard.press("Escape")
        page.tab.locator(".facts", has_text="stopped before the first token").wait_for()
    finally:
        os.kill(engine_pids(served)[0], signal.SIGCONT)
    assert page.tab.input_value("#question") == "Is there a star?"
    page.tab.press("#question", "Enter")
    page.tab.locator('#turns > li:nth-child(2) .answer[aria-busy="false"]').wait_for()
    assert len(page.asked[-1]["messages"]) == 1  # the stopped one is not part of the conversation


def test_an_engine_that_dies_is_reported_and_answers_the_next_question(page, served):
    page.make_endless()
    engine = engine_pids(served)[0]
    with slowed(engine):
        page.send("Describe the image.")
        page.wait_for_tokens()
        os.kill(engine, signal.SIGKILL)
    page.tab.locator(".failed", has_text="the engine of demo crashed during an answer; ask again").wait_for()
    assert page.tab.input_value("#question") == "Describe the image."
    page.make_usual()
    page.show()
    assert page.ask("What color is the circle?") == "The circle is red."


def test_another_bundle_answers(page):
    page.tab.select_option("#bundle", "other")
    assert page.text("#bundle-facts").startswith("other · target host · ")
    page.ask("Hi")
    assert page.asked[-1]["model"] == "other"
    assert page.text("#turns .facts").endswith("· other")


def test_key_and_size_are_asked_for_in_the_servers_words(opened, demo_fp32):
    with serving("--engine", f"demo={demo_fp32}", "--api-key", "right", "--max-request-mb", "0.01") as server:
        page = opened(server.url)
        page.tab.locator("#notice", has_text="an API key is needed").wait_for()
        page.tab.locator("#key:focus").fill("wrong")
        page.tab.keyboard.press("Enter")
        page.tab.locator("#notice", has_text="the API key is wrong").wait_for()
        page.tab.locator("#key:focus").fill("right")
        page.tab.keyboard.press("Enter")
        page.tab.locator("#bundle:enabled").wait_for()
        assert page.text("#notice") == "" and page.tab.locator("#key-form").is_hidden()
        page.tab.reload()
        page.tab.locator("#bundle:enabled").wait_for()  # the tab still knows the key
        page.tab.fill("#question", "word " * 3000)
        page.tab.press("#question", "Enter")
        page.tab.locator(".failed", has_text="Error 413: the request has more than 10,485 bytes").wait_for()
        assert page.tab.input_value("#question") == ("word " * 3000).strip()
        page.ask("Hi")
        assert page.tab.locator(".failed").count() == 1 and len(page.asked[-1]["messages"]) == 1


def test_a_server_that_is_gone_is_said(opened, demo_fp32):
    with serving("--engine", demo_fp32) as server:
        page = opened(server.url)
        page.tab.locator("#bundle:enabled").wait_for()
    page.send("Hi")
    page.tab.locator(".failed", has_text="the server cannot be reached").wait_for()
    page.complaints = [line for line in page.complaints if "ERR_CONNECTION" not in line]


def test_a_closed_question_needs_two_choices(page):
    page.tab.get_by_label("Closed question").check()
    page.tab.fill("#choices", "yes, ,yes")
    page.send("Is there a star?")
    assert page.text("#choices-error") == "Give at least two choices."
    assert page.tab.locator("#choices:focus").get_attribute("aria-invalid") is not None
    assert page.asked == []


def test_a_closed_question_gets_probabilities(page):
    page.show()
    page.tab.get_by_label("Closed question").check()
    page.tab.fill("#choices", "No, Yes")
    assert page.ask("Is there a star?") == "Yes"
    assert page.asked[-1]["choices"] == ["No", "Yes"]
    assert page.asked[-1]["messages"][0]["content"][1]["text"] == f"Is there a star?\n{SHORT}"
    assert page.tab.locator(".bar .choice").all_inner_texts() == ["No", "Yes"]
    shares = [float(text.removesuffix(" %")) for text in page.tab.locator(".percent").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.11) and shares[1] > 50
    widths = [bar.bounding_box()["width"] for bar in page.tab.locator(".track").all()]
    assert widths[0] == widths[1] > 100
    page.tab.get_by_label("Free answer").check()
    page.ask("What color is it?")
    assert page.asked[-1]["messages"][1] == {"role": "assistant", "content": "Yes"}


def test_what_people_and_models_write_is_text(page):
    markup = "<img src=x onerror=\"document.title='hit'\"><b>bold</b>"
    page.ask(markup)
    assert page.text(".asked > .text") == markup
    assert page.tab.locator("#turns img, #turns b").count() == 0
    assert page.tab.title() == "MobileVLM on the edge"
