"""The page of a review in a real browser: two readers label pairs by keyboard and by mouse, and look closely."""

import json
import threading

import numpy as np
import pytest
from browsers import MARKS, chromium
from reviews import audit_folder, new_review

from launch.reviewing import pictures
from memjax.audit.labels import read_labels

pytest.importorskip("selenium.webdriver")

from selenium import webdriver
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = MARKS
KEYS = {"copy": "1", "novel": "n", "unsure": "3"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    driver.set_window_size(700, 600)  # little to send of each canvas
    yield driver
    driver.quit()


@pytest.fixture
def serve():
    """A function that serves the review of an audit's folder and returns it, with the address of its page."""
    from werkzeug.serving import make_server

    from launch.reviewing.web import make_app

    servers = []

    def started(out, findings):
        review = new_review(out)
        app = make_app(review, findings.train.store, findings.synthetic.store, "token")
        server = make_server("127.0.0.1", 0, app, threaded=True)
        servers.append((server, threading.Thread(target=server.serve_forever)))
        servers[-1][1].start()
        return review, f"http://127.0.0.1:{server.port}/token/"

    yield started
    for server, thread in servers:
        server.shutdown()
        thread.join()


def text(browser, name):
    return browser.find_element(By.ID, name).text


def wait(browser, what):
    WebDriverWait(browser, 20, poll_frequency=0.02).until(lambda _: what())


def wait_for_pair(browser, number, n):
    """Wait until the images of the pair with this place are on show."""
    button = "#review button.label"
    wait(browser, lambda: text(browser, "where") == f"{number} of {n}")
    wait(browser, lambda: browser.find_element(By.CSS_SELECTOR, button).get_attribute("aria-disabled") == "false")


def begin(browser, address, reader):
    browser.get(address)
    browser.find_element(By.ID, "reader").send_keys(reader, Keys.ENTER)


def press(browser, key):
    webdriver.ActionChains(browser).send_keys(key).perform()


def order(browser, reader):
    script = "return fetch(`review?reader=${arguments[0]}`).then(answer => answer.json())"
    return [pair["id"] for pair in browser.execute_script(script, reader)["pairs"]]


def canvas_values(browser):
    """Return the grey values of every canvas on show, by its label's first words."""
    script = """
        return [...document.querySelectorAll('canvas')].map(canvas => {
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', { willReadFrequently: true });
          copy.drawImage(canvas, 0, 0);
          const all = copy.getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.getAttribute('aria-label'), canvas.width, Array.from(all.data.filter((_, i) => i % 4 === 0))];
        });
    """
    return {label: np.array(data).reshape(-1, width) for label, width, data in browser.execute_script(script)}


def silent(browser):
    assert browser.get_log("browser") == []
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert all(name.startswith(("http://127.0.0.1", "data:")) for name in browser.execute_script(script))


def test_two_readers_label_every_pair_and_agree_as_planted(browser, serve, tmp_path):
    out, findings = audit_folder(tmp_path, n_synthetic=6, n_copies=3, shape=(24, 24, 1))
    review, address = serve(out, findings)
    n = len(review.pairs)
    said = {
        "Anna": dict(enumerate(("copy", "copy", "novel", "novel", "unsure", "copy"))),
        "Ben": dict(enumerate(("copy", "copy", "novel", "copy", "unsure", "novel"))),
    }

    begin(browser, address, "Anna")  # by keyboard
    wait_for_pair(browser, 1, n)
    pairs = order(browser, "Anna")
    for place, pair in enumerate(pairs, 1):
        wait_for_pair(browser, place, n)
        if place == 3:  # gone in between, and back: the first pair without a label follows
            browser.get(f"{address}?reader=anna")
            wait_for_pair(browser, place, n)
            press(browser, Keys.ARROW_LEFT)
            wait_for_pair(browser, place - 1, n)
            chosen = browser.find_element(By.CSS_SELECTOR, ".label[aria-pressed=true]").get_attribute("data-label")
            assert chosen == said["Anna"][pairs[place - 2]]
            press(browser, "u")  # changes her mind, twice
            wait_for_pair(browser, place, n)
            press(browser, Keys.ARROW_LEFT)
            wait_for_pair(browser, place - 1, n)
            press(browser, KEYS[chosen])
            wait_for_pair(browser, place, n)
        press(browser, KEYS[said["Anna"][pair]])
    wait(browser, lambda: "All pairs are labelled" in text(browser, "count"))
    silent(browser)

    begin(browser, address, "Ben")  # by mouse
    wait_for_pair(browser, 1, n)
    assert text(browser, "count") == "0 labelled"
    for place, pair in enumerate(order(browser, "Ben"), 1):
        wait_for_pair(browser, place, n)
        browser.find_element(By.CSS_SELECTOR, f".label[data-label={said['Ben'][pair]}]").click()
    wait(browser, lambda: "All pairs are labelled" in text(browser, "count"))
    silent(browser)

    kept = {(label.reader, label.pair): label.label for label in review.labels()}
    assert kept == {(name, pair): label for name, labels in said.items() for pair, label in labels.items()}
    found = read_labels(review.path, findings)
    # p_o = 4/6; Anna says 3, 2, 1 and Ben 3, 2, 1: p_e = 14/36.
    assert found.kappa == pytest.approx((4 / 6 - 14 / 36) / (1 - 14 / 36))
    assert (found.n_copy, found.n_novel, found.n_open) == (2, 1, 3)


def test_a_label_that_is_not_saved_is_told(browser, serve, tmp_path):
    out, findings = audit_folder(tmp_path, shape=(24, 24, 1))
    review, address = serve(out, findings)
    begin(browser, address, "Anna")
    wait_for_pair(browser, 1, 8)
    review.path.unlink()
    press(browser, "c")
    wait(browser, lambda: "The label was not saved" in text(browser, "message"))
    assert text(browser, "where") == "1 of 8"
    browser.get_log("browser")  # the browser's own line about the answer


def test_the_turned_copy_leaves_no_difference(browser, serve, tmp_path):
    out, findings = audit_folder(tmp_path, n_copies=1, n_synthetic=2, shape=(24, 24, 1), symmetry="all")
    review, address = serve(out, findings)
    begin(browser, address, "Anna")
    wait_for_pair(browser, 1, 2)
    if review.pairs[order(browser, "Anna")[0]].stratum != "called":
        press(browser, Keys.ARROW_RIGHT)
        wait_for_pair(browser, 2, 2)
    press(browser, "d")
    before = canvas_values(browser)["Difference"].mean()
    assert "most like" in text(browser, "turned")
    press(browser, "o")
    wait(browser, lambda: "is shown" in text(browser, "turned"))
    wait(browser, lambda: canvas_values(browser)["Difference"].mean() < before / 3)
    shown = canvas_values(browser)
    assert np.corrcoef(shown["Training"].ravel(), shown["Synthetic"].ravel())[0, 1] > 0.9
    press(browser, "z")
    zoomed = canvas_values(browser)
    assert text(browser, "zoom").startswith("Zoom 2×")
    height, width = zoomed["Synthetic"].shape
    middle = shown["Synthetic"][height // 2 - height // 8 : height // 2 + height // 8, width // 2]
    enlarged = zoomed["Synthetic"][height // 4 : 3 * height // 4, width // 2]
    assert np.corrcoef(np.repeat(middle, 2)[: len(enlarged)], enlarged[: 2 * len(middle)])[0, 1] > 0.9
    silent(browser)


def test_volumes_arrive_whole_and_their_slices_go_together(browser, serve, tmp_path):
    out, findings = audit_folder(
        tmp_path, shape=(10, 14, 8, 2), n_copies=2, n_synthetic=4, store={"axes": ("R", "A", "S")}
    )
    review, address = serve(out, findings)
    begin(browser, address, "Anna")
    wait_for_pair(browser, 1, 4)
    number = order(browser, "Anna")[0]
    store = findings.synthetic.store
    script = """
        const [address, size, across] = arguments;
        return import('./volume.js').then(async ({ fetchVolume, cut, windowTable }) => {
          const volume = await fetchVolume(address, size, across, 1);
          const table = windowTable(127.5, 255);
          const planes = [2, 5, 7].map((at, plane) => Array.from(cut(volume, plane, at, table).data));
          return [Array.from(volume.values), planes];
        });
    """
    for channel in (0, 1):
        frame = pictures.frame(pictures.image_of(store, review.pairs[number].synthetic_id), store.manifest, channel)
        across = pictures.grid_columns(len(frame))
        asked = (f"pairs/{number}/synthetic.png?channel={channel}", list(frame.shape), across)
        values, planes = browser.execute_script(script, *asked)
        np.testing.assert_array_equal(np.array(values).reshape(frame.shape), frame)
        for plane, (found, at) in enumerate(zip(planes, (2, 5, 7), strict=True)):
            expected = np.take(frame, at, plane)
            np.testing.assert_array_equal(np.array(found).reshape(*expected.shape, 4)[..., 0], expected)

    before = canvas_values(browser)
    assert sorted(before) == sorted(
        f"{side}, {plane}, slice {middle} of {count}"
        for side in ("Training", "Synthetic")
        for plane, middle, count in (("axial", 5, 8), ("coronal", 8, 14), ("sagittal", 6, 10))
    )
    axial = browser.find_element(By.CSS_SELECTOR, "canvas[aria-label^='Synthetic, axial']")
    wheel = ScrollOrigin.from_element(axial)
    webdriver.ActionChains(browser).scroll_from_origin(wheel, 0, 100).perform()
    press(browser, Keys.ARROW_DOWN)
    slider = browser.find_element(By.ID, "slice-1")
    browser.execute_script("arguments[0].value = 2; arguments[0].dispatchEvent(new Event('input'))", slider)
    after = canvas_values(browser)
    moved = {label for label in after if label not in before}
    assert moved == {
        f"{side}, {place}"
        for side in ("Training", "Synthetic")
        for place in ("axial, slice 7 of 8", "coronal, slice 2 of 14")
    }
    assert all(values.std() > 10 for values in after.values())
    silent(browser)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_its_window(browser, serve, tmp_path, width, scheme):
    out, findings = audit_folder(tmp_path, shape=(10, 14, 8, 1), n_synthetic=3, store={"axes": ("R", "A", "S")})
    _, address = serve(out, findings)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    begin(browser, address, "A" * 60)
    wait_for_pair(browser, 1, 3)
    press(browser, "d")
    script = (
        "const e = document.documentElement; return [e.scrollWidth - e.clientWidth, e.scrollHeight - e.clientHeight]"
    )
    sideways, down = browser.execute_script(script)
    assert sideways == 0 and (width < 1200 or down == 0)
    press(browser, "?")
    assert browser.find_element(By.ID, "help").is_displayed()
    press(browser, "1")  # keys do nothing behind the list
    press(browser, Keys.ESCAPE)
    assert text(browser, "count") == "0 labelled"
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (np.mean(json.loads(paper.replace("rgb(", "[").replace(")", "]"))) < 100) == (scheme == "dark")
    silent(browser)
