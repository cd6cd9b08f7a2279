"""Serving: requests of many callers in one batch (`batcher`), and tiles of many images on one engine (`shared`)."""

from sr_tile.serving.dynamic_batching.batcher import DynamicBatcher
from sr_tile.serving.dynamic_batching.collate import (
    BucketBatcher,
    ConcatBatcher,
    CustomBatcher,
    ListBatcher,
    PadBatcher,
)
from sr_tile.serving.dynamic_batching.decorator import batching
from sr_tile.serving.shared_engine import SharedEngine

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
