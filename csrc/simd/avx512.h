/* AVX-512 (F, BW, DQ, VL): vectors of 64 bytes, and masks of one bit a lane in registers of their own. */
#include <immintrin.h>

#ifdef FC_F64
#define FC_FLOAT(op) _mm512_##op##_pd
#define FC_FLOAT_MASK(op) _mm512_##op##_pd_mask
#define FC_INT(op) _mm512_##op##_epi64
#define FC_INT_MASK(op) _mm512_##op##_epi64_mask
typedef __mmask8 vmask;
#else
#define FC_FLOAT(op) _mm512_##op##_ps
#define FC_FLOAT_MASK(op) _mm512_##op##_ps_mask
#define FC_INT(op) _mm512_##op##_epi32
#define FC_INT_MASK(op) _mm512_##op##_epi32_mask
typedef __mmask16 vmask;
#endif
#define vmask vmask

/* ---------------------------------------------------------------- arithmetic, partial loads and stores */

FC_INLINE vmask first_lanes(ptrdiff_t n) { return (vmask)((1u << n) - 1u); }

#define vload_n vload_n
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) { return FC_FLOAT(maskz_loadu)(first_lanes(n), p); }
#define vstore_n vstore_n
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) { FC_FLOAT(mask_storeu)(p, first_lanes(n), v); }
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
#define vclamp vclamp
FC_INLINE vec vclamp(vec v, vec top) {
    return FC_FLOAT(maskz_min)(FC_FLOAT_MASK(cmp)(v, (vec){0}, _CMP_NLE_UQ), top, v);
}
#define dfma dfma
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return _mm512_fmadd_pd(a, b, c); }
#ifndef FC_F64
#define widen_part widen_part
FC_INLINE dvec widen_part(vec_part a) { return _mm512_cvtps_pd(a); }
#define narrow_part narrow_part
FC_INLINE vec_part narrow_part(dvec a) { return _mm512_cvtpd_ps(a); }
#endif

/* ---------------------------------------------------------------- permutations */

#define vpermute2 vpermute2
FC_INLINE vec vpermute2(vec a, vec b, ivec index) { return FC_FLOAT(permutex2var)(a, (__m512i)index, b); }
#define vunpack_lo vunpack_lo
FC_INLINE vec vunpack_lo(vec a, vec b) { return FC_FLOAT(unpacklo)(a, b); }
#define vunpack_hi vunpack_hi
FC_INLINE vec vunpack_hi(vec a, vec b) { return FC_FLOAT(unpackhi)(a, b); }
#ifdef FC_F64
#define FC_SHUFFLE_PARTS _mm512_shuffle_f64x2
#else
#define FC_SHUFFLE_PARTS _mm512_shuffle_f32x4
#endif
#define vparts_even vparts_even
FC_INLINE vec vparts_even(vec a, vec b) { return FC_SHUFFLE_PARTS(a, b, 0x88); }
#define vparts_odd vparts_odd
FC_INLINE vec vparts_odd(vec a, vec b) { return FC_SHUFFLE_PARTS(a, b, 0xdd); }

/* ---------------------------------------------------------------- masks */

#define vrange vrange
FC_INLINE vmask vrange(ptrdiff_t lo, ptrdiff_t hi) { return first_lanes(hi) & ~first_lanes(lo); }
#define vmask_of_bits vmask_of_bits
FC_INLINE vmask vmask_of_bits(unsigned bits) { return (vmask)bits; }
#define vany vany
FC_INLINE int vany(vmask m) { return m != 0; }
#define vpick vpick
FC_INLINE vec vpick(vmask m, vec a, vec b) { return FC_FLOAT(mask_mov)(b, m, a); }
#define vpick_int vpick_int
FC_INLINE ivec vpick_int(vmask m, ivec a, ivec b) { return (ivec)FC_INT(mask_mov)((__m512i)b, m, (__m512i)a); }
#define vkeep vkeep
FC_INLINE vec vkeep(vmask m, vec v) { return FC_FLOAT(maskz_mov)(m, v); }
#define vadd_where vadd_where
FC_INLINE vec vadd_where(vmask m, vec sum, vec v) { return FC_FLOAT(mask_add)(sum, m, sum, v); }
#define vload_where vload_where
FC_INLINE vec vload_where(vmask m, const T *p) { return FC_FLOAT(maskz_loadu)(m, p); }
#define vcount vcount
FC_INLINE ivec vcount(vmask m, ivec counts) {
    return (ivec)FC_INT(mask_sub)((__m512i)counts, m, (__m512i)counts, FC_INT(set1)(-1));
}

#define vsame_int vsame_int
FC_INLINE vmask vsame_int(ivec a, ivec b) { return FC_INT_MASK(cmpeq)((__m512i)a, (__m512i)b); }
#define vgreater vgreater
FC_INLINE vmask vgreater(vec a, vec b) { return FC_FLOAT_MASK(cmp)(a, b, _CMP_GT_OQ); }
#define visnan visnan
FC_INLINE vmask visnan(vec v) { return FC_FLOAT_MASK(cmp)(v, v, _CMP_UNORD_Q); }
#define vabove vabove
FC_INLINE vmask vabove(vec v, vec winner) {
    return FC_FLOAT_MASK(mask_cmp)(FC_FLOAT_MASK(cmp)(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NLE_UQ);
}
#define vbelow vbelow
FC_INLINE vmask vbelow(vec v, vec winner) {
    return FC_FLOAT_MASK(mask_cmp)(FC_FLOAT_MASK(cmp)(winner, winner, _CMP_ORD_Q), v, winner, _CMP_NGE_UQ);
}

/* ---------------------------------------------------------------- other integers: uint8 and int64 */

#define vload_bytes vload_bytes
#define vput_bytes vput_bytes
#define vsame_int64 vsame_int64
#ifdef FC_F64
FC_INLINE ivec vload_bytes(const uint8_t *p) { return (ivec)_mm512_cvtepu8_epi64(_mm_loadu_si64(p)); }
FC_INLINE void vput_bytes(uint8_t *p, ivec v) { _mm_storeu_si64(p, _mm512_cvtepi64_epi8((__m512i)v)); }
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
    const __mmask8 lanes = n >= VL ? 0xff : first_lanes(n);
    return _mm512_mask_cmpeq_epi64_mask(lanes, _mm512_set1_epi64(i), _mm512_maskz_loadu_epi64(lanes, p));
}
#else
FC_INLINE ivec vload_bytes(const uint8_t *p) {
    return (ivec)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v));
}
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
    const __mmask16 lanes = n >= VL ? 0xffff : first_lanes(n);
    const __mmask8 low = (__mmask8)lanes, high = (__mmask8)(lanes >> 8);
    const __m512i wanted = _mm512_set1_epi64(i);
    return _mm512_kunpackb(_mm512_mask_cmpeq_epi64_mask(high, wanted, _mm512_maskz_loadu_epi64(high, p + 8)),
                           _mm512_mask_cmpeq_epi64_mask(low, wanted, _mm512_maskz_loadu_epi64(low, p)));
}
#define vint64 vint64
FC_INLINE lvec vint64(ivec v, int half) {
    return (lvec)_mm512_cvtepi32_epi64(half ? _mm512_extracti64x4_epi64((__m512i)v, 1)
                                            : _mm512_castsi512_si256((__m512i)v));
}
#endif
