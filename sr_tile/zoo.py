"""Models by name: those bundled with the package, and files."""

from pathlib import Path

from sr_tile.errors import ArgumentError, ModelLoadError

DEFAULT = {2: "x2"}
_PACKAGE = Path(__file__).parent


def bundled_folder() -> Path:
    """Where the bundled models lie: inside the installed package, or at the top of a checkout."""
    installed = _PACKAGE / "bundled"
    return installed if installed.is_dir() else _PACKAGE.parent / "models"


def bundled() -> dict[str, Path]:
    """Bundled models by name."""
    return {path.stem: path for path in sorted(bundled_folder().glob("*.onnx"))}


def find(model: str | Path | None = None, scale: int | None = None) -> Path:
    """The file of a model.

    Args:
        model: a path, or the name of a bundled model; None chooses by `scale`.
        scale: output pixels per input pixel, 2 where nothing is said.

    Raises:
        ModelLoadError: there is neither such a file nor such a model.
        ArgumentError: no bundled model has this scale.
    """
    if model is None:
        name = DEFAULT.get(scale or 2)
        if name is None:
            raise ArgumentError(
                f"no bundled model enlarges by {scale}; choose from {_listed(DEFAULT)}, or give --model"
            )
        return bundled()[name]
    path = Path(model)
    if path.is_file():
        return path
    if str(model) in bundled():
        return bundled()[str(model)]
    if path.suffix or len(path.parts) > 1:
        raise ModelLoadError(f"model {model}: there is no such file; bundled models are {_listed(bundled())}")
    raise ModelLoadError(f"model {model!r} is not known; bundled models are {_listed(bundled())}, or give a path")


def _listed(names: object) -> str:
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]
