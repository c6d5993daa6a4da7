/* NEON of aarch64: what compiler vectors of 16 bytes don't give. */
#include <arm_neon.h>

#define vfma vfma
#ifdef FC_F64
FC_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
FC_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#endif
