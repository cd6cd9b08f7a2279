"""Networks that pool over the whole picture, run over tiles as if over the whole."""
