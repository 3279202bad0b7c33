"""Detectors against brute force in numpy, on images of which it is known what copies what, and how."""

import dataclasses

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from memjax.audit.describe import ArrayImages
from memjax.audit.detectors.crossfit import CrossFitted
from memjax.audit.detectors.detector import NAMES, Setting, make_detectors
from memjax.audit.detectors.embedded import Embedding
from memjax.audit.detectors.setting import Reference
from memjax.audit.detectors.tiled import tiles
from memjax.audit.null import fit_null
from memjax.errors import UserError
from memjax.mesh import audit_mesh
from memjax.orientation import orientations

SHAPE = (12, 12)
KINDS = ("exact", "noised", "flipped", "turned", "contrast", "one tile")


def images_of(array):
    return ArrayImages(array, np.tile([0.0, 255.0], (len(array), 1)))


def smooth(rng, n, shape=SHAPE):
    """Images with edges and without background, uint8: the mean of neighbours, stretched."""
    x = rng.normal(size=(n, *shape, 1))
    for axis in range(1, len(shape) + 1):
        x = x + np.roll(x, 1, axis)
    low, high = (of(x, tuple(range(1, x.ndim)), keepdims=True) for of in (np.min, np.max))
    return ((x - low) / (high - low) * 255).astype(np.uint8)


def copied(rng, image, kind):
    if kind == "noised":
        return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    if kind == "flipped":
        return image[:, ::-1]
    if kind == "turned":
        return np.rot90(image)
    if kind == "contrast":
        return (image * 0.4 + 10).astype(np.uint8)
    copy = image.copy()
    if kind == "one tile":
        copy[3:6, 3:6] = 255 - copy[3:6, 3:6]
    return copy


