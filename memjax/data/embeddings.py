"""Embeddings as files: how any network, whoever trained it, takes part in an audit.

    FOLDER/train.npy, train.csv           float32 or float64 [n, d]; a table whose column `id` names each row's image
    FOLDER/synthetic.npy, synthetic.csv   the same
    FOLDER/heldout.npy, heldout.csv       the same; optional, as is the audit's held-out set
    FOLDER/about.json                     optional: {"name", "invariant_to": […], "trained_on": "train" | "other"}

`launch.embed` does not know the audit; it writes the digest of the store that the network was trained on, as
"training_store", in the place of "trained_on".

Images are named by their `source`, as in a store's `items.csv` and in a report's `pairs.csv`; rows in any order.
"""

import csv
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from memjax.data.store import Store
from memjax.digest import array_digest
from memjax.errors import UserError
from memjax.whole import whole_file

ROLES = ("train", "synthetic", "heldout")
TRAINED_ON = ("train", "other", "unknown")
INVARIANCES = (
    "flips",
    "quarter turns",
    "small rotations",
    "shifts",
    "noise",
    "blur",
    "contrast",
    "deformation",
)

_SHOWN = 3  # ids that a message names


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """One vector for each image of a store, and what is known of the network that gave them.

    Attributes:
      vectors: float32 [n, d], row i of image i of the store.
      name: of the network.
      invariant_to: what it does not see, by design, in the words of `INVARIANCES`.
      trained_on: whether the network saw the audit's training images: "train", it did; "other", it never did;
        "unknown". The digest of a store tells of the role `train` alone.
      digest: of the vectors.
    """

    vectors: Float[np.ndarray, "n d"]
    name: str
    invariant_to: tuple[str, ...]
    trained_on: str
    digest: str


def read_embeddings(folder: Path, role: str, store: Store, given_name: str = "") -> Embeddings:
    """Read the embeddings of the images of one role.

    Args:
      folder: as above.
      role: "train", "synthetic" or "heldout".
      store: the images of this role.
      given_name: what to call the network; "": what `about.json` calls it, or else the folder's name.

    Raises:
      UserError: a file is missing or damaged, vectors are not finite, or they are not of the store's images.
    """
    vectors = _read_vectors(folder / f"{role}.npy")
    path = folder / f"{role}.csv"
    ids = _read_ids(path)
    if len(ids) != len(vectors):
        raise UserError(f"{path} names {len(ids)} images, {role}.npy holds {len(vectors)} vectors; write both anew.")
    rows = {id_: row for row, id_ in enumerate(ids)}
    if repeated := [id_ for id_, count in Counter(ids).items() if count > 1]:
        raise UserError(f"{path} names {_told(repeated, 'image')} more than once; give each image one vector.")
    sources = [item.source for item in store.items]
    missing = [source for source in sources if source not in rows]
    strange = sorted(rows.keys() - set(sources))
    if missing or strange:
        wrong = [f"{_told(missing, 'image')} of {store.path} missing"] if missing else []
        wrong += [f"{_told(strange, 'image')} unknown there"] if strange else []
        raise UserError(
            f"the ids in {path} are not those of {store.path}: {', '.join(wrong)}; ids are the `source` of items.csv."
        )
    with np.errstate(over="ignore"):
        found = vectors[[rows[source] for source in sources]].astype(np.float32)
    if bad := [sources[row] for row in np.flatnonzero(~np.isfinite(found).all(1))]:
        raise UserError(f"{folder / role}.npy is not finite for {_told(bad, 'image')}; embed them again.")
    for other in ROLES:
        if (file := folder / f"{other}.npy").is_file() and (width := _read_vectors(file).shape[1]) != vectors.shape[1]:
            raise UserError(
                f"{folder}: {role}.npy holds vectors of {vectors.shape[1]} numbers, {other}.npy of {width}; embed all "
                "images with the same network."
            )
    about = _read_about(folder / "about.json")
    is_own = role == "train" and about.get("training_store") == store.manifest.digest
    return Embeddings(
        vectors=found,
        name=given_name or about.get("name") or folder.name,
        invariant_to=tuple(about.get("invariant_to", ())),
        trained_on="train" if is_own else about.get("trained_on", "unknown"),
        digest=array_digest(found),
    )


