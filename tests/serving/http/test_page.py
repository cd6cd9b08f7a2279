"""The web page in a real browser: Debian's Chromium, or the one that Playwright brings."""

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.encoded_images import encoded
from support.servers import BlockedEngine, until
from support.toys import ToyEngine

from sr_tile.errors import ModelOutputError
from sr_tile.models import zoo
from sr_tile.models.spec import ModelSpec
from sr_tile.serving.http.options import Options

pytestmark = pytest.mark.slow

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
SIZES = [(360, 640), (768, 1024), (1280, 800), (1920, 1080), (2560, 1440)]
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


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


def picture(name, content=None):
    return {"name": name, "mimeType": "image/png", "buffer": encoded("png", 150, 200) if content is None else content}


def add(page, *files):
    page.set_input_files("#files", list(files))
    page.click("#start")


def colour(page, x, y):
    """What the stage shows at a place given in shares of its size."""
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"))
    return shot[int(y * shot.shape[0]), int(x * shot.shape[1])].astype(int)


class Negative(ToyEngine):
    """Bright becomes dark."""

    def answer(self, batch_nchw):
        return 1 - batch_nchw


class Stepwise(BlockedEngine):
    """Blocks after some tiles."""

    left = 10**6

    def answer(self, batch_nchw):
        self.left -= len(batch_nchw)
        return super().answer(batch_nchw) if self.left < 0 else batch_nchw


def test_upload_compare_and_download(visit, live, reference):
    server, content = live(), encoded("png", 150, 200)
    page = visit(server)
    assert page.locator("#start").is_disabled()
    add(page, picture("my photo.png", content))
    page.wait_for_selector("#stage[data-settled=true]")
    assert "200 × 150 to 400 × 300" in page.locator(".item .note").inner_text()
    with page.expect_download() as download:
        page.click(".item >> text=Download")
    assert download.value.suggested_filename == "my photo-x2.png"
    assert Path(download.value.path()).read_bytes() == reference(content)
    page.click("text=Remove all")
    assert page.locator("#viewer").is_hidden()
    assert until(lambda: len(server.state.job_store) == 0)


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


def test_progress_in_tiles_and_cancel(visit, live):
    engine = Stepwise()
    server = live({"toy": engine})
    engine.block()
    engine.left = 5
    page = visit(server)
    add(page, picture("large.png", encoded("png", 300, 400)))
    page.wait_for_selector("text=/^[1-9] of [0-9]+ tiles$/")
    share = float(
        page.locator("progress").get_attribute("value") or page.locator("progress").evaluate("bar => bar.value")
    )
    assert 0 < share < 1
    page.click("text=Cancel")
    assert page.locator(".item").count() == 0
    engine.open.set()
    assert until(lambda: server.state.admission.active == 0)


