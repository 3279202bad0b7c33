"""Tiny DICOM files, and what the reader makes of them: shared by the tests of the DICOM modules."""

import warnings

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from memjax.data.readers.base import BadFile, ReadOptions
from memjax.data.readers.dicom import Dicom

AXIAL = [1, 0, 0, 0, 1, 0]


SERIES = "1.2.3.4"


def dataset(stored, *, storage=CTImageStorage, **elements):
    """An image [rows, columns], [frames, rows, columns] or [..., 3] with the elements that decoding needs."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = storage
    ds.SOPInstanceUID = generate_uid()
    ds.PatientID = "P1"
    ds.SeriesInstanceUID = SERIES
    ds.Modality = "CT"
    samples = 3 if stored.ndim > 2 and stored.shape[-1] == 3 else 1
    ds.Rows, ds.Columns = stored.shape[-3:-1] if samples == 3 else stored.shape[-2:]
    ds.SamplesPerPixel = samples
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        ds.PlanarConfiguration = 0
    bits = 8 * stored.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def save(path, ds):
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some values are wrong on purpose
        ds.save_as(path, enforce_file_format=True)
    return path


def ramp(shape, dtype="int16"):
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def write_series(folder, volume, *, gap=2.5, orientation=AXIAL, order=None, **elements):
    """One file a slice of a volume [slice, row, column]; `order` is the order of the files' names."""
    normal = np.cross(orientation[:3], orientation[3:])
    for place, z in enumerate(order or range(len(volume))):
        position = [float(value) for value in normal * gap * z]
        place_elements = {
            "ImagePositionPatient": position,
            "ImageOrientationPatient": list(orientation),
            "PixelSpacing": [0.5, 0.75],
            **elements,
        }
        save(folder / f"IM{place}", dataset(volume[z], **place_elements))


def read_all(root, **options):
    reader = Dicom(root, ReadOptions(**options))
    found = []
    for unit in reader.scan().units:
        spec = reader.probe(unit)
        images = reader.read(unit)
        assert spec.count == len(images)
        for image in images:
            assert image.image.shape == (*spec.space, len(spec.channels))
            assert image.image.dtype == spec.dtype
        found.append((unit, spec, images))
    return found


def bad(root, match, unit=0, **options):
    reader = Dicom(root, ReadOptions(**options))
    with pytest.raises(BadFile, match=match) as caught:
        reader.read(reader.scan().units[unit])
    assert "\n" not in str(caught.value)


def messages(root):
    """What is said of each bad unit, one a line."""
    reader = Dicom(root, ReadOptions())
    said = []
    for unit in reader.scan().units:
        try:
            reader.read(unit)
        except BadFile as error:
            said.append(str(error))
    return "\n".join(said)


def change(path, **elements):
    ds = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    save(path, ds)


def compress(path, syntax):
    """Let gdcm write a file's pixels in another transfer syntax."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
