"""Types: mypy is content with what users see, and the stubs say what the functions take."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STUBBED = sorted(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
                 for path in (ROOT / "fastconv").rglob("*.pyi"))

needs_mypy = pytest.mark.skipif(importlib.util.find_spec("mypy") is None,
                                reason="mypy is not installed: pip install 'fastconv[test]'")


def run(*command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_mypy
def test_mypy_is_content(tmp_path):
    run("mypy", "--cache-dir", str(tmp_path))


@needs_mypy
def test_stubs_say_what_the_modules_have():
    public = [name for name in STUBBED if "._" not in name]
    assert len(public) >= 9
    run("mypy.stubtest", *public, "--allowlist", "tests/stubtest-allowlist.txt", "--ignore-unused-allowlist")


@needs_mypy
def test_stubs_of_compiled_modules_are_right_in_what_they_say():
    compiled = [name for name in STUBBED if "._kernels." in name]
    assert compiled
    run("mypy.stubtest", *compiled, "--ignore-missing-stub", "--allowlist", "tests/stubtest-allowlist.txt",
        "--ignore-unused-allowlist")


def test_typed_usage_runs():
    runpy.run_path(str(ROOT / "tests" / "typed_usage.py"))
