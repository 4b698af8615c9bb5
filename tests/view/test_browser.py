"""Every page in a real browser: nothing is loaded from elsewhere, nothing overflows, everything can be read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from clips import write_clip
from viewer_runs import HOSTILE, write_clip_run, write_picture_run, write_run, write_task

from harness.data.audio import wav_of_samples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="runs where Chromium and its driver are installed",
    ),
]
# The contrast of every piece of text with what lies behind it, as WCAG 2.2 (1.4.3) computes it.
CONTRAST = """
const rgb = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (element) => {
  let over = [];
  for (let e = element; e; e = e.parentElement) {
    const c = rgb(getComputedStyle(e).backgroundColor);
    const alpha = c.length > 3 ? c[3] : 1;
    if (alpha > 0) over.push([c, alpha]);
    if (alpha === 1) break;
  }
  let base = matchMedia("(prefers-color-scheme: dark)").matches ? [20, 23, 27] : [255, 255, 255];
  for (const [c, a] of over.reverse()) base = base.map((v, i) => v * (1 - a) + c[i] * a);
  return base;
};
const poor = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("svg, option")) continue;
  const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) poor.push(`${walker.currentNode.data.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
}
return poor;
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The address of a viewer over three runs, one of them hostile, and their names."""
    folder = tmp_path_factory.mktemp("browser")
    task = write_task(folder)
    write_run(task, ["A", "B", "C", "A"], folder / "runs", "first")
    write_run(task, ["A", "C", "C", "我不知道"], folder / "runs", "second")
    evil = write_task(folder / "evil", name="evil", title=HOSTILE, questions=[HOSTILE, HOSTILE])
    write_run(evil, [HOSTILE, HOSTILE], folder / "runs", "third")
    write_picture_run(folder / "pictures", folder / "runs")
    clips = folder / "clips"
    clips.mkdir()
    write_clip(clips / "film.mp4", 20, fps=10, size=(640, 360))
    (clips / "sound.wav").write_bytes(wav_of_samples([0.0, 0.5, -0.5, 0.25] * 4000, 16_000))
    write_clip_run(clips, folder / "runs")
    strange = folder / "runs" / """it's 50% "<b>odd" & #more?\nrun"""
    shutil.copytree(next((folder / "runs").glob("*third*")), strange)
    command = [sys.executable, "-m", "harness", "view", str(folder / "runs"), "--token", "t", "--no_browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        base = server.stderr.readline().split(" at ")[1].split("?")[0]
        yield base, sorted(path.name for path in (folder / "runs").iterdir())
        server.terminate()


def browser(width: int, *, dark: bool) -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000"):
        options.add_argument(argument)
    if width < 600:
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": 900}})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    made.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    return made


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (800, True), (390, True)], ids=["desktop, light", "tablet, dark", "phone, dark"]
)
def test_every_page(address: tuple[str, list[str]], width: int, dark: bool) -> None:
    base, runs = address
    driver, pictures = browser(width, dark=dark), 0
    try:
        driver.get(f"{base}?token=t")
        runs = [quote(run, safe="") for run in runs]
        pages = [f"run/{run}{part}" for run in runs for part in ("", "/samples", "/sample/1", "/errors")]
        chosen = "&".join(f"run={run}" for run in runs)
        pages += [f"compare?{chosen}", f"changed?run={runs[0]}&run={runs[1]}&task=quiz", f"trends?task=quiz&{chosen}"]
        for page in ["", *pages, "leaderboard?significance=1", "compare", "?lang=zh", f"run/{runs[0]}"]:
            driver.get(f"{base}{page}")
            driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
            assert driver.find_elements("css selector", "main h1"), page
            wide = driver.execute_script("return document.scrollingElement.scrollWidth - window.innerWidth")
            assert wide <= 0, f"{page} is {wide} pixels wider than the window"
            assert driver.execute_script(CONTRAST) == [], page
            assert not driver.execute_script("return document.querySelectorAll('img[src=x], main script').length"), page
            for image in driver.find_elements("css selector", ".media img, .frames img"):
                assert driver.execute_script("return arguments[0].naturalWidth", image) > 0, page
                pictures += 1
        assert pictures == 1 + 4
        failed = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert failed == []
        asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        requests = [each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"]
        assert requests and all(url.startswith((base, "data:")) for url in requests), requests
    finally:
        driver.quit()
