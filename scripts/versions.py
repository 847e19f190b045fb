"""`metarl versions`: what is installed beside what is asked for, and what to install where the two differ.

It has to answer where nothing else can be imported. Therefore it imports the standard library and `packaging` only, and
tries the import of other packages in a process of its own.
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

OURS = "metarl"
TRIED = ("numpy", "scipy", "gymnasium", "mujoco", "torch")
"""Packages whose import is tried: parts of them are compiled, and pip can leave those of two versions."""
TRIAL_SECONDS = 60.0
TRIAL = """
import importlib, json, sys
for name in sys.argv[1:]:
    told = None
    try:
        module = importlib.import_module(name)
        if name == "torch":
            print(json.dumps(["cuda", f"{module.version.cuda}, {module.cuda.device_count()} GPUs"]), flush=True)
    except BaseException as error:
        told = f"{type(error).__name__}: {error}"
    print(json.dumps([name, told]), flush=True)
"""

Distributions = Mapping[str, metadata.Distribution]


@dataclass
class Package:
    """A package that metarl needs.

    Attributes:
        name: Its name in a registry.
        installed: Version, or None if it is not installed.
        direct: Whether metarl itself asks for it, and not only one of the packages below it.
        extras: Extras of it that are asked for.
        wanted: Who asks for which versions: `{"metarl": ">=3.3.0", "metaworld": "==3.3.0"}`.
        failure: What its import raised, if that was tried.
    """

    name: str
    installed: str | None
    direct: bool = False
    extras: set[str] = field(default_factory=set)
    wanted: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the installed version is one that everybody asks for."""
        return self.installed is not None and all(_within(self.installed, one) for one in self.wanted.values())

    @property
    def wanted_text(self) -> str:
        """The range of metarl; another package's, if it is a pin, an upper bound, or not met."""

        def told(who: str, one: str) -> bool:
            if not one or who == OURS:
                return bool(one)
            met = self.installed is None or _within(self.installed, one)
            return not met or not self.direct or any(part.operator not in (">=", ">") for part in SpecifierSet(one))

        asking = sorted(self.wanted.items(), key=lambda item: (item[0] != OURS, item[0]))
        return ", ".join(one if who == OURS else f"{one} ({who})" for who, one in asking if told(who, one))

    @property
    def requirement(self) -> str:
        """What to ask `pip` for: `gymnasium[mujoco]>=1.2`."""
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
        return f"{self.name} {self.installed} is installed, asked for is {self.wanted_text}"


def _within(version: str, wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidVersion, InvalidSpecifier):
        return False


def _installed() -> Distributions:
    """What can be imported here; the first of a name counts, as for an import."""
    found: dict[str, metadata.Distribution] = {}
    for one in metadata.distributions():
        name = one.metadata["Name"] if one.metadata is not None else None
        if name and one.metadata["Version"]:  # an install that was cut off leaves folders without them
            found.setdefault(canonicalize_name(name), one)
    return found


def _requirements(distribution: metadata.Distribution, extras: Iterable[str] = ()) -> list[Requirement]:
    """What a package asks for on this platform, with some of its extras."""
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
    """Every package below metarl, without what `closed` ones ask for."""
    packages: dict[str, Package] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(OURS, frozenset())]
    for who, extras in waiting:  # grows meanwhile
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
    """Every package that metarl needs, metarl's own requirements first.

    A version that has to go says nothing about what the right one will ask for, so nothing below it is counted.

    Raises:
        ValueError: metarl is not installed.
    """
    if OURS not in installed:
        raise ValueError("metarl is imported from a folder but not installed, so its requirements are unknown")
    closed: set[str] = {OURS}
    while True:
        packages = _walk(installed, closed)
        wrong = {key for key, package in packages.items() if not package.fits}
        if wrong <= closed:
            return sorted(packages.values(), key=lambda package: not package.direct)
        closed |= wrong


