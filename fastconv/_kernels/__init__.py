"""The compiled drivers: typed loops over tiles, in parallel, with the GIL released."""
import os

# libgomp's threads spin for 300,000 rounds (10 ms and more) at every barrier before they sleep. Where other
# processes want the CPUs, too, a thread then spins away the time slice that the one it waits for should have:
# measured beside two busy processes, a convolution of 1.1 ms on one thread took 28 ms on two, 3.3 ms with 2,000
# rounds. These still bridge the 0.1 ms between the calls of a training step, and a quiet machine is no slower
# for it. libgomp reads the variable when it is loaded, so it is set for that moment; a user's setting goes first.
_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_set_here = not any(name in os.environ for name in _USERS)
if _set_here:
    os.environ["GOMP_SPINCOUNT"] = "2000"
try:
    from . import _runtime as _runtime  # noqa: E402
except ImportError as error:
    raise ImportError(
        f"fastconv: the compiled modules in {os.path.dirname(__file__)} are missing or broken ({error}). In a source "
        "tree, build them with `python setup.py build_ext --inplace`, or start Python in another folder to import the "
        "installed package.") from error

if _set_here:
    del os.environ["GOMP_SPINCOUNT"]
