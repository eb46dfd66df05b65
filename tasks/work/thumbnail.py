"""A small picture of a large one, by Pillow; import this where it is used, for it is heavy."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.retry import PermanentError

#: Read by Pillow's own decoders. Others are left out: PostScript, for one, is run by a program outside.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")

#: Pixels that are decoded at most: 200 MB of memory. JPEGs shrink while they are decoded and may have 64
#: times as many.
MAX_PIXELS = 50_000_000

_JPEG_QUALITY = 85

#: What Pillow's decoders raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)


class BadImage(PermanentError):
    """The file is not a picture that can be read; the message says why."""


def make(file: BinaryIO, name: str, size: int) -> tuple[bytes, str, tuple[int, int]]:
    """The picture scaled to fit a square of `size` pixels: its bytes, its name's ending, width and height.

    Turned as the camera was held, first frame of an animation, without the original's metadata. PNG, or
    JPEG for a JPEG. Never larger than the original.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            return _encoded(_scaled(image, name, size), is_jpeg=image.format == "JPEG")
    except UnidentifiedImageError as error:
        raise BadImage(f"{name} is not an image; {', '.join(FORMATS)} can be read") from error
    except Image.DecompressionBombError as error:
        raise BadImage(f"{name} has too many pixels: {error}") from error
    except _DAMAGED as error:
        raise BadImage(f"{name} is a damaged or truncated image: {error}") from error


def _scaled(image: Image.Image, name: str, size: int) -> Image.Image:
    image.draft(None, (2 * size, 2 * size))
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(
            f"{name} has {image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are decoded"
        )
    upright = ImageOps.exif_transpose(image)
    if upright.mode not in ("L", "RGB", "RGBA"):
        upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
    upright.thumbnail((size, size))
    return upright


def _encoded(image: Image.Image, *, is_jpeg: bool) -> tuple[bytes, str, tuple[int, int]]:
    image.info.clear()
    encoded = BytesIO()
    if is_jpeg:
        image.convert("RGB").save(encoded, "JPEG", quality=_JPEG_QUALITY)
    else:
        image.save(encoded, "PNG")
    return encoded.getvalue(), ".jpg" if is_jpeg else ".png", image.size