def disagreeing(installed: Distributions, packages: Sequence[Package]) -> list[str]:
    """Other installed packages that ask for another version of something that metarl needs, one sentence each."""
    known = {canonicalize_name(package.name): package for package in packages}
    sentences = []
    for name, distribution in sorted(installed.items()):
        for one in _requirements(distribution) if name != OURS and name not in known else ():
            package = known.get(canonicalize_name(one.name))
            if package and package.installed and not _within(package.installed, str(one.specifier)):
                asked = f"{one.name}{one.specifier}"
                sentences.append(f"{name} {distribution.version} asks for {asked}, installed is {package.installed}")
    return sentences


def explanation(error: Exception) -> str | None:
    """One line for an exception that another version of a package may have caused; None if all versions fit."""
    try:
        wrong = [package for package in needed(_installed()) if not package.fits]
    except Exception:  # this explains another error, so it must not raise one of its own
        return None
    if not wrong:
        return None
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{'; '.join(map(str, wrong[:3]))}; `metarl versions` says what to install ({told[:300]})"


def try_imports(names: Iterable[str]) -> dict[str, str | None]:
    """Imports packages in another process: what each raised, or None; under `cuda` what torch says of GPUs."""
    names = list(names)
    command = [sys.executable, "-P", "-c", TRIAL, *names]
    lines: list[str] = []
    ended = "the import ended the process"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
        lines = done.stdout.splitlines()
    except subprocess.TimeoutExpired as late:
        lines = (late.stdout or b"").decode(errors="replace").splitlines()
        ended = f"the import took more than {TRIAL_SECONDS:g} s"
    told: dict[str, str | None] = {}
    for line in lines:
        try:
            name, said = json.loads(line)
        except ValueError:  # some package's own output
            continue
        told[name] = said
    for name in names:
        if name not in told:
            return {**told, name: ended}
    return told


def constraints_file(distribution: metadata.Distribution) -> Path | None:
    """The tested set of versions, if metarl is installed from a checkout."""
    try:
        origin = urlparse(json.loads(distribution.read_text("direct_url.json") or "{}").get("url", ""))
    except (ValueError, AttributeError):
        return None
    path = Path(unquote(origin.path)) / "constraints.txt"
    return path if origin.scheme == "file" and path.is_file() else None


def _repair(wrong: Sequence[Package], pip: Sequence[str]) -> str | None:
    """The command that installs what does not fit.

    Several distributions may share one package's folder. A version without its parts overwrites or loses files of
    theirs, so all of them go first.
    """
    if not wrong:
        return None
    owners = metadata.packages_distributions()
    shared = [sorted(set(owners.get(package.name, ()))) for package in wrong]
    gone = [name for names in shared if len(names) > 1 for name in names]
    broken = any(package.fits for package in wrong)  # the version is right, its files are not
    install = [*pip, *(("--force-reinstall", "--no-deps") if broken and not gone else ())]
    steps = [[*pip[:3], "uninstall", "-y", *gone]] if gone else []
    return " && ".join(shlex.join(step) for step in [*steps, [*install, *(package.requirement for package in wrong)]])


def report() -> dict[str, Any]:
    """All of it as a JSON value.

    Raises:
        ValueError: metarl is not installed.
    """
    installed = _installed()
    packages = needed(installed)
    ours = installed[OURS]
    told = try_imports(package.name for package in packages if package.installed and package.name in TRIED)
    for package in packages:
        package.failure = told.get(package.name)
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
        "cuda": told.get("cuda"),
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
    rows = [("what", "installed", "asked for", "fits")]
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
        print(f"Python {python['installed']} does not fit: make the virtual environment anew with {python['wanted']}")
    if found["repair"]:
        print(f"something does not fit; this installs what does:\n  {found['repair']}")
    elif python["fits"]:
        print("everything fits")
    print(f"to install another package without changing what fits:\n  {found['install_beside']}")


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"metarl: error: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 if everything fits, 1 if something does not."""
    parser = _OneLine(
        prog="metarl versions",
        description="Shows what is installed beside what is asked for, and what to install. Exit code 0: everything "
        "fits; 1: something does not.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON in place of the table")
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
