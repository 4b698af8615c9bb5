/* Attention on a processor, compiled where it runs for its instructions and for one shape of head.
 *
 * -DDIM=64        values of a head; a multiple of LANES
 * -DGROUP=3       query heads of a key head
 * -DHALF=0        1: tensors are bfloat16; all arithmetic is float32 in either case, or as exact
 *
 * Softmax is taken a block of keys at a time, with the largest score and the sum carried along (Milakov and Gimelshein
 * 2018, "Online normalizer calculation for softmax"; Dao et al. 2022, "FlashAttention"). Strides count values.
 */
#ifdef _OPENMP
#include <omp.h>
#endif

#include "vectors.h"
#if HALF && defined __AMX_BF16__ && defined __linux__ && DIM % 32 == 0
#include "tiles.h"
#else
static int tiles_are_allowed(void) { return 0; }
#endif

static int by_tiles;

/* Called once, before all else. Whether products of many queries go by the processor's matrix unit. */
int prepare(void) { return by_tiles = tiles_are_allowed(); }

#define ROWS 6                  /* a register tile is ROWS queries by two vectors */
#define TILE (2 * LANES)
#define KEYS 128                /* of a block */
#define PART 48                 /* queries whose scores of a block stay in the first cache */
#define QUERIES (DIM <= 64 ? 240 : DIM <= 128 ? 144 : 96) /* that share a packed block of keys */
#define WIDE (DIM / LANES)

