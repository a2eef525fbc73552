"""What an encoded image will take to decode, read from its header before anything is decoded."""

import struct

import tensorflow as tf

_GIF_IMAGE, _GIF_EXTENSION = 0x2C, 0x21


def count_pixels(contents):
    """The pixels of an encoded PNG, JPEG, BMP or GIF (a GIF's in all of its frames).

    Raises:
        ValueError: with the reason, where `contents` are not an image, or one that TensorFlow
            would decode wrongly.
    """
    for magic, count in _FORMATS.items():
        if contents.startswith(magic):
            try:
                return count(contents)
            except (struct.error, IndexError, tf.errors.InvalidArgumentError) as error:
                raise ValueError("corrupt or truncated image") from error
    raise ValueError("not a PNG, JPEG, BMP or GIF image" if contents else "the file is empty")


def _png(contents):
    width, height = struct.unpack_from(">II", contents, 16)
    return width * height


def _jpeg(contents):
    height, width, _ = tf.io.extract_jpeg_shape(contents).numpy().tolist()
    return width * height


def _bmp(contents):
    pixels_at, header, width, height, _, bits, compression = struct.unpack_from(
        "<IIiiHHI", contents, 10
    )
    if bits not in (8, 24, 32) or compression not in (0, 3):
        raise ValueError("BMP image of a kind that is not supported (24 bits uncompressed is)")
    palette = contents[14 + header:pixels_at]
    if bits == 8 and any(len(set(palette[i:i + 3])) > 1 for i in range(0, len(palette), 4)):
        # TensorFlow would take the indices for shades of grey.
        raise ValueError("BMP image with a colour palette, which is not supported")
    return abs(width * height)


def _gif(contents):
    """The sum over the frames: TensorFlow decodes them all, and takes their size from them."""
    total, at = 0, 13 + _gif_table(contents[10])
    while at < len(contents) and contents[at] in (_GIF_IMAGE, _GIF_EXTENSION):
        if contents[at] == _GIF_IMAGE:
            width, height = struct.unpack_from("<HH", contents, at + 5)
            total += width * height
            at += 11 + _gif_table(contents[at + 9])
        else:
            at += 2
        while contents[at]:
            at += 1 + contents[at]
        at += 1
    return total


def _gif_table(flags):
    """The bytes of the colour table that `flags` announce."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0


_FORMATS = {b"\x89PNG\r\n\x1a\n": _png, b"\xff\xd8\xff": _jpeg, b"BM": _bmp, b"GIF8": _gif}
