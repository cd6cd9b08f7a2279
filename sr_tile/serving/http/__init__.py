"""The HTTP server: routes, limits, uploads, results."""
