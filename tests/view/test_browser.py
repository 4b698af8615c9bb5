"""Every page in a real browser: nothing is loaded from elsewhere, nothing overflows, everything can be read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from clips import write_clip
from viewer_runs import HOSTILE, write_clip_run, write_picture_run, write_run, write_task

from harness.data.audio import wav_of_samples
from harness.view.export import export_pages, export_single

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
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of text, pictures and clips, and a hostile one, once more under a hostile name."""
    folder = tmp_path_factory.mktemp("browser")
    task = write_task(folder)
    write_run(task, ["A", "B", "C", "A"], folder / "runs", "first")
    write_run(task, ["A", "C", "C", "我不知道"], folder / "runs", "second")
    evil = write_task(folder / "evil", name="evil", title=HOSTILE, questions=[HOSTILE, HOSTILE])
    called = json.dumps({"name": HOSTILE, "arguments": {HOSTILE: HOSTILE}})
    turns = [
        {"role": "user", "content": HOSTILE},
        {"role": "assistant", "content": f"{HOSTILE}<tool_call>{called}</tool_call><tool_call>{HOSTILE}</tool_call>"},
        {"role": "tool", "content": json.dumps([HOSTILE] * 9)},
        {"role": HOSTILE, "content": HOSTILE},
    ]
    write_run(evil, [json.dumps({"end": HOSTILE, "turns": turns}), HOSTILE], folder / "runs", "third")
    write_picture_run(folder / "pictures", folder / "runs")
    clips = folder / "clips"
    clips.mkdir()
    write_clip(clips / "film.mp4", 20, fps=10, size=(640, 360))
    (clips / "sound.wav").write_bytes(wav_of_samples([0.0, 0.5, -0.5, 0.25] * 4000, 16_000))
    write_clip_run(clips, folder / "runs")
    strange = folder / "runs" / """it's 50% "<b>odd" & #more?\nrun"""
    shutil.copytree(next((folder / "runs").glob("*third*")), strange)
    return folder / "runs"


