"""Decode JPEG, JPEG-LS, JPEG 2000 and HTJ2K frames for pydicom with imagecodecs: a decoder plugin.

imagecodecs raises on damage. GDCM, which pydicom would take first, ends the whole process on a damaged Huffman table.
The codecs fill up a frame that is cut off without a word, so its end is looked for here.
"""

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels.decoders.base import DecodeRunner, get_decoder

NAME = "imagecodecs"

# JPEG: baseline, extended and lossless alike.
_CODECS = (
    dict.fromkeys(uid.JPEGTransferSyntaxes, imagecodecs.jpeg8_decode)
    | dict.fromkeys(uid.JPEGLSTransferSyntaxes, imagecodecs.jpegls_decode)
    | dict.fromkeys((uid.JPEG2000Lossless, uid.JPEG2000), imagecodecs.jpeg2k_decode)
    | dict.fromkeys((uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K), imagecodecs.htj2k_decode)
)
SYNTAXES = tuple(_CODECS)

_END_OF_IMAGE = b"\xff\xd9"  # of all these formats; it occurs nowhere else in their data
_PADDING_BYTES = 16

DECODER_DEPENDENCIES = dict.fromkeys(SYNTAXES, ("imagecodecs",))  # pydicom asks for this name


def is_available(syntax: str) -> bool:
    """Say whether a transfer syntax is decoded here (pydicom asks)."""
    return syntax in _CODECS


def decode_frame(frame: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame as pydicom asks a plugin to, and tell `runner` in which form it comes.

    Colour is left as encoded, for pydicom to convert by the PhotometricInterpretation; but JPEG 2000 itself says that
    its components are transformed, and comes back as RGB.

    Raises:
      ValueError: the frame is cut off, or has another shape than the header says.
    """
    if _END_OF_IMAGE not in frame[-_PADDING_BYTES:]:
        raise ValueError("the frame is cut off")
    array = _decoded(frame, runner)
    expected = (runner.rows, runner.columns, runner.samples_per_pixel)
    if array.shape != (expected if expected[2] > 1 else expected[:2]):
        raise ValueError(f"the frame has the shape {array.shape}, the header says {expected}")
    runner.set_option("bits_allocated", 8 * array.dtype.itemsize)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        runner.set_option("photometric_interpretation", "RGB")
    return array.tobytes()


def _decoded(frame: bytes, runner: DecodeRunner) -> np.ndarray:
    if runner.transfer_syntax in uid.JPEGTransferSyntaxes and runner.samples_per_pixel > 1:
        space = "YCBCR" if runner.photometric_interpretation.startswith("YBR") else "RGB"
        return imagecodecs.jpeg8_decode(frame, colorspace=space, outcolorspace=space)
    return _CODECS[runner.transfer_syntax](frame)


for _syntax in SYNTAXES:
    get_decoder(_syntax).add_plugin(NAME, (__name__, "decode_frame"))
