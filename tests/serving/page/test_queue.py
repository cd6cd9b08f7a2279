"""Pictures on the web page: sent, given up, tried or done again, saved."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.encoded_images import encoded
from support.servers import BlockedEngine, until
from support.toys import ToyEngine
from support.web_page import Negative, add, choose_strength, gray, picture, saved, shows

from sr_tile.errors import ModelOutputError

pytestmark = pytest.mark.slow


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


def test_a_token_is_asked_for_once(visit, live, reference):
    content, secret = encoded("png", 60, 80), "a secret of some length"
    page = visit(live(token=secret), token=secret)
    add(page, picture("a.png", content))
    page.wait_for_selector("#stage[data-settled=true]")
    with page.expect_download() as download:
        page.click(".item >> text=Download")
    assert download.value.suggested_filename == "a-x2.png"
    assert Path(download.value.path()).read_bytes() == reference(content)


def uploads(page):
    """The requests of a page that carry a picture, as they come."""
    sent = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    return sent


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
    assert shows(page, 0.75, 0.3, 128)
    page.click(".chip:has-text('same size'):not(:has-text('strength'))")
    page.wait_for_selector("#stage[data-settled=true]")
    assert abs(level_of(saved(page, download)[1]) - 235) <= 1
    assert shows(page, 0.75, 0.3, 235)
    page.select_option("#result", label="same size, negative, strength 50 %")
    page.wait_for_selector(".chip[aria-pressed=true]:has-text('strength')")
    assert page.locator("#result").is_visible()


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
