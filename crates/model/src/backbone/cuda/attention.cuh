// softmax(Q·Kᵀ·scale)·V for one head of one canvas, QUERIES rows at a time, without the scores ever being in memory.
//
// A row sees the first keys of its canvas, as many as `seen` says. They come in tiles from the canvas's first to its last.
// What is summed before a larger score appears is scaled down then, and a key that a row does not see adds nothing, as long
// as its value is finite. So a row depends on itself and the keys that it sees alone: neither on the other rows that are
// computed, nor on keys behind.
#pragma once

#include "simt.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float MINUS_INFINITY = -INFINITY;

// One matrix of heads: those of a row are side by side, rows `stride` numbers apart.
template <typename T> struct Heads {
    T *numbers;
    uint32_t stride;
};

// The rows that a block works for, `queries` of a canvas from `query` on, and its keys, `keys` from `key` on: as many as
// one of the rows sees.
struct Tile {
    uint32_t query, queries, key, keys;
};

// What they all share.
struct Shape {
    // Numbers of a head, at most the kernel's WIDTH.
    uint32_t width;
    // Heads of queries for each head of keys and values.
    uint32_t repeat;
    float scale;
    // Whether all heads begin on chunks.
    uint32_t in_chunks;
};

// In 16 bits: a warp has 16 rows.
constexpr uint32_t QUERIES = 64;
constexpr uint32_t KEYS = 64;
constexpr uint32_t ATTENTION_THREADS = QUERIES / 16 * WARP;

// KEYS rows of a head, WIDTH numbers wide; zeros where there are none.
template <typename T, uint32_t WIDTH> struct HeadTile {
    static constexpr uint32_t ROW_CHUNKS = WIDTH / NUMBERS<T>;
    Chunk chunks[KEYS * ROW_CHUNKS];

    // Turned by the row, so that a chunk of eight rows in order lies in all banks.
    DEVICE Chunk *at(uint32_t row, uint32_t chunk) { return chunks + row * ROW_CHUNKS + (chunk ^ (row % 8)); }

    // Rows from `first` on, of which there are `count`.
    DEVICE void load(Heads<const T> heads, uint32_t head, uint32_t first, uint32_t count, const Shape &shape) {
        for (uint32_t i = thread_number(); i < KEYS * ROW_CHUNKS; i += ATTENTION_THREADS) {
            const uint32_t row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
            const uint32_t start = chunk * NUMBERS<T>;
            const bool inside = row < count && start < shape.width;
            const size_t offset = size_t(first + row) * heads.stride + head * shape.width + start;
            fetch(at(row, chunk), heads.numbers + (inside ? offset : 0),
                  inside ? smaller(shape.width - start, NUMBERS<T>) : 0, shape.in_chunks);
        }
    }
};

// Of two rows of a warp's 16, g = lane / 4 and g + 8, in two of every eight keys: a lane's part of the sums that
// `multiply` leaves.
using Scores = float[KEYS / 8][4];

template <typename T, uint32_t WIDTH>
DEVICE void score(Scores &scores, const uint32_t (&queries)[WIDTH / 16][4], HeadTile<T, WIDTH> &keys) {
    const uint32_t lane = thread_number() % WARP;
    EACH (i, WIDTH / 16)
        EACH (j, KEYS / 16) {
            uint32_t pair[4];
            load_matrices(pair, keys.at(16 * j + lane / 16 * 8 + lane % 8, 2 * i + lane / 8 % 2));
            multiply<T>(scores[2 * j], queries[i], pair);
            multiply<T>(scores[2 * j + 1], queries[i], pair + 2);
        }
}

// The tile's keys are those from `first` on; each of the two rows sees the first `seen`.
DEVICE void leave_out(Scores &scores, uint32_t first, const uint32_t (&seen)[2]) {
    EACH (j, KEYS / 8)
        EACH (i, 4)
            if (first + 8 * j + 2 * (thread_number() % 4) + i % 2 >= seen[i / 2])
                scores[j][i] = MINUS_INFINITY;
}

// The keys that row `row` of a tile sees. Rows that are not there see all: their numbers are not written.
DEVICE uint32_t keys_seen(const Tile &tile, uint32_t row, const uint32_t *seen) {
    return row < tile.queries ? seen[tile.query + row] : tile.keys;
}

