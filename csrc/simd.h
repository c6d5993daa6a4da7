/* One vector type per element type, and the only place with intrinsics.
 *
 * The including translation unit is compiled for one instruction set and one element type
 * (FC_F64 defined: double, else float). Everything a kernel needs beyond plain compiler vectors is
 * here: unaligned and partial loads and stores, fused multiply-add, selection, zip, transposition
 * and the floating-point environment. Tails belong to vload_n / vstore_n, not to the kernels. */
#ifndef FC_SIMD_H
#define FC_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifdef FC_F64
typedef double T;
typedef int64_t lane_int;
#else
typedef float T;
typedef int32_t lane_int;
#endif

#if defined(__AVX512F__)
#define VBYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define VBYTES 32
#else
#define VBYTES 16
#endif

#define VL ((ptrdiff_t)(VBYTES / sizeof(T)))
#define FC_INLINE static inline __attribute__((always_inline))

typedef T vec __attribute__((vector_size(VBYTES), may_alias));
typedef T vec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));
typedef lane_int ivec __attribute__((vector_size(VBYTES), may_alias));
typedef lane_int ivec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));

/* Doubles: a vec holds as many of them as WIDE vectors of this type. */
enum { WIDE = sizeof(double) / sizeof(T) };
typedef double dvec __attribute__((vector_size(VBYTES), may_alias));
typedef T vec_part __attribute__((vector_size(VBYTES / WIDE), may_alias));

FC_INLINE vec vload(const T *p) { return *(const vec_unaligned *)p; }

/* v in a register: a load is made once, not by each instruction that uses it. */
FC_INLINE vec vregister(vec v) {
#if defined(__x86_64__) || defined(__i386__)
    __asm__("" : "+v"(v));
#endif
    return v;
}
FC_INLINE void vstore(T *p, vec v) { *(vec_unaligned *)p = v; }

/* Whether loads of some lanes cost as much as those of all. */
enum { MASKED_LOADS = VBYTES == 64 };

/* x - 0 is x for every x, -0.0 and NaN included; x + 0 would turn -0.0 into +0.0. */
FC_INLINE vec vset1(T x) { return x - (vec){0}; }

/* Lane i of mask m is all ones or all zeros: m ? a : b. */
FC_INLINE vec vselect(ivec m, vec a, vec b) { return (vec)(((ivec)a & m) | ((ivec)b & ~m)); }

/* ------------------------------------------------------------------ per instruction set */
#if VBYTES == 64 && !defined(FC_F64)

FC_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
FC_INLINE __mmask16 first_lanes(ptrdiff_t n) { return (__mmask16)((1u << n) - 1u); }
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
/* Signed-less x86 rule: if either operand is NaN, or both are zero, the second operand is returned. */
FC_INLINE vec vsqrt(vec a) { return _mm512_sqrt_ps(a); }
FC_INLINE vec vmax_second(vec a, vec b) { return _mm512_max_ps(a, b); }
FC_INLINE vec vmin_second(vec a, vec b) { return _mm512_min_ps(a, b); }
/* What is above +0.0, but at most `top`, else +0.0; NaN stays NaN. */
FC_INLINE vec vclamp(vec v, vec top) {
    return _mm512_maskz_min_ps(_mm512_cmp_ps_mask(v, (vec){0}, _CMP_NLE_UQ), top, v);
}
FC_INLINE dvec widen_part(vec_part a) { return _mm512_cvtps_pd(a); }
FC_INLINE vec_part narrow_part(dvec a) { return _mm512_cvtpd_ps(a); }
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return _mm512_fmadd_pd(a, b, c); }

#elif VBYTES == 64

