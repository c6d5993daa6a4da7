/* The floating-point environment of a thread. */
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

/* From here on flush subnormals to zero, round to nearest and trap nothing, whatever the caller's thread does: shares
 * in threads of the pool have to give the same bits. Returns what fp_leave() needs to restore the whole state, sticky
 * exception flags included. */
FC_INLINE uint64_t fp_enter(void) {
#if defined(__x86_64__) || defined(__i386__)
    const unsigned state = _mm_getcsr();
    _mm_setcsr(0x9fc0u); /* FTZ and DAZ, all exceptions masked */
    return state;
#elif defined(__aarch64__)
    uint64_t control, status;
    const uint64_t flush = 1u << 24;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(control));
    __asm__ __volatile__("mrs %0, fpsr" : "=r"(status));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(flush));
    return control << 32 | status;
#else
    return 0;
#endif
}

/* After stores past the caches, before another thread may look. */
FC_INLINE void fence_past(void) {
#if defined(__x86_64__) || defined(__i386__)
    _mm_sfence();
#endif
}

FC_INLINE void fp_leave(uint64_t state) {
#if defined(__x86_64__) || defined(__i386__)
    _mm_setcsr((unsigned)state);
#elif defined(__aarch64__)
    __asm__ __volatile__("msr fpcr, %0" : : "r"(state >> 32));
    __asm__ __volatile__("msr fpsr, %0" : : "r"(state & 0xffffffffu));
#else
    (void)state;
#endif
}
