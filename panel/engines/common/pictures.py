"""Pictures of screens: made small, in memory. Blocking: for worker threads."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from panel.errors import EngineFailure
from panel.i18n import gettext_noop as _

FORMATS = ("PPM", "PNG")  # what hypervisors give
MOST_PIXELS = 64 * 1024 * 1024


def thumbnail(data: bytes, width: int) -> bytes:
    """A PNG at most ``width`` pixels across of a PPM or PNG. ``EngineFailure`` for what is neither, or is too large."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise EngineFailure(_("The picture of the screen is too large."))
            return png(picture.convert("RGB"), width)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise EngineFailure(_("The host gave a picture of the screen that cannot be read.")) from error


def png(picture: Image.Image, width: int) -> bytes:
    """``picture`` as a PNG at most ``width`` pixels across, its proportions kept."""
    if picture.width > width:
        picture = picture.resize(
            (width, max(1, round(picture.height * width / picture.width))), Image.Resampling.LANCZOS
        )
    made = io.BytesIO()
    picture.save(made, "PNG", optimize=True)
    return made.getvalue()


def jpeg(data: bytes, most_bytes: int) -> bytes:
    """A PNG as a JPEG of at most ``most_bytes``, or as small as it gets."""
    made = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        plain = picture.convert("RGB")
    for quality in (75, 50, 25, 10):
        made = io.BytesIO()
        plain.save(made, "JPEG", quality=quality, optimize=True)
        if made.tell() <= most_bytes:
            break
    return made.getvalue()
