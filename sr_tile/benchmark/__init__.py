"""How fast a model runs in which tiles and batches, what that takes, and how near it comes to the hardware's limit."""
