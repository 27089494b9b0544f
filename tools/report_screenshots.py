"""Two pictures of a run's report for README: its front page and the page of a neuron.

    python tools/report_screenshots.py runs/quickstart docs/figures [--neuron layer3/5]

needs the extra `browser` and Chromium (JAXLE_CHROMIUM names the program where it is no command).
Writes report_overview.png and report_neuron.png, 1280 pixels wide, in light colours. The same
report, Chromium and fonts give the same pictures.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
from pathlib import Path
from urllib.parse import quote

from PIL import Image

WIDTH, HEIGHT = 1280, 860
COLOURS = 256  # of the palette, so that a file stays below LARGEST
LARGEST = 250_000  # bytes
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Reads the arguments and writes both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run with a report")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--neuron", default="layer3/5", help="layer/number")
    options = parser.parse_args()
    tap, _, unit = options.neuron.rpartition("/")
    views = {"overview": "#/", "neuron": f"#/neuron/{quote(tap, safe='')}/{unit}"}
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, picture in shoot(options.run / "report/index.html", views).items():
        content = compress(picture)
        if len(content) > LARGEST:
            raise SystemExit(f"{name} takes {len(content):,} bytes, more than {LARGEST:,}.")
        (options.folder / f"report_{name}.png").write_bytes(content)
        print(f"report_{name}.png: {len(content):,} bytes")


def shoot(page: Path, views: dict[str, str]) -> dict[str, bytes]:
    """Returns a PNG of the top of each view, once its pictures are there."""
    from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

    named = os.environ.get("JAXLE_CHROMIUM")
    program = named or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise SystemExit(f"Found none of the programs {', '.join(PROGRAMS)}: install Chromium.")
    found = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        window = browser.new_page(
            viewport={"width": WIDTH, "height": HEIGHT},
            color_scheme="light",
            reduced_motion="reduce",
        )
        for name, view in views.items():
            window.goto("about:blank")
            window.goto(page.resolve().as_uri() + view)
            window.wait_for_selector("main h1")
            window.wait_for_load_state("networkidle")
            found[name] = window.screenshot(animations="disabled")
        browser.close()
    return found


def compress(picture: bytes) -> bytes:
    """Returns the PNG with a palette."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    file = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
