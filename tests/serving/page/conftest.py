"""The web page in a real browser: Debian's Chromium, or the one that Playwright brings."""

import shutil
from pathlib import Path

import pytest
from support.web_page import DESKTOP


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        path = found or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """Opens the page of a server; whatever the browser complains of fails the test."""
    contexts, complaints = [], []

    def open_page(server, token=None, **options):
        context = browser.new_context(**{**DESKTOP, **options})
        context.set_default_timeout(120_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((server.url, "blob:", "data:")) else complaints.append(request.url)
            ),
        )
        page.goto(server.url)
        if token:
            page.wait_for_selector("#token-dialog[open]")
            page.fill("#token", token)
            page.keyboard.press("Enter")
        page.wait_for_selector("#sizes label", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
