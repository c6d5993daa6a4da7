/* Losses of pairs of elements, summed in double in the order of their vectors. */

/* log(1 + e) for 0 <= e <= 1: the logarithm of the rounded sum, times e over what the sum has kept of it. */
FC_INLINE vec vlog_of_one_and(vec e) {
    const vec sum = e + vset1(1), kept = sum - vset1(1);
    return vselect((ivec)(kept > vset1(0)), vlog_from_one(sum) * (e / kept), e);
}

static double pair_loss(int logistic, const void *x, const void *target, ptrdiff_t n) {
    wide sum = {0};
    for (ptrdiff_t i = 0; i < n; i += VL) {
        const vec a = vload_upto((const T *)x + i, n - i), t = vload_upto((const T *)target + i, n - i);
        if (logistic) {
            const vec loss = vmax_second(a, vset1(0)) - a * t + vlog_of_one_and(vexp(-vabs(a)));
            sum = wide_add(sum, vwiden(vselect(vfirst(n - i), loss, vset1(0))));
        } else
            sum = wide_add_product(sum, vwiden(a - t), vwiden(a - t));
    }
    return wide_sum(sum);
}
