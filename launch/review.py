"""Let two readers say which synthetic images are copies: a page on this machine, blind to the scores.

    python -m launch.review --audit=DIR [--reader=NAME] [--pairs=150] [--seed=0] [--port=0] [--out=FILE]

Draws pairs of images from a finished audit and prints the address of a page to label them on. Every label is saved at
once; Ctrl-C ends it, the same command goes on. `launch.audit --labels=FILE` puts the labels into the report.
Exit status: 0 ended, 2 something is wrong with what was given.
"""

import contextlib
import logging
import secrets
import signal
import socket
import urllib.parse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from launch import boot
from memjax.errors import UserError

if TYPE_CHECKING:
    from launch.reviewing.audited import Audited
    from memjax.audit.review_file import ReviewFile
    from memjax.data.store import Store

_AUDIT = flags.DEFINE_string("audit", None, "The folder that launch.audit wrote its report into.", required=True)
_OUT = flags.DEFINE_string("out", None, "Where labels are kept; default: AUDIT/review.sqlite.")
_PAIRS = flags.DEFINE_integer("pairs", 150, "How many pairs are drawn for a new review.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Which pairs are drawn for a new review.", lower_bound=0)
_READER = flags.DEFINE_string("reader", None, "Who reads; default: the page asks.")
_PORT = flags.DEFINE_integer("port", 0, "Port of the page; 0: any that is free.", lower_bound=0, upper_bound=65535)
_TRAIN = flags.DEFINE_string("train", None, "The image store of the training images, where it was moved.")
_SYNTHETIC = flags.DEFINE_string("synthetic", None, "The image store of the synthetic images, where it was moved.")
_EXPORT = flags.DEFINE_string("export", None, "Write the labels as a table (CSV) to this file, and end.")
_IMPORT = flags.DEFINE_string("import", None, "Add the labels of such a table, of the same pairs, and end.")

_ADDRESS = "127.0.0.1"  # never another: patients' images leave this machine through no port


def main() -> None:
    """Draw pairs, or find those drawn before; then show the page, or move labels."""
    from launch.reviewing.audited import Audited

    audited = Audited.open(boot.place(_AUDIT))
    path = boot.place(_OUT) if _OUT.value is not None else audited.folder / "review.sqlite"
    if path.is_dir():
        raise UserError(f"--out={path} is a folder; give a file for the labels.")
    review = _review(audited, path, may_draw=_EXPORT.value is None or _IMPORT.value is not None)
    if _EXPORT.value is not None or _IMPORT.value is not None:
        _move_labels(review)
        return
    train, synthetic = _stores(audited)
    with _listening() as door:
        _serve(review, train, synthetic, door)
    _tell(review)


def _review(audited: "Audited", path: Path, *, may_draw: bool) -> "ReviewFile":
    """Return the review at this place; where there is none, it is made now if it may be."""
    from launch.reviewing.draw import draw_pairs
    from memjax.audit.review_file import ReviewFile, now

    if may_draw and not path.exists():
        train, synthetic = _stores(audited)
        pairs = draw_pairs(
            audited.candidates(),
            _PAIRS.value,
            _SEED.value,
            train=train,
            synthetic=synthetic,
            names=audited.record["orientations"],
        )
        about = {
            "train": audited.digest("train"),
            "synthetic": audited.digest("synthetic"),
            "pairs": str(_PAIRS.value),
            "seed": str(_SEED.value),
            "drawn": now(),
        }
        ReviewFile.create(path, about, pairs)
    review = ReviewFile(path)
    review.check_subject(audited.digest("train"), audited.digest("synthetic"), f"--audit={audited.folder}")
    for flag in (_PAIRS, _SEED):
        had = review.about.get(flag.name)
        if flag.present and str(flag.value) != had:
            raise UserError(
                f"--{flag.name}={flag.value}, but the pairs of {path} were drawn with --{flag.name}={had}; leave the "
                "flag out, or choose another --out for another review."
            )
    return review


def _stores(audited: "Audited") -> "tuple[Store, Store]":
    return audited.stores({"train": boot.place_if_given(_TRAIN), "synthetic": boot.place_if_given(_SYNTHETIC)})


def _move_labels(review: "ReviewFile") -> None:
    from launch.reviewing import exchange

    if _IMPORT.value is not None:
        table = boot.place(_IMPORT)
        labels = exchange.read_table(table, review)
        boot.say(f"{table}: {len(labels)} labels, of which {review.save(labels)} are new or later than what was there")
    if _EXPORT.value is not None:
        table = boot.place(_EXPORT)
        boot.say(f"{table}: {exchange.write_table(table, review)} labels")


def _listening() -> socket.socket:
    """Open the port, on this machine's own address only."""
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that was left a moment ago may be taken again
    try:
        door.bind((_ADDRESS, _PORT.value))
        door.listen()
    except OSError as error:
        door.close()
        raise UserError(
            f"--port={_PORT.value} cannot be used ({error.strerror}); choose another, or leave the flag out for any "
            "free one."
        ) from None
    return door


def _serve(review: "ReviewFile", train: "Store", synthetic: "Store", door: socket.socket) -> None:
    """Show the page until Ctrl-C."""
    from werkzeug.serving import make_server

    from launch.reviewing.web import make_app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for every picture, with the token in it
    token = secrets.token_urlsafe()
    asked = "" if _READER.value is None else "?" + urllib.parse.urlencode({"reader": review.known_name(_READER.value)})
    app = make_app(review, train, synthetic, token)
    server = make_server(_ADDRESS, 0, app, threaded=True, fd=door.fileno())
    boot.say(f"{review.path}: {len(review.pairs)} pairs. Open this address in a browser; Ctrl-C ends.")
    boot.say(f"http://{_ADDRESS}:{server.port}/{token}/{asked}")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us in the background has Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()  # closes itself


def _tell(review: "ReviewFile") -> None:
    """Say how far each reader is."""
    count = Counter(label.reader for label in review.labels())
    said = ", ".join(f"{name} {n} of {len(review.pairs)}" for name, n in count.items()) or "none yet"
    alone = " For a consensus, a second reader is needed." if len(count) == 1 else ""
    boot.say(f"ended; labels in {review.path}: {said}.{alone} The same command goes on.")


if __name__ == "__main__":
    boot.run(main)
