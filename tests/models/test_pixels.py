"""An image means the same as a file, as a PIL image and as an array."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxle.images import decode
from jaxle.models import zoo
from jaxle.models.pixels import pixels

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
ALPHA = np.concatenate([COLOUR, RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)], axis=2)
DEEP = RNG.integers(0, 65536, (6, 9)).astype(np.uint16)
PALETTE = Image.fromarray(COLOUR).quantize(8)


def turned(image):
    exif = image.getexif()
    exif[0x0112] = 6
    return {"exif": exif}


FILES = {  # name → image, format, options of its writing
    "plain": (Image.fromarray(COLOUR), "PNG", {}),
    "jpeg": (Image.fromarray(COLOUR), "JPEG", {}),
    "turned jpeg": (Image.fromarray(COLOUR), "JPEG", turned(Image.fromarray(COLOUR))),
    "turned png": (Image.fromarray(COLOUR), "PNG", turned(Image.fromarray(COLOUR))),
    "grey": (Image.fromarray(COLOUR[..., 0]), "PNG", {}),
    "grey and alpha": (Image.fromarray(ALPHA).convert("LA"), "PNG", {}),
    "alpha": (Image.fromarray(ALPHA), "PNG", {}),
    "16 bits": (Image.fromarray(DEEP), "PNG", {}),
    "16 bits, tiff": (Image.fromarray(DEEP), "TIFF", {}),
    "32 bits": (Image.fromarray(DEEP.astype(np.int32)), "TIFF", {}),
    "palette": (PALETTE, "PNG", {}),
    "transparent palette": (PALETTE, "PNG", {"transparency": 3}),
    "gif": (PALETTE, "GIF", {"transparency": 3}),
    "transparent colour": (Image.fromarray(COLOUR), "PNG", {"transparency": tuple(COLOUR[2, 3])}),
    "cmyk": (Image.fromarray(COLOUR).convert("CMYK"), "JPEG", {}),
    "black and white": (Image.fromarray(COLOUR[..., 0]).convert("1"), "PNG", {}),
    "webp": (Image.fromarray(ALPHA), "WEBP", {"lossless": True}),
}


def written(name):
    image, form, options = FILES[name]
    file = io.BytesIO()
    image.save(file, form, **{key: plain(value) for key, value in options.items()})
    return file.getvalue()


def plain(value):
    return tuple(map(int, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", FILES)
def test_an_opened_image_is_what_its_file_is(name):
    data = written(name)
    np.testing.assert_array_equal(pixels(Image.open(io.BytesIO(data))), decode(data))
    loaded = Image.open(io.BytesIO(data))
    loaded.load()
    np.testing.assert_array_equal(pixels(loaded), decode(data))


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "PA", "La", "RGBa", "RGBX"])
def test_modes_without_a_file_are_converted(mode):
    source = {
        "PA": Image.fromarray(ALPHA).convert("LA"),
        "La": Image.fromarray(ALPHA).convert("LA"),
    }
    image = source.get(mode, Image.fromarray(ALPHA if "RGBa" == mode else COLOUR))
    if mode == "LAB":
        from PIL import ImageCms

        rgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, rgb, lab, outputMode="LAB")
    else:
        image = image.convert(mode)
    found = pixels(image)
    assert found.dtype == np.uint8 and found.shape == (6, 9, 3)


def test_values_beyond_sixteen_bits_are_refused():
    with pytest.raises(ValueError, match="given as a PIL image: pixels of mode [IF]"):
        pixels(Image.fromarray(DEEP.astype(np.int32) * 1000))
    with pytest.raises(ValueError, match="given as a PIL image: pixels of mode F"):
        pixels(Image.fromarray(DEEP.astype(np.float32)))


def test_arrays_are_taken_as_they_are():
    assert pixels(COLOUR) is COLOUR


def test_a_network_reads_one_image_of_either_kind():
    model = zoo.load_model("resnet20_cifar10", random_init_seed=0)
    image = Image.open(io.BytesIO(written("turned png")))
    upright = decode(written("turned png"))
    expected = model.activations(upright[None], "layer2", "max")
    for given in (upright, image, [image], [upright]):
        np.testing.assert_array_equal(model.activations(given, "layer2", "max"), expected)
    assert model.logits(image).shape == (1, 10)
    with pytest.raises(ValueError, match="no images"):
        model.logits(np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="image is float64 of shape"):
        model.logits([upright / 255])
