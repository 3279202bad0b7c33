"""What the folders above a file say of it: the split and the class, as in `chest_xray/train/NORMAL/1.jpeg`."""

from collections.abc import Sequence

_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_word(word: str) -> str:
    """Return "train", "val" or "test" for a word that means one of them, in any case; else ""."""
    return _SPLITS.get(word.lower(), "")


def folder_split(relative_name: str) -> str:
    """Return the split named by the nearest folder above a file that names one; else ""."""
    folders = relative_name.split("/")[:-1]
    return next((split for folder in reversed(folders) if (split := split_word(folder))), "")


def folder_labels(relative_names: Sequence[str]) -> list[str]:
    """Return each file's class: the name of its folder, "" where that is the root or a split.

    Where every file has a folder to itself, folders are no classes: all labels are "".
    """
    parents = [name.rpartition("/")[0] for name in relative_names]
    if len(set(parents)) == len(parents):
        return [""] * len(parents)
    folders = [parent.rpartition("/")[2] for parent in parents]
    return ["" if split_word(folder) else folder for folder in folders]
