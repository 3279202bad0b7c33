"""The audit as one function: three image stores in, findings out.

Order matters: leaks and duplicates first (they decide which held-out images may serve as reference), then the pairs,
then the null, then the calls. The three searches are the long part; each is kept on disk when it is done, so that an
interrupted audit does not repeat it.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from memjax.audit.above import ScoredPairs, pairs_above
from memjax.audit.allpairs import AllPairs, allpairs
from memjax.audit.decide import Criterion, decide, patient_index, summarize
from memjax.audit.describe import Descriptor, Score, constant_images, foreground
from memjax.audit.findings import Decision, Findings, Histogram, ImageSet, Neighbours, NullSummary
from memjax.audit.keep import kept_above, kept_pairs
from memjax.audit.leaks import NEAR_IDENTICAL, duplicate_groups, find_leaks, leaked_heldout, near_identical
from memjax.audit.null import Null, fit_null
from memjax.audit.plan import Kind
from memjax.errors import UserError
from memjax.mesh import narrowed
from memjax.orientation import Symmetry, orientations

_NEIGHBOURS = 10  # kept per image for counting, whatever is listed
_FOREGROUND_BELOW = 0.95  # part of the pixels; above it a set has no background worth leaving out
_FEW_PATIENTS = 20
_BINS = 400  # of the histogram of all pairs

Progress = Callable[[str, int], Callable[[int], object]]  # (what, pairs in all) -> called with pairs done


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What the audit is asked, besides the images.

    k: neighbours to list per synthetic image.
    symmetry: orientations under which a copy is still a copy.
    score: Pearson correlation, or the negative mean squared distance of images in [-1, 1].
    channels: channels to compare; None: all.
    criterion: what is called a copy.
    foreground: also decide on the foreground alone, where the training set has a common background.
    plan: how pairs are searched; the answer does not depend on it.
    """

    k: int = 3
    symmetry: Symmetry = "all"
    score: Score = "correlation"
    channels: tuple[int, ...] | None = None
    criterion: Criterion = dataclasses.field(default_factory=Criterion)
    foreground: bool = True
    plan: Kind | Literal["auto"] = "auto"


