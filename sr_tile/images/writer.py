"""Rows of pixels to files that are whole or not there."""

import logging
import threading
import weakref
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from sr_tile.errors import ArgumentError, ImageWriteError
from sr_tile.images.deep_zoom_file import DeepZoomFile
from sr_tile.images.encoder import Encoder, whole_bytes
from sr_tile.images.formats import FORMATS, ImageInfo, WriteOptions, format_of, listed, stored_dtype
from sr_tile.images.metadata_choices import as_chosen
from sr_tile.images.png_encoder import PngEncoder, open_encoder
from sr_tile.images.tiff_exif import append_exif
from sr_tile.images.vips import reason_of
from sr_tile.system.atomic_file import AtomicFile, TargetError

log = logging.getLogger("sr_tile")


class UnfinishedFile(Protocol):
    """What a writer fills, as `AtomicFile` is."""

    descriptor: int

    def commit(self) -> None:
        """All is written."""
        ...

    def discard(self) -> None:
        """Remove it unless it was committed; idempotent."""
        ...


def _file_for(name: str, path: Path, overwrite: bool) -> UnfinishedFile:
    if name == "dzi":
        return DeepZoomFile(path, overwrite=overwrite)
    return AtomicFile(path, overwrite=overwrite, durable=True)


def check_fits(path: Path, info: ImageInfo, options: WriteOptions) -> None:
    """Refuse pixels that the format of a file does not hold.

    Raises:
        ImageWriteError: there is alpha, or a side is too long, or the name has no suffix of a format.
    """
    name = options.format or format_of(path)
    kind, result, animation = FORMATS[name], info.result, options.animation
    side = max(animation.height if animation else result.height, result.width)
    if info.has_alpha and not kind.alpha and not options.background:
        choice = f"choose {listed(name for name, kind in FORMATS.items() if kind.alpha)}, or give --background white"
        raise ImageWriteError(f"{path}: {name.upper()} holds no alpha: {choice}")
    if side > kind.max_side:
        bound = f"{name.upper()} holds at most {kind.max_side} pixels a side, not {side}"
        raise ImageWriteError(f"{path}: {bound}: choose {'PNG or ' if name != 'png' else ''}TIFF")


class ImageWriter:
    """Rows into a new file, which appears under its name when it is whole, and not before.

    Where `info.reduction` says so, the rows, of the size of `info`, are reduced on their way.

    Leaving the `with` block finishes the file, or removes it when an exception leaves the block. A killed process leaves
    at most a hidden file `.NAME.PID.TOKEN.part` in the folder of the target.

    Args:
        path: of the target.
        info: size, depth and metadata.
        options: how to encode.
        overwrite: replace a target that exists.
        file: what is written in place of a file of that name, such as a page of it.
    """

    def __init__(
        self,
        path: Path | str,
        info: ImageInfo,
        *,
        options: WriteOptions | None = None,
        overwrite: bool = False,
        file: UnfinishedFile | None = None,
    ) -> None:
        options = options or WriteOptions()
        info = as_chosen(info, options)
        self.path, self.info, self._background = Path(path), info, options.background
        name = options.format or format_of(path)
        check_fits(self.path, info, options)
        stored = stored_dtype(name, info.dtype)
        self.dtype = info.dtype if info.dtype == np.float32 else stored
        if name == "gif":
            log.warning("%s: GIF holds 256 colours a frame, the nearest are taken; PNG and WebP keep all", path)
        elif info.dtype == np.float32 != stored:
            bits = 8 * stored.itemsize
            log.warning("%s: floats become %d bits, cut off below 0 and above 1. TIFF keeps them", path, bits)
        elif stored != info.dtype:
            log.warning("%s: the format holds 8 bits a channel; 16 are rounded. PNG and TIFF keep them", path)
        self._rows, self._done = 0, False
        self.whole_bytes = whole_bytes(name, info.result, options)
        try:
            self._file = file or _file_for(name, self.path, overwrite)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            self._encoder = open_encoder(name, info, self.dtype, options, self._file.descriptor)
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, left for it
            self._file.discard()
            raise ImageWriteError(f"{self.path}: cannot be written: {reason_of(error)}") from None
        for what in self._encoder.extras.lost:
            log.warning("%s: lost: %s", path, what)
        # Also runs at exit: a writer that was forgotten leaves no file and no thread behind.
        self._cleanup = weakref.finalize(self, _discard, self._encoder, self._file)
        self._lock = threading.RLock()

    def write_rows(self, rows_hwc: np.ndarray) -> None:
        """The next rows, top to bottom; waits while the encoder is behind.

        Args:
            rows_hwc: (any count, width, channels), of self.dtype; floats of range [0, 1], see `ImageInfo.float_range`.
        """
        rows_hwc = np.asarray(rows_hwc)
        expected = (self.info.width, self.info.channels)
        if rows_hwc.ndim != 3 or rows_hwc.shape[1:] != expected or rows_hwc.dtype != self.dtype:
            want = f"rows of shape (n, {expected[0]}, {expected[1]}) and dtype {self.dtype}"
            raise ArgumentError(f"{self.path}: expected {want}, got {rows_hwc.shape} {rows_hwc.dtype}")
        if self._rows + len(rows_hwc) > self.info.height:
            given = f"{self._rows} + {len(rows_hwc)} rows"
            raise ArgumentError(f"{self.path}: {given} are more than the image's {self.info.height}")
        with self._lock:
            if self._done:
                raise ImageWriteError(f"{self.path}: is closed, no more rows can be written")
            if not self._encoder.push(rows_hwc):
                raise self._failed()
            self._rows += len(rows_hwc)

    def close(self) -> None:
        """Finish the file and give it its name; idempotent.

        Raises:
            ImageWriteError: rows are missing, the disk is full, or another file took the name: nothing is left behind.
        """
        with self._lock:
            if self._done:
                return
            try:
                self._finish()
            except OSError as error:
                raise self._unwritable(error) from None
            finally:
                self.abort()

    def _finish(self) -> None:
        if self._rows < self.info.height:
            missing = f"only {self._rows} of {self.info.height} rows were written"
            raise ImageWriteError(f"{self.path}: {missing}: the file was removed")
        if not self._encoder.finish():
            raise self._failed()
        if self._encoder.format_name == "tiff":
            append_exif(self._file.descriptor, self.info.result)
        self._file.commit()

    def _failed(self) -> ImageWriteError:
        return ImageWriteError(f"{self.path}: cannot be written: {self._encoder.failure}")

    def _unwritable(self, error: OSError) -> ImageWriteError:
        why = "" if isinstance(error, TargetError) else "cannot be written: "
        return ImageWriteError(f"{self.path}: {why}{reason_of(error)}")

    def abort(self) -> None:
        """Stop, and remove the unfinished file; idempotent, does nothing to a finished one.

        From another thread it stops a `write_rows` or `close` under way, as soon as the encoder reacts.
        """
        if self._done:
            return
        self._encoder.kill()  # first: whoever waits in another thread wakes up and lets go of the lock
        with self._lock:
            if self._done:
                return
            self._done = True
            self._cleanup.detach()
            _discard(self._encoder, self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _discard(saver: Encoder | PngEncoder, file: UnfinishedFile) -> None:
    saver.stop()
    file.discard()
