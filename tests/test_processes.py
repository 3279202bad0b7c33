"""Several processes find what one finds, to the bit, and each reads only its share of the gallery."""

import threading

import numpy as np
import pytest
from small_findings import make_store
from teams import by_team
from test_allpairs import WAYS, smooth_images, way

from memjax.audit.describe import Descriptor
from memjax.audit.keep import kept_pairs
from memjax.audit.pairs import blocks as cuts
from memjax.audit.pairs import plan as plans
from memjax.audit.pairs.above import pairs_above
from memjax.audit.pairs.allpairs import allpairs
from memjax.audit.pairs.machine import Quick
from memjax.data.store import Store
from memjax.errors import UserError
from memjax.mesh import audit_mesh
from memjax.orientation import orientations
from memjax.team import ALONE

GROUP = orientations((16, 16), "all")
N, ROWS = 61, 16  # gallery images, and of them in a block: four blocks


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    images = smooth_images(0, N)
    images[40] = np.rot90(images[3])  # in another process's share
    images[30] = images[5]
    query = smooth_images(1, 23)
    query[4] = np.fliplr(images[55])
    make_store(folder / "q", query)
    make_store(folder / "g", images)
    return folder


@pytest.fixture
def many_blocks(monkeypatch):
    """Several chunks of queries, and blocks of ROWS gallery images."""
    monkeypatch.setattr(cuts, "_QUERY_BYTES", 13 * 256 * 8)
    monkeypatch.setattr(cuts, "_GALLERY_BYTES", ROWS * 4 * 256)
    monkeypatch.setattr(cuts, "_SKETCHED_BYTES", ROWS * 256)
    monkeypatch.setattr(cuts, "_GALLERY_ROWS", 1)


def arrays(found):
    sides = {"q": found.query_to_gallery, "g": found.gallery_to_query, "count": found.histogram}
    return {f"{side}_{name}": value for side, of in sides.items() for name, value in vars(of).items()}


def assert_equal(mine, theirs):
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        np.testing.assert_array_equal(value, theirs[name], err_msg=name)


