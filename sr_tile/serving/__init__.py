"""Serving: requests of many callers in one batch (`batcher`), and tiles of many images on one engine (`shared`)."""

from sr_tile.serving.batcher import DynamicBatcher
from sr_tile.serving.batchers import BucketBatcher, ConcatBatcher, CustomBatcher, ListBatcher, PadBatcher
from sr_tile.serving.decorator import batching
from sr_tile.serving.shared import SharedEngine

__all__ = [
    "BucketBatcher",
    "ConcatBatcher",
    "CustomBatcher",
    "DynamicBatcher",
    "ListBatcher",
    "PadBatcher",
    "SharedEngine",
    "batching",
]
