"""`bench/gpu.py` runs where there is no GPU, and on one that is pretended, as a check of the script."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_cuda import environment
from support.toys import conv_model

BENCH = Path(__file__).parents[2] / "bench"


def tables(text):
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row] for row in rows}


@pytest.fixture
def bench_on_path():
    """And nothing else of the path is taken back: ONNX Runtime adds to it what it needs for good."""
    sys.path.insert(0, str(BENCH))
    yield
    sys.path.remove(str(BENCH))


@pytest.mark.slow
def test_the_gpu_benchmark_compares_every_way_with_the_cpu(tmp_path, bench_on_path, capsys):
    import gpu

    model = conv_model(tmp_path / "m.onnx", metadata='{"scale": 2, "multiple": 1, "halo": 3, "tile": 64}')
    size = "--tile 32 --batches 1,2 --repeat 1 --megapixels 0.02"
    gpu.main(["--model", str(model), "--device", "cpu", *size.split()])
    ways = tables(capsys.readouterr().out)
    assert {"float32, 1 at a time", "float32, 2 at a time", "float32, I/O binding", "cpu", "cpu,cpu"} <= set(ways)
    for name in ("float32, 2 at a time", "float32, I/O binding"):
        assert len(ways[name]) == 2 + 2 * 2
        assert float(ways[name][-1]) < 1e-6
    assert float(ways["float16, 1 at a time"][-1]) < 1e-2
    assert float(ways["float32, bytes"][-1]) < 0.01


@pytest.mark.slow
def test_the_gpu_benchmark_runs_to_its_end_on_a_pretended_gpu(tmp_path):
    model = conv_model(tmp_path / "m.onnx", metadata='{"scale": 2, "multiple": 1, "halo": 3, "tile": 64}')
    size = "--tile 32 --batches 1,2 --repeat 1 --megapixels 0.02"
    done = subprocess.run(
        [sys.executable, BENCH / "gpu.py", "--model", model, "--device", "cuda:0", *size.split()],
        env=environment(tmp_path / "cache", FAKE_TOTAL_MB=8192, FAKE_LAZY_MB=300),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = tables(done.stdout)
    for number_type in ("float32", "float16"):
        for way in ("1 at a time", "2 at a time", "bytes", "bytes, pageable", "CUDA graphs", "NHWC", "without TF32"):
            assert float(found[f"{number_type}, {way}"][1]) > 0
        for workspace in ("as large as cuDNN likes", "at most 32 MiB"):
            assert float(found[f"{number_type}, {workspace}"][2]) > 0
    assert int(found["m"][1]) >= 0  # TF32: a step
    assert "PyTorch is left out" in done.stdout
    assert "cuda:0" in found
