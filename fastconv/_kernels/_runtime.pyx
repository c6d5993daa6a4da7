"""Kernel tables, threads and scratch memory: the state that all compiled modules share.

a. One kernel table per element type is in use, the best one that the CPU runs, chosen at import
   (``FASTCONV_ISA`` forces one). It changes only through :func:`_use_isa`, which serves the tests.
b. This module owns OpenMP: the other modules only open ``prange`` loops over shares.
c. A share count never changes results. It is resolved per call: argument, context variable, process
   setting, then what OpenMP, the affinity mask and the quota allow at that moment.
d. The master notes its CPU before a parallel region, and every worker that finds itself there moves away
   (``fc_settle``): after a pause, Linux wakes workers on the CPU of the thread that wakes them, and the two would
   share it for milliseconds or longer.
e. Scratch is taken before a parallel region and given back after it. At most SCRATCH_KEPT bytes are
   kept for later calls.
f. Results are made by :func:`empty`. Memory of large ones is used again for later ones, within a limit.
g. Without a GIL (free-threaded Python), the lists and dicts that all threads share are used through operations that
   Python makes atomic; plans are never changed after they are made.
h. What checks and the choice of an algorithm have found for operands of some layouts and some arguments is kept for
   the next such call (:class:`Calls`): they would take longer than a small call's work.
"""
cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from cpython.contextvars cimport PyContextVar_New, get_value
from cython.parallel cimport prange
from libc.stdlib cimport free
from libc.stdint cimport uint64_t
from posix.stdlib cimport posix_memalign
import os
import time

import numpy as np

cnp.import_array()

cdef enum:
    MOST_AXES = 64  # of any array

cdef object np_ndarray = np.ndarray

cdef extern from "fastconv.h":
    ptrdiff_t fc_isa_count() nogil
    const char *fc_isa_name(ptrdiff_t) nogil
    int fc_isa_supported(ptrdiff_t) nogil
    const fc_kernels *fc_isa_kernels(ptrdiff_t, int) nogil

cdef extern from "openmp.h":
    int fc_openmp_version() nogil
    void fc_openmp_start() nogil
    int omp_get_max_threads() nogil
    int omp_get_num_procs() nogil

cdef extern from "ping_pong.h":
    double fc_ping_pong(ptrdiff_t rounds) nogil

cdef extern from "results.h":
    enum:
        FC_HUGE_PAGE
        FC_LARGE_RESULT
    struct Results "fc_results":
        size_t limit
        size_t bytes
    Results fc_results
    cnp.PyDataMem_Handler fc_result_handler
    PyObject *PyDataMem_DefaultHandler
    void fc_advise_huge_pages(void *, size_t) nogil
    size_t fc_limit_results(size_t) nogil
    void fc_release_results() nogil
    void fc_results_start() nogil

cdef extern from *:
    """
    #ifdef __clang__
    #define FC_COMPILER "clang " __clang_version__
    #else
    #define FC_COMPILER "gcc " __VERSION__
    #endif
    """
    const char *FC_COMPILER

# ---------------------------------------------------------------- instruction sets

cdef const fc_kernels *current_f32 = NULL
cdef const fc_kernels *current_f64 = NULL


cdef const fc_kernels *fc_current(bint f64) noexcept nogil:
    return current_f64 if f64 else current_f32


def isa_names():
    """Names of the kernel tables of this build, best first."""
    return tuple(fc_isa_name(i).decode() for i in range(fc_isa_count()))


def isa_available():
    """Names of the tables that this CPU can run, best first."""
    return tuple(fc_isa_name(i).decode() for i in range(fc_isa_count()) if fc_isa_supported(i))


def isa_in_use():
    return current_f32.isa.decode()


def _use_isa(name):
    """Use the kernels of one instruction set from now on; returns the name of the one used before."""
    global current_f32, current_f64
    names = isa_names()
    if name not in names:
        raise ValueError(f"FASTCONV_ISA: {name!r} is not a kernel table of this build; it has {', '.join(names)}")
    if name not in isa_available():
        raise RuntimeError(f"FASTCONV_ISA: {name!r} needs instructions that this CPU does not have; "
                           f"it can run {', '.join(isa_available())}")
    before = isa_in_use() if current_f32 != NULL else None
    current_f32 = fc_isa_kernels(names.index(name), 0)
    current_f64 = fc_isa_kernels(names.index(name), 1)
    return before


