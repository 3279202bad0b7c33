"""What two readers agree on, how well they agree, and how each detector does against them (paper B, figure 3b)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from memjax.audit.agreement import cohens_kappa
from memjax.audit.findings import Confusion, Decision, Findings, Labelled, Neighbours
from memjax.audit.review_file import LABELS, ReviewFile
from memjax.errors import UserError


def read_labels(path: Path, findings: Findings) -> Labelled:
    """Return what readers said of pairs of an audit's images.

    The consensus is of two readers, as in paper B: both say copy, or both say novel. Of more than two, those two count
    who labelled the most pairs (of equally many, the first by name). With one reader there is no consensus.

    Counts are of the pairs as they were shown. Half of these were drawn among the called ones, so that a share of all
    candidates (a sensitivity, say) wants each pair counted with its weight; `launch.review --export` lists it.

    Args:
      path: the file of the review.
      findings: of the audit; its `labelled` is not looked at.

    Raises:
      UserError: the file is no review, is the review of another audit, or holds no labels.
    """
    review = ReviewFile(path)
    train, synthetic = findings.train.store, findings.synthetic.store
    review.check_subject(train.manifest.digest, synthetic.manifest.digest, "this audit")
    said: dict[str, dict[int, int]] = {}
    for label in review.labels():
        said.setdefault(label.reader, {})[label.pair] = LABELS.index(label.label)
    if not said:
        raise UserError(f"{path} holds no labels yet; open it with launch.review and label pairs.")
    readers = sorted(said, key=lambda name: (-len(said[name]), name))[:2]
    both = sorted(set.intersection(*(set(said[name]) for name in readers))) if len(readers) == 2 else []
    first, second = (np.array([said[name][pair] for pair in both], np.int64) for name in (readers[0], readers[-1]))
    agreed = (first == second) & (first != LABELS.index("unsure"))
    is_copy = first[agreed] == LABELS.index("copy")
    pairs = [review.pairs[both[i]] for i in np.flatnonzero(agreed)]
    query = np.array([pair.synthetic_id for pair in pairs], np.int64)
    gallery = np.array([pair.train_id for pair in pairs], np.int64)
    return Labelled(
        readers=readers,
        n_pairs=len(review.pairs),
        n_both=len(both),
        n_copy=int(is_copy.sum()),
        n_novel=int((~is_copy).sum()),
        n_open=len(both) - len(pairs),
        kappa=cohens_kappa(first, second),
        synthetic=query,
        train=gallery,
        is_copy=is_copy,
        confusions=[
            _confusion(name, calls(nearest, decision, query, gallery), is_copy)
            for name, nearest, decision in _detectors(findings)
        ],
    )


def calls(
    nearest: Neighbours, decision: Decision, synthetic: Int[np.ndarray, " n"], train: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Say which pairs a detector calls: the synthetic image is a copy, and of this very training image.

    Args:
      nearest: the detector's search of synthetic images among training images.
      decision: what it calls copies.
      synthetic: ids of the pairs' synthetic images.
      train: ids of their training images.
    """
    return decision.is_copy[synthetic] & (nearest.id[synthetic, 0] == train)


def _detectors(findings: Findings) -> Sequence[tuple[str, Neighbours, Decision]]:
    """List the audit's own detector, called by its score, and the others."""
    own = (findings.score, findings.synthetic_to_train, findings.decision)
    return [own, *((one.name, one.synthetic_to_train, one.decision) for one in findings.detectors)]


def _confusion(name: str, called: np.ndarray, is_copy: np.ndarray) -> Confusion:
    count = Counter(zip(called.tolist(), is_copy.tolist(), strict=True))
    return Confusion(
        name=name,
        both_copy=count[True, True],
        only_detector=count[True, False],
        only_readers=count[False, True],
        both_novel=count[False, False],
    )
