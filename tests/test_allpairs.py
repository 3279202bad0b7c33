"""The kernel against a float64 brute force that knows nothing of blocks, devices or candidates."""

import contextlib
import itertools
import os
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_findings import make_store

from memjax.audit.describe import ArrayImages, Descriptor
from memjax.audit.pairs import blocks as cuts
from memjax.audit.pairs import plan as plans
from memjax.audit.pairs import screen, search, sketch, survivors
from memjax.audit.pairs.allpairs import allpairs
from memjax.audit.pairs.machine import Quick, available_bytes
from memjax.audit.pairs.resume import Progress
from memjax.audit.pairs.screen import rounding_slack
from memjax.audit.pairs.shortlist import AMBIGUOUS
from memjax.errors import UserError
from memjax.mesh import audit_mesh
from memjax.orientation import orientations

SCORE_TOLERANCE = 2e-6  # float32 dot products of at most a few thousand numbers
TIE = 1e-9  # scores closer than this are equal; the lower id wins


def image_set(images):
    """Images with the values that stand for -1 and +1, as a store tells them."""
    axes = tuple(range(1, images.ndim))
    whole = np.broadcast_to([0, 255], (len(images), 2))
    ranges = whole if images.dtype == np.uint8 else np.stack([images.min(axes), images.max(axes)], axis=1)
    return ArrayImages(images, ranges.astype(np.float32))


def brute_force(query, gallery, group, descriptor, *, exclude_self=False):
    """Best score and orientation of every pair, float64, the textbook way; knows nothing of groups or blocks."""

    def vectors(images, ranges):
        x = images.astype(np.float64)
        x = x if descriptor.channels is None else x[..., list(descriptor.channels)]
        x = (x if descriptor.mask is None else x[:, descriptor.mask]).reshape(len(x), -1)
        if descriptor.score == "msd":
            low, high = ranges.astype(float)[:, :, None].swapaxes(0, 1)
            return np.clip((x - low) / np.where(high > low, high - low, 1) * 2 - 1, -1, 1)
        constant = x.max(1) == x.min(1)
        x = x - x.mean(1, keepdims=True)
        return x / np.where(constant, np.nan, np.linalg.norm(x, axis=1))[:, None]

    best = np.full((len(query), len(gallery)), -np.inf)
    orientation = np.zeros(best.shape, int)
    x = vectors(query.images, query.ranges)
    for g, turn in enumerate(group):
        y = vectors(turn.apply(gallery.images, leading=1), gallery.ranges)
        score = -np.square(x[:, None] - y).mean(-1) if descriptor.score == "msd" else x @ y.T
        score = np.where(np.isnan(score), -np.inf, score)
        if exclude_self:
            score[np.arange(len(query)), np.arange(len(query))] = -np.inf
        better = score > best + TIE
        best, orientation = np.where(better, score, best), np.where(better, g, orientation)
    return best, orientation


def best_k(best, orientation, k):
    """Sorted lists with ties to the lower id."""
    ids = np.broadcast_to(np.arange(best.shape[1]), best.shape)
    order = np.lexsort((ids, -np.round(best, 9)), axis=1)[:, :k]
    score = np.take_along_axis(best, order, 1)
    return score, np.where(score > -np.inf, order, -1), np.take_along_axis(orientation, order, 1)


def assert_same(found, expected, tolerance=SCORE_TOLERANCE):
    score, ids, orientation = expected
    width = ids.shape[1]
    np.testing.assert_array_equal(found.id[:, :width], ids)
    assert (found.id[:, width:] == -1).all()
    real = ids >= 0
    np.testing.assert_allclose(found.score[:, :width][real], score[real], atol=tolerance)
    assert (found.score[found.id < 0] == -np.inf).all()
    np.testing.assert_array_equal(found.orientation[:, :width][real], orientation[real])


WAYS = {  # to search: plan, sides of a sketch's blocks, and which products are taken to be quick
    "auto": ("auto", plans.BLOCKS, Quick(bytes=True, halves=True)),
    "product": ("product", (), Quick(bytes=True, halves=True)),
    "product in float32": ("product", (), Quick(bytes=False, halves=False)),
    "symmetric": ("symmetric", (), Quick(bytes=True, halves=True)),
    "sketched": ("sketched", (4, 2), Quick(bytes=True, halves=True)),
    "sketched in float32": ("sketched", (4, 2), Quick(bytes=False, halves=False)),
    "rounded": ("sketched", (1,), Quick(bytes=True, halves=True)),
}


