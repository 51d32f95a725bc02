"""A page in headless Chromium: what a script that is added at its end finds out there, as JSON.

One tab serves all probes of a process, as starting a browser takes longer than what a page does. The report's page
stores nothing in the browser, so that no probe knows of another. The browser is told what to do by the DevTools
protocol, through a pipe with which it ends.
"""

from __future__ import annotations

import atexit
import html
import json
import select
import shutil
import subprocess
import tempfile
from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1600,1000",
    "--remote-debugging-pipe",  # which it reads at 3 and writes at 4
)
_SECONDS = 120.0  # for a page, on a busy machine
_HOST = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe src="%s" style="border: 0; width: %dpx; height: 900px"></iframe>
<script>addEventListener("message", (event) => told(event.data));</script>
"""
_PROBE = """
<script>
addEventListener("load", async () => {
  let found;
  try { found = await (async () => { %s })(); } catch (error) { found = { error: `${error.stack}` }; }
  parent.postMessage(JSON.stringify(found), "*");
});
</script>
"""


def chromium() -> str | None:
    """The browser's path, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def probe(page: Path, script: str, folder: Path, *, width: int = 1280, address: str = "", scheme: str = "light") -> Any:
    """What the body of a function `script` returns in a copy of `page`, `width` pixels wide, opened at `#address`.

    In a frame, for a headless window cannot be as narrow as a phone. `folder` is for the copy; `scheme`: light or dark,
    as its reader prefers it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy, host = folder / "page.html", folder / "host.html"
    copy.write_text(page.read_text(encoding="utf-8") + _PROBE % script, encoding="utf-8")
    source = html.escape(f"{copy.as_uri()}#{address}" if address else copy.as_uri())
    host.write_text(_HOST % (source, width), encoding="utf-8")
    return json.loads(_browser().told(host.as_uri(), scheme))


class _Browser:
    """A running one."""

    def __init__(self, profile: str) -> None:
        program = chromium()
        assert program is not None
        words = [program, f"--user-data-dir={profile}", *_ARGUMENTS, "about:blank"]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._calls, self._read, self._session = 0, b"", ""
        self._events = deque[dict[str, Any]]()  # that came while a reply was waited for
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Runtime.enable")
        self._call("Runtime.addBinding", name="told")

    def told(self, address: str, scheme: str) -> str:
        """What the page there passes to a function `told`."""
        prefers = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=prefers)
        self._call("Page.navigate", url=address)
        while (event := self._events.popleft() if self._events else self._next())["method"] != "Runtime.bindingCalled":
            assert event["method"] != "Inspector.targetCrashed"
        said: str = event["params"]["payload"]
        return said

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        request = {"id": self._calls, "method": method, "params": parameters}
        request |= {"sessionId": self._session} if self._session else {}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\0")
        self._process.stdin.flush()
        while (reply := self._next()).get("id") != self._calls:
            self._events.append(reply)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while b"\0" not in self._read:
            assert select.select([self._process.stdout], [], [], _SECONDS)[0], "the browser says nothing"
            more = self._process.stdout.read1(1 << 16)  # type: ignore[attr-defined]  # of a buffered reader
            assert more, "the browser has ended"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def close(self) -> None:
        """It ends with its pipe."""
        self._process.communicate()


@cache
def _browser() -> _Browser:
    profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    browser = _Browser(profile.name)
    atexit.register(profile.cleanup)
    atexit.register(browser.close)  # first
    return browser
