"""`metarl versions`: installed and required versions of packages, and the command that repairs a mismatch.

It must work even if no other package can be imported. It therefore imports only the standard library and `packaging`,
and tries the import of other packages in a separate process.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlparse

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from metarl.scripts.ending import run_as_process

OURS = "metarl-robots"
"""The name of the distribution that holds metarl."""
TRIED = ("numpy", "scipy", "gymnasium", "mujoco", "torch")
"""Packages whose import is tried, because pip may leave compiled files of two versions in them."""
TRIAL_SECONDS = 60.0
TRIAL = """
import importlib, json, sys
for name in sys.argv[1:]:
    failure = None
    try:
        module = importlib.import_module(name)
        if name == "torch":
            print(json.dumps(["cuda", f"{module.version.cuda}, {module.cuda.device_count()} GPUs"]), flush=True)
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    print(json.dumps([name, failure]), flush=True)
"""

Distributions = Mapping[str, metadata.Distribution]


@dataclass
class Package:
    """A package that metarl requires, directly or indirectly.

    Attributes:
        name: Name of the package in a registry.
        installed: Installed version; None if it is not installed.
        direct: Whether metarl itself requires it.
        extras: Required extras of the package.
        wanted: Required versions by requiring package: `{"metarl-robots": ">=3.3.0", "metaworld": "==3.3.0"}`.
        failure: Error of its import; None if the import worked or was not tried.
    """

    name: str
    installed: str | None
    direct: bool = False
    extras: set[str] = field(default_factory=set)
    wanted: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the installed version meets all requirements."""
        return self.installed is not None and all(_within(self.installed, one) for one in self.wanted.values())

    @property
    def wanted_text(self) -> str:
        """The requirement of metarl, and those of other packages if they are pins, upper bounds, or not met."""

        def shown(who: str, one: str) -> bool:
            if not one or who == OURS:
                return bool(one)
            met = self.installed is None or _within(self.installed, one)
            return not met or not self.direct or any(part.operator not in (">=", ">") for part in SpecifierSet(one))

        asking = sorted(self.wanted.items(), key=lambda item: (item[0] != OURS, item[0]))
        return ", ".join(one if who == OURS else f"{one} ({who})" for who, one in asking if shown(who, one))

    @property
    def requirement(self) -> str:
        """The requirement for `pip install`, such as `gymnasium[mujoco]>=1.2`."""
        extras = f"[{','.join(sorted(self.extras))}]" if self.extras else ""
        parts = SpecifierSet(",".join(one for one in self.wanted.values() if one))
        pins = [part for part in parts if part.operator == "=="]
        lowest = sorted((p for p in parts if p.operator == ">="), key=lambda p: Version(p.version))[-1:]
        others = [part for part in parts if part.operator not in ("==", ">=")]
        kept = pins or [*lowest, *sorted(others, key=str)]
        return f"{self.name}{extras}{','.join(map(str, kept))}"

    def __str__(self) -> str:
        if self.installed is None:
            return f"{self.name} is not installed"
        return f"{self.name} {self.installed} is installed, but {self.wanted_text} is required"


def _within(version: str, wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return False


def _installed() -> Distributions:
    """Installed distributions by canonical name; of several with one name, the first on the path, as for an import."""
    found: dict[str, metadata.Distribution] = {}
    for one in metadata.distributions():
        name = one.metadata["Name"] if one.metadata is not None else None
        if name and one.metadata["Version"]:  # an interrupted install leaves folders without them
            found.setdefault(canonicalize_name(name), one)
    return found


def _requirements(distribution: metadata.Distribution, extras: Iterable[str] = ()) -> list[Requirement]:
    """Requirements of a distribution on this platform, with the given extras."""
    found = []
    for line in distribution.requires or ():
        try:
            one = Requirement(line)
        except InvalidRequirement:
            continue
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found.append(one)
    return found


def _walk(installed: Distributions, closed: Collection[str]) -> dict[str, Package]:
    """All packages that metarl requires, directly or indirectly; requirements of `closed` packages are ignored."""
    packages: dict[str, Package] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(OURS, frozenset())]
    for who, extras in waiting:  # grows during the loop
        for one in _requirements(installed[who], extras):
            key = canonicalize_name(one.name)
            there = installed.get(key)
            package = packages.setdefault(key, Package(one.name, there.version if there else None))
            package.direct |= who == OURS
            package.extras |= one.extras
            package.wanted[who] = str(SpecifierSet(package.wanted.get(who, "")) & one.specifier)
            below = (key, frozenset(one.extras))
            if there and key not in closed and below not in waiting:
                waiting.append(below)
    return packages


