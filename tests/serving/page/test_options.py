"""The choices of the web page: models, sizes, what reaches the server."""

from pathlib import Path

import pytest
from support.encoded_images import encoded
from support.toys import ToyEngine
from support.web_page import add, choose_strength, picture

from sr_tile.models import zoo
from sr_tile.models.spec import ModelSpec

pytestmark = pytest.mark.slow


def test_options_reach_the_server(visit, live, reference):
    content = encoded("png", 60, 80)
    page = visit(live())
    page.select_option("#format", "jpeg")
    page.fill("#quality", "70")
    add(page, picture("a.png", content))
    with page.expect_download() as download:
        page.click(".item >> text=Download")
    assert download.value.suggested_filename == "a-x2.jpg"
    assert Path(download.value.path()).read_bytes() == reference(content, "jpeg", quality=70)


def test_models_are_chosen_by_what_they_are_for(visit, live):
    engines = {
        name: ToyEngine(ModelSpec(name, scale=scale, multiple=1))
        for name, scale in (("clean-x2", 2), ("denoise", 1), ("photo-x4", 4), ("photo-x2", 2))
    }
    page = visit(live(engines))
    cards = page.locator("#purposes label").all_inner_texts()
    assert [card.split("\n")[0].lower() for card in cards] == [
        zoo.PURPOSE["photo-x2"],
        zoo.PURPOSE["clean-x2"],
        zoo.PURPOSE["denoise"],
    ]
    assert "photo-x2: 2×, photo-x4: 4×" in cards[0]
    page.locator("#sizes label", has_text="4×").click()
    page.locator("#more summary").click()
    page.select_option("#first", "denoise")
    assert page.locator("#edges").is_disabled()  # not with two models
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    assert {name for name, engine in engines.items() if engine.shapes} == {"denoise", "photo-x4"}
    assert "200 × 150 to 800 × 600" in page.locator(".item .note").inner_text()
    page.locator("#purposes label").nth(2).click()
    assert page.locator("#sizes label").all_inner_texts() == ["Same size", "Other"]
    assert page.locator("#first").is_hidden()
    page.click("#start")
    page.wait_for_selector(":nth-match(.chip, 2)")
    assert page.locator(".chip").all_inner_texts() == ["4×, denoise, photo-x4", "same size, denoise"]


@pytest.mark.parametrize(
    ("measure", "number", "box", "after", "model"),
    [
        ("scale", "1.5", None, "300 × 225", "two"),
        ("width", "300", None, "300 × 225", "two"),
        ("height", "450", None, "600 × 450", "four"),
        ("fit", "700", "300", "400 × 300", "two"),
    ],
)
def test_any_size(visit, live, measure, number, box, after, model):
    engines = {name: ToyEngine(ModelSpec("net", scale=scale, multiple=1)) for name, scale in (("two", 2), ("four", 4))}
    engines["four"].spec = ModelSpec("net", scale=4, multiple=1, details={"purpose": "toys"})
    engines["two"].spec = ModelSpec("net", scale=2, multiple=1, details={"purpose": "toys"})
    page = visit(live(engines))
    page.locator("#sizes label", has_text="Other").click()
    page.select_option("#measure", measure)
    page.fill("#number", number)
    if box:
        page.fill("#box", box)
    add(page, picture("a.png"))
    page.wait_for_selector(".item.done")
    assert f"200 × 150 to {after}" in page.locator(".item .note").inner_text()
    assert [name for name, engine in engines.items() if engine.shapes] == [model]  # the least that reaches it


def test_settings_beside_the_model_reach_the_server(visit, live):
    server = live({"denoise": ToyEngine()})
    page = visit(server)
    page.locator("#more summary").click()
    page.select_option("#precision", "fp32")
    page.select_option("#edges", "wrap")
    page.fill("#grain", "30")
    page.check("#tta")
    choose_strength(page, 0)
    add(page, picture("a.png"))
    page.wait_for_selector(".item.done")
    (job,) = server.state.job_store._items.values()
    said = job.task.options.model_dump(exclude_unset=True)
    wanted = {"precision": "fp32", "edges": "wrap", "keep_grain": 0.3, "tta": True, "strength": 0.0}
    assert said == {"model": "denoise", **wanted}