def searched(stores, team, plan, unfinished=None, **keywords):
    """Both kinds of search, and which of the gallery's blocks the first one read."""
    query, gallery = Store.open(stores / "q"), Store.open(stores / "g")
    read, block = [], gallery.block
    gallery.block = lambda start, stop: read.append((start, stop)) or block(start, stop)
    asked = {"group": GROUP, "mesh": audit_mesh(1), "plan": plan, "team": team} | keywords
    paths = [unfinished and unfinished / name for name in ("pairs", "within")]
    found = arrays(allpairs(query, gallery, k=3, bins=20, unfinished=paths[0], **asked))
    blocks = {start // ROWS for start, stop in read if stop - start > 1}  # but for one image, to know the shape
    within = pairs_above(gallery, gallery, 0.8, within=True, unfinished=paths[1], **asked)
    assert len(within.query) > 1
    return found | vars(within), blocks


@pytest.mark.parametrize(("count", "name"), [(2, "product in float32"), (3, "symmetric"), (3, "sketched in float32")])
@pytest.mark.usefixtures("many_blocks")
def test_several_processes_find_what_one_finds_to_the_bit(stores, tmp_path, count, name):
    with way(name) as plan:
        alone, _ = searched(stores, ALONE, plan)
        ended = by_team(count, lambda team: searched(stores, team, plan, tmp_path / "kept"))
    for index, (found, blocks) in enumerate(ended):
        assert_equal(found, alone)
        share = cuts.Blocks(23, N, 23, ROWS, 0, -(-N // ROWS)).share(index, count)
        assert blocks == set(range(share.first, share.last))
    assert list((tmp_path / "kept").iterdir()) == []


def test_shares_are_all_blocks_in_order_and_the_first_process_has_one():
    for blocks in range(1, 9):
        whole = cuts.Blocks(5, 3 * blocks - 1, 2, 3, 0, blocks)
        for count in range(1, 6):
            shares = [whole.share(index, count) for index in range(count)]
            assert [i for share in shares for i in range(share.first, share.last)] == list(range(blocks))
            assert shares[0].per_chunk and sum(share.pairs for share in shares) == whole.pairs
            for share in shares:
                blocks_done = range(3 * share.per_chunk + 1) if share.per_chunk else ()
                counted = [share.pairs_before(done) for done in blocks_done]
                assert counted == sorted(counted) and (not counted or counted[-1] == share.pairs)


@pytest.mark.usefixtures("many_blocks")
def test_all_turn_if_the_first_finds_that_sketches_rule_out_too_little(tmp_path, monkeypatch):
    monkeypatch.setitem(WAYS, "auto", ("auto", (4,), Quick(bytes=False, halves=False)))
    monkeypatch.setattr(plans, "_compile", lambda work, kind: 0.0)
    monkeypatch.setattr(plans, "_PAIR", 0.0)
    monkeypatch.setattr(plans, "_BYTE_OF_PAIR", 1.0)
    monkeypatch.setattr(plans, "_left", lambda work, rest: 0.0)
    for seed, (name, n) in enumerate({"q": 23, "g": N}.items()):
        make_store(tmp_path / name, smooth_images(seed, n, noise=400))
    query, gallery = Store.open(tmp_path / "q"), Store.open(tmp_path / "g")
    told = {index: [] for index in range(3)}

    def search(team):
        tell = told[team.index].append
        asked = {"k": 3, "bins": 20, "group": GROUP, "mesh": audit_mesh(1)}
        return arrays(allpairs(query, gallery, **asked, team=team, unfinished=tmp_path / "search", tell=tell))

    with way("auto"):
        alone = search(ALONE)
        told[0].clear()
        for found in by_team(3, search):
            assert_equal(found, alone)
    assert all("plan sketched" in said[0] and "plan symmetric" in said[1] for said in told.values())


class Interrupted(Exception):
    """What ends a process before its time."""


@pytest.mark.usefixtures("many_blocks")
def test_an_interrupted_search_of_several_goes_on(stores, tmp_path):
    counts = {}

    def search(team, breaks):
        counts[team.index] = []

        def progress(pairs):
            counts[team.index].append(pairs)
            if breaks and team.index == 1 and len(counts[1]) == 2:
                raise Interrupted

        return searched(stores, team, "symmetric", tmp_path, progress=progress)[0]

    first = by_team(2, lambda team: search(team, True))
    assert isinstance(first[1], Interrupted) and isinstance(first[0], threading.BrokenBarrierError)
    done = [sum(counts[0]), sum(counts[1])]
    assert done[0] > done[1] > 0
    again = by_team(2, lambda team: search(team, False))
    assert [counts[0][0], counts[1][0]] == done
    alone = searched(stores, ALONE, "symmetric")[0]
    for found in again:
        assert_equal(found, alone)


def test_a_search_that_is_kept_is_read_by_all_and_done_by_none(stores, tmp_path):
    query, gallery = Store.open(stores / "q"), Store.open(stores / "g")
    ran = []

    def search(team):
        def run(unfinished):
            ran.append(team.index)
            asked = {"k": 3, "bins": 20, "group": GROUP, "mesh": audit_mesh(1)}
            return allpairs(query, gallery, **asked, team=team, unfinished=unfinished)

        digests = (query.manifest.digest, gallery.manifest.digest)
        return arrays(kept_pairs(tmp_path, digests, Descriptor(), GROUP, 3, run, team=team))

    first = by_team(3, search)
    again = by_team(2, search)
    assert sorted(ran) == [0, 1, 2]
    for found in (*first, *again):
        assert_equal(found, first[0])


def test_hosts_that_do_not_go_together_are_told_so(stores, tmp_path, monkeypatch):
    monkeypatch.setattr("memjax.team._SEEN_S", 0.3)
    ended = by_team(2, lambda team: searched(stores, team, "symmetric", tmp_path / f"host{team.index}"))
    assert all(isinstance(error, UserError | threading.BrokenBarrierError) for error in ended)
    assert any("use a folder that all hosts share" in str(error) for error in ended)
    meshes = [audit_mesh(1), audit_mesh(2)]
    ended = by_team(2, lambda team: searched(stores, team, "symmetric", tmp_path, mesh=meshes[team.index]))
    assert "process 1 searches with 2 devices, process 0 with 1" in str(ended[1])
