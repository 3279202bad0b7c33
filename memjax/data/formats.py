"""Which reader an input needs: one table, and the look at a folder that picks from it."""

from pathlib import Path

from memjax.data.readers.base import PLANES, Reader, ReadOptions
from memjax.data.store import is_store
from memjax.errors import UserError

FORMATS = ("auto", "brats", "nifti", "dicom", "images", "array", "mrnet", "store")

_ENDINGS = {
    "nifti": (".nii", ".nii.gz"),
    "images": (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp"),
    "array": (".npy", ".npz"),
}


def open_reader(root: Path, name: str, options: ReadOptions) -> Reader:
    """Return the reader of a format ("auto": the one that fits) for an input file or folder.

    Raises:
      UserError: there is no such input, nothing readable in it, or more than one kind of image.
    """
    if not root.exists():
        raise UserError(f"{root} does not exist; give the folder or file that holds the images.")
    match guess_format(root) if name == "auto" else name:
        case "store":
            from memjax.data.readers.stores import Stores as Chosen
        case "brats":
            from memjax.data.readers.brats import Brats as Chosen
        case "nifti":
            from memjax.data.readers.nifti import Nifti as Chosen
        case "dicom":
            from memjax.data.readers.dicom import Dicom as Chosen
        case "images":
            from memjax.data.readers.pictures import Pictures as Chosen
        case "array":
            from memjax.data.readers.arrays import Arrays as Chosen
        case "mrnet":
            from memjax.data.readers.mrnet import MRNet as Chosen

            root = _mrnet_folder(root) or root
        case other:
            raise UserError(f"--format={other} is not known; choose one of {', '.join(FORMATS)}.")
    return Chosen(root, options)


def guess_format(root: Path) -> str:
    """Name the format of a file or folder by its layout and its files' endings (DICOM: by content)."""
    from memjax.data.readers.brats import looks_like_brats
    from memjax.data.readers.dicom import looks_like_dicom
    from memjax.data.readers.files import find_files

    if is_store(root):
        return "store"
    if (root / "journal.jsonl").is_file() and (root / "images.npy").is_file():
        raise UserError(f"{root} is an unfinished image store; run the command that makes it again, to its end.")
    counts = {name: len(find_files(root, endings)) for name, endings in _ENDINGS.items()}
    found = [name for name, count in counts.items() if count]
    if found == ["nifti"]:
        return "brats" if looks_like_brats(root) else "nifti"
    if found == ["array"]:
        return "mrnet" if _mrnet_folder(root) else "array"
    if len(found) == 1:
        return found[0]
    if not found and looks_like_dicom(root):
        return "dicom"
    if not found:
        raise UserError(
            f"{root} holds no image that can be read (NIfTI, DICOM, PNG, JPEG, TIFF, BMP, npy, npz); "
            "give the folder or file that holds the images."
        )
    kinds = ", ".join(f"{counts[name]} {name}" for name in found)
    raise UserError(f"{root} holds more than one kind of image ({kinds}); say which is meant with --format.")


def _mrnet_folder(root: Path) -> Path | None:
    """Find MRNet's own folder at `root` or up to two levels below: the one with `train/sagittal` or the like."""
    for folders in ([root], sorted(root.glob("*")), sorted(root.glob("*/*"))):
        for folder in folders:
            if any((folder / part / plane).is_dir() for part in ("train", "valid") for plane in PLANES):
                return folder
    return None
