"""What tests do on the web page."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from support.encoded_images import encoded
from support.servers import until
from support.toys import ToyEngine

DESKTOP = {"viewport": {"width": 1280, "height": 900}}


def picture(name, content=None):
    return {"name": name, "mimeType": "image/png", "buffer": encoded("png", 150, 200) if content is None else content}


def add(page, *files):
    page.set_input_files("#files", list(files))
    page.click("#start")


def colour(page, x, y):
    """What the stage shows at a place given in shares of its size."""
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"))
    return shot[int(y * shot.shape[0]), int(x * shot.shape[1])].astype(int)


def shows(page, x, y, level, tolerance=8):
    """Whether the stage comes to show a gray of this level there: what it showed before may stand for a moment."""
    return until(lambda: abs(colour(page, x, y).mean() - level) < tolerance)


class Negative(ToyEngine):
    """Bright becomes dark."""

    def answer(self, batch_nchw):
        return 1 - batch_nchw


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
