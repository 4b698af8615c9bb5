/* What is done beside products, each in one pass over memory.
 *
 * -DHALF=0        1: tensors are bfloat16, and results are rounded where the architectures' own operators round
 */
#include "vectors.h"

#define WORTH_THREADS 32768 /* values */
#define PIECE 4096          /* values of a row that one thread takes, and whose sum is taken in float32 */

/* Root mean square norm with a weight: rows of `width` values, which may be any number. more: is added to the weight.
 * once: nothing is rounded before the product with the weight is. */
void rms_norm(
    const value *values, const value *weight, value *out, long rows, long width, float epsilon, float more, int once,
    int threads) {
    long whole_part = width / LANES * LANES, rest = width - whole_part;
#pragma omp parallel for num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++) {
        const value *from = values + row * width;
        value *to = out + row * width;
        vec squares = {0};
        for (long at = 0; at < whole_part; at += LANES) {
            vec some = load(from + at);
            squares += some * some;
        }
        float total = sum(squares);
        for (long at = whole_part; at < width; at++) total += number(from[at]) * number(from[at]);
        float scale = 1 / sqrtf(total / width + epsilon);
        for (long at = 0; at < whole_part; at += LANES) {
            vec normed = load(from + at) * scale;
            store(to + at, (once ? normed : rounded(normed)) * (load(weight + at) + more));
        }
        if (rest) {
            vec normed = load_some(from + whole_part, rest) * scale;
            vec weighed = (once ? normed : rounded(normed)) * (load_some(weight + whole_part, rest) + more);
            store_some(to + whole_part, weighed, rest);
        }
    }
}

/* out = act(gate) * up. gate and up [rows, width], `gate_row` and `up_row` apart; out [rows, width]. The activation is
 * silu, or, of bfloat16, any: `table` holds what it makes of each of the 65536 values. */
void gated(
    const value *gate, long gate_row, const value *up, long up_row, const value *table, value *out, long rows,
    long width, int threads) {
#pragma omp parallel for collapse(2) num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++)
        for (long start = 0; start < width; start += PIECE) {
            const value *from = gate + row * gate_row, *other = up + row * up_row;
            value *to = out + row * width;
            long end = width - start < PIECE ? width : start + PIECE;
            for (long at = start; at < end; at += LANES) {
                long count = end - at < LANES ? end - at : LANES;
                vec factor = count == LANES ? load(other + at) : load_some(other + at, count);
#if HALF
                value looked_up[LANES] = {0};
                for (long lane = 0; lane < count; lane++) looked_up[lane] = table[from[at + lane]];
                vec active = load(looked_up);
#else
                vec x = count == LANES ? load(from + at) : load_some(from + at, count);
                whole negative = x < 0.0f;
                vec power = exponential(choose(negative, x, -x));
                vec active = x * choose(negative, power, all(1)) / (power + 1.0f);
#endif
                if (count == LANES) store(to + at, active * factor);
                else store_some(to + at, active * factor, count);
            }
        }
}

#if HALF
/* out = act(values), by a table as above. */
void activated(const value *values, const value *table, value *out, long count, int threads) {
#pragma omp parallel for num_threads(count > WORTH_THREADS ? threads : 1)
    for (long at = 0; at < count; at++) out[at] = table[values[at]];
}
#endif

/* Rotary positions where the halves of what is turned of a head, the first `turned` of `dim` values, are the pairs.
 * values [tokens, heads, dim], `token` and `head` apart; cos and sin [tokens, turned]; out [tokens, heads, dim]. */
void rotated_heads(
    const value *values, long token, long head, const value *cosines, const value *sines, value *out, long tokens,
    long heads, long turned, long dim, int threads) {
    long half = turned / 2;
#pragma omp parallel for num_threads(tokens * heads * dim > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < tokens; row++)
        for (long number = 0; number < heads; number++) {
            const value *from = values + row * token + number * head, *cosine = cosines + row * turned;
            const value *sine = sines + row * turned;
            value *to = out + (row * heads + number) * dim;
            memcpy(to + turned, from + turned, (dim - turned) * sizeof(value));
            for (long at = 0; at < half; at += LANES) {
                long count = half - at < LANES ? half - at : LANES;
                vec first, second, cos_first, cos_second, sin_first, sin_second;
                if (count == LANES) {
                    first = load(from + at), second = load(from + at + half);
                    cos_first = load(cosine + at), cos_second = load(cosine + at + half);
                    sin_first = load(sine + at), sin_second = load(sine + at + half);
                } else {
                    first = load_some(from + at, count), second = load_some(from + at + half, count);
                    cos_first = load_some(cosine + at, count), cos_second = load_some(cosine + at + half, count);
                    sin_first = load_some(sine + at, count), sin_second = load_some(sine + at + half, count);
                }
                vec low = rounded(first * cos_first) - rounded(second * sin_first);
                vec high = rounded(second * cos_second) + rounded(first * sin_second);
                if (count == LANES)
                    store(to + at, low), store(to + at + half, high);
                else
                    store_some(to + at, low, count), store_some(to + at + half, high, count);
            }
        }
}

/* The largest value of a row, and the first place that holds it; NaN where the row holds one. */
static float greatest_of(const value *from, long width, int64_t *where_it_is) {
    long whole_part = width / LANES * LANES;
    vec high = all(-INFINITY);
    whole broken = {0}, where = {0};
    for (long at = 0; at < whole_part; at += LANES) {
        vec some = load(from + at);
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
        float one = number(from[at]);
        bad |= one != one;
        if (one > top) top = one, place = at;
    }
    *where_it_is = place;
    return bad ? NAN : top;
}

void greatest(const value *values, long rows, long width, float *tops, int64_t *places, int threads) {
#pragma omp parallel for num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++) tops[row] = greatest_of(values + row * width, width, places + row);
}

/* The same, and the logarithm of the sum of each row's exponentials. */
void log_sums(
    const value *values, long rows, long width, float *tops, int64_t *places, float *sums, int threads) {
#pragma omp parallel for num_threads(rows * width > WORTH_THREADS ? threads : 1)
    for (long row = 0; row < rows; row++) {
        const value *from = values + row * width;
        float top = tops[row] = greatest_of(from, width, places + row);
        double total = 0;
        for (long start = 0; start < width; start += PIECE) {
            long end = width - start < PIECE ? width : start + PIECE, at = start;
            vec some = {0};
            for (; at + LANES <= end; at += LANES) some += exponential(load(from + at) - top);
            total += sum(some);
            for (; at < end; at++) total += expf(number(from[at]) - top);
        }
        sums[row] = top + (float)log(total);
    }
}
