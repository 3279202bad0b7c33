"""A review: which pairs it draws, what it shows and keeps to itself, whom it answers, and how its labels travel."""

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections import Counter

import numpy as np
import pytest
from launching import ROOT, command, launch, noise, store
from PIL import Image
from reviews import audit_folder, new_review, say

from launch.reviewing import pictures
from launch.reviewing.audited import Audited, Candidate
from launch.reviewing.draw import best_orientation, draw
from memjax.audit.labels import read_labels
from memjax.audit.report import display
from memjax.audit.review_file import ReviewFile
from memjax.data.manifest import Manifest
from memjax.orientation import orientations

TOKEN = "the-token"


def candidates(n_called, n_others):
    called = [i < n_called for i in range(n_called + n_others)]
    return [Candidate(synthetic=f"s{i}", train="t", orientation="identity", is_called=c) for i, c in enumerate(called)]


@pytest.mark.parametrize(
    ("n_called", "n_others", "n", "drawn_called", "drawn_others"),
    [(100, 900, 150, 75, 75), (20, 900, 150, 20, 130), (900, 20, 150, 130, 20), (0, 40, 10, 0, 10), (7, 8, 99, 7, 8)],
)
def test_half_of_the_pairs_are_called_ones(n_called, n_others, n, drawn_called, drawn_others):
    drawn = draw(candidates(n_called, n_others), n, 0)
    count = Counter(stratum for _, stratum, _ in drawn)
    assert (count["called"], count["not called"]) == (drawn_called, drawn_others)
    assert all(one.is_called == (stratum == "called") for one, stratum, _ in drawn)
    assert len({one.synthetic for one, _, _ in drawn}) == len(drawn)
    assert sum(weight for _, _, weight in drawn) == pytest.approx(n_called + n_others)


def test_the_draw_is_the_seeds_and_its_order_tells_nothing():
    among = candidates(100, 900)
    assert draw(among, 60, 1) == draw(among, 60, 1) != draw(among, 60, 2)
    places = [place for seed in range(50) for place, (one, *_) in enumerate(draw(among, 60, seed)) if one.is_called]
    assert np.mean(places) == pytest.approx(29.5, abs=4 * 60 / np.sqrt(12 * len(places)))
    drawn = Counter(one.synthetic for seed in range(200) for one, *_ in draw(candidates(4, 4), 4, seed))
    assert min(drawn.values()) > 60 and max(drawn.values()) < 140  # each of the eight: 100 expected


@pytest.mark.parametrize("space", [(6, 6), (5, 7), (4, 4, 4)])
def test_the_orientation_is_found_where_no_detector_says_it(space):
    rng = np.random.default_rng(0)
    group = orientations(space, "all")
    for one in group:
        train = rng.integers(0, 256, (*space, 2), np.uint8)
        synthetic = one.apply(train) // 2 + rng.integers(0, 60, (*space, 2), np.uint8)
        assert best_orientation(synthetic, train, group) == one


