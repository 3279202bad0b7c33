"""Which detectors an audit asks besides its own search: their flags, and the networks behind them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from jax.sharding import Mesh

    from memjax.audit.detectors.crossfit import CrossFitted
    from memjax.audit.detectors.detector import Detector
    from memjax.audit.detectors.embedded import Embedding
    from memjax.audit.findings import Findings
    from memjax.data.store import Store
    from memjax.sample.embed import TrainedOn

    Stores = Mapping[str, Store]

_DETECTORS = flags.DEFINE_list(
    "detectors",
    ["none"],  # each takes a quarter to the whole of the audit's own time (BUILD_NOTES)
    "Detectors to ask besides --score, by name: correlation, correlation-unturned, foreground, ratio, adaptive-l2, "
    "ssim, tiled-l2; or all, or none.",
)
_DESCRIPTOR = flags.DEFINE_multi_string(
    "descriptor", [], "A run of launch.train, of task descriptor: compare its embeddings, too. May be given again."
)
_CROSSFIT = flags.DEFINE_list(
    "crossfit",
    [],
    "Two such runs, RUN0,RUN1, trained on the two halves of the training patients: each half is searched with the one "
    "that did not see it.",
)
_EMBEDDINGS = flags.DEFINE_multi_string(
    "embeddings",
    [],
    "NAME=DIR: embeddings that any other network made, as files (launch.embed --help). May be given again.",
)
_LABELS = flags.DEFINE_string("labels", None, "What readers said of pairs: the review.sqlite of launch.review.")


def check() -> None:
    """Refuse names and forms that cannot be meant, before any work.

    Raises:
      UserError: an unknown detector, or a flag of another form than its help says.
    """
    _asked_by_name()
    for given in _EMBEDDINGS.value:
        _name_and_folder(given)
    if _CROSSFIT.value and len(_CROSSFIT.value) != 2:
        raise UserError(f"--crossfit={','.join(_CROSSFIT.value)} must be two runs, separated by a comma.")


def detectors(stores: "Stores", cache: Path, mesh: "Mesh") -> "tuple[Detector, ...]":
    """Return the detectors that the flags ask for.

    Args:
      stores: the audit's, by role.
      cache: where embeddings are kept.
      mesh: devices.

    Raises:
      UserError: a run is no descriptor's or does not fit the images, or a folder's embeddings are not theirs.
    """
    from memjax.audit.detectors.detector import make_detectors

    embeddings: dict[str, Embedding] = {}
    for run in _DESCRIPTOR.value:
        name, embedding, _ = _of_run("descriptor", run, stores, cache, mesh)
        embeddings[_free(name, embeddings)] = embedding
    for given in _EMBEDDINGS.value:
        name, folder = _name_and_folder(given)
        embeddings[_free(name, embeddings)] = _of_folder(name, folder, stores)
    learned = [f"{kind}:{name}" for name, embedding in embeddings.items() for kind in embedding.kinds]
    crossfit = [_crossfit(stores, cache, mesh)] if _CROSSFIT.value else []
    return (*make_detectors([*_asked_by_name(), *learned], embeddings), *crossfit)


def check_labels(stores: "Stores") -> None:
    """Refuse the labels of another audit, before any work.

    Raises:
      UserError: as said, or there is no such file.
    """
    if _LABELS.value is None:
        return
    from memjax.audit.review_file import ReviewFile

    train, synthetic = (stores[role].manifest.digest for role in ("train", "synthetic"))
    ReviewFile(boot.place(_LABELS)).check_subject(train, synthetic, "this audit")


def with_labels(findings: "Findings") -> "Findings":
    """Return the findings with what readers said, if that was given.

    Raises:
      UserError: the file holds no labels.
    """
    if _LABELS.value is None:
        return findings
    import dataclasses

    from memjax.audit.labels import read_labels

    return dataclasses.replace(findings, labelled=read_labels(boot.place(_LABELS), findings))


def _asked_by_name() -> list[str]:
    from memjax.audit.detectors.detector import NAMES, make_detectors

    if _DETECTORS.value == ["none"]:
        return []
    if _DETECTORS.value == ["all"]:
        return list(NAMES)
    return [detector.name for detector in make_detectors(_DETECTORS.value)]


def _name_and_folder(given: str) -> tuple[str, Path]:
    name, _, folder = given.partition("=")
    if not name or not folder:
        raise UserError(f"--embeddings={given} must be NAME=DIR, what to call the network and the folder.")
    return name, Path(folder).expanduser()


def _free(name: str, taken: "Mapping[str, Embedding]") -> str:
    """Return the name, with a number if another network has it already."""
    names = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _of_run(
    flag: str, run: str, stores: "Stores", cache: Path, mesh: "Mesh"
) -> "tuple[str, Embedding, TrainedOn | None]":
    from launch.embedding import embedding_of_run

    if not run:
        raise UserError(f"--{flag} is empty; give the folder of a run.")
    return embedding_of_run(Path(run).expanduser(), stores, cache, mesh)


def _of_folder(name: str, folder: Path, stores: "Stores") -> "Embedding":
    from launch.embedding import embeddings_of
    from memjax.audit.detectors.embedded import Embedding
    from memjax.digest import array_digest, settings_digest

    _, embed, facts = embeddings_of(name, folder, stores)
    return Embedding(
        embed=embed,
        digest=settings_digest([array_digest(embed(store)) for store in stores.values()]),
        invariant_to=facts.invariant_to,
        is_control=facts.saw_train is False,
    )


def _crossfit(stores: "Stores", cache: Path, mesh: "Mesh") -> "CrossFitted":
    import numpy as np

    from memjax.audit.detectors.crossfit import CrossFitted
    from memjax.data.halves import half_of

    if "heldout" not in stores:
        raise UserError(
            "--crossfit needs --heldout: two networks' scores are put on one scale by images of unseen patients."
        )
    train, ids = stores["train"], np.arange(len(stores["train"]))
    named = f"--crossfit={','.join(_CROSSFIT.value)}"
    runs = [_of_run("crossfit", run, stores, cache, mesh) for run in _CROSSFIT.value]
    halves = [trained_on and trained_on.half for _, _, trained_on in runs]
    if sorted(halves, key=str) != [0, 1]:
        told = " and ".join("all patients" if half is None else f"half {half}" for half in halves)
        raise UserError(
            f"{named}: the runs were trained on {told}; give one of half 0 and one of half 1 (launch.train "
            "--config.half=0, and 1)."
        )
    first, second = (runs[halves.index(number)] for number in (0, 1))
    of_half = [half_of(train, ids, number) for number in (0, 1)]
    for (name, _, trained_on), unseen in ((first, of_half[1]), (second, of_half[0])):
        if trained_on is None or _saw(trained_on, train, unseen):
            raise UserError(
                f"{named}: nothing shows that {name} never saw the other half of these training images; train both "
                "runs on the store that is audited."
            )
    half = np.zeros(len(train), np.int64)
    half[of_half[1]] = 1
    return CrossFitted(of=f"{first[0]}+{second[0]}", embeddings=(first[1], second[1]), half=half)


def _saw(trained_on: "TrainedOn", train: "Store", ids: "np.ndarray") -> bool:
    """Say whether a run may have seen patients of these training images."""
    if trained_on.patients is None or not train.manifest.has_patients:
        return trained_on.store != train.manifest.digest  # of the same store the halves are known to be apart
    return any(train.items[id_].patient in trained_on.patients for id_ in ids.tolist())