def write_embeddings(
    folder: Path, role: str, store: Store, vectors: Float[np.ndarray, "n d"], about: Mapping[str, Any]
) -> None:
    """Write the embeddings of a store's images, in its order.

    Args:
      folder: is made, or holds other roles already, of the same network.
      role: "train", "synthetic" or "heldout".
      store: the images.
      vectors: row i is of image i.
      about: for `about.json`; what tells networks apart belongs to it, such as the digest of the weights.

    Raises:
      UserError: the folder holds embeddings of another network, or the disk is full.
    """
    assert role in ROLES and len(vectors) == len(store), (role, len(vectors), len(store))
    told = json.loads(json.dumps(dict(about)))
    file = folder / "about.json"
    others = [name for name in ROLES if name != role and (folder / f"{name}.npy").exists()]
    if others and _read_about(file) != told:
        raise UserError(f"{folder} holds embeddings of another network ({others[0]}.npy); choose another folder.")
    with whole_file(file) as partial:
        partial.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    table = folder / f"{role}.csv"
    table.unlink(missing_ok=True)  # so that the vectors never stand beside the ids of others
    with whole_file(folder / f"{role}.npy") as partial, partial.open("wb") as opened:
        np.save(opened, np.asarray(vectors, np.float32), allow_pickle=False)
    with (
        whole_file(table) as partial,
        partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as opened,
    ):
        csv.writer(opened).writerows([["id"], *([item.source] for item in store.items)])


def _read_vectors(path: Path) -> np.ndarray:
    """Return the vectors, memory-mapped: [n, d], not yet checked to be finite."""
    try:
        vectors = np.lib.format.open_memmap(path, mode="r")  # refuses pickled objects, and what is no .npy
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give the vectors of the images, float32 [images, numbers].") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); save an array of float32 with numpy.save.") from None
    if vectors.dtype.newbyteorder("=") not in (np.float32, np.float64) or vectors.ndim != 2 or not vectors.shape[1]:
        raise UserError(f"{path} holds {vectors.dtype} {vectors.shape}; give float32 or float64 [images, numbers].")
    return vectors


def _read_ids(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            table = csv.DictReader(file)
            if "id" not in (table.fieldnames or ()):
                raise UserError(f"{path} has no column `id`; its first line must name it.")
            ids = [row["id"] for row in table]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; give a table with the column `id`, one row a vector.") from None
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); give a table with the column `id`.") from None
    if None in ids:
        raise UserError(f"{path}: row {ids.index(None) + 1} has no `id`; give each vector's image.")
    return ids


def _read_about(path: Path) -> dict[str, Any]:
    """Return what the folder says of its network; nothing, if it says nothing."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); mend it, or remove it.") from None
    if not isinstance(about, dict) or not isinstance(about.get("name", ""), str):
        raise UserError(f'{path} must look like {{"name": "…", "invariant_to": […], "trained_on": "other"}}; mend it.')
    words = about.get("invariant_to", [])
    strange = [word for word in words if word not in INVARIANCES] if isinstance(words, list) else [words]
    if strange:
        raise UserError(f"{path}: invariant_to {strange[0]!r} is not known; list any of {', '.join(INVARIANCES)}.")
    if about.get("trained_on", "unknown") not in TRAINED_ON:
        raise UserError(f"{path}: trained_on={about['trained_on']!r} is not known; give {', '.join(TRAINED_ON)}.")
    return about


def _told(names: Collection[str], what: str) -> str:
    """Return `2 images ('a', 'b')`, the first of many."""
    more = ", …" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}{'s' * (len(names) != 1)} ({', '.join(map(repr, list(names)[:_SHOWN]))}{more})"