def test_a_broken_file_says_so_and_the_others_go_on(visit, live):
    page = visit(live())
    whole = encoded("png", 150, 200)
    add(
        page,
        picture("a.png"),
        picture("broken.png", whole[: len(whole) // 2]),
        picture("text.png", b"no picture"),
        picture("b.png"),
    )
    page.wait_for_selector(":nth-match(.item.done, 2)")
    page.wait_for_selector(":nth-match(.item.failed, 2)")
    notes = page.locator(".item.failed .note").all_inner_texts()
    assert "truncated or damaged" in notes[0].lower()
    assert "is no PNG, JPEG, TIFF, WebP" in notes[1].replace("Is no", "is no")
    assert page.get_by_label("Try again").count() == 0  # it would be the same again
    assert page.locator("#start").is_disabled()
    assert page.locator("#status").inner_text()
    page.get_by_label("Remove: text.png").click()
    assert page.locator(".item").count() == 3


def test_the_boundary_moves_by_pointer_and_by_keys(visit, live):
    dark = Image.new("RGB", (400, 300), (20, 20, 20))
    buffer = io.BytesIO()
    dark.save(buffer, "PNG")
    page = visit(live({"negative": Negative()}))
    add(page, picture("dark.png", buffer.getvalue()))
    page.wait_for_selector("#stage[data-settled=true]")
    assert colour(page, 0.4, 0.3).max() < 60
    assert colour(page, 0.6, 0.3).min() > 200
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert page.locator("#divider").get_attribute("aria-valuenow") == "70"
    page.wait_for_selector("#stage[data-settled=true]")
    assert colour(page, 0.6, 0.3).max() < 60
    page.locator("#divider").focus()
    page.keyboard.press("Home")
    assert page.locator("#divider").get_attribute("aria-valuetext") == "0 % before, 100 % after"
    assert colour(page, 0.4, 0.3).min() > 200
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


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_pictures_can_be_pasted_and_dropped(visit, live, event):
    page = visit(live())
    page.locator("body").evaluate(
        """(body, [event, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
            const made = event === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                                           : new DragEvent("drop", { dataTransfer: data, bubbles: true });
            body.dispatchEvent(made);
        }""",
        [event, list(encoded("png", 20, 30))],
    )
    assert page.locator(".item .name").inner_text() == "given.png"
    page.click("#start")
    page.wait_for_selector(".item.done")


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
    for _ in range(12):
        page.keyboard.press("Tab")
        seen.append(page.locator(":focus").get_attribute("id"))
        if seen[-1] == "divider":
            break
    assert seen[-7:] == ["zoom-in", "fit", "actual", "full", "close", "canvas", "divider"]


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


def test_a_token_is_asked_for_once(visit, live, reference):
    content, secret = encoded("png", 60, 80), "a secret of some length"
    page = visit(live(token=secret), token=secret)
    add(page, picture("a.png", content))
    page.wait_for_selector("#stage[data-settled=true]")
    with page.expect_download() as download:
        page.click(".item >> text=Download")
    assert download.value.suggested_filename == "a-x2.png"
    assert Path(download.value.path()).read_bytes() == reference(content)


def gray(level, kind="png", size=(80, 60)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (level,) * 3).save(buffer, kind)
    return buffer.getvalue()


def choose_strength(page, percent):
    page.locator("#strength").evaluate(
        "(field, value) => { field.value = value; field.dispatchEvent(new Event('input', { bubbles: true })); }",
        percent,
    )


def saved(page, button):
    with page.expect_download() as download:
        button.click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def uploads(page):
    """The requests of a page that carry a picture, as they come."""
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    return sent


def kept(page):
    """What the browser keeps for a reload: of each picture, by name, whether the server has each of its jobs."""
    return page.evaluate(
        """() => new Promise((resolve) => {
            const opened = indexedDB.open("sr-tile");
            opened.onsuccess = () => {
                const found = opened.result.transaction("pictures").objectStore("pictures").getAll();
                found.onsuccess = () => {
                    opened.result.close();
                    const jobs = ({ name, runs }) => [name, runs.map((run) => Boolean(run.job))];
                    resolve(Object.fromEntries(found.result.map(jobs)));
                };
            };
        })"""
    )


def level_of(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("L")).mean().round()


def test_a_picture_is_done_again_with_other_settings(visit, live):
    page = visit(live({"negative": Negative()}))
    add(page, picture("a.png", gray(20, size=(400, 300))))
    page.wait_for_selector("#stage[data-settled=true]")
    assert page.locator("#start").is_disabled()  # nothing has changed
    choose_strength(page, 50)
    assert page.locator("#start").inner_text() == "Enhance again"
    page.click("#start")
    page.wait_for_selector(":nth-match(.chip, 2)")
    page.wait_for_selector(".chip[aria-pressed=true]:has-text('strength 50 %')")
    assert page.locator("#start").is_disabled()
    page.wait_for_selector("#stage[data-settled=true]")
    download = page.get_by_label("Download: a.png")
    half = level_of(saved(page, download)[1])
    assert abs(half - 128) <= 1
    assert abs(colour(page, 0.75, 0.3).mean() - 128) < 8
    page.click(".chip:has-text('same size'):not(:has-text('strength'))")
    page.wait_for_selector("#stage[data-settled=true]")
    assert abs(level_of(saved(page, download)[1]) - 235) <= 1
    assert abs(colour(page, 0.75, 0.3).mean() - 235) < 8
    page.select_option("#result", label="same size, negative, strength 50 %")
    page.wait_for_selector(".chip[aria-pressed=true]:has-text('strength')")
    assert page.locator("#result").is_visible()


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


def test_all_results_in_one_archive(visit, live, reference):
    page = visit(live())
    contents = {"a.png": encoded("png", 60, 80, seed=1), "b.png": encoded("png", 50, 40, seed=2)}
    assert page.locator("#all").is_hidden()
    add(page, *(picture(name, content) for name, content in contents.items()))
    page.wait_for_selector(":nth-match(.item.done, 2)")
    name, archive = saved(page, page.locator("#all"))
    assert name == "results.zip"
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        for name, content in contents.items():
            assert file.read(name.replace(".", "-x2.")) == reference(content)


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


def test_what_the_server_does_not_take_is_not_sent(visit, live):
    page = visit(live(bytes=5000, pixels=20_000, side=300))
    sent = uploads(page)
    add_only = [
        {"name": "letter.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4"},
        picture("heavy.png", gray(9) + bytes(6000)),
        picture("wide.png", gray(9, size=(301, 10))),
        picture("large.png", gray(9, size=(200, 101))),
    ]
    page.set_input_files("#files", add_only)
    page.wait_for_selector(":nth-match(.item.failed, 4)")
    notes = page.locator(".item .note").all_inner_texts()
    for note, words in zip(
        notes, ("does not take .pdf files", "5 kB", "at most 300 pixels", "0.02 megapixels"), strict=True
    ):
        assert words in note
    assert page.locator("#start").is_disabled()
    assert page.locator(".item button").all_inner_texts() == ["Remove"] * 4
    assert "large.png" in page.locator("#status").inner_text()
    page.set_input_files("#files", [picture("fits.png", gray(9))])
    page.click("#start")
    page.wait_for_selector(".item.done")
    assert len(sent) == 1


def test_the_file_dialog_offers_what_the_server_takes(visit, live):
    accepted = visit(live()).locator("#files").get_attribute("accept").split(",")
    for known in (".png", ".jpg", ".tif", ".bmp", "image/webp"):
        assert known in accepted
    assert ".tga" not in accepted


class Failing(ToyEngine):
    """Has no answer for as long as it fails."""

    fails = False

    def answer(self, batch_nchw):
        if self.fails:
            raise ModelOutputError("toy: has no answer")
        return super().answer(batch_nchw)


def test_what_may_work_next_time_can_be_tried_again(visit, live):
    engine = Failing()
    page = visit(live({"toy": engine}))
    engine.fails = True
    add(page, picture("a.png"))
    page.wait_for_selector(".item.failed")
    engine.fails = False
    page.get_by_label("Try again: a.png").click()
    page.wait_for_selector(".item.done")


def test_settings_that_do_not_fit_are_changed_and_not_tried_again(visit, live):
    page = visit(live())
    page.select_option("#format", "jpeg")
    add(page, picture("a.png", encoded("png", 60, 80, channels=4)))  # JPEG holds no alpha
    page.wait_for_selector(".item.failed")
    assert page.get_by_label("Try again").count() == 0
    page.select_option("#format", "png")
    page.click("#start")
    page.wait_for_selector(".item.done")


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


def test_a_reload_keeps_the_queue_and_what_is_under_way(visit, live):
    engine = BlockedEngine()
    server = live({"toy": engine})
    engine.block()
    page = visit(server)
    choose_strength(page, 50)
    add(page, picture("a.png"), picture("b.png"), picture("c.png"))
    assert until(lambda: len(server.state.job_store) == 2)  # two at a time; the third waits in the browser
    page.set_input_files("#files", [picture("later.png")])
    expected = {"a.png": [True], "b.png": [True], "c.png": [False], "later.png": []}
    assert until(lambda: kept(page) == expected)  # it is written behind the page
    page.reload()
    page.wait_for_selector(":nth-match(.item, 4)")
    assert page.locator("#strength").input_value() == "50"
    engine.open.set()
    page.wait_for_selector(":nth-match(.item.done, 3)")
    assert page.locator(".item.done .name").all_inner_texts() == ["a.png", "b.png", "c.png"]
    assert page.locator(".item.ready .name").all_inner_texts() == ["later.png"]
    assert len(server.state.job_store) == 3  # nothing was sent twice
    page.reload()
    page.wait_for_selector(":nth-match(.item.done, 3)")
    page.wait_for_selector("#stage[data-settled=true]")
    page.click("text=Remove all")
    assert until(lambda: kept(page) == {} and len(server.state.job_store) == 0)


def test_what_the_server_did_not_keep_can_be_done_again(visit, live):
    server = live()
    page = visit(server)
    add(page, picture("a.png"))
    page.wait_for_selector("#stage[data-settled=true]")
    assert until(lambda: kept(page) == {"a.png": [True]})
    (job,) = server.state.job_store._items.values()
    server.state.job_store.remove(job)
    page.reload()
    page.wait_for_selector(".item.ready")
    page.click("#start")
    page.wait_for_selector(".item.done")


def test_another_tab_has_a_queue_of_its_own(visit, live):
    server = live()
    page = visit(server)
    page.set_input_files("#files", [picture("a.png")])
    assert until(lambda: kept(page) == {"a.png": []})
    other = page.context.new_page()
    other.goto(server.url)
    other.wait_for_selector("#sizes label", state="attached")
    other.wait_for_timeout(300)
    assert other.locator(".item").count() == 0


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
