"""Which files of a folder a reader takes, in which order, and which of them are masks rather than images."""

import os
import re
from pathlib import Path

from memjax.errors import UserError

MASK_REASON = "its name says that it is a mask (read with --with_masks)"

_NUMBER = re.compile("([0-9]+)")

# BUSI numbers several masks of one picture (`benign (4)_mask_1.png`); BIDS says `dseg` and `probseg`.
_MASK_WORDS = r"masks?(?:[_-]?[0-9]{1,2})?|(?:d|prob)?seg|segmentations?|labels?|ground_?truth|gt"
_MASK_STEM = re.compile(rf"(?:^|[_\-. ])(?:{_MASK_WORDS})$", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"masks?|labels?(?:tr|ts)?|segs?|segmentations?|annotations?|ground_?truths?", re.IGNORECASE)


def find_files(root: Path, endings: tuple[str, ...]) -> list[Path]:
    """Return the files at or below `root` whose names end in one of `endings` (any case), in natural order.

    Hidden files and folders (a leading dot) are left out. Links are followed, but each folder is entered once however
    many links lead to it, so that a loop ends and no file is found twice through linked folders. A link that leads
    nowhere is found like a file: reading it says what is wrong with it.

    Raises:
      UserError: `root` does not exist, or a folder cannot be listed.
    """
    endings = tuple(ending.lower() for ending in endings)
    if root.is_file():
        return [root] if root.name.lower().endswith(endings) else []
    if not root.is_dir():
        raise UserError(f"{root} does not exist; give the folder or file that holds the images.")
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    folders, links = [str(root)], []
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)  # links last: a folder's own name is the one to report
        files, inner, linked = _list_folder(folder, seen)
        found += [Path(folder, name) for name in files if name.lower().endswith(endings)]
        folders += inner
        links += linked
    return sorted(found, key=lambda path: natural_key(unit_name(path, root)))


def find_images(root: Path, endings: tuple[str, ...], *, with_masks: bool) -> tuple[list[Path], list[dict[str, str]]]:
    """Return the files to read, and those left out because their names say that they are masks, as in `Scan.left_out`.

    A file that is itself the root is read whatever its name.

    Raises:
      UserError: there is no image, or as `find_files`.
    """
    files = find_files(root, endings)
    is_asked_for = with_masks or files == [root]
    masks = [] if is_asked_for else [file for file in files if looks_like_mask(unit_name(file, root))]
    passed_over = set(masks)
    images = [file for file in files if file not in passed_over]
    if not images:
        only = "only files named as masks (give --with_masks)" if masks else f"no {', '.join(endings)} file"
        raise UserError(f"{root} holds {only}; give the folder or file that holds the images.")
    return images, [{"source": unit_name(mask, root), "reason": MASK_REASON} for mask in masks]


def unit_name(path: Path, root: Path) -> str:
    """Return a file's name as sources are written: its posix path relative to `root`, or its name if it is `root`."""
    return path.name if path == root else path.relative_to(root).as_posix()


def looks_like_mask(relative_name: str) -> bool:
    """Say whether a name means a mask or label map: a stem like `a_mask` or `a-seg`, or a folder like `labelsTr`."""
    *folders, name = relative_name.split("/")
    name = name[:-3] if name.lower().endswith(".gz") else name
    stem = name.rpartition(".")[0] or name
    return bool(_MASK_STEM.search(stem)) or any(_MASK_FOLDER.fullmatch(folder) for folder in folders)


def natural_key(text: str) -> tuple[tuple[str | int, ...], str]:
    """Return a sort key under which numbers count as numbers: `slice2` before `slice10`.

    The text itself breaks ties (`1` and `01`), so that the order never depends on the file system.
    """
    parts = _NUMBER.split(text)  # text and number by turns, so that like is compared with like
    return tuple(int(part) if place % 2 else part.lower() for place, part in enumerate(parts)), text


def _list_folder(folder: str, seen: set[tuple[int, int]]) -> tuple[list[str], list[str], list[str]]:
    """Return a folder's file names, the folders in it, and the linked folders in it; nothing if it was `seen`."""
    files, inner, linked = [], [], []
    try:
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            return [], [], []
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                    (linked if entry.is_symlink() else inner).append(entry.path)
                elif entry.is_symlink() or entry.is_file():
                    files.append(entry.name)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be listed ({error.strerror}); make it readable.") from None
    return files, inner, linked
