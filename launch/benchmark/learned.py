"""Learned descriptors in the detectors' trial: runs of ours, which must not have seen its patients, and files."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memjax.errors import UserError

if TYPE_CHECKING:
    from memjax.audit.describe import Images
    from memjax.audit.detectors.embedded import Embedding
    from memjax.data.store import Store


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned:
    """Embeddings by name, which patients they have seen, and what is not known of that (sentences)."""

    embeddings: "dict[str, Embedding]"
    seen: frozenset[str]
    notes: tuple[str, ...]


def of_runs(runs: Sequence[str], data: "Store") -> Learned:
    """Open descriptors; patients that any of them was trained on take no part in the trial."""
    from launch.embedding import embedder_of
    from memjax.audit.detectors.embedded import Embedding
    from memjax.mesh import audit_mesh

    embeddings: dict[str, Embedding] = {}
    seen: set[str] = set()
    notes = []
    for run in runs:
        name, embed, facts = embedder_of(Path(run).expanduser(), None, audit_mesh(None), train=data)
        if name in embeddings:
            raise UserError(f"--descriptor: two of the runs are called {name!r}; rename the folder of one of them.")
        embeddings[name] = Embedding(
            embed=embed,
            digest=facts.digest,
            invariant_to=facts.invariant_to,
            is_control=facts.saw_train is False,
            can_turn=True,
        )
        patients = facts.trained_on and facts.trained_on.patients
        seen |= patients or set()
        if patients is None and facts.saw_train:
            raise UserError(
                f"--descriptor={run} was trained on {data.path}, and on which of its patients is not known; a trial "
                "needs patients that it never saw: give another store with --data."
            )
        if patients is None:
            notes.append(f"On which patients {name} was trained is not known; it may have seen those of the trial.")
    return Learned(embeddings=embeddings, seen=frozenset(seen), notes=tuple(notes))


def of_folder(name: str, folder: Path, stores: "dict[str, Store]", query: "Images") -> "Embedding":
    """Return the embedding that a folder holds: the gallery's, and the queries' in the order of the trial."""
    from launch.embedding import embeddings_of
    from memjax.audit.detectors.embedded import Embedding

    _, embed, facts = embeddings_of(name, folder, stores)

    def of_trial(images: "Images") -> np.ndarray:
        if images is query:
            return np.concatenate([embed(stores["synthetic"]), embed(stores["heldout"])])
        return embed(stores["train"])

    return Embedding(
        embed=of_trial, digest=facts.digest, invariant_to=facts.invariant_to, is_control=facts.saw_train is False
    )


def to_come() -> "Embedding":
    """Return what stands for an embedding until its images are there."""
    from memjax.audit.detectors.embedded import Embedding

    return Embedding(embed=lambda images: np.zeros((len(images), 1), np.float32))


def named(text: str) -> tuple[str, Path]:
    """Return the name and the folder of NAME=FOLDER."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UserError(f"--embeddings={text} must look like NAME=FOLDER.")
    return name, Path(folder).expanduser()
