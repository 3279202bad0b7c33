"""Decoded DICOM values: rescaled, coloured and compressed in every way, against arrays known before."""

import gdcm
import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_samples import bad, change, compress, dataset, ramp, read_all, save, write_series
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
)


@pytest.mark.parametrize(
    ("stored", "elements", "dtype"),
    [
        ("uint16", {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024}, "int16"),
        ("int16", {"RescaleIntercept": 0, "RescaleSlope": 1}, "int16"),
        ("int16", {"RescaleIntercept": -1024, "RescaleSlope": 1}, "float32"),  # -33792 would not fit
        ("uint16", {}, "uint16"),
        ("uint8", {}, "uint8"),
        ("uint8", {"RescaleSlope": 2, "RescaleIntercept": -3}, "int16"),
        ("uint16", {"RescaleSlope": "0.25", "RescaleIntercept": 10}, "float32"),
        ("uint16", {"RescaleSlope": "", "RescaleIntercept": ""}, "uint16"),
    ],
)
def test_rescaled_values_stay_integers_where_all_fit(tmp_path, stored, elements, dtype):
    volume = ramp((2, 3, 4), stored)
    write_series(tmp_path, volume, **elements)
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.dtype == dtype
    slope, intercept = (
        float(elements.get(key) or none) for key, none in (("RescaleSlope", 1), ("RescaleIntercept", 0))
    )
    np.testing.assert_array_equal(image.image[..., 0], volume.transpose(2, 1, 0)[::-1, ::-1] * slope + intercept)


def test_every_file_is_rescaled_by_its_own_slope(tmp_path):
    write_series(tmp_path, ramp((2, 3, 4)), RescaleIntercept=0)
    ds = pydicom.dcmread(tmp_path / "IM1")
    ds.RescaleSlope = "0.5"
    save(tmp_path / "IM1", ds)
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.dtype == np.float32
    assert image.image[-1, -1, :, 0].tolist() == [0, 6]


def test_monochrome1_is_turned_over(tmp_path):
    stored = ramp((3, 4), "uint16")
    save(
        tmp_path / "a",
        dataset(stored, PhotometricInterpretation="MONOCHROME1", Modality="DX", BitsStored=12, HighBit=11),
    )
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.dtype == np.int16
    np.testing.assert_array_equal(image.image[..., 0], 4095 - stored.astype(int))


