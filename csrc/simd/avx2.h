/* AVX2 and FMA: vectors of 32 bytes; masks are vectors. */
#include <immintrin.h>

#ifdef FC_F64
#define FC_FLOAT(op) _mm256_##op##_pd
#else
#define FC_FLOAT(op) _mm256_##op##_ps
#endif

/* ---------------------------------------------------------------- arithmetic, partial loads and stores */

static const lane_int first_lanes_table[2 * LANES] = {
#ifdef FC_F64
    -1, -1, -1, -1,
#else
    -1, -1, -1, -1, -1, -1, -1, -1,
#endif
};
FC_INLINE __m256i first_lanes(ptrdiff_t n) {
    return _mm256_loadu_si256((const __m256i *)(first_lanes_table + VL - n));
}

#define vload_n vload_n
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return FC_FLOAT(maskload)(p, first_lanes(n)); }
#define vstore_n vstore_n
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { FC_FLOAT(maskstore)(p, first_lanes(n), v); }
#define vstore_past vstore_past
FC_INLINE void vstore_past(T *p, vec v) { FC_FLOAT(stream)(p, v); }
#define vfma vfma
FC_INLINE vec vfma(vec a, vec b, vec c) { return FC_FLOAT(fmadd)(a, b, c); }
#define vsqrt vsqrt
FC_INLINE vec vsqrt(vec a) { return FC_FLOAT(sqrt)(a); }
#define vmax_second vmax_second
FC_INLINE vec vmax_second(vec a, vec b) { return FC_FLOAT(max)(a, b); }
#define vmin_second vmin_second
FC_INLINE vec vmin_second(vec a, vec b) { return FC_FLOAT(min)(a, b); }
#define dfma dfma
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return _mm256_fmadd_pd(a, b, c); }
#ifndef FC_F64
#define widen_part widen_part
FC_INLINE dvec widen_part(vec_part a) { return _mm256_cvtps_pd(a); }
#define narrow_part narrow_part
FC_INLINE vec_part narrow_part(dvec a) { return _mm256_cvtpd_ps(a); }
#endif

/* ---------------------------------------------------------------- permutations */

#ifndef FC_F64
#define vpermute2 vpermute2
FC_INLINE vec vpermute2(vec a, vec b, ivec index) {
    const vec low = _mm256_permutevar8x32_ps(a, (__m256i)index), high = _mm256_permutevar8x32_ps(b, (__m256i)index);
    return vselect(index > 7, high, low); /* the permutation looks at the lowest three bits alone */
}
#endif
#define vunpack_lo vunpack_lo
FC_INLINE vec vunpack_lo(vec a, vec b) { return FC_FLOAT(unpacklo)(a, b); }
#define vunpack_hi vunpack_hi
FC_INLINE vec vunpack_hi(vec a, vec b) { return FC_FLOAT(unpackhi)(a, b); }
#ifdef FC_F64
#define FC_PERMUTE_PARTS _mm256_permute2f128_pd
#else
#define FC_PERMUTE_PARTS _mm256_permute2f128_ps
#endif
#define vparts_even vparts_even
FC_INLINE vec vparts_even(vec a, vec b) { return FC_PERMUTE_PARTS(a, b, 0x20); }
#define vparts_odd vparts_odd
FC_INLINE vec vparts_odd(vec a, vec b) { return FC_PERMUTE_PARTS(a, b, 0x31); }

/* ---------------------------------------------------------------- masks */

#define vpick vpick
FC_INLINE vec vpick(ivec m, vec a, vec b) { return FC_FLOAT(blendv)(b, a, (vec)m); }
#define vload_where vload_where
FC_INLINE vec vload_where(ivec m, const T *p) { return FC_FLOAT(maskload)(p, (__m256i)m); }

/* ---------------------------------------------------------------- other integers: uint8 and int64 */

#define vload_bytes vload_bytes
#define vsame_all_int64 vsame_all_int64
#ifdef FC_F64
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm256_cvtepu8_epi64(_mm_loadu_si32(p)); }
FC_INLINE ivec vsame_all_int64(const int64_t *p, int64_t i) { return (ivec)(*(const lvec_unaligned *)p == i); }
#else
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm256_cvtepu8_epi32(_mm_loadu_si64(p)); }
#define vput_bytes vput_bytes
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v, (__m256i)v), 8);
    const __m128i low = _mm256_castsi256_si128(words);
    _mm_storeu_si64(p, _mm_packus_epi16(low, low));
}
FC_INLINE ivec vsame_all_int64(const int64_t *p, int64_t i) {
    const lvec low = (lvec)(*(const lvec_unaligned *)p == i), high = (lvec)(*(const lvec_unaligned *)(p + 4) == i);
    const __m256 halves = _mm256_shuffle_ps((__m256)low, (__m256)high, 0x88); /* 0 1 4 5 2 3 6 7 */
    return (ivec)_mm256_permute4x64_epi64((__m256i)halves, 0xd8);
}
#define vint64 vint64
FC_INLINE lvec vint64(ivec v, int half) {
    return (lvec)_mm256_cvtepi32_epi64(half ? _mm256_extracti128_si256((__m256i)v, 1)
                                            : _mm256_castsi256_si128((__m256i)v));
}
#endif
