"""The page in a real browser, without a window: what it draws, its order, its size, light and dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import nncodec
from nncodec.report import gather, page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on the path")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    original = {
        f"layer.{i}.{kind}": (rng.normal(size=shape) * (i + 1)).astype(np.float32)
        for i in range(4)
        for kind, shape in (("weight", (64, 16 * (i + 1))), ("bias", (64,)))
    }
    folder = tmp_path_factory.mktemp("report")
    nncodec.save_file(original, folder / "net.nncz", "uniform", rel_mse=1e-2)
    with nncodec.open(folder / "net.nncz", framework="np") as file:
        text = page(gather(file, "net.nncz", original, "net.safetensors"))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def browse(*options: str) -> str:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def names(dom: str) -> list[str]:
    body = dom[dom.index("<tbody>") : dom.index("</tbody>")]
    return re.findall(r'<td class="text name" title="([^"]*)"', body)


def test_draws_everything(document: Path) -> None:
    dom = browse("--dump-dom", document.as_uri())
    assert '<h1 id="title">net.nncz</h1>' in dom
    treemap = dom[dom.index('id="treemap"') : dom.index('id="legend"')]
    assert treemap.count('class="tensor') == 8
    assert 'id="this-file"' in dom
    errors = dom[dom.index('id="errors"') : dom.index('id="detail"')]
    assert errors.count("<rect") == 8
    assert names(dom) == [f"layer.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]
    assert ">layer.3.weight</h2>" in dom  # the one with most bytes is shown first


def test_sorts_and_chooses_by_the_address(document: Path) -> None:
    dom = browse("--dump-dom", document.as_uri() + "#sort=bytes&order=falling&tensor=layer.1.weight")
    assert names(dom)[:4] == [f"layer.{i}.weight" for i in (3, 2, 1, 0)]
    assert ">layer.1.weight</h2>" in dom
    assert 'aria-sort="descending"' in dom
    rising = browse("--dump-dom", document.as_uri() + "#sort=name&order=rising")
    assert names(rising) == sorted(names(rising))


KEYS = """
<script>
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const report = (figure) => {
  const boxes = [...document.querySelectorAll(`#${figure} .tensor`)];
  const stops = () => boxes.filter((box) => box.tabIndex === 0);
  const found = { figure, stops: stops().length, walked: [], moved: [] };
  stops()[0].focus();
  press("Home");
  for (const _ of boxes) { found.walked.push(document.activeElement.dataset.index); press("PageDown"); }
  for (const from of boxes)
    for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) {
      from.focus();
      press(key);
      const there = document.activeElement, [a, b] = [from, there].map((box) => box.getBoundingClientRect());
      const right = { ArrowLeft: b.right <= a.left + 1, ArrowRight: b.left >= a.right - 1,
        ArrowUp: b.bottom <= a.top + 1, ArrowDown: b.top >= a.bottom - 1 }[key];
      const chosen = there.getAttribute("aria-selected") === "true" && stops().length === 1 && stops()[0] === there;
      if (there !== from) found.moved.push(right && chosen);
    }
  press("End");
  found.last = document.activeElement.ariaLabel.split("\\n")[0];
  found.shown = document.getElementById("detail-name").textContent;
  return found;
};
document.body.append(Object.assign(document.createElement("pre"),
  { id: "keys", textContent: JSON.stringify(["treemap", "errors"].map(report)) }));
</script>
"""


def test_figures_by_keyboard(document: Path, tmp_path: Path) -> None:
    """One stop of the Tab key each; keys reach every box, arrows the one on that side; what has the focus is shown."""
    page_with_keys = tmp_path / "keys.html"
    page_with_keys.write_text(document.read_text(encoding="utf-8") + KEYS, encoding="utf-8")
    dom = browse("--dump-dom", page_with_keys.as_uri())
    found = re.search(r'<pre id="keys">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    for figure in json.loads(html.unescape(found[1])):
        assert figure["stops"] == 1
        assert sorted(figure["walked"]) == [str(i) for i in range(8)]
        assert len(figure["moved"]) >= 14, figure  # from one end of eight boxes to the other and back
        assert all(figure["moved"]), figure
        assert figure["last"] == figure["shown"]


@pytest.mark.parametrize(("options", "dark"), [([], False), (["--force-dark-mode"], True)])
@pytest.mark.parametrize("width", [1200, 390])
def test_looks_right(document: Path, tmp_path: Path, options: list[str], dark: bool, width: int) -> None:
    image = pytest.importorskip("PIL.Image")
    shot = tmp_path / "shot.png"
    browse(
        *options,
        "--hide-scrollbars",
        f"--window-size={width},1600",
        f"--screenshot={shot}",
        document.as_uri(),
    )
    pixels = np.asarray(image.open(shot).convert("RGB"), int)
    assert pixels.shape[1] == width
    assert (pixels[5, 5].mean() < 60) == dark
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100  # more than an empty page


def test_hostile_names_and_errors_that_are_not_finite(tmp_path: Path) -> None:
    name = "</script><img src=x onerror=alert(1)>"
    original = {name: np.ones((4, 4), np.float32), "__proto__": np.ones((4, 4), np.float32), "": np.arange(3)}
    nncodec.save_file(original, tmp_path / "a.nncz")
    original[name] = np.full((4, 4), np.nan, np.float32)
    with nncodec.open(tmp_path / "a.nncz", framework="np") as file:
        text = page(gather(file, "a.nncz", original, "b", curve=False))
    (tmp_path / "a.html").write_text(text, encoding="utf-8")
    dom = browse("--dump-dom", (tmp_path / "a.html").as_uri())
    table = dom[dom.index("<tbody>") : dom.index("</tbody>")]
    assert table.count("<tr") == 3
    assert "<img" not in table
    assert ">&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;</td>" in table
    assert table.count(">not finite</td>") == 1
    assert ">__proto__</td>" in table
