"""What is known of an image besides its pixels."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Metadata:
    """What travels beside the pixels, as the file carried it.

    `icc` is the profile that the answer may have: None where the pixels have been converted to sRGB for
    good (CMYK, LAB), and where the file's profile is unusable. `exif` is the TIFF structure without the
    `Exif\\0\\0` prefix; its orientation tag is as found, and encoders reset it. `xmp` is the packet. `iptc`
    is the data stream of IPTC-IIM. `dpi` is dots per inch (x, y).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image says, and the shape of the rows that its decoder delivers.

    Rows are arrays (n, width, channels + has_alpha): grey or red, green, blue, then straight (not
    premultiplied) alpha, in sRGB; uint8 or native-endian uint16 with the full range 0..2**bits - 1.
    """

    format: str
    """"PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF" or "HEIF"."""
    width: int
    """Pixels, after the orientation has been applied."""
    height: int
    """Pixels, after the orientation has been applied."""
    channels: int
    """1 (grey) or 3 (RGB), not counting alpha."""
    has_alpha: bool
    bits: int
    """Bits per value of the rows: 8 or 16. A file may have held more than the decoder delivers."""
    frames: int
    """1, or at least 2 for an animation or a multi-page file, of which only the first frame is delivered."""
    orientation: int
    """EXIF orientation as found, 1..8. It has been applied to width, height and rows."""
    metadata: Metadata = field(default_factory=Metadata, repr=False)
    is_converted: bool = False
    """The rows are sRGB and `metadata.icc` says something else, so pixels of the answer have to be converted
    back, or the profile left out. False where the profile is sRGB, or there is none."""
    remarks: tuple[str, ...] = ()
    """What could not be kept, in words for the caller."""

    @property
    def planes(self) -> int:
        """The last dimension of a row array."""
        return self.channels + self.has_alpha

    @property
    def row_bytes(self) -> int:
        return self.width * self.planes * (self.bits // 8)
