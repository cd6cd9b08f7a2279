"""Annotations of shapes are checked in every test: the hook must be in place before the package is imported."""

import pytest
from jaxtyping import install_import_hook

ANNOTATED = ["batching", "blending", "channels", "engines"]
install_import_hook([f"sr_tile.{module}" for module in ANNOTATED], "beartype.beartype")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