FC_INLINE vec vfma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
FC_INLINE __mmask8 first_lanes(ptrdiff_t n) { return (__mmask8)((1u << n) - 1u); }
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return _mm512_maskz_loadu_pd(first_lanes(n), p); }
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { _mm512_mask_storeu_pd(p, first_lanes(n), v); }
FC_INLINE vec vsqrt(vec a) { return _mm512_sqrt_pd(a); }
FC_INLINE vec vmax_second(vec a, vec b) { return _mm512_max_pd(a, b); }
FC_INLINE vec vmin_second(vec a, vec b) { return _mm512_min_pd(a, b); }
FC_INLINE vec vclamp(vec v, vec top) {
    return _mm512_maskz_min_pd(_mm512_cmp_pd_mask(v, (vec){0}, _CMP_NLE_UQ), top, v);
}
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return vfma(a, b, c); }

#elif VBYTES == 32

static const lane_int first_lanes_table[2 * (VBYTES / sizeof(T))] = {
#ifdef FC_F64
    -1, -1, -1, -1,
#else
    -1, -1, -1, -1, -1, -1, -1, -1,
#endif
};
FC_INLINE __m256i first_lanes(ptrdiff_t n) {
    return _mm256_loadu_si256((const __m256i *)(first_lanes_table + VL - n));
}
#ifdef FC_F64
FC_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return _mm256_maskload_pd(p, first_lanes(n)); }
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { _mm256_maskstore_pd(p, first_lanes(n), v); }
FC_INLINE vec vsqrt(vec a) { return _mm256_sqrt_pd(a); }
FC_INLINE vec vmax_second(vec a, vec b) { return _mm256_max_pd(a, b); }
FC_INLINE vec vmin_second(vec a, vec b) { return _mm256_min_pd(a, b); }
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return vfma(a, b, c); }
#else
FC_INLINE vec vfma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { _mm256_maskstore_ps(p, first_lanes(n), v); }
FC_INLINE vec vsqrt(vec a) { return _mm256_sqrt_ps(a); }
FC_INLINE vec vmax_second(vec a, vec b) { return _mm256_max_ps(a, b); }
FC_INLINE vec vmin_second(vec a, vec b) { return _mm256_min_ps(a, b); }
FC_INLINE dvec widen_part(vec_part a) { return _mm256_cvtps_pd(a); }
FC_INLINE vec_part narrow_part(dvec a) { return _mm256_cvtpd_ps(a); }
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return _mm256_fmadd_pd(a, b, c); }
#endif

#else /* 128-bit compiler vectors: x86-64 baseline and aarch64 */

#if defined(__aarch64__) && defined(FC_F64)
FC_INLINE vec vfma(vec a, vec b, vec c) {
    return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
#elif defined(__aarch64__)
FC_INLINE vec vfma(vec a, vec b, vec c) {
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
#else
FC_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
#endif
FC_INLINE vec vsqrt(vec a) {
#ifdef FC_F64
    for (ptrdiff_t i = 0; i < VL; i++) a[i] = __builtin_sqrt(a[i]);
#else
    for (ptrdiff_t i = 0; i < VL; i++) a[i] = __builtin_sqrtf(a[i]);
#endif
    return a;
}
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) {
    vec v = {0};
    for (ptrdiff_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) p[i] = v[i];
}
FC_INLINE vec vmax_second(vec a, vec b) { return vselect((ivec)(a > b), a, b); }
FC_INLINE vec vmin_second(vec a, vec b) { return vselect((ivec)(a < b), a, b); }
#ifndef FC_F64
FC_INLINE dvec widen_part(vec_part a) { return __builtin_convertvector(a, dvec); }
FC_INLINE vec_part narrow_part(dvec a) { return __builtin_convertvector(a, vec_part); }
#endif
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return a * b + c; }

#endif

#if VBYTES != 64
FC_INLINE vec vclamp(vec v, vec top) {
    /* Adding +0.0 makes -0.0 that. */
    return vmin_second(top, vmax_second((vec){0}, v) + (vec){0});
}
#endif

#ifdef FC_F64
FC_INLINE dvec widen_part(vec_part a) { return a; }
FC_INLINE vec_part narrow_part(dvec a) { return a; }
#endif

