"""The machine: memory, processors, atomic files."""
