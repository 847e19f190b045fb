from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from metarl.own_code.errors import EnvError
from metarl.scripts import versions
from metarl.scripts.common import border

Install = Callable[..., None]
METARL = Path(sys.executable).parent / "metarl"
REQUIREMENTS = ("gymnasium[mujoco]>=1.2", "mujoco>=3.3.0", "metaworld>=3.1.1", "numpy>=2.0", 'ruff>=1; extra == "dev"')


def announce(site: Path, name: str, version: str, *requires: str, files: tuple[str, ...] = (), **other: str) -> None:
    """Writes the metadata folder that `pip` creates for a package."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.11"]
    lines += ["Provides-Extra: dev", "Provides-Extra: mujoco", *(f"Requires-Dist: {one}" for one in requires)]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    (folder / "RECORD").write_text("".join(f"{one},,\n" for one in files))
    for one in files:
        (site / one).parent.mkdir(exist_ok=True)
        (site / one).touch()
    for key, text in other.items():
        (folder / f"{key}.json").write_text(text)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """An environment with the packages that metarl needs, in which others can be installed."""
    site, found = tmp_path / "site", metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: found(path=[str(site)]))
    monkeypatch.setattr(versions, "try_imports", lambda names: {})

    def run(name: str, version: str, *requires: str, **other: object) -> None:
        for one in site.glob(f"{name}-*"):
            one.rename(site / f"gone-{one.name}.old")
        announce(site, name, version, *requires, **other)  # type: ignore[arg-type]

    run("metarl-robots", "0.1.0", *REQUIREMENTS)
    run("gymnasium", "1.4.0", "numpy>=1.21", 'mujoco>=2.1.5; extra == "mujoco"')
    run("mujoco", "3.3.0", "numpy")
    run("metaworld", "3.1.1", "mujoco==3.3.0", "gymnasium>=1.1")
    run("numpy", "2.4.6")
    return run


@pytest.fixture
def run_versions(run_metarl: Callable[..., tuple[int, str, str]]) -> Callable[[], tuple[int, dict[str, object], str]]:
    """Runs the command; returns its exit code, JSON value and text."""

    def run() -> tuple[int, dict[str, object], str]:
        code, out, err = run_metarl("versions", "--json")
        assert err == ""
        assert run_metarl("versions")[0] == code
        return code, json.loads(out.splitlines()[-1]), run_metarl("versions")[1]

    return run


def test_versions_that_fit(install: Install, run_versions) -> None:
    code, found, text = run_versions()
    assert (code, found["fits"], found["repair"]) == (0, True, None)
    assert [one["name"] for one in found["packages"]] == ["gymnasium", "mujoco", "metaworld", "numpy"]
    assert "everything fits" in text
    assert "mujoco     3.3.0      >=3.3.0, ==3.3.0 (metaworld)  yes" in text.splitlines()


def test_a_robot_package_that_pulled_numpy(install: Install, run_versions) -> None:
    install("numpy", "1.26.4")
    install("robosuite", "1.5.2", "numpy==1.26.4", "mujoco>=3.3.0", "absent>=3")
    code, found, text = run_versions()
    assert (code, found["fits"], found["disagreeing"]) == (1, False, [])
    assert "numpy      1.26.4     >=2.0" in text
    assert found["repair"].endswith("-m pip install numpy>=2.0") or found["repair"].endswith("'numpy>=2.0'")
    install("numpy", "2.4.6")
    code, found, text = run_versions()
    assert (code, found["fits"]) == (0, True), "metarl itself has what it needs"
    assert "note: robosuite 1.5.2 requires numpy==1.26.4, but 2.4.6 is installed" in text.splitlines()


def test_parts_of_another_version_go_before_the_right_one_comes(install: Install, run_versions) -> None:
    install("mujoco", "4.0.0", "numpy", "mujoco-core==4.0.0", "websockets", files=("mujoco/__init__.py",))
    install("mujoco-core", "4.0.0", files=("mujoco/parts.py",))
    code, found, text = run_versions()
    assert code == 1
    uninstall, then_install = found["repair"].split(" && ")
    assert uninstall.endswith("-m pip uninstall -y mujoco mujoco-core")
    assert then_install.endswith("-m pip install mujoco==3.3.0"), "and nothing that only 4.0.0 requires"
    assert "websockets" not in text


def test_a_package_whose_files_are_broken(install: Install, run_versions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "try_imports", lambda names: {"mujoco": "OSError: libmujoco.so.4.0.0: cannot open"})
    code, found, text = run_versions()
    assert code == 1
    assert found["repair"].endswith("-m pip install --force-reinstall --no-deps mujoco==3.3.0")
    assert "mujoco cannot be imported: OSError: libmujoco.so.4.0.0: cannot open" in text.splitlines()


def test_what_is_missing_and_what_an_interrupted_install_left(install: Install, run_versions, tmp_path: Path) -> None:
    for one in (tmp_path / "site").glob("numpy-*"):
        (one / "METADATA").unlink()
    code, found, _ = run_versions()
    assert code == 1
    assert "numpy" in found["repair"]
    assert {one["name"]: one["installed"] for one in found["packages"]}["numpy"] is None


def test_another_package_is_installed_with_the_tested_set_or_with_the_ranges(
    install: Install, run_versions, tmp_path: Path
) -> None:
    ranges = "'gymnasium[mujoco]>=1.2' mujoco==3.3.0 'metaworld>=3.1.1' 'numpy>=2.0' PACKAGE"
    assert run_versions()[1]["install_beside"].endswith(f"-m pip install {ranges}")
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    (checkout / "constraints.txt").touch()
    install("metarl-robots", "0.1.0", *REQUIREMENTS, direct_url=json.dumps({"url": checkout.as_uri()}))
    assert run_versions()[1]["install_beside"].endswith(f"-m pip install -c '{checkout}/constraints.txt' PACKAGE")


def test_a_folder_that_is_not_installed_and_words_that_mean_nothing(run_metarl, monkeypatch) -> None:
    code, _, err = run_metarl("versions", "--jsn")
    assert (code, err) == (2, "metarl: error: unrecognized arguments: --jsn; see metarl versions --help\n")
    monkeypatch.setattr(metadata, "distributions", list)
    code, _, err = run_metarl("versions")
    assert code == 2
    assert err.startswith("metarl: error: metarl is imported from a folder, but metarl-robots is not installed")
    assert versions.explanation(ImportError("x")) is None


def test_an_import_that_ends_the_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ends_it.py").write_text("import os; print('noise', flush=True); os._exit(3)")
    monkeypatch.setattr(versions, "TRIAL", f"import sys; sys.path.append({str(tmp_path)!r})\n{versions.TRIAL}")
    assert versions.try_imports(["json", "ends_it", "csv"]) == {
        "json": None,
        "ends_it": "the import crashed the process",
    }


def test_a_gymnasium_that_is_too_old_is_one_line_and_versions_still_answers(tmp_path: Path) -> None:
    site = tmp_path / "site"
    announce(site, "gymnasium", "1.1.1", "numpy>=1.21")
    (site / "gymnasium").mkdir()
    (site / "gymnasium" / "__init__.py").write_text("raise TypeError('AsyncVectorEnv is not a generic class')")
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [METARL, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    done = run("train", "maml-trpo", "point-robot")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("metarl: error: gymnasium 1.1.1 is installed, but >=1.2")
    assert "run `metarl versions` to see what to install (TypeError: AsyncVectorEnv is not a generic class)" in line
    done = run("versions")
    assert (done.returncode, done.stderr) == (1, "")
    assert "gymnasium cannot be imported: TypeError: AsyncVectorEnv is not a generic class" in done.stdout
    assert "pip install" in done.stdout


def test_a_family_whose_simulator_does_not_fit_is_told_with_the_versions(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("mujoco", "4.0.0")

    def fails() -> None:
        try:
            raise ImportError("core bindings are missing")
        except ImportError as error:
            raise EnvError("family 'ant-dir' raised ImportError", "its traceback") from error

    with pytest.raises(SystemExit), border():
        fails()
    err = capsys.readouterr().err
    assert err.startswith(
        "its traceback\nmetarl: error: family 'ant-dir' raised ImportError; mujoco 4.0.0 is installed"
    )
    assert "run `metarl versions` to see what to install" in err
    with pytest.raises(SystemExit), border():
        raise ImportError("core bindings are missing")
    assert capsys.readouterr().err.startswith("metarl: error: mujoco 4.0.0 is installed, but >=3.3.0")


def test_gymnasium_1_2_and_1_3_take_no_type_parameters(tmp_path: Path) -> None:
    """Their vector environments are not generic, so classes derived from them must not be either."""
    code = """
import gymnasium.vector as vector

def refuse(cls, parameters):
    raise TypeError(f"{cls} is not a generic class")

for one in (vector.AsyncVectorEnv, vector.SyncVectorEnv, vector.VectorWrapper):
    one.__class_getitem__ = classmethod(refuse)
import metarl.gymnasium_envs.batch, metarl.gymnasium_envs.rows, metarl.scripts.film
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
