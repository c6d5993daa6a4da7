/* Which kernel tables this build holds, best first, and which of them the CPU can run.
 * Compiled with baseline flags: it has to run on the oldest CPU. */
#include "fastconv.h"

#if defined(__x86_64__) || defined(__i386__)
extern const fc_kernels fc_kernels_avx512_f32, fc_kernels_avx512_f64;
extern const fc_kernels fc_kernels_avx2_f32, fc_kernels_avx2_f64;
extern const fc_kernels fc_kernels_scalar_f32, fc_kernels_scalar_f64;

/* The compiler's CPU model also asks the operating system whether it saves the wide registers. */
static int has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#elif defined(__aarch64__)
extern const fc_kernels fc_kernels_neon_f32, fc_kernels_neon_f64;
#else
extern const fc_kernels fc_kernels_scalar_f32, fc_kernels_scalar_f64;
#endif

static int always(void) { return 1; }

static const struct {
    const char *name;
    int (*supported)(void);
    const fc_kernels *f32, *f64;
} isa_table[] = {
#if defined(__x86_64__) || defined(__i386__)
    {"avx512", has_avx512, &fc_kernels_avx512_f32, &fc_kernels_avx512_f64},
    {"avx2", has_avx2, &fc_kernels_avx2_f32, &fc_kernels_avx2_f64},
#elif defined(__aarch64__)
    {"neon", always, &fc_kernels_neon_f32, &fc_kernels_neon_f64},
#endif
#if !defined(__aarch64__)
    {"scalar", always, &fc_kernels_scalar_f32, &fc_kernels_scalar_f64},
#endif
};

ptrdiff_t fc_isa_count(void) { return (ptrdiff_t)(sizeof isa_table / sizeof isa_table[0]); }
const char *fc_isa_name(ptrdiff_t i) { return isa_table[i].name; }
int fc_isa_supported(ptrdiff_t i) { return isa_table[i].supported(); }
const fc_kernels *fc_isa_kernels(ptrdiff_t i, int f64) { return f64 ? isa_table[i].f64 : isa_table[i].f32; }
