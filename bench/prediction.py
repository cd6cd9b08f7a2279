"""What the planner predicts against what `enhance` takes, for its choice, the recommended tile, and a batch of small tiles.

    python bench/prediction.py [--model x2] [--megapixels 12] [--repeat 1]

Costs are measured afresh first, and go into the user's cache. The ways to cut run in turn; printed are the predicted time
of all calls, the time that the engine was busy, and that of the whole file, each the best of `--repeat`, with the file's
ratio to the recommended tile.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from common import machine, photograph

from sr_tile.enhancer import Enhancer
from sr_tile.planner import Settings, make_plan
from sr_tile.planner.explain import weigh


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="x2")
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--repeat", type=int, default=1)
    arguments = parser.parse_args()
    height = round((arguments.megapixels * 1e6 * 3 / 4) ** 0.5)
    size = height, height * 4 // 3
    with tempfile.TemporaryDirectory() as folder, Enhancer(arguments.model) as enhancer:
        source, target = photograph(Path(folder) / "in.png", *size), Path(folder) / "out.png"
        chosen = make_plan(enhancer.engine, Settings(), remeasure=True)
        side = enhancer.engine.spec.tile or 256
        recommended = replace(chosen, tile=(side, side), sides=(), batch=1)
        plans = {
            "recommended": recommended,
            "choice": chosen,
            "256, batch 4": replace(recommended, tile=(256, 256), batch=4),
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in plans}
        for _ in range(arguments.repeat):
            for name, plan in plans.items():
                enhancer.use_plan(plan)
                enhancer.reset_stats()
                enhancer.enhance_file(source, target, overwrite=True)
                stats = enhancer.stats
                times[name].append((next(s.busy for s in stats.stages if s.name == "infer"), stats.seconds))
        print(machine())
        base = min(seconds for _, seconds in times["recommended"])
        for name, plan in plans.items():
            option = weigh(plan, [size], chosen.costs)
            busy, whole = (min(values) for values in zip(*times[name], strict=True))
            print(
                f"{name:14} tile {option.tile[0]} x {option.tile[1]}, batch {option.batch}, x {option.redundancy:.3f}: "
                f"predicted {option.seconds:.1f} s, engine {busy:.1f} s ({busy / option.seconds:.2f} x), "
                f"file {whole:.1f} s ({whole / base:.2f} x the recommended)",
                flush=True,
            )


if __name__ == "__main__":
    main()