/* A register tile: to[row][TILE] = (add ? to : 0) + left[row][0..inner) times right[0..inner)[TILE]. */
static inline __attribute__((always_inline)) void tile(
    int inner, const float *left, int left_row, const float *right, int right_row, float *to, int to_row,
    int add) {
    vec sums[ROWS][2];
    for (int row = 0; row < ROWS; row++)
        for (int side = 0; side < 2; side++)
            sums[row][side] = add ? *(vec *)(to + row * to_row + side * LANES) : (vec){0};
    for (int step = 0; step < inner; step++) {
        vec first = *(const vec *)(right + (long)step * right_row);
        vec second = *(const vec *)(right + (long)step * right_row + LANES);
        for (int row = 0; row < ROWS; row++) {
            vec one = all(left[row * left_row + step]);
            sums[row][0] += one * first;
            sums[row][1] += one * second;
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int side = 0; side < 2; side++) *(vec *)(to + row * to_row + side * LANES) = sums[row][side];
}

/* Fold one block's scores into the running softmax of a query, whose sum is kept in lanes. scores [count] become
 * weights. Gives what the values that were added up before are to be multiplied by. */
static inline float fold(float *scores, int count, float *most, vec *total) {
    for (int key = count; key < KEYS && key < (count + LANES - 1) / LANES * LANES; key++) scores[key] = -INFINITY;
    vec high = all(-INFINITY);
    for (int key = 0; key < count; key += LANES) {
        vec some = *(vec *)(scores + key);
        high = choose(some > high, some, high);
    }
    float before = *most, now = largest(high);
    if (!(now > before)) now = before;
    float base = now == -INFINITY ? 0 : now, kept = now == before ? 1 : before == -INFINITY ? 0 : expf(before - base);
    vec added = *total * kept;
    for (int key = 0; key < count; key += LANES) {
        vec weight = exponential(*(vec *)(scores + key) - base);
        *(vec *)(scores + key) = weight;
        added += weight;
    }
    *total = added;
    *most = now;
    return kept;
}

/* What was found of queries [from, from + count) of a job goes to `out` and `lse`. */
static inline void finish(
    float sums[][DIM], const float *most, const float *total, const int64_t *places, long first, long from, int count,
    value *out, long out_row, float *lse, long lse_row, int join) {
    for (int at = 0; at < count; at++) {
        long token = first + (from + at) / GROUP, head = (from + at) % GROUP;
        if (places) token = places[token];
        float mine = total[at] == 0 ? -INFINITY : most[at] + logf(total[at]);
        float share = total[at] == 0 ? 0 : 1 / total[at], other = 0;
        value *to = out + token * out_row + head * DIM;
        float *log = lse + token * lse_row + head;
        if (join && *log != -INFINITY) {
            float before = *log, high = before > mine ? before : mine;
            float both = high + logf(expf(before - high) + expf(mine - high));
            other = expf(before - both);
            share *= expf(mine - both);
            *log = both;
        } else
            *log = mine;
        for (int place = 0; place < WIDE; place++) {
            vec found = *(vec *)&sums[at][place * LANES] * share;
            if (other) found += load(to + place * LANES) * other;
            store(to + place * LANES, found);
        }
    }
}

/* Queries [from, from + count) of a job: query i is head i % GROUP of token i / GROUP. */
static void attend_block(
    const value *query, long query_head, long query_row, const int64_t *places, long first, long from, int count,
    const value *all_keys, long key_row, const value *all_values, long value_row, long keys, const float *mask,
    int causal, float scale, value *out, long out_row, float *lse, long lse_row, int join) {
    float queries[QUERIES + ROWS][DIM], sums[QUERIES + ROWS][DIM], most[QUERIES], total[QUERIES];
    vec totals[QUERIES];
    float packed[KEYS / TILE][DIM][TILE], scores[PART + ROWS][KEYS];
#if HALF
    float held[KEYS][DIM];
#endif
    for (int at = 0; at < count; at++) {
        long token = first + (from + at) / GROUP, head = (from + at) % GROUP;
        const value *mine = query + head * query_head + (places ? places[token] : token) * query_row;
        for (int part = 0; part < WIDE; part++)
            *(vec *)&queries[at][part * LANES] = load(mine + part * LANES) * scale;
        most[at] = -INFINITY;
        totals[at] = (vec){0};
    }
    memset(queries[count], 0, sizeof queries[0] * ROWS);
    memset(sums, 0, sizeof sums[0] * (count + ROWS));
    long last = causal ? (from + count - 1) / GROUP + 1 : keys; /* keys that any of these queries sees */
    if (last > keys) last = keys;
    for (long start = 0; start < last; start += KEYS) {
        int width = last - start < KEYS ? last - start : KEYS;
        const value *key = all_keys + start * key_row;
        const value *block = all_values + start * value_row;
        for (int one = 0; one < (width + TILE - 1) / TILE * TILE; one += LANES)
            for (int place = 0; place < DIM; place += LANES) {
                bits rows[LANES];
                for (int row = 0; row < LANES; row++)
                    rows[row] = one + row < width ? (bits)load(key + (one + row) * key_row + place) : (bits){0};
                turn(rows);
                for (int row = 0; row < LANES; row++)
                    *(bits *)&packed[one / TILE][place + row][one % TILE] = rows[row];
            }
#if HALF
        for (int one = 0; one < width; one++)
            for (int part = 0; part < WIDE; part++)
                *(vec *)&held[one][part * LANES] = load(block + one * value_row + part * LANES);
        const float *right = held[0];
        long right_row = DIM;
#else
        const float *right = block;
        long right_row = value_row;
#endif
        for (int part = 0; part < count; part += PART) {
            int many = count - part < PART ? count - part : PART;
            int whole_rows = (many + ROWS - 1) / ROWS * ROWS;
            long ends = causal ? (from + part + many - 1) / GROUP + 1 - start : width;
            if (ends <= 0) continue;
            int seen = ends < width ? ends : width;
            for (int row = 0; row < whole_rows; row += ROWS)
                for (int one = 0; one < seen; one += TILE)
                    tile(DIM, queries[part + row], DIM, packed[one / TILE][0], TILE, &scores[row][one], KEYS, 0);
            for (int row = 0; row < many; row++) {
                long token = (from + part + row) / GROUP;
                int mine = seen;
                if (causal && token + 1 - start < mine) mine = token + 1 - start > 0 ? token + 1 - start : 0;
                if (mask)
                    for (int one = 0; one < mine; one++) scores[row][one] += mask[token * keys + start + one];
                float kept = fold(scores[row], mine, &most[part + row], &totals[part + row]);
                for (int one = mine; one < seen; one++) scores[row][one] = 0;
                if (kept != 1)
                    for (int place = 0; place < WIDE; place++) *(vec *)&sums[part + row][place * LANES] *= kept;
            }
            for (int row = many; row < whole_rows; row++) memset(scores[row], 0, sizeof scores[row]);
            for (int place = 0; place < DIM; place += TILE)
                for (int row = 0; row < whole_rows; row += ROWS)
                    tile(seen, scores[row], KEYS, right + place, right_row, &sums[part + row][place], DIM, 1);
        }
    }
    for (int at = 0; at < count; at++) total[at] = sum(totals[at]);
    finish(sums, most, total, places, first, from, count, out, out_row, lse, lse_row, join);
}

#if HALF && defined __AMX_BF16__ && defined __linux__ && DIM % 32 == 0
#define PAIR 32    /* queries of two strips of tiles, and keys or values beside each other */
#define BLOCK 256  /* keys */

/* The same by tiles. Weights are two numbers of bfloat16 each, the second what the first is short of. */
static void attend_block_by_tiles(
    const value *query, long query_head, long query_row, const int64_t *places, long first, long from, int count,
    const value *all_keys, long key_row, const value *all_values, long value_row, long keys, const float *mask,
    int causal, float scale, value *out, long out_row, float *lse, long lse_row, int join) {
    value queries[QUERIES + PAIR][DIM], high[PAIR][BLOCK], low[PAIR][BLOCK];
    float sums[QUERIES + PAIR][DIM], most[QUERIES], total[QUERIES], scores[PAIR][BLOCK];
    vec totals[QUERIES];
    uint32_t packed[BLOCK / 16][DIM / 2][16], held[BLOCK / 2][DIM];
    for (int at = 0; at < count; at++) {
        long token = first + (from + at) / GROUP, head = (from + at) % GROUP;
        memcpy(queries[at], query + head * query_head + (places ? places[token] : token) * query_row, sizeof queries[0]);
        most[at] = -INFINITY;
        totals[at] = (vec){0};
    }
    memset(queries[count], 0, sizeof queries[0] * PAIR);
    memset(sums, 0, sizeof sums[0] * (count + PAIR));
    long last = causal ? (from + count - 1) / GROUP + 1 : keys; /* keys that any of these queries sees */
    if (last > keys) last = keys;
    begin_tiles();
    for (long start = 0; start < last; start += BLOCK) {
        int width = last - start < BLOCK ? last - start : BLOCK, pairs = (width + PAIR - 1) / PAIR;
        for (int one = 0; one < pairs * PAIR; one += 16)
            turn_pairs(all_keys + (start + one) * key_row, key_row, width - one, DIM / 2, packed[one / 16]);
        for (int one = 0; one < pairs * PAIR; one += 2) {
            const value *row = all_values + (start + one) * value_row;
            if (one < width) pair_rows(row, one + 1 < width ? row + value_row : 0, DIM, held[one / 2]);
            else memset(held[one / 2], 0, sizeof held[0]);
        }
        for (int part = 0; part < count; part += PAIR) {
            int many = count - part < PAIR ? count - part : PAIR, strips = many > 16 ? 2 : 1;
            long ends = causal ? (from + part + many - 1) / GROUP + 1 - start : width;
            if (ends <= 0) continue;
            int seen = ends < width ? ends : width, steps = (seen + PAIR - 1) / PAIR;
            for (int one = 0; one < seen; one += PAIR)
                multiply_tiles(strips, DIM / 32, queries[part], 0, DIM, packed[one / 16][0], 16, DIM / 2 * 16,
                               &scores[0][one], BLOCK, 0);
            for (int row = 0; row < many; row++) {
                long token = (from + part + row) / GROUP;
                int mine = seen;
                if (causal && token + 1 - start < mine) mine = token + 1 - start > 0 ? token + 1 - start : 0;
                if (mask)
                    for (int one = 0; one < mine; one++)
                        scores[row][one] = scores[row][one] * scale + mask[token * keys + start + one];
                float kept = fold_in_tiles(scores[row], mine, steps * PAIR, mask ? 1 : scale, &most[part + row],
                                           &totals[part + row], high[row], low[row]);
                if (kept != 1)
                    for (int place = 0; place < WIDE; place++) *(vec *)&sums[part + row][place * LANES] *= kept;
            }
            for (int place = 0; place < DIM; place += PAIR)
                multiply_tiles(strips, steps, high[0], low[0], BLOCK, &held[0][place], DIM, 16, &sums[part][place], DIM, 1);
        }
    }
    _tile_release();
    for (int at = 0; at < count; at++) total[at] = sum(totals[at]);
    finish(sums, most, total, places, first, from, count, out, out_row, lse, lse_row, join);
}
#else
#define attend_block_by_tiles attend_block
#endif

/* Attention of many queries. query [heads, tokens, DIM]; keys and values [heads / GROUP, tokens, DIM]; out [tokens,
 * heads, DIM]; lse [tokens, heads]. jobs [count][5]: first token and how many, first key and how many, and where in
 * `mask` its additive mask [tokens, keys] begins, or -1. join: out and lse hold what was found over other keys. */
void attend(
    const value *query, long query_head, long query_row, const value *keys, long key_head, long key_row,
    const value *values, long value_head, long value_row, value *out, float *lse, long heads, const int64_t *places,
    const int64_t *jobs, long count, const float *mask, int causal, float scale, int join, int threads) {
    long units[count + 1], kv_heads = heads / GROUP;
    units[0] = 0;
    for (long job = 0; job < count; job++)
        units[job + 1] = units[job] + (jobs[5 * job + 1] * GROUP + QUERIES - 1) / QUERIES * kv_heads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (long unit = 0; unit < units[count]; unit++) {
        long job = 0, above = count;
        while (above - job > 1) {
            long middle = (job + above) / 2;
            if (units[middle] <= unit) job = middle; else above = middle;
        }
        const int64_t *mine = jobs + 5 * job;
        long pieces = (units[job + 1] - units[job]) / kv_heads, all_queries = mine[1] * GROUP;
        long head = (unit - units[job]) / pieces, piece = (unit - units[job]) % pieces;
        long step = ((all_queries + pieces - 1) / pieces + ROWS - 1) / ROWS * ROWS; /* equal pieces: none is short */
        long from = piece * step, left = all_queries - from;
        if (left <= 0) continue;
        (by_tiles ? attend_block_by_tiles : attend_block)(
            query + head * GROUP * query_head, query_head, query_row, places, mine[0], from,
            left < step ? left : step, keys + head * key_head + mine[2] * key_row, key_row,
            values + head * value_head + mine[2] * value_row, value_row, mine[3],
            mask && mine[4] >= 0 ? mask + mine[4] : 0, causal, scale, out + head * GROUP * DIM, heads * DIM,
            lse + head * GROUP, heads, join);
    }
}

#define HEADS (GROUP < 6 ? GROUP : 6) /* that are computed together in registers */
#define NEAR (12 / HEADS)             /* vectors of a value at a time beside them */
#define BESIDE (HEADS == 1 ? 8 : HEADS < 4 ? 4 : 2) /* keys at a time beside them: LANES are a multiple */
#define AHEAD 8                       /* rows of keys and values that are fetched before they are needed */
#define LINE (64 / sizeof(value))

/* Scores of `heads` queries to keys [0, count), a few of each at a time; `to` has room for a multiple of LANES. */
static inline __attribute__((always_inline)) void scores_of(
    int heads, int near, float queries[][DIM], const value *key, long key_row, long count, float *to, long to_row) {
    for (long start = 0; start < count; start += LANES) {
        vec found[HEADS][LANES];
        for (long first = 0; first < LANES; first += near) {
            for (int one = 0; one < near; one++)
                for (int place = 0; place < DIM; place += LINE)
                    __builtin_prefetch(key + (start + first + one + AHEAD) * key_row + place);
            vec added[BESIDE][HEADS];
            for (int one = 0; one < near; one++)
                for (int head = 0; head < heads; head++) added[one][head] = (vec){0};
            for (int part = 0; part < WIDE; part++)
                for (int one = 0; one < near; one++) {
                    /* Past the end the last key is taken again. */
                    long at = start + first + one < count ? start + first + one : count - 1;
                    vec mine = load(key + at * key_row + part * LANES);
                    for (int head = 0; head < heads; head++)
                        added[one][head] += mine * *(vec *)&queries[head][part * LANES];
                }
            for (int one = 0; one < near; one++)
                for (int head = 0; head < heads; head++) found[head][first + one] = added[one][head];
            if (start + first + near >= count) break;
        }
        for (int head = 0; head < heads; head++) *(vec *)(to + head * to_row + start) = sums(found[head]);
    }
}

/* One query a head to the keys of one slot; `room` holds HEADS * count scores. */
static void attend_slot(
    const value *query, long query_head, const value *key, long key_row, const value *values, long value_row,
    long count, float scale, value *out, float *lse, int heads, float *room) {
    float queries[HEADS][DIM], share[HEADS];
    for (int head = 0; head < heads; head++)
        for (int part = 0; part < WIDE; part++)
            *(vec *)&queries[head][part * LANES] = load(query + head * query_head + part * LANES) * scale;
    long width = (count + LANES - 1) / LANES * LANES;
    if (heads == HEADS)
        scores_of(HEADS, BESIDE, queries, key, key_row, count, room, width);
    else
        for (int head = 0; head < heads; head++)
            scores_of(1, BESIDE, queries + head, key, key_row, count, room + head * width, width);
    for (int head = 0; head < heads; head++) {
        float *mine = room + head * width;
        vec high = all(-INFINITY), total = {0};
        for (long at = count; at < width; at++) mine[at] = -INFINITY;
        for (long at = 0; at < width; at += LANES) {
            vec some = *(vec *)(mine + at);
            high = choose(some > high, some, high);
        }
        float most = largest(high);
        for (long at = 0; at < width; at += LANES) {
            vec weight = exponential(*(vec *)(mine + at) - most);
            *(vec *)(mine + at) = weight;
            total += weight;
        }
        float all_of_it = sum(total);
        lse[head] = most + logf(all_of_it);
        share[head] = 1 / all_of_it;
    }
    for (int part = 0; part < WIDE; part += NEAR) {
        int many = WIDE - part < NEAR ? WIDE - part : NEAR;
        vec sums[HEADS][NEAR];
        for (int head = 0; head < HEADS; head++)
            for (int one = 0; one < NEAR; one++) sums[head][one] = (vec){0};
        for (long at = 0; at < count; at++) {
            for (int place = 0; place < NEAR * LANES; place += LINE)
                __builtin_prefetch(values + (at + AHEAD) * value_row + part * LANES + place);
            vec mine[NEAR];
            for (int one = 0; one < NEAR; one++)
                mine[one] = load(values + at * value_row + (one < many ? part + one : part) * LANES);
            for (int head = 0; head < HEADS; head++) {
                vec weight = all(room[(head < heads ? head : 0) * width + at]);
                for (int one = 0; one < NEAR; one++) sums[head][one] += weight * mine[one];
            }
        }
        for (int head = 0; head < heads; head++)
            for (int one = 0; one < many; one++)
                store(out + head * DIM + (part + one) * LANES, sums[head][one] * share[head]);
    }
}

/* One step of decoding: each row puts its new key and value into its slot, and attends to what the slot holds.
 * query [heads, rows, DIM]; new_keys, new_values [kv heads, rows, DIM]; keys, values [slots, kv heads, places, DIM],
 * row i in slot i; lengths [rows]: places filled before. window: places seen, 0 for all. room: threads * HEADS *
 * places rounded up to LANES. out [rows, heads, DIM], lse [rows, heads]. */
void attend_slots(
    const value *query, long query_head, long query_row, const value *new_keys, long new_key_head, long new_key_row,
    const value *new_values, long new_value_head, long new_value_row, value *keys, value *values, long places,
    value *out, float *lse, long heads, long rows, const int64_t *lengths, long window, float scale, float *room,
    long room_row, int threads) {
    long kv_heads = heads / GROUP;
#pragma omp parallel num_threads(threads)
    {
#ifdef _OPENMP
        float *mine = room + omp_get_thread_num() * room_row;
#else
        float *mine = room;
#endif
#pragma omp for schedule(dynamic, 4)
        for (long row = 0; row < rows; row++)
            for (long head = 0; head < kv_heads; head++) {
                long slot = (row * kv_heads + head) * places * DIM, length = lengths[row];
                memcpy(keys + slot + length * DIM, new_keys + head * new_key_head + row * new_key_row,
                       DIM * sizeof(value));
                memcpy(values + slot + length * DIM, new_values + head * new_value_head + row * new_value_row,
                       DIM * sizeof(value));
                long first = window && length + 1 > window ? length + 1 - window : 0;
                for (int from = 0; from < GROUP; from += HEADS) {
                    long query_at = head * GROUP + from, to = row * heads + query_at;
                    attend_slot(
                        query + query_at * query_head + row * query_row, query_head, keys + slot + first * DIM, DIM,
                        values + slot + first * DIM, DIM, length + 1 - first, scale, out + to * DIM, lse + to,
                        GROUP - from < HEADS ? GROUP - from : HEADS, mine);
                }
            }
    }
}