@contextlib.contextmanager
def way(name):
    """Let searches go one of `WAYS`; gives the plan to ask for."""
    plan, blocks, quick = WAYS[name]
    with (
        mock.patch.object(plans, "BLOCKS", blocks),
        mock.patch.object(search, "quick_products", return_value=quick),
    ):
        yield plan


def check(
    query, gallery, *, k, symmetry="all", devices=1, descriptor=None, plan="auto", exclude_self=False, **keywords
):
    descriptor = descriptor or Descriptor()
    group = orientations(query.images.shape[1:-1], symmetry)
    mesh = audit_mesh(min(devices, len(query)))
    with way(plan) as asked:
        result = allpairs(
            query,
            gallery,
            k=k,
            group=group,
            mesh=mesh,
            descriptor=descriptor,
            plan=asked,
            exclude_self=exclude_self,
            **keywords,
        )
    best, orientation = brute_force(query, gallery, group, descriptor, exclude_self=exclude_self)
    assert_same(result.query_to_gallery, best_k(best, orientation, k))
    assert_same(result.gallery_to_query, best_k(best.T, orientation.T, k))
    if result.histogram is None:
        return result
    finite = np.sort(best[best > -np.inf])
    assert result.histogram.count.sum() == finite.size
    inner = result.histogram.edges[1:-1]
    below = result.histogram.count.cumsum()[:-1]  # a score within the tolerance of an edge may be on either side
    assert (np.searchsorted(finite, inner - SCORE_TOLERANCE) <= below).all()
    assert (below <= np.searchsorted(finite, inner + SCORE_TOLERANCE)).all()
    return result


def random_images(rng, n, space, channels, dtype):
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(n, *space, channels)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (n, *space, channels), endpoint=True).astype(dtype)


# What compiles anew is listed; what does not is drawn. Even, odd and unequal lengths, axes of one voxel, all group
# sizes, one to three channels, all dtypes, both scores, one query, k beyond the set, 1 to 8 devices, all ways.
CASES = [
    # space, channels, dtype, queries, gallery, k, symmetry, devices, score, plan
    ((4, 4), 1, np.uint8, 9, 40, 3, "all", 1, "correlation", "symmetric"),
    ((4, 4), 1, np.uint8, 9, 40, 3, "all", 8, "correlation", "product"),
    ((5, 5), 2, np.int16, 7, 33, 10, "all", 3, "correlation", "symmetric"),
    ((5, 3), 3, np.float16, 8, 21, 2, "flips", 2, "correlation", "symmetric"),
    ((5, 3), 1, np.uint16, 8, 21, 14, "all", 8, "msd", "symmetric"),
    ((1, 6), 1, np.uint8, 1, 12, 4, "all", 1, "correlation", "symmetric"),
    ((1, 6), 2, np.float32, 5, 1, 3, "flips", 2, "msd", "product"),
    ((3, 3), 1, np.uint8, 6, 5, 9, "none", 3, "correlation", "auto"),
    ((3, 3, 3), 1, np.uint8, 5, 17, 2, "all", 1, "correlation", "symmetric"),
    ((4, 4, 2), 2, np.int16, 4, 30, 5, "all", 2, "msd", "symmetric"),
    ((2, 3, 1), 1, np.float32, 9, 24, 1, "all", 8, "correlation", "symmetric"),
    ((2, 2, 2), 1, np.float32, 3, 10, 12, "all", 3, "msd", "product"),
    ((4, 4), 2, np.int8, 9, 40, 3, "all", 2, "correlation", "product"),
    ((4, 4), 2, np.uint8, 9, 40, 3, "all", 2, "correlation", "product in float32"),
    ((8, 8), 1, np.uint8, 9, 40, 3, "all", 1, "correlation", "sketched"),
    ((8, 6), 2, np.int8, 9, 40, 3, "all", 3, "correlation", "sketched"),
    ((7, 7), 1, np.uint8, 9, 40, 3, "all", 2, "correlation", "sketched in float32"),
    ((8, 8), 1, np.uint8, 9, 40, 3, "all", 2, "correlation", "rounded"),
    ((5, 5), 2, np.int16, 7, 33, 2, "all", 1, "correlation", "rounded"),
    ((3, 3, 3), 1, np.float32, 5, 17, 2, "all", 1, "msd", "rounded"),
    ((9, 9), 2, np.int16, 7, 33, 2, "all", 3, "correlation", "sketched"),
    ((5, 7), 3, np.float16, 8, 21, 1, "flips", 8, "msd", "sketched"),
    ((6, 1), 1, np.float32, 12, 24, 2, "none", 2, "correlation", "sketched"),
    ((4, 4, 4), 1, np.uint8, 5, 17, 2, "all", 1, "correlation", "sketched"),
    ((8, 5), 1, np.uint8, 1, 12, 14, "all", 1, "msd", "sketched"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case[:1] + case[6:])).replace(" ", ""))
