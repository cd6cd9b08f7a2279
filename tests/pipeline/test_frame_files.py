"""Files of several pictures among others: what shares batches, what fails alone, and what stays behind."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from support.image_files import names
from support.toys import ToyEngine, noise_image

from sr_tile.enhancer import Enhancer
from sr_tile.errors import ArgumentError, ImageWriteError
from sr_tile.jobs.files import run_files
from sr_tile.jobs.job_folder import describe
from sr_tile.jobs.resumable import ResumableJob
from sr_tile.jobs.selection import FilePair
from sr_tile.pipeline.frame_files import each_file
from sr_tile.planner import Settings


def noise(height, width, seed):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("pages.tif", np.stack([noise(30, 40, seed) for seed in (1, 2, 3)]), photometric="rgb")
    Image.fromarray(noise_image(30, 40)).save("one.png")
    frames = [Image.fromarray(noise(30, 40, seed)) for seed in (1, 2)]
    frames[0].save("two.webp", save_all=True, append_images=frames[1:], lossless=True)
    return tmp_path


def test_frames_of_all_files_share_batches(folder):
    engine = ToyEngine()
    settings = Settings(tile=32, overlap=8, batch=8)
    with Enhancer(engine, settings=settings) as enhancer:
        files = [("pages.tif", "a.tif"), ("one.png", "b.png"), ("two.webp", "c.png")]
        outcomes = list(each_file(enhancer.run, [enhancer.file_job(*file) for file in files]))
    assert sorted((outcome.index, outcome.error) for outcome in outcomes) == [(0, None), (1, None), (2, None)]
    assert len(engine.shapes) < 6  # pictures, of two tiles each at least
    np.testing.assert_array_equal(tifffile.imread("a.tif", key=range(3)), tifffile.imread("pages.tif"))


def test_a_file_that_fails_stops_no_other(folder):
    cut = (folder / "two.webp").read_bytes()[:-2000]
    (folder / "cut.webp").write_bytes(cut)
    pairs = [FilePair(source, f"out/{source}") for source in ("cut.webp", "pages.tif", "gone.tif", "one.png")]
    found = {result.source: result.status for result in run_files(Enhancer(ToyEngine()), pairs)}
    assert found == {"cut.webp": "failed", "pages.tif": "done", "gone.tif": "failed", "one.png": "done"}
    assert names(folder / "out") == ["one.png", "pages.tif"]


def test_what_is_given_up_midway_leaves_nothing(folder):
    enhancer = Enhancer(ToyEngine())
    outcomes = each_file(enhancer.run, [enhancer.file_job("one.png", "b.png"), enhancer.file_job("pages.tif", "c.tif")])
    next(outcomes)
    outcomes.close()
    assert [name for name in names(folder) if "part" in name] == []


def test_a_target_that_is_there_is_refused_and_kept(folder):
    (folder / "a.tif").write_bytes(b"kept")
    with pytest.raises(ImageWriteError, match="exists"):
        Enhancer(ToyEngine()).enhance_file("pages.tif", "a.tif")
    assert (folder / "a.tif").read_bytes() == b"kept"


def test_a_job_does_files_of_several_pictures_once(folder):
    settings = describe("clean-x2", None)
    pairs = [FilePair("pages.tif", "out/a.tif"), FilePair("one.png", "out/b.png")]
    for _ in range(2):
        engine = ToyEngine()
        with ResumableJob("job", settings) as job, Enhancer(engine) as enhancer:
            assert [result.status for result in job.run(enhancer, pairs)] == ["done", "done"]
    assert engine.shapes == []
    np.testing.assert_array_equal(tifffile.imread("out/a.tif", key=range(3)), tifffile.imread("pages.tif"))


def test_a_server_is_told_one_picture_a_file(folder):
    from sr_tile.serving.client import RemoteEnhancer

    with pytest.raises(ArgumentError, match="pages cannot be chosen"):
        RemoteEnhancer("http://127.0.0.1:9").file_job("pages.tif", "a.tif", excerpt=object())
