"""Size of the built wheel, time of the build, what an import costs and drags in."""
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Imported only where they are used; none of them belongs to `import fastconv`.
HEAVY = {"torch", "onnxruntime", "openvino", "scipy", "matplotlib", "PIL", "tqdm", "pandas", "sklearn", "pytest",
         "Cython", "setuptools", "argparse", "subprocess", "multiprocessing", "concurrent.futures",
         "importlib.metadata",
         "fastconv.nn", "fastconv.bench", "fastconv.cli", "fastconv.data", "fastconv.reference", "numpy.testing"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """(path of a wheel built from a copy of the sources, seconds that took)."""
    folder = tmp_path_factory.mktemp("build")
    ignore = shutil.ignore_patterns(".git", ".venv", "build", "*.so", "__pycache__", "*.egg-info")
    shutil.copytree(ROOT, folder / "source", ignore=ignore)
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, folder / "source"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("fastconv-*.whl")), time.perf_counter() - start


def test_wheel_is_small_and_built_in_two_minutes(wheel, capsys):
    path, seconds = wheel
    with zipfile.ZipFile(path) as archive, capsys.disabled():
        objects = [entry for entry in archive.infolist() if entry.filename.endswith(".so")]
        print(f"\n{path.name}: {path.stat().st_size / 1e6:.2f} MB, built in {seconds:.0f} s")
        for entry in objects:
            print(f"  {entry.filename}: {entry.file_size / 1e6:.2f} MB")
    assert objects
    assert path.stat().st_size <= 1.5e6
    assert seconds <= 120


def test_shared_objects_are_stripped(wheel, tmp_path):
    with zipfile.ZipFile(wheel[0]) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                data = archive.read(name)
                assert b".debug_info" not in data and b".symtab" not in data, name
        names = archive.namelist()
    assert any(name.startswith("fastconv/digits/") and name.endswith(".gz") for name in names)
    assert not any(name.endswith((".c", ".h", ".pyx", ".pxd")) for name in names)


def run_python(code):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | (
        {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_adds_at_most_60_ms():
    code = ("import time, numpy; start = time.perf_counter(); import fastconv; "
            "print(time.perf_counter() - start)")
    assert min(float(run_python(code)) for _ in range(10)) <= 0.060


def test_import_brings_nothing_heavy():
    code = "import numpy, sys; before = set(sys.modules); import fastconv; print(*(set(sys.modules) - before))"
    assert not HEAVY & set(run_python(code).split())