def tile_constants(bint f64):
    """(itemsize, vector lanes, widest block of output columns) of the kernels in use."""
    cdef const fc_kernels *kernels = fc_current(f64)
    return kernels.itemsize, kernels.lanes, kernels.block


def masked_loads():
    """Whether the kernels in use load some lanes of a vector as fast as all."""
    return fc_current(False).masked_loads


def floating_point_state():
    """What this thread's control and status registers hold (MXCSR; FPCR and FPSR)."""
    cdef uint64_t state = current_f32.enter()
    current_f32.leave(state)
    return state


def set_floating_point_state(uint64_t state):
    """Restore what :func:`floating_point_state` gave."""
    current_f32.leave(state)


# ---------------------------------------------------------------- threads

cdef object thread_context = PyContextVar_New("fastconv_threads", NULL)
cdef int process_threads = 0
cdef int environment_cap = 0
cdef int quota_cap = 0
cdef double serial_threshold = 1e5  # FLOPs; opening a hot parallel region costs what about 1e5 take

MOST_THREADS = 1024
threads_context = thread_context


def set_process_threads(int n):
    global process_threads
    process_threads = n


def set_caps(int environment, int quota):
    """Upper limits of the default number of threads; 0 is none."""
    global environment_cap, quota_cap
    environment_cap, quota_cap = environment, quota


def set_serial_threshold(double flops):
    """Work below this many FLOPs runs on the calling thread alone; returns the threshold before."""
    global serial_threshold
    before = serial_threshold
    serial_threshold = flops
    return before


cdef int resolve_threads(object num_threads) except 0:
    """The number of threads of a call, at most. An argument has been checked by then (checks.some_threads)."""
    cdef int n
    if num_threads is not None:
        return num_threads
    in_context = get_value(thread_context)
    if in_context is not None:
        return in_context
    if process_threads:
        return process_threads
    n = min(omp_get_max_threads(), omp_get_num_procs())
    if environment_cap:
        n = min(n, environment_cap)
    if quota_cap:
        n = min(n, quota_cap)
    return max(n, 1)


def threads_for_call(num_threads=None):
    """The number of threads that a call with this argument would use at most."""
    return resolve_threads(num_threads)


cdef Py_ssize_t shares_of(object num_threads, Py_ssize_t items, double flops) except 0:
    cdef bint serial = flops < serial_threshold or items < 2
    if serial and num_threads is None:
        return 1  # the number of CPUs is not asked for: that takes as long as a small kernel
    cdef Py_ssize_t n = resolve_threads(num_threads)
    return 1 if serial else min(n, items)


def shares_for(num_threads, Py_ssize_t items, double flops):
    """The number of threads that a call of this many work items and FLOPs uses."""
    return shares_of(num_threads, items, flops)


def openmp_version():
    """The year and month of the OpenMP specification that this build follows, 0 without OpenMP."""
    return fc_openmp_version()


def compiler():
    return (<bytes>FC_COMPILER).decode()


def fma_peak(dtype, int threads, double seconds):
    """FLOP/s that `threads` threads reach together on independent fused multiply-adds in registers."""
    cdef const fc_kernels *kernels = fc_current(str(dtype) == "float64")
    cdef ptrdiff_t iterations = 1 << 16
    cdef Py_ssize_t t
    cdef double done
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        done = 0
        start = time.perf_counter()
        with nogil:
            for t in prange(threads, num_threads=threads, schedule="static", chunksize=1):
                done += kernels.fma_peak(iterations)
        elapsed = time.perf_counter() - start
        if elapsed < 1e-3:
            iterations *= 2
        else:
            best = max(best, done / elapsed)
    return best


def ping_pong(ptrdiff_t rounds):
    """Seconds that a cache line takes from one thread to another, the mean over `rounds` round trips.

    0 where OpenMP gives no second thread.
    """
    cdef double seconds
    with nogil:
        seconds = fc_ping_pong(rounds)
    return seconds


# ---------------------------------------------------------------- scratch memory

cdef enum:
    SCRATCH_ALIGNMENT = 64

