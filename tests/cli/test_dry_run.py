"""`--dry-run` checks what a run would, says what would become of each file, and makes nothing."""

import shutil

import pytest
from PIL import Image
from support.image_files import noise, save
from support.toys import noise_image

from sr_tile.jobs.selection import unwritable
from sr_tile.models import zoo

CPU = ("--device", "cpu", "-q")


@pytest.fixture
def here(model, tmp_path):
    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos" / "a.png", noise_image(20, 30))
    save(tmp_path / "photos" / "b.jpg", noise_image(20, 30))
    save(tmp_path / "in.jpg", noise_image(40, 30))
    return tmp_path


@pytest.fixture
def rehearse(run, here):
    """Runs `enhance --dry-run` and sees to it that nothing was made or changed."""

    def call(*arguments):
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        code, out, err = run("enhance", *arguments, "--model", "model.onnx", *CPU, "--dry-run")
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
        return code, out.splitlines(), err

    return call


def test_what_would_become_of_each_file(rehearse, run):
    assert rehearse("photos", "in.jpg", "out", "--format", "png") == (
        0,
        ["photos/a.png -> out/a.png", "photos/b.jpg -> out/b.png", "in.jpg -> out/in.png"],
        "",
    )
    code, out, err = rehearse("photos", "gone.png", "out")
    assert (code, out[2]) == (1, "gone.png: there is no such file or folder")
    assert "1 of 3 images would fail" in err


def test_what_is_there_already_is_seen(rehearse, here):
    (here / "out").mkdir()
    (here / "out" / "a.png").write_bytes(b"precious")
    code, out, _ = rehearse("photos", "out")
    assert (code, "exists already" in out[0], out[1]) == (1, True, "photos/b.jpg -> out/b.jpg")
    assert rehearse("photos", "out", "--overwrite")[:2] == (0, ["photos/a.png -> out/a.png", out[1]])
    code, out, _ = rehearse("photos", "out", "--skip-existing")
    assert (code, out[0]) == (0, "photos/a.png -> out/a.png: skipped, for it exists")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("broken.png", "o.png"), "broken.png"),
        (("alpha.png", "o.jpg"), "JPEG holds no alpha"),
        (("in.jpg", "o.png", "--width", "321"), "the network reaches 120 x 160 at most"),
        (("in.jpg", "in.jpg/o.png"), "the folder cannot be made"),
        (("in.jpg", "o.png", "--pages", "2"), "in.jpg: "),
        (("odd.xyz", "photos"), "odd.xyz: no format for pictures"),
        (("moving.gif", "o.jpg"), "JPEG holds one picture"),
        (("moving.gif", "o.mp4", "--codec", "prores"), ".mp4 does not hold prores"),
        (("pages.tif", "o.gif"), "pages are no animation"),
        (("pages.tif", "o.mkv"), "pages are no film"),
    ],
)
def test_what_a_run_refuses_by_headers_and_names_a_dry_run_does_in_the_same_words(
    rehearse, run, here, arguments, words
):
    (here / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    Image.fromarray(noise(8, 8, 4)).save(here / "alpha.png")
    save(here / "x.png", noise_image(8, 8)).rename(here / "odd.xyz")
    frames = [Image.fromarray(noise_image(8, 8, seed=seed)) for seed in range(2)]
    for name in ("moving.gif", "pages.tif"):
        frames[0].save(here / name, save_all=True, append_images=frames[1:])
    code, out, err = rehearse(*arguments)
    assert (code, len(out), words in out[0]) == (1, 1, True)
    run_code, run_out, run_err = run("enhance", *arguments, "--model", "model.onnx", *CPU)
    assert (run_code, run_out, run_err) == (1, "", f"{err}sr-tile: error: {out[0]}\n")


@pytest.mark.parametrize(
    ("options", "expected", "words"),
    [
        (("--model", "model.onnx", "--overlap", "512", "--tile-size", "256"), 2, "an overlap of at most"),
        (("--model", "nobody"), 2, "is not known"),
        (("--model", "none.onnx"), 1, "there is no such file"),
        (("--model", "in.jpg"), 1, "is no ONNX model"),
        (("--model", "model.onnx", "--device", "abacus"), 2, "choose one of"),
        (("--model", "model.onnx", "--scale", "17"), 2, "not by 17"),
    ],
)
def test_models_and_options_are_those_of_a_run(run, here, options, expected, words):
    for dry in ((), ("--dry-run",)):
        code, out, err = run("enhance", "in.jpg", "o.png", *options, *dry)
        assert (code, out, len(err.splitlines()), words in err) == (expected, "", 1, True), err


@pytest.mark.parametrize("engine", [("--server", "http://127.0.0.1:9"), ("--engine", "ray")])
def test_neither_a_server_nor_ray_is_asked(run, here, engine):
    pytest.importorskip("ray")
    (here / "o.png").write_bytes(b"")
    common = ("enhance", "in.jpg", "o.png", *engine, "--dry-run")
    code, out, err = run(*common)
    assert (code, "exists already" in out, err) == (1, True, "")
    assert run(*common, "--overwrite") == (0, "in.jpg -> o.png\n", "")


def test_nor_is_what_is_no_address_of_a_server_taken(run, here):
    code, out, err = run("enhance", "in.jpg", "o.png", "--server", "my server", "--dry-run")
    assert (code, out, "no address" in err) == (2, "", True)


def test_a_job_is_only_looked_at(rehearse, run, here):
    assert rehearse("photos", "out", "--job", "job") == (
        0,
        ["photos/a.png -> out/a.png", "photos/b.jpg -> out/b.jpg", "job job: 0 of 2 images are done"],
        "",
    )
    assert not (here / "job").exists()
    command = ("enhance", "photos", "out", "--model", "model.onnx", *CPU, "--job", "job")
    assert run(*command)[0] == 0
    save(here / "photos" / "c.png", noise_image(9, 9))
    code, out, err = rehearse("photos", "out", "--job", "job")
    assert (code, err) == (0, "")
    assert out == [
        "photos/a.png -> out/a.png: done already",
        "photos/b.jpg -> out/b.jpg: done already",
        "photos/c.png -> out/c.png",
        "job job: 2 of 3 images are done",
    ]
    code, _, err = rehearse("photos", "out", "--job", "job", "--tile-size", "16")
    assert (code, "tile was auto and is 16" in err) == (1, True)
    code, out, _ = rehearse("photos", "out", "--job", "job", "--tile-size", "16", "--overwrite")
    assert (code, out[-1]) == (0, "job job: 0 of 3 images are done")


def test_a_folder_that_may_not_be_written_to_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # as the system does for all but root
    assert "may not be written to" in unwritable(str(tmp_path / "new" / "a.png"))
    (tmp_path / "deep").mkdir()
    assert unwritable(str(tmp_path / "deep" / "a.png")) is None


def test_fewer_bits_are_not_made(rehearse, monkeypatch):
    monkeypatch.setattr("sr_tile.export.precision.convert", lambda *_, **__: pytest.fail("a model was converted"))
    for precision in ("int8", "fp32"):
        assert rehearse("in.jpg", "o.png", "--precision", precision) == (0, ["in.jpg -> o.png"], "")


def test_a_job_in_fewer_bits_is_the_same_job(rehearse, run, here):
    command = ("photos", "out", "--job", "job", "--precision", "int8")
    shutil.copy(zoo.find("clean-x2"), here / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sr_tile.export.precision.convert", lambda source, target, _: shutil.copy(source, target))
        assert run("enhance", *command, "--model", "model.onnx", *CPU)[0] == 0
    assert rehearse(*command)[1][-1] == "job job: 2 of 2 images are done"
