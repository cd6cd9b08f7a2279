"""The web page on screens of any size, by keyboard and by finger."""

import pytest
from support.toys import ToyEngine
from support.web_page import add, picture

from sr_tile.models.spec import ModelSpec

pytestmark = pytest.mark.slow


SIZES = [(360, 640), (768, 1024), (1280, 800), (1920, 1080), (2560, 1440)]


PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def test_with_the_keyboard_alone(visit, live):
    page = visit(live())
    page.set_input_files("#files", [picture("a.png")])
    page.locator("#files").focus()
    seen = []
    for _ in range(12):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        seen.append(focused.get_attribute("id") or focused.get_attribute("aria-label") or focused.get_attribute("name"))
        if seen[-1] == "start":
            break
    assert seen == ["size", "strength", "format", None, "start"]  # a choice among one model is no stop; then what folds
    page.keyboard.press("Enter")
    page.wait_for_selector("#stage[data-settled=true]")
    page.get_by_label("Compare: a.png").focus()
    page.keyboard.press("Enter")
    assert page.locator(":focus").get_attribute("id") == "viewer-title"
    page.keyboard.press("1")
    page.wait_for_selector("#zoom:text-is('100 %')")  # wherever the focus is in the comparison
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.locator(":focus").get_attribute("id"))
        if seen[-1] == "divider":
            break
    assert seen[-7:] == ["zoom-in", "fit", "actual", "full", "close", "canvas", "divider"]
    page.keyboard.press("+")
    page.wait_for_selector("#zoom:text-is('150 %')")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#divider").get_attribute("aria-valuenow") == "48"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(visit, live, scheme):
    page = visit(live(), **PHONE, color_scheme=scheme)
    add(page, picture("a picture with quite a long name, longer than the screen is wide.png"), picture("b.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    assert page.locator("html").evaluate("page => page.scrollWidth") <= 390
    box = page.locator("#stage").bounding_box()
    assert box["width"] == 390
    background = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    brightness = sum(int(part) for part in background[4:-1].split(",")) / 3
    assert (brightness > 200) == (scheme == "light")
    page.locator("#fit").tap()
    for button in page.locator("button:visible").all():
        assert button.bounding_box()["height"] >= 40  # large enough for a finger


def test_beside_the_list_where_there_is_room(visit, live):
    page = visit(live())
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    page.set_viewport_size({"width": 1280, "height": 800})
    side, viewer = (page.locator(name).bounding_box() for name in (".side", "#viewer"))
    assert viewer["x"] >= side["x"] + side["width"]
    assert viewer["y"] + viewer["height"] <= 800
    page.set_viewport_size({"width": 768, "height": 1024})
    side, viewer = (page.locator(name).bounding_box() for name in (".side", "#viewer"))
    assert viewer["y"] >= side["y"] + side["height"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_at_any_size(visit, live, scheme):
    page = visit(
        live({"denoise": ToyEngine(), "photo-x2": ToyEngine(ModelSpec("x2", scale=2, multiple=1))}), color_scheme=scheme
    )
    page.locator("#more summary").click()
    add(page, picture("a picture with quite a long name, longer than the screen is wide.png"), picture("b.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    page.locator("#sizes label", has_text="Other").click()
    page.select_option("#measure", "fit")
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.locator("html").evaluate("page => page.scrollWidth") <= width
        for control in page.locator("button:visible, select:visible, input:visible:not(.hidden)").all():
            box = control.bounding_box()
            around = control.locator("xpath=ancestor::section").bounding_box()  # which cuts off what is larger
            right = around["x"] + around["width"]
            assert box["x"] >= around["x"]
            assert box["x"] + box["width"] <= right, (width, control.get_attribute("id"))
