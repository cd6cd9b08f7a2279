"""What the operators do, without Ray."""

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.toys import conv_model, noise_image

from sr_tile.distributed import tasks
from sr_tile.distributed.storage import exists, select_urls
from sr_tile.distributed.tasks import EnhanceConfig, Network, decode, encode, join, missing_strips, parts
from sr_tile.enhancer import Enhancer
from sr_tile.errors import ImageError, ImageReadError
from sr_tile.jobs.selection import FilePair
from sr_tile.planner import Settings
from sr_tile.tiling.grid import Axis, TileGrid

SETTINGS = Settings(tile=32, overlap=8, halo=2, batch=3)


@pytest.fixture
def config(tmp_path):
    conv_model(tmp_path / "model.onnx", 2)
    return EnhanceConfig(
        str(tmp_path / "model.onnx"), device="cpu", settings=SETTINGS, strips=str(tmp_path / "strips")
    ).planned()


def save(path, image):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)
    return str(path)


def wanted(*pairs):
    return [
        {"index": index, "source": source, "target": target, "recorded": pickle.dumps({})}
        for index, (source, target) in enumerate(pairs)
    ]


def through(rows, config):
    """All operators in a row, as Ray strings them together."""
    return {
        row["index"]: row for row in (encode(r, config) for r in Network(config)([decode(r, config) for r in rows]))
    }


def test_files_are_those_of_the_local_engine(tmp_path, config):
    pairs = []
    for index, (channels, suffix) in enumerate([(1, "png"), (3, "jpg"), (4, "tif"), (3, "png")]):
        name = save(tmp_path / f"{index}.png", noise_image(60 + index, 50, channels, seed=index))
        pairs.append((name, str(tmp_path / f"out{index}.{suffix}")))
    (tmp_path / "bad.png").write_bytes(b"bad")
    pairs.append((str(tmp_path / "bad.png"), str(tmp_path / "bad-out.png")))
    reports = through(wanted(*pairs), config)
    assert [reports[index]["kind"] for index in range(5)] == ["done"] * 4 + ["failed"]
    assert "not an image" in reports[4]["error"]
    with Enhancer(config.model, device="cpu", settings=SETTINGS) as enhancer:
        for source, target in pairs[:4]:
            expected = tmp_path / f"expected{Path(target).suffix}"
            enhancer.enhance_file(source, expected, overwrite=True)
            assert Path(target).read_bytes() == expected.read_bytes(), target


def test_what_cannot_be_written_fails_alone(tmp_path, config):
    image = save(tmp_path / "a.png", noise_image(20, 20, 4))
    other = save(tmp_path / "b.png", noise_image(20, 20, 3))
    reports = through(wanted((image, str(tmp_path / "a.jpg")), (other, str(tmp_path / "b.jpg"))), config)
    assert [reports[index]["kind"] for index in (0, 1)] == ["failed", "done"]
    assert "no alpha" in reports[0]["error"]


@pytest.mark.parametrize("actors", [1, 3])
@pytest.mark.parametrize(
    ("channels", "dtype", "suffix"), [(3, np.uint8, "png"), (4, np.uint16, "tif"), (3, np.uint16, "jpg")]
)
def test_parts_of_a_giant_joined_are_the_local_result(tmp_path, config, monkeypatch, actors, channels, dtype, suffix):
    from sr_tile.images import ImageInfo, ImageWriter

    monkeypatch.setattr(tasks, "PART_BYTES", 3 * 32 * 50 * channels * np.dtype(dtype).itemsize)
    source, target = str(tmp_path / "giant.png"), str(tmp_path / f"out.{suffix}")
    with ImageWriter(source, ImageInfo(300, 50, channels, np.dtype(dtype))) as writer:
        writer.write_rows(noise_image(300, 50, channels, dtype))
    (row,) = wanted((source, target))
    split = replace(config, split=True, giant_pixels=1000)
    assert decode(row, split)["kind"] == "giant"
    cut = list(parts(row, split, actors))
    assert len(cut) > 3
    network = Network(split)
    reports = [encode(result, split) for part in reversed(cut) for result in network([part])]
    folder = Path(config.strips) / reports[0]["folder"]
    there = {report["first"]: report["end"] for report in reports if report["kind"] == "strip"}
    lost = min(there)
    nothing_left = parts({**row, "recorded": pickle.dumps({folder.name: there})}, split, actors)
    assert [part["kind"] for part in nothing_left] == ["cut"]
    joining = {**row, "folder": str(folder), "strips": pickle.dumps(there)}
    assert join(joining, split)["kind"] == "done"
    with Enhancer(config.model, device="cpu", settings=SETTINGS) as enhancer:
        enhancer.enhance_file(source, tmp_path / f"expected.{suffix}")
    assert Path(target).read_bytes() == (tmp_path / f"expected.{suffix}").read_bytes()
    # One strip gone: only it is missing, and joining without it says so.
    (folder / f"{lost}-{there[lost]}").unlink()
    again = list(parts({**row, "recorded": pickle.dumps({folder.name: there})}, split, actors))[1:]
    assert len(again) == 1
    del there[lost]
    assert "was lost" in join({**joining, "strips": pickle.dumps(there)}, split)["error"]


