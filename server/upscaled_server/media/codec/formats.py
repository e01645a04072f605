"""Which formats are accepted, recognised by content, never by a name."""

from __future__ import annotations

import importlib.util
import struct

from PIL import Image

from upscaled_server.errors import NotAnImage, UnsupportedImage

HEAD_BYTES = 64
ACCEPTED = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")
_CONTENT_TYPES = {"PPM": "image/x-portable-pixmap"}
_HEIF_CONTENT_TYPES = ("image/heic", "image/heif")
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Images that are often sent and not accepted, so that the refusal can say what they are.
_REFUSED = (
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"8BPS", "a Photoshop document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"<svg", "an SVG drawing"),
    (b"\x76\x2f\x31\x01", "an OpenEXR image"),
    (b"#?RADIANCE", "a Radiance image"),
    (b"qoif", "a QOI image"),
    (b"DDS ", "a DDS texture"),
    (b"Pf", "a floating-point map (PFM)"),
    (b"PF", "a floating-point map (PFM)"),
    (b"P7", "a PAM image"),
)


def accepted_content_types() -> tuple[str, ...]:
    """What is decoded here, HEIF included where the extra package for it is installed."""
    known = tuple(_CONTENT_TYPES.get(name, f"image/{name.lower()}") for name in ACCEPTED)
    return known + (_HEIF_CONTENT_TYPES if importlib.util.find_spec("pillow_heif") else ())


def preload() -> None:
    """HEIF is read where the extra package for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    # One thread: a child's processor time and stacks are bounded. No thumbnails: nobody asks for them.
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)


def recognise(head: bytes) -> str:
    """The format of a file that begins with `head`. Raises NotAnImage or UnsupportedImage."""
    if not head:
        raise NotAnImage("the image is empty (0 bytes)")
    name = _accepted(head)
    if name is not None:
        return name
    accepted = "accepted are " + ", ".join(ACCEPTED)
    if head[4:8] == b"ftyp":
        what = "a HEIF image, which this server cannot read (its heif extra is not installed)"
        if not _brands(head) & _HEIF_BRANDS:
            what = "a video or an unknown kind of HEIF, which is not accepted"
        raise UnsupportedImage(f"this is {what}; {accepted}")
    for start, what in _REFUSED:
        if head.startswith(start):
            raise UnsupportedImage(f"this is {what}, which is not accepted; {accepted}")
    raise NotAnImage(f"these bytes are not an image of a known format; {accepted}")


def _accepted(head: bytes) -> str | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:4] in _TIFF:
        return "TIFF"
    if head[:2] == b"BM":
        return "BMP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & {b"avif", b"avis"} and "AVIF" in Image.OPEN:
            return "AVIF"
        if brands & _HEIF_BRANDS and "HEIF" in Image.OPEN:
            return "HEIF"
    return None


def _brands(head: bytes) -> set[bytes]:
    """The major brand and those of the compatible ones that fit in the head."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def declared_size(name: str, head: bytes) -> tuple[int, int] | None:
    """The size a WebP declares, which must be checked before Pillow opens it: opening allocates the
    canvas."""
    if name != "WEBP" or len(head) < 30:
        return None
    kind, body = head[12:16], head[20:]
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def extra_bytes_per_pixel(name: str, image: Image.Image, orientation: int) -> int:
    """What decoding needs beyond the pixels Pillow keeps, measured and rounded up."""
    if name == "WEBP":
        return 12  # two canvases and the frame as bytes
    if name in ("AVIF", "HEIF"):
        return 14  # planes of up to 16 bits, RGBA, and the frame as bytes
    if name == "JPEG" and image.info.get("progressive"):
        return 6  # every coefficient of three planes
    if name == "TIFF":
        return 8 if orientation == 1 else 12  # a strip may be the whole image; Pillow turns it in a copy
    return 0