def needed(installed: Distributions) -> list[Package]:
    """All packages that metarl requires, its direct requirements first.

    Requirements of a package with a wrong version are ignored, because the right version may have others.

    Args:
        installed: Installed distributions by canonical name.

    Raises:
        ValueError: metarl is not installed.
    """
    if OURS not in installed:
        raise ValueError(f"metarl is imported from a folder, but {OURS} is not installed: requirements unknown")
    closed: set[str] = {OURS}
    while True:
        packages = _walk(installed, closed)
        wrong = {key for key, package in packages.items() if not package.fits}
        if wrong <= closed:
            return sorted(packages.values(), key=lambda package: not package.direct)
        closed |= wrong


def disagreeing(installed: Distributions, packages: Sequence[Package]) -> list[str]:
    """One sentence for each other installed package that requires another version of one of `packages`.

    Args:
        installed: Installed distributions by canonical name.
        packages: The packages that metarl requires.
    """
    known = {canonicalize_name(package.name): package for package in packages}
    sentences = []
    for name, distribution in sorted(installed.items()):
        for one in _requirements(distribution) if name != OURS and name not in known else ():
            package = known.get(canonicalize_name(one.name))
            if package and package.installed and not _within(package.installed, str(one.specifier)):
                required = f"{one.name}{one.specifier}"
                sentences.append(
                    f"{name} {distribution.version} requires {required}, but {package.installed} is installed"
                )
    return sentences


def explanation(error: Exception) -> str | None:
    """One line about packages with a wrong version that may have caused `error`; None if all versions are right."""
    try:
        wrong = [package for package in needed(_installed()) if not package.fits]
    except Exception:  # must not replace `error` by another error
        return None
    if not wrong:
        return None
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{'; '.join(map(str, wrong[:3]))}; run `metarl versions` to see what to install ({line[:300]})"


def try_imports(names: Iterable[str]) -> dict[str, str | None]:
    """Imports packages in another process.

    Returns:
        The error of each package's import, None if it worked; after an import of torch, under `cuda`, its CUDA version
        and the number of GPUs.
    """
    names = list(names)
    command = [sys.executable, "-P", "-c", TRIAL, *names]
    lines: list[str] = []
    ended = "the import crashed the process"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").decode(errors="replace").splitlines()
        ended = f"the import took more than {TRIAL_SECONDS:g} s"
    found: dict[str, str | None] = {}
    for line in lines:
        try:
            name, result = json.loads(line)
        except ValueError:  # output of a package
            continue
        found[name] = result
    for name in names:
        if name not in found:
            return {**found, name: ended}
    return found


def constraints_file(distribution: metadata.Distribution) -> Path | None:
    """Path of `constraints.txt` with the tested versions, if metarl is installed from a checkout; else None."""
    try:
        origin = urlparse(json.loads(distribution.read_text("direct_url.json") or "{}").get("url", ""))
    except (ValueError, AttributeError):
        return None
    path = Path(unquote(origin.path)) / "constraints.txt"
    return path if origin.scheme == "file" and path.is_file() else None


