/* 32 registers of 512 bits. MR x NV accumulators + NV weights + 1 broadcast fit them at 6 x 4, 8 x 3
 * and 12 x 2; all reach the FMA limit because 2 FMA/cycle x 4 cycles of latency need 8 chains. More than
 * 10 x 1 would have more row addresses than there are registers for them.
 * Slides: 14 results + 7 taps + 1 source; 8 chains would do if the FMAs could always start when their turn comes. */
#define FC_ISA avx512
#define FC_NV 4
#define FC_MR_1 10
#define FC_MR_2 12
#define FC_MR_3 8
#define FC_MR_4 6
#define FC_SLIDE_RESULTS 14
#include "../kernels/table.h"
