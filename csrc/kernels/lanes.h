/* Grouped convolution with few channels a group: lanes of a vector belong to different groups.
 *
 * Lane i of a block stands for output column lane0 + i, so a strip holds, for each pixel and each of the
 * `red` reduction channels of a group, the vector of what the lanes need: [pixel][j < red][lane].
 * Depthwise convolution is red = 1. The tile is slide.h's. */

FC_INLINE ptrdiff_t lane_channel(const fc_lane_map *map, ptrdiff_t lane) {
    return (map->lane0 + lane) / map->cols * map->red;
}

/* How the lanes of a block pick their channels out of a pixel: `window` channels from `first` on. */
typedef struct lane_pick {
    ptrdiff_t first, window;
    ivec index;
} lane_pick;

static lane_pick pick_of(const fc_lane_map *map) {
    lane_pick p = {.first = lane_channel(map, 0)};
    p.window = lane_channel(map, map->lanes - 1) + map->red - p.first;
    for (ptrdiff_t i = 0; i < VL; i++)
        p.index[i] = i < map->lanes ? (lane_int)(lane_channel(map, i) - p.first) : 0;
    return p;
}

/* The vectors of one pixel; `from` NULL: of padding. */
FC_INLINE void lane_pixel(const fc_lane_map *map, const lane_pick *p, const T *from, ptrdiff_t channel_stride, T *to) {
    if (!from) {
        zero(to, map->red * VL);
    } else if (channel_stride == 1 && p->window <= 2 * VL) {
        const vec a = vload_upto(from + p->first, p->window);
        vec b = {0};
        if (p->window > VL) b = vload_upto(from + p->first + VL, p->window - VL);
        if (map->red == 1 && map->cols == 1) vstore(to, a);
        else
            for (ptrdiff_t j = 0; j < map->red; j++) vstore(to + j * VL, vpermute2(a, b, p->index + (lane_int)j));
    } else {
        for (ptrdiff_t j = 0; j < map->red; j++)
            for (ptrdiff_t i = 0; i < VL; i++)
                to[j * VL + i] = from[(p->first + (ptrdiff_t)p->index[i] + j) * channel_stride];
    }
}

/* Interior of one row of a channels-first image: VL pixels of VL channels at a time, transposed. */
FC_INLINE void lane_row(const fc_strip *s, const fc_lane_map *map, const T *from, T *to, ptrdiff_t pixels) {
    vec block[LANES];
    for (ptrdiff_t j = 0; j < map->red; j++)
        for (ptrdiff_t w = 0; w < pixels; w += VL) {
            const ptrdiff_t valid = pixels - w < VL ? pixels - w : VL;
#pragma GCC unroll 16
            for (ptrdiff_t i = 0; i < VL; i++)
                block[i] = i < map->lanes
                    ? vload_upto(from + (lane_channel(map, i) + j) * s->src_c + w, valid) : (vec){0};
            vtranspose(block);
            for (ptrdiff_t i = 0; i < valid; i++) vstore(to + (w + i) * s->dst_axis[2] + j * VL, block[i]);
        }
}

static void load_lanes(const fc_strip *s, const fc_lane_map *map) {
    const lane_pick pick = pick_of(map);
    const ptrdiff_t extent = s->extent[2], w0 = s->lo[2], w1 = w0 + s->count[2];
    for (ptrdiff_t d = 0; d < s->count[0]; d++) {
        const ptrdiff_t from_d = padded_source(s->lo[0] + d, s->extent[0], s->mode);
        for (ptrdiff_t h = 0; h < s->count[1]; h++) {
            const ptrdiff_t from_h = padded_source(s->lo[1] + h, s->extent[1], s->mode);
            const int inside = from_d >= 0 && from_h >= 0;
            const T *src = (const T *)s->src + (inside ? from_d * s->src_axis[0] + from_h * s->src_axis[1] : 0);
            T *dst = (T *)s->dst + d * s->dst_axis[0] + h * s->dst_axis[1];
            for (ptrdiff_t w = w0; w < w1; w++) {
                if (w >= 0 && w < extent && inside && s->src_axis[2] == 1 && s->src_c != 1) {
                    const ptrdiff_t end = w1 < extent ? w1 : extent;
                    lane_row(s, map, src + w, dst + (w - w0) * s->dst_axis[2], end - w);
                    w = end - 1;
                    continue;
                }
                const ptrdiff_t from_w = padded_source(w, extent, s->mode);
                lane_pixel(map, &pick, inside && from_w >= 0 ? src + from_w * s->src_axis[2] : NULL, s->src_c,
                           dst + (w - w0) * s->dst_axis[2]);
            }
        }
    }
}

/* Where lane i's weights (tap 0, reduction channel 0) lie; p->col and p->red are strides within a group. */
FC_INLINE ptrdiff_t lane_weight(const fc_lane_map *map, ptrdiff_t lane, ptrdiff_t col, ptrdiff_t ntap) {
    const ptrdiff_t column = map->lane0 + lane;
    return column / map->cols * (map->cols * map->red * ntap) + column % map->cols * col;
}

static int pack_lanes(const fc_pack *p, const fc_lane_map *map) {
    int finite = 1;
    for (ptrdiff_t t = 0; t < p->ntap; t++)
        for (ptrdiff_t j = 0; p->at[t] >= 0 && j < p->len; j++) {
            T *to = (T *)p->dst + (p->at[t] * p->len + j) * VL;
            for (ptrdiff_t i = 0; i < VL; i++) {
                to[i] = i < map->lanes
                    ? ((const T *)p->src)[lane_weight(map, i, p->col, p->ntap) + j * p->red + t] : 0;
                finite &= to[i] * 0 == 0;
            }
        }
    return finite;
}

static void join_lanes(const fc_join *q, const fc_lane_map *map) {
    for (ptrdiff_t t = 0; t < q->ntap; t++)
        for (ptrdiff_t j = 0; j < q->len; j++) {
            const vec sum = join_row(q, (const T *)q->part + (t * q->len + j) * VL);
            for (ptrdiff_t i = 0; i < map->lanes; i++) {
                T *to = (T *)q->dst + lane_weight(map, i, q->col, q->ntap) + j * q->red + t;
                *to = q->accumulate ? *to + sum[i] : sum[i];
            }
        }
}