/* Load or store the whole vector, or its first n lanes where n < VL. */
FC_INLINE vec vload_upto(const T *p, ptrdiff_t n) { return n >= VL ? vload(p) : vload_n(p, n); }
FC_INLINE void vstore_upto(T *p, vec v, ptrdiff_t n) {
    if (n >= VL) vstore(p, v);
    else vstore_n(p, v, n);
}

/* Lane i of the result is lane index[i] of a and b put together, 0 <= index[i] < 2 VL. */
#if VBYTES == 64 && !defined(FC_F64)
FC_INLINE vec vpermute2(vec a, vec b, ivec index) { return _mm512_permutex2var_ps(a, (__m512i)index, b); }
#elif VBYTES == 64
FC_INLINE vec vpermute2(vec a, vec b, ivec index) { return _mm512_permutex2var_pd(a, (__m512i)index, b); }
#elif VBYTES == 32 && !defined(FC_F64)
FC_INLINE vec vpermute2(vec a, vec b, ivec index) {
    const vec low = _mm256_permutevar8x32_ps(a, (__m256i)index), high = _mm256_permutevar8x32_ps(b, (__m256i)index);
    return vselect(index > 7, high, low); /* the permutation looks at the lowest three bits alone */
}
#else
FC_INLINE vec vpermute2(vec a, vec b, ivec index) {
    vec r = a;
    for (ptrdiff_t i = 0; i < VL; i++) r[i] = index[i] < VL ? a[index[i]] : b[index[i] - VL];
    return r;
}
#endif

/* ------------------------------------------------------------------ zip, unzip and transpose */
#if VBYTES / 4 == 16 && !defined(FC_F64)
#define FC_ZIP_LO 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FC_ZIP_HI 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif (VBYTES == 32 && !defined(FC_F64)) || (VBYTES == 64 && defined(FC_F64))
#define FC_ZIP_LO 0, 8, 1, 9, 2, 10, 3, 11
#define FC_ZIP_HI 4, 12, 5, 13, 6, 14, 7, 15
#define FC_EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define FC_ODD 1, 3, 5, 7, 9, 11, 13, 15
#elif (VBYTES == 16 && !defined(FC_F64)) || (VBYTES == 32 && defined(FC_F64))
#define FC_ZIP_LO 0, 4, 1, 5
#define FC_ZIP_HI 2, 6, 3, 7
#define FC_EVEN 0, 2, 4, 6
#define FC_ODD 1, 3, 5, 7
#else
#define FC_ZIP_LO 0, 2
#define FC_ZIP_HI 1, 3
#define FC_EVEN 0, 2
#define FC_ODD 1, 3
#endif

#ifdef __clang__
FC_INLINE vec vzip_lo(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_LO); }
FC_INLINE vec vzip_hi(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ZIP_HI); }
FC_INLINE vec vevens(vec a, vec b) { return __builtin_shufflevector(a, b, FC_EVEN); }
FC_INLINE vec vodds(vec a, vec b) { return __builtin_shufflevector(a, b, FC_ODD); }
#else
FC_INLINE vec vzip_lo(vec a, vec b) { return __builtin_shuffle(a, b, (ivec){FC_ZIP_LO}); }
FC_INLINE vec vzip_hi(vec a, vec b) { return __builtin_shuffle(a, b, (ivec){FC_ZIP_HI}); }
FC_INLINE vec vevens(vec a, vec b) { return __builtin_shuffle(a, b, (ivec){FC_EVEN}); }
FC_INLINE vec vodds(vec a, vec b) { return __builtin_shuffle(a, b, (ivec){FC_ODD}); }
#endif

/* Of 128-bit parts: vunpack_lo and vunpack_hi zip the lower and the upper halves of each two; vparts_even and
 * vparts_odd are every second part of a, then of b. On x86 these take half as long as zips of whole vectors. */
