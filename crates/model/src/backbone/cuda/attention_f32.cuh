// The same in f32: a warp has ROWS_F32 rows, and each of its lanes one key of a tile, then some columns of the values.
#pragma once

#include "attention.cuh"

constexpr uint32_t ROWS_F32 = NUMBERS<float>;
constexpr uint32_t QUERIES_F32 = ATTENTION_THREADS / WARP * ROWS_F32;

// COUNT rows of a head, WIDTH numbers wide. Four more, so that four numbers of eight rows in order lie in all banks.
template <uint32_t COUNT, uint32_t WIDTH> struct HeadTileF32 {
    Four rows[COUNT][WIDTH / 4 + 1];

    DEVICE float &at(uint32_t row, uint32_t column) { return rows[row][column / 4].numbers[column % 4]; }

    // Rows from `first` on, of which there are `count`.
    DEVICE void load(Heads<const float> heads, uint32_t head, uint32_t first, uint32_t count, const Shape &shape) {
        for (uint32_t i = thread_number(); i < COUNT * WIDTH; i += ATTENTION_THREADS) {
            const uint32_t row = i / WIDTH, column = i % WIDTH;
            const size_t offset = size_t(first + row) * heads.stride + head * shape.width + column;
            at(row, column) = row < count && column < shape.width ? heads.numbers[offset] : 0.0f;
        }
    }
};

DEVICE float largest_of_warp(float value) {
    for (uint32_t step = WARP / 2; step > 0; step /= 2)
        value = fmaxf(value, shuffle_xor(value, step));
    return value;
}

DEVICE float total_of_warp(float value) {
    for (uint32_t step = WARP / 2; step > 0; step /= 2)
        value += shuffle_xor(value, step);
    return value;
}

template <uint32_t WIDTH>
DEVICE void attend_f32(Heads<const float> query, Heads<const float> key, Heads<const float> value, Heads<float> out,
                       const Tile *tiles, const uint32_t *seen, Shape shape) {
    SHARED HeadTileF32<QUERIES_F32, WIDTH> queries;
    SHARED HeadTileF32<WARP, WIDTH> keys, values;
    // Of a warp's rows, for each key.
    SHARED Four shares[ATTENTION_THREADS / WARP][WARP];
    const Tile tile = tiles[block_x()];
    const uint32_t head = block_y(), shared = head / shape.repeat;
    const uint32_t lane = thread_number() % WARP, warp = thread_number() / WARP, top = warp * ROWS_F32;
    const float factor = shape.scale * LOG2_E;
    queries.load(query, head, tile.query, tile.queries, shape);
    float mixed[ROWS_F32][WIDTH / WARP] = {}, largest[ROWS_F32], total[ROWS_F32] = {};
    uint32_t own[ROWS_F32];
    EACH (r, ROWS_F32) {
        largest[r] = MINUS_INFINITY;
        own[r] = keys_seen(tile, top + r, seen);
    }
    for (uint32_t first = 0; first < tile.keys; first += WARP) {
        keys.load(key, shared, tile.key + first, tile.keys - first, shape);
        values.load(value, shared, tile.key + first, tile.keys - first, shape);
        barrier();
        Four scores = {};
        EACH (i, WIDTH / 4) {
            const Four numbers = keys.rows[lane][i];
            EACH (r, ROWS_F32)
                EACH (k, 4)
                    scores.numbers[r] = fmaf(queries.rows[top + r][i].numbers[k], numbers.numbers[k], scores.numbers[r]);
        }
        EACH (r, ROWS_F32) {
            float &score = scores.numbers[r];
            if (first + lane >= own[r])
                score = MINUS_INFINITY;
            const float most = fmaxf(largest[r], largest_of_warp(score));
            const float shrink = exponential_2((largest[r] - most) * factor);
            largest[r] = most;
            score = exponential_2((score - most) * factor);
            total[r] = total[r] * shrink + total_of_warp(score);
            EACH (j, WIDTH / WARP)
                mixed[r][j] *= shrink;
        }
        shares[warp][lane] = scores;
        warp_barrier();
        for (uint32_t k = 0; k < WARP; k++) {
            const Four share = shares[warp][k];
            EACH (j, WIDTH / WARP) {
                const float number = values.at(k, lane + WARP * j);
                EACH (r, ROWS_F32)
                    mixed[r][j] = fmaf(share.numbers[r], number, mixed[r][j]);
            }
        }
        // All are done with these keys and values.
        barrier();
    }
    EACH (r, ROWS_F32) {
        const uint32_t row = top + r;
        EACH (j, WIDTH / WARP) {
            const uint32_t column = lane + WARP * j;
            if (row < tile.queries && column < shape.width)
                out.numbers[size_t(tile.query + row) * out.stride + head * shape.width + column] =
                    mixed[r][j] / total[r];
        }
    }
}
