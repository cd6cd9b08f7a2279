import logging

import numpy as np
import pytest
from support.toys import ToyEngine, conv_model

from sr_tile.engines import autoselect, factory, openvino
from sr_tile.engines.autoselect import Choice, compare, key_of, recall, remember, worth_measuring
from sr_tile.engines.factory import open_engine
from sr_tile.engines.onnx_runtime import OnnxEngine
from sr_tile.errors import ArgumentError, ModelLoadError
from sr_tile.models.spec import ModelSpec


class TimedEngine(ToyEngine):
    """An engine whose calls take a known time of a clock that only they move."""

    now = 0.0

    def __init__(self, seconds, device="cpu", error=0.0, **keywords):
        super().__init__(ModelSpec("toy", scale=1, multiple=1, tile=8), **keywords)
        self.seconds, self.device, self.error, self.closed = seconds, device, error, False

    def run(self, batch_nchw):
        TimedEngine.now += self.seconds
        return super().run(batch_nchw) + np.float32(self.error)

    def close(self):
        self.closed = True


def clock():
    return TimedEngine.now


@pytest.mark.parametrize(
    ("seconds", "error", "device"),
    [
        (1.0, 0.0, "openvino"),
        (1.0, 1e-3, "cpu"),  # faster, and wrong
        (1.0, np.nan, "cpu"),
        (1.98, 0.0, "cpu"),  # hardly faster
        (4.0, 0.0, "cpu"),
    ],
)
def test_the_second_must_be_clearly_faster_and_say_the_same(seconds, error, device):
    second = TimedEngine(seconds, "openvino", error)
    chosen = compare(TimedEngine(2.0), lambda: second, clock)
    assert chosen.device == device
    assert chosen.gain == pytest.approx(2.0 / seconds)
    assert second.closed


def test_a_second_that_fails_is_not_chosen():
    def refuse():
        raise ModelLoadError("no such operator")

    assert compare(TimedEngine(1.0), refuse, clock) == Choice("cpu", 0.0, 0.0)
    fails = TimedEngine(0.1, "openvino", fails=lambda call, shape: call == 2)
    assert compare(TimedEngine(1.0), lambda: fails, clock).device == "cpu"
    assert fails.closed


def test_only_long_work_is_worth_a_measurement():
    engine = TimedEngine(1.0)
    assert not worth_measuring(engine, 0, clock)
    assert not worth_measuring(engine, 15 * 64, clock)
    assert not engine.shapes  # so small that nothing is run
    assert not worth_measuring(engine, 59 * 64, clock)
    assert worth_measuring(engine, 61 * 64, clock)
    assert not worth_measuring(TimedEngine(1e-6), 10**6, clock)
    assert not worth_measuring(TimedEngine(1.0, fails=lambda call, shape: True), 10**6, clock)


def test_a_choice_is_remembered_where_that_can_be_done(tmp_path):
    assert recall("key", tmp_path / "new") is None
    remember("key", Choice("openvino", 1.5, 1e-6), tmp_path / "new")
    assert recall("key", tmp_path / "new") == Choice("openvino", 1.5, 1e-6)
    assert recall("other", tmp_path / "new") is None
    (tmp_path / "file").write_text("")
    remember("key", Choice("cpu", 1.0, 0.0), tmp_path / "file")  # no folder can be made there
    assert recall("key", tmp_path / "file") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"device": "openvino", "gain": "fast", "difference": 0}'])
def test_a_damaged_memory_is_none(tmp_path, text):
    (tmp_path / "key.json").write_text(text)
    assert recall("key", tmp_path) is None


def test_keys_tell_models_versions_and_threads_apart(tmp_path, monkeypatch):
    first, second = (OnnxEngine(conv_model(tmp_path / f"{seed}.onnx", seed=seed), "cpu") for seed in range(2))
    keys = {key_of(first), key_of(second)}
    for name, value in (("allowed_threads", 3), ("processor_name", "another")):
        monkeypatch.setattr(autoselect, name, lambda value=value: value)
        keys.add(key_of(first))
    monkeypatch.setattr(openvino, "version", lambda: "0.1")
    keys.add(key_of(first))
    assert len(keys) == 5


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sr_tile.system.nvidia.driver_installed", lambda: False)
    return conv_model(tmp_path / "m.onnx")


def test_names_of_devices_open_what_they_say(path):
    assert open_engine(path, "cpu").device == "cpu"
    with pytest.raises(ArgumentError, match="openvino"):
        open_engine(path, "gpu")


def test_auto_without_openvino_is_onnx_runtime(path, monkeypatch):
    monkeypatch.setattr(openvino, "version", lambda: None)
    assert isinstance(open_engine(path, "auto", 10**12), OnnxEngine)


@pytest.mark.skipif(openvino.version() is None, reason="OpenVINO is not installed")
class TestAuto:
    def test_a_name_opens_it(self, path):
        assert open_engine(path, " OpenVINO").device == "openvino"

    def test_small_work_is_neither_measured_nor_remembered(self, path, monkeypatch):
        monkeypatch.setattr(autoselect, "compare", lambda *_: pytest.fail("measured"))
        assert open_engine(path, "auto").device == "cpu"
        assert open_engine(path, "auto", 256 * 256).device == "cpu"

    def test_large_work_is_measured_once(self, path, monkeypatch):
        measured = []

        def answer(first, open_second):
            measured.append(first.device)
            with_second = open_second()
            assert with_second.device == "openvino"
            return Choice("openvino", 1.5, 0.0)

        monkeypatch.setattr(autoselect, "compare", answer)
        assert open_engine(path, "auto", 10**12).device == "openvino"
        assert open_engine(path, "auto", 10**12).device == "openvino"
        assert open_engine(path, "auto").device == "openvino"  # remembered for small work, too
        assert open_engine(path, "cpu", 10**12).device == "cpu"
        assert measured == ["cpu"]

    def test_what_was_slower_stays_away(self, path, monkeypatch):
        monkeypatch.setattr(autoselect, "compare", lambda *_: Choice("cpu", 0.8, 0.0))
        for _ in range(2):
            assert open_engine(path, "auto", 10**12).device == "cpu"

    def test_one_that_no_longer_opens_is_replaced_with_a_warning(self, path, monkeypatch, caplog):
        remember(key_of(OnnxEngine(path, "cpu")), Choice("openvino", 2.0, 0.0))
        monkeypatch.setattr(openvino, "_read", lambda _: (_ for _ in ()).throw(ModelLoadError("gone")))
        with caplog.at_level(logging.WARNING, "sr_tile"):
            engine = factory.open_engine(path, "auto")
        assert engine.device == "cpu"
        assert "gone" in caplog.text
        engine.run(np.zeros((1, 3, 8, 8), np.float32))

    def test_the_real_comparison_ends_with_an_engine_that_answers(self, path):
        chosen = compare(OnnxEngine(path, "cpu"), lambda: openvino.OpenVinoEngine(path))
        assert chosen.gain > 0
        assert chosen.difference < 1e-5
