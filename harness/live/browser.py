"""Shows pages in a headless Chromium: what scripts have made of them, and a screenshot without advertisements."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.live.extract import ADVERTISEMENTS
from harness.live.web import AGENT, NEEDS, LeftOutError
from harness.quick import dataclass

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, TALLEST = 1280, 4000
"""Pixels of a screenshot; what lies below the tallest is not on it."""
PATIENCE = 30.0
"""Seconds for a page to load."""
SETTLING, PACE = 10, 0.3
"""How often the text of a page is looked at until it stays the same, and seconds between two looks."""
AD_SERVERS = (
    "*doubleclick.net*",
    "*googlesyndication.com*",
    "*googleadservices.com*",
    "*adnxs.com*",
    "*taboola.com*",
    "*outbrain.com*",
    "*cpro.baidustatic.com*",
    "*pos.baidu.com*",
    "*tanx.com*",
)
_REMOVE = """
for (const path of arguments[0]) {
  const found = document.evaluate(path, document, null, XPathResult.ORDERED_NODE_SNAPSHOT_TYPE, null);
  for (let i = 0; i < found.snapshotLength; i++) found.snapshotItem(i).remove();
}
const most = document.body ? document.body.innerText.length / 2 : 0;  // what holds the page itself stays
for (const each of document.querySelectorAll('body *'))
  if (getComputedStyle(each).position === 'fixed' && each.innerText.length < most) each.remove();
return [document.URL, Math.max(document.documentElement.scrollHeight, document.body ? document.body.scrollHeight : 0)];
"""


@dataclass(frozen=True, slots=True)
class LoadedPage:
    """A page as a browser shows it. url: where it was in the end. image: PNG."""

    url: str
    html: str
    image: bytes


class Browser:
    """One browser for many pages."""

    def __init__(self, driver: Chrome) -> None:
        self._driver = driver

    def show(self, url: str) -> LoadedPage:
        """Load a page, take away its advertisements and what hangs before it, and take its picture. Raises
        `LeftOutError`."""
        from selenium.common.exceptions import TimeoutException, WebDriverException

        driver = self._driver
        try:
            driver.get(url)
            self._settle()
            shown, height = driver.execute_script(_REMOVE, list(ADVERTISEMENTS))
            if not shown.startswith("http"):  # the browser's own page of errors
                raise LeftOutError("the browser cannot load it", again=True)
            driver.set_window_size(WIDTH, max(400, min(int(height), TALLEST)))
            return LoadedPage(shown, driver.page_source, driver.get_screenshot_as_png())
        except TimeoutException:
            raise LeftOutError(f"not shown within {PATIENCE:.0f} s by the browser", again=True) from None
        except WebDriverException as error:
            first = (error.msg or type(error).__name__).splitlines()[0]
            raise LeftOutError(f"the browser cannot show it: {first[:120]}", again=True) from None

    def _settle(self) -> None:
        """Wait until scripts add no more text, for a few seconds at most."""
        before, same = -1, 0
        for _ in range(SETTLING):
            length = int(self._driver.execute_script("return document.body ? document.body.innerText.length : 0"))
            same = same + 1 if length == before else 0
            if same == 2:
                return
            before = length
            time.sleep(PACE)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium, closed at the end. Raises `UsageError` where it, its driver or selenium is not installed."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        what = "chromium" if program is None else "chromedriver"
        raise UsageError(f"--screenshots: {what} is not installed (Debian: apt install chromium chromium-driver)")
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
    except ImportError:
        raise UsageError(f"--screenshots: needs {NEEDS}") from None
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.unhandled_prompt_behavior = "dismiss"
    for flag in ("--headless=new", "--hide-scrollbars", "--mute-audio", f"--window-size={WIDTH},1000"):
        options.add_argument(flag)
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as root Chromium has no sandbox, and does not start with one
        options.add_argument("--no-sandbox")
    try:
        made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except WebDriverException as error:
        raise UsageError(f"--screenshots: Chromium does not start: {(error.msg or '').splitlines()[:1]}") from None
    try:
        made.set_page_load_timeout(PATIENCE)
        made.execute_cdp_cmd("Network.enable", {})
        made.execute_cdp_cmd("Network.setBlockedURLs", {"urls": list(AD_SERVERS)})
        name = str(made.execute_script("return navigator.userAgent"))
        made.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": f"{name} {AGENT}"})
        yield Browser(made)
    finally:
        made.quit()
