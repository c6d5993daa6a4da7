/* How long a cache line takes from one core to another: two threads hand a counter to and fro. */
#ifndef FC_PING_PONG_H
#define FC_PING_PONG_H

#include "openmp.h"
#include <stddef.h>

#ifdef _OPENMP
#include <stdatomic.h>

enum { FC_PING_PONG_PATIENCE = 1 << 14 }; /* looks at the counter before the CPU is given up to whoever needs it */

/* Seconds of one transfer, the mean over `rounds` round trips; 0 where only one thread is to be had. */
static inline double fc_ping_pong(ptrdiff_t rounds) {
    struct { _Alignas(128) atomic_ptrdiff_t turn; char rest[128]; } ball; /* alone in its lines */
    const fc_master master = fc_this_thread();
    double seconds = 0;
    atomic_init(&ball.turn, -2); /* both threads have arrived at 0 */
#pragma omp parallel num_threads(2)
    if (omp_get_num_threads() == 2) {
        const ptrdiff_t me = omp_get_thread_num();
        fc_settle(&master);
        atomic_fetch_add(&ball.turn, 1);
        while (atomic_load(&ball.turn) < 0) sched_yield();
        const double begin = omp_get_wtime();
        for (ptrdiff_t wanted = me; wanted < 2 * rounds; wanted += 2) {
            for (ptrdiff_t looks = 0; atomic_load_explicit(&ball.turn, memory_order_acquire) != wanted; looks++)
                if (looks > FC_PING_PONG_PATIENCE) sched_yield();
            atomic_store_explicit(&ball.turn, wanted + 1, memory_order_release);
        }
        if (me == 0) seconds = (omp_get_wtime() - begin) / (double)(2 * rounds);
    }
    return seconds;
}
#else
static inline double fc_ping_pong(ptrdiff_t rounds) {
    (void)rounds;
    return 0;
}
#endif

#endif
