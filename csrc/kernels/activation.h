/* Elementwise activations over a contiguous row. */
#include <math.h>

FC_INLINE vec activation_of(fc_activation activation, vec x) {
    const vec none = vset1(0), six = vset1(6);
    switch (activation) {
    case FC_RELU: return vmax_second(none, x) + none;
    case FC_RELU6: return vmin_second(six, vmax_second(none, x) + none);
    case FC_LEAKY_RELU: return vselect((ivec)(x > none), x, x * vset1((T)0.01));
    case FC_HARDSWISH: return x * vmin_second(six, vmax_second(none, x + vset1(3))) / six;
    case FC_SIGMOID:
        for (int i = 0; i < VL; i++) x[i] = 1 / (1 + (T)exp(-x[i]));
        return x;
    case FC_SILU:
        for (int i = 0; i < VL; i++) x[i] = x[i] / (1 + (T)exp(-x[i]));
        return x;
    case FC_TANH:
        for (int i = 0; i < VL; i++) x[i] = (T)tanh(x[i]);
        return x;
    default: return x;
    }
}

static void activate(fc_activation activation, const void *x, void *y, ptrdiff_t n) {
    const T *from = x;
    T *to = y;
    for (ptrdiff_t i = 0; i < n; i += VL)
        vstore_upto(to + i, activation_of(activation, vload_upto(from + i, n - i)), n - i);
}
