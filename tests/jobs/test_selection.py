import os

import pytest
from PIL import Image
from support.toys import noise_image

from sr_tile.errors import ArgumentError, ImageReadError
from sr_tile.jobs.report import FileResult
from sr_tile.jobs.selection import FilePair, find_images, make_folder, screen, select_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "in/b.png", "in/deep/c.jpg", "in/.hidden.png", "in/.thumbs/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise_image(8, 8)).save(tmp_path / name)
    return tmp_path


def pairs(*arguments, **keywords):
    return [(p.source, p.target) for p in select_files(*arguments, **keywords).pairs]


@pytest.mark.parametrize(
    ("output", "suffix", "target"),
    [
        ("out.png", None, "out.png"),
        ("out.mkv", None, "out.mkv"),
        ("out", None, "out/a.png"),
        ("out", ".webp", "out/a.webp"),
        ("out.v2/", None, "out.v2/a.png"),
        ("in", None, "in/a.png"),
        ("out.webp", ".webp", "out.webp"),
    ],
)
def test_one_file_goes_to_a_file_where_the_output_has_a_suffix(folder, output, suffix, target):
    assert pairs(["a.png"], output, suffix=suffix) == [("a.png", target)]


def test_folders_keep_places_and_hidden_files_are_left(folder):
    assert pairs(["in"], "out") == [("in/b.png", "out/b.png")]
    assert pairs(["in"], "out", recursive=True) == [("in/b.png", "out/b.png"), ("in/deep/c.jpg", "out/deep/c.jpg")]
    assert pairs(["*.png", "a.png"], "out") == [("a.png", "out/a.png")]


def test_results_inside_the_input_folder_are_no_inputs(folder):
    first = pairs(["in"], "in/out", recursive=True)
    for _, target in first:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_bytes((folder / "a.png").read_bytes())
    assert pairs(["in"], "in/out", recursive=True) == first


def test_what_contradicts_is_refused(folder):
    with pytest.raises(ArgumentError, match="contradict"):
        select_files(["a.png"], "out.jpg", suffix=".png")
    with pytest.raises(ArgumentError, match="need a folder"):
        select_files(["a.png", "in"], "a.png")
    with pytest.raises(ImageReadError, match="no file has such a name"):
        select_files(["*.tif"], "out")
    (folder / "in" / "a.png").write_bytes(b"")
    with pytest.raises(ArgumentError, match="both become"):
        select_files(["a.png", "in/a.png"], "out")
    for path in (folder / "in" / "a.png", folder / "in" / "b.webp"):
        path.write_bytes(b"")
    with pytest.raises(ArgumentError, match="both become"):
        select_files(["in/b.webp", "in/b.png"], "out", suffix=".png")


@pytest.mark.parametrize("name", ["a.png", "./a.png", "in/../a.png", "link.png"])
def test_one_file_by_several_names_is_done_once_in_one_folder(folder, name):
    (folder / "link.png").symlink_to("a.png")
    expected = {("a.png", "out/a.png")} | ({("link.png", "out/link.png")} if name == "link.png" else set())
    assert set(pairs(["a.png", name], "out")) == expected


def test_a_named_file_is_done_wherever_it_lies(folder):
    (folder / "in" / "sub").mkdir()
    os.chdir(folder / "in")
    assert pairs(["b.png", "../a.png"], ".") == [("b.png", "b.png"), ("../a.png", "a.png")]
    assert pairs(["b.png"], ".") == [("b.png", "b.png")]
    assert pairs(["*.png", "../a.png"], ".") == [("b.png", "b.png"), ("../a.png", "a.png")]
    assert pairs(["b.png"], "../in") == [("b.png", "../in/b.png")]


def test_what_a_scan_leaves_out_is_said_and_counted(folder):
    (folder / "in" / "notes.txt").write_text("no image")
    for index in range(5):
        (folder / "in" / f"{index}.raw").write_bytes(b"")
    (folder / "in" / "out").mkdir()
    (folder / "in" / "out" / "old.png").write_bytes(b"")
    found = select_files(["in"], "in/out", recursive=True)
    assert [pair.source for pair in found.pairs] == ["in/b.png", "in/deep/c.jpg"]
    counts = {reason.partition(";")[0]: len(names) for reason, names in found.left_out.items()}
    assert counts == {"no image by the suffix": 6, "hidden": 2, "they lie in the output folder": 1}
    brief, every = found.describe_left_out(), found.describe_left_out(every_name=True)
    assert any("6 files" in line and "..." in line for line in brief)
    assert all(any(name in line for line in every) for names in found.left_out.values() for name in names)
    files = sum(1 for path in (folder / "in").rglob("*") if path.is_file())
    assert len(found.pairs) + sum(counts.values()) == files
    assert found.left_out["hidden"] == ["in/.hidden.png", "in/.thumbs/d.png"]
    assert [pair.source for pair in select_files(["in/.thumbs"], "out").pairs] == ["in/.thumbs/d.png"]  # as it is named


