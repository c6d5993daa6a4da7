/* 32 registers of 128 bits: 6 x 4 accumulators + 4 weights + 1 broadcast, as on avx512. */
#define FC_ISA neon
#define FC_NV 4
#define FC_MR_1 12
#define FC_MR_2 12
#define FC_MR_3 8
#define FC_MR_4 6
#define FC_SLIDE_RESULTS 14
#include "../kernels/table.h"
