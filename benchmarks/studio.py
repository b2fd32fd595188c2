"""What the studio costs: seconds until it is up, seconds until a first preview, memory over many jobs.

    python benchmarks/studio.py [--model glyph] [--device cpu] [--jobs 50] [--json FILE]

``phosphene serve`` runs as a process of its own; a Chromium presses Draw. Each job is another picture, in as many steps as
the studio takes by itself for the first one and in four afterwards. Memory is that of the serving process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PREVIEW = "() => [...document.querySelectorAll('.studio-picture img')].some(e => e.offsetParent && e.naturalWidth)"
ENDED = re.compile(r"^\s*done", re.I)
LONG = 300_000


def resident(process: int) -> float:
    """MB of main memory that ``process`` holds (Linux)."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(url: str, serving: subprocess.Popen) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            if serving.poll() is not None:
                raise SystemExit("phosphene serve ended; its message is above") from None
            time.sleep(0.05)


def draw(page: Page, prompt: str) -> float:
    """Press Draw; seconds until a preview is seen. Comes back when the picture is done."""
    panel = page.locator("[role=tabpanel]:visible")
    panel.get_by_label("What to draw").fill(prompt)
    begun = time.perf_counter()
    panel.get_by_role("button", name="Draw", exact=True).click()
    ended = panel.locator(".studio-status", has_text=ENDED)
    ended.wait_for(state="hidden", timeout=LONG)  # that of the job before
    page.wait_for_function(PREVIEW, timeout=LONG)
    seen = time.perf_counter() - begun
    ended.wait_for(timeout=LONG)
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    chromium = os.environ.get("PHOSPHENE_CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on this machine: apt-get install chromium, or name one in PHOSPHENE_CHROMIUM")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, begun = f"http://127.0.0.1:{port}/", time.perf_counter()
    serve = ["serve", "--port", str(port), "--model", options.model, "--device", options.device]
    serving = subprocess.Popen([sys.executable, "-m", "phosphene", *serve], stdout=subprocess.DEVNULL)
    try:
        wait_for(url, serving)
        found: dict = {"up": time.perf_counter() - begun, "memory": {}}
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            page.goto(url)
            page.wait_for_selector("button[role=tab]")
            found["first preview"] = draw(page, "a castle")
            panel = page.locator("[role=tabpanel]:visible")
            panel.get_by_text("How it is sampled").click()
            steps = panel.get_by_label("number input for Steps")
            steps.fill("4")
            steps.press("Enter")
            for job in range(1, options.jobs + 1):
                draw(page, f"a red heart {job}")
                if job in (1, 5) or job % 10 == 0:
                    found["memory"][job] = round(resident(serving.pid))
            browser.close()
    finally:
        serving.terminate()
        serving.wait()
    held = ", ".join(f"{job}: {size}" for job, size in found["memory"].items())
    print(f"up in {found['up']:.1f} s; first preview {found['first preview']:.1f} s after Draw; MB after job {held}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