@pytest.fixture(scope="module")
def sets():
    """Training images; and queries: two copies of each kind, of the training images in order, then 40 strangers."""
    rng = np.random.default_rng(0)
    train, strangers = smooth(rng, 60), smooth(rng, 40)
    planted = np.stack([copied(rng, train[i], KINDS[i // 2]) for i in range(12)])
    return images_of(train), images_of(np.concatenate([planted, strangers]))


@pytest.fixture(scope="module")
def setting():
    mask = np.zeros(SHAPE, bool)
    mask[2:-2, 2:-2] = True
    return Setting(mesh=audit_mesh(2), mask=mask, k=5, plan="product")


def found_kinds(detector, sets, setting):
    """Kinds of which both copies score above all strangers, with the training image they copy."""
    train, queries = sets
    found = detector.search(queries, train, setting).query_to_gallery
    highest = found.score[12:, 0].max()
    right = (found.id[:12, 0] == np.arange(12)) & (found.score[:12, 0] > highest)
    return {kind for kind, both in zip(KINDS, right.reshape(-1, 2).all(1), strict=True) if both}


@pytest.mark.parametrize("name", NAMES)
def test_copies_are_found_by_detectors_that_declare_so_and_not_by_others(name, sets, setting):
    [detector] = make_detectors([name])
    found = found_kinds(detector, sets, setting)
    assert {"exact", "noised"} <= found
    words = {"flipped": "flips", "turned": "quarter turns", "contrast": "contrast"}
    declared = {kind for kind, word in words.items() if word in detector.invariant_to}
    assert found & words.keys() == declared
    if name in ("correlation", "ratio", "adaptive-l2", "tiled-l2"):
        assert ("one tile" in found) == (name != "tiled-l2")


def unit(array, dtype=np.float64):
    return array.astype(dtype) / 127.5 - 1


def test_ratio_and_adaptive_distance_are_those_of_their_papers_but_for_duplicates():
    rng = np.random.default_rng(1)
    train = smooth(rng, 60)
    train[7] = train[3]  # a duplicate: as published the ratio of its copies would be 1
    queries = smooth(rng, 9)
    queries[0] = copied(rng, train[3], "noised")
    d = np.sqrt(np.square(unit(queries)[:, None] - unit(train)[None]).mean((2, 3, 4)))
    setting = Setting(mesh=audit_mesh(2), k=3)

    ratio, adaptive = (
        detector.search(images_of(queries), images_of(train), setting)
        for detector in make_detectors(["ratio", "adaptive-l2"])
    )
    others = np.delete(d, 7, axis=1)
    first, second = np.sort(others, axis=1)[:, :2].T
    np.testing.assert_allclose(-ratio.query_to_gallery.score[:, 0], first / second, rtol=1e-5)
    assert ratio.query_to_gallery.id[0].tolist()[:2] == [3, 7]
    assert ratio.query_to_gallery.score[0, 1] > -1 / 3 > ratio.query_to_gallery.score[1:].max()
    np.testing.assert_allclose(-ratio.query_to_gallery.score[1:, 1], second[1:] / first[1:], rtol=1e-5)

    wanted = d / (0.5 * np.sort(d, axis=1)[:, :50].mean(1, keepdims=True))
    np.testing.assert_allclose(-adaptive.query_to_gallery.score, np.sort(wanted, axis=1)[:, :3], rtol=1e-5)
    np.testing.assert_allclose(-adaptive.gallery_to_query.score, np.sort(wanted, axis=0)[:3].T, rtol=1e-5)
    np.testing.assert_array_equal(adaptive.gallery_to_query.id, np.argsort(wanted, axis=0)[:3].T)
    assert ratio.gallery_to_query.id[[3, 7], 0].tolist() == [0, 0]

    few = dataclasses.replace(setting, memory={})
    [ratio] = make_detectors(["ratio"])
    alone = ratio.search(images_of(queries), images_of(train[:1]), few)
    assert (alone.query_to_gallery.id == -1).all()  # there is no second nearest


def ssim_of(x, y):
    """Structural similarity of two images [rows, columns] in [-1, 1], windows of 7 (Wang et al. 2004, equation 13)."""
    a, b = (sliding_window_view(side, (7, 7)).reshape(-1, 49) for side in (x, y))
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    covariance = ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).sum(1) / 48
    upper = (2 * a.mean(1) * b.mean(1) + c1) * (2 * covariance + c2)
    return (upper / ((a.mean(1) ** 2 + b.mean(1) ** 2 + c1) * (a.var(1, ddof=1) + b.var(1, ddof=1) + c2))).mean()


def test_structural_similarity_is_of_the_training_image_as_the_query_lies(sets, setting):
    train, queries = sets
    [detector] = make_detectors(["ssim"])
    found = detector.search(queries, train, setting).query_to_gallery
    group = orientations(SHAPE, "all")
    for i in range(12):
        turned = group[found.orientation[i, 0]].apply(train.images[found.id[i, 0]])
        wanted = ssim_of(unit(queries.images[i])[..., 0], unit(turned)[..., 0])
        assert found.score[i, 0] == pytest.approx(wanted, abs=1e-4)
    assert (np.diff(found.score, axis=1) <= 0).all()
    np.testing.assert_allclose(found.score[:2, 0], 1, atol=1e-6)
    assert not found.orientation[:4, 0].any()
    assert found.orientation[4:8, 0].all()


@pytest.mark.parametrize("shape", [(17, 10), (9, 8, 5)])
def test_tiled_distance_of_all_pairs(shape):
    """Tiles of unequal sizes, in two and three dimensions, with chunks of devices that do not divide the queries."""
    rng = np.random.default_rng(2)
    query, gallery = smooth(rng, 7, shape), smooth(rng, 11, shape)
    query[4] = gallery[6]
    query[5] = gallery[2]
    query[5][tuple(slice(0, 2) for _ in shape)] ^= 255
    cut = tiles(shape)
    assert sorted(np.concatenate(cut).tolist()) == list(range(int(np.prod(shape))))
    square = np.square(unit(query)[:, None] - unit(gallery)[None]).reshape(7, 11, -1)
    wanted = np.sqrt(np.max([square[..., places].mean(-1) for places in cut], axis=0))
    [detector] = make_detectors(["tiled-l2"])
    found = detector.search(images_of(query), images_of(gallery), Setting(mesh=audit_mesh(2), k=3))
    np.testing.assert_allclose(-found.query_to_gallery.score, np.sort(wanted, axis=1)[:, :3], rtol=2e-4)
    np.testing.assert_allclose(-found.gallery_to_query.score, np.sort(wanted, axis=0)[:3].T, rtol=2e-4)
    np.testing.assert_array_equal(found.query_to_gallery.id, np.argsort(wanted, axis=1)[:, :3])
    assert found.query_to_gallery.score[4, 0] == 0


def vectors_of(table):
    """An embedding that knows the vectors of each set, by how many images it has."""
    return Embedding(embed=lambda images: table[len(images)], digest="d", invariant_to=("flips",), is_control=True)


def test_an_embedding_that_overlooks_nothing_finds_turned_copies_in_their_orientation():
    rng = np.random.default_rng(5)
    space = (5, 5)
    train = rng.integers(0, 256, (14, *space, 1)).astype(np.uint8)
    group = orientations(space, "all")
    asked = np.concatenate([np.stack([of.apply(train[i]) for i, of in enumerate(group)]), 255 - train[8:]])
    weights = rng.normal(size=(25, 6))

    def embed(images):
        return (images.block(0, len(images)).reshape(len(images), -1) / 255 - 0.5) @ weights

    query, gallery = images_of(asked), images_of(train)
    setting = Setting(mesh=audit_mesh(1), k=3)
    names = ["embedding-correlation:net", "embedding-turned:net"]
    net = {"net": Embedding(embed=embed, invariant_to=("noise", "flips"), can_turn=True)}
    plain, turned = make_detectors(names, net)
    assert turned.invariant_to == ("flips", "quarter turns", "noise")
    found = turned.search(query, gallery, setting)
    # The definition, in plain numpy: every training image against every query turned back, by np.corrcoef.
    y = embed(gallery)
    every = np.stack(
        [
            np.corrcoef(embed(images_of(np.stack([of.inverse.apply(image) for image in asked]))), y)[
                : len(asked), len(asked) :
            ]
            for of in group
        ]
    )
    best = every.max(0)
    assert (found.query_to_gallery.id == np.argsort(-best, axis=1)[:, :3]).all()
    np.testing.assert_allclose(found.query_to_gallery.score, -np.sort(-best, axis=1)[:, :3], atol=1e-5)
    assert (found.gallery_to_query.id == np.argsort(-best.T, axis=1)[:, :3]).all()
    first = found.query_to_gallery
    assert (first.orientation == np.take_along_axis(every.argmax(0), first.id, axis=1)).all()
    assert (first.id[:8, 0] == np.arange(8)).all() and (first.orientation[:8, 0] == np.arange(8)).all()
    assert (first.score[:8, 0] > 1 - 1e-6).all()
    assert (plain.search(query, gallery, setting).query_to_gallery.score[1:8, 0] < 0.999).all()
    with pytest.raises(UserError, match="no detector 'embedding-turned:file'"):
        make_detectors(["embedding-turned:file"], {"file": Embedding(embed=embed)})


def test_embeddings_are_compared_by_their_real_distances_and_correlations():
    rng = np.random.default_rng(3)
    x, y = (rng.normal(100, 40, (n, 6)).astype(np.float32) for n in (5, 30))
    x[2] = y[17]
    y[4] = 250.0  # constant: it has a distance, and no correlation
    embeddings = {"net": vectors_of({5: x, 30: y})}
    names = ["embedding-msd:net", "embedding-correlation:net"]
    setting = Setting(mesh=audit_mesh(2), k=4)
    query, gallery = (images_of(np.zeros((n, 2, 2, 1), np.uint8)) for n in (5, 30))
    msd, correlation = (detector.search(query, gallery, setting) for detector in make_detectors(names, embeddings))
    wanted = -np.square(x[:, None].astype(np.float64) - y[None]).mean(-1)
    np.testing.assert_allclose(msd.query_to_gallery.score, -np.sort(-wanted, axis=1)[:, :4], rtol=1e-4)
    np.testing.assert_array_equal(msd.gallery_to_query.id[:, 0], wanted.argmax(0))
    assert msd.query_to_gallery.score[2, 0] == 0
    with np.errstate(invalid="ignore"):
        wanted = np.nan_to_num(np.corrcoef(x, y)[:5, 5:], nan=-2)
    np.testing.assert_allclose(correlation.query_to_gallery.score, -np.sort(-wanted, axis=1)[:, :4], atol=1e-6)
    assert (correlation.gallery_to_query.id[4] == -1).all()

    x[3, 1] = np.nan
    with pytest.raises(UserError, match="'net' of image 3 holds NaN"):
        make_detectors(names[:1], embeddings)[0].search(query, gallery, setting)


def test_unknown_detectors_are_named_with_what_may_be_meant():
    with pytest.raises(UserError, match=r"no detector 'ration'; did you mean ratio\?"):
        make_detectors(["ssim", "ration"])
    with pytest.raises(UserError, match="Choose from correlation-unturned"):
        make_detectors(["zzz"])


N = 200  # of each set: nothing is compiled twice


def crossfitted(tables, half):
    """Search by two networks, each a table of vectors by role."""
    of_role = {role: images_of(np.zeros((N, 1, 1, 1), np.uint8)) for role in ("train", "heldout", "synthetic")}

    def network(table):
        return Embedding(embed=lambda images: next(table[role] for role in table if of_role[role] is images))

    detector = CrossFitted(of="a+b", embeddings=(network(tables[0]), network(tables[1])), half=half, score="msd")
    reference = Reference(images=of_role["heldout"], ids=np.arange(N))
    setting = Setting(mesh=audit_mesh(1), k=3, reference=reference)
    return [detector.search(of_role[role], of_role["train"], setting) for role in ("synthetic", "heldout")]


def test_a_network_that_memorized_its_half_has_no_say_in_it():
    """Whatever the networks make of the images that they were trained on, nobody asks them; copies are still found."""
    rng = np.random.default_rng(4)
    half = np.arange(N) % 2
    tables = [
        {role: scale * rng.normal(size=(N, 6)).astype(np.float32) for role in ("train", "heldout", "synthetic")}
        for scale in (1, 7)  # one network's distances are fifty times the other's
    ]
    for table in tables:
        table["synthetic"][:10] = table["train"][:10] + 0.001
    found, reference = crossfitted(tables, half)
    np.testing.assert_array_equal(found.query_to_gallery.id[:10, 0], np.arange(10))
    np.testing.assert_array_equal(found.gallery_to_query.id[:10, 0], np.arange(10))
    assert found.query_to_gallery.score[:10, 0].min() > reference.query_to_gallery.score[:, 0].max()
    assert np.bincount(half[found.query_to_gallery.id[10:, 0]]).min() > N / 4  # both halves are heard
    null = fit_null(reference.query_to_gallery.score[:, 0], np.arange(N), "closeness")
    called = (null.p_value(found.query_to_gallery.score[10:, 0]) < 0.1).mean()
    assert 0.03 < called < 0.2

    memorized = [{role: vectors.copy() for role, vectors in table.items()} for table in tables]
    for number, table in enumerate(memorized):
        table["train"][half == number] = table["synthetic"][20]  # its own images lie where a synthetic one does
    again, _ = crossfitted(memorized, half)
    for direction in ("query_to_gallery", "gallery_to_query"):
        for name in ("score", "id"):
            one, two = (getattr(getattr(each, direction), name) for each in (found, again))
            np.testing.assert_array_equal(one, two)

    with pytest.raises(UserError, match="--heldout"):
        CrossFitted(of="x", embeddings=(vectors_of({}), vectors_of({})), half=half).search(
            images_of(np.zeros((2, 1, 1, 1))), images_of(np.zeros((N, 1, 1, 1))), Setting(mesh=audit_mesh(1))
        )
