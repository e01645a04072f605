"""Rows to the bytes of a file, strip by strip where the format allows it.

options.py   what may be asked for, and each format's limits, checked before work starts
encoder.py   the interface, and `open_encoder`
strips.py    rows as they come, cut into strips of one height
png.py       strips filtered and deflated independently, joined into one zlib stream
filters.py   PNG's row filters
jpeg.py      strips as restart intervals of one file; progressive files buffered
tiff.py      strips, uncompressed as they come or deflated at the end
webp.py      buffers the image: the format offers no strips
avif.py      likewise
beside.py    metadata, made to fit the new file: exif.py, xmp.py, and tags.py for TIFF
"""

from upscaled_server.media.encode.beside import lost, without_position
from upscaled_server.media.encode.encoder import Encoder, open_encoder
from upscaled_server.media.encode.options import EncodeOptions, Format, check_encodable

__all__ = [
    "EncodeOptions",
    "Encoder",
    "Format",
    "check_encodable",
    "lost",
    "open_encoder",
    "without_position",
]
