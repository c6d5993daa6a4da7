/* Blocks of at most VL x VL elements, transposed in registers. Out of line: each is some hundred instructions. */

/* to[j][i] = from[i][j], VL x VL. */
static __attribute__((noinline)) void transpose_whole(const T *from, ptrdiff_t from_row, T *to, ptrdiff_t to_row) {
    vec block[LANES];
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < VL; i++) block[i] = vload(from + i * from_row);
    vtranspose(block);
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < VL; i++) vstore(to + i * to_row, block[i]);
}

/* The same for `rows` x `columns` of it, the first `written` elements of each row of `to`: zeros from `rows` on. */
static __attribute__((noinline)) void transpose_part(const T *from, ptrdiff_t from_row, ptrdiff_t rows,
                                                     ptrdiff_t columns, T *to, ptrdiff_t to_row, ptrdiff_t written) {
    vec block[LANES];
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < VL; i++) block[i] = i < rows ? vload_upto(from + i * from_row, columns) : (vec){0};
    vtranspose(block);
#pragma GCC unroll 16
    for (ptrdiff_t i = 0; i < VL; i++)
        if (i < columns) vstore_upto(to + i * to_row, block[i], written);
}

/* The same for any number of rows and columns. */
static void transpose(const T *from, ptrdiff_t from_row, ptrdiff_t rows, ptrdiff_t columns, T *to, ptrdiff_t to_row) {
    for (ptrdiff_t i = 0; i < rows; i += VL)
        for (ptrdiff_t j = 0; j < columns; j += VL) {
            const ptrdiff_t high = rows - i < VL ? rows - i : VL, wide = columns - j < VL ? columns - j : VL;
            const T *block = from + i * from_row + j;
            if (high == VL && wide == VL) transpose_whole(block, from_row, to + j * to_row + i, to_row);
            else transpose_part(block, from_row, high, wide, to + j * to_row + i, to_row, high);
        }
}
