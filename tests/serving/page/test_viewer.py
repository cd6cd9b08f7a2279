"""Before and after on the web page."""

import io

import pytest
from PIL import Image
from support.encoded_images import encoded
from support.toys import ToyEngine
from support.web_page import Negative, add, picture, shows

from sr_tile.models.spec import ModelSpec

pytestmark = pytest.mark.slow


def test_the_boundary_moves_by_pointer_and_by_keys(visit, live):
    dark = Image.new("RGB", (400, 300), (20, 20, 20))
    buffer = io.BytesIO()
    dark.save(buffer, "PNG")
    page = visit(live({"negative": Negative()}))
    add(page, picture("dark.png", buffer.getvalue()))
    page.wait_for_selector("#stage[data-settled=true]")
    assert shows(page, 0.4, 0.3, 20, 40)
    assert shows(page, 0.6, 0.3, 235, 35)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert page.locator("#divider").get_attribute("aria-valuenow") == "70"
    page.wait_for_selector("#stage[data-settled=true]")
    assert shows(page, 0.6, 0.3, 20, 40)
    page.locator("#divider").focus()
    page.keyboard.press("Home")
    assert page.locator("#divider").get_attribute("aria-valuetext") == "0 % before, 100 % after"
    assert shows(page, 0.4, 0.3, 235, 35)
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#divider").get_attribute("aria-valuenow") == "98"


def test_zoom_and_pan(visit, live):
    page = visit(live())
    add(page, picture("a.png", encoded("png", 700, 1100)))
    page.wait_for_selector("#stage[data-settled=true]")
    fitted = page.locator("#zoom").inner_text()
    page.locator("#canvas").focus()
    page.keyboard.press("1")
    page.wait_for_selector("text=/^100 %$/")
    page.keyboard.press("+")
    page.wait_for_selector("text=/^150 %$/")
    page.wait_for_selector("#stage[data-settled=true]")
    before = page.locator("#stage").screenshot()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#stage[data-settled=true]")
    assert page.locator("#stage").screenshot() != before
    page.locator("#canvas").hover(position={"x": 100, "y": 100})
    page.mouse.wheel(0, -300)
    page.wait_for_selector("text=/^2[0-9.]+ %$/")
    page.keyboard.press("0")
    page.wait_for_selector(f"#zoom:text-is('{fitted}')")


def test_another_result_is_shown_at_the_same_place(visit, live):
    page = visit(live({"two": ToyEngine(ModelSpec("two", scale=2, multiple=1))}))
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    page.click("#actual")
    page.wait_for_selector("#zoom:text-is('100 %')")
    page.check("[name=size][value=other]", force=True)
    page.fill("#number", "1")
    page.click("#start")
    page.wait_for_selector(":nth-match(.chip, 2)")
    page.wait_for_selector("#zoom:text-is('200 %')")  # half as many pixels, as large on the screen
    assert page.locator("#result option").count() == 2


def test_full_screen_and_escape(visit, live):
    page = visit(live())
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    page.click("#full")
    page.wait_for_function("document.fullscreenElement?.id === 'viewer'")
    page.wait_for_selector("#full[aria-pressed=true]")
    page.keyboard.press("Escape")
    page.wait_for_function("!document.fullscreenElement")
    assert page.locator("#viewer").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    assert page.locator(":focus").get_attribute("aria-label") == "Compare: a.png"
