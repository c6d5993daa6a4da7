/* Sums of two tensors, and steps of optimizers. */

static void add(const void *a, const void *b, int relu, void *y, ptrdiff_t n) {
    const vec floor = vset1(relu ? (T)0 : (T)__builtin_nan(""));
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec sum = vload_upto((const T *)a + i, n - i) + vload_upto((const T *)b + i, n - i);
        vstore_upto((T *)y + i, vselect((ivec)(sum <= floor), floor, sum), n - i);
    }
}

FC_INLINE vec decayed_gradient(const fc_step *s, vec w, ptrdiff_t i, ptrdiff_t n) {
    return vfma(w, vset1((T)s->decay), vload_upto((const T *)s->g + i, n));
}

FC_INLINE void sgd_run(const fc_step *s, ptrdiff_t at, ptrdiff_t end, const int momentum) {
    const vec rate = vset1((T)-s->rate), beta = vset1((T)s->beta1);
    T *const w = s->w, *const mean = s->mean;
    for (ptrdiff_t i = at; i < end; i += VL) {
        const ptrdiff_t n = end - i;
        const vec value = vload_upto(w + i, n), g = decayed_gradient(s, value, i, n);
        vec change = g;
        if (momentum) {
            const vec m = vfma(beta, vload_upto(mean + i, n), g);
            vstore_upto(mean + i, m, n);
            change = s->nesterov ? vfma(beta, m, g) : m;
        }
        vstore_upto(w + i, vfma(rate, change, value), n);
    }
}

static void sgd(const fc_step *s, ptrdiff_t at, ptrdiff_t n) {
    if (s->mean) sgd_run(s, at, at + n, 1);
    else sgd_run(s, at, at + n, 0);
}

static void adam(const fc_step *s, ptrdiff_t at, ptrdiff_t count) {
    const vec rate = vset1((T)-s->rate), shrink = vset1((T)s->shrink), eps = vset1((T)s->eps);
    const vec beta1 = vset1((T)s->beta1), rest1 = vset1((T)(1 - s->beta1));
    const vec beta2 = vset1((T)s->beta2), rest2 = vset1((T)(1 - s->beta2)), root = vset1((T)s->root);
    T *const w = s->w, *const mean = s->mean, *const square = s->square;
    for (ptrdiff_t i = at; i < at + count; i += VL) {
        const ptrdiff_t n = at + count - i;
        const vec value = vload_upto(w + i, n), g = decayed_gradient(s, value, i, n);
        const vec m = vfma(rest1, g, beta1 * vload_upto(mean + i, n));
        const vec v = vfma(rest2 * g, g, beta2 * vload_upto(square + i, n));
        vstore_upto(mean + i, m, n);
        vstore_upto(square + i, v, n);
        vstore_upto(w + i, vfma(rate * m, vset1(1) / vfma(vsqrt(v), root, eps), shrink * value), n);
    }
}
