"""Requests of many callers in one batch, with a bounded wait."""