@settings(max_examples=200)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 5, 0]), repeats=st.integers(0, 4))
def test_equals_brute_force(case, seed, levels, repeats):
    """Random sets with what breaks ties and norms: repeated, turned, constant and almost constant images."""
    space, channels, dtype, n_queries, n_gallery, k, symmetry, devices, score, plan = case
    rng = np.random.default_rng(seed)
    query, gallery = (random_images(rng, n, space, channels, dtype) for n in (n_queries, n_gallery))
    if levels:  # exact ties everywhere
        query, gallery = ((x % levels if x.dtype.kind != "f" else np.round(x)) for x in (query, gallery))
    group = orientations(space, symmetry)
    for _ in range(repeats):
        gallery[rng.integers(n_gallery)] = gallery[0]
        query[rng.integers(n_queries)] = group[rng.integers(len(group))].apply(gallery[-1])
    gallery[rng.integers(n_gallery)] = 7
    query[rng.integers(n_queries)] = 0
    if repeats:
        gallery[0] = 3
        gallery[0].flat[0] = 4  # one pixel from constant
    check(
        *(image_set(x.astype(dtype)) for x in (query, gallery)),
        k=k,
        symmetry=symmetry,
        devices=devices,
        descriptor=Descriptor(score=score),
        plan=plan,
    )


def smooth_images(seed, n, *, noise=2.0):
    """Images whose block means leave out next to nothing, so that sketches rule out nearly all pairs."""
    rng = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(rng.normal(size=(n, 16, 16, 1)), (0, 4, 4, 0))
    return np.clip(x / x.std() * 40 + 128 + noise * rng.normal(size=x.shape), 0, 255).astype(np.uint8)


def lists_are_right(query, gallery, k=3):
    """Say whether a sketched search of smooth images equals brute force."""
    try:
        check(image_set(query), image_set(gallery), k=k, plan="sketched", bins=0)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("mutation", ["none", "no survivors", "no rest", "negative slack"])
def test_a_wrong_bound_a_dropped_survivor_and_a_wrong_slack_are_seen(monkeypatch, mutation):
    """Each part of the argument is needed, and the tests see it if one is missing.

    Without the rests the bound is below some scores. Without the second round only the pairs with the largest bounds
    are scored. With a slack of the wrong sign, pairs at the floors are lost.
    """
    query, gallery = smooth_images(0, 60, noise=12), smooth_images(1, 90, noise=12)
    is_compiled = mutation in ("no rest", "negative slack")
    if is_compiled:
        jax.clear_caches()  # what is compiled already would not see the mutation
    if mutation == "no rest":
        parts = sketch.Sketch._parts
        monkeypatch.setattr(sketch.Sketch, "_parts", lambda self, sums, squares: parts(self, sums, 0 * squares))
    if mutation == "no survivors":
        nothing = np.zeros(0, np.int64)
        monkeypatch.setattr(survivors.Survivors, "_rest", lambda *_: (nothing, nothing, nothing))
    if mutation == "negative slack":
        monkeypatch.setattr(screen.How, "slack", property(lambda how: -0.005))
    right = lists_are_right(query, gallery)
    if is_compiled:
        jax.clear_caches()
    assert right == (mutation == "none")