#if VBYTES == 64 && !defined(FC_F64)
FC_INLINE vec vunpack_lo(vec a, vec b) { return _mm512_unpacklo_ps(a, b); }
FC_INLINE vec vunpack_hi(vec a, vec b) { return _mm512_unpackhi_ps(a, b); }
FC_INLINE vec vparts_even(vec a, vec b) { return _mm512_shuffle_f32x4(a, b, 0x88); }
FC_INLINE vec vparts_odd(vec a, vec b) { return _mm512_shuffle_f32x4(a, b, 0xdd); }
#elif VBYTES == 64
FC_INLINE vec vunpack_lo(vec a, vec b) { return _mm512_unpacklo_pd(a, b); }
FC_INLINE vec vunpack_hi(vec a, vec b) { return _mm512_unpackhi_pd(a, b); }
FC_INLINE vec vparts_even(vec a, vec b) { return _mm512_shuffle_f64x2(a, b, 0x88); }
FC_INLINE vec vparts_odd(vec a, vec b) { return _mm512_shuffle_f64x2(a, b, 0xdd); }
#elif VBYTES == 32 && !defined(FC_F64)
FC_INLINE vec vunpack_lo(vec a, vec b) { return _mm256_unpacklo_ps(a, b); }
FC_INLINE vec vunpack_hi(vec a, vec b) { return _mm256_unpackhi_ps(a, b); }
FC_INLINE vec vparts_even(vec a, vec b) { return _mm256_permute2f128_ps(a, b, 0x20); }
FC_INLINE vec vparts_odd(vec a, vec b) { return _mm256_permute2f128_ps(a, b, 0x31); }
#elif VBYTES == 32
FC_INLINE vec vunpack_lo(vec a, vec b) { return _mm256_unpacklo_pd(a, b); }
FC_INLINE vec vunpack_hi(vec a, vec b) { return _mm256_unpackhi_pd(a, b); }
FC_INLINE vec vparts_even(vec a, vec b) { return _mm256_permute2f128_pd(a, b, 0x20); }
FC_INLINE vec vparts_odd(vec a, vec b) { return _mm256_permute2f128_pd(a, b, 0x31); }
#else
FC_INLINE vec vunpack_lo(vec a, vec b) { return vzip_lo(a, b); }
FC_INLINE vec vunpack_hi(vec a, vec b) { return vzip_hi(a, b); }
FC_INLINE vec vparts_even(vec a, vec b) { return (void)b, a; } /* there is one part, and nothing to part */
FC_INLINE vec vparts_odd(vec a, vec b) { return (void)a, b; }
#endif

/* r[i][j] -> r[j][i]. First the squares inside of parts: log2(SQUARE) rounds of zipping row i with row i + SQUARE / 2;
 * then the parts: log2(PARTS) rounds of unzipping those of neighbouring squares. */
