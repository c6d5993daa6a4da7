/* Everything one instruction set and element type provides, as one table. */
#include "../fastconv.h"
#include "../simd.h"

#include "vmath.h"

#include "activation.h"
#include "transpose.h"
#include "gemm.h"
#include "losses.h"
#include "norm.h"
#include "planar.h"
#include "products.h"
#include "softmax.h"
#include "steps.h"
#include "strip.h"
#include "pack.h"
#include "few.h"
#include "lanes.h"
#include "slide.h"
#include "fold.h"
#include "winograd_line.h"
#include "winograd.h"
#include "fft.h"
#include "filter.h"

#include "pool.h"
#include "pool_index.h"
#include "pool_backward.h"

static uint64_t enter(void) { return fp_enter(); }
static void leave(uint64_t state) { fp_leave(state); }

/* 2 x VL FLOPs for each of 12 independent chains an iteration: what the gemm tile could reach at best. */
static double fma_peak(ptrdiff_t iterations) {
    vec acc[12];
    for (int i = 0; i < 12; i++) acc[i] = vset1((T)i);
    const vec x = vset1((T)0.5), y = vset1((T)0.25);
    for (ptrdiff_t n = 0; n < iterations; n++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) acc[i] = vfma(acc[i], x, y);
    vec sum = acc[0];
    for (int i = 1; i < 12; i++) sum += acc[i];
    /* The sum is finite and never used: returning a function of it keeps the loop alive. */
    return (double)iterations * 12 * 2 * (double)VL * (sum[0] == sum[0] ? 1 : 0);
}

#define FC_PASTE(a, b, c, d) a##b##c##d
#define FC_NAME(isa, suffix) FC_PASTE(fc_kernels_, isa, _, suffix)
#ifdef FC_F64
#define FC_TABLE FC_NAME(FC_ISA, f64)
#else
#define FC_TABLE FC_NAME(FC_ISA, f32)
#endif
#define FC_STRING(x) #x
#define FC_ISA_STRING(x) FC_STRING(x)

extern const fc_kernels FC_TABLE;
const fc_kernels FC_TABLE = {
    .isa = FC_ISA_STRING(FC_ISA),
    .itemsize = sizeof(T),
    .lanes = VL,
    .block = FC_NV * VL,
    .masked_loads = MASKED_LOADS,
    .enter = enter,
    .leave = leave,
    .fma_peak = fma_peak,
    .load_strip = load_strip,
    .fold_strip = fold_strip,
    .pack_weight = pack_weight,
    .gemm = gemm,
    .few_rows = few_rows,
    .planar_gemm = planar_gemm,
    .load_rows = load_rows,
    .store_rows = store_rows,
    .join_weight = join_weight,
    .load_lanes = load_lanes,
    .pack_lanes = pack_lanes,
    .join_lanes = join_lanes,
    .slide = slide,
    .slide_back = slide_back,
    .spread = spread,
    .sum_vectors = sum_vectors,
    .join_phases = join_phases,
    .pack_folded = pack_folded,
    .store_folded = store_folded,
    .has_nan = has_nan,
    .products = products,
    .winograd_input = winograd_input,
    .winograd_weight = winograd_weight,
    .winograd_output = winograd_output,
    .winograd_gradient = winograd_gradient,
    .winograd_taps = winograd_taps,
    .winograd_fused = winograd_fused,
    .winograd_fused_taps = winograd_fused_taps,
    .fft_forward = fft_forward,
    .fft_backward = fft_backward,
    .spectral = spectral,
    .activate = activate,
    .activate_backward = activate_backward,
    .scale_kept = scale_kept,
    .pair_loss = pair_loss,
    .softmax = softmax,
    .softmax_backward = softmax_backward,
    .channel_sums = channel_sums,
    .channel_scale = channel_scale,
    .load_image_row = load_image_row,
    .filter_row = filter_row,
    .add = add,
    .sgd = sgd,
    .adam = adam,
    .pool = pool,
    .pool_divide = pool_divide,
    .pool_gather = pool_gather,
    .pool_stage = pool_stage,
    .scatter_add = scatter_add,
    .scatter_set = scatter_set,
    .unscatter_set = unscatter_set,
};