@pytest.mark.parametrize(("noise", "turns"), [(2, False), (400, True)])
def test_a_search_turns_if_sketches_rule_out_too_little(monkeypatch, noise, turns):
    """Told in words, with the same answer, and exact histograms after the turn."""
    monkeypatch.setitem(WAYS, "auto", ("auto", (4,), Quick(bytes=True, halves=True)))
    monkeypatch.setattr(plans, "_compile", lambda work, kind: 0.0)
    monkeypatch.setattr(plans, "_PAIR", 0.0)
    monkeypatch.setattr(plans, "_BYTE_OF_PAIR", 1.0)
    monkeypatch.setattr(plans, "_left", lambda work, rest: 0.0)
    query, gallery = image_set(smooth_images(0, 60, noise=noise)), image_set(smooth_images(1, 90, noise=noise))
    told = []
    result = check(query, gallery, k=3, tell=told.append, bins=0)
    assert result.histogram is None
    assert "plan sketched: 60 x 90 images of 256 numbers, 8 orientations, means of" in told[0]
    assert len(told) == 1 + turns
    assert "the sketches rule out too little; plan symmetric" in told[-1] or not turns


def test_a_sample_has_the_shape_of_the_whole(monkeypatch):
    """The share of each of ten bins lies within four standard deviations of the exact one."""
    monkeypatch.setattr(survivors, "_SAMPLE", 2000)
    query, gallery = image_set(smooth_images(0, 80)), image_set(smooth_images(1, 200))
    group = orientations((16, 16), "all")
    counts = {
        plan: allpairs(query, gallery, k=3, group=group, mesh=audit_mesh(2), plan=plan, bins=10).histogram
        for plan in ("symmetric", "sketched")
    }
    assert counts["sketched"].is_sample and not counts["symmetric"].is_sample
    whole, sample = counts["symmetric"].count / 16000, counts["sketched"].count
    assert 1800 < sample.sum() < 2200
    deviation = np.sqrt(2000 * whole * (1 - whole))
    assert (np.abs(sample - 2000 * whole) <= 4 * deviation + 3).all()


@pytest.mark.parametrize("copies", [3, 30])
def test_many_equal_images_go_to_the_lowest_ids(copies):
    """With more exact ties than spare candidates the list is certain only if it is computed again as a whole."""
    rng = np.random.default_rng(0)
    gallery = random_images(rng, 60, (6, 6), 1, np.uint8)
    query = random_images(rng, 3, (6, 6), 1, np.uint8)
    gallery[rng.choice(60, copies, replace=False)] = np.flipud(query[1])
    check(image_set(query), image_set(gallery), k=5)


def test_blocks_and_chunks_do_not_change_the_answer(monkeypatch):
    """Small budgets: several chunks of queries, many gallery blocks, the last of each filled up."""
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 2, np.uint8)) for n in (23, 61))
    whole = check(query, gallery, k=4, devices=1)
    monkeypatch.setattr(cuts, "_QUERY_BYTES", 7 * 4 * 50)
    monkeypatch.setattr(cuts, "_GALLERY_BYTES", 9 * 4 * 50)
    monkeypatch.setattr(cuts, "_GALLERY_ROWS", 1)
    for devices in (1, 3, 8):
        parts = check(query, gallery, k=4, devices=devices)
        np.testing.assert_array_equal(parts.histogram.count, whole.histogram.count)


def found(query, gallery, **keywords):
    """The arrays of a search on two devices, cut into many blocks."""
    group = orientations((5, 5), "all")
    result = allpairs(query, gallery, k=4, group=group, mesh=audit_mesh(2), **keywords)
    sides = (result.query_to_gallery, result.gallery_to_query)
    return [*(array for side in sides for array in vars(side).values()), result.histogram.count]


class Interrupted(Exception):
    """What ends a search before its time."""


