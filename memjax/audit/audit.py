"""The audit as one function: three image stores in, findings out.

Order matters: leaks and duplicates first (they decide which held-out images may serve as reference), then the pairs,
then the null, then the calls, then whatever else other detectors say. The searches are the long part; each is kept on
disk when it is done, so that an interrupted audit does not repeat it. Several processes share each search and come to
the same findings.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jax.sharding import Mesh

from memjax.audit.decide import Criterion, patient_index
from memjax.audit.describe import Descriptor, Score, common_foreground, constant_images
from memjax.audit.detectors.correlated import FOREGROUND
from memjax.audit.detectors.detector import Detector
from memjax.audit.detectors.setting import Progress, Setting
from memjax.audit.findings import Findings, Growth, Histogram, ImageSet, NullSummary
from memjax.audit.judge import judge
from memjax.audit.keep import kept_above
from memjax.audit.leaks import NEAR_IDENTICAL, duplicate_groups, find_leaks, leaked_heldout, near_identical
from memjax.audit.opinions import ask, split_by_use, together
from memjax.audit.pairs.above import ScoredPairs, pairs_above
from memjax.audit.pairs.allpairs import AllPairs
from memjax.audit.pairs.plan import Kind
from memjax.audit.richness import growth
from memjax.errors import UserError
from memjax.mesh import narrowed
from memjax.orientation import Symmetry
from memjax.team import ALONE, Team

_NEIGHBOURS = 10  # kept per image for counting, whatever is listed
_FEW_PATIENTS = 20
_BINS = 400  # of the histogram of all pairs


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
    detectors: others to ask, besides the score.
    """

    k: int = 3
    symmetry: Symmetry = "all"
    score: Score = "correlation"
    channels: tuple[int, ...] | None = None
    criterion: Criterion = dataclasses.field(default_factory=Criterion)
    foreground: bool = True
    plan: Kind | Literal["auto"] = "auto"
    detectors: Sequence[Detector] = ()


def audit(
    train: ImageSet,
    synthetic: ImageSet,
    heldout: ImageSet | None,
    question: Question,
    *,
    mesh: Mesh,
    kept: Path,
    team: Team = ALONE,
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
      team: the processes that share the searches; all call this alike, with devices of their own, and see `kept`.
      progress: makes a progress callback for each search.
      tell: called with a sentence on each search's plan.

    Raises:
      UserError: sets that do not go together, too few images for k, or no usable reference.
    """
    train, synthetic = _with_constant(train), _with_constant(synthetic)
    heldout = heldout and _with_constant(heldout)
    sets = [images for images in (train, heldout, synthetic) if images is not None]
    _check(sets, question)
    leaks = find_leaks(sets)
    setting = Setting(
        mesh=mesh,
        symmetry=question.symmetry,
        channels=question.channels,
        k=max(question.k, _NEIGHBOURS),
        kept=kept,
        plan=question.plan,
        team=team,
        progress=progress,
        tell=tell,
    )
    group = setting.group(train.store)

    def search(query: ImageSet, gallery: ImageSet, descriptor: Descriptor, what: str, bins: int = 0) -> AllPairs:
        named = dataclasses.replace(setting, what=what)
        return named.pairs(query.store, gallery.store, descriptor, group=group, bins=bins)

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
                team=team,
                unfinished=unfinished,
                progress=progress(what, n * n),
                tell=lambda sentence: tell(f"{what}: {sentence}"),
            )

        return kept_above(kept, images.store.manifest.digest, descriptor, group, NEAR_IDENTICAL, run, team=team)

    plain = Descriptor(score=question.score, channels=question.channels)
    pairs = search(synthetic, train, plain, "synthetic against train", _BINS)
    reference = heldout and search(heldout, train, plain, "held-out against train")
    control = heldout and search(synthetic, heldout, plain, "synthetic against held-out")
    if heldout and reference and question.score == "correlation":
        leaks += near_identical(train, heldout, reference.query_to_gallery)
    excluded = leaked_heldout(heldout, train, leaks) if heldout else {}
    judged = partial(judge, question.criterion, question.score, train=train, heldout=heldout, excluded=excluded)
    decision, null = judged(found=pairs, reference=reference)

    mask, share = None, 1.0
    if question.foreground or any(detector.name == FOREGROUND.name for detector in question.detectors):
        mask, share = common_foreground(train.store, group)
    on_foreground = None
    if question.foreground and mask is not None:
        masked = dataclasses.replace(plain, mask=mask)
        front = search(synthetic, train, masked, "the same on the foreground")
        front_reference = heldout and search(heldout, train, masked, "held-out on the foreground")
        on_foreground = (*judged(found=front, reference=front_reference), front)

    warnings = _warnings(train, synthetic, heldout, null, excluded)
    asked, not_asked = split_by_use(question.detectors, question.score, mask)
    others = ask(
        asked,
        train,
        synthetic,
        heldout,
        criterion=question.criterion,
        setting=dataclasses.replace(setting, mask=mask),
        excluded=excluded,
    )
    findings = Findings(
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
        foreground_share=share if question.foreground else 1.0,
        foreground=on_foreground and on_foreground[0],
        foreground_null=on_foreground and on_foreground[1],
        foreground_score=on_foreground and on_foreground[2].query_to_gallery.score[:, 0],
        duplicates=duplicate_groups(train, within(train, Descriptor(channels=question.channels))),
        leaks=leaks,
        warnings=[*warnings, *not_asked],
        detectors=others,
    )
    return dataclasses.replace(
        findings, agreement=together(findings, question.criterion.rate), growth=_growth(findings)
    )


def _growth(findings: Findings) -> list[Growth]:
    """Say how many training images and patients more samples would reveal; nothing where there are no copies."""
    is_copy = findings.decision.is_copy
    if not is_copy.any():
        return []
    train, ids = findings.train, np.arange(len(findings.train.store))
    nearest = findings.synthetic_to_train.id[:, 0]
    grown = [growth(nearest, is_copy, groups=ids, of="images")]
    if train.store.manifest.has_patients:
        grown.append(growth(nearest, is_copy, groups=patient_index(train, ids), of="patients"))
    return grown


def _with_constant(images: ImageSet) -> ImageSet:
    return dataclasses.replace(images, constant=constant_images(images.store))


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
    excluded: Mapping[int, str],
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
