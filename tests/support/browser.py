"""A page in headless Chromium: what a script that is added at its end finds out there, as JSON."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

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
)
_HOST = """<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<iframe src="%s" style="border: 0; width: %dpx; height: 900px"></iframe>
<pre id="found"></pre>
<script>addEventListener("message", (event) => { document.getElementById("found").textContent = event.data; });</script>
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


def probe(
    page: Path, script: str, folder: Path, *, width: int = 1280, address: str = "", arguments: Sequence[str] = ()
) -> Any:
    """What the body of a function `script` returns in a copy of `page`, `width` pixels wide, opened at `#address`.

    In a frame, for a headless window cannot be as narrow as a phone. `folder` is for the copy and the browser's files,
    `arguments` are more of the browser's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy, host = folder / "page.html", folder / "host.html"
    copy.write_text(page.read_text(encoding="utf-8") + _PROBE % script, encoding="utf-8")
    source = html.escape(f"{copy.as_uri()}#{address}" if address else copy.as_uri())
    host.write_text(_HOST % (source, width), encoding="utf-8")
    shown = dump(host, folder / "browser", "--virtual-time-budget=20000", *arguments)
    found = re.search('<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    assert found is not None
    assert found.group(1), "the page's probe said nothing"
    return json.loads(html.unescape(found.group(1)))


def dump(page: Path, profile: Path, *arguments: str) -> str:
    """The document of a page as the browser has it after loading; `profile` is a folder for the browser's own files."""
    browser = chromium()
    assert browser is not None
    own = [f"--user-data-dir={profile}", *arguments, "--dump-dom", page.as_uri()]
    return subprocess.run([browser, *_ARGUMENTS, *own], capture_output=True, text=True, timeout=120, check=True).stdout
