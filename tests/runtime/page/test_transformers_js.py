"""`assets/browser/`: the demo model answers in Chromium from a plain file server, and no other address is asked."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mobilevlm.runtime import Session
from tests.conftest import DEMO, ROOT, build, once
from tests.runtime.page.conftest import PICTURE

MODULES = ROOT / "artifacts" / "clients" / "node_modules"
TABLE = ROOT / "assets" / "table.jpg"
pytestmark = pytest.mark.skipif(
    not (MODULES / "@huggingface" / "transformers").is_dir(),
    reason="bash run.sh test --clients installs transformers.js",
)


class Quiet(SimpleHTTPRequestHandler):
    """A file server that says nothing."""

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """The page's files, the packages and the model beside them, as the documentation says."""

    def make(out: Path) -> None:
        done = build("--model", DEMO, "--layout", "hf", out=out, precision=None)
        assert done.returncode == 0, done.stderr

    folder = tmp_path_factory.mktemp("site")
    for path in (ROOT / "assets" / "browser").iterdir():
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "model").symlink_to(once(tmp_path_factory, "demo-hf", make))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("dtype", ["fp32", ""])
def test_the_page_says_what_a_bundle_says(browser, site, demo_fp32, dtype):
    """Greedy text in float32; without a data type in the address, what the folder's configuration says: q8."""
    asked = [(PICTURE, "What color is the circle?"), (PICTURE, "How many shapes are there?")]
    asked += [(TABLE, "What is in the picture?")] if dtype else []
    tab, foreign, complaints = browser.new_page(), [], []
    tab.set_default_timeout(60_000)
    tab.on("request", lambda one: one.url.startswith((site, "data:", "blob:")) or foreign.append(one.url))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    tab.goto(f"{site}/index.html?dtype={dtype}" if dtype else f"{site}/index.html")
    with Session(demo_fp32) as session:
        for image, question in asked:
            tab.set_input_files("#file", image)
            tab.locator("#ask:enabled").wait_for()
            tab.fill("#question", question)
            tab.press("#question", "Enter")
            tab.locator('#answer[aria-busy="false"]').wait_for()
            assert tab.inner_text("#answer") == "".join(session.chat(question, image=image))
    tab.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"})
    tab.get_by_text("notes.png is no image").wait_for()
    assert tab.locator("#ask").is_disabled() and (foreign, complaints) == ([], [])
    tab.close()
