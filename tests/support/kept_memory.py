"""Memory that this process has freed, and that the C library keeps."""


def keep_free_memory():
    """Free 128 MiB below a piece that is not; hold that to keep the C library from giving them back by itself."""
    pieces = [bytes(2**16) for _ in range(2**11)]  # smaller than what glibc maps for itself
    return pieces[-1]
