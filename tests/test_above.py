"""Pairs from a score on, against a float64 brute force that knows nothing of groups, sketches or blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_allpairs import SCORE_TOLERANCE, Interrupted, brute_force, image_set, random_images, smooth_images

from memjax.audit.describe import Descriptor
from memjax.audit.pairs import blocks as cuts
from memjax.audit.pairs.above import pairs_above
from memjax.mesh import audit_mesh
from memjax.orientation import orientations


def check(query, gallery, threshold, *, devices=1, score="correlation", plan="auto", within=False):
    group, descriptor = orientations(query.images.shape[1:-1], "all"), Descriptor(score=score)
    mesh = audit_mesh(min(devices, len(query)))
    found = pairs_above(
        query, gallery, threshold, group=group, mesh=mesh, descriptor=descriptor, plan=plan, within=within
    )
    best, orientation = brute_force(query, gallery, group, descriptor)
    if within:
        best[np.tril_indices(len(query))] = -np.inf
    row, column = np.nonzero(best >= threshold)
    np.testing.assert_array_equal(found.query, row)
    np.testing.assert_array_equal(found.gallery, column)
    np.testing.assert_allclose(found.score, best[row, column], atol=SCORE_TOLERANCE)
    np.testing.assert_array_equal(found.orientation, orientation[row, column])
    return found


CASES = [
    # space, dtype, queries, gallery, devices, score, plan
    ((4, 4), np.uint8, 9, 40, 1, "correlation", "symmetric"),
    ((5, 3), np.int16, 8, 21, 3, "correlation", "product"),
    ((8, 8), np.uint8, 9, 40, 2, "correlation", "sketched"),
    ((4, 4, 4), np.float32, 5, 17, 1, "msd", "sketched"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:1] + case[4:])).replace(" ", ""))
@settings(max_examples=100)
@given(seed=st.integers(0, 2**32 - 1), quantile=st.floats(0, 1), levels=st.sampled_from([2, 0]))
def test_equals_brute_force(case, seed, quantile, levels):
    """Thresholds that are some pair's own score, ties and copies in all orientations included."""
    space, dtype, n_queries, n_gallery, devices, score, plan = case
    rng = np.random.default_rng(seed)
    query, gallery = (random_images(rng, n, space, 1, dtype) for n in (n_queries, n_gallery))
    if levels:
        query, gallery = ((x % levels if x.dtype.kind != "f" else np.round(x)) for x in (query, gallery))
    group = orientations(space, "all")
    query[0] = group[rng.integers(len(group))].apply(gallery[-1])
    query, gallery = (image_set(x.astype(dtype)) for x in (query, gallery))
    best, _ = brute_force(query, gallery, group, Descriptor(score=score))
    threshold = float(np.quantile(best[best > -np.inf], quantile, method="nearest")) - 1e-8
    check(query, gallery, threshold, devices=devices, score=score, plan=plan)


@pytest.mark.parametrize("plan", ["symmetric", "sketched"])
@pytest.mark.parametrize("devices", [1, 3])
def test_a_set_against_itself(monkeypatch, devices, plan):
    """Each pair once, also where chunks and blocks are small and those before the diagonal are left out."""
    monkeypatch.setattr(cuts, "_QUERY_BYTES", 20 * 256 * (4 if plan == "symmetric" else 8))
    monkeypatch.setattr(cuts, "_GALLERY_BYTES", 16 * 4 * 256)
    monkeypatch.setattr(cuts, "_SKETCHED_BYTES", 16 * 256)
    monkeypatch.setattr(cuts, "_GALLERY_ROWS", 1)
    images = smooth_images(0, 70)
    images[50] = np.rot90(images[3])
    images[51] = images[50]
    images[60, 0, 0] = images[61, 0, 0] = 9
    images[61] = np.flipud(images[60])
    images = image_set(images)
    found = check(images, images, 0.9999, devices=devices, plan=plan, within=True)
    assert list(zip(found.query.tolist(), found.gallery.tolist(), strict=True)) == [
        (3, 50),
        (3, 51),
        (50, 51),
        (60, 61),
    ]
    done = []
    pairs_above(
        images,
        images,
        0.5,
        group=orientations((16, 16), "all"),
        mesh=audit_mesh(devices),
        plan=plan,
        within=True,
        progress=done.append,
    )
    assert sum(done) == 70 * 70


@pytest.mark.parametrize("plan", ["symmetric", "sketched"])
@pytest.mark.parametrize("within", [True, False])
def test_an_interrupted_search_goes_on(tmp_path, monkeypatch, plan, within):
    monkeypatch.setattr(cuts, "_QUERY_BYTES", 20 * 256 * (4 if plan == "symmetric" else 8))
    monkeypatch.setattr(cuts, "_GALLERY_BYTES", 16 * 4 * 256)
    monkeypatch.setattr(cuts, "_SKETCHED_BYTES", 16 * 256)
    monkeypatch.setattr(cuts, "_GALLERY_ROWS", 1)
    images = image_set(smooth_images(0, 70))
    asked = {"group": orientations((16, 16), "all"), "mesh": audit_mesh(2), "plan": plan, "within": within}
    whole = pairs_above(images, images, 0.6, **asked)
    assert len(whole.query) > 10
    calls = []

    def progress(pairs):
        calls.append(pairs)
        if len(calls) == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        pairs_above(images, images, 0.6, **asked, unfinished=tmp_path / "u", progress=progress)
    rest = []
    again = pairs_above(images, images, 0.6, **asked, unfinished=tmp_path / "u", progress=rest.append)
    assert rest[0] == sum(calls)
    for mine, theirs in zip(vars(again).values(), vars(whole).values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
