/* Elementwise activations and their gradients over a contiguous row.
 *
 * relu and relu6 select with comparisons that are false for NaN, so NaN passes, -0.0 becomes +0.0 and
 * subnormals stay what they are (where the caller has not set flushing). */

/* tanh |x| = -t / (2 + t) with t = exp(-2 |x|) - 1, which is accurate near zero too. */
FC_INLINE vec vtanh(vec x) {
    const vec t = vexpm1_negative(vset1(-2) * vabs(x));
    return vcopysign(t / (vset1(2) + t), x);
}

/* The upper bound of relu (infinity) and of relu6. */
FC_INLINE vec clamp_top(fc_activation activation) {
    return vset1(activation == FC_RELU6 ? 6 : (T)__builtin_inf());
}

FC_INLINE vec vrelu(vec x) { return vselect((ivec)(x <= vset1(0)), vset1(0), x); }
FC_INLINE vec vrelu6(vec x) { return vselect((ivec)(x >= vset1(6)), vset1(6), vrelu(x)); }

/* y = activation(x); slope is leaky_relu's. With z = exp(-|x|), sigmoid is 1 / (1 + z) or z / (1 + z):
 * nothing overflows, and small values keep their relative accuracy. */
FC_INLINE vec activation_of(const fc_activation activation, vec slope, vec x) {
    switch (activation) {
    case FC_RELU: return vrelu(x);
    case FC_RELU6: return vrelu6(x);
    case FC_LEAKY_RELU: return vselect((ivec)(x > vset1(0)), x, slope * x);
    case FC_SIGMOID: {
        const vec z = vexp(-vabs(x));
        return vselect((ivec)(x < vset1(0)), z, vset1(1)) / (vset1(1) + z);
    }
    case FC_TANH: return vtanh(x);
    case FC_SILU: {
        const vec z = vexp(-vabs(x));
        return vselect((ivec)(x < vset1(0)), x * z, x) / (vset1(1) + z);
    }
    case FC_HARDSWISH: return x * (vrelu6(x + vset1(3)) * vset1((T)(1 / 6.)));
    default: return x;
    }
}

/* dx = dy * activation'(x) from `saved`: the output y of relu, sigmoid and tanh, else the input x. */
FC_INLINE vec gradient_of(const fc_activation activation, vec slope, vec dy, vec saved) {
    const vec none = vset1(0), one = vset1(1), three = vset1(3);
    switch (activation) {
    case FC_RELU: return vselect((ivec)(saved <= none), none, dy);
    case FC_RELU6: return vselect((ivec)(saved > none) & (ivec)(saved < vset1(6)), dy, none);
    case FC_LEAKY_RELU: return vselect((ivec)(saved > none), dy, slope * dy);
    case FC_SIGMOID: return dy * (saved * (one - saved));
    case FC_TANH: return dy * ((one - saved) * (one + saved));
    case FC_SILU: { /* s + x s (1 - s), and s (1 - s) = z / (1 + z)^2 for either sign of x */
        const vec z = vexp(-vabs(saved)), inverse = one / (one + z);
        const vec s = vselect((ivec)(saved < none), z, one) * inverse;
        return dy * vfma(saved * z, inverse * inverse, s);
    }
    case FC_HARDSWISH: {
        const vec inside = dy * vfma(saved, vset1((T)(1 / 3.)), vset1((T)0.5));
        return vselect((ivec)(saved <= -three), none, vselect((ivec)(saved < three), inside, dy));
    }
    default: return dy;
    }
}

FC_INLINE void activate_row(const fc_activation activation, T slope, const T *x, T *y, ptrdiff_t n) {
    const vec slopes = vset1(slope);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) vstore(y + i, activation_of(activation, slopes, vload(x + i)));
    if (i < n) vstore_n(y + i, activation_of(activation, slopes, vload_n(x + i, n - i)), n - i);
}

FC_INLINE void gradient_row(const fc_activation activation, T slope, const T *dy, const T *saved, T *dx, ptrdiff_t n) {
    const vec slopes = vset1(slope);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        vstore(dx + i, gradient_of(activation, slopes, vload(dy + i), vload(saved + i)));
    if (i < n)
        vstore_n(dx + i, gradient_of(activation, slopes, vload_n(dy + i, n - i), vload_n(saved + i, n - i)), n - i);
}

static void activate(fc_activation activation, double slope, const void *x, void *y, ptrdiff_t n, int past) {
    if (STORES_PAST && past && (activation == FC_RELU || activation == FC_RELU6)) { /* the others take longer to compute */
        const vec top = clamp_top(activation);
        const ptrdiff_t lead = lead_of(y), end = n < lead ? lead : lead + (n - lead) / VL * VL;
        if (lead) activate(activation, slope, x, y, n < lead ? n : lead, 0);
        for (ptrdiff_t i = lead; i < end; i += VL) vstore_past((T *)y + i, vclamp(vload((const T *)x + i), top));
        fence_past();
        if (end < n) activate(activation, slope, (const T *)x + end, (T *)y + end, n - end, 0);
        return;
    }
    switch (activation) { /* each case is a loop of its own */
    case FC_IDENTITY: activate_row(FC_IDENTITY, 0, x, y, n); break;
    case FC_RELU: activate_row(FC_RELU, 0, x, y, n); break;
    case FC_RELU6: activate_row(FC_RELU6, 0, x, y, n); break;
    case FC_LEAKY_RELU: activate_row(FC_LEAKY_RELU, (T)slope, x, y, n); break;
    case FC_SIGMOID: activate_row(FC_SIGMOID, 0, x, y, n); break;
    case FC_TANH: activate_row(FC_TANH, 0, x, y, n); break;
    case FC_SILU: activate_row(FC_SILU, 0, x, y, n); break;
    case FC_HARDSWISH: activate_row(FC_HARDSWISH, 0, x, y, n); break;
    }
}

static void activate_backward(fc_activation activation, double slope, const void *dy, const void *saved, void *dx,
                              ptrdiff_t n) {
    switch (activation) {
    case FC_IDENTITY: gradient_row(FC_IDENTITY, 0, dy, saved, dx, n); break;
    case FC_RELU: gradient_row(FC_RELU, 0, dy, saved, dx, n); break;
    case FC_RELU6: gradient_row(FC_RELU6, 0, dy, saved, dx, n); break;
    case FC_LEAKY_RELU: gradient_row(FC_LEAKY_RELU, (T)slope, dy, saved, dx, n); break;
    case FC_SIGMOID: gradient_row(FC_SIGMOID, 0, dy, saved, dx, n); break;
    case FC_TANH: gradient_row(FC_TANH, 0, dy, saved, dx, n); break;
    case FC_SILU: gradient_row(FC_SILU, 0, dy, saved, dx, n); break;
    case FC_HARDSWISH: gradient_row(FC_HARDSWISH, 0, dy, saved, dx, n); break;
    }
}
