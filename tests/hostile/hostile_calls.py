"""One call, right or wrong, and what has to come of it.

A right call gives what the reference gives; a wrong one a TypeError or ValueError that names the function and an
argument. Either way nothing is changed but `out`, and after an error not even that.

The tests draw the same calls in every run. ``FASTCONV_EXAMPLES=5000 pytest tests/hostile`` makes so many calls of each
test, others every time.
"""
import inspect
import os
import re
import warnings

import numpy as np
from hostile_values import LAYOUTS, MARK, arrays, blank, root, wrong_arrays, wrong_outs
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import fastconv as fc
from fastconv import reference

EXAMPLES = int(os.environ.get("FASTCONV_EXAMPLES", 0))
WRITEABLE = tuple(layout for layout in LAYOUTS if layout not in ("read-only", "constant"))


def hostile(examples):
    """Settings of a test that makes so many calls, unless the environment asks for more."""
    return settings(max_examples=EXAMPLES or examples, derandomize=not EXAMPLES, database=None, deadline=None,
                    suppress_health_check=list(HealthCheck))


class Call:
    """A call that is being drawn: arguments as given and, for the reference, in plain form."""

    def __init__(self, draw, name):
        self.draw, self.name = draw, name
        self.given, self.plain, self.spoilers, self.wrong = {}, {}, {}, []
        self.operands = []

    def put(self, name, plain, wrong=(), given=None):
        """An argument, the values that would be wrong for it (or their strategy), and how it is written."""
        self.plain[name], self.given[name] = plain, plain if given is None else given
        if isinstance(wrong, st.SearchStrategy):
            self.spoilers[name] = wrong
        elif wrong:
            self.spoilers[name] = st.sampled_from(wrong)

    def array(self, name, shape, dtype, contents, **how):
        a = self.draw(arrays(shape, dtype, contents))
        self.put(name, np.array(a, order="C"), wrong_arrays(a, **how), a)
        self.operands.append(name)
        return a

    def threads(self, wrong):
        self.put("num_threads", self.draw(st.sampled_from((None, 1, 2, 3))), wrong)

    def spoil(self):
        """Make none, one or two arguments wrong."""
        number = self.draw(st.sampled_from((0, 0, 0, 1, 1, 2)))
        for _ in range(number):
            if not self.spoilers:
                break
            name = self.draw(st.sampled_from(sorted(self.spoilers)))
            self.given[name] = self.draw(self.spoilers.pop(name))
            self.wrong.append(name)

    def expected(self):
        """What the reference makes of the plain arguments; None where it refuses them."""
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                return getattr(reference, self.name)(**self.plain)
        except (ValueError, TypeError, IndexError, ZeroDivisionError):
            return None

    # ------------------------------------------------------------ outputs

    def put_out(self, good):
        """Draw `out` for a result like `good`."""
        kind = self.draw(st.sampled_from(("none", "none", "good", "good", "wrong")))
        if kind == "none" or good is None:
            return
        inputs = {name: self.given[name] for name in self.operands}
        if kind == "good":
            self.given["out"] = blank(good.shape, good.dtype, self.draw(st.sampled_from(WRITEABLE)))
        else:
            reason, self.given["out"] = self.draw(wrong_outs(good, inputs))
            self.wrong.append(f"out ({reason})")

    def put_outs(self, goods, need):
        """Draw `out` of a backward function with three results."""
        kind = self.draw(st.sampled_from(("none", "none", "good", "good", "wrong", "junk")))
        if kind == "none" or goods is None:
            return
        outs = [None if good is None or self.draw(st.booleans())
                else blank(good.shape, good.dtype, self.draw(st.sampled_from(WRITEABLE))) for good in goods]
        if kind == "junk":
            self.given["out"] = self.draw(st.sampled_from((None, (None, None), (None,) * 4, 3, "out", object())))
            self.wrong.append("out (no triple)")
        elif kind == "wrong" and any(need):
            i = self.draw(st.sampled_from([i for i in range(3) if need[i]]))
            inputs = {name: self.given[name] for name in self.operands}
            reason, outs[i] = self.draw(wrong_outs(goods[i], inputs))
            self.wrong.append(f"out[{i}] ({reason})")
        self.given.setdefault("out", self.draw(st.sampled_from((tuple, list)))(outs))

    # ------------------------------------------------------------ judgement

    def judge(self, expected, compare, may_refuse=None):
        """Make the call. `may_refuse`: an argument that a right call may be refused for."""
        before = [(root(a), root(a).tobytes()) for a in _arrays_in(self.given)]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                got = getattr(fc, self.name)(**self.given)
        except (TypeError, ValueError) as error:
            assert self.wrong or expected is None or may_refuse and re.search(rf"\b{may_refuse}\b", str(error)), error
            self._check_message(str(error))
        except MemoryError:
            assert self.wrong, "a call of a few elements took too much memory"
        else:
            together = len(self.wrong) > 1  # what is wrong alone may be right with something else
            assert together or expected is not None and not self.wrong, \
                f"{self.name} took {self.wrong or 'what does not fit'}"
            results = _arrays_in({"out": self.given.get("out")})
            if not together:
                if results:
                    _check_delivery(got, self.given["out"])
                compare(got, expected)
            for a in results:  # what lies between the elements of `out` keeps its value
                a[...] = MARK
        for a, content in before:
            assert a.tobytes() == content, "memory that is no result was changed"

    def _check_message(self, message):
        assert message.startswith(f"{self.name}: "), message
        names = inspect.signature(getattr(fc, self.name)).parameters
        assert re.search(rf"\b({'|'.join(names)})\b", message[len(self.name) + 1:]), message
        assert "\n" not in message and len(message) < 600, message


def _arrays_in(arguments):
    found = []
    for value in arguments.values():
        for a in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(a, np.ndarray) and root(a).nbytes < 1e6 and root(a).dtype != object:
                found.append(a)
    return found


def _check_delivery(got, out):
    if isinstance(out, np.ndarray):
        assert (got[0] if isinstance(got, tuple) else got) is out
    else:
        assert all(o is None or g is None or g is o for g, o in zip(got, out))


def close(got, expected, bound):
    """Equal shape and dtype; NaN and infinities where expected; the rest within a bound."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    with np.errstate(all="ignore"):
        error = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        fine = (error <= bound) | (got == expected) | (np.isnan(got) & np.isnan(expected))
    assert fine.all(), (got[~fine], expected[~fine], bound)


def exact(got, expected):
    close(got, expected, 0.0)
