"""Pages of `metarl report` in a headless Chromium: no request, no error, no overflow, and films that play."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60.0


def found() -> str | None:
    """The browser's program, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """A browser without a screen; a context manager.

    Args:
        profile: Folder for its profile.

    Attributes:
        events: The reports of the browser, in order.
    """

    def __init__(self, profile: Path) -> None:
        program = found()
        assert program is not None
        (commands, self._write), (self._read, answers) = os.pipe(), os.pipe()
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += ["--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"]
        # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
        shell = f'exec "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "bash", program, *words, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        os.set_blocking(self._read, False)
        self._rest, self._count, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(one for one in targets if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        self._process.kill()
        self._process.wait()
        os.close(self._read)

    def _messages(self, until: float) -> list[dict[str, Any]]:
        """The messages that arrived; waits for at least one."""
        while b"\0" not in self._rest:
            try:
                data = os.read(self._read, 1 << 20)
                if not data:
                    raise EOFError("the browser has ended")
                self._rest += data
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError("the browser does not answer") from None
                time.sleep(0.01)
        *whole, self._rest = self._rest.split(b"\0")
        return [json.loads(one) for one in whole]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command of the DevTools protocol."""
        self._count += 1
        value: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            value["sessionId"] = self._session
        os.write(self._write, json.dumps(value).encode() + b"\0")
        until, answer = time.monotonic() + SECONDS, None
        while answer is None:
            for message in self._messages(until):
                if message.get("id") == self._count:
                    answer = message
                else:
                    self.events.append(message)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str) -> None:
        """Waits for an event."""
        until = time.monotonic() + SECONDS
        while not any(event.get("method") == method for event in self.events):
            self.events += self._messages(until)

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of some width, and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def picture(self, path: Path, top: float = 0.0, height: float | None = None) -> None:
        """Writes a PNG of the page; of the whole page by default."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"] - top, "scale": 1}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))


# The page ---------------------------------------------------------------------------------------------------

WIDTHS = (1280, 390)
OUT_OF_VIEW = """
[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.width && one.closest('thead') === null && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(one => one.outerHTML.slice(0, 120))
"""
OVERLAPPING = """
[...document.querySelectorAll('svg.plot')].flatMap(plot => {
  const boxes = [...plot.querySelectorAll('text.tick.x')].map(one => one.getBoundingClientRect());
  return boxes.slice(1).filter((box, i) => box.left < boxes[i].right).map(() => plot.getAttribute('aria-label'));
})
"""
LOADED = """
Promise.all([...document.querySelectorAll('video')].map(film => new Promise(done => {
  const state = () => done([film.readyState, film.videoWidth, film.error && film.error.message]);
  film.readyState >= 2 || film.error ? state() : (film.onloadeddata = film.onerror = state);
})))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if found() is None:
        pytest.skip(f"no Chromium found; install it (apt-get install chromium): looked for {', '.join(NAMES)}")
    with Chromium(tmp_path_factory.mktemp("profile")) as chromium:
        yield chromium


@pytest.fixture
def page(run_metarl: Any, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with several seeds, both references, films, and a long name."""
    monkeypatch.setattr("metarl.scripts.report.use_off_screen_rendering", lambda: None)
    for agent, more in (("rl2", ("--seeds", "2")), ("multitask", ()), ("oracle", ())):
        assert run_metarl("train", agent, "point-robot", "--out", agent, *more, *tiny)[0] == 0
    other = "another-setting-with-a-very-long-name-without-any-space-in-it"
    assert run_metarl("train", "rl2", "point-robot", *tiny, "--agent.gamma", "0.9", "--out", other)[0] == 0
    words = ("rl2", other, "--reference", "multitask", "oracle", "--tasks", "12", "--title", "A <report> & more")
    code, _, err = run_metarl("report", *words, "--out", "page.html", "--workers", "0")
    assert code == 0, err
    return tmp_path / "page.html"


@pytest.mark.slow
def test_a_page_in_the_browser(browser: Chromium, page: Path, tmp_path: Path) -> None:
    pictures = []
    for width in WIDTHS:
        for dark in (False, True):
            browser.open(page, width, dark=dark)
            assert browser.value("document.title") == "A <report> & more"
            assert browser.value("document.documentElement.scrollWidth") <= width
            browser.value("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert browser.value("document.documentElement.scrollWidth") <= width
            assert browser.value(OUT_OF_VIEW) == []
            assert browser.value(OVERLAPPING) == []
            assert browser.value(LOADED) == [[4, 320, None]] * 4
            browser.picture(tmp_path / "page.png")
            pictures.append(np.asarray(Image.open(io.BytesIO((tmp_path / "page.png").read_bytes())).convert("L")))
            asked = [
                e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
            ]
            assert [url for url in asked if not url.startswith("data:")] == [page.resolve().as_uri()]
            said = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
            assert [e for e in browser.events if e["method"] in said] == []
    light, dark, phone, phone_dark = (float(one.mean()) for one in pictures)
    assert min(light, phone) > 200, "dark text on white"
    assert max(dark, phone_dark) < 90, "light text on a dark ground"
    assert pictures[2].shape[1] == 390


@pytest.mark.slow
def test_the_policy_of_a_page_forbids_scripts_and_requests(browser: Chromium, page: Path) -> None:
    more = "<script>document.title = 'mine'</script><img src='http://127.0.0.1:9/x.png'></body>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", more), encoding="utf-8")
    browser.open(page, 1280)
    assert browser.value("document.title") == "A <report> & more"
    blocked = [str(e["params"]) for e in browser.events if e["method"] == "Log.entryAdded"]
    assert any("script-src" in one for one in blocked)
    assert any("img-src" in one for one in blocked)


@pytest.mark.slow
def test_a_page_can_be_printed_and_read_aloud(browser: Chromium, page: Path) -> None:
    browser.open(page, 1280)
    data = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    assert data.startswith(b"%PDF")
    assert 3 <= data.count(b"/Type /Page\n") <= 20
    roles = [n["role"]["value"] for n in browser.call("Accessibility.getFullAXTree")["nodes"] if not n["ignored"]]
    assert roles.count("columnheader") > 20
    assert roles.count("rowheader") > 10
    unnamed = "[...document.querySelectorAll('svg.plot, video')].filter(one => !one.getAttribute('aria-label')).length"
    assert browser.value(unnamed) == 0
    assert browser.value("[...document.querySelectorAll('table')].every(one => one.caption.textContent.trim())")
    assert browser.value("[...document.querySelectorAll('figure')].every(one => one.querySelector('figcaption'))")
