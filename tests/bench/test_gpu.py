"""`bench/gpu.py` runs where there is no GPU, as a check of the script."""

from pathlib import Path

import pytest
from support.toys import conv_model


@pytest.mark.slow
def test_the_gpu_benchmark_compares_every_way_with_the_cpu(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    import gpu

    model = conv_model(tmp_path / "m.onnx", metadata='{"scale": 2, "multiple": 1, "halo": 3, "tile": 64}')
    size = "--tile 32 --batches 1,2 --repeat 1 --megapixels 0.02"
    gpu.main(["--model", str(model), "--device", "cpu", *size.split()])
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    ways = {row[0].strip(): row for row in rows}
    assert {"float32, 1 at a time", "float32, 2 at a time", "float32, I/O binding", "cpu", "cpu,cpu"} <= set(ways)
    for name in ("float32, 2 at a time", "float32, I/O binding"):
        assert len(ways[name]) == 2 + 2 * 2
        assert float(ways[name][-1]) < 1e-6
    assert float(ways["float16, 1 at a time"][-1]) < 1e-2
