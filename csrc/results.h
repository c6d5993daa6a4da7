/* Memory of large results. Blocks that results leave behind are kept, the newest ones within a limit, and the next
 * result of the same size takes one whose pages are there already: the system hands out a new block page by page,
 * zeroed, on each call. NumPy calls the handler; an array made under it owns its data like any other.
 *
 * A block's size is a function of the array's, so that the size NumPy passes to free() tells what fits. */
#ifndef FC_RESULTS_H
#define FC_RESULTS_H

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <numpy/ndarraytypes.h>

enum {
    FC_PAGE = 4096,
    FC_HUGE_PAGE = 2 * 1024 * 1024,
    FC_LARGE_RESULT = 128 * 1024,    /* from here on malloc asks the system, or trims its heap after a step's results */
    FC_MOST_KEPT = 128               /* blocks */
};

typedef struct fc_block {
    void *data;
    size_t size;
} fc_block;

static struct {
    pthread_mutex_t lock;
    size_t limit, bytes;             /* most bytes to keep, bytes kept */
    int count;
    fc_block block[FC_MOST_KEPT];    /* oldest first */
} fc_results = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void fc_advise_huge_pages(void *p, size_t n) {
#ifdef MADV_HUGEPAGE
    madvise(p, n, MADV_HUGEPAGE);
#else
    (void)p;
    (void)n;
#endif
}

/* Whole huge pages where that is at most an eighth more. */
static size_t fc_unit(size_t size) { return size >= 8 * FC_HUGE_PAGE ? FC_HUGE_PAGE : FC_PAGE; }

static size_t fc_block_size(size_t size) {
    const size_t unit = fc_unit(size);
    return size == 0 ? unit : (size + unit - 1) / unit * unit;
}

/* Take block i out of those kept. */
static fc_block fc_take_kept(int i) {
    const fc_block block = fc_results.block[i];
    fc_results.count--;
    memmove(&fc_results.block[i], &fc_results.block[i + 1], (size_t)(fc_results.count - i) * sizeof block);
    fc_results.bytes -= block.size;
    return block;
}

/* Give the oldest blocks back until `size` bytes more, and one block more, can be kept. */
static void fc_make_room(size_t size) {
    while (fc_results.count && (fc_results.bytes + size > fc_results.limit || fc_results.count == FC_MOST_KEPT))
        free(fc_take_kept(0).data);
}

static void fc_release_results(void) {
    pthread_mutex_lock(&fc_results.lock);
    while (fc_results.count) free(fc_take_kept(0).data);
    pthread_mutex_unlock(&fc_results.lock);
}

static void *fc_result_malloc(void *context, size_t size) {
    const size_t block = fc_block_size(size);
    void *data = NULL;
    (void)context;
    pthread_mutex_lock(&fc_results.lock);
    for (int i = fc_results.count - 1; i >= 0 && !data; i--)
        if (fc_results.block[i].size == block) data = fc_take_kept(i).data;
    pthread_mutex_unlock(&fc_results.lock);
    if (data) return data;
    if (posix_memalign(&data, fc_unit(size), block) != 0) {
        fc_release_results();
        if (posix_memalign(&data, fc_unit(size), block) != 0) return NULL;
    }
    if (block >= 2 * FC_HUGE_PAGE) fc_advise_huge_pages(data, block);
    return data;
}

static void *fc_result_calloc(void *context, size_t count, size_t size) {
    if (size && count > (size_t)-FC_HUGE_PAGE / size) return NULL;
    void *data = fc_result_malloc(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

static void *fc_result_realloc(void *context, void *data, size_t size) {
    (void)context;
    return realloc(data, fc_block_size(size));
}

static void fc_result_free(void *context, void *data, size_t size) {
    const size_t block = fc_block_size(size);
    (void)context;
    pthread_mutex_lock(&fc_results.lock);
    if (data && size >= FC_LARGE_RESULT && block <= fc_results.limit) {
        fc_make_room(block);
        fc_results.block[fc_results.count++] = (fc_block){data, block};
        fc_results.bytes += block;
        data = NULL;
    }
    pthread_mutex_unlock(&fc_results.lock);
    free(data);
}

static PyDataMem_Handler fc_result_handler = {
    "fastconv_results", 1, {NULL, fc_result_malloc, fc_result_calloc, fc_result_realloc, fc_result_free}};

/* Keep at most `limit` bytes from now on; returns the limit before. */
static inline size_t fc_limit_results(size_t limit) {
    pthread_mutex_lock(&fc_results.lock);
    const size_t before = fc_results.limit;
    fc_results.limit = limit;
    fc_make_room(0);
    pthread_mutex_unlock(&fc_results.lock);
    return before;
}

/* A child that is forked while another thread holds the lock finds it free. */
static void fc_lock_results(void) { pthread_mutex_lock(&fc_results.lock); }
static void fc_unlock_results(void) { pthread_mutex_unlock(&fc_results.lock); }
static inline void fc_results_start(void) { pthread_atfork(fc_lock_results, fc_unlock_results, fc_unlock_results); }

#endif
