"""sr-tile against the ways in which tiled inference is commonly written, on the same network and the same picture."""
