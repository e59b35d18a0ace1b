"""Bytes to pixels, compared with Pillow; broken and hostile files."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from twinlens.data import images
from twinlens.errors import BrokenImageError


def photo(height=60, width=84) -> Image.Image:
    """Soft colours, as in a photograph; no two corners alike."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(7 * rows), np.cos(9 * columns), np.sin(5 * rows + 4 * columns)]
    return Image.fromarray(np.uint8(np.stack(waves, axis=-1) * 90 + 128))


def clear_photo() -> Image.Image:
    """A photograph whose transparency grows from left to right."""
    picture = photo().convert("RGBA")
    alpha = np.tile(np.linspace(0, 255, 84, dtype=np.uint8), (60, 1))
    picture.putalpha(Image.fromarray(alpha))
    return picture


def written(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def by_pillow(contents: bytes) -> np.ndarray:
    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(contents)))
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def difference(first, second) -> float:
    assert first.shape == second.shape
    return np.abs(np.asarray(first, float) - np.asarray(second, float)).mean()


palette = photo().quantize(16)
exif = Image.Exif()
exif[0x0112] = 6
FILES = {
    "jpeg": (written(photo(), "JPEG"), 0),
    "jpeg progressive": (written(photo(), "JPEG", progressive=True), 0),
    "jpeg 4:4:4": (written(photo(), "JPEG", subsampling=0), 0),
    "jpeg grey": (written(photo().convert("L"), "JPEG"), 0),
    "jpeg cmyk": (written(photo().convert("CMYK"), "JPEG"), 1.5),
    "png": (written(photo(), "PNG"), 0),
    "png grey": (written(photo().convert("L"), "PNG"), 0),
    "png bits": (written(photo().convert("1"), "PNG"), 0),
    "png palette": (written(palette, "PNG"), 0),
    "png palette, one clear": (written(palette, "PNG", transparency=3), 0),
    "png palette, all partly": (
        written(palette, "PNG", transparency=bytes(range(0, 240, 15))),
        0.5,
    ),
    "png colour, one clear": (
        written(photo(), "PNG", transparency=photo().getpixel((5, 5))),
        0,
    ),
    "png alpha": (written(clear_photo(), "PNG"), 0.5),
    "png grey alpha": (written(clear_photo().convert("LA"), "PNG"), 0.5),
    "gif": (written(palette, "GIF"), 0),
    "gif clear": (written(palette, "GIF", transparency=3), 0),
    "gif with a comment": (
        written(palette, "GIF", transparency=3, comment=b"," * 700),
        0,
    ),
    "gif moving": (
        written(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        0,
    ),
    "bmp": (written(photo(), "BMP"), 0),
    "bmp grey": (written(photo().convert("L"), "BMP"), 0),
    "bmp palette": (written(palette, "BMP"), 0),
    "webp": (written(photo(), "WEBP"), 0.1),
    "webp lossless": (written(photo(), "WEBP", lossless=True), 0),
    "webp alpha": (written(clear_photo(), "WEBP", lossless=True), 0.5),
    "webp moving": (
        written(photo(), "WEBP", save_all=True, append_images=[photo().rotate(9)]),
        0.1,
    ),
    "webp moving, alpha": (
        written(
            clear_photo(),
            "WEBP",
            save_all=True,
            append_images=[clear_photo().rotate(9)],
        ),
        0.8,
    ),
    "one pixel": (written(photo(1, 1), "PNG"), 0),
    "one pixel jpeg": (written(photo(1, 1), "JPEG"), 0),
    "a line": (written(photo(1, 900), "JPEG"), 0),
}
decode = tf.function(images.decode, input_signature=[tf.TensorSpec((), tf.string)])


@pytest.mark.parametrize("name", FILES)
def test_every_kind_decodes_to_the_pixels_of_pillow(name):
    contents, tolerance = FILES[name]
    assert difference(decode(contents), by_pillow(contents)) <= tolerance


def test_sixteen_bits_a_channel_keep_the_high_byte():
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    pixels = decode(written(Image.fromarray(values), "PNG")).numpy()
    np.testing.assert_array_equal(pixels[..., 0], values >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_orientation_is_applied_in_both_byte_orders(orientation, order):
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x0131] = "A camera", orientation, "A program"
    contents = written(photo(), "JPEG", exif=exif)
    assert difference(decode(contents), by_pillow(contents)) == 0


def test_a_damaged_exif_header_leaves_the_picture_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = written(photo(), "JPEG", exif=exif)
    start = whole.index(b"Exif\0\0") + 6
    for at in range(start, start + 24):
        damaged = whole[:at] + b"\xff\xff" + whole[at + 2 :]
        assert sorted(decode(damaged).shape[:2]) == [60, 84]


@pytest.mark.parametrize("side", [(24, 24), (60, 299), (299, 299), (1, 40)])
def test_fit_is_the_bilinear_resize_of_pillow(side):
    picture = photo(*side)
    for size in (17, 40, 128):
        ours = images.fit(np.asarray(picture), size)
        resized = picture.resize((size, size), Image.Resampling.BILINEAR)
        assert difference(ours, np.asarray(resized)) < 0.6  # Pillow rounds twice


def test_padding_keeps_the_aspect_and_centres():
    picture = tf.fill((20, 40, 3), 255)
    padded = images.fit(picture, 10, "pad").numpy()[..., 0]
    np.testing.assert_array_equal(padded[:2], 0)
    np.testing.assert_allclose(
        padded[2:7], 255, rtol=1e-6
    )  # 5 of 10 rows; 2 above, 3 below
    np.testing.assert_array_equal(padded[7:], 0)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
@pytest.mark.parametrize("sides", [(1, 1), (1, 3000), (3000, 2)])
def test_odd_sizes_fit_and_keep_their_colour(resize, sides):
    picture = tf.fill((*sides, 3), 200)
    pixels = images.fit(picture, 32, resize).numpy()
    assert pixels.shape == (32, 32, 3)
    assert pixels.max() == pytest.approx(200, abs=1e-3)


def test_an_unknown_way_to_resize_is_refused():
    with pytest.raises(ValueError, match="resize is 'crop'; use 'stretch' or 'pad'"):
        images.fit(tf.zeros((4, 4, 3)), 8, "crop")


def test_a_large_jpeg_decoded_smaller_looks_the_same():
    contents = tf.constant(written(photo(900, 1300), "JPEG"))
    assert images.decode(contents, enough=200).shape == (225, 325, 3)
    fast = images.prepare(contents, 100)
    assert difference(fast, images.fit(decode(contents), 100)) < 0.5


def test_load_and_a_data_pipeline_give_the_same_pixels(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(FILES["jpeg"][0])
    data = tf.data.Dataset.from_tensors(str(path)).map(tf.io.read_file)
    (pixels,) = data.map(lambda contents: images.prepare(contents, 50, "pad"))
    np.testing.assert_array_equal(images.load(path, 50, "pad"), pixels)


def test_prepare_can_be_exported_and_loaded(tmp_path):
    module = tf.Module()
    module.prepare = tf.function(
        lambda contents: images.prepare(contents, 50),
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    contents = FILES["gif clear"][0]
    np.testing.assert_array_equal(
        tf.saved_model.load(str(tmp_path)).prepare(contents),
        images.prepare(tf.constant(contents), 50),
    )


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


jpeg = FILES["jpeg"][0]
frame_header = jpeg.index(b"\xff\xc0") + 5
BROKEN = {
    "empty": (b"", r"the file is empty \(0 bytes\)"),
    "text": (b"hello", "not a picture: .* begins with the bytes 68 65 6c 6c 6f. Leave"),
    "tiff": (written(photo(), "TIFF"), "a TIFF picture.* Convert it to JPEG or PNG"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC picture"),
    "html": (b"<!DOCTYPE html><html>", "an HTML page.* get the file again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1", "Run `git lfs pull`"),
    "cut jpeg": (jpeg[:900], r"JPEG data are damaged or cut short \(900 bytes\)"),
    "cut in the header": (jpeg[:100], "JPEG data are damaged or cut short"),
    "cut png": (FILES["png"][0][:900], "PNG data are damaged or cut short"),
    "cut gif": (FILES["gif"][0][:900], "GIF data are damaged or cut short"),
    "gif header": (FILES["gif"][0][:9], "GIF data are damaged or cut short"),
    "cut bmp": (FILES["bmp"][0][:900], "BMP data are damaged or cut short"),
    "cut webp": (FILES["webp"][0][:300], "WebP data are damaged or cut short"),
    "packed bmp": (written(photo().convert("1"), "BMP"), "a BMP of a rare form"),
    "large png": (
        png_header(10000, 10000),
        "10000 x 10000 pixels are more than 50,000",
    ),
    "large jpeg": (
        jpeg[:frame_header] + b"\xea\x60\xea\x61" + jpeg[frame_header + 4 :],
        "60001 x 60000 pixels are more than 50,000,000. Scale it down",
    ),
    "overflow": (png_header(2**32 - 1, 2**32 - 1), "are more than 50,000,000"),
    "no pixels": (png_header(0, 5), "0 x 5 pixels: there is nothing to see"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_its_reason(tmp_path, name):
    contents, reason = BROKEN[name]
    path = tmp_path / "broken.jpg"
    path.write_bytes(contents)
    with pytest.raises(BrokenImageError, match=rf"broken\.jpg: .*{reason}"):
        images.load(path, 32, "stretch")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        BrokenImageError, match="no.jpg: .*No such file.* Check the path"
    ):
        images.load(tmp_path / "no.jpg", 32, "stretch")


def test_a_graph_raises_the_reason():
    with pytest.raises(tf.errors.InvalidArgumentError, match="a TIFF picture"):
        decode(BROKEN["tiff"][0])


def test_augment_depends_on_nothing_but_the_seed():
    picture = np.asarray(photo())
    first = images.augment(picture, (1, 2))
    np.testing.assert_array_equal(first, images.augment(picture, (1, 2)))
    shapes = {tuple(images.augment(picture, (seed, 0)).shape) for seed in range(10)}
    assert len(shapes) > 5


def test_augment_without_changes_is_the_picture():
    off = dict(area_range=(1, 1), aspect_range=(1, 1), flip=False)
    light_off = dict(brightness=0, contrast=0, saturation=0)
    same = images.augment(np.asarray(photo()), (3, 4), **off, **light_off)
    assert difference(same, np.asarray(photo())) < 1e-3
    changed = images.augment(np.asarray(photo()), (3, 4), **off)
    assert difference(changed, np.asarray(photo())) > 1


def test_augment_crops_within_the_area_range_and_mirrors_half_the_time():
    picture = np.tile(np.arange(64, dtype=np.float32)[:, None], (48, 1, 3))
    light_off = dict(brightness=0, contrast=0, saturation=0)
    parts = [
        images.augment(picture, (seed, 7), area_range=(0.3, 0.6), **light_off).numpy()
        for seed in range(60)
    ]
    areas = [part.shape[0] * part.shape[1] / (48 * 64) for part in parts]
    assert 0.28 < min(areas) < 0.35 and 0.55 < max(areas) < 0.62
    mirrored = sum(part[0, 0, 0] > part[0, -1, 0] for part in parts)
    assert 15 < mirrored < 45
