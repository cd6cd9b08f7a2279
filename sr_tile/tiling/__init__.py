"""Tiles of an image: where they lie, what they read, how they are blended. Pure numpy; nothing of files or models."""
