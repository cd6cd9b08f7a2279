"""Is encoding ever what the others wait for? 12 megapixels into 48, to each format."""

from pathlib import Path

from common import enhance_command, markdown, note, photograph, yes_no

FORMATS = ("png", "tif", "jpg", "webp", "avif")


def section(folder: Path, quick: bool) -> str:
    """The part of RESULTS.md: busy seconds of a stage over its workers, against the engine's."""
    size = (1500, 2000) if quick else (3000, 4000)
    source = photograph(folder / "in.png", *size)
    rows, kept = [], []
    for suffix in FORMATS[:3] if quick else FORMATS:
        note(f"encode: {suffix}")
        run = enhance_command(source, folder / f"out.{suffix}", "--overwrite")
        stages = {stage["name"]: stage["busy"] / stage["workers"] for stage in run.stats["stages"]}
        share = {name: stages[name] / stages["infer"] for name in ("decode", "encode")}
        rows.append(
            [suffix, f"{run.seconds:.1f} s", *(f"{value:.2f}" for value in share.values()), run.stats["bottleneck"]]
        )
        kept += [run.stats["bottleneck"] != "encode"] if suffix in FORMATS[:3] else []
    heads = ["to", "time", "decoding, of the engine's time", "encoding, of the engine's time", "bottleneck"]
    return (
        f"## Encoding\n\nA PNG of {size[0]} x {size[1]} through `x2`.\n\n{markdown(heads, rows)}\n\n"
        f"Encoding is never the bottleneck of PNG, TIFF and JPEG: {yes_no(all(kept))}."
    )
