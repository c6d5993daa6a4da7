/* Baseline CPU, 16 registers of 128 bits. Without FMA the product needs a register of its own, so
 * 5 x 2 accumulators + 2 weights + broadcast + product. */
#define FC_ISA scalar
#define FC_NV 2
#define FC_MR_1 10
#define FC_MR_2 5
#define FC_SLIDE_RESULTS 8
#include "../kernels/table.h"
