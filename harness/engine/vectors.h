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

static inline vec all(float one) { return one - (vec){0}; }

static inline vec choose(whole which, vec one, vec other) {
    return (vec)((which & (whole)one) | (~which & (whole)other));
}

static inline float largest(vec of) {
    float found = of[0];
    for (int lane = 1; lane < LANES; lane++) found = of[lane] > found ? of[lane] : found;
    return found;
}

static inline float sum(vec of) {
    float half[LANES];
    *(vec *)half = of;
    for (int width = LANES / 2; width; width /= 2)
        for (int lane = 0; lane < width; lane++) half[lane] += half[lane + width];
    return half[0];
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