def test_candidates_are_of_every_detector(tmp_path):
    out, findings = audit_folder(tmp_path, n_copies=2)
    own = Audited.open(out).candidates()
    assert [one.is_called for one in own] == [True, True] + [False] * 6
    source = findings.train.store.items
    rows = [
        (own[3].synthetic, own[3].train, "true"),  # called by another one only
        (
            own[4].synthetic,
            source[(findings.synthetic_to_train.id[4, 0] + 1) % 12].source,
            "false",
        ),  # a pair of its own
        (own[0].synthetic, own[0].train, "false"),  # called by the audit's own only
        (own[5].synthetic, "", "false"),  # without contrast
    ]
    with (out / "detectors.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("synthetic", "train", "copy", "detector"), *((*row, "ssim") for row in rows)])
    found = Audited.open(out).candidates()
    assert [one.is_called for one in found] == [True, True, False, True] + [False] * 5
    assert found[8] == Candidate(synthetic=rows[1][0], train=rows[1][1], orientation=None, is_called=False)
    review = new_review(out)
    assert len(review.pairs) == 9 and all(pair.orientation for pair in review.pairs)


def test_the_frame_has_the_planes_of_the_report():
    """Whichever plane the page cuts, its middle slice is the one that the report shows, turned the same way."""
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 2), np.uint8)
    manifest = Manifest(axes=("R", "A", "S"), channels=("t1", "seg"), label_channels=(1,), spacing_mm=(1.0, 2.0, 3.0))
    manifest = Manifest(**{**vars(manifest), "shape": image.shape})
    frame = pictures.frame(image, manifest, 0)
    for across, (plane, shown) in enumerate(
        zip(pictures.planes(manifest), display.pictures(image, manifest), strict=True)
    ):
        cut = np.take(frame, plane.slices // 2, across)  # odd sizes: the middle is the middle from both ends
        np.testing.assert_array_equal(cut, shown.pixels)
        assert (plane.name, plane.aspect, (plane.rows, plane.columns)) == (shown.plane, shown.aspect, cut.shape)
    assert [one["name"] for one in pictures.channels(manifest)] == ["t1", "seg"]


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [
        (("row", "column"), (5, 7, 1), ("grey",)),
        (("row", "column"), (5, 7, 3), ("red", "green", "blue")),
        (("R", "S"), (5, 7, 1), ("t1",)),
        (("depth", "row", "column"), (4, 5, 6, 1), ("c0",)),
        (("row", "column", "depth"), (4, 5, 6, 1), ("c0",)),
    ],
)
def test_frames_of_other_images(axes, shape, channels):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    manifest = Manifest(axes=axes, channels=channels, shape=shape, spacing_mm=(1.0, 2.0, 4.0)[: len(axes)])
    channel = pictures.channels(manifest)[0]["channel"]
    frame, (first, *_) = pictures.frame(image, manifest, channel), pictures.planes(manifest)
    assert frame.shape[:3] == (first.slices, first.rows, first.columns)
    shown = display.pictures(image, manifest)[0]
    np.testing.assert_array_equal(frame[first.slices // 2], shown.pixels)
    assert first.aspect == shown.aspect


@pytest.mark.parametrize("shape", [(1, 3, 4), (5, 3, 4), (9, 2, 2), (3, 4, 5, 3)])
def test_the_sheet_holds_every_slice(shape):
    slices = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    sheet = np.asarray(Image.open(io.BytesIO(pictures.png(slices))))
    across = pictures.grid_columns(len(slices))
    rows, columns = shape[1:3]
    for i, one in enumerate(slices):
        down, right = divmod(i, across)
        np.testing.assert_array_equal(
            sheet[down * rows : (down + 1) * rows, right * columns : (right + 1) * columns], one
        )


@pytest.fixture
def served(tmp_path):
    """The review of a small audit, its findings, and a client of its application."""
    from launch.reviewing.web import make_app

    out, findings = audit_folder(tmp_path, n_copies=3)
    review = new_review(out)
    app = make_app(review, findings.train.store, findings.synthetic.store, TOKEN)
    return review, findings, app.test_client()


def get(client, path, *, token=TOKEN, host="127.0.0.1:8000"):
    return client.get(f"/{token}/{path}", headers={"Host": host}, buffered=True)


def post(client, body, *, token=TOKEN, host="localhost", **how):
    return client.post(f"/{token}/labels", json=body, headers={"Host": host}, **how)


def test_nobody_else_is_answered(served):
    _, _, client = served
    asked = ("", "page.js", "review?reader=A", "pairs/0/synthetic.png")
    for path in asked:
        assert get(client, path).status_code == 200
        assert get(client, path, token="another").status_code == 403
        assert get(client, path, host="evil.example:8000").status_code == 403
    assert client.get("/", headers={"Host": "localhost"}).status_code == 403
    label = {"reader": "A", "pair": 0, "label": "copy"}
    assert post(client, label, token="another").status_code == 403
    assert post(client, label, host="evil.example").status_code == 403
    assert served[0].labels() == []


def test_every_answer_is_kept_from_others(served):
    _, _, client = served
    for answer in (get(client, ""), get(client, "pairs/0/training.png"), get(client, "x"), get(client, "", token="t")):
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none';")
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    page = get(client, "").text
    assert "http" not in page and "<script>" not in page


def test_readers_are_told_no_score_no_name_and_not_each_others_labels(served):
    review, findings, client = served
    say(review, "Ben", dict.fromkeys(range(len(review.pairs)), "novel"))
    told = get(client, "review?reader=Anna").json
    assert set(told) == {"reader", "pairs", "planes", "channels", "columns"}
    assert all(set(pair) == {"id", "turn", "label"} and pair["label"] is None for pair in told["pairs"])
    text = json.dumps(told)
    for store_ in (findings.train.store, findings.synthetic.store):
        assert not any(item.source in text or (item.patient and item.patient in text) for item in store_.items)


def test_each_reader_has_an_order_of_their_own(served):
    _, _, client = served
    order = {
        name: [pair["id"] for pair in get(client, f"review?reader={name}").json["pairs"]] for name in ("Anna", "Ben")
    }
    assert sorted(order["Anna"]) == sorted(order["Ben"]) == list(range(8))
    assert order["Anna"] != order["Ben"]
    assert [pair["id"] for pair in get(client, "review?reader=ANNA").json["pairs"]] == order["Anna"]


def test_pictures_are_the_pairs(served):
    review, findings, client = served
    train, synthetic = findings.train.store, findings.synthetic.store
    for number, pair in enumerate(review.pairs):
        shown = {
            side: np.asarray(Image.open(io.BytesIO(get(client, f"pairs/{number}/{side}.png").data)))
            for side in ("training", "turned", "synthetic")
        }
        images = {
            "training": train.images[[item.source for item in train.items].index(pair.train)],
            "synthetic": synthetic.images[[item.source for item in synthetic.items].index(pair.synthetic)],
        }
        for side, image in images.items():
            np.testing.assert_array_equal(shown[side], display.windowed(image[..., 0]))
        turned = {one.name: one for one in orientations((8, 8), "flips")}[pair.orientation].apply(images["training"])
        np.testing.assert_array_equal(shown["turned"], display.windowed(turned[..., 0]))
    assert get(client, "pairs/0/other.png").status_code == get(client, "pairs/8/synthetic.png").status_code == 404


def test_a_label_is_saved_at_once_and_anything_else_is_refused(served):
    review, _, client = served
    assert post(client, {"reader": "Anna", "pair": 3, "label": "copy"}).json == {"saved": "copy"}
    assert post(client, {"reader": "anna ", "pair": 3, "label": "novel"}).status_code == 200
    assert [(one.reader, one.pair, one.label) for one in review.labels()] == [("Anna", 3, "novel")]
    good = {"reader": "Anna", "pair": 0, "label": "copy"}
    for bad in ({"pair": 8}, {"pair": -1}, {"pair": "0"}, {"pair": True}, {"label": "perhaps"}, {"reader": " "}):
        answer = post(client, {**good, **bad})
        assert answer.status_code == 400 and answer.json["error"]
    as_form = client.post(
        f"/{TOKEN}/labels", data=json.dumps(good), content_type="text/plain", headers={"Host": "localhost"}
    )
    assert as_form.status_code == 415
    assert post(client, {**good, "reader": "x" * 20_000}).status_code == 413
    assert len(review.labels()) == 1


def test_images_that_changed_are_not_shown(served):
    _, findings, client = served
    path = findings.synthetic.store.path / "images.npy"
    raw = bytearray(path.read_bytes())
    raw[256:] = bytes(byte ^ 255 for byte in raw[256:])
    path.write_bytes(raw)
    answer = get(client, "pairs/0/synthetic.png")
    assert answer.status_code == 500 and "not the one that was prepared" in answer.json["error"]


def test_labels_travel_as_a_table(tmp_path):
    """Anna reads on one machine, Ben on another; brought together they agree as they did."""
    out, findings = audit_folder(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    here, there = (ReviewFile(new_review(tmp_path / place / "out").path) for place in ("one", "two"))
    assert here.pairs == there.pairs
    say(here, "Anna", {0: "copy", 1: "novel", 2: "copy"})
    say(there, "Ben", {0: "copy", 1: "novel", 2: "unsure"})
    table = tmp_path / "ben.csv"
    sent = launch("review", f"--audit={tmp_path / 'two' / 'out'}", f"--export={table}")
    assert (sent.status, sent.said) == (0, f"{table}: 3 labels\n")
    got = launch("review", f"--audit={out}", f"--import={table}")
    assert got.status == 0 and "3 labels, of which 3 are new" in got.said
    assert "3 labels, of which 0 are new" in launch("review", f"--audit={out}", f"--import={table}").said
    found = read_labels(here.path, findings)
    assert (found.readers, found.n_both, found.n_copy, found.n_novel, found.n_open) == (["Anna", "Ben"], 3, 1, 1, 1)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["copy", "novel", "unsure"]
    assert all(float(row["weight"]) == 1 and row["stratum"] in ("called", "not called") for row in rows)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("synthetic,train,reader\n", ["no column 'label'"]),
        ("synthetic,train,reader,label\nx,y,Anna,copy\n", ["line 2", "'x' with 'y' is no pair"]),
        ("synthetic,train,reader,label\n{0},{1},Anna,perhaps\n", ["line 2", "'perhaps' must be copy, novel, unsure"]),
        ("synthetic,train,reader,label\n{0},{1}, ,copy\n", ["1 to 60 letters"]),
        ("synthetic,train,reader,label,time\n{0},{1},Anna,copy,noon\n", ["line 2", "'noon' must be like"]),
        ("synthetic,train,reader,label\n{0},{1},Anna,copy\n{0},{1},anna,novel\n", ["more than one label"]),
    ],
)
def test_a_table_that_does_not_fit_changes_nothing(tmp_path, row, words):
    out, _ = audit_folder(tmp_path)
    review = new_review(out)
    pair = review.pairs[0]
    (tmp_path / "labels.csv").write_text(row.format(pair.synthetic, pair.train))
    assert launch("review", f"--audit={out}", f"--import={tmp_path / 'labels.csv'}").is_refusal(*words)
    assert review.labels() == []


def test_what_is_wrong_is_told(tmp_path):
    out, _ = audit_folder(tmp_path / "a")
    assert launch("review", f"--audit={tmp_path}").is_refusal("holds no report.json")
    assert launch("review", f"--audit={out}", "--export=x.csv").is_refusal("review.sqlite is not there")
    assert launch("review", f"--audit={out}", f"--out={tmp_path}").is_refusal("is a folder")
    new_review(out)
    assert launch("review", f"--audit={out}", "--seed=3").is_refusal("--seed=3", "drawn with --seed=0")
    assert launch("review", f"--audit={out}", "--pairs=9").is_refusal("--pairs=9", "drawn with --pairs=150")
    assert launch("review", f"--audit={out}", f"--reader={'x' * 61}").is_refusal("1 to 60 letters")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert launch("review", f"--audit={out}", f"--port={port}").is_refusal(
            f"--port={port} cannot be used", "in use"
        )
    other, _ = audit_folder(tmp_path / "b", n_copies=1)
    digest = Audited.open(other).digest("synthetic")[:12]
    run = launch("review", f"--audit={other}", f"--out={out / 'review.sqlite'}")
    assert run.is_refusal("of another audit", Audited.open(out).digest("synthetic")[:12], digest, f"--audit={other}")


def test_images_are_found_by_what_they_are(tmp_path):
    out, findings = audit_folder(tmp_path / "a")
    (tmp_path / "a" / "synthetic").rename(tmp_path / "moved")
    run = launch("review", f"--audit={out}")
    assert run.is_refusal("synthetic images that were audited", "give --synthetic=STORE", "python -m launch.audit")
    strange = store(tmp_path / "strange", noise(8, 0)[..., None])
    assert launch("review", f"--audit={out}", f"--synthetic={strange.path}").is_refusal(
        "is not the image store that was"
    )
    train, synthetic = Audited.open(out).stores({"synthetic": tmp_path / "moved"})
    assert train.path == findings.train.store.path and synthetic.path == tmp_path / "moved"
    here = tmp_path / "moved"
    for place in (out / "cache" / "synthetic-0123", out / "synthetic", tmp_path / "a" / "data" / "synthetic"):
        place.parent.mkdir(exist_ok=True)
        here = here.rename(place)
        assert Audited.open(out).stores({})[1].path == here


def test_a_page_is_served_until_interrupted(tmp_path):
    out, _ = audit_folder(tmp_path)
    in_the_background = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]  # a shell starts such jobs with Ctrl-C ignored
    process = subprocess.Popen(
        in_the_background + command("review", f"--audit={out}", "--pairs=5", "--reader=Anna B"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        lines = [process.stderr.readline() for _ in range(2)]
        assert "review.sqlite: 5 pairs" in lines[0]
        address, asked = lines[1].strip().split("?")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{43}/", address) and asked == "reader=Anna+B"
        with urllib.request.urlopen(f"{address}review?{asked}") as answer:
            assert len(json.load(answer)["pairs"]) == 5
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address.rsplit("/", 2)[0] + "/")
        refused.value.close()
        assert refused.value.code == 403
        body = json.dumps({"reader": "Anna B", "pair": 2, "label": "unsure"}).encode()
        asked_for = urllib.request.Request(f"{address}labels", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(asked_for).close()
        assert [label.pair for label in ReviewFile(out / "review.sqlite").labels("Anna B")] == [2]
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        finally:
            process.kill()  # else a test that fails would wait for it
        rest = process.stderr.read()
    assert process.returncode == 0
    assert "Anna B 1 of 5. For a consensus, a second reader is needed." in rest and "Traceback" not in rest
