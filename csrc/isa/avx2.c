/* 16 registers of 256 bits: 6 x 2 accumulators + 2 weights + 1 broadcast use 15 of them.
 * Slides: 8 results + 7 taps + 1 source. */
#define FC_ISA avx2
#define FC_NV 2
#define FC_MR_1 12
#define FC_MR_2 6
#define FC_SLIDE_RESULTS 8
#include "../kernels/table.h"
