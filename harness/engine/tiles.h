/* Products of bfloat16 by the matrix unit of a processor (AMX): tiles of 16 rows of 64 bytes. After vectors.h. */
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whether the system lets this process use tiles. Linux: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). */
static int tiles_are_allowed(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

/* Tiles are read from memory, and the compiler does not know it. */
#define IN_MEMORY __asm__ volatile("" ::: "memory")

static void begin_tiles(void) {
    struct { uint8_t palette, row, unused[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) shape.bytes[tile] = 64, shape.rows[tile] = 16;
    IN_MEMORY;
    _tile_loadconfig(&shape);
    IN_MEMORY;
}

/* to[16 * strips][32] = (add ? to : 0) + left times right, or (left + more) times right where there is `more`. left and
 * more [16 * strips][32 * steps]; right: pairs of values of one column, [16 * steps] rows for each of two tiles, which
 * are `right_next` apart. Rows and tiles are so many numbers of their type apart. */
static inline __attribute__((always_inline)) void multiply_tiles(
    int strips, int steps, const value *left, const value *more, long left_row, const uint32_t *right, long right_row,
    long right_next, float *to, long to_row, int add) {
    float *below = to + 16 * to_row;
    IN_MEMORY;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    if (add) {
        _tile_loadd(0, to, 4 * to_row);
        _tile_loadd(1, to + 16, 4 * to_row);
    }
    if (add && strips == 2) {
        _tile_loadd(2, below, 4 * to_row);
        _tile_loadd(3, below + 16, 4 * to_row);
    }
    for (int step = 0; step < steps; step++) {
        const uint32_t *here = right + step * 16 * right_row;
        _tile_loadd(6, here, 4 * right_row);
        _tile_loadd(7, here + right_next, 4 * right_row);
        for (const value *part = left; part; part = part == left ? more : 0) {
            _tile_loadd(4, part + 32 * step, 2 * left_row);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            if (strips == 2) {
                _tile_loadd(5, part + 32 * step + 16 * left_row, 2 * left_row);
                _tile_dpbf16ps(2, 5, 6);
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, to, 4 * to_row);
    _tile_stored(1, to + 16, 4 * to_row);
    if (strips == 2) {
        _tile_stored(2, below, 4 * to_row);
        _tile_stored(3, below + 16, 4 * to_row);
    }
    IN_MEMORY;
}

/* Rows of pairs of values, `row` values apart, turned into columns: to[pair][16]. Rows from `count` on are 0. */
static inline void turn_pairs(const value *from, long row, int count, int pairs, uint32_t (*to)[16]) {
    for (int start = 0; start < pairs; start += 16) {
        bits rows[16];
        for (int one = 0; one < 16; one++)
            rows[one] = one < count ? *(const bits *)(from + one * row + 2 * start) : (bits){0};
        turn(rows);
        for (int one = 0; one < 16; one++) *(bits *)to[start + one] = rows[one];
    }
}

/* Two rows of `width` values as one of pairs. */
static inline void pair_rows(const value *first, const value *second, int width, uint32_t *to) {
    for (int at = 0; at < width; at += LANES) {
        bits low = (bits)load(first + at) >> 16, high = second ? (bits)load(second + at) : (bits){0};
        *(bits *)(to + at) = low | high;
    }
}

/* Fold one block's scores into the running softmax of a query, as `fold` does, with the sum kept in lanes. Weights go to
 * `high`, and to `low` what bfloat16 leaves of them; from `count` to `padded` they are 0. */
static inline float fold_in_tiles(
    float *scores, int count, int padded, float scale, float *most, vec *total, value *high, value *low) {
    for (int key = count; key % LANES; key++) scores[key] = -INFINITY;
    vec highest = all(-INFINITY);
    int key = 0;
    for (; key < count; key += LANES) {
        vec some = *(vec *)(scores + key);
        highest = choose(some > highest, some, highest);
    }
    float before = *most, now = _mm512_reduce_max_ps((__m512)highest) * scale;
    if (!(now > before)) now = before;
    float base = now == -INFINITY ? 0 : now, kept = now == before ? 1 : before == -INFINITY ? 0 : expf(before - base);
    vec added = *total * kept;
    for (key = 0; key < count; key += LANES) {
        vec weights = exponential(*(vec *)(scores + key) * scale - base);
        added += weights;
        __m256i upper = (__m256i)_mm512_cvtneps_pbh((__m512)weights);
        vec rest = weights - (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(upper), 16);
        _mm256_storeu_si256((__m256i *)(high + key), upper);
        _mm256_storeu_si256((__m256i *)(low + key), (__m256i)_mm512_cvtneps_pbh((__m512)rest));
    }
    memset(high + key, 0, (padded - key) * sizeof(value));
    memset(low + key, 0, (padded - key) * sizeof(value));
    *total = added;
    *most = now;
    return kept;
}
