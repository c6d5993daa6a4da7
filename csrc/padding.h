/* Positions outside of an image (numpy.pad's meaning of the words). */
#ifndef FASTCONV_PADDING_H
#define FASTCONV_PADDING_H

#include "fastconv.h"

static inline ptrdiff_t floor_mod(ptrdiff_t a, ptrdiff_t n) {
    const ptrdiff_t r = a % n;
    return r < 0 ? r + n : r;
}

/* Where position i of the padded axis comes from, or -1 for a zero. Every mode is the periodic
 * extension that numpy.pad makes, so any padding width works. */
static inline ptrdiff_t padded_source(ptrdiff_t i, ptrdiff_t n, fc_pad_mode mode) {
    if (i >= 0 && i < n) return i;
    switch (mode) {
    case FC_ZEROS: return -1;
    case FC_REPLICATE: return i < 0 ? 0 : n - 1;
    case FC_CIRCULAR: return floor_mod(i, n);
    case FC_REFLECT: {
        if (n == 1) return 0;
        const ptrdiff_t j = floor_mod(i, 2 * (n - 1));
        return j < n ? j : 2 * (n - 1) - j;
    }
    case FC_SYMMETRIC: {
        const ptrdiff_t j = floor_mod(i, 2 * n);
        return j < n ? j : 2 * n - 1 - j;
    }
    }
    return -1;
}

#endif
