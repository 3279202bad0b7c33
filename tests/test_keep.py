"""Finished searches are kept by what was searched, and never trusted when damaged."""

import os

import numpy as np
import pytest

from memjax.audit.describe import Descriptor
from memjax.audit.findings import Histogram, Neighbours
from memjax.audit.keep import kept_pairs
from memjax.audit.pairs.allpairs import AllPairs
from memjax.orientation import orientations

GROUP = orientations((8, 8), "all")
ASKED = {"digests": ("a", "b"), "descriptor": Descriptor(), "group": GROUP, "k": 3}


def found(seed=0, unfinished=None):
    rng = np.random.default_rng(seed)

    def near(n):
        score = rng.normal(size=(n, 3))
        score[-1, -1] = -np.inf
        return Neighbours(score=score, id=rng.integers(-1, 9, (n, 3)), orientation=rng.integers(0, 8, (n, 3), np.int16))

    histogram = Histogram(edges=np.linspace(-1, 1, 5), count=rng.integers(0, 99, 4), is_sample=bool(seed))
    return AllPairs(query_to_gallery=near(4), gallery_to_query=near(6), histogram=histogram)


def never(unfinished):
    raise AssertionError("this was searched before")


def search(folder, run, **asked):
    return kept_pairs(folder, search=lambda unfinished: run(unfinished=unfinished), **{**ASKED, **asked})


def same(one, other):
    def arrays(pairs):
        sides = (pairs.query_to_gallery, pairs.gallery_to_query)
        both = [*(array for side in sides for array in vars(side).values()), *vars(pairs.histogram).values()]
        return [np.asarray(array) for array in both]

    return all(
        mine.dtype == theirs.dtype and np.array_equal(mine, theirs)
        for mine, theirs in zip(arrays(one), arrays(other), strict=True)
    )


def test_a_search_is_done_once_and_comes_back_bit_for_bit(tmp_path):
    assert same(search(tmp_path / "new" / "folder", found), found())
    assert same(search(tmp_path / "new" / "folder", never), found())


@pytest.mark.parametrize(
    "other",
    [
        {"digests": ("b", "a")},
        {"digests": ("a", "c")},
        {"k": 4},
        {"group": GROUP[:4]},
        {"descriptor": Descriptor(score="msd")},
        {"descriptor": Descriptor(channels=(0,))},
        {"descriptor": Descriptor(mask=np.ones((8, 8), bool))},
        {"descriptor": Descriptor(mask=np.eye(8, dtype=bool))},
    ],
)
def test_another_question_is_another_search(tmp_path, other):
    search(tmp_path, found)
    search(tmp_path, lambda unfinished: found(1), descriptor=Descriptor(mask=np.tri(8, dtype=bool)))
    assert same(search(tmp_path, lambda unfinished: found(2), **other), found(2))
    assert same(search(tmp_path, never), found())


def test_another_version_searches_again(tmp_path, monkeypatch):
    search(tmp_path, found)
    monkeypatch.setattr("memjax.audit.keep.__version__", "another")
    assert same(search(tmp_path, lambda unfinished: found(1)), found(1))


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_a_file_that_is_cut_off_is_searched_again(tmp_path, share):
    search(tmp_path, found)
    (path,) = tmp_path.iterdir()
    os.truncate(path, int(path.stat().st_size * share))
    assert same(search(tmp_path, lambda unfinished: found(1)), found(1))
    assert same(search(tmp_path, never), found(1))


def test_flipped_bits_are_found(tmp_path):
    search(tmp_path, found)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    places = np.linspace(0, len(whole) - 1, 40).astype(int).tolist()
    directory = whole.index(b"PK\x01\x02")  # where names and methods are written
    for place in [*places, *range(directory, directory + 46)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        again = search(tmp_path, lambda unfinished: found(1))
        assert same(again, found()) or same(again, found(1))
        path.write_bytes(whole)


def test_another_array_file_is_searched_again(tmp_path):
    search(tmp_path, found)
    (path,) = tmp_path.iterdir()
    for arrays in ({"edges": np.zeros(3)}, {"edges": np.array([{}], object)}):
        np.savez(path, **arrays, allow_pickle=True)
        assert same(search(tmp_path, lambda unfinished: found(1)), found(1))


def test_an_interrupted_search_leaves_nothing(tmp_path):
    def interrupted(unfinished):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, interrupted)
    assert not list(tmp_path.iterdir())
    assert same(search(tmp_path, found), found())
