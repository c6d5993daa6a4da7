/* Memory between pages that nobody may touch, for a test's arrays (a memory handler of NumPy's) and, preloaded in front
 * of the C library, for what is allocated with an alignment of a cache line or more: the kernels' scratch.
 *
 * No address serves twice, so that what is gone stays out of bounds, too. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, LINE = 64 };
static const size_t SPACE = (size_t)1 << 36;

static struct {
    unsigned char *space;
    uint32_t *pages;     /* of the block that begins at a page */
    size_t used;
    int behind;          /* blocks end, rather than begin, beside a page that may not be touched */
    pthread_mutex_t lock;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static void *reserve(size_t size, int access) {
    void *p = mmap(NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    return p;
}

/* From now on scratch lies between fences. */
void begin(int behind) {
    state.pages = reserve(SPACE / PAGE * sizeof *state.pages, PROT_READ | PROT_WRITE);
    state.behind = behind;
    state.space = reserve(SPACE, PROT_NONE);
}

static void *fenced(size_t alignment, size_t size) {
    const size_t count = size ? (size + PAGE - 1) / PAGE : 1, step = alignment > PAGE ? alignment : PAGE;
    const size_t offset = state.behind ? (count * PAGE - (size ? size : 1)) / alignment * alignment : 0;
    pthread_mutex_lock(&state.lock);
    const size_t first = ((size_t)state.space + state.used + PAGE + step - 1) / step * step - (size_t)state.space;
    const int fits = first + (count + 1) * PAGE <= SPACE;
    if (fits) state.used = first + count * PAGE;
    pthread_mutex_unlock(&state.lock);
    if (!fits || mprotect(state.space + first, count * PAGE, PROT_READ | PROT_WRITE) != 0) return NULL;
    state.pages[(first + offset) / PAGE] = (uint32_t)count;
    return state.space + first + offset;
}

static int is_fenced(const void *data) {
    const unsigned char *p = data;
    return state.space && p >= state.space && p < state.space + SPACE;
}

static size_t bytes_from(const void *data) {
    const size_t at = (size_t)((const unsigned char *)data - state.space);
    return state.pages[at / PAGE] * (size_t)PAGE - at % PAGE;
}

static void release(void *data) {
    unsigned char *page = (unsigned char *)((size_t)data / PAGE * PAGE);
    const size_t size = state.pages[(size_t)(page - state.space) / PAGE] * (size_t)PAGE;
    madvise(page, size, MADV_DONTNEED);
    mprotect(page, size, PROT_NONE);
}

/* ---------------------------------------------------------------- NumPy's memory handler */

void *array_malloc(void *context, size_t size) {
    (void)context;
    return fenced(1, size);
}

void *array_calloc(void *context, size_t count, size_t size) {
    (void)context;
    return fenced(1, count * size);
}

void array_free(void *context, void *data, size_t size) {
    (void)context;
    (void)size;
    if (data) release(data);
}

void *array_realloc(void *context, void *data, size_t size) {
    void *moved = fenced(1, size);
    if (!data || !moved) return moved;
    const size_t before = bytes_from(data);
    memcpy(moved, data, before < size ? before : size);
    array_free(context, data, 0);
    return moved;
}

/* ---------------------------------------------------------------- scratch */

int posix_memalign(void **to, size_t alignment, size_t size) {
    void *data = state.space && alignment >= LINE ? fenced(alignment, size) : __libc_memalign(alignment, size);
    if (!data) return ENOMEM;
    *to = data;
    return 0;
}

void free(void *data) {
    if (is_fenced(data)) release(data);
    else __libc_free(data);
}
