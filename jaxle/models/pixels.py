"""Pixels of the images that a user hands to a network: PIL images are decoded as files are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxle.arrays import Array, checks_input
from jaxle.images import decode

OneImage = Image.Image | UInt8[Array, "height width 3"]
Images = UInt8[Array, "images height width 3"] | Sequence[OneImage] | OneImage
# Modes that PNG holds as they are, and those whose range only TIFF holds.
_PNG, _TIFF = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ("I", "F")
_ALPHA = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}  # other modes with transparency


@checks_input
def listed(images: Images) -> Sequence[Any]:
    """Returns images as a sequence, a single one as a list of one.

    Raises:
      ValueError: no images.
    """
    if isinstance(images, Image.Image) or getattr(images, "ndim", 4) == 3:
        images = [images]
    if len(images) == 0:
        raise ValueError("no images: got an empty list or array")
    return images


@checks_input
def pixels(image: OneImage) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the pixels of one image.

    A PIL image goes through a file in memory and `jaxle.images.decode`, so that 16 bits, greyscale,
    CMYK, transparency and EXIF rotation mean what they mean in a file. Arrays are taken as they
    are.

    Raises:
      ValueError: a PIL image that `decode` refuses.
    """
    if not isinstance(image, Image.Image):
        return np.asarray(image)
    exif, file = image.getexif(), io.BytesIO()
    if image.mode in _TIFF:
        image.save(file, "TIFF", exif=exif)
    else:
        if image.mode not in _PNG:
            image = image.convert(_ALPHA.get(image.mode, "RGB"))
        image.save(file, "PNG", compress_level=0, exif=exif)
    return decode(file.getvalue(), name="given as a PIL image")
