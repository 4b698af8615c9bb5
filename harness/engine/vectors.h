/* Vectors as wide as the processor's, and what is computed of them. GNU C. */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* A head of DIM values is cut into pairs of vectors. */
#if defined __AVX512F__ && (!defined DIM || DIM % 32 == 0)
#define LANES 16
#else
#define LANES 8
#endif
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t whole __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vec all(float one) { return one - (vec){0}; }

static inline vec choose(whole which, vec one, vec other) {
    return (vec)((which & (whole)one) | (~which & (whole)other));
}

/* Values of a tensor; HALF: they are bfloat16. All arithmetic is float32 in either case. */
#if HALF
typedef uint16_t value;
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
static inline vec load(const value *from) {
    return (vec)(__builtin_convertvector(*(const halves *)from, bits) << 16);
}
static inline float number(value half) {
    union { uint32_t bits; float number; } both = {(uint32_t)half << 16};
    return both.number;
}
/* To the nearest bfloat16, ties to even, in the upper half of each lane; a NaN stays one. */
static inline bits nearest(vec numbers) {
    bits own = (bits)numbers, broken = (bits)(numbers != numbers);
    return (~broken & (own + 0x7fff + (own >> 16 & 1))) | (broken & 0x7fc00000);
}
static inline vec rounded(vec numbers) { return (vec)(nearest(numbers) & 0xffff0000); }
static inline void store(value *to, vec numbers) {
    *(halves *)to = __builtin_convertvector(nearest(numbers) >> 16, halves);
}
#else
typedef float value;
static inline vec load(const value *from) { return *(const vec *)from; }
static inline float number(value one) { return one; }
static inline vec rounded(vec numbers) { return numbers; }
static inline void store(value *to, vec numbers) { *(vec *)to = numbers; }
#endif

/* The same of fewer values than a vector has; the rest is 0. */
static inline vec load_some(const value *from, long count) {
    value all_of_it[LANES] = {0};
    memcpy(all_of_it, from, count * sizeof(value));
    return load(all_of_it);
}
static inline void store_some(value *to, vec numbers, long count) {
    value all_of_it[LANES];
    store(all_of_it, numbers);
    memcpy(to, all_of_it, count * sizeof(value));
}

typedef float four __attribute__((vector_size(16), may_alias));
typedef int32_t four_whole __attribute__((vector_size(16)));

static inline four plus(four one, four other) { return one + other; }
static inline four higher(four one, four other) {
    four_whole which = one > other;
    return (four)((which & (four_whole)one) | (~which & (four_whole)other));
}

/* One number of all lanes: half of them is put on the other half, and so on until one is left. */
#define FOLDED(ON)                                                                  \
    const four *part = (const four *)&of;                                           \
    four low = part[0], high = part[1];                                             \
    if (LANES == 16)                                                                \
        low = ON(low, part[LANES / 4 - 2]), high = ON(high, part[LANES / 4 - 1]);   \
    low = ON(low, high);                                                            \
    low = ON(low, __builtin_shuffle(low, (four_whole){2, 3, 0, 1}));                \
    return ON(low, __builtin_shuffle(low, (four_whole){1, 0, 3, 2}))[0];
static inline float sum(vec of) { FOLDED(plus) }
static inline float largest(vec of) { FOLDED(higher) }
#undef FOLDED

/* Lanes of two vectors: those of the first and the second in turn, so many of each at a time. FIRST_n and SECOND_n take
 * the even and the odd ones of such groups of n lanes from both. */
#if LANES == 16
#define FIRST_1 {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30}
#define SECOND_1 {1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31}
#define FIRST_2 {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29}
#define SECOND_2 {2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31}
#define FIRST_4 {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27}
#define SECOND_4 {4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31}
#define FIRST_8 {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23}
#define SECOND_8 {8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31}
#else
#define FIRST_1 {0, 8, 2, 10, 4, 12, 6, 14}
#define SECOND_1 {1, 9, 3, 11, 5, 13, 7, 15}
#define FIRST_2 {0, 1, 8, 9, 4, 5, 12, 13}
#define SECOND_2 {2, 3, 10, 11, 6, 7, 14, 15}
#define FIRST_4 {0, 1, 2, 3, 8, 9, 10, 11}
#define SECOND_4 {4, 5, 6, 7, 12, 13, 14, 15}
#endif

/* The sums of as many vectors as a vector has lanes, each as `sum` takes it; `of` is used up. */
static inline vec sums(vec *of) {
#define ADD(WIDTH)                        \
    for (int one = 0; one < WIDTH; one++) \
        of[one] = __builtin_shuffle(of[one], of[one + WIDTH], (whole)FIRST_##WIDTH) + \
                  __builtin_shuffle(of[one], of[one + WIDTH], (whole)SECOND_##WIDTH);
#if LANES == 16
    ADD(8)
#endif
    ADD(4)
    ADD(2)
    ADD(1)
#undef ADD
    return of[0];
}

/* As many vectors as a vector has lanes, turned: lane i of vector j becomes lane j of vector i. */
static inline __attribute__((always_inline)) void turn(bits *rows) {
#define SWAP(WIDTH)                                                                    \
    for (int one = 0; one < LANES; one++)                                              \
        if (!(one & WIDTH)) {                                                          \
            bits upper = rows[one], lower = rows[one + WIDTH];                         \
            rows[one] = __builtin_shuffle(upper, lower, (bits)FIRST_##WIDTH);          \
            rows[one + WIDTH] = __builtin_shuffle(upper, lower, (bits)SECOND_##WIDTH); \
        }
    SWAP(1)
    SWAP(2)
    SWAP(4)
#if LANES == 16
    SWAP(8)
#endif
#undef SWAP
}

/* e^x for x <= 0, to a unit or two in the last place; NaN stays NaN. 2^n times a polynomial in the rest, with the
 * coefficients of Cephes' expf (Moshier). */
static inline vec exponential(vec x) {
    vec shifted = x * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec rest = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec power = all(1.9875691500e-4f);
    power = power * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    whole small = x < -87.0f;
    vec scale = (vec)(((whole)shifted << 23) + 0x3f800000);
    return choose(small, (vec){0}, power * scale);
}
