"""The page that explains the routes."""

import pytest

from sr_tile.serving.http.options import Options

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("token", [None, "a secret of some length"])
def test_the_routes_are_explained(visit, live, token):
    server = live(token=token)
    page = visit(server, token=token)
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".route")
    shown = page.locator(".route summary").all_inner_texts()
    assert any("POST /v1/enhance" in line for line in shown)
    page.locator(".route summary", has_text="Enhance one image").click()
    options = page.locator(".route[open] th").all_inner_texts()
    assert set(Options.model_fields) <= set(options)
