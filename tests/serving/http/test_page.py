"""The web page in a real browser: Debian's Chromium, or the one that Playwright brings."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.encoded_images import encoded
from support.servers import BlockedEngine, until
from support.toys import ToyEngine

pytestmark = pytest.mark.slow

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
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
        page.wait_for_selector("#scales label", state="attached")
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
        page.click("text=Download")
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
        page.click("text=Download")
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
    assert "is no PNG, JPEG, TIFF, WebP or AVIF" in notes[1].replace("Is no", "is no")
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
    assert seen == ["scale", "format", "start"]  # a choice among one model is no stop
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
    assert seen[-7:] == ["zoom-out", "zoom-in", "fit", "actual", "close", "canvas", "divider"]


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
        page.click("text=Download")
    assert download.value.suggested_filename == "a-x2.png"
    assert Path(download.value.path()).read_bytes() == reference(content)
