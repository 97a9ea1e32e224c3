"""A chapter in a real JupyterLab in a real browser: it runs to its end, and a slider changes its picture."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

SOLUTIONS = Path(__file__).parents[2] / "solutions"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
ALONE = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

SETTINGS = {
    # All cells are in the page, not only those in view.
    "notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false"},
}


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab server on a copy of the chapter with answers; gives its address."""
    shutil.copy(SOLUTIONS / "02_attention.ipynb", tmp_path)
    settings = tmp_path / "settings" / "@jupyterlab"
    for name, values in SETTINGS.items():
        (settings / name).parent.mkdir(parents=True, exist_ok=True)
        (settings / name).write_text(json.dumps(values))
    places = {"JUPYTERLAB_SETTINGS_DIR": settings.parent, "JUPYTER_CONFIG_DIR": tmp_path / "config", "HOME": tmp_path}
    environment = os.environ | {name: str(place) for name, place in places.items()}
    port = 8000 + os.getpid() % 1000
    options = [
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={tmp_path}",
        "--IdentityProvider.token=",
        "--no-browser",
    ]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--allow-root", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(lambda: urllib.request.urlopen(f"{address}/api/status", timeout=2).status == 200, seconds=90)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, f"not ready after {seconds} s"
        time.sleep(0.5)


def test_chapter_runs_to_its_end_and_a_slider_changes_the_picture(lab, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(90_000)
        page.goto(f"{lab}/lab/tree/02_attention.ipynb?reset")
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()  # before that, cells are not run but cleared
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()

        slider = page.locator(".widget-slider .noUi-handle").first
        slider.wait_for()
        picture = page.locator(".widget-vbox .jp-OutputArea img").first
        picture.wait_for()
        _wait_for(lambda: page.locator(".jp-Notebook").inner_text().count("[*]:") == 0, seconds=120)
        before = picture.get_attribute("src")
        slider.scroll_into_view_if_needed()
        slider.focus()
        page.keyboard.press("ArrowRight")
        _wait_for(lambda: picture.count() == 1 and picture.get_attribute("src") != before, seconds=60)
        page.screenshot(path=os.environ.get("POCKETGPT_SCREENSHOT", tmp_path / "chapter.png"))

        text = page.locator(".jp-Notebook").inner_text()
        assert "✓ 2.4 attention · 3 points" in text
        assert "The loss rose from" in text
        assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        browser.close()
