"""Tags of TIFF that describe pixels, and what their values are called."""

ASCII, SHORT, LONG, LONG8 = 2, 3, 4, 16
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
PREDICTOR, YCBCR_COEFFICIENTS, SUBSAMPLING = 317, 529, 530
SAMPLES, ROWS, PLANAR, UNIT, TILE_WIDTH, TILE_LENGTH = 277, 278, 284, 296, 322, 323
INKSET, EXTRA, FORMAT = 332, 338, 339
STRIPS, TILES = (273, 279), (324, 325)  # where they lie, and how many bytes each has
# With fill order, options of the fax codes, predictor, palette, inks, JPEG tables old and new, and YCbCr.
KEPT = {WIDTH, LENGTH, COMPRESSION, PHOTOMETRIC, 266, ROWS, 282, 283, PLANAR, 292, 293, UNIT, 317, 320}
KEPT |= {TILE_WIDTH, TILE_LENGTH, INKSET, 347, *range(512, 522), *range(529, 533)}
NEEDED = {WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, FORMAT}
NOT_NUMBERS = {282, 283, 347, 529, 532}
RAW_FORMATS = {50706: "DNG", 46275: "Hasselblad"}  # tags of files from cameras, whose picture is a mosaic
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, INKS, YCBCR = 0, 1, 2, 5, 6
MODELS = {6: "YCbCr", 8: "Lab", 9: "ICC Lab"}
FAX, LZW, OLD_JPEG, JPEG = (2, 3, 4), 5, 6, 7
BY_PILLOW = (OLD_JPEG, 34925)
OF_BYTES = (1, LZW, 8, 32773, 32946, 50000)
"""Compressions that know of bytes, and not of pixels."""
LUMA = (0.299, 0.587, 0.114)
BLOBS = {"icc": 34675, "xmp": 700, "iptc": 33723}
MAX_BLOB, MAX_TEXT = 2**26, 2**16
COMPRESSIONS = {
    1: "none", 2: "CCITT modified Huffman", 3: "CCITT fax 3", 4: "CCITT fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG",
    8: "deflate", 9: "JBIG", 10: "JBIG", 32766: "NeXT", 32771: "CCITT word aligned", 32773: "PackBits", 32809: "ThunderScan",
    32895: "IT8", 32908: "Pixar film", 32909: "PixarLog", 32946: "deflate", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34661: "JBIG", 34676: "SGILog", 34677: "SGILog24", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG",
    34925: "LZMA", 50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
