"""A film against its frames as files: one command for all of them, and one command each; and memory by length.

    python bench/films.py [--frames 300]

640 x 360 through `clean-x2` in float32: a window that moves over a photograph of scikit-image's; no two frames are equal.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image
from skimage import data

HEIGHT, WIDTH = 360, 640


def enhance(*arguments: object) -> tuple[float, int]:
    """Wall seconds and peak MiB of one command."""
    common = ["--model", "clean-x2", "--device", "cpu", "--precision", "fp32", "--overwrite", "--quiet"]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "sr_tile", "enhance", *map(str, arguments), *common])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, arguments
    return time.perf_counter() - start, usage.ru_maxrss // 1024


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    count = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "frames").mkdir()
        photo = np.asarray(Image.fromarray(data.astronaut()).resize((WIDTH + count, HEIGHT + 2 * count)))
        with av.open(str(folder / "in.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            for index in range(count):
                pixels = np.ascontiguousarray(photo[2 * index : 2 * index + HEIGHT, index : index + WIDTH])
                Image.fromarray(pixels).save(folder / "frames" / f"{index:04}.png")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
            container.mux(stream.encode(None))
        film, memory = enhance(folder / "in.mp4", folder / "out.mp4")
        together, _ = enhance(folder / "frames", folder / "out")
        single = 0.0
        few = min(count, 20)
        for index in range(few):
            single += enhance(folder / "frames" / f"{index:04}.png", folder / f"{index}.png")[0]
        print(f"film of {count} frames: {film:.1f} s, {memory} MiB")
        print(f"the frames as files of one command: {together / film:.2f} x its time")
        print(f"one command each ({few} of them timed): {single / few * count / film:.2f} x its time")


if __name__ == "__main__":
    main()