// What is known of the same rows after some tiles, in two of every eight columns.
template <typename T, uint32_t WIDTH> struct Mixture {
    float values[WIDTH / 8][4] = {};
    float largest[2] = {MINUS_INFINITY, MINUS_INFINITY};
    // A lane's own part.
    float total[2] = {};

    // Turns scores of a tile into shares of the largest so far.
    DEVICE void weigh(Scores &scores, float factor) {
        EACH (half, 2) {
            float most = largest[half];
            EACH (i, KEYS / 8)
                most = fmaxf(most, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
            most = fmaxf(most, shuffle_xor(most, 1));
            most = fmaxf(most, shuffle_xor(most, 2));
            const float shrink = exponential_2((largest[half] - most) * factor);
            largest[half] = most;
            total[half] *= shrink;
            EACH (i, WIDTH / 8) {
                values[i][2 * half] *= shrink;
                values[i][2 * half + 1] *= shrink;
            }
            EACH (i, KEYS / 8)
                EACH (j, 2) {
                    float &score = scores[i][2 * half + j];
                    score = exponential_2((score - most) * factor);
                    total[half] += score;
                }
        }
    }

    // Adds the values of a tile by their shares.
    DEVICE void add(const Scores &shares, HeadTile<T, WIDTH> &tile) {
        const uint32_t lane = thread_number() % WARP;
        EACH (i, KEYS / 16) {
            // Sums of a product lie as the left side of the next.
            const float (&low)[4] = shares[2 * i], (&high)[4] = shares[2 * i + 1];
            const uint32_t left[4] = {pack<T>(low[0], low[1]), pack<T>(low[2], low[3]), pack<T>(high[0], high[1]),
                                      pack<T>(high[2], high[3])};
            EACH (j, WIDTH / 16) {
                uint32_t pair[4];
                load_matrices_turned(pair, tile.at(16 * i + lane % 16, 2 * j + lane / 16));
                multiply<T>(values[2 * j], left, pair);
                multiply<T>(values[2 * j + 1], left, pair + 2);
            }
        }
    }

    // Writes the rows `first` + g and `first` + g + 8 of a tile that has `rows` of them.
    DEVICE void write(T *tile, uint32_t stride, uint32_t first, uint32_t rows, uint32_t width) const {
        const uint32_t lane = thread_number() % WARP;
        EACH (half, 2) {
            float all = total[half];
            all += shuffle_xor(all, 1);
            all += shuffle_xor(all, 2);
            const uint32_t row = first + 8 * half + lane / 4;
            T *to = tile + size_t(row) * stride;
            EACH (j, WIDTH / 8) {
                const uint32_t column = 8 * j + 2 * (lane % 4);
                const uint32_t pair = pack<T>(values[j][2 * half] / all, values[j][2 * half + 1] / all);
                if (row < rows && column < width)
                    to[column] = {uint16_t(pair)};
                if (row < rows && column + 1 < width)
                    to[column + 1] = {uint16_t(pair >> 16)};
            }
        }
    }
};

// Block (x, y) works for tile x and head y. `seen` has a number for each row of queries.
template <typename T, uint32_t WIDTH>
DEVICE void attend(Heads<const T> query, Heads<const T> key, Heads<const T> value, Heads<T> out, const Tile *tiles,
                   const uint32_t *seen, Shape shape) {
    SHARED HeadTile<T, WIDTH> keys, values;
    const Tile tile = tiles[block_x()];
    const uint32_t head = block_y(), shared = head / shape.repeat;
    const uint32_t warp = thread_number() / WARP, lane = thread_number() % WARP;
    // Keys or values from `first` on.
    const auto load = [&](HeadTile<T, WIDTH> &to, Heads<const T> heads, uint32_t first) {
        if (first < tile.keys)
            to.load(heads, shared, tile.key + first, tile.keys - first, shape);
        // An empty group too, so that there is always one of keys and one of values.
        commit_copies();
    };
    // The queries go to registers by way of the place of the values.
    values.load(query, head, tile.query, tile.queries, shape);
    commit_copies();
    load(keys, key, 0);
    wait_for_copies<1>();
    barrier();
    uint32_t queries[WIDTH / 16][4];
    EACH (i, WIDTH / 16)
        load_matrices(queries[i], values.at(16 * warp + lane % 16, 2 * i + lane / 16));
    barrier();
    load(values, value, 0);

    const uint32_t row = 16 * warp + lane / 4;
    const uint32_t own[2] = {keys_seen(tile, row, seen), keys_seen(tile, row + 8, seen)};
    Mixture<T, WIDTH> mixture;
    for (uint32_t first = 0; first < tile.keys; first += KEYS) {
        wait_for_copies<1>();
        barrier();
        Scores scores = {};
        score(scores, queries, keys);
        // The next keys come while these are weighed, the next values while those are scored.
        barrier();
        load(keys, key, first + KEYS);
        leave_out(scores, first, own);
        mixture.weigh(scores, shape.scale * LOG2_E);
        wait_for_copies<1>();
        barrier();
        mixture.add(scores, values);
        barrier();
        load(values, value, first + KEYS);
    }
    T *to = out.numbers + size_t(tile.query) * out.stride + head * shape.width;
    mixture.write(to, out.stride, 16 * warp, tile.queries, shape.width);
}
