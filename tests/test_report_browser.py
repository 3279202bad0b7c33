"""The pages in a real browser: silent console, no sideways scrolling, every picture shown, light, dark and on paper."""

import base64

import numpy as np
import pytest
from browsers import MARKS, chromium
from small_findings import planted_findings, planted_generators, with_detectors

from memjax.audit.findings import Leak
from memjax.audit.report import comparison, report
from memjax.audit.report.compared import Audited

pytest.importorskip("selenium.webdriver")

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=["audit", "comparison"])
def page(request, tmp_path_factory):
    """The page of an audit, or of six side by side, with every section, and names that are hard to break."""
    folder = tmp_path_factory.mktemp("report")
    return audit_page(folder) if request.param == "audit" else comparison_page(folder)


def audit_page(folder):
    names = [f"{'long' * 300}{i}.png" for i in range(6)] + [f"胸部 {i}/صورة.png" for i in range(6)]
    findings = planted_findings(
        folder,
        sources=names,
        leaks=[Leak(kind="same image", roles=("train", "synthetic"), ids=(0, 0), patient="p" * 300)],
        duplicates=[(0, 1, 2)],
        warnings=("w" * 400,),
    )
    findings = with_detectors(findings, foreground=findings.decision, foreground_share=0.5)
    report.write(folder / "out", findings, command="python -m launch.audit " + "--out=x" * 60)
    return (folder / "out" / "report.html").as_uri()


def comparison_page(folder):
    leak = Leak(kind="same image", roles=("train", "synthetic"), ids=(0, 0), patient="p" * 300)
    copies = {"StyleGAN2": 2, "DDPM": 30, "long" * 300: 0, "three": 3, "four": 4, "five": 5}
    found = planted_generators(folder, copies, leaks=[leak], warnings=("w" * 400,))
    audited = {name: Audited(findings=one, link=f"{'x' * 99}/report.html") for name, one in found.items()}
    return comparison.write(folder / "out", audited, command="python -m launch.demo " + "--out=x" * 60).as_uri()


def emulate(browser, *, width=1200, scheme="light", media="screen"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def shown_charts(browser):
    script = "return [...document.querySelectorAll('.chart img')].filter(i => i.offsetWidth).map(i => i.className)"
    return browser.execute_script(script)


def background(browser):
    text = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    return np.array([int(part) for part in text.removeprefix("rgb(").removesuffix(")").split(",")])


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window_in_silence(browser, page, width, scheme):
    emulate(browser, width=width, scheme=scheme)
    browser.get(page)
    assert browser.get_log("browser") == []
    overflow = browser.execute_script("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
    assert overflow == 0
    charts = browser.execute_script("return document.querySelectorAll('.chart').length")
    assert shown_charts(browser) == [scheme] * charts and charts > 0
    assert (background(browser).mean() < 100) == (scheme == "dark")


def test_every_picture_is_loaded(browser, page):
    emulate(browser)
    browser.get(page)
    widths = browser.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert len(widths) > 10 and min(widths) > 0


def test_nothing_is_requested_from_anywhere(browser, page):
    emulate(browser)
    browser.get(page)
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    assert [name for name in browser.execute_script(script) if not name.startswith("data:")] == []


def test_paper_is_light_even_where_the_screen_is_dark(browser, page):
    emulate(browser, scheme="dark", media="print")
    browser.get(page)
    assert set(shown_charts(browser)) == {"light"}
    assert background(browser).tolist() == [255, 255, 255]
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser, page, scheme):
    emulate(browser, scheme=scheme)
    browser.get(page)
    script = """
        const paper = element => {
          for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (!colour.endsWith(', 0)')) return colour;
          }
        };
        const walker = document.createTreeWalker(document.querySelector('body'), NodeFilter.SHOW_TEXT);
        const found = [];
        while (walker.nextNode()) {
          const element = walker.currentNode.parentElement;
          if (walker.currentNode.data.trim()) found.push([getComputedStyle(element).color, paper(element)]);
        }
        return [...new Set(found.map(pair => pair.join('|')))];
    """
    for pair in browser.execute_script(script):
        ink, paper = (luminance(colour) for colour in pair.split("|"))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, pair


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.1)."""
    c = np.array([int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_volumes_fit_a_narrow_window(browser, tmp_path):
    findings = planted_findings(tmp_path, shape=(10, 14, 8, 1), store={"axes": ("R", "A", "S")})
    report.write(tmp_path / "out", findings)
    emulate(browser, width=400)
    browser.get((tmp_path / "out" / "report.html").as_uri())
    script = "const e = document.documentElement; return e.scrollWidth - e.clientWidth"
    assert browser.execute_script(script) == 0
