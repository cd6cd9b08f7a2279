"""What a model is, and where its file lies."""
