"""Pages in a real, headless Chromium: what its own script finds in them, and how they look."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--hide-scrollbars",
    "--virtual-time-budget=5000",
)
DARK = "--blink-settings=preferredColorScheme=0"

# A browser window has a least width, a frame has not. Its results are written into the page
# around it, because that is what the browser prints.
AROUND = """<!DOCTYPE html><meta name="color-scheme" content="light dark"><title>around</title>
<body style="margin: 0"><script>
%s
const results = {};
const widths = %s;
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.width = width;
  frame.height = 900;
  frame.style.border = 0;
  frame.src = "index.html";
  frame.onload = () => {
    try {
      results[width] = look(frame.contentDocument, frame.contentWindow);
    } catch (error) {
      results[width] = { error: String(error) };
    }
    if (Object.keys(results).length === widths.length) {
      const output = document.createElement("pre");
      output.textContent = JSON.stringify(results);
      document.body.append(output);
    }
  };
  document.body.append(frame);
}
</script></body>"""


def look_at(
    page: str, folder: Path, script: str, widths: tuple[int, ...], *flags: str
) -> tuple[dict[str, Any], str]:
    """What the script's function `look(document, window)` returns at each width, and the log."""
    (folder / "index.html").write_text(page, encoding="utf-8")
    (folder / "around.html").write_text(AROUND % (script, list(widths)), encoding="utf-8")
    done = _run(folder, "--dump-dom", *flags)
    found = re.findall(r"<pre>(.*?)</pre>", done.stdout, flags=re.DOTALL)
    assert found, done.stderr[-2000:]
    content: dict[str, Any] = json.loads(unescape(found[-1]))
    return content, done.stderr


def screenshot(folder: Path, width: int, *flags: str) -> Path:
    """A picture of what `look_at` has shown; frames stand beside each other."""
    path = folder / "page.png"
    _run(folder, f"--screenshot={path}", f"--window-size={width},900", *flags)
    return path


def _run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed; apt-get install chromium")
    profile = f"--user-data-dir={folder / 'profile'}"
    return subprocess.run(
        [browser, *FLAGS, profile, *flags, (folder / "around.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
