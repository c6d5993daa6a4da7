/* One vector type per element type; intrinsics stand here and in simd/ alone.
 *
 * The including translation unit is compiled for one instruction set and one element type (FC_F64 defined: double, else
 * float). Everything a kernel needs beyond plain compiler vectors is here: unaligned and partial loads and stores,
 * fused multiply-add, selection, masks, zip, transposition and the floating-point environment. Tails belong to vload_n
 * / vstore_n, not to the kernels.
 *
 * simd/portable.h says what each operation means and has it in plain C; simd/<instruction set>.h replaces some. */
#ifndef FC_SIMD_H
#define FC_SIMD_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

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

/* Lanes of a vector: LANES for the sizes of arrays, VL in arithmetic with sizes. */
enum { LANES = VBYTES / sizeof(T) };
#define VL ((ptrdiff_t)LANES)
#define FC_INLINE static inline __attribute__((always_inline))

/* Lanes of the vectors that hold n elements. */
FC_INLINE ptrdiff_t whole_vectors(ptrdiff_t n) { return (n + VL - 1) / VL * VL; }

typedef T vec __attribute__((vector_size(VBYTES), may_alias));
typedef T vec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));
typedef lane_int ivec __attribute__((vector_size(VBYTES), may_alias));
typedef lane_int ivec_unaligned __attribute__((vector_size(VBYTES), aligned(sizeof(T)), may_alias));

/* Doubles: a vec holds as many of them as WIDE vectors of this type. */
enum { WIDE = sizeof(double) / sizeof(T) };
typedef double dvec __attribute__((vector_size(VBYTES), may_alias));
typedef T vec_part __attribute__((vector_size(VBYTES / WIDE), may_alias));

/* int64: a vec holds as many of them as WIDE vectors of this type. */
typedef int64_t lvec __attribute__((vector_size(VBYTES), may_alias));
typedef int64_t lvec_unaligned __attribute__((vector_size(VBYTES), aligned(8), may_alias));
enum { INT64_LANES = VBYTES / 8 };

/* Whether loads of some lanes cost as much as those of all. */
enum { MASKED_LOADS = VBYTES == 64 };

/* ------------------------------------------------------------------ the same for all instruction sets */

FC_INLINE vec vload(const T *p) { return *(const vec_unaligned *)p; }
FC_INLINE void vstore(T *p, vec v) { *(vec_unaligned *)p = v; }

/* v in a register: a load is made once, not by each instruction that uses it. */
FC_INLINE vec vregister(vec v) {
#if defined(__x86_64__) || defined(__i386__)
    __asm__("" : "+v"(v));
#endif
    return v;
}

/* x - 0 is x for every x, -0.0 and NaN included; x + 0 would turn -0.0 into +0.0. */
FC_INLINE vec vset1(T x) { return x - (vec){0}; }
FC_INLINE ivec vset1_int(lane_int x) { return x - (ivec){0}; }

/* Lane i of m is all ones or all zeros: m ? a : b. */
FC_INLINE vec vselect(ivec m, vec a, vec b) { return (vec)(((ivec)a & m) | ((ivec)b & ~m)); }

#if VBYTES == 64 && !defined(FC_F64)
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
#define FC_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define FC_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* a0 b0 a1 b1 ... of the lower and of the upper halves; every second lane of a, then of b. */
FC_INLINE vec vzip_lo(vec a, vec b) { return FC_SHUFFLE(a, b, FC_ZIP_LO); }
FC_INLINE vec vzip_hi(vec a, vec b) { return FC_SHUFFLE(a, b, FC_ZIP_HI); }
FC_INLINE vec vevens(vec a, vec b) { return FC_SHUFFLE(a, b, FC_EVEN); }
FC_INLINE vec vodds(vec a, vec b) { return FC_SHUFFLE(a, b, FC_ODD); }

/* ------------------------------------------------------------------ per instruction set */

#if VBYTES == 64
#include "simd/avx512.h"
#elif VBYTES == 32
#include "simd/avx2.h"
#elif defined(__aarch64__)
#include "simd/neon.h"
#endif
#include "simd/portable.h"
#include "simd/environment.h"

/* ------------------------------------------------------------------ made of those */

/* Load or store the whole vector, or its first n lanes where n < VL. */
FC_INLINE vec vload_upto(const T *p, ptrdiff_t n) { return n >= VL ? vload(p) : vload_n(p, n); }
FC_INLINE void vstore_upto(T *p, vec v, ptrdiff_t n) {
    if (n >= VL) vstore(p, v);
    else vstore_n(p, v, n);
}

/* How many elements lie before the first whole vector of memory. */
FC_INLINE ptrdiff_t lead_of(const T *p) { return (ptrdiff_t)(-(uintptr_t)p % VBYTES / sizeof(T)); }

/* r[i][j] -> r[j][i]. First the squares inside of parts: log2(SQUARE) rounds of zipping row i with row i + SQUARE / 2;
 * then the parts: log2(PARTS) rounds of unzipping those of neighbouring squares. */
FC_INLINE void vtranspose(vec r[LANES]) {
    enum { SQUARE = 16 / sizeof(T), PARTS = VBYTES / 16 };
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

/* The low bytes of the first n lanes, all of them if n >= VL. */
FC_INLINE void vstore_bytes(uint8_t *p, ivec v, ptrdiff_t n) {
    uint8_t bytes[LANES];
    if (n >= VL) {
        vput_bytes(p, v);
        return;
    }
    vput_bytes(bytes, v);
    for (ptrdiff_t i = 0; i < n; i++) p[i] = bytes[i];
}

/* first + i * step + v[i] for the first n lanes i, all of them if n >= VL. */
FC_INLINE void vstore_int64(int64_t *p, ivec v, int64_t first, int64_t step, ptrdiff_t n) {
    static const int64_t numbers[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    int64_t part[LANES], *to = n >= VL ? p : part;
    const lvec lane = *(const lvec_unaligned *)numbers * step + first;
    *(lvec_unaligned *)to = vint64(v, 0) + lane;
    if (VL > INT64_LANES) *(lvec_unaligned *)(to + VL - INT64_LANES) = vint64(v, 1) + lane + INT64_LANES * step;
    for (ptrdiff_t i = 0; to == part && i < n; i++) p[i] = part[i];
}

#endif
