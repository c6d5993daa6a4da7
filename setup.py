"""Builds the C kernels once per instruction set and element type, and links them into one extension.

Flags are per extension in setuptools, so ``build_kernels`` compiles each ``csrc/isa/<isa>.c`` with the
flags of its row in ISA_FLAGS to objects of its own names and hands them to ``_runtime`` as extra objects.
"""
import os
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Code in the order in which it was written is a thirtieth smaller when packed. AVX-512 was 1 % slower with it.
SMALLER = ["-fno-schedule-insns2"]
# Which kernel tables a target gets, with the flags of each. The target is told by the macros that the compiler
# predefines, as in csrc/dispatch.c: the machine that builds may be another one.
ISA_FLAGS = {
    "x86": {
        "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
        "avx2": ["-mavx2", "-mfma", "-mno-avx512f", *SMALLER],
        "scalar": ["-mno-avx", "-Os", *SMALLER],  # for CPUs of before 2013: dense tiles as fast, a smaller wheel
    },
    "arm64": {"neon": []},
    "other": {"scalar": []},
}
TARGET_MACROS = {"__x86_64__": "x86", "__i386__": "x86", "__aarch64__": "arm64"}

# FMA is asked for by name: with contraction, the bits would depend on how the compiler groups operations.
KERNEL_FLAGS = ["-std=gnu11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
                "-fno-trapping-math", "-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-psabi",
                "-falign-functions=1", "-falign-jumps=1", "-falign-labels=1",  # loops stay aligned; smaller when packed
                "-Wno-ignored-optimization-argument"]  # of clang, which lacks the last three and SMALLER
MODULE_FLAGS = ["-std=gnu11", "-fvisibility=hidden", "-ffp-contract=off", "-ffunction-sections",
                "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers",
                "-Wno-cast-function-type", "-fno-plt",  # calls of CPython without stubs: a thirtieth of a module
                "-Wno-unused-but-set-variable"]  # loop counters of prange, in a build without OpenMP
# Drivers take little time beside their kernels, but for those that start a tile for every row of a channel.
FAST_MODULES = ("_correlation", "_lanes", "_lanes_weight")
LINUX = sys.platform.startswith("linux")
# Parallel regions open in csrc/openmp.h.
MODULE_LINK_FLAGS = ["-Wl,--gc-sections", "-Wl,--wrap=GOMP_parallel"] if LINUX else []
# "address,undefined" or "thread": a build for tools/test-sanitizers, which ends at the first finding.
SANITIZERS = os.environ.get("FASTCONV_SANITIZE")
if SANITIZERS:
    RELEASE_FLAGS = [f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1",
                     "-O1"]  # -O2 takes minutes a table
    MODULE_LINK_FLAGS = [*MODULE_LINK_FLAGS, f"-fsanitize={SANITIZERS}"]
else:
    # No C++ exception passes, and the wheel is a tenth smaller.
    RELEASE_FLAGS = ["-g0", "-fno-asynchronous-unwind-tables", "-fno-ident"]
    MODULE_LINK_FLAGS = [*MODULE_LINK_FLAGS, "-Wl,-s", "-Wl,--build-id=none"] if LINUX else []

HEADERS = sorted(str(p) for p in Path("csrc").rglob("*.h"))
MODULES = sorted(p.stem for p in Path("fastconv/_kernels").glob("*.pyx"))


