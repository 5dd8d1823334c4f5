"""Images: chosen, dropped, pasted, taken, scaled down, and what is no image."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.runtime.page.conftest import PICTURE
from tests.runtime.server.conftest import data_url

# Gives a file as a person's drag or paste does.
GIVE = """({text, kind, name, type}) => {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], name, {type}));
    const options = {bubbles: true, cancelable: true};
    const event = kind === "paste"
        ? new ClipboardEvent("paste", {...options, clipboardData: data})
        : new DragEvent(kind, {...options, dataTransfer: data});
    document.body.dispatchEvent(event);
}"""


def sent_image(page) -> tuple[str, Image.Image]:
    """Type and pixels of the image in the last request."""
    url = page.asked[-1]["messages"][0]["content"][0]["image_url"]["url"]
    head, _, content = url.partition(",")
    return head, Image.open(BytesIO(base64.b64decode(content)))


def give(page, kind: str, name: str = "shapes.png", type: str = "image/png") -> None:
    text = base64.b64encode(PICTURE.read_bytes()).decode()
    page.tab.evaluate(GIVE, {"text": text, "kind": kind, "name": name, "type": type})


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(page, kind):
    if kind == "drop":
        give(page, "dragover")
        assert page.tab.locator("#drop").is_visible()
    give(page, kind)
    page.tab.locator("#image").wait_for()
    assert page.tab.locator("#drop").is_hidden()
    assert page.text("#image-facts") == "shapes.png · 448 × 336"
    assert page.ask("What color is the circle?") == "The circle is red."
    assert page.asked[-1]["messages"][0]["content"][0]["image_url"]["url"] == data_url(PICTURE)


def test_what_is_no_image_is_said_and_the_image_before_stays(page, tmp_path):
    page.show()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.tab.set_input_files("#file", broken)
    page.tab.locator("#image-facts.error", has_text="broken.png is no image that this browser can read").wait_for()
    assert page.tab.locator("#image").is_visible()
    give(page, "drop", "notes.txt", "text/plain")
    page.tab.locator("#image-facts.error", has_text="what was dropped is no image").wait_for()
    assert page.ask("What color is the circle?") == "The circle is red."


def test_a_photo_is_taken(page):
    page.tab.click("text=Take a photo")
    page.tab.locator("#video").wait_for()
    page.tab.click("#camera-close")
    assert page.tab.locator("#empty").is_visible()
    page.tab.click("text=Take a photo")
    page.tab.locator("#shoot:focus").wait_for()
    page.tab.keyboard.press("Enter")
    page.tab.locator("#image").wait_for()
    assert page.text("#image-facts").startswith("photo.jpg · ")
    assert page.tab.evaluate("document.getElementById('video').srcObject") is None  # the camera's light is off
    page.ask("Describe the image.")
    head, photo = sent_image(page)
    assert head == "data:image/jpeg;base64" and np.asarray(photo).std() > 10


def test_a_camera_that_is_refused_is_said(opened):
    page = opened()
    refusal = "new DOMException('', 'NotAllowedError')"
    page.tab.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = () => Promise.reject({refusal}) }}")
    page.tab.click("text=Take a photo")
    page.tab.locator("#image-facts.error", has_text="the camera cannot be opened: this page may not use it").wait_for()


def test_a_large_image_is_scaled_down(page, tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (200, 320, 3), dtype=np.uint8)
    file = tmp_path / "large.png"
    Image.fromarray(noise).resize((3200, 2000)).save(file)
    page.show(file)
    assert page.text("#image-facts").startswith("large.png · 3200 × 2000 · sent as 1600 × 1000, ")
    page.ask("Describe the image.")
    head, sent = sent_image(page)
    assert head == "data:image/jpeg;base64" and sent.size == (1600, 1000)
    wanted = Image.fromarray(noise).resize((3200, 2000)).resize((1600, 1000))
    difference = np.abs(np.asarray(sent.convert("RGB"), np.float32) - np.asarray(wanted, np.float32)).mean()
    assert difference < 6, difference


def test_another_image_begins_another_conversation(page):
    page.show()
    page.ask("What color is the circle?")
    page.show(PICTURE)
    page.tab.locator("#hello").wait_for()
    assert page.answers == []
    page.tab.click("#remove")
    assert page.tab.locator("#empty:focus").count() == 1
    page.ask("Hi")
    assert page.asked[-1]["messages"] == [{"role": "user", "content": "Hi"}]
