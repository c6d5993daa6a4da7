"""What a build says where something is missing: one clear sentence."""
import os
import sys
import sysconfig
import types
from pathlib import Path

import pytest

SETUP = Path(__file__).resolve().parent.parent / "setup.py"


@pytest.fixture
def build(monkeypatch):
    """setup.py as a module; setuptools and Cython, which it only hands things to, are stand-ins."""
    names = {"setuptools": ("Extension", "setup"), "setuptools.command": (), "Cython": (), "Cython.Build": (),
             "setuptools.command.build_ext": ("build_ext",)}
    for name, attributes in names.items():
        module = types.ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, type(attribute, (), {"__init__": lambda self, *a, **k: None}))
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["Cython.Build"].cythonize = lambda *a, **k: []
    monkeypatch.chdir(SETUP.parent)
    module = types.ModuleType("setup")
    exec(compile(SETUP.read_text(), SETUP, "exec"), module.__dict__)
    return module


def compiler(tmp_path, refuses):
    """A command that behaves like a compiler which can't do what one word of a source or an option asks for."""
    path = tmp_path / "cc"
    path.write_text(f'#!/bin/sh\nfor a; do case "$a" in *{refuses}*) exit 1;; *.c) grep -q {refuses} "$a" && exit 1;; '
                    "esac; done\nexit 0\n")
    path.chmod(0o755)
    return [str(path)]


def sentence(build, command):
    with pytest.raises(SystemExit) as stop:
        build.check_compiler(command)
    assert isinstance(stop.value.code, str) and stop.value.code.startswith("fastconv: ")
    assert "\n" not in stop.value.code
    return stop.value.code


def test_no_compiler(build):
    assert "no working C compiler (no-such-cc); install gcc or clang" in sentence(build, ["no-such-cc", "-O2"])


def test_no_vector_extensions(build, tmp_path):
    assert "no vector extensions; set CC to gcc or clang" in sentence(build, compiler(tmp_path, "vector_size"))


def test_no_headers_of_python(build, tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "Python's headers are missing" in sentence(build, compiler(tmp_path, "nothing"))


def test_windows(build, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "building on Windows is not supported; use WSL" in sentence(build, ["cl.exe"])


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for a compiler is a shell script")
def test_no_openmp_is_said_and_no_error(build, tmp_path, monkeypatch, capsys):
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert build.check_compiler(compiler(tmp_path, "omp.h")) == []
    assert "the kernels will run on one thread" in capsys.readouterr().err
    assert build.check_compiler(compiler(tmp_path, "nothing")) == ["-fopenmp"]