def try_compile(compiler, flags, source):
    """Whether a small program compiles and links, and what the compiler said."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "probe.c")
        path.write_text(source)
        command = [*compiler, *flags, str(path), "-o", str(Path(folder, "probe"))]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return False, str(error)
        return done.returncode == 0, done.stderr


def target_family(compiler):
    """The row of ISA_FLAGS that this compiler, with its flags, builds for."""
    done = subprocess.run([*compiler, "-dM", "-E", "-x", "c", os.devnull], capture_output=True, text=True, check=True)
    defined = {line.split()[1] for line in done.stdout.splitlines()}
    return next((family for macro, family in TARGET_MACROS.items() if macro in defined), "other")


def check_compiler(compiler):
    """End the build in one clear sentence where something is missing; return the OpenMP flags."""
    name = " ".join(part for part in compiler if not part.startswith("-"))
    if sys.platform == "win32":
        sys.exit("fastconv: the kernels need gcc or clang, and building on Windows is not supported; use WSL.")
    works, said = try_compile(compiler, [], "int main(void) { return 0; }")
    if not works:
        sys.exit(f"fastconv: no working C compiler ({name}); install gcc or clang "
                 f"(Debian, Ubuntu: apt install build-essential). It said: {said.strip()[:300]}")
    vectors = "typedef float v __attribute__((vector_size(16))); int main(void) { v a = {0}; return (int)(a + a)[0]; }"
    if not try_compile(compiler, [], vectors)[0]:
        sys.exit(f"fastconv: {name} has no vector extensions; set CC to gcc or clang.")
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").exists():
        sys.exit(f"fastconv: Python's headers are missing ({include}/Python.h); install them "
                 "(Debian, Ubuntu: apt install python3-dev).")
    openmp = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }"
    if try_compile(compiler, ["-fopenmp"], openmp)[0]:
        return ["-fopenmp"]
    print("fastconv: this compiler has no OpenMP, so the kernels will run on one thread "
          "(gcc brings it along; for clang: apt install libomp-dev).", file=sys.stderr)
    return []


class build_kernels(build_ext):
    """build_ext that first compiles the kernel tables."""

    def build_extensions(self):
        compiler = [part for part in self.compiler.compiler_so if not part.startswith("-O") and part != "-g"]
        openmp = check_compiler(compiler)
        objects = self.compile_tables(compiler)
        for extension in self.extensions:
            level = "-O2" if extension.name.rpartition(".")[2] in FAST_MODULES else "-Os"
            extension.extra_compile_args = [*MODULE_FLAGS, level, *RELEASE_FLAGS, *openmp]
            extension.extra_link_args = MODULE_LINK_FLAGS + openmp
            if extension.name.endswith("._runtime"):
                extension.extra_objects = objects
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()

    def compile_tables(self, compiler):
        """Objects of dispatch.c and of every instruction set for both element types."""
        folder = Path(self.build_temp, "csrc")
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [("csrc/dispatch.c", folder / "dispatch.o", [])]
        for isa, flags in ISA_FLAGS[target_family(compiler)].items():
            for suffix, define in (("f32", []), ("f64", ["-DFC_F64"])):
                jobs.append((f"csrc/isa/{isa}.c", folder / f"{isa}_{suffix}.o", flags + define))

        newest_header = max(Path(header).stat().st_mtime for header in [*HEADERS, "setup.py"])

        def compile_one(job):
            source, target, flags = job
            stale = not target.exists() or target.stat().st_mtime < max(newest_header, Path(source).stat().st_mtime)
            if stale or self.force:
                self.spawn([*compiler, *KERNEL_FLAGS, *RELEASE_FLAGS, *flags, "-c", source, "-o", str(target)])
            return str(target)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(compile_one, jobs))


def extensions():
    import numpy
    from Cython.Build import cythonize

    modules = [
        Extension(
            f"fastconv._kernels.{name}",
            [f"fastconv/_kernels/{name}.pyx"],
            include_dirs=["csrc", numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION"),
                           ("NPY_TARGET_VERSION", "NPY_2_0_API_VERSION"), ("CYTHON_WITHOUT_ASSERTIONS", None)],
            depends=[*HEADERS, *(str(p) for p in Path("csrc").rglob("*.c"))],
        )
        for name in MODULES
    ]
    # Plain functions with a written signature: Cython's own function type, and pickling of kernel objects, which
    # nobody does, are a fourteenth of the wheel.
    directives = {"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                  "initializedcheck": False, "freethreading_compatible": True, "auto_pickle": False,
                  "binding": False, "embedsignature": True, "embedsignature.format": "clinic"}
    build_dir = os.environ.get("FASTCONV_CYTHON_DIR", "build/cython")
    return cythonize(modules, compiler_directives=directives, build_dir=build_dir)


setup(ext_modules=extensions(), cmdclass={"build_ext": build_kernels})
