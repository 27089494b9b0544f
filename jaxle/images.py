"""Images: decode to uint8 RGB, fit to a network's input size on the host, normalise on the device.

A network must get its images as its checkpoint's authors prepared them; `Preprocess` states that
in one record:

* torchvision and timm: shorter side resized with Pillow (antialiased), then a centre crop;
* SigLIP and CLIP from transformers or open_clip: both sides squashed to the input size with
  Pillow's bicubic filter;
* big_vision: both sides squashed by `tf.image.resize` without antialiasing, cast back to uint8
  (truncated, not rounded);
* CIFAR networks: no resize; an image of another size is squashed.

Sources: torchvision/transforms/v2/functional/_geometry.py (sizes and crop offsets),
tensorflow/core/kernels/image/resize_bilinear_op.cc (half-pixel centres),
big_vision/pp/ops_image.py (`get_resize`).
"""

from __future__ import annotations

import dataclasses
import io
import os
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float, UInt8
from PIL import Image

from jaxle.arrays import Array, checks_input

RESIZES = ("none", "shorter_side", "squash")
_PILLOW_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
INTERPOLATIONS = (*_PILLOW_FILTERS, "bilinear_no_antialias")

# Formats that hold photographs. Pillow's others (EPS runs Ghostscript, PDF, FITS…) have no place
# among probe images.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_BROKEN_FILE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@checks_input
def decode(
    source: str | os.PathLike | bytes, name: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Reads one image from a file or from the bytes of a file.

    The image is turned upright by its EXIF orientation; of an animation the first frame is read;
    greyscale, palette, CMYK and YCbCr become RGB; transparent pixels are laid over white (the
    colour stored under them is arbitrary); of 16-bit samples the high byte is kept.

    Args:
      source: path (local or remote, as `etils.epath` reads them) or bytes of a JPEG, PNG, WebP,
        GIF, BMP, TIFF or PPM file.
      name: what an error calls the image; the path itself where absent.

    Returns:
      uint8 (height, width, 3), 0–255.

    Raises:
      ValueError: absent, not a picture, damaged or truncated, or larger than Pillow's
        `Image.MAX_IMAGE_PIXELS`; the message names the image.
    """
    data = source if isinstance(source, bytes) else None
    if name is None:
        name = "the given bytes" if data is not None else str(source)
    try:
        if data is None:
            data = _read(source)
    except OSError as error:
        raise ValueError(f"cannot read image {name}: {error.strerror or error}") from None
    if not data:
        raise ValueError(f"cannot decode image {name}: the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        raise ValueError(
            f"cannot decode image {name}: not a picture; it begins with {data[:12]!r}; "
            f"expected {', '.join(_FORMATS)}"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(_too_large(name)) from None
    except _BROKEN_FILE as error:
        raise ValueError(f"cannot decode image {name}: {error}") from None
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(_too_large(name))
    try:
        image.load()
        return np.asarray(_upright(_rgb(image), _orientation(image)))
    except _BROKEN_FILE as error:
        raise ValueError(f"cannot decode image {name}: {error}") from None


@checks_input
@dataclasses.dataclass(frozen=True)
class Preprocess:
    """The preprocessing of one network's images.

    `fit` runs in the loader's workers, `normalise` on the device inside jit. torchvision's "resize
    256, crop 224" is `Preprocess("shorter_side", 224, crop=224 / 256)`.

    Attributes:
      resize: "shorter_side" (keeps the aspect ratio), "squash" (does not), or "none" (already of
        this size; others are squashed).
      size: height and width of the fitted image, pixels: the network's input.
      crop: share of the resized side that the centre crop keeps, in (0, 1]; 1 crops no more than
        the aspect ratio asks for.
      interpolation: "bilinear" or "bicubic" (Pillow's, antialiased), or "bilinear_no_antialias"
        (`tf.image.resize`'s default).
      mean, std: subtracted from the colours, and what the difference is divided by; unit 1 (after
        division by 255), three numbers each.

    Raises:
      ValueError: a field outside these values.
    """

    resize: str
    size: int
    crop: float = 1.0
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self):
        if self.resize not in RESIZES:
            raise ValueError(f"resize is {self.resize!r}; expected one of {', '.join(RESIZES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation is {self.interpolation!r}; "
                f"expected one of {', '.join(INTERPOLATIONS)}"
            )
        if self.size < 1:
            raise ValueError(f"size is {self.size}; expected at least 1 pixel")
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is {self.crop}; expected a share in (0, 1], such as 224 / 256")
        for field in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, field))
            if len(values) != 3 or (field == "std" and min(values) <= 0):
                sign = ", all above 0" if field == "std" else ""
                raise ValueError(f"{field} is {values}; expected three numbers{sign}")
            object.__setattr__(self, field, values)

    def fit(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """Returns one image at the network's size: the host's part of preprocessing.

        Args:
          image: uint8 (height, width, 3).

        Returns:
          uint8 (size, size, 3).

        Raises:
          ValueError: another dtype or shape, or an aspect ratio so extreme that the resized image
            would exceed Pillow's limit.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"image is {image.dtype} of shape {image.shape}; expected uint8 (height, width, 3)"
            )
        height, width = image.shape[:2]
        if self.resize == "none" and (height, width) == (self.size, self.size):
            return image
        new_height, new_width = self.resized(height, width)
        if Image.MAX_IMAGE_PIXELS is not None and new_height * new_width > Image.MAX_IMAGE_PIXELS:
            raise ValueError(
                f"image of {width} × {height} pixels is too narrow to resize its shorter side "
                f"to {min(new_height, new_width)}"
            )
        resized = _resize(image, new_height, new_width, self.interpolation)
        top, left = self.corner(new_height, new_width)
        return resized[top : top + self.size, left : left + self.size]

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of an image before its centre is cropped, pixels."""
        side = self.size if self.resize == "none" else round(self.size / self.crop)
        if self.resize != "shorter_side":
            return side, side
        if height <= width:
            return side, int(side * width / height)
        return int(side * height / width), side

    def corner(self, new_height: int, new_width: int) -> tuple[int, int]:
        """Returns top and left of the crop in a resized image, pixels."""
        return round((new_height - self.size) / 2), round((new_width - self.size) / 2)

    def normalise(
        self, images: UInt8[Array, "images height width 3"]
    ) -> Float[jax.Array, "images height width 3"]:
        """Returns fitted images as the network's input, (images / 255 − mean) / std.

        Called inside jit, so that only bytes travel to the device.

        Args:
          images: uint8 (images, height, width, 3), 0–255.

        Returns:
          float32 (images, height, width, 3).
        """
        mean = jnp.asarray(self.mean, jnp.float32).reshape(1, 1, 1, 3)
        std = jnp.asarray(self.std, jnp.float32).reshape(1, 1, 1, 3)
        return (jnp.asarray(images, jnp.float32) / 255 - mean) / std


def _read(path):
    if "://" in str(path):
        return epath.Path(path).read_bytes()
    # at 32 × 32 pixels epath's parsing would cost half as much as decoding
    with open(path, "rb") as file:
        return file.read()


def _too_large(name):
    return (
        f"cannot decode image {name}: more than {Image.MAX_IMAGE_PIXELS} pixels "
        "(PIL.Image.MAX_IMAGE_PIXELS, a guard against decompression bombs)"
    )


def _orientation(image):
    try:
        return image.getexif().get(_ORIENTATION_TAG, 1)
    except _BROKEN_FILE:  # the pixels are whole; only the metadata is damaged
        return 1


def _upright(image, orientation):
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image):
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        samples = np.asarray(image)
        # Pillow's own conversion would clip at 255
        if image.mode == "F" or samples.min() < 0 or samples.max() > 65535:
            raise ValueError(
                f"pixels of mode {image.mode} with values {samples.min()}..{samples.max()}; "
                "expected 8 or 16 bits"
            )
        return Image.fromarray((samples.astype(np.int32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    return image.convert("RGB")


def _resize(image, height, width, interpolation):
    if interpolation == "bilinear_no_antialias":
        return _resize_like_tensorflow(image, height, width)
    return np.asarray(
        Image.fromarray(image).resize((width, height), _PILLOW_FILTERS[interpolation])
    )


def _resize_like_tensorflow(image, height, width):
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    down, across = down[:, None, None], across[None, :, None]

    def row(y):
        first = image[y[:, None], left[None, :]].astype(np.float32)
        second = image[y[:, None], right[None, :]].astype(np.float32)
        return first + (second - first) * across

    upper, lower = row(top), row(bottom)
    return np.clip(upper + (lower - upper) * down, 0, 255).astype(np.uint8)


def _neighbours(old, new):
    """The two source positions of every new one and the share of the second.

    Half-pixel centres in float32, as the TensorFlow kernel computes them.
    """
    scale = np.float32(old) / np.float32(new)
    position = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(position)
    first = np.maximum(floor, 0).astype(np.int32)
    second = np.minimum(np.ceil(position), old - 1).astype(np.int32)
    return first, second, position - floor