def test_a_folder_into_itself_does_nothing_and_says_why(folder):
    with pytest.raises(ImageReadError, match=r"holds no image.*output folder; name them.*b\.png"):
        select_files(["in"], "in")


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        ([""], "o.png", "an input is empty"),
        ([" "], "o.png", "an input is empty"),
        (["a.png", ""], "out", "an input is empty"),
        (["a.png"], "", "an output is empty"),
        (["a.png"], "-", "only `enhance` of one picture takes pipes"),
        (["-"], "o.png", "only `enhance` of one picture takes pipes"),
        (["a.png", "in/b.png"], "single.png", "name of one file, but 2 inputs need a folder"),
        (["a.png", "in/b.png"], "single.gif", "name of one file"),
        (["a.png", "in/b.png"], "deep/all.pdf", "name of one file"),
        (["a.png", "in/b.png"], "all.tar.gz", "name of one file"),
        (["in"], "out1.png", "name of one file, but the images of in need a folder"),
        (["*.png"], "out1.JPG", "name of one file"),
        (["a.png", "in"], "a.png", "name of one file"),
        (["a.png"], "out.v2", "suffix '.v2': use one of .*; for a folder end its name in /"),
        (["in"], "plain", "is a file, but the images of in need a folder"),
        (["s3://bucket/a.png"], "out", "s3:// needs --engine ray.*download it first"),
        (["https://example.org/a.png"], "o.png", "https:// needs --engine ray"),
        (["a.png"], "gs://bucket/", "gs:// needs --engine ray.*upload it"),
        (["file:///a.png"], "o.png", "give the path without file://"),
    ],
)
def test_names_that_are_none_are_one_line_with_the_next_step(folder, inputs, output, words):
    (folder / "plain").write_bytes(b"")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ArgumentError, match=words) as caught:
        select_files(inputs, output)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["", "-", "s3://bucket/a.png"])
def test_nor_does_a_plan_take_them(folder, name):
    with pytest.raises(ArgumentError):
        find_images(["a.png", name])


def test_a_result_never_takes_the_place_of_another_input(folder):
    (folder / "out" / "deep").mkdir(parents=True)
    (folder / "out" / "deep" / "c.jpg").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"in/deep/c.jpg would become out/deep/c.jpg, which is an input"):
        select_files(["in", "out/deep/c.jpg"], "out", recursive=True)


@pytest.mark.parametrize("output", ["out1.png/", "v2.0", "2024.05", "there.png"])
def test_a_folder_may_be_called_like_anything_where_that_is_clear(folder, output):
    (folder / "there.png").mkdir()
    name = output.rstrip("/")
    assert pairs(["a.png", "in"], output) == [("a.png", f"{name}/a.png"), ("in/b.png", f"{name}/b.png")]


def test_brackets_in_a_name_are_no_pattern(folder):
    (folder / "x[1].png").write_bytes(b"")
    assert pairs(["x[1].png"], "out") == [("x[1].png", "out/x[1].png")]


def test_names_that_no_file_system_has_are_problems(folder):
    (folder / "loop.png").symlink_to("loop.png")
    found = select_files(["a.png", "b" * 300, "loop.png", "gone.png"], "out").pairs
    assert [pair.problem is None for pair in found] == [True, False, False, False]
    assert "no such file" in found[3].problem
    for output in ("loop.png", "b" * 300 + ".png"):
        assert select_files(["a.png"], output).pairs == [FilePair("a.png", output)]
    with pytest.raises(ImageReadError):
        find_images(["loop.png"])


def test_a_folder_below_that_cannot_be_read_is_a_problem(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):  # as the system does for all but root
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = select_files(["in"], "out", recursive=True).pairs
    assert [(pair.source, pair.problem) for pair in found] == [
        ("in/b.png", None),
        ("in/deep", "in/deep: cannot be read: Permission denied"),
    ]


def test_what_exists_is_screened_by_the_one_rule(folder):
    pairs = [FilePair("a.png", "new.png"), FilePair("a.png", "in/b.png"), FilePair("x", "y", "x: is broken")]

    def outcome(existing, **keywords):
        return [item.status if isinstance(item, FileResult) else "do" for item in screen(pairs, existing, **keywords)]

    assert outcome("refuse") == ["do", "failed", "failed"]
    assert outcome("skip") == ["do", "skipped", "failed"]
    assert outcome("overwrite") == ["do", "do", "failed"]
    assert outcome("refuse", is_ours=lambda target: True) == ["do", "do", "failed"]
    assert outcome("refuse", exists=lambda name: False) == ["do", "do", "failed"]


def test_a_folder_that_cannot_be_made_is_one_failure(folder):
    assert make_folder(FilePair("a.png", "new/deep/a.png")) is None
    assert (folder / "new" / "deep").is_dir()
    failed = make_folder(FilePair("a.png", "a.png/b.png"))
    assert failed.status == "failed"
    assert "cannot be made" in failed.error