FC_INLINE void vtranspose(vec r[VBYTES / sizeof(T)]) {
    enum { SQUARE = 16 / sizeof(T), PARTS = VBYTES / 16, LANES = SQUARE * PARTS };
    vec z[LANES];
#pragma GCC unroll 2
    for (int round = 1; round < SQUARE; round *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i += 2) {
            const int j = i / SQUARE * SQUARE + i % SQUARE / 2;
            z[i] = vunpack_lo(r[j], r[j + SQUARE / 2]);
            z[i + 1] = vunpack_hi(r[j], r[j + SQUARE / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) r[i] = z[i];
    }
#pragma GCC unroll 2
    for (int round = 1; round < PARTS; round *= 2) {
#pragma GCC unroll 16
        for (int i = 0; i < LANES / 2; i++) {
            const int j = i / SQUARE * 2 * SQUARE + i % SQUARE;
            z[i] = vparts_even(r[j], r[j + SQUARE]);
            z[i + LANES / 2] = vparts_odd(r[j], r[j + SQUARE]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) r[i] = z[i];
    }
}

/* ------------------------------------------------------------------ lane masks, winners, indices */

/* Per lane: vpick takes a where the mask is set, else b; vkeep takes v, else 0; vload_where reads, else 0;
 * vadd_where adds v to a sum that is not -0.0.
 * vrange is set in lanes lo <= i < hi, 0 <= lo, hi <= VL. vabove and vbelow tell where v replaces the
 * winner of max or min: it is better, or it is NaN and the winner is not. */
#if VBYTES == 64 && !defined(FC_F64)
typedef __mmask16 vmask;
FC_INLINE vec vpick(vmask m, vec a, vec b) { return _mm512_mask_mov_ps(b, m, a); }
FC_INLINE ivec vpick_int(vmask m, ivec a, ivec b) {
    return (ivec)_mm512_mask_mov_epi32((__m512i)b, m, (__m512i)a);
}
FC_INLINE vec vkeep(vmask m, vec v) { return _mm512_maskz_mov_ps(m, v); }
FC_INLINE vec vadd_where(vmask m, vec sum, vec v) { return _mm512_mask_add_ps(sum, m, sum, v); }
FC_INLINE vec vload_where(vmask m, const T *p) { return _mm512_maskz_loadu_ps(m, p); }
FC_INLINE vmask vrange(ptrdiff_t lo, ptrdiff_t hi) { return first_lanes(hi) & ~first_lanes(lo); }
FC_INLINE vmask vsame_int(ivec a, ivec b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
FC_INLINE vmask vgreater(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FC_INLINE vmask visnan(vec v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q); }
FC_INLINE int vany(vmask m) { return m != 0; }
FC_INLINE vmask vabove(vec v, vec winner) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NLE_UQ);
}
FC_INLINE vmask vbelow(vec v, vec winner) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NGE_UQ);
}
#elif VBYTES == 64
typedef __mmask8 vmask;
FC_INLINE vec vpick(vmask m, vec a, vec b) { return _mm512_mask_mov_pd(b, m, a); }
FC_INLINE ivec vpick_int(vmask m, ivec a, ivec b) {
    return (ivec)_mm512_mask_mov_epi64((__m512i)b, m, (__m512i)a);
}
FC_INLINE vec vkeep(vmask m, vec v) { return _mm512_maskz_mov_pd(m, v); }
FC_INLINE vec vadd_where(vmask m, vec sum, vec v) { return _mm512_mask_add_pd(sum, m, sum, v); }
FC_INLINE vec vload_where(vmask m, const T *p) { return _mm512_maskz_loadu_pd(m, p); }
FC_INLINE vmask vrange(ptrdiff_t lo, ptrdiff_t hi) { return first_lanes(hi) & ~first_lanes(lo); }
FC_INLINE vmask vsame_int(ivec a, ivec b) { return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b); }
FC_INLINE vmask vgreater(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ); }
FC_INLINE vmask visnan(vec v) { return _mm512_cmp_pd_mask(v, v, _CMP_UNORD_Q); }
FC_INLINE int vany(vmask m) { return m != 0; }
FC_INLINE vmask vabove(vec v, vec winner) {
    return _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NLE_UQ);
}
FC_INLINE vmask vbelow(vec v, vec winner) {
    return _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NGE_UQ);
}
#else
typedef ivec vmask;
#if VBYTES == 32 && !defined(FC_F64)
FC_INLINE vec vpick(vmask m, vec a, vec b) { return _mm256_blendv_ps(b, a, (vec)m); }
FC_INLINE vec vload_where(vmask m, const T *p) { return _mm256_maskload_ps(p, (__m256i)m); }
#elif VBYTES == 32
FC_INLINE vec vpick(vmask m, vec a, vec b) { return _mm256_blendv_pd(b, a, (vec)m); }
FC_INLINE vec vload_where(vmask m, const T *p) { return _mm256_maskload_pd(p, (__m256i)m); }
#else
FC_INLINE vec vpick(vmask m, vec a, vec b) { return vselect(m, a, b); }
FC_INLINE vec vload_where(vmask m, const T *p) {
    vec v = {0};
    for (ptrdiff_t i = 0; i < VL; i++)
        if (m[i]) v[i] = p[i];
    return v;
}
#endif
FC_INLINE vmask vrange(ptrdiff_t lo, ptrdiff_t hi) {
    vmask m = {0};
    for (ptrdiff_t i = lo; i < hi; i++) m[i] = -1;
    return m;
}
FC_INLINE ivec vpick_int(vmask m, ivec a, ivec b) { return (ivec)vpick(m, (vec)a, (vec)b); }
FC_INLINE vec vkeep(vmask m, vec v) { return (vec)((ivec)v & m); }
FC_INLINE vec vadd_where(vmask m, vec sum, vec v) { return sum + vkeep(m, v); }
FC_INLINE vmask vsame_int(ivec a, ivec b) { return (ivec)(a == b); }
FC_INLINE vmask vgreater(vec a, vec b) { return (ivec)(a > b); }
FC_INLINE vmask visnan(vec v) { return (ivec)(v != v); }
FC_INLINE int vany(vmask m) {
    uint64_t words[VBYTES / 8], any = 0;
    memcpy(words, &m, VBYTES);
    for (int i = 0; i < VBYTES / 8; i++) any |= words[i];
    return any != 0;
}
FC_INLINE vmask vabove(vec v, vec winner) { return ~(ivec)(v <= winner) & (ivec)(winner == winner); }
FC_INLINE vmask vbelow(vec v, vec winner) { return ~(ivec)(v >= winner) & (ivec)(winner == winner); }
#endif

