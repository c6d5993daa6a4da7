/* The one owner of OpenMP's run-time calls, with no-op twins for a build without OpenMP. */
#ifndef FC_OPENMP_H
#define FC_OPENMP_H

#ifdef _OPENMP
#include <omp.h>
#include <pthread.h>

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

#else
static inline int fc_openmp_version(void) { return 0; }
static inline void fc_openmp_start(void) {}
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_procs(void) { return 1; }
#endif

#endif
