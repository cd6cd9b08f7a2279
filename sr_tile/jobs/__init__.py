"""Many files: which to do, how to go on after a kill, what became of them."""