@pytest.fixture(scope="module")
def address(runs_folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a viewer over the runs, and their names."""
    command = [sys.executable, "-m", "harness", "view", str(runs_folder), "--token", "t", "--no_browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        base = server.stderr.readline().split(" at ")[1].split("?")[0]
        yield base, sorted(path.name for path in runs_folder.iterdir())
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


def faults(driver: Any) -> list[str]:
    """What is wrong with the page that is shown: too wide, hard to read, markup of others that is alive."""
    driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    found = list(driver.execute_script(CONTRAST))
    wide = driver.execute_script("return document.scrollingElement.scrollWidth - window.innerWidth")
    found += [f"{wide} pixels wider than the window"] if wide > 0 else []
    alive = driver.execute_script("return document.querySelectorAll('img[src=x], main script, main iframe').length")
    return found + ([f"{alive} elements of others are alive"] if alive else [])


def console_errors(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def requests_elsewhere(driver: Any, *here: str) -> list[str]:
    """Addresses that were asked for since the last call and begin with none of these."""
    asked = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in asked if each["method"] == "Network.requestWillBeSent"]
    assert urls
    return [url for url in urls if not url.startswith((*here, "data:"))]


def page_addresses(runs: list[str]) -> list[str]:
    """Every kind of page, of every run where it is a run's."""
    quoted = [quote(run, safe="") for run in runs]
    pages = [f"run/{run}{part}" for run in quoted for part in ("", "/samples", "/sample/1", "/errors")]
    first, second = (next(run for run in quoted if name in run) for name in ("first", "second"))
    chosen = "&".join(f"run={run}" for run in quoted)
    pages += [f"run/{first}/samples?task=quiz&kind=wrong&order=longest&least=1", f"run/{second}/errors?task=quiz"]
    pages += [f"run/{first}/sample/2?with={second}", f"changed?run={first}&run={second}&task=quiz"]
    pages += ["compare", f"compare?{chosen}", "trends?task=quiz", f"trends?task=quiz&{chosen}", "trends?task=none"]
    pages += ["leaderboard", f"leaderboard?significance=1&run={first}&run={second}", "", "?model=none"]
    return [*pages, "run/none", "nowhere", "?lang=zh", f"run/{first}", f"run/{first}/sample/1"]


@pytest.mark.parametrize("width", [1280, 800, 390], ids=["desktop", "tablet", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page(address: tuple[str, list[str]], width: int, dark: bool) -> None:
    base, runs = address
    driver, pictures = browser(width, dark=dark), 0
    try:
        driver.get(f"{base}?token=t")
        for page in page_addresses(runs):
            driver.get(f"{base}{page}")
            assert driver.find_elements("css selector", "main h1"), page
            assert faults(driver) == [], page
            for image in driver.find_elements("css selector", ".media img, .frames img, img.chart"):
                assert driver.execute_script("return arguments[0].naturalWidth", image) > 0, page
                pictures += 1
        assert pictures == 1 + 4 + 3  # a photograph, frames, charts
        missing = [
            message for message in console_errors(driver) if "404" not in message
        ]  # two pages that are not there
        assert missing == []
        assert requests_elsewhere(driver, base) == []
    finally:
        driver.quit()


def test_a_note_is_made_and_read_in_the_page(address: tuple[str, list[str]]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    base, runs = address
    run = quote(next(run for run in runs if "first" in run))
    driver = browser(390, dark=True)
    try:
        driver.get(f"{base}?token=t")
        driver.get(f"{base}run/{run}/sample/4?lang=en")
        WebDriverWait(driver, 30).until(lambda found: found.find_elements("css selector", "form.note"))
        console_errors(driver)  # a page that waits for the run to be indexed is a 503, and looks again
        driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        driver.find_element("css selector", "form.note input[value=gold]").click()
        driver.find_element("css selector", "form.note textarea").send_keys("<script>alert(1)</script> 有误")
        driver.find_element("css selector", "form.note button").click()
        kept = "//textarea[contains(., '<script>alert(1)</script> 有误')]"
        WebDriverWait(driver, 30).until(lambda found: found.find_elements("xpath", kept))
        assert faults(driver) == []
        driver.get(f"{base}run/{run}")
        assert "gold" in driver.find_element("css selector", "main").text
        assert faults(driver) == [] and console_errors(driver) == [] and requests_elsewhere(driver, base) == []
    finally:
        driver.quit()


def test_pages_work_without_scripts(address: tuple[str, list[str]]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    base, runs = address
    run = quote(next(run for run in runs if "first" in run))
    driver = browser(1280, dark=False)
    try:
        driver.get(f"{base}?token=t")
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        driver.get(f"{base}run/{run}/samples?lang=en")
        driver.find_element("css selector", "input[name=text]").send_keys("computer")
        (button,) = driver.find_elements("css selector", "form.filters noscript button")
        button.click()
        WebDriverWait(driver, 30).until(lambda found: "text=computer" in found.current_url)
        assert len(driver.find_elements("css selector", "li.sample")) == 1
    finally:
        driver.quit()


def test_a_page_that_looks_again_takes_nothing_away(address: tuple[str, list[str]]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    base, runs = address
    run = quote(next(run for run in runs if "first" in run))
    driver = browser(1280, dark=False)
    try:
        driver.get(f"{base}?token=t")
        driver.get(f"{base}run/{run}?lang=en")
        driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        opened = len(driver.find_elements("css selector", "main details[open]"))
        driver.execute_script("document.querySelector('main').prepend(document.createElement('hr'))")
        driver.execute_script("document.querySelector('main hr').dataset.indexing = ''; watch()")
        WebDriverWait(driver, 30).until(lambda found: not found.find_elements("css selector", "main hr"))
        assert opened and len(driver.find_elements("css selector", "main details[open]")) == opened
        # The answer to what was typed first comes last.
        late = (
            "const known = window.fetch; window.fetch = async (where, how) => { const answer = await known(where, how);"
        )
        late += "if (where.includes('number')) await new Promise((go) => setTimeout(go, 1500)); return answer; };"
        driver.execute_script(late + f"swap('/run/{run}/samples?text=number', true)")
        driver.execute_script(f"swap('/run/{run}/samples?text=computer', true)")
        driver.execute_async_script("setTimeout(arguments[0], 2500)")
        assert driver.find_element("css selector", "input[name=text]").get_attribute("value") == "computer"
        assert "text=computer" in driver.current_url and console_errors(driver) == []
    finally:
        driver.quit()


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desktop, light", "phone, dark"])
def test_the_files_of_runs(runs_folder: Path, tmp_path: Path, width: int, dark: bool) -> None:
    """`report.html`, and both exports, as files: no scripts, nothing from elsewhere."""
    export_pages([runs_folder], tmp_path / "site")
    export_single([runs_folder], tmp_path / "one.html", language="zh")
    site = sorted((tmp_path / "site").glob("*.html"))
    reports = [path for path in sorted(runs_folder.rglob("report.html")) if "?" not in str(path)]
    assert len(site) > 20 and len(reports) > 4
    driver = browser(width, dark=dark)
    try:
        for path in (*reports, tmp_path / "one.html", *site):
            driver.get(path.absolute().as_uri())
            assert driver.find_elements("css selector", "h1"), path
            assert faults(driver) == [], path
        assert (
            console_errors(driver) == [] and requests_elsewhere(driver, "file:///tmp", tmp_path.as_uri(), "file:") == []
        )
    finally:
        driver.quit()


def test_each_fault_is_seen(tmp_path: Path) -> None:
    """A check that sees nothing would hold for any page."""
    pages = {
        "good": "<p>good</p>",
        "poor": "<p style='color: #999'>hard to read</p>",
        "wide": "<div style='width: 3000px'>wide</div>",
        "alive": "<main><img src=x></main>",
        "asks": "<img src='http://127.0.0.1:9/x.png'>",
        "breaks": "<script>throw new Error('broken')</script>",
    }
    driver, seen = browser(800, dark=False), {}
    try:
        for name, body in pages.items():
            (tmp_path / f"{name}.html").write_text(
                f"<!doctype html><link rel=icon href='data:,'>{body}", encoding="utf-8"
            )
            driver.get((tmp_path / f"{name}.html").as_uri())
            asked = requests_elsewhere(driver, "file:")
            seen[name] = (bool(faults(driver)), bool(console_errors(driver)), bool(asked))
    finally:
        driver.quit()
    assert seen["good"] == (False, False, False)
    assert seen["poor"][0] and seen["wide"][0] and seen["alive"][0] and seen["breaks"][1] and seen["asks"][2]