def test_colour_is_read_as_rgb(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    save(tmp_path / "rgb", dataset(colours, storage=SecondaryCaptureImageStorage, Modality="OT"))
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert (spec.channels, spec.dtype) == (("red", "green", "blue"), np.uint8)
    np.testing.assert_array_equal(image.image, colours)
    save(tmp_path / "grey", dataset(ramp((4, 6), "uint8"), Modality="OT"))
    assert [len(spec.channels) for _, spec, _ in read_all(tmp_path)] == [3, 3]
    (_, _, _), (_, spec, (grey,)) = read_all(tmp_path, colour="grey")
    assert spec.channels == ("grey",)
    np.testing.assert_allclose(grey.image[..., 0], colours @ [0.299, 0.587, 0.114], atol=0.51)


def test_ybr_and_palettes_become_rgb(tmp_path):
    ybr = np.full((2, 2, 3), (76, 85, 255), np.uint8)  # pure red
    save(tmp_path / "a", dataset(ybr, PhotometricInterpretation="YBR_FULL", Modality="US"))
    ramps = [np.arange(256, dtype=np.uint8), np.arange(255, -1, -1, dtype=np.uint8), np.full(256, 7, np.uint8)]
    palette = {"PhotometricInterpretation": "PALETTE COLOR", "Modality": "US"}
    for name, lut in zip(("Red", "Green", "Blue"), ramps, strict=True):
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
        palette[f"{name}PaletteColorLookupTableData"] = lut.tobytes()
    save(tmp_path / "b", dataset(ramp((2, 4), "uint8"), **palette))
    (_, _, (red,)), (_, spec, (mapped,)) = read_all(tmp_path)
    np.testing.assert_allclose(red.image[0, 0], (255, 0, 0), atol=2)
    assert (spec.dtype, len(spec.channels)) == (np.uint8, 3)
    np.testing.assert_array_equal(mapped.image[1, 3], (7, 248, 7))


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_uncompressed_syntaxes(tmp_path, syntax):
    stored = ramp((3, 4))
    ds = dataset(stored, Modality="DX")
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = stored.astype(">i2").tobytes()
        ds["PixelData"].VR = "OW"
    save(tmp_path / "a", ds)
    ((_, _, (image,)),) = read_all(tmp_path)
    np.testing.assert_array_equal(image.image[..., 0], stored)


COMPRESSED = [
    gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    gdcm.TransferSyntax.JPEGLSLossless,
    gdcm.TransferSyntax.JPEG2000Lossless,
    gdcm.TransferSyntax.RLELossless,
]


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_lossless_compression_comes_back_exactly(tmp_path, syntax):
    stored = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    path = save(tmp_path / "a", dataset(stored, Modality="DX"))
    compress(path, syntax)
    ((_, _, (image,)),) = read_all(tmp_path)
    np.testing.assert_array_equal(image.image[..., 0], stored)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_compressed_frames_cut_off_are_refused(tmp_path, syntax):
    """Inside a whole DICOM file, where the codecs would fill up the rest of the picture without a word."""
    stored = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    path = save(tmp_path / "a", dataset(stored, Modality="DX"))
    compress(path, syntax)
    ds = pydicom.dcmread(path)
    (frame,) = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = pydicom.encaps.encapsulate([frame[: len(frame) // 2]])
    save(path, ds)
    bad(tmp_path, "cannot be decoded .*(the frame is cut off|RLE)")


def test_pydicoms_own_rle_and_several_frames(tmp_path):
    volume = ramp((3, 4, 4), "uint16")
    ds = dataset(volume, NumberOfFrames=3)
    ds.compress(RLELossless, generate_instance_uid=False)
    save(tmp_path / "a", ds)
    ((_, _, (image,)),) = read_all(tmp_path)
    np.testing.assert_array_equal(image.image[..., 0], volume.transpose(2, 1, 0)[::-1, ::-1])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEG2000Lossless, lambda image: imagecodecs.jpeg2k_encode(image, level=0, codecformat="J2K")),
        (HTJ2KLossless, lambda image: imagecodecs.htj2k_encode(image)),
        (JPEGLosslessSV1, lambda image: imagecodecs.ljpeg_encode(image.view(np.uint16))),
    ],
)
def test_signed_values_survive_compression(tmp_path, syntax, encode, signed):
    stored = ramp((16, 16)) * 7 - 900 if signed else ramp((16, 16), "uint16") * 7
    ds = dataset(stored, Modality="DX")
    ds.PixelData = pydicom.encaps.encapsulate([bytes(encode(stored))])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    save(tmp_path / "a", ds)
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.dtype == stored.dtype
    np.testing.assert_array_equal(image.image[..., 0], stored)


@pytest.mark.parametrize("interpretation", ["YBR_FULL_422", "RGB"])
def test_colour_jpeg_is_read_by_its_photometric_interpretation(tmp_path, interpretation):
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[..., 0], colours[:8, :, 1] = 200, 150
    space = "RGB" if interpretation == "RGB" else "YCBCR"
    ds = dataset(colours, Modality="US", PhotometricInterpretation=interpretation)
    frame = imagecodecs.jpeg8_encode(colours, level=100, colorspace="RGB", outcolorspace=space, subsampling="444")
    ds.PixelData = pydicom.encaps.encapsulate([bytes(frame)])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    save(tmp_path / "a", ds)
    ((_, _, (image,)),) = read_all(tmp_path)
    np.testing.assert_allclose(image.image, colours.astype(int), atol=4)


def test_an_unsupported_syntax_is_named(tmp_path):
    ds = dataset(ramp((3, 4)), Modality="DX")
    ds.PixelData = pydicom.encaps.encapsulate([b"not a codestream" * 4])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    save(tmp_path / "a", ds)
    bad(tmp_path, "MPEG2 Main Profile / Main Level.*cannot be decoded")


def test_bits_beyond_the_stated_ones_are_no_part_of_a_value(tmp_path):
    """DICOM once kept overlays there."""
    save(tmp_path / "a", dataset(ramp((3, 4), "uint16") + 256, Modality="DX", BitsStored=8, HighBit=7))
    ((_, spec, (image,)),) = read_all(tmp_path)
    assert spec.dtype == np.uint8
    np.testing.assert_array_equal(image.image[..., 0], ramp((3, 4)))


@pytest.mark.parametrize("syntax", [gdcm.TransferSyntax.JPEGLSLossless, gdcm.TransferSyntax.JPEG2000Lossless])
def test_compressed_values_beyond_the_stated_bits_are_refused(tmp_path, syntax):
    path = save(tmp_path / "a", dataset(ramp((16, 16), "uint16") * 100, Modality="DX"))
    compress(path, syntax)
    change(path, BitsStored=8, HighBit=7)
    bad(tmp_path, "holds values from 0 to 25500, beyond its BitsStored: 0 to 255")


def test_float_pixels_are_read_and_their_nans_found(tmp_path):
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    ds = dataset(values, Modality="DX")
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.FloatPixelData = values.tobytes()
    save(tmp_path / "a", ds)
    ((_, _, (image,)),) = read_all(tmp_path)
    np.testing.assert_array_equal(image.image[..., 0], values)
    values[1, 1] = np.nan
    ds.FloatPixelData = values.tobytes()
    save(tmp_path / "a", ds)
    bad(tmp_path, "NaN or infinite")