SCRATCH_KEPT = 64 * 1024 * 1024
cdef list kept = []


@cython.final
cdef class Scratch:
    """A piece of memory, freed with the object; `data` is aligned to a cache line at least."""

    def __cinit__(self, size_t size):
        cdef bint huge = size >= FC_HUGE_PAGE
        cdef size_t alignment = FC_HUGE_PAGE if huge else SCRATCH_ALIGNMENT
        cdef void *data = NULL
        self.size = (size + alignment - 1) // alignment * alignment if size else alignment
        if posix_memalign(&data, alignment, self.size) != 0:
            raise MemoryError(f"fastconv: could not allocate {size} bytes of scratch memory")
        self.data = <char *>data
        if huge:
            fc_advise_huge_pages(data, self.size)

    def __dealloc__(self):
        free(self.data)


cdef Scratch take_scratch(size_t size):
    cdef Scratch scratch = None
    cdef list small = None
    while True:
        try:
            scratch = kept.pop()
        except IndexError:
            break
        if scratch.size >= size:
            if small is not None:
                kept.extend(small)
            return scratch
        small = [scratch] if small is None else [*small, scratch]
    scratch = small = None  # free the smaller ones, to keep one that fits the next call of this size
    try:
        return Scratch(size)
    except MemoryError:
        release_memory()
        return Scratch(size)


cdef void give_scratch(Scratch scratch):
    if scratch.size + kept_bytes() <= <size_t>SCRATCH_KEPT:
        kept.append(scratch)


cdef size_t kept_bytes():
    cdef Scratch scratch
    cdef size_t total = 0
    for scratch in list(kept):  # others may change it meanwhile
        total += scratch.size
    return total


def scratch_kept():
    """Bytes of scratch memory kept for later calls."""
    return kept_bytes()


# ---------------------------------------------------------------- memory of results

cdef object result_handler = PyCapsule_New(&fc_result_handler, "mem_handler", NULL)
cdef object default_handler = <object>PyDataMem_DefaultHandler


cpdef empty(shape, cnp.dtype dtype, bint channels_last=False):
    """``numpy.empty(shape, dtype)`` for a result; a large one may get the memory of an earlier one that was freed.

    With `channels_last`, axis 1 of `shape` is the innermost in memory. A memory handler that the caller has given
    NumPy is used instead.
    """
    cdef cnp.npy_intp extent[MOST_AXES]
    cdef cnp.npy_intp axes[MOST_AXES]
    cdef cnp.PyArray_Dims permutation
    cdef tuple extents = tuple(shape)
    cdef int ndim = len(extents), i
    cdef double size = dtype.itemsize
    for i in range(ndim):
        axes[i] = (0 if i == 0 else ndim - 1 if i == 1 else i - 1) if channels_last else i
        extent[axes[i]] = extents[i]
        size *= <double>extent[axes[i]]
    cdef bint reuse = (size >= FC_LARGE_RESULT and fc_results.limit
                       and cnp.PyDataMem_GetHandler() is default_handler)
    if reuse:
        cnp.PyDataMem_SetHandler(result_handler)
    try:
        y = cnp.PyArray_EMPTY(ndim, extent, dtype.num, False)
    finally:
        if reuse:
            cnp.PyDataMem_SetHandler(default_handler)
    if not channels_last:
        return y
    permutation.ptr, permutation.len = axes, ndim
    return cnp.PyArray_Transpose(y, &permutation)


def limit_results(size_t size):
    """Keep at most `size` bytes of freed results; returns the limit before."""
    return fc_limit_results(size)


def results_kept():
    """Bytes of freed results that are kept for later ones."""
    return fc_results.bytes


def release_memory():
    """Give the memory that is kept for later calls back to the system."""
    kept.clear()
    fc_release_results()


# ---------------------------------------------------------------- calls

CALLS_KEPT = 512


cpdef bint are_plain(tuple values):
    """Whether equal values mean the same: ints, strings, None, and tuples of them (1 == 1.0 == True)."""
    for value in values:
        if type(value) is tuple:
            if not are_plain(value):
                return False
        elif type(value) is not int and type(value) is not str and value is not None:
            return False
    return True