def audit(
    train: ImageSet,
    synthetic: ImageSet,
    heldout: ImageSet | None,
    question: Question,
    *,
    mesh: Mesh,
    kept: Path,
    progress: Progress = lambda what, pairs: lambda done: None,
    tell: Callable[[str], object] = lambda text: None,
) -> Findings:
    """Audit a synthetic set against its training set and real held-out images.

    Args:
      train: the images that the generator was trained on.
      synthetic: the images to be released.
      heldout: real images of patients that the generator never saw; None: nothing can be calibrated.
      question: what is asked.
      mesh: devices.
      kept: folder for finished searches; a later call with the same images and question takes them from there.
      progress: makes a progress callback for each search.
      tell: called with a sentence on each search's plan.

    Raises:
      UserError: sets that do not go together, too few images for k, or no usable reference.
    """
    train, synthetic = _with_constant(train), _with_constant(synthetic)
    heldout = heldout and _with_constant(heldout)
    sets = [images for images in (train, heldout, synthetic) if images is not None]
    _check(sets, question)
    group = orientations(train.store.manifest.shape[:-1], question.symmetry)
    k = max(question.k, _NEIGHBOURS)
    leaks = find_leaks(sets)

    def search(query: ImageSet, gallery: ImageSet, descriptor: Descriptor, what: str, bins: int = 0) -> AllPairs:
        def run(unfinished: Path) -> AllPairs:
            return allpairs(
                query.store,
                gallery.store,
                k=k,
                group=group,
                mesh=narrowed(mesh, len(query.store)),
                descriptor=descriptor,
                plan=question.plan,
                bins=bins,
                unfinished=unfinished,
                progress=progress(what, len(query.store) * len(gallery.store)),
                tell=lambda sentence: tell(f"{what}: {sentence}"),
            )

        digests = (query.store.manifest.digest, gallery.store.manifest.digest)
        return kept_pairs(kept, digests, descriptor, group, k, run)

    def within(images: ImageSet, descriptor: Descriptor) -> ScoredPairs:
        what, n = f"{images.role} against itself", len(images.store)

        def run(unfinished: Path) -> ScoredPairs:
            return pairs_above(
                images.store,
                images.store,
                NEAR_IDENTICAL,
                group=group,
                mesh=narrowed(mesh, n),
                descriptor=descriptor,
                plan=question.plan,
                within=True,
                unfinished=unfinished,
                progress=progress(what, n * n),
                tell=lambda sentence: tell(f"{what}: {sentence}"),
            )

        return kept_above(kept, images.store.manifest.digest, descriptor, group, NEAR_IDENTICAL, run)

    plain = Descriptor(score=question.score, channels=question.channels)
    pairs = search(synthetic, train, plain, "synthetic against train", _BINS)
    reference = heldout and search(heldout, train, plain, "held-out against train")
    control = heldout and search(synthetic, heldout, plain, "synthetic against held-out")
    if heldout and reference and question.score == "correlation":
        leaks += near_identical(train, heldout, reference.query_to_gallery)
    excluded = leaked_heldout(heldout, train, leaks) if heldout else {}
    decision, null = _judge(question, train, heldout, pairs, reference, excluded)

    mask = foreground(train.store, group) if question.foreground else None
    share = 1.0 if mask is None else float(mask.mean())
    on_foreground = None
    if mask is not None and 0 < share < _FOREGROUND_BELOW:
        masked = dataclasses.replace(plain, mask=mask)
        front = search(synthetic, train, masked, "the same on the foreground")
        front_reference = heldout and search(heldout, train, masked, "held-out on the foreground")
        on_foreground = (*_judge(question, train, heldout, front, front_reference, excluded), front)

    return Findings(
        train=train,
        synthetic=synthetic,
        heldout=heldout,
        score=question.score,
        k=question.k,
        orientations=[orientation.name for orientation in group],
        synthetic_to_train=pairs.query_to_gallery,
        train_to_synthetic=pairs.gallery_to_query,
        heldout_to_train=reference and reference.query_to_gallery,
        train_to_heldout=reference and reference.gallery_to_query,
        synthetic_to_heldout=control and control.query_to_gallery,
        all_pairs=pairs.histogram or Histogram(edges=np.array([]), count=np.array([])),
        null=null,
        decision=decision,
        foreground_share=share,
        foreground=on_foreground and on_foreground[0],
        foreground_null=on_foreground and on_foreground[1],
        foreground_score=on_foreground and on_foreground[2].query_to_gallery.score[:, 0],
        duplicates=duplicate_groups(train, within(train, Descriptor(channels=question.channels))),
        leaks=leaks,
        warnings=_warnings(train, synthetic, heldout, null, excluded),
    )


def _with_constant(images: ImageSet) -> ImageSet:
    return dataclasses.replace(images, constant=constant_images(images.store))


def _judge(
    question: Question,
    train: ImageSet,
    heldout: ImageSet | None,
    pairs: AllPairs,
    reference: AllPairs | None,
    excluded: dict[int, str],
) -> tuple[Decision, NullSummary | None]:
    """Fit the null to the held-out images that may serve as reference, and call the copies."""
    null, summary, near = None, None, None
    criterion = question.criterion
    if heldout is None or reference is None:
        if criterion.rule != "value":
            criterion = dataclasses.replace(criterion, rule="identical")
    else:
        null, summary = _reference(question.score, heldout, reference.query_to_gallery, excluded)
        near = _of_used(reference.gallery_to_query, excluded)
    decision = decide(
        criterion,
        train=train,
        synthetic_to_train=pairs.query_to_gallery,
        train_to_synthetic=pairs.gallery_to_query,
        null=null,
        train_to_heldout=near,
    )
    return decision, summary


