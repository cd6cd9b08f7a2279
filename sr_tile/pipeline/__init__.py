"""decode -> tile -> infer -> blend -> encode: the only place where the layers meet."""
