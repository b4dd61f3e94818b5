"""Sample pages: the report of a folder, networks side by side, a plan, and a network as it was found.

python benchmarks/pages.py --out pages

Trains digits-cnn for a few seconds, runs the commands that write pages, prints how large each is, and takes pictures of
all of them where chromium is installed: wide, in the dark, and as narrow as a phone.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tenfold.cli import app

DATA = ["--data", "digits", "--threads", "1"]
FORMATS = ["--format", "tucker2,svd,ht2"]
COMMANDS = [
    ["train", "digits-cnn", *DATA, "--epochs", "6", "--out", "dense"],
    ["compress", "dense", *DATA, *FORMATS, "--params", "4x", "--calibrate", "256", "--out", "small"],
    ["compress", "dense", *DATA, *FORMATS, "--params", "6x", "--epochs", "4", "--out", "smaller"],
    ["evaluate", "dense", "small", "smaller", *DATA, "--html", "networks.html"],
    ["plan", "dense", *DATA, *FORMATS, "--params", "4x", "--html", "plan.html"],
    ["inspect", "dense", *DATA, "--html", "inspect.html"],
]
PAGES = ["small/report.html", "smaller/report.html", "networks.html", "plan.html", "inspect.html"]
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
PHONE = '<body style="margin:0"><iframe src="{page}" style="width:390px;height:{height}px;border:0"></iframe>'
HEIGHT = 2600


def picture(chromium: str, page: Path, out: Path, *more: str, width: int = 1280) -> None:
    """A picture of the top of a page."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [chromium, *QUIET, *more, f"--user-data-dir={profile}", f"--screenshot={out}",
             f"--window-size={width},{HEIGHT}", page.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def pictures(chromium: str, page: Path) -> None:
    """Beside the page: wide, dark and narrow; windows are never narrower than 500, so a frame in one is."""
    picture(chromium, page, page.with_suffix(".wide.png"))
    picture(chromium, page, page.with_suffix(".dark.png"), "--blink-settings=preferredColorScheme=0")
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder) / "phone.html"
        frame.write_text(PHONE.format(page=page.resolve().as_uri(), height=HEIGHT), encoding="utf-8")
        picture(chromium, frame, page.with_suffix(".narrow.png"), width=500)


def main() -> None:
    """Run it."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--out", type=Path, default=Path("pages"))
    given = reader.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.chdir(given.out)
    for words in COMMANDS:
        over = ["--overwrite"] if "--out" in words or words[0] == "plan" else []
        app(["--quiet", *words, *over], standalone_mode=False)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    for name in PAGES:
        print(f"{name}: {Path(name).stat().st_size:,} bytes")
        if chromium is not None:
            pictures(chromium, Path(name))


if __name__ == "__main__":
    main()