/* Bit i is lane i; where MASKED_LOADS. */
FC_INLINE vmask vmask_of_bits(unsigned bits) {
#if VBYTES == 64
    return (vmask)bits;
#else
    return (vmask){0} - (lane_int)bits;
#endif
}

FC_INLINE ivec vset1_int(lane_int x) { return x - (ivec){0}; }

/* Lanes from bytes, and the other way. gcc makes __builtin_convertvector element by element. */
#if VBYTES == 64 && !defined(FC_F64)
FC_INLINE ivec vload_bytes(const uint8_t *p) {
    return (ivec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v));
}
#elif VBYTES == 64
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm512_cvtepu8_epi64(_mm_loadu_si64(p)); }
FC_INLINE void vput_bytes(uint8_t *p, ivec v) { _mm_storeu_si64(p, _mm512_cvtepi64_epi8((__m512i)v)); }
#elif VBYTES == 32 && !defined(FC_F64)
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm256_cvtepu8_epi32(_mm_loadu_si64(p)); }
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v, (__m256i)v), 8);
    const __m128i low = _mm256_castsi256_si128(words);
    _mm_storeu_si64(p, _mm_packus_epi16(low, low));
}
#else
#if VBYTES == 32
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm256_cvtepu8_epi64(_mm_loadu_si32(p)); }
#else
FC_INLINE ivec vload_bytes(const uint8_t *p) {
    ivec v = {0};
    for (ptrdiff_t i = 0; i < VL; i++) v[i] = p[i];
    return v;
}
#endif
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    for (ptrdiff_t i = 0; i < VL; i++) p[i] = (uint8_t)v[i];
}
#endif

