/* What is done beside products, each in one pass over memory. All tensors are float32. */
#include "vectors.h"

#define WORTH_THREADS 32768 /* values */

/* Root mean square norm with a weight: rows of `width` values, which may be any number. */
void rms_norm(const float *values, const float *weight, float *out, long rows, long width, float epsilon, int threads) {
    long whole_part = width / LANES * LANES;
#pragma omp parallel for num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++) {
        const float *from = values + row * width;
        float *to = out + row * width;
        vec squares = {0};
        for (long at = 0; at < whole_part; at += LANES) {
            vec some = *(const vec *)(from + at);
            squares += some * some;
        }
        float total = sum(squares);
        for (long at = whole_part; at < width; at++) total += from[at] * from[at];
        float scale = 1 / sqrtf(total / width + epsilon);
        for (long at = 0; at < width; at++) to[at] = from[at] * scale * weight[at];
    }
}

/* gate = silu(gate) * up. */
void gated(float *gate, const float *up, long count, int threads) {
    long whole_part = count / LANES * LANES;
#pragma omp parallel for num_threads(count > WORTH_THREADS ? threads : 1)
    for (long at = 0; at < whole_part; at += LANES) {
        vec x = *(vec *)(gate + at);
        whole negative = x < 0.0f;
        vec power = exponential(choose(negative, x, -x));
        *(vec *)(gate + at) = x * choose(negative, power, all(1)) / (power + 1.0f) * *(const vec *)(up + at);
    }
    for (long at = whole_part; at < count; at++) gate[at] = gate[at] / (1 + expf(-gate[at])) * up[at];
}

/* Rotary positions where the halves of a head are the pairs. values [tokens, heads, dim], `token` and `head` apart; cos
 * and sin [tokens, dim]; out [tokens, heads, dim]. */
void rotated(
    const float *values, long token, long head, const float *cosines, const float *sines, float *out, long tokens,
    long heads, long dim, int threads) {
#pragma omp parallel for num_threads(tokens * heads * dim > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < tokens; row++)
        for (long number = 0; number < heads; number++) {
            const float *from = values + row * token + number * head, *cosine = cosines + row * dim;
            const float *sine = sines + row * dim;
            float *to = out + (row * heads + number) * dim;
            long half = dim / 2;
            for (long at = 0; at < half; at++) {
                to[at] = from[at] * cosine[at] - from[at + half] * sine[at];
                to[at + half] = from[at + half] * cosine[at + half] + from[at] * sine[at + half];
            }
        }
}

/* The largest value of each row, and the first place that holds it; NaN where the row holds one. */
void greatest(const float *values, long rows, long width, float *tops, int64_t *places, int threads) {
    long whole_part = width / LANES * LANES;
#pragma omp parallel for num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++) {
        const float *from = values + row * width;
        vec high = all(-INFINITY);
        whole broken = {0}, where = {0};
        for (long at = 0; at < whole_part; at += LANES) {
            vec some = *(const vec *)(from + at);
            whole higher = some > high;
            high = choose(higher, some, high);
            where = (higher & (int32_t)at) | (~higher & where);
            broken |= some != some;
        }
        float top = -INFINITY;
        long place = 0;
        int bad = 0;
        for (int lane = 0; lane < LANES; lane++) {
            long here = where[lane] + lane;
            bad |= broken[lane];
            if (high[lane] > top || (high[lane] == top && here < place)) top = high[lane], place = here;
        }
        for (long at = whole_part; at < width; at++) {
            bad |= from[at] != from[at];
            if (from[at] > top) top = from[at], place = at;
        }
        tops[row] = bad ? NAN : top;
        places[row] = place;
    }
}
