# Lines of a single result, of which whole vectors are as many results (csrc/kernels/slide.h): 1-D, pixels as lanes.
from fastconv._kernels._runtime cimport fc_kernels, fc_run, fc_slide
from fastconv._kernels._tensor cimport ceil_div


cdef inline void run_slide(const fc_kernels *kernels, fc_slide *s, ptrdiff_t lanes, bint back) noexcept nogil:
    """Slide over `lanes` pixels, and go on by as many."""
    cdef ptrdiff_t i, itemsize = kernels.itemsize
    s.lanes = lanes
    if back:
        kernels.slide_back(s)
    else:
        kernels.slide(s)
    s.x, s.y = <const char *>s.x + lanes * s.x_lane * itemsize, <char *>s.y + lanes * itemsize
    for i in range(s.runs):
        s.run[i].lane_lo -= lanes
        s.run[i].lane_hi -= lanes


cdef inline ptrdiff_t join_runs(const fc_run *run, ptrdiff_t runs, bint joins, fc_run *to) noexcept nogil:
    """Single taps that all results have, and of those that are evenly apart one run; returns how many runs that is."""
    cdef ptrdiff_t i = 0, n = 0
    cdef fc_run *r = to
    while i < runs:
        r = to + n
        r[0] = run[i]
        r.lo, r.hi, r.lane_lo, r.lane_hi = 0, 1 << 60, 0, 1 << 60
        i += 1
        n += 1
        if not joins:
            continue
        r.tap_step = 1
        if i < runs and run[i].x != r.x:
            r.tap_step, r.w_step = run[i].x - r.x, run[i].w - r.w
        while i < runs and run[i].x == r.x + r.taps * r.tap_step and run[i].w == r.w + r.taps * r.w_step:
            r.taps += 1
            i += 1
    return n


cdef inline void slide_line(const fc_kernels *kernels, fc_slide *s, ptrdiff_t lanes, bint back) noexcept nogil:
    """A line of one result, of `lanes` pixels a vector: whole vectors between both ends are as many results.

    There all taps are there for each of them, and those that follow each other are one run. `s.run` has room for as
    many runs again.
    """
    cdef ptrdiff_t i, count = s.lanes, lo = 0, hi = count // lanes, runs = s.runs
    cdef fc_run *run = s.run
    for i in range(s.runs):
        lo = max(lo, ceil_div(max(s.run[i].lane_lo, 0), lanes))
        hi = min(hi, s.run[i].lane_hi // lanes)
    if hi <= lo:
        run_slide(kernels, s, count, back)
        return
    if lo > 0:
        run_slide(kernels, s, lo * lanes, back)
    s.run, s.runs = run + runs, join_runs(run, runs, s.x_lane == 1, run + runs)
    s.x_step, s.y_step, s.results = s.x_vector, s.y_vector, hi - lo
    run_slide(kernels, s, lanes, back)
    s.x, s.y = <const char *>s.x + (hi - lo - 1) * s.x_vector * kernels.itemsize, \
        <char *>s.y + (hi - lo - 1) * s.y_vector * kernels.itemsize
    s.run, s.runs, s.results = run, runs, 1
    for i in range(runs):
        run[i].lane_lo -= (hi - lo) * lanes
        run[i].lane_hi -= (hi - lo) * lanes
    s.lanes = count - hi * lanes
    if s.lanes:
        run_slide(kernels, s, s.lanes, back)