@pytest.mark.parametrize("plan", ["product", "symmetric", "sketched"])
@pytest.mark.parametrize("moment", [1, 2, 5, 8])
def test_an_interrupted_search_goes_on_after_its_last_block(tmp_path, monkeypatch, plan, moment):
    """Bit for bit the answer of an uninterrupted one, without a block done twice."""
    monkeypatch.setattr(cuts, "_QUERY_BYTES", 14 * 50 * {"product": 4 * 8, "symmetric": 4, "sketched": 8}[plan])
    monkeypatch.setattr(cuts, "_GALLERY_BYTES", 16 * {"product": 2}.get(plan, 4) * 50)
    monkeypatch.setattr(cuts, "_SKETCHED_BYTES", 16 * 50)
    monkeypatch.setattr(cuts, "_GALLERY_ROWS", 1)
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 2, np.uint8)) for n in (23, 61))
    whole = found(query, gallery, plan=plan)
    calls = []

    def progress(pairs):
        calls.append(pairs)
        if len(calls) == moment + 1:  # the first call tells what was done before
            raise Interrupted

    path = tmp_path / "new" / "search"
    with pytest.raises(Interrupted):
        found(query, gallery, plan=plan, unfinished=path, progress=progress)
    done = sum(calls)
    rest = []
    again = found(query, gallery, plan=plan, unfinished=path, progress=rest.append)
    assert rest[0] == done
    assert sum(rest) == 23 * 61
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, whole, strict=True))
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("damage", ["cut", "flip", "other"])
def test_a_damaged_unfinished_search_begins_anew(tmp_path, damage):
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 2, np.uint8)) for n in (23, 61))
    path = tmp_path / "search"
    lists = Progress.begin(path, "another cut", 23, 61, 8, 400)
    lists.query.score[:] = 1
    lists.save()
    data = path.read_bytes()
    damaged = {"cut": data[: len(data) // 2], "flip": data[:600] + bytes([data[600] ^ 4]) + data[601:], "other": data}
    path.write_bytes(damaged[damage])
    whole = found(query, gallery)
    again = found(query, gallery, unfinished=path)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, whole, strict=True))


def test_a_search_begun_with_a_larger_rounding_error_is_not_taken_up(tmp_path):
    """Its scores would be trusted more than they deserve: begun without products of bytes, ended with them."""
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 2, np.uint8)) for n in (23, 61))
    asked = {"k": 4, "bins": 0, "unfinished": tmp_path / "search"}

    def stop(pairs):
        if pairs:
            raise Interrupted

    with pytest.raises(Interrupted):
        check(query, gallery, plan="sketched in float32", progress=stop, **asked)
    counts = []
    check(query, gallery, plan="sketched", progress=counts.append, **asked)
    assert counts[0] == 0


def test_what_cannot_be_searched_is_refused():
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 4), 1, np.float32)) for n in (3, 6))
    asked = {"k": 1, "group": orientations((5, 4), "all"), "mesh": audit_mesh(1)}
    with pytest.raises(UserError, match="k=0"):
        allpairs(query, gallery, **asked | {"k": 0})
    with pytest.raises(UserError, match="4 devices for 3 query images; use at most 3"):
        allpairs(query, gallery, **asked | {"mesh": audit_mesh(4)})
    with pytest.raises(UserError, match="5 x 4 have no orientation transpose; they allow identity, flipud"):
        allpairs(query, gallery, **asked | {"group": orientations((4, 4), "all")})
    gallery.images[4, 0, 0] = np.nan
    with pytest.raises(UserError, match="image 4 holds NaN or infinity"):
        allpairs(query, gallery, **asked)
    with pytest.raises(UserError, match="image 4 holds NaN or infinity"):
        allpairs(gallery, query, **asked)


def test_blocks_fit_into_the_memory_there_is(monkeypatch):
    """Down to one image at a time, with the same answer; below that it is said how much is needed."""
    rng = np.random.default_rng(1)
    query, gallery = (image_set(random_images(rng, n, (5, 5), 1, np.uint8)) for n in (5, 7))
    least = 4 * 25 * (1 + cuts._COPIES)
    asked = {"k": 2, "symmetry": "none"}
    for available in (None, 10 * least, least):
        monkeypatch.setattr(search, "available_bytes", lambda mesh, told=available: told)
        check(query, gallery, **asked)
    monkeypatch.setattr(search, "available_bytes", lambda mesh: least - 1)
    with pytest.raises(UserError, match=r"images of 25 numbers takes at least 4\.66e-07 GiB, 4\.65e-07 GiB are free"):
        check(query, gallery, **asked)


def test_memory_is_measured():
    assert available_bytes(audit_mesh(1)) > 1 << 20


def test_a_store_that_changes_during_the_search_is_refused(tmp_path):
    rng = np.random.default_rng(1)
    query, gallery = (
        make_store(tmp_path / name, random_images(rng, n, (5, 4), 1, np.uint8)) for name, n in (("q", 3), ("g", 6))
    )
    asked = {"k": 1, "group": orientations((5, 4), "all"), "mesh": audit_mesh(1)}
    path = tmp_path / "g" / "images.npy"
    os.utime(path, ns=(1, 1))  # touched only: the digests are compared, and the search goes on
    allpairs(query, gallery, **asked)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    with pytest.raises(UserError, match="1 of 6 images are not the ones that were prepared"):
        allpairs(query, gallery, **asked)