def test_a_giant_for_one_actor_goes_from_file_to_file(tmp_path, config):
    source = save(tmp_path / "giant.png", noise_image(90, 50))
    reports = through(wanted((source, str(tmp_path / "deep" / "out.png"))), replace(config, giant_pixels=1000))
    assert reports[0]["kind"] == "done"
    assert Image.open(tmp_path / "deep" / "out.png").size == (100, 180)


def test_missing_strips_are_what_is_there_leaves():
    grid = TileGrid(Axis(100, 16, 4, 1), Axis(8, 8, 0, 0))
    strips = list(missing_strips(grid, {}, 2, 3))
    assert [row for strip in strips for row in range(strip.first, strip.stop)] == list(grid.rows)
    there = {strip.rows[0] * 2: strip.rows[1] * 2 for strip in strips}
    assert list(missing_strips(grid, there, 2, 3)) == []
    for gone in strips:
        rest = {first: end for first, end in there.items() if first != gone.rows[0] * 2}
        left = list(missing_strips(grid, rest, 2, 1))
        assert [row for strip in left for row in range(strip.first, strip.stop)] == list(range(gone.first, gone.stop))


fsspec = pytest.importorskip("fsspec", reason="fsspec comes with the extra `ray`")


@pytest.fixture
def memory_files():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_urls_in_and_out(memory_files, config):
    memory_files.pipe("/in/a.png", png(noise_image(20, 30)))
    memory_files.pipe("/in/deep/b.png", png(noise_image(20, 30)))
    memory_files.pipe("/in/notes.txt", b"no image")
    memory_files.pipe("/in/.thumbs/b.png", b"hidden")
    found = select_urls(["memory:///in"], "memory:///out", recursive=True).pairs
    assert [pair.target for pair in found] == ["memory:///out/a.png", "memory:///out/deep/b.png"]
    assert len(select_urls(["memory:///in"], "memory:///out", suffix=".tif").pairs) == 1
    reports = through(wanted(*[(pair.source, pair.target) for pair in found]), config)
    assert {report["kind"] for report in reports.values()} == {"done"}
    assert sorted(memory_files.find("/out")) == ["/out/a.png", "/out/deep/b.png"]
    assert Image.open(io.BytesIO(memory_files.cat("/out/a.png"))).size == (60, 40)
    assert exists("memory:///out/a.png")


def test_urls_that_lead_nowhere(memory_files, config, tmp_path):
    reports = through(wanted(("memory:///none.png", str(tmp_path / "out.png"))), config)
    assert "cannot be opened" in reports[0]["error"]
    memory_files.makedirs("/empty", exist_ok=True)
    with pytest.raises(ImageReadError, match="holds no image"):
        select_urls(["memory:///empty"], "memory:///out")
    with pytest.raises(ImageError, match="cannot be reached"):
        select_urls(["nosuch://a/b.png"], "out")


def test_local_names_are_paired_as_ever(tmp_path):
    source = save(tmp_path / "in" / "a.png", noise_image(8, 8))
    assert select_urls([source], str(tmp_path / "out")).pairs == [FilePair(source, str(tmp_path / "out" / "a.png"))]