def _reference(
    score: Score, heldout: ImageSet, nearest: Neighbours, excluded: dict[int, str]
) -> tuple[Null, NullSummary]:
    reasons = Counter(excluded.values())
    no_contrast = [i for i in np.flatnonzero(nearest.id[:, 0] < 0).tolist() if i not in excluded]
    if no_contrast:
        reasons["it has no contrast"] = len(no_contrast)
    used = np.setdiff1d(np.arange(len(heldout.store)), [*excluded, *no_contrast])
    best = nearest.score[used, 0]
    null = fit_null(best, patient_index(heldout, used), score)
    by_patient = heldout.store.manifest.has_patients
    return null, summarize(null, used, best, by_patient=by_patient, left_out=dict(reasons))


def _of_used(train_to_heldout: Neighbours, excluded: dict[int, str]) -> np.ndarray:
    """Return each training image's scores with the held-out images that serve as reference; -inf for the others."""
    return np.where(np.isin(train_to_heldout.id, list(excluded)), -np.inf, train_to_heldout.score)


def _check(sets: Sequence[ImageSet], question: Question) -> None:
    """Refuse sets that cannot be compared, with the reason."""
    train, *others = sets
    for other in others:
        mine, theirs = train.store.manifest, other.store.manifest
        if len(mine.axes) != len(theirs.axes):
            raise UserError(
                f"{train.given} holds {len(mine.axes)}-D images and {other.given} {len(theirs.axes)}-D ones; "
                "audit volumes against volumes, or slices against slices (launch.prepare --layout=slices)."
            )
        if mine.shape[-1] != theirs.shape[-1]:
            raise UserError(
                f"{train.given} has {mine.shape[-1]} channels ({', '.join(mine.channels)}), {other.given} has "
                f"{theirs.shape[-1]} ({', '.join(theirs.channels)}); prepare both alike (for pictures: --colour=grey)."
            )
        if mine.shape != theirs.shape:
            raise UserError(
                f"{train.given} has images of {_times(mine.shape)}, {other.given} of {_times(theirs.shape)}; "
                "prepare both with the same --size."
            )
    for images in sets:
        if len(images.constant) == len(images.store):
            raise UserError(
                f"none of the {len(images.store)} images of {images.given} has any contrast, so nothing can be "
                "compared with them; give the folder that holds the images."
            )
        if images.role != "heldout" and len(images.store) < question.k:
            raise UserError(
                f"--k={question.k} asks for more neighbours than {images.given} has images ({len(images.store)}); "
                f"give --k={len(images.store)} or less."
            )
    channels = train.store.manifest.shape[-1]
    if question.channels is not None and not all(0 <= c < channels for c in question.channels):
        raise UserError(
            f"--channels={','.join(map(str, question.channels))}, but the images have channels 0 to {channels - 1} "
            f"({', '.join(train.store.manifest.channels)})."
        )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape[:-1]))


def _warnings(
    train: ImageSet,
    synthetic: ImageSet,
    heldout: ImageSet | None,
    null: NullSummary | None,
    excluded: dict[int, str],
) -> list[str]:
    """Say in one sentence each what limits the conclusion."""
    told = []
    if heldout is None or null is None:
        told.append(
            "No held-out images were given, so there is no measure of how alike images of different patients are: only "
            "practically identical images can be called copies, and nothing can be concluded from finding none."
        )
    else:
        if not null.by_patient:
            told.append(
                "The patients of the held-out images are unknown; each image is counted as a patient of its own, which "
                "makes the reference look surer than it is if patients have several images."
            )
        if null.n_patients < _FEW_PATIENTS:
            told.append(
                f"Only {null.n_patients} unseen patients serve as reference; with fewer than {_FEW_PATIENTS} the "
                "p-values are cautious, and copies that are not nearly exact can be missed."
            )
        if excluded:
            told.append(
                f"{len(excluded)} of {len(heldout.store)} held-out images were not used as reference, because they or "
                "their patients are in the training set."
            )
    if not train.store.manifest.has_patients:
        told.append("The patients of the training images are unknown; where patients are counted, images are meant.")
    for images in (train, synthetic, *([heldout] if heldout else [])):
        if images.constant:
            told.append(
                f"{len(images.constant)} of {len(images.store)} {images.role} images have no contrast at all; nothing "
                "can be compared with them."
            )
    return told
