/* What every operation means, in plain compiler vectors of any width: for an instruction set that has no better.
 *
 * A set's own file, included before, defines the operations that it does better, and for each a macro of the same name,
 * by which they are left out here. */

/* ---------------------------------------------------------------- arithmetic, partial loads and stores */

#ifndef vload_n /* the first n lanes, n < VL; the others are zero, and their memory is not read */
FC_INLINE vec vload_n(const T *p, ptrdiff_t n) {
    vec v = {0};
    for (ptrdiff_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
#endif
#ifndef vstore_n /* the first n lanes, n < VL */
FC_INLINE void vstore_n(T *p, vec v, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) p[i] = v[i];
}
#endif
#ifdef vstore_past /* a whole vector at an aligned address, past the caches: see fence_past */
enum { STORES_PAST = 1 };
#else
enum { STORES_PAST = 0 };
FC_INLINE void vstore_past(T *p, vec v) { vstore(p, v); }
#endif
#ifndef vfma /* a b + c, rounded once where the instruction set can */
FC_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
#endif
#ifndef vsqrt
FC_INLINE vec vsqrt(vec a) {
#ifdef FC_F64
    for (ptrdiff_t i = 0; i < VL; i++) a[i] = __builtin_sqrt(a[i]);
#else
    for (ptrdiff_t i = 0; i < VL; i++) a[i] = __builtin_sqrtf(a[i]);
#endif
    return a;
}
#endif
#ifndef vmax_second /* x86's rule: b where either is NaN or both are zeros, whatever their signs */
FC_INLINE vec vmax_second(vec a, vec b) { return vselect((ivec)(a > b), a, b); }
#endif
#ifndef vmin_second
FC_INLINE vec vmin_second(vec a, vec b) { return vselect((ivec)(a < b), a, b); }
#endif
#ifndef vclamp /* min(v, top) where v is above zero, else +0.0; NaN stays NaN */
FC_INLINE vec vclamp(vec v, vec top) {
    /* Adding +0.0 turns -0.0 into +0.0. */
    return vmin_second(top, vmax_second((vec){0}, v) + (vec){0});
}
#endif
#ifndef dfma
FC_INLINE dvec dfma(dvec a, dvec b, dvec c) { return a * b + c; }
#endif
#ifndef widen_part /* T to double, and back */
FC_INLINE dvec widen_part(vec_part a) { return __builtin_convertvector(a, dvec); }
#endif
#ifndef narrow_part
FC_INLINE vec_part narrow_part(dvec a) { return __builtin_convertvector(a, vec_part); }
#endif

/* ---------------------------------------------------------------- permutations */

#ifndef vpermute2 /* lane i is lane index[i] of a and b put together, 0 <= index[i] < 2 VL */
FC_INLINE vec vpermute2(vec a, vec b, ivec index) {
    vec r = a;
    for (ptrdiff_t i = 0; i < VL; i++) r[i] = index[i] < VL ? a[index[i]] : b[index[i] - VL];
    return r;
}
#endif

/* Of each 16 bytes, a part: vunpack_lo and vunpack_hi zip the lower and the upper halves of the parts of a and b;
 * vparts_even and vparts_odd are every second part of a, then of b. On x86 they take half as long as zips of whole
 * vectors. As they stand here, for vectors of one part. */
#ifndef vunpack_lo
FC_INLINE vec vunpack_lo(vec a, vec b) { return vzip_lo(a, b); }
#endif
#ifndef vunpack_hi
FC_INLINE vec vunpack_hi(vec a, vec b) { return vzip_hi(a, b); }
#endif
#ifndef vparts_even
FC_INLINE vec vparts_even(vec a, vec b) { return (void)b, a; }
#endif
#ifndef vparts_odd
FC_INLINE vec vparts_odd(vec a, vec b) { return (void)a, b; }
#endif

/* ---------------------------------------------------------------- masks */

#ifndef vmask /* one truth value a lane; here all ones or all zeros */
typedef ivec vmask;
#endif
#ifndef vrange /* lanes lo <= i < hi, 0 <= lo, hi <= VL */
FC_INLINE vmask vrange(ptrdiff_t lo, ptrdiff_t hi) {
    vmask m = {0};
    for (ptrdiff_t i = lo; i < hi; i++) m[i] = -1;
    return m;
}
#endif
#ifndef vmask_of_bits /* bit i is lane i; where MASKED_LOADS alone */
FC_INLINE vmask vmask_of_bits(unsigned bits) { return (vmask){0} - (lane_int)bits; }
#endif
#ifndef vany
FC_INLINE int vany(vmask m) {
    uint64_t words[VBYTES / 8], any = 0;
    memcpy(words, &m, VBYTES);
    for (int i = 0; i < VBYTES / 8; i++) any |= words[i];
    return any != 0;
}
#endif
#ifndef vpick /* m ? a : b */
FC_INLINE vec vpick(vmask m, vec a, vec b) { return vselect(m, a, b); }
#endif
#ifndef vpick_int
FC_INLINE ivec vpick_int(vmask m, ivec a, ivec b) { return (ivec)vpick(m, (vec)a, (vec)b); }
#endif
#ifndef vkeep /* m ? v : 0 */
FC_INLINE vec vkeep(vmask m, vec v) { return (vec)((ivec)v & m); }
#endif
#ifndef vadd_where /* m ? sum + v : sum, of a sum that is not -0.0 */
FC_INLINE vec vadd_where(vmask m, vec sum, vec v) { return sum + vkeep(m, v); }
#endif
#ifndef vload_where /* m ? p[i] : 0; other lanes are not read */
FC_INLINE vec vload_where(vmask m, const T *p) {
    vec v = {0};
    for (ptrdiff_t i = 0; i < VL; i++)
        if (m[i]) v[i] = p[i];
    return v;
}
#endif
#ifndef vcount /* m ? counts + 1 : counts */
FC_INLINE ivec vcount(vmask m, ivec counts) { return counts - m; }
#endif

#ifndef vsame_int
FC_INLINE vmask vsame_int(ivec a, ivec b) { return (ivec)(a == b); }
#endif
#ifndef vgreater
FC_INLINE vmask vgreater(vec a, vec b) { return (ivec)(a > b); }
#endif
#ifndef visnan
FC_INLINE vmask visnan(vec v) { return (ivec)(v != v); }
#endif
/* Where v replaces the winner of a maximum (vabove) or minimum: it is better, or it is NaN and the winner is not. */
#ifndef vabove
FC_INLINE vmask vabove(vec v, vec winner) { return ~(ivec)(v <= winner) & (ivec)(winner == winner); }
#endif
#ifndef vbelow
FC_INLINE vmask vbelow(vec v, vec winner) { return ~(ivec)(v >= winner) & (ivec)(winner == winner); }
#endif

/* ---------------------------------------------------------------- other integers: uint8 and int64 */

/* Bytes to lanes, and the low bytes of lanes. gcc makes __builtin_convertvector element by element. */
#ifndef vload_bytes
FC_INLINE ivec vload_bytes(const uint8_t *p) {
    ivec v = {0};
    for (ptrdiff_t i = 0; i < VL; i++) v[i] = p[i];
    return v;
}
#endif
#ifndef vput_bytes
FC_INLINE void vput_bytes(uint8_t *p, ivec v) {
    for (ptrdiff_t i = 0; i < VL; i++) p[i] = (uint8_t)v[i];
}
#endif
#ifndef vsame_int64 /* where the int64 at p are i, of the first n lanes, at most VL; not set in the others */
FC_INLINE vmask vsame_int64(const int64_t *p, int64_t i, ptrdiff_t n) {
#ifdef vsame_all_int64
    if (n >= VL) return vsame_all_int64(p, i);
#endif
    vmask m = {0};
    for (ptrdiff_t k = 0; k < VL && k < n; k++) m[k] = -(p[k] == i);
    return m;
}
#endif
#ifndef vint64 /* lanes as int64: their first or second `half`, 0 or 1; of float64 there is but the first */
#ifdef FC_F64
FC_INLINE lvec vint64(ivec v, int half) { return (void)half, (lvec)v; }
#else
FC_INLINE lvec vint64(ivec v, int half) { return (lvec){v[2 * half], v[2 * half + 1]}; }
#endif
#endif
