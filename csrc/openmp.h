/* The one owner of OpenMP's run-time calls, with no-op twins for a build without OpenMP. */
#ifndef FC_OPENMP_H
#define FC_OPENMP_H

#ifdef _OPENMP
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <omp.h>
#include <pthread.h>
#include <sched.h>

static inline int fc_openmp_version(void) { return _OPENMP; }

#if _OPENMP >= 201811 || __GNUC__ >= 9 /* gcc 9 has this call of OpenMP 5.0 before it claims the version */
/* libgomp hangs in a forked child whose parent used it; giving its threads back before the fork
 * avoids that, for forks made by C libraries too. Weak: an older OpenMP runtime, loaded into the
 * process before ours, may lack it. */
extern int omp_pause_resource_all(omp_pause_resource_t) __attribute__((weak));
static void fc_before_fork(void) {
    if (omp_pause_resource_all && !omp_in_parallel()) omp_pause_resource_all(omp_pause_soft);
}
static inline void fc_openmp_start(void) { pthread_atfork(fc_before_fork, NULL, NULL); }
#else
static inline void fc_openmp_start(void) {}
#endif

#if defined(__linux__) && !defined(__clang__)
/* libgomp makes and destroys a team even for a region of one thread: 0.5 us of allocation and system calls. The modules
 * are linked with --wrap=GOMP_parallel, so that regions open here, and one of one thread is a plain call. That is only
 * done where the caller is thread 0 of 1 already, as it would be in the region. */
void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    if (threads == 1 && omp_get_num_threads() == 1) body(data);
    else __real_GOMP_parallel(body, data, threads, flags);
}
#endif

/* The thread that opens a parallel region, and the CPU that it ran on then. */
typedef struct fc_master {
    pthread_t thread;
    int cpu;
} fc_master;

#ifdef __linux__
static inline fc_master fc_this_thread(void) {
    const fc_master m = {pthread_self(), sched_getcpu()};
    return m;
}

/* Called by every share. Linux's scheduler tends to wake a worker on the CPU of the thread that wakes it, and leaves
 * the two to take turns there, for milliseconds or for good. A worker that finds itself there moves, and may run
 * anywhere else until the master has moved, too. */
static inline void fc_settle(const fc_master *m) {
    cpu_set_t cpus;
    if (sched_getcpu() != m->cpu || pthread_equal(pthread_self(), m->thread)) return;
    if (pthread_getaffinity_np(m->thread, sizeof cpus, &cpus) != 0) return;
    CPU_CLR(m->cpu, &cpus);
    if (CPU_COUNT(&cpus) > 0) pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
}
#else
static inline fc_master fc_this_thread(void) {
    const fc_master m = {pthread_self(), -1};
    return m;
}
static inline void fc_settle(const fc_master *m) { (void)m; }
#endif

#else
typedef struct fc_master {
    int cpu;
} fc_master;
static inline fc_master fc_this_thread(void) {
    const fc_master m = {-1};
    return m;
}
static inline void fc_settle(const fc_master *m) { (void)m; }
static inline int fc_openmp_version(void) { return 0; }
static inline void fc_openmp_start(void) {}
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_procs(void) { return 1; }
#endif

#endif