cdef object layout_of(object operand):
    """A hashable key for all of an array but its elements: dtype, alignment, writeability, shape and strides.

    Other operands are None, or have an attribute ``_call_layout``; else NotImplemented.
    """
    cdef cnp.npy_intp words[2 + 2 * MOST_AXES]
    cdef cnp.ndarray a
    cdef int ndim, i
    if operand is None:
        return None
    if type(operand) is not np_ndarray:
        return getattr(operand, "_call_layout", NotImplemented)
    a = operand
    ndim = cnp.PyArray_NDIM(a)
    if cnp.PyArray_TYPE(a) > cnp.NPY_DOUBLE or not cnp.PyArray_ISNOTSWAPPED(a):
        return NotImplemented
    words[0] = cnp.PyArray_TYPE(a)
    words[1] = cnp.PyArray_FLAGS(a) & (cnp.NPY_ARRAY_ALIGNED | cnp.NPY_ARRAY_WRITEABLE)
    for i in range(ndim):
        words[2 + i], words[2 + ndim + i] = cnp.PyArray_DIM(a, i), cnp.PyArray_STRIDE(a, i)
    return PyBytes_FromStringAndSize(<char *>words, (2 + 2 * ndim) * sizeof(cnp.npy_intp))


@cython.final
cdef class Calls:
    """``prepare(*operands, *arguments)``, kept by the operands' layouts, the arguments and the kernels in use.

    `prepare` may look at everything of an operand but its elements: shape, strides, dtype, alignment, whether it is
    writeable; of one that is no array, at what its hashable attribute ``_call_layout`` tells. What it raises is not
    kept. With an operand without a layout, or an argument other than ints, strings, None and tuples of them, a call
    is prepared anew. At most CALLS_KEPT are kept.
    """
    cdef object prepare
    cdef dict kept

    def __cinit__(self, prepare):
        self.prepare, self.kept = prepare, {}

    def __call__(self, tuple operands, tuple arguments):
        cdef list layouts = [arguments, <size_t>current_f32]
        cdef bint known = are_plain(arguments)
        for operand in operands:
            layout = layout_of(operand)
            known = known and layout is not NotImplemented
            layouts.append(layout)
        if not known:
            return self.prepare(*operands, *arguments)
        key = tuple(layouts)
        call = self.kept.get(key)
        if call is None:
            call = self.prepare(*operands, *arguments)
            with cython.critical_section(self.kept):  # without a GIL, others may change it meanwhile
                if len(self.kept) >= CALLS_KEPT:
                    self.kept.pop(next(iter(self.kept)), None)
                self.kept[key] = call
        return call

    def __len__(self):
        return len(self.kept)

    def clear(self):
        self.kept.clear()


# ---------------------------------------------------------------- places of operands

cdef int span(cnp.ndarray a, char **first, char **last) except -1:
    """The first and the last byte of an array's elements; 0 if it has none."""
    cdef ptrdiff_t reach
    cdef int i
    first[0] = cnp.PyArray_BYTES(a)
    last[0] = first[0] + cnp.PyArray_ITEMSIZE(a) - 1
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, i) == 0:
            return 0
        reach = (cnp.PyArray_DIM(a, i) - 1) * cnp.PyArray_STRIDE(a, i)
        if reach < 0:
            first[0] += reach
        else:
            last[0] += reach
    return 1


cpdef bint are_apart(cnp.ndarray a, cnp.ndarray b) except -1:
    """Whether the bytes from the first to the last of one array all lie before, or all behind, those of the other."""
    cdef char *a_first
    cdef char *a_last
    cdef char *b_first
    cdef char *b_last
    if not span(a, &a_first, &a_last) or not span(b, &b_first, &b_last):
        return True
    return a_last < b_first or b_last < a_first


def all_apart(tuple results, tuple operands):
    """Whether `are_apart` holds of each result (an array or None) with all operands and all other results."""
    cdef Py_ssize_t i, j
    for i in range(len(results)):
        if results[i] is None:
            continue
        for operand in operands:
            if not are_apart(results[i], operand):
                return False
        for j in range(i):
            if results[j] is not None and not are_apart(results[i], results[j]):
                return False
    return True


fc_openmp_start()
fc_results_start()
_use_isa(os.environ.get("FASTCONV_ISA") or isa_available()[0])
