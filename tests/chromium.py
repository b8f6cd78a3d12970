"""A headless Chromium, driven over its own protocol: https://chromedevtools.github.io/devtools-protocol."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-port=0",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-extensions",
    "about:blank",
)
_PATIENCE_S = 90.0
_COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded")


class Page:
    """The browser's one page."""

    def __init__(self, socket: ClientConnection) -> None:
        self.complaints: list[str] = []
        """Errors that the page had, and what the browser logged of it."""
        self._socket, self._calls = socket, 0
        self.call("Runtime.enable")
        self.call("Log.enable")

    def call(self, method: str, **parameters: object) -> dict:
        """The result of a call of the protocol."""
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") in _COMPLAINTS:
                self.complaints.append(json.dumps(message["params"])[:500])

    def open(self, url: str, width: int = 800, height: int = 600) -> None:
        """Go to a page of this size, in CSS pixels of one pixel each."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url="about:blank")  # or else another #token alone would load nothing
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> object:
        """What a JavaScript expression is; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = _PATIENCE_S) -> None:
        """Wait until a JavaScript expression is true; one that fails, as while the page loads, is not."""
        end_s = time.monotonic() + seconds
        attempt = f"(() => {{ try {{ return Boolean({expression}) }} catch {{ return false }} }})()"
        while not self.value(attempt):
            assert time.monotonic() < end_s, f"waited in vain for {expression}; {self.complaints}"
            time.sleep(0.1)

    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB of what is seen."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@contextmanager
def browsing(*flags: str) -> Iterator[Page]:
    """A browser with an empty profile, and with further `flags` of its command line."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [str(CHROMIUM), f"--user-data-dir={profile}", *flags, *_FLAGS]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as browser:
            try:
                line = next(line for line in browser.stderr if "DevTools listening on" in line)
                port = line.rpartition("ws://")[2].partition("/")[0].rpartition(":")[2]
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                pages = json.load(opener.open(f"http://127.0.0.1:{port}/json"))
                url = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
                with connect(url, max_size=None, proxy=None, open_timeout=_PATIENCE_S) as socket:
                    yield Page(socket)
            finally:
                browser.terminate()
