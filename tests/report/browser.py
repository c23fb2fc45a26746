"""A headless Chromium driven over the WebDriver protocol, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def find() -> tuple[str, str] | None:
    """Paths of the browser and of its driver, or None if either is missing."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def required() -> bool:
    """Whether a missing browser is a failure rather than a reason to skip."""
    return os.environ.get("SGDSCOPE_REQUIRE_BROWSER", "") not in ("", "0")


class Browser:
    """One session of the browser."""

    def __init__(self, address: str, session: str) -> None:
        self._session = f"{address}/session/{session}"

    def call(self, path: str, content: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """One command of the protocol; raises RuntimeError with the browser's words if it refuses."""
        return _send(f"{self._session}/{path}", content or {}, method)

    def command(self, name: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol."""
        return self.call("goog/cdp/execute", {"cmd": name, "params": parameters})

    def screen(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Size of the page and colour scheme it is shown in."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        """Load a page and wait until it has loaded."""
        self.call("url", {"url": address})

    def run(self, script: str) -> Any:
        """The value that a script returns in the page."""
        return self.call("execute/sync", {"script": script, "args": []})

    def complaints(self) -> list[str]:
        """Console messages since the last call: errors, uncaught exceptions, refused loads."""
        return [entry["message"] for entry in self.call("se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        events = [json.loads(entry["message"])["message"] for entry in self.call("se/log", {"type": "performance"})]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def _send(address: str, content: dict[str, Any], method: str) -> Any:
    body = json.dumps(content).encode() if method == "POST" else None
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the driver is on this machine
    try:
        with opener.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"the browser refused {address}: {error.read().decode()[:2000]}") from error


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """A browser of its own, ended on leaving."""
    paths = find()
    if paths is None:
        raise RuntimeError("expected chromium and chromedriver on the path")
    browser, driver = paths
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, _driver(driver) as address:
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        session = _send(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}}, "POST")["sessionId"]
        try:
            yield Browser(address, session)
        finally:
            _send(f"{address}/session/{session}", {}, "DELETE")


@contextlib.contextmanager
def _driver(path: str) -> Iterator[str]:
    process = subprocess.Popen([path, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"started successfully on port (\d+)", line):
                yield f"http://127.0.0.1:{found[1]}"
                break
        else:
            raise RuntimeError("chromedriver did not start: " + "".join(said)[-2000:])
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