def test_self_is_excluded_by_id():
    rng = np.random.default_rng(2)
    images = random_images(rng, 17, (4, 4), 1, np.uint8)
    images[11] = np.rot90(images[3])
    result = check(image_set(images), image_set(images), k=3, exclude_self=True)
    near = result.query_to_gallery
    assert near.id[3, 0] == 11
    assert near.id[11, 0] == 3
    assert not (near.id == np.arange(17)[:, None]).any()


@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_channels_and_foreground(score):
    rng = np.random.default_rng(3)
    query, gallery = (image_set(random_images(rng, n, (6, 6), 3, np.uint8)) for n in (5, 9))
    mask = np.zeros((6, 6), bool)
    mask[1:5, 1:5] = True
    check(query, gallery, k=3, descriptor=Descriptor(score=score, channels=(2, 0), mask=mask))


def test_images_constant_on_the_foreground_have_no_neighbours():
    rng = np.random.default_rng(4)
    query, gallery = (random_images(rng, n, (6, 6), 1, np.uint8) for n in (4, 6))
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    query[1][mask] = 99
    gallery[2][mask] = 0
    result = check(image_set(query), image_set(gallery), k=6, descriptor=Descriptor(mask=mask))
    assert (result.query_to_gallery.id[1] == -1).all()


@pytest.mark.parametrize("plan", ["product", "symmetric", "sketched", "rounded"])
@pytest.mark.parametrize("dtypes", [(np.float32, np.uint8), (np.uint8, np.int16), (np.int8, np.uint8)])
def test_sides_may_be_of_different_dtypes(plan, dtypes):
    rng = np.random.default_rng(8)
    query, gallery = (rng.integers(0, 100, (n, 8, 8, 1)) for n in (9, 30))
    query, gallery = query.astype(dtypes[0]), gallery.astype(dtypes[1])
    query[3] = np.rot90(gallery[5])
    check(image_set(query), image_set(gallery), k=3, plan=plan, bins=0)


def test_large_offsets_keep_their_digits():
    """float32 images on top of an offset a million times their contrast (CT, absolute temperatures)."""
    rng = np.random.default_rng(5)
    offset = np.float32(2**20)
    query, gallery = ((offset + rng.integers(0, 8, (n, 8, 8, 1))).astype(np.float32) for n in (6, 20))
    check(image_set(query), image_set(gallery), k=5)


@pytest.mark.parametrize("plan", ["product", "symmetric", "sketched"])
@pytest.mark.parametrize("side", [4, 32, 64, 224])
@pytest.mark.parametrize("score", ["correlation", "msd"])
def test_rounding_stays_far_below_the_slack(plan, side, score):
    """The certificate of `refine` stands on this: the float32 error is well inside the slack it allows for.

    Noise, noise on a common pattern, and images of two values, whose sums round the same way at every step.
    """
    rng = np.random.default_rng(side)
    shape = (12, side, side, 1)
    noise, middle = rng.normal(size=shape), np.abs(np.arange(side) - side / 2)
    stripes = [np.broadcast_to(middle < width * side, shape[1:3]) for width in np.linspace(0.1, 0.45, 12)]
    kinds = [noise, noise[:1] + 0.3 * noise, noise > 0, noise > 2, np.stack(stripes)[..., None]]
    group = orientations((side, side), "none" if plan == "product" else "all")
    for images in kinds:
        images = images.astype(np.float32)
        if (images == images[:, :1, :1]).all((1, 2, 3)).any():
            continue  # constant ones have no score
        mine = search.Search(
            query=image_set(images),
            gallery=image_set(images),
            group=group,
            mesh=audit_mesh(1),
            descriptor=Descriptor(score=score),
            plan=plan,
            k=4,
        )
        found, how = mine.run()
        lists, x = found.query, images.astype(np.float64)
        low, high = (end(x, axis=(1, 2, 3), keepdims=True) for end in (np.min, np.max))
        scaled = (x - low) / (high - low) * 2 - 1
        for i, j in np.argwhere(lists.id >= 0):
            t, g = lists.id[i, j], group[lists.code[i, j] % AMBIGUOUS]
            exact = np.corrcoef(x[i].ravel(), g.apply(x[t]).ravel())[0, 1]
            exact = exact if score == "correlation" else -np.square(scaled[i] - g.apply(scaled[t])).mean()
            assert abs(lists.score[i, j] - exact) < how.slack / 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("size", [16, 4096, 130_000])
