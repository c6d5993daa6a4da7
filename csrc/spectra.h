/* Part of the contract (fastconv.h): convolution by Fourier transforms. */
#ifndef FASTCONV_SPECTRA_H
#define FASTCONV_SPECTRA_H

/* Fourier transforms of real lines of `size` elements, a power of two from FC_FFT_LEAST on, one in each lane.
 * forward:  elements i < len of a lane are line[(at + i) * step] (reversed: at - i), or padding outside of [0, extent);
 *           the rest are zeros. To spectrum[frequency * point + lane], imaginary parts `im` further on, for frequencies
 *           up to size / 2; times scale, as conjugates if asked for.
 * backward: the other way. Elements i < len, + the lane's bias, through the activation, to line[(at + i) * step], added
 *           to what is there if asked for, as far as that is below extent. What comes back is 4 size times as large.
 * A line that is NULL holds zeros, or is not stored. */
enum { FC_FFT_LEAST = 16, FC_FFT_LANES = 16 };

typedef struct fc_fft {
    ptrdiff_t size, lanes;
    const void *roots;         /* cos and sin of 2 pi i / size, i < size */
    void *line[FC_FFT_LANES];
    ptrdiff_t at[FC_FFT_LANES];
    ptrdiff_t step, extent, len;
    fc_pad_mode mode;
    int reversed, conjugate, accumulate;
    double scale;
    void *spectrum;
    ptrdiff_t point, im;
    const void *bias;          /* a vector */
    fc_activation activation;
    void *work;                /* 2 size vectors */
} fc_fft;

/* Complex products, frequency by frequency: c[crow[m] + j] (+)= sum over s < segs, l < len of
 * a[row[m] + aseg[s] + l * a_step] * b[bseg[s] + l * b_step + j], for m < rows and j < n, whole vectors. Lanewise, n is
 * one vector and a has an element of its own for each j. Imaginary parts lie a_im, b_im, c_im further on. */
typedef struct fc_spectral {
    ptrdiff_t points, rows, segs, len, n;
    const void *a, *b;
    void *c;
    const ptrdiff_t *row, *crow, *aseg, *bseg;
    ptrdiff_t a_step, b_step, a_im, b_im, c_im, a_point, b_point, c_point;
    int lanewise, accumulate;
} fc_spectral;

#endif
