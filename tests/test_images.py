"""Decoding: every mode and every kind of damage.

Fitting: Pillow, transformers, torch and TensorFlow's formula as references.
"""

import io

import jax
import numpy as np
import pytest
from PIL import Image

from jaxle.images import Preprocess, decode


def picture(height=24, width=32, seed=0):
    """A smooth random picture: JPEG keeps it nearly as it is."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, form="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


# decode: what works


@pytest.mark.parametrize("form", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_keep_every_pixel(form):
    assert np.array_equal(decode(encoded(picture(), form)), picture())


def test_path_and_bytes_decode_alike(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(picture(), "JPEG"))
    for given in (path, str(path)):
        assert np.array_equal(decode(given), decode(path.read_bytes()))


def test_greyscale_repeats_its_samples():
    grey = picture()[:, :, 0]
    assert np.array_equal(decode(encoded(grey)), np.stack([grey] * 3, axis=2))
    assert decode(encoded(grey, "JPEG")).shape == (24, 32, 3)


def test_sixteen_bit_greyscale_keeps_the_high_byte():
    samples = np.array([[0, 255, 256], [65535, 40000, 511]], np.uint16)
    assert np.array_equal(decode(encoded(samples))[:, :, 1], samples >> 8)
    assert np.array_equal(decode(encoded(samples, "TIFF"))[:, :, 2], samples >> 8)


def test_one_bit_becomes_black_and_white():
    bits = np.array([[0, 1], [1, 1]], bool)
    assert np.array_equal(decode(encoded(bits))[:, :, 0], bits * np.uint8(255))


def test_cmyk_jpeg_shows_its_colours():
    red = Image.new("RGB", (16, 16), (200, 30, 40)).convert("CMYK")
    assert np.abs(decode(encoded(red, "JPEG", quality=95)).astype(int) - [200, 30, 40]).max() <= 4


def test_alpha_is_laid_over_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 100
    rgba[0, :, 3] = [0, 51, 255]  # transparent, a fifth, opaque
    assert decode(encoded(rgba))[0].tolist() == [[255, 255, 255], [224, 204, 204], [100, 0, 0]]
    grey_alpha = np.array([[[7, 0], [7, 255]]], np.uint8)
    assert decode(encoded(grey_alpha))[0].tolist() == [[255] * 3, [7] * 3]


def test_palette_with_and_without_transparency():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode(encoded(palette))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert decode(encoded(palette, transparency=0))[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    assert decode(encoded(palette, "GIF"))[0].tolist() == [[10, 20, 30], [200, 100, 50]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(orientation):
    upright = picture()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
    }
    stored |= {
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(stored[orientation]), "PNG", exif=exif)
    assert np.array_equal(decode(data), upright)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow tells of the damage
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"]
)
def test_damaged_exif_does_not_cost_the_picture(exif):
    assert decode(encoded(picture(), "JPEG", exif=exif)).shape == (24, 32, 3)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


# decode: what is refused, and how


@pytest.fixture
def refused(tmp_path):
    def message(content, name="bad.jpg"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            decode(path)
        text = str(caught.value)
        assert str(path) in text and "\n" not in text
        return text

    return message


def test_text_named_jpg(refused):
    assert "not a picture; it begins with b'hello world" in refused(b"hello world, this is text")


def test_empty_file(refused):
    assert "0 bytes" in refused(b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6])
def test_truncated_file(refused, form, kept):
    data = encoded(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), form)
    assert "cannot decode image" in refused(data[: int(kept * len(data))])


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow tells of some of the damage before it fails, or goes on
def test_damaged_bytes_never_raise_anything_else(tmp_path):
    generator = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = np.frombuffer(encoded(picture(), form), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[generator.integers(0, len(data), 8)] = generator.integers(0, 256, 8)
            try:
                assert decode(data.tobytes(), "record 7").dtype == np.uint8
            except ValueError as error:
                assert "record 7" in str(error)


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot read image .*absent.png: No such file"):
        decode(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="cannot read image .*: Is a directory"):
        decode(tmp_path)


@pytest.mark.parametrize("pixels", [(24 * 32) - 1, (24 * 32) // 3])
def test_decompression_bomb(refused, monkeypatch, pixels):
    data = encoded(picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    assert f"more than {pixels} pixels" in refused(data, "bomb.png")


def test_unscalable_samples(refused):
    assert "expected 8 or 16 bits" in refused(
        encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    )
    assert "expected 8 or 16 bits" in refused(
        encoded(Image.fromarray(np.full((2, 2), 70000, np.int32)), "TIFF")
    )


# fit


@pytest.mark.parametrize(
    "shape", [(300, 400), (400, 300), (301, 333), (256, 256), (37, 500), (20, 21)]
)
def test_torchvision_family_is_pillow_then_a_centre_crop(shape):
    image = picture(*shape)
    fitted = Preprocess("shorter_side", 224, crop=224 / 256).fit(image)
    height, width = shape
    size = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = round((whole.shape[0] - 224) / 2), round((whole.shape[1] - 224) / 2)
    assert np.array_equal(fitted, whole[top : top + 224, left : left + 224])


@pytest.mark.parametrize("margin", [224, 232, 246, 248, 256])
def test_crop_share_gives_back_the_resized_side(margin):
    image = picture(margin, margin)
    off = round((margin - 224) / 2)
    assert np.array_equal(
        Preprocess("shorter_side", 224, crop=224 / margin).fit(image),
        image[off : off + 224, off : off + 224],
    )


def test_torchvision_family_against_torch_antialias(torch):
    image = picture(300, 400)
    fitted = Preprocess("shorter_side", 224, crop=224 / 256).fit(image)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    whole = (
        torch.nn.functional.interpolate(tensor, (256, 341), mode="bilinear", antialias=True)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    left = round((341 - 224) / 2)
    assert np.abs(fitted.astype(int) - whole[16:240, left : left + 224].astype(int)).max() <= 1


def test_siglip_family_equals_the_transformers_processor():
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    processor = SiglipImageProcessorPil(size={"height": 96, "width": 96})
    ours = Preprocess("squash", 96, interpolation="bicubic")
    for seed, shape in enumerate([(300, 400), (50, 40), (96, 96)]):
        image = picture(*shape, seed=seed)
        expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][
            0
        ].transpose(1, 2, 0)
        got = np.asarray(ours.normalise(ours.fit(image)[None]))[0]
        np.testing.assert_allclose(got, expected, atol=2e-7)


def test_clip_family_equals_the_transformers_processor():
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil()
    ours = Preprocess(
        "shorter_side",
        224,
        interpolation="bicubic",
        mean=processor.image_mean,
        std=processor.image_std,
    )
    for seed, shape in enumerate([(300, 400), (400, 300), (224, 224)]):
        image = picture(*shape, seed=seed)
        expected = processor(Image.fromarray(image), return_tensors="np")["pixel_values"][
            0
        ].transpose(1, 2, 0)
        np.testing.assert_allclose(
            np.asarray(ours.normalise(ours.fit(image)[None]))[0], expected, atol=1e-6
        )


def test_big_vision_family_by_hand():
    image = np.zeros((1, 4, 3), np.uint8)
    image[0, :, 0] = [0, 100, 201, 255]
    # halved: output x sits between source 2x and 2x + 1: (0 + 100) / 2 = 50, (201 + 255) / 2 = 228
    fitted = Preprocess("squash", 2, interpolation="bilinear_no_antialias").fit(image)
    assert fitted[:, :, 0].tolist() == [[50, 228], [50, 228]]
    image[0, 3, 0] = 254  # 227.5 is cast, so truncated
    assert Preprocess("squash", 2, interpolation="bilinear_no_antialias").fit(image)[0, 1, 0] == 227


@pytest.mark.parametrize("shape", [(300, 400), (40, 30), (97, 64), (1, 1)])
def test_big_vision_family_against_torch_and_its_definition(torch, shape):
    image = picture(*shape)
    fitted = Preprocess("squash", 64, interpolation="bilinear_no_antialias").fit(image)
    tensor = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    smooth = (
        torch.nn.functional.interpolate(tensor, (64, 64), mode="bilinear", align_corners=False)[0]
        .permute(1, 2, 0)
        .numpy()
    )
    assert np.abs(fitted - smooth).max() <= 1.001  # the cast truncates
    assert (
        np.array_equal(fitted, np.floor(smooth + 1e-4))
        or np.abs(fitted - np.floor(smooth)).mean() < 1e-3
    )
    weights = [triangles(n, 64) for n in shape]
    assert (
        np.abs(
            fitted - np.einsum("yr,rcd,xc->yxd", weights[0], image, weights[1], optimize=True)
        ).max()
        <= 1.001
    )


def triangles(old, new):
    """Weights (new, old) of tf.image.resize along one side, from its definition.

    A triangle one source pixel wide, edges repeated.
    """
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))


def test_none_leaves_the_right_size_alone_and_squashes_the_rest():
    exact = picture(32, 32)
    cifar = Preprocess("none", 32)
    assert np.array_equal(cifar.fit(exact), exact)
    assert np.array_equal(cifar.fit(picture(40, 80)), Preprocess("squash", 32).fit(picture(40, 80)))


@pytest.mark.parametrize("resize", ["none", "shorter_side", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "bilinear_no_antialias"])
def test_constant_picture_stays_constant(resize, interpolation):
    image = np.full((37, 61, 3), 131, np.uint8)
    fitted = Preprocess(resize, 24, interpolation=interpolation).fit(image)
    assert fitted.shape == (24, 24, 3) and fitted.dtype == np.uint8 and (fitted == 131).all()


def test_fit_refuses_other_arrays_and_extreme_shapes(monkeypatch):
    preprocess = Preprocess("shorter_side", 224)
    for wrong in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ):
        with pytest.raises(ValueError, match=r"expected uint8 \(height, width, 3\)"):
            preprocess.fit(wrong)
    with pytest.raises(ValueError, match="too narrow"):
        preprocess.fit(np.zeros((1, 4000, 3), np.uint8))


def test_every_photograph_decodes_and_fits(test_data):
    families = [
        Preprocess("shorter_side", 224, crop=224 / 256),
        Preprocess("squash", 96, interpolation="bilinear_no_antialias"),
    ]
    paths = sorted((test_data / "photos").glob("*/*.jpg"))
    assert len(paths) == 229
    grey = 0
    for path in paths:
        image = decode(path)
        grey += (image == image[:, :, :1]).all()
        for family in families:
            assert family.fit(image).shape == (family.size, family.size, 3)
    assert grey  # some are greyscale


# the record, and the device's part


def test_normalise_inside_jit():
    preprocess = Preprocess("none", 2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images = np.array([0, 128, 255] * 8, np.uint8).reshape(2, 2, 2, 3)
    out = jax.jit(preprocess.normalise)(images)
    assert out.dtype == np.float32
    expected = (images / 255.0 - np.array(preprocess.mean)) / np.array(preprocess.std)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resize": "stretch"}, "resize is 'stretch'; expected one of none, shorter_side, squash"),
        (
            {"interpolation": "nearest"},
            "interpolation is 'nearest'; expected one of bilinear, bicubic, bilinear_no_antialias",
        ),
        ({"size": 0}, "size is 0"),
        ({"crop": 224}, r"crop is 224; expected a share in \(0, 1\]"),
        ({"mean": (0.5,)}, "mean is .*three numbers"),
        ({"std": (1, 0, 1)}, "std is .*all above 0"),
    ],
)
def test_wrong_field_names_the_valid_ones(fields, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**({"resize": "none", "size": 8} | fields))


def test_record_compares_and_hashes_by_value():
    assert Preprocess("squash", 8, mean=[0, 0, 0]) == Preprocess("squash", 8, mean=(0.0, 0.0, 0.0))
    assert len({Preprocess("squash", 8), Preprocess("squash", 8)}) == 1