/* The low bytes of the first n lanes, all of them if n >= VL. */
FC_INLINE void vstore_bytes(uint8_t *p, ivec v, ptrdiff_t n) {
    uint8_t bytes[VBYTES / sizeof(T)];
    if (n >= VL) {
        vput_bytes(p, v);
        return;
    }
    vput_bytes(bytes, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = bytes[i];
}

/* Lanes as int64, `half` of them at a time (0 or 1; float64 has but one). */
typedef int64_t lvec __attribute__((vector_size(VBYTES), may_alias));
typedef int64_t lvec_unaligned __attribute__((vector_size(VBYTES), aligned(8), may_alias));
enum { INT64_LANES = VBYTES / 8 };
#ifdef FC_F64
FC_INLINE lvec vint64(ivec v, int half) { return (void)half, (lvec)v; }
#elif VBYTES == 64
FC_INLINE lvec vint64(ivec v, int half) {
    return (lvec)_mm512_cvtepi32_epi64(half ? _mm512_extracti64x4_epi64((__m512i)v, 1)
                                                : _mm512_castsi512_si256((__m512i)v));
}
#elif VBYTES == 32
FC_INLINE lvec vint64(ivec v, int half) {
    return (lvec)_mm256_cvtepi32_epi64(half ? _mm256_extracti128_si256((__m256i)v, 1)
                                                : _mm256_castsi256_si128((__m256i)v));
}
#else
FC_INLINE lvec vint64(ivec v, int half) { return (lvec){v[2 * half], v[2 * half + 1]}; }
#endif

static const int64_t lane_numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};

/* first + i * step + v[i] for the first n lanes i, all of them if n >= VL. */
FC_INLINE void vstore_int64(int64_t *p, ivec v, int64_t first, int64_t step, ptrdiff_t n) {
    int64_t part[VBYTES / sizeof(T)], *to = n >= VL ? p : part;
    const lvec lane = *(const lvec_unaligned *)lane_numbers * step + first;
    *(lvec_unaligned *)to = vint64(v, 0) + lane;
    if (VL > INT64_LANES) *(lvec_unaligned *)(to + VL - INT64_LANES) = vint64(v, 1) + lane + INT64_LANES * step;
    for (ptrdiff_t i = 0; to == part && i < n; i++) p[i] = part[i];
}

/* Where the first n of the int64 at p, at most VL, are i; none of the other lanes. */
#if VBYTES == 64 && !defined(FC_F64)
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
    const __mmask16 lanes = n >= VL ? 0xffff : first_lanes(n);
    const __m512i wanted = _mm512_set1_epi64(i);
    const __mmask8 low = (__mmask8)lanes, high = (__mmask8)(lanes >> 8);
    return _mm512_kunpackb(_mm512_mask_cmpeq_epi64_mask(high, wanted, _mm512_maskz_loadu_epi64(high, p + 8)),
                           _mm512_mask_cmpeq_epi64_mask(low, wanted, _mm512_maskz_loadu_epi64(low, p)));
}
FC_INLINE ivec vcount(vmask m, ivec counts) {
    return (ivec)_mm512_mask_sub_epi32((__m512i)counts, m, (__m512i)counts, _mm512_set1_epi32(-1));
}
#elif VBYTES == 64
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
    const __mmask8 lanes = n >= VL ? 0xff : first_lanes(n);
    return _mm512_mask_cmpeq_epi64_mask(lanes, _mm512_set1_epi64(i), _mm512_maskz_loadu_epi64(lanes, p));
}
FC_INLINE ivec vcount(vmask m, ivec counts) {
    return (ivec)_mm512_mask_sub_epi64((__m512i)counts, m, (__m512i)counts, _mm512_set1_epi64(-1));
}
#else
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
#if VBYTES == 32
    if (n >= VL) {
        const lvec low = (lvec)(*(const lvec_unaligned *)p == i);
#ifdef FC_F64
        return (vmask)low;
#else
        const lvec high = (lvec)(*(const lvec_unaligned *)(p + 4) == i);
        const __m256 halves = _mm256_shuffle_ps((__m256)low, (__m256)high, 0x88); /* 0 1 4 5 2 3 6 7 */
        return (vmask)_mm256_permute4x64_epi64((__m256i)halves, 0xd8);
#endif
    }
#endif
    vmask m = {0};
    for (ptrdiff_t k = 0; k < VL && k < n; k++) m[k] = -(p[k] == i);
    return m;
}
FC_INLINE ivec vcount(vmask m, ivec counts) { return counts - m; }
#endif

/* ------------------------------------------------------------------ floating-point environment */

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

#endif
