"""What was measured is believed only where it is what was written."""

import json
import os
import shutil

import pytest
from support.toys import identity_model

from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.planner.measure_calls import measure, remembered
from sr_tile.system.cache import cache_folder, recall, remember


def test_what_is_kept_is_what_was_remembered(tmp_path):
    remember(tmp_path / "a.json", text := "ж\n\x00 {}")
    assert recall(tmp_path / "a.json", str) == text
    assert recall(tmp_path / "b.json", str) is None


def test_a_complete_file_that_was_changed_is_not_believed(tmp_path):
    path = tmp_path / "a.json"
    remember(path, json.dumps({"halo": 12, "multiple": 4}))
    whole = path.read_bytes()
    assert recall(path, json.loads) == {"halo": 12, "multiple": 4}
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            if (found := recall(path, json.loads)) is not None:  # the hash in capitals, say, would say the same
                assert found == {"halo": 12, "multiple": 4}


def test_what_belongs_to_another_is_not_believed(tmp_path):
    remember(tmp_path / "a.json", "3")
    shutil.copy(tmp_path / "a.json", tmp_path / "b.json")
    assert recall(tmp_path / "b.json", str) is None


@pytest.mark.parametrize(
    "text", ["3", "[]", "null", '{"sha256": "0", "content": 3}', '{"content": "x"}', "[" * 10**5, ""]
)
def test_what_was_written_otherwise_is_not_believed(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert recall(tmp_path / "a.json", str) is None


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_no_text_are_remembered_too(tmp_path):
    path = tmp_path / os.fsdecode(b"net-\xff.onnx.sha256")
    remember(path, "3")
    assert recall(path, str) == "3"


def test_neither_halo_nor_costs_that_were_changed_decide(tmp_path):
    path = identity_model(tmp_path / "m.onnx", metadata="{}")
    shapes = [(1, 32, 32), (1, 64, 64)]
    engine = OnnxEngine(path, "cpu")
    measure(engine, shapes, 1e12)
    assert remembered(engine, shapes) is not None
    for folder, sound, wrong in (("probed", 'halo\\": 0', 'halo\\": 7'), ("costs", "64, 64", "64, 63")):
        (kept,) = cache_folder(folder).iterdir()
        assert sound in kept.read_text()
        kept.write_text(kept.read_text().replace(sound, wrong))
    again = OnnxEngine(path, "cpu")
    assert (again.spec, again.spec.details) == (engine.spec, engine.spec.details)
    assert remembered(again, shapes) is None
    again.close()
    engine.close()