def _repair(wrong: Sequence[Package], pip: Sequence[str]) -> str | None:
    """The command that installs the right versions of `wrong`; None if there are none.

    If several distributions share a package's folder, installing one version may overwrite or lose files of the others.
    All of them are therefore uninstalled first.
    """
    if not wrong:
        return None
    owners = metadata.packages_distributions()
    shared = [sorted(set(owners.get(package.name, ()))) for package in wrong]
    gone = [name for names in shared if len(names) > 1 for name in names]
    broken = any(package.fits for package in wrong)  # right version, broken files
    install = [*pip, *(("--force-reinstall", "--no-deps") if broken and not gone else ())]
    steps = [[*pip[:3], "uninstall", "-y", *gone]] if gone else []
    return " && ".join(shlex.join(step) for step in [*steps, [*install, *(package.requirement for package in wrong)]])


def report() -> dict[str, Any]:
    """The content of `metarl versions` as a JSON value.

    Raises:
        ValueError: metarl is not installed.
    """
    installed = _installed()
    packages = needed(installed)
    ours = installed[OURS]
    failures = try_imports(package.name for package in packages if package.installed and package.name in TRIED)
    for package in packages:
        package.failure = failures.get(package.name)
    python, wanted = platform.python_version(), ours.metadata["Requires-Python"] or ""
    wrong = [package for package in packages if package.failure or not package.fits]
    path = constraints_file(ours)
    install = [sys.executable, "-m", "pip", "install"]
    kept = ["-c", str(path)] if path else [p.requirement for p in packages if p.direct]
    return {
        "fits": _within(python, wanted) and not wrong,
        "metarl": ours.version,
        "platform": platform.platform(),
        "python": {"installed": python, "wanted": wanted, "fits": _within(python, wanted)},
        "cuda": failures.get("cuda"),
        "packages": [
            {
                "name": package.name,
                "installed": package.installed,
                "wanted": package.wanted,
                "wanted_text": package.wanted_text,
                "fits": package.fits,
                "failure": package.failure,
            }
            for package in packages
            if package.direct or package in wrong
        ],
        "disagreeing": disagreeing(installed, packages),
        "repair": _repair(wrong, [*install, *(kept if path else [])]),
        "install_beside": f"{shlex.join([*install, *kept])} PACKAGE",
    }


def _print(found: Mapping[str, Any]) -> None:
    python = found["python"]
    rows = [("package", "installed", "required", "fits")]
    rows.append(("python", python["installed"], python["wanted"], "yes" if python["fits"] else "NO"))
    for one in found["packages"]:
        fits = "NO" if not one["fits"] else "BROKEN" if one["failure"] else "yes"
        rows.append((one["name"], one["installed"] or "-", one["wanted_text"], fits))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print(f"metarl {found['metarl']} on {found['platform']}")
    print(f"torch for CUDA {found['cuda'] or 'unknown'}".replace("CUDA None", "the CPU"))
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip())
    print()
    for one in found["packages"]:
        if one["failure"]:
            print(f"{one['name']} cannot be imported: {' '.join(one['failure'].split())}")
    for sentence in found["disagreeing"]:
        print(f"note: {sentence}")
    if not python["fits"]:
        print(f"Python {python['installed']} does not fit: create a new virtual environment with {python['wanted']}")
    if found["repair"]:
        print(f"to repair the packages that do not fit:\n  {found['repair']}")
    elif python["fits"]:
        print("everything fits")
    print(f"to install another package without changing these versions:\n  {found['install_beside']}")


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"metarl: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 if everything fits, 1 if a version is wrong or an import fails."""
    parser = _OneLine(
        prog="metarl versions",
        description="Shows the installed and the required version of each package that metarl needs, and the command "
        "that repairs a mismatch. Exit code 0: everything fits; 1: a version is wrong or an import fails.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the versions as one JSON line instead of a table")
    command = parser.parse_args(arguments)
    try:
        found = report()
    except ValueError as error:
        print(f"metarl: error: {error}; install it with: {sys.executable} -m pip install -e FOLDER", file=sys.stderr)
        return 2
    if command.json:
        print(json.dumps(found, allow_nan=False), flush=True)
    else:
        _print(found)
    return 0 if found["fits"] else 1


if __name__ == "__main__":
    run_as_process(main)
