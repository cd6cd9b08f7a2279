"""Plans for GPUs of three sizes that are pretended: filled, and not overfilled."""

import threading

import numpy as np
import pytest
from support.fake_cuda import on_fake_gpu
from support.fake_cuda.calls import X2, let_calls_take_a_second

from sr_tile.engines.onnx_runtime import OnnxEngine


@pytest.fixture(
    scope="module",
    params=["clean-x2", pytest.param("NAFNet", marks=pytest.mark.slow), pytest.param("SCUNet", marks=pytest.mark.slow)],
)
def network(request, tmp_path_factory):
    """A file of a bundled model, or of an exported network with random weights, as large as the published one."""
    if request.param == "clean-x2":
        return str(X2)
    import onnx  # here: the processes with a GPU need none of these
    from support import reference_networks

    from sr_tile.export.architectures import detect

    made = reference_networks.randomise(getattr(reference_networks, request.param)(), 1)
    path = tmp_path_factory.mktemp("networks") / f"{request.param}.onnx"
    onnx.save(detect({key: value.numpy() for key, value in made.state_dict().items()}).graph(18), path)
    return str(path)


def plan_on(gpu, path, work=2**62):
    """The plan for large work or less, what two threads then take at most, each twice, and what the card has for us."""
    from sr_tile.planner import Settings, make_plan

    engine = OnnxEngine(path, "cuda:0")
    free = engine.memory_free()
    plan = make_plan(engine, Settings(), expected_pixels=work)
    batch = np.zeros((plan.batch, 3, *plan.tile), np.uint8)
    engine.rebuild()
    gpu.peak(reset=True)
    threads = [threading.Thread(target=lambda: [engine.run(batch) for _ in range(2)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return plan, gpu.peak(), free


def check_plan(gpu, path, monkeypatch, least):
    """At least these pixels a call, within the card, by the price that a call really has."""
    let_calls_take_a_second(monkeypatch)
    plan, peak, free = plan_on(gpu, path)
    assert plan.batch * plan.tile[0] * plan.tile[1] >= least
    assert peak + 300 * 2**20 < free
    pixels = plan.costs.points[-1].pixels
    engine = OnnxEngine(path, "cuda:0")
    before = gpu.live()
    engine.run(np.zeros((pixels // 2**16, 3, 256, 256), np.uint8))
    assert 0.95 < plan.costs.bytes_per_pixel * pixels / (gpu.live() - before) < 1.35


# What the first call takes once (here 300 MB) was billed to the smallest shape: 65,536, 262,144 and 1,048,576 pixels a call.
@on_fake_gpu(FAKE_TOTAL_MB=8192, FAKE_LAZY_MB=300)
def test_a_small_card_is_filled_and_not_overfilled(gpu, monkeypatch, network):
    check_plan(gpu, network, monkeypatch, 4 * 65536)


@pytest.mark.slow
@on_fake_gpu(FAKE_TOTAL_MB=24576, FAKE_LAZY_MB=300)
def test_a_card_of_24_gb_is_filled_and_not_overfilled(gpu, monkeypatch, network):
    check_plan(gpu, network, monkeypatch, 4 * 262144)


@pytest.mark.slow
@on_fake_gpu(FAKE_LAZY_MB=300)
def test_a_card_of_80_gb_is_filled_and_not_overfilled(gpu, monkeypatch, network):
    check_plan(gpu, network, monkeypatch, 4 * 1048576)


@pytest.mark.parametrize("name", ["photo-x2", "denoise", "clean-x4"])
@on_fake_gpu(FAKE_TOTAL_MB=24576, FAKE_LAZY_MB=300)
def test_tiles_that_grow_unmeasured_stay_within_the_card(gpu, name):
    plan, peak, free = plan_on(gpu, X2.with_name(f"{name}.onnx"), work=None)
    assert plan.costs is None
    assert plan.grid(3000, 4000).redundancy < 1.25
    assert peak + 300 * 2**20 < free


@on_fake_gpu()
def test_a_timed_call_builds_no_plans(gpu, monkeypatch):
    from sr_tile.planner import measure_calls

    engine, plans = OnnxEngine(X2, "cuda:0"), []

    def peak(*arguments):
        before = gpu.count("plans")
        taken = original(*arguments)
        plans.append(gpu.count("plans") - before)
        return taken

    original = measure_calls._peak
    monkeypatch.setattr(measure_calls, "_peak", peak)
    shapes = [(1, 64, 64), (2, 64, 64), (1, 128, 128)]
    measure_calls.measure(engine, shapes, 2**40, remeasure=True)
    assert plans == [0] * len(shapes) * measure_calls.TIMED_CALLS


@on_fake_gpu()
def test_memory_of_other_programs_that_comes_and_goes_has_no_price(gpu, monkeypatch):
    from sr_tile.planner import measure_calls

    engine, shapes = OnnxEngine(X2, "cuda:0"), [(1, 64, 64), (1, 128, 128), (4, 128, 128)]
    expected = measure_calls.measure(engine, shapes, 2**40, remeasure=True).bytes_per_pixel
    original, calls = measure_calls._peak, []

    def peak(*arguments):
        calls.append(None)
        gpu.others(5000 if len(calls) % 2 else 500)
        return original(*arguments)

    monkeypatch.setattr(measure_calls, "_peak", peak)
    assert measure_calls.measure(engine, shapes, 2**40, remeasure=True).bytes_per_pixel == pytest.approx(expected)
