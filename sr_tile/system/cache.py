"""The user's cache folder: what may be deleted at any time and is then measured, pulled or exported again."""

from pathlib import Path


def cache_folder(*names: str) -> Path:
    """A folder inside the cache of sr-tile; it need not exist.

    Args:
        names: `models`, `costs`, ...
    """
    import platformdirs

    return Path(platformdirs.user_cache_dir("sr-tile", appauthor=False), *names)
