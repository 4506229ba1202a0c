"""What is installed: everything that the repository holds, under one name of our own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("analysis", "search_spaces", "sweeps", "trainables")


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout: the repository's list of files is not known")
    return listed.stdout.split("\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked, so that no build folder is left behind."""
    copy = tmp_path_factory.mktemp("checkout")
    names = [name for name in _tracked() if name and not name.startswith(("tests/", "docs/"))]
    subprocess.run(
        ["tar", "--create", "--file", str(copy / "files.tar"), *names], cwd=ROOT, check=True
    )
    subprocess.run(["tar", "--extract", "--file", "files.tar"], cwd=copy, check=True)
    (copy / "files.tar").unlink()
    code = "import setuptools.build_meta as build; print(build.build_wheel('wheels'))"
    (copy / "wheels").mkdir()
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=True
    )
    return copy / "wheels" / built.stdout.strip().split("\n")[-1]


def test_the_wheel_holds_what_the_repository_holds(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        name if name.startswith("safesweep/") else f"safesweep/{name}"
        for name in _tracked()
        if name.startswith((*(f"{folder}/" for folder in FOLDERS), "safesweep/"))
        and not (ROOT / name).is_symlink()
    }
    assert packed == wanted


def test_the_wheel_starts_among_folders_of_the_same_names(wheel: Path, tmp_path: Path) -> None:
    installed, project = tmp_path / "installed", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(installed)
    project.mkdir()
    for name in ("analysis", "sweeps", "tests"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("raise ImportError('foreign')\n")
    for name in ("trainables", "search_spaces"):
        (project / f"{name}.py").write_text("raise ImportError('foreign')\n")
    environment = {**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{installed}"}
    code = (
        "import safesweep, sys; from safesweep.sweeps.cli import main; "
        "[getattr(safesweep, name) for name in safesweep.__all__]; "
        "assert safesweep.__file__.startswith(sys.argv[1]), safesweep.__file__; "
        "sys.exit(main(['space', 'flrp']))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(installed)],
        cwd=project,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def test_a_foreign_package_that_is_loaded_first_harms_neither(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").write_text("OWN = 1\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import analysis; import safesweep; "
        "from safesweep import ResultStore, select; import safesweep.analysis.statistics; "
        "assert analysis.OWN == 1 and sys.modules['analysis'] is analysis; "
        "assert safesweep.analysis is not analysis"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, check=True)


def test_lost_links_are_made_up_for(wheel: Path, tmp_path: Path) -> None:
    """A copy without links (an archive, a file system that has none) works from its own folder."""
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".csv", ".jinja", ".yaml", ".sh"):
                target = tmp_path / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
    (tmp_path / "safesweep").mkdir()
    for file in (ROOT / "safesweep").glob("*.py"):
        (tmp_path / "safesweep" / file.name).write_bytes(file.read_bytes())
    code = (
        "import safesweep, safesweep.trainables.tasks.registry as tasks; "
        "assert safesweep.TASKS is tasks.TASKS; print(tasks.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
