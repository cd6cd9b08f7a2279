import math

import numpy as np
import pytest
from support.toys import BoxBlurEngine, ToyEngine, conv_model, identity_model, save_model

from sr_tile.benchmark import machine, report
from sr_tile.benchmark.arithmetic import MatrixRate, count_macs
from sr_tile.benchmark.cells import Subject, lay_out, measure
from sr_tile.benchmark.run import BenchmarkOptions, run
from sr_tile.benchmark.seams import measure_seams
from sr_tile.errors import ArgumentError, GeometryError
from sr_tile.models.spec import ModelSpec

CELL = {
    "model": str,
    "precision": str,
    "device": str,
    "tile": list,
    "batch": int,
    "overlap": int,
    "chosen_by_enhance": bool,
    "failure": type(None),
    "macs": int,
    "seconds": list,
    "seconds_per_batch": float,
    "tiles_per_second": float,
    "megapixels_per_second": float,
    "image_megapixels_per_second": float,
    "speedup_over_batch_1": float,
    "share_of_limit": float,
    "peak_bytes": int,
    "largest_difference_from_batch_1": float,
}


def toy(engine=None):
    return Subject("toy", "fp32", engine or ToyEngine(ModelSpec("toy", scale=2, multiple=8)))


def test_every_shape_is_measured_in_every_round_and_rows_do_not_depend_on_the_batch():
    subject = toy()
    cells = lay_out(subject, (32, 64), (4, 6))
    assert [(cell.tile[0], cell.batch) for cell in cells] == [(32, 1), (32, 4), (32, 6), (64, 1), (64, 4), (64, 6)]
    steps = []
    result = measure(cells, 3, lambda done, total, text: steps.append((done, total)))
    assert steps == [(number, 24) for number in range(24)]
    assert all(len(cell.seconds) == 3 and cell.difference == 0 for cell in result.cells)
    figures = report.as_json(result, [], machine.describe())
    for row in figures["cells"]:
        height, width = row["tile"]
        assert row["tiles_per_second"] == pytest.approx(row["batch"] / row["seconds_per_batch"])
        assert row["megapixels_per_second"] == pytest.approx(row["tiles_per_second"] * height * width / 1e6)
        share = (height - row["overlap"]) * (width - row["overlap"]) / (height * width)
        assert row["image_megapixels_per_second"] == pytest.approx(row["megapixels_per_second"] * share)
    fastest = max(figures["cells"], key=lambda row: row["image_megapixels_per_second"])
    assert figures["cells"][figures["winner"]["index"]] == fastest
    assert "fastest: toy" in report.as_text(result, [], machine.describe())


def test_an_answer_that_depends_on_its_neighbours_in_the_batch_is_found():
    class Leaking(ToyEngine):
        def answer(self, batch_nchw):
            return batch_nchw + np.float32(0.25) * (len(batch_nchw) - 1)

    cells = lay_out(toy(Leaking()), (32,), (3,))
    measure(cells, 1)
    assert [cell.difference for cell in cells] == pytest.approx([0, 0.5])


def test_a_batch_without_room_is_a_line_and_the_others_go_on():
    engine = ToyEngine(ModelSpec("toy", scale=1, multiple=1), fails=lambda call, shape: shape[0] > 2)
    result = measure(lay_out(toy(engine), (32,), (2, 4)), 2)
    assert [cell.failure for cell in result.cells] == [None, None, "out of memory"]
    assert len(result.done) == 2
    assert "out of memory" in report.as_text(result, [], machine.describe())


def test_ctrl_c_leaves_what_was_measured():
    subject = toy()

    def stop(done, total, text):
        if done == 5:
            raise KeyboardInterrupt

    result = measure(lay_out(subject, (32,), (2,)), 4, stop)
    assert result.interrupted
    assert [len(cell.seconds) for cell in result.cells] == [2, 1]
    assert "stopped early" in report.as_text(result, [], machine.describe())


def test_a_model_gets_only_the_shapes_it_takes():
    fixed = toy(ToyEngine(ModelSpec("toy", scale=1, multiple=1, fixed_batch=4, fixed_tile=(48, 64))))
    assert [(cell.tile, cell.batch) for cell in lay_out(fixed, (32, 64), (1, 2))] == [((48, 64), 4)]
    with pytest.raises(ArgumentError, match="no multiple of 8"):
        lay_out(toy(), (36,), (1,))


def test_files_give_figures_of_the_promised_kinds(tmp_path):
    path = conv_model(tmp_path / "m.onnx", depth=2)
    options = BenchmarkOptions((str(path),), devices=("cpu",), tiles=(32,), batches=(1, 2), repeat=2, overlaps=(0,))
    result, seams = run(options)
    figures = report.as_json(result, seams, machine.describe())
    assert set(figures) == {"machine", "interrupted", "limits", "cells", "winner", "seams"}
    for row in figures["cells"]:
        assert {key: type(value) for key, value in row.items()} == CELL
    # Two 3 x 3 convolutions, 3 to 8 and 8 to 12 channels; the second makes the four phases of x2.
    assert figures["cells"][1]["macs"] == 2 * 32 * 32 * 9 * (3 * 8 + 8 * 12)
    assert figures["limits"][0]["operations_per_second"] > 1e6
    assert [seam["overlap"] for seam in figures["seams"]] == sorted({0, seams[-1].overlap})


def test_multiplications_of_products_are_counted_whatever_wrote_them(tmp_path):
    from onnx import helper

    rng = np.random.default_rng(0)
    weights = {"right": rng.random((1, 1, 16, 16), np.float32), "kernel": rng.random((3, 3, 2, 2), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["input", "right"], ["a"]),
        helper.make_node("Einsum", ["a", "a"], ["b"], equation="nchk,nclk->nchl"),
        helper.make_node("ConvTranspose", ["b", "kernel"], ["output"], strides=[2, 2]),
    ]
    path = save_model(tmp_path / "m.onnx", nodes, weights=weights)
    pixels = 3 * 16 * 16
    assert count_macs(path, 3, (16, 16)) == pixels * 16 + pixels * 16 + pixels * 3 * 4
    assert count_macs(identity_model(tmp_path / "i.onnx"), 3, (16, 16)) == 0


def test_the_matrix_rate_is_a_rate(monkeypatch):
    monkeypatch.setattr("sr_tile.benchmark.arithmetic._SIDES", {"cpu": (64, 2)})
    assert math.isfinite(MatrixRate("cpu").measure())
    assert MatrixRate("openvino").measure() > 0  # no provider of ONNX Runtime: the same processor counts


def test_seams_vanish_behind_a_full_halo_and_show_without_one():
    subject = toy(BoxBlurEngine(3, spec=ModelSpec("blur", scale=2, multiple=1, halo=3)))
    bare, full = measure_seams(subject, 64, (0,))
    assert (bare.overlap, bare.halo, full.halo) == (0, 0, 3)
    assert bare.border_largest > bare.border_mean > 0
    assert bare.away_largest == 0
    assert (full.border_largest, full.away_largest) == (0, 0)


def test_a_whole_picture_needs_a_model_that_takes_one():
    subject = toy(ToyEngine(ModelSpec("toy", scale=1, multiple=1, fixed_tile=(32, 32))))
    with pytest.raises(GeometryError, match="only"):
        measure_seams(subject, 32, (0,))


def test_quick_is_part_of_the_whole():
    options = BenchmarkOptions()
    quick = options.quicker()
    assert set(quick.tiles) < set(options.tiles)
    assert set(quick.batches) < set(options.batches)
    assert quick.repeat < options.repeat
