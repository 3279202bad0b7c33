"""The web application: it hands out the page and the pictures, and takes one label at a time.

It says nothing of scores, of what detectors call, of file names or patients, nor of what another reader said. Every
address begins with a secret token; a request without it, or one that came by another host name (as when a page
elsewhere points its own name at this machine), is refused. Nothing is loaded from anywhere else.
"""

import dataclasses
import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flask
import numpy as np
from werkzeug.exceptions import HTTPException

from launch.reviewing import pictures
from memjax.audit.report.turns import by_name
from memjax.audit.review_file import LABELS, Label, Pair, ReviewFile, now
from memjax.data.store import Store
from memjax.errors import UserError

_FOLDER = Path(__file__).parent
_FILES = {"": "page.html", "page.css": "page.css", "page.js": "page.js", "volume.js": "volume.js"}
_HOSTS = ("127.0.0.1", "localhost")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",  # patients' images stay out of the browser's files
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REQUEST_BYTES = 10_000


def make_app(review: ReviewFile, train: Store, synthetic: Store, token: str) -> flask.Flask:
    """Return the application for one review.

    Args:
      review: where labels go.
      train: the training images of its pairs.
      synthetic: the synthetic images.
      token: what every address begins with.
    """
    app = flask.Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = _REQUEST_BYTES
    manifest = synthetic.manifest
    orientations = [by_name(pair.orientation, len(manifest.axes)) for pair in review.pairs]
    about = {
        "planes": [dataclasses.asdict(plane) for plane in pictures.planes(manifest)],
        "channels": pictures.channels(manifest),
        "columns": pictures.grid_columns(pictures.planes(manifest)[0].slices),
        "turns": [pictures.orientation_words(orientation, manifest) for orientation in orientations],
    }

    @app.before_request
    def check_request() -> None:
        given = flask.request.path.split("/")[1]
        host = flask.request.host.rsplit(":", 1)[0]
        if host not in _HOSTS or not secrets.compare_digest(given.encode(), token.encode()):
            flask.abort(403, "Open the address that launch.review printed, with its token.")

    @app.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers.update(_HEADERS)
        return response

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[dict[str, str], int]:
        return {"error": error.description or error.name}, error.code or 500

    @app.errorhandler(UserError)
    def fail(error: UserError) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 500

    @app.get(f"/{token}/", defaults={"name": ""})
    @app.get(f"/{token}/<name>")
    def page(name: str) -> flask.Response:
        if name not in _FILES:
            flask.abort(404, "There is no such page.")
        return flask.send_from_directory(_FOLDER, _FILES[name])

    @app.get(f"/{token}/review")
    def state() -> dict[str, Any]:
        reader = _reader(review, flask.request.args.get("reader", ""))
        said = {label.pair: label.label for label in review.labels(reader)}
        pairs = [{"id": i, "turn": about["turns"][i], "label": said.get(i)} for i in order_for(reader, review)]
        return {"reader": reader, "pairs": pairs, **{name: about[name] for name in ("planes", "channels", "columns")}}

    @app.get(f"/{token}/pairs/<int:number>/<side>.png")
    def picture(number: int, side: str) -> flask.Response:
        if side not in ("training", "turned", "synthetic") or number >= len(review.pairs):
            flask.abort(404, "There is no such picture.")
        channel = _channel(flask.request.args.get("channel"), about["channels"])
        pair: Pair = review.pairs[number]
        store, id_ = (synthetic, pair.synthetic_id) if side == "synthetic" else (train, pair.train_id)
        image = pictures.image_of(store, id_)
        if side == "turned":
            image = orientations[number].apply(image)
        return flask.Response(pictures.png(pictures.frame(image, store.manifest, channel)), mimetype="image/png")

    @app.post(f"/{token}/labels")
    def label() -> dict[str, Any]:
        given = flask.request.get_json()  # refuses other kinds of content, which a page elsewhere could send
        if not isinstance(given, dict):
            flask.abort(400, "A label is one object.")
        number, said = given.get("pair"), given.get("label")
        if said not in LABELS or type(number) is not int or not 0 <= number < len(review.pairs):
            flask.abort(400, f"A label is one of {', '.join(LABELS)}, of a pair of this review.")
        reader = _reader(review, str(given.get("reader", "")))
        review.save([Label(reader=reader, pair=number, label=said, time=now())])
        return {"saved": said}

    return app


def order_for(reader: str, review: ReviewFile) -> list[int]:
    """Return the pairs in this reader's own random order: another for each, the same every time."""
    name = f"{review.about.get('synthetic')} {reader.casefold()}"
    seed = int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:8])
    return np.random.default_rng(seed).permutation(len(review.pairs)).tolist()


def _reader(review: ReviewFile, name: str) -> str:
    try:
        return review.known_name(name)
    except UserError as error:
        flask.abort(400, str(error))


def _channel(text: str | None, known: Sequence[dict[str, Any]]) -> int | None:
    return next((one["channel"] for one in known if str(one["channel"]) == text), known[0]["channel"])
