/* An OpenMP runtime for tests, preloaded in front of the real one (gcc's): it counts the threads of parallel regions
 * that enter, or runs them one after the other, and says which bytes each of them writes.
 *
 * Watched are the memory that the test names and what is allocated with an alignment of a cache line or more: the
 * kernels' scratch. That is filled with ones when it is handed out, which makes NaN of what nobody has written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT, ALONE, SHUFFLED };
enum { MOST_PIECES = 64, MOST_REGIONS = 64, MOST_THREADS = 1024, LINE = 64, RUN = 4096 };

typedef struct piece {
    unsigned char *data, *before, *after, *writers; /* writers: how many threads of a region wrote the byte */
    size_t size;
    int named;                                      /* by the test: stays until forget_all() */
} piece;

static struct {
    int mode, regions, pieces, active;
    unsigned seed;
    unsigned asked[MOST_REGIONS];
    atomic_uint entered[MOST_REGIONS];
    piece piece[MOST_PIECES];
    size_t shared, bytes, peak;
    int taken, allowed; /* pieces of scratch */
} state = {.allowed = INT_MAX};

static __thread int thread_num = -1;
static __thread unsigned thread_count;

extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

/* ---------------------------------------------------------------- what tests call */

void begin(int mode, unsigned seed) {
    state.mode = mode, state.seed = seed, state.regions = 0, state.shared = 0, state.peak = state.bytes;
    state.taken = 0;
    state.active = 1;
}

void end(void) { state.active = 0; }

int regions(void) { return state.regions; }
unsigned asked(int region) { return state.asked[region]; }
unsigned entered(int region) { return state.entered[region]; }

/* Bytes that several threads of one region wrote. */
size_t shared(void) { return state.shared; }

/* Most bytes of scratch at a time since begin(). */
size_t peak(void) { return state.peak; }

/* Pieces of scratch that were asked for since begin(). */
int taken(void) { return state.taken; }

/* From now on there is no memory for more pieces of scratch after begin(); below 0 there is. */
void allow(int pieces) { state.allowed = pieces < 0 ? INT_MAX : pieces; }

static void watch_as(void *data, size_t size, int named) {
    if (state.pieces == MOST_PIECES) abort();
    state.piece[state.pieces++] = (piece){.data = data, .size = size, .named = named};
}

void watch(void *data, size_t size) { watch_as(data, size, 1); }

void unwatch(void) {
    int kept = 0;
    for (int i = 0; i < state.pieces; i++)
        if (!state.piece[i].named) state.piece[kept++] = state.piece[i];
    state.pieces = kept;
}

/* ---------------------------------------------------------------- memory */

int posix_memalign(void **to, size_t alignment, size_t size) {
    const int scratch = alignment >= LINE && state.active;
    if (scratch && state.taken++ >= state.allowed) return ENOMEM;
    void *data = __libc_memalign(alignment, size);
    if (!data) return ENOMEM;
    if (scratch) {
        memset(data, 0xff, size);
        watch_as(data, size, 0);
        state.bytes += size;
        if (state.bytes > state.peak) state.peak = state.bytes;
    }
    *to = data;
    return 0;
}

void free(void *data) {
    for (int i = 0; i < state.pieces; i++) {
        if (state.piece[i].data == data && !state.piece[i].named) {
            state.bytes -= state.piece[i].size;
            state.piece[i] = state.piece[--state.pieces];
            break;
        }
    }
    __libc_free(data);
}

/* ---------------------------------------------------------------- parallel regions */

typedef struct call {
    void (*body)(void *);
    void *data;
    int region;
} call;

static void counted(void *p) {
    const call *c = p;
    atomic_fetch_add(&state.entered[c->region], 1);
    c->body(c->data);
}

static void run_as(const call *c, unsigned t, unsigned threads) {
    thread_num = (int)t, thread_count = threads;
    counted((void *)c);
    thread_num = -1;
}

static void run_in_any_order(const call *c, unsigned threads) {
    unsigned order[MOST_THREADS];
    for (unsigned t = 0; t < threads; t++) order[t] = t;
    for (unsigned t = threads; t > 1; t--) {
        state.seed = state.seed * 1664525u + 1013904223u;
        const unsigned other = (unsigned)(((uint64_t)state.seed * t) >> 32), at = order[t - 1];
        order[t - 1] = order[other], order[other] = at;
    }
    for (unsigned t = 0; t < threads; t++) run_as(c, order[t], threads);
}

/* Take the bytes of a run that differ from those before the region, and put those back. */
static void collect(piece *p, size_t lo) {
    const size_t hi = lo + RUN < p->size ? lo + RUN : p->size;
    if (memcmp(p->data + lo, p->before + lo, hi - lo) == 0) return;
    for (size_t b = lo; b < hi; b++) {
        if (p->data[b] == p->before[b]) continue;
        if (p->writers[b] < 2 && ++p->writers[b] == 2) state.shared++;
        p->after[b] = p->data[b];
        p->data[b] = p->before[b];
    }
}

/* Each thread finds memory as it was before the region; the bytes that it changes are its writes. */
static void run_alone(const call *c, unsigned threads) {
    for (int i = 0; i < state.pieces; i++) {
        piece *p = &state.piece[i];
        p->before = malloc(p->size), p->after = malloc(p->size), p->writers = calloc(p->size, 1);
        if (!p->before || !p->after || !p->writers) abort();
        memcpy(p->before, p->data, p->size);
        memcpy(p->after, p->data, p->size);
    }
    for (unsigned t = 0; t < threads; t++) {
        run_as(c, t, threads);
        for (int i = 0; i < state.pieces; i++)
            for (size_t lo = 0; lo < state.piece[i].size; lo += RUN) collect(&state.piece[i], lo);
    }
    for (int i = 0; i < state.pieces; i++) {
        piece *p = &state.piece[i];
        memcpy(p->data, p->after, p->size);
        free(p->before), free(p->after), free(p->writers);
    }
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    static void (*real)(void (*)(void *), void *, unsigned, unsigned);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "GOMP_parallel");
    if (!state.active || state.regions == MOST_REGIONS) {
        real(body, data, threads, flags);
        return;
    }
    call c = {body, data, state.regions++};
    state.asked[c.region] = threads;
    state.entered[c.region] = 0;
    if (state.mode == COUNT) real(counted, &c, threads, flags);
    else if (state.mode == ALONE) run_alone(&c, threads);
    else run_in_any_order(&c, threads);
}

int omp_get_thread_num(void) {
    static int (*real)(void);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "omp_get_thread_num");
    return thread_num >= 0 ? thread_num : real();
}

int omp_get_num_threads(void) {
    static int (*real)(void);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "omp_get_num_threads");
    return thread_num >= 0 ? (int)thread_count : real();
}

/* What a loop waits at before it ends. */
void GOMP_barrier(void) {
    static void (*real)(void);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "GOMP_barrier");
    if (thread_num < 0) real();
}