def test_products_of_bytes_round_at_the_end_only(monkeypatch, dtype, size):
    """Bytes in full contrast, in two values side by side, on a common pattern, and equal but for one number, are
    right within half of the slack that `refine` allows for them; with products in float32, too, within theirs."""
    rng = np.random.default_rng(size)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    base = rng.integers(low, high, size)
    images = [
        *rng.integers(low, high, (8, size), endpoint=True),
        *(high - rng.integers(0, 2, (8, size))),
        *np.clip(base + rng.integers(-3, 4, (8, size)), low, high),
        *(np.where(np.arange(size) == i, high, low) for i in range(8)),
    ]
    images = np.stack(images).astype(dtype)
    images = np.concatenate([images, np.where(images == low, low, images - 1)])
    images = image_set(images.reshape(len(images), 4, -1, 1))
    x = images.images.reshape(len(images), -1).astype(np.float64)
    exact = np.corrcoef(x)
    for quick in (Quick(bytes=True, halves=False), Quick(bytes=False, halves=False)):
        monkeypatch.setattr(search, "quick_products", lambda mesh, quick=quick: quick)
        mesh, group = audit_mesh(1), orientations((4, size // 4), "none")
        mine = search.Search(
            query=images, gallery=images, group=group, mesh=mesh, descriptor=Descriptor(), plan="product", k=64
        )
        found, how = mine.run()
        assert how.of_bytes == quick.bytes
        error = np.abs(found.query.score[:, :64] - np.take_along_axis(exact, found.query.id[:, :64], 1)).max()
        assert error < how.slack / 2


@pytest.mark.skipif("MEMJAX_REAL_DATA" not in os.environ, reason="real images are not at hand")
@pytest.mark.parametrize(
    ("file", "n_gallery", "n_queries", "ways"),
    [
        ("cxr64_kermany_trainval.npz", 1200, 60, ["product", "symmetric", "sketched", "rounded"]),
        ("hippocampus48_dev.npz", 120, 40, ["symmetric", "sketched"]),
    ],
)
def test_real_images_under_all_orientations(file, n_gallery, n_queries, ways):
    """Kermany 64x64 (8 orientations) and hippocampi 48x64x48 (16): ids, orientations and scores of a float64 matrix
    product, on 1 and 8 devices, however it is searched."""
    with np.load(Path(os.environ["MEMJAX_REAL_DATA"], "dev", file), allow_pickle=False) as arrays:
        images = arrays["images"][..., None]
    rng = np.random.default_rng(7)
    gallery, query = images[:n_gallery], images[rng.choice(len(images), n_queries, replace=False)]
    group = orientations(images.shape[1:-1], "all")
    assert len(group) == {3: 8, 4: 16}[images.ndim - 1]
    query[:20] = np.stack([group[i % len(group)].apply(gallery[n_gallery // 24 * i]) for i in range(20)])

    def unit(x):
        x = x.astype(np.float64)
        x -= x.mean(tuple(range(1, x.ndim)), keepdims=True)
        return x / np.linalg.norm(x.reshape(len(x), -1), axis=1).reshape(-1, *(1,) * (x.ndim - 1))

    of_query, of_gallery = unit(query).reshape(len(query), -1), unit(gallery)
    scores = np.stack([of_query @ turn.apply(of_gallery, leading=1).reshape(len(gallery), -1).T for turn in group])
    scores = np.round(scores, 9)
    best, orientation = scores.max(0), scores.argmax(0)
    for name, devices in itertools.product(ways, (1, 8)):
        with way(name) as plan:
            result = allpairs(
                image_set(query), image_set(gallery), k=10, group=group, mesh=audit_mesh(devices), plan=plan
            )
        tolerance = rounding_slack(images[0].size) / 2
        assert_same(result.query_to_gallery, best_k(best, orientation, 10), tolerance)
        assert_same(result.gallery_to_query, best_k(best.T, orientation.T, 10), tolerance)
