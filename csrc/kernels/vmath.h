/* Exponential and logarithm on vectors, sums in double, and reductions over the lanes of a vector.
 *
 * Every lane depends on its own input alone, so vector body, masked tail and broadcast scalar give the
 * same bits. Errors are in ulp of the result; tests/test_activation.py measures what is built on them. */

/* ------------------------------------------------------------------ lanes */

static const lane_int lane_number[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

/* The mask of the first n lanes. */
FC_INLINE ivec vfirst(ptrdiff_t n) { return *(const ivec_unaligned *)lane_number < (ivec){0} + (lane_int)n; }

FC_INLINE vec vabs(vec x) { return (vec)((ivec)x & ~(ivec)vset1((T)-0.0)); }
FC_INLINE vec vcopysign(vec x, vec sign) { return (vec)((ivec)vabs(x) | ((ivec)sign & (ivec)vset1((T)-0.0))); }

/* The largest lane, in every lane: each round zips a vector with itself and joins the halves. */
FC_INLINE vec vmax_lanes(vec x) {
#pragma GCC unroll 4
    for (int round = 1; round < LANES; round *= 2) x = vmax_second(vzip_lo(x, x), vzip_hi(x, x));
    return x;
}

/* ------------------------------------------------------------------ sums in double */

/* The lanes of a vec as doubles. */
typedef struct wide { dvec v[WIDE]; } wide;

FC_INLINE wide vwiden(vec x) {
    union { vec whole; vec_part part[WIDE]; } u = {x};
    wide w;
#pragma GCC unroll 2
    for (int i = 0; i < WIDE; i++) w.v[i] = widen_part(u.part[i]);
    return w;
}

FC_INLINE vec vnarrow(wide w) {
    union { vec whole; vec_part part[WIDE]; } u;
#pragma GCC unroll 2
    for (int i = 0; i < WIDE; i++) u.part[i] = narrow_part(w.v[i]);
    return u.whole;
}

FC_INLINE wide wide_add(wide a, wide b) {
#pragma GCC unroll 2
    for (int i = 0; i < WIDE; i++) a.v[i] += b.v[i];
    return a;
}

FC_INLINE wide wide_sub(wide a, wide b) {
#pragma GCC unroll 2
    for (int i = 0; i < WIDE; i++) a.v[i] -= b.v[i];
    return a;
}

FC_INLINE wide wide_add_product(wide a, wide b, wide c) {
#pragma GCC unroll 2
    for (int i = 0; i < WIDE; i++) a.v[i] = dfma(b.v[i], c.v[i], a.v[i]);
    return a;
}

FC_INLINE double wide_sum(wide w) {
    double total = 0;
#pragma GCC unroll 2
    for (int i = 1; i < WIDE; i++) w.v[0] += w.v[i];
#pragma GCC unroll 8
    for (int i = 0; i < VBYTES / (int)sizeof(double); i++) total += w.v[0][i];
    return total;
}

/* ------------------------------------------------------------------ exp and log */

#ifdef FC_F64
/* ln 2 in two parts (fdlibm's): a whole number below 2^21 times the high one is exact. */
static const T LN2_HI = 6.93147180369123816490e-01, LN2_LO = 1.90821492927058770002e-10;
enum { EXPONENT_SHIFT = 52, EXPONENT_BIAS = 1023, EXP_TERMS = 12, LOG_TERMS = 10 };
#define ROUNDING 0x1.8p52
#define WHOLE_BITS 0x4330000000000000u /* of 2^52: a whole number n < 2^52 put below it is 2^52 + n */
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcdu
#define WHOLE 0x1p52
#else
static const T LN2_HI = 0.693359375f, LN2_LO = -2.12194440e-4f;
enum { EXPONENT_SHIFT = 23, EXPONENT_BIAS = 127, EXP_TERMS = 6, LOG_TERMS = 5 };
#define ROUNDING 0x1.8p23f
#define WHOLE_BITS 0x4b000000u
#define SQRT_HALF_BITS 0x3f3504f3u
#define WHOLE 0x1p23f
#endif

#ifdef FC_F64
typedef uint64_t uvec __attribute__((vector_size(VBYTES), may_alias));
#else
typedef uint32_t uvec __attribute__((vector_size(VBYTES), may_alias));
#endif

/* exp(x) = scale * (1 + q), scale a power of two. */
typedef struct power { vec scale, q; } power;

/* x = n ln 2 + r with n whole and |r| <= ln 2 / 2; scale = 2^n and q = exp(r) - 1 by its Taylor series, the
 * first term left out being below 0.1 ulp of the result. n is limited to where 2^n has a bit pattern:
 * scale is 0 at the lower end and infinity at the upper end. NaN goes through q. */
FC_INLINE power vpower(vec x) {
    static const T term[] = {
        (T)(1 / 2.), (T)(1 / 6.), (T)(1 / 24.), (T)(1 / 120.), (T)(1 / 720.), (T)(1 / 5040.),
#ifdef FC_F64
        1 / 40320., 1 / 362880., 1 / 3628800., 1 / 39916800., 1 / 479001600., 1 / 6227020800.,
#endif
    };
    const T ln2 = (T)0.69314718055994530942, log2e = (T)1.44269504088896340736;
    x = vmin_second(vset1((EXPONENT_BIAS + 1) * ln2), vmax_second(vset1(-EXPONENT_BIAS * ln2), x));
    /* Adding 1.5 * 2^(digits) rounds to a whole number, whose low bits are then n plus the bias. */
    const vec rounded = vfma(x, vset1(log2e), vset1(ROUNDING + EXPONENT_BIAS));
    const vec n = rounded - vset1(ROUNDING + EXPONENT_BIAS);
    const vec r = vfma(n, vset1(-LN2_LO), vfma(n, vset1(-LN2_HI), x));
    vec p = vset1(term[EXP_TERMS - 1]);
#pragma GCC unroll 12
    for (int i = EXP_TERMS - 2; i >= 0; i--) p = vfma(p, r, vset1(term[i]));
    return (power){(vec)((ivec)rounded << EXPONENT_SHIFT), vfma(r * r, p, r)};
}

/* exp(x) within 2 ulp; 0 where that is below half the smallest normal number, infinity from
 * 2^127.5 (2^1023.5) on. */
FC_INLINE vec vexp(vec x) {
    const power e = vpower(x);
    return (e.q + vset1(1)) * e.scale;
}

/* exp(x) - 1 for x <= 0, within 2 ulp. */
FC_INLINE vec vexpm1_negative(vec x) {
    const power e = vpower(x);
    return vfma(e.scale, e.q, e.scale - vset1(1));
}

/* log(x) for 1 <= x < infinity, within 3 ulp; NaN for NaN. x = 2^n m with m in [sqrt 1/2, sqrt 2), and
 * log m = 2 artanh s = 2 (s + s^3/3 + s^5/5 + ...) with s = (m - 1) / (m + 1), |s| < 0.172. */
FC_INLINE vec vlog_from_one(vec x) {
    static const T term[] = {
        (T)(2 / 3.), (T)(2 / 5.), (T)(2 / 7.), (T)(2 / 9.), (T)(2 / 11.),
#ifdef FC_F64
        2 / 13., 2 / 15., 2 / 17., 2 / 19., 2 / 21.,
#endif
    };
    /* Less the bits of sqrt 1/2, the exponent field counts from there. */
    const uvec exponent = ((uvec)x - SQRT_HALF_BITS) >> EXPONENT_SHIFT;
    const vec n = (vec)(exponent | WHOLE_BITS) - vset1(WHOLE);
    const vec m = (vec)((uvec)x - (exponent << EXPONENT_SHIFT));
    const vec s = (m - vset1(1)) / (m + vset1(1)), z = s * s;
    vec p = vset1(term[LOG_TERMS - 1]);
#pragma GCC unroll 12
    for (int i = LOG_TERMS - 2; i >= 0; i--) p = vfma(p, z, vset1(term[i]));
    const vec logarithm = vfma(n, vset1(LN2_HI), vfma(n, vset1(LN2_LO), vfma(s * z, p, s + s)));
    return logarithm + (x - x); /* NaN where x is not finite */
}
