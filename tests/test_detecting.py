"""The audit's flags for further detectors: networks by run or by file, cross-fitted ones, what readers said."""

import csv
import json
from unittest import mock

import numpy as np
import pytest
from launching import audit_flags, audit_folders, launch

from memjax.audit.review_file import Label, Pair, ReviewFile
from memjax.data.embeddings import write_embeddings
from memjax.data.halves import half_of
from memjax.data.store import Store
from memjax.sample.embed import TrainedOn


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of 4 mirrored copies by its own detector alone, and its stores by role."""
    place = tmp_path_factory.mktemp("audited")
    folders = audit_folders(place, copies=4)
    run = launch("audit", *audit_flags(folders, place / "out"))
    assert run.status == 3
    stores = {}
    for path in (place / "out" / "cache").rglob("manifest.json"):
        store = Store.open(path.parent)
        stores[{30: "train", 24: "heldout", 12: "synthetic"}[len(store)]] = store
    return place, folders, stores


def again(audited, *flags, name="out"):
    """Audit the same with more flags; searches are kept."""
    place, folders, _ = audited
    cache = f"--cache={place / 'out' / 'cache'}"
    return launch("audit", *audit_flags(folders, place / name), cache, *flags), place / name


def vectors(store, seed=0):
    """What a network gives that knows no mirrors: pixels and their mirror images, added, by random weights."""
    x = store.images[..., 0].astype(np.float32)
    weights = np.random.default_rng(seed).normal(size=(64, 16)).astype(np.float32)
    return ((x + x[:, :, ::-1]).reshape(len(x), -1) @ weights / 255).astype(np.float32)


def rows_of(out):
    with (out / "detectors.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_embeddings_by_file_and_what_readers_said_come_into_the_report(audited):
    place, _, stores = audited
    for role, store in stores.items():
        write_embeddings(place / "net", role, store, vectors(store), {"name": "net", "trained_on": "other"})
    pairs = [
        Pair(
            synthetic_id=synthetic,
            train_id=train,
            synthetic=stores["synthetic"].items[synthetic].source,
            train=stores["train"].items[train].source,
            orientation="fliplr",
            stratum="called",
            weight=1.0,
        )
        for synthetic, train in ((0, 5), (9, 1))
    ]
    digests = {role: stores[role].manifest.digest for role in ("train", "synthetic")}
    review = ReviewFile.create(place / "review.sqlite", digests, pairs)
    for reader in ("first", "second"):
        for number, label in enumerate(("copy", "novel")):
            review.save([Label(reader=reader, pair=number, label=label, time="2026-01-01T00:00:00")])
    # Mirrored copies, which the audit's own detector cannot see here, are copies all the same, and stay here.
    run, out = again(
        audited,
        "--symmetry=none",
        "--detectors=ratio",
        f"--embeddings=net={place / 'net'}",
        f"--labels={review.path}",
        f"--release={place / 'release'}",
        name="more",
    )
    assert run.status == 3, run.said
    assert "copies found: " in run.said and "detectors together, though not by correlation of pixels alone" in run.said
    assert "all 4 detectors together call" in run.said
    rows = rows_of(out)
    called = {
        name: {r["synthetic"] for r in rows if r["detector"] == name and r["copy"] == "true"}
        for name in {r["detector"] for r in rows}
    }
    copies = {stores["synthetic"].items[i].source for i in range(4)}
    assert called["embedding-msd:net"] == called["embedding-correlation:net"] == copies
    assert called["correlation"] == called["ratio"] == set()
    found = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert "labels" in json.dumps(found)

    with (place / "release" / "left_out.csv").open(newline="", encoding="utf-8") as file:
        told = {row["synthetic"]: row["reason"] for row in csv.DictReader(file)}
    assert told == dict.fromkeys(copies, "a copy of a training image, by several detectors together")

    wrong = ReviewFile.create(place / "other.sqlite", {**digests, "train": "0"}, pairs)
    run, _ = again(audited, f"--labels={wrong.path}", name="wrong")
    assert run.is_refusal("the review of another audit")
    store = stores["synthetic"]
    (place / "net" / "synthetic.csv").write_text("id\n" + "x\n" * len(store), encoding="utf-8")
    run, _ = again(audited, f"--embeddings=net={place / 'net'}", name="wrong")
    assert run.is_refusal("synthetic.csv")


def test_two_runs_of_the_two_halves(audited):
    """A stand-in for trained runs: the flag's path ends in the half, or in `all`."""
    train = audited[2]["train"]
    ids = np.arange(len(train))

    def embedder_of(run, cache, mesh, *, train, step):
        assert step is None  # the newest weights
        from launch.embedding import Facts

        half = int(run.name) if run.name in "01" else None
        seen = ids if half is None else half_of(train, ids, half)
        trained_on = TrainedOn(
            store=train.manifest.digest,
            half=half,
            patients=frozenset(train.items[i].patient for i in seen.tolist()),
        )

        def embed(images):
            if isinstance(images, Store):
                return vectors(images, seed=half or 0)
            return np.zeros((len(images), 16), np.float32)

        return run.name, embed, Facts(digest=run.name, invariant_to=("flips",), trained_on=trained_on, saw_train=True)

    with mock.patch("launch.embedding.embedder_of", embedder_of):
        run, out = again(audited, "--crossfit=runs/1,runs/0", "--descriptor=runs/all", name="halves")
        assert run.status == 3, run.said
        rows = [row for row in rows_of(out) if row["detector"] == "embedding-crossfit:0+1"]
        assert [row["copy"] for row in rows].count("true") == 4
        assert {row["detector"] for row in rows_of(out)} >= {"embedding-msd:all", "embedding-correlation:all"}
        run, _ = again(audited, "--crossfit=runs/0,runs/0", name="wrong")
        assert run.is_refusal("trained on half 0 and half 0", "--config.half")
        place, folders, _ = audited
        alone = {role: path for role, path in folders.items() if role != "heldout"}
        run = launch("audit", *audit_flags(alone, place / "wrong"), "--crossfit=runs/0,runs/1")
        assert run.is_refusal("--crossfit needs --heldout")
