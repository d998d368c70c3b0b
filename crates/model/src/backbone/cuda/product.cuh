// left (rows × inner) · rightᵀ (columns × inner), both row by row, to out (rows × columns).
//
// A block computes a tile of TILE × TILE numbers, each as one sum over `inner` in one order: from front to back, 16
// at a time where tensor cores add. So a number depends on its row of left and its row of right and on nothing else:
// not on how many rows there are, nor on where a row stands.
#pragma once

#include "simt.cuh"

constexpr uint32_t TILE = 128;
constexpr uint32_t PRODUCT_THREADS = 256;

// In 16 bits: the tensor cores multiply, sums are f32. Of `inner`, stretches of DEPTH numbers are in shared memory, one
// that is multiplied and STAGES - 1 on their way.
constexpr uint32_t DEPTH = 32;
constexpr uint32_t STAGES = 3;
constexpr uint32_t ROW_CHUNKS = DEPTH / NUMBERS<Bf16>;
// A warp's part of a tile, and the small products in it.
constexpr uint32_t WARP_ROWS = 64;
constexpr uint32_t WARP_COLUMNS = 32;
constexpr uint32_t DOWN = WARP_ROWS / 16;
constexpr uint32_t ACROSS = WARP_COLUMNS / 8;

static_assert(PRODUCT_THREADS / WARP == (TILE / WARP_ROWS) * (TILE / WARP_COLUMNS), "the warps make a tile");

// TILE rows of a matrix, DEPTH numbers of each.
struct Stage {
    Chunk chunks[TILE * ROW_CHUNKS];

    // Turned by the row, so that a chunk of eight rows in order lies in all banks.
    DEVICE Chunk *at(uint32_t row, uint32_t chunk) {
        return chunks + row * ROW_CHUNKS + (chunk ^ (row / 2 % ROW_CHUNKS));
    }

    template <typename T>
    DEVICE void load(const T *matrix, uint32_t first, uint32_t rows, uint32_t inner, uint32_t from, bool in_chunks) {
        for (uint32_t i = thread_number(); i < TILE * ROW_CHUNKS; i += PRODUCT_THREADS) {
            const uint32_t row = i / ROW_CHUNKS, chunk = i % ROW_CHUNKS;
            const uint32_t start = from + chunk * NUMBERS<T>;
            const bool inside = first + row < rows && start < inner;
            const T *source = inside ? matrix + size_t(first + row) * inner + start : matrix;
            fetch(at(row, chunk), source, inside ? smaller(inner - start, NUMBERS<T>) : 0, in_chunks);
        }
    }
};

// Adds what a warp makes of one stage.
template <typename T>
DEVICE void multiply_stage(float (&sums)[DOWN][ACROSS][4], Stage &left, Stage &right, uint32_t row, uint32_t column) {
    const uint32_t lane = thread_number() % WARP;
    EACH (k, DEPTH / 16) {
        uint32_t a[DOWN][4], b[ACROSS][2];
        EACH (i, DOWN)
            load_matrices(a[i], left.at(row + 16 * i + lane % 16, 2 * k + lane / 16));
        EACH (j, ACROSS / 2) {
            uint32_t pair[4];
            load_matrices(pair, right.at(column + 16 * j + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            EACH (half, 4)
                b[2 * j + half / 2][half % 2] = pair[half];
        }
        EACH (i, DOWN)
            EACH (j, ACROSS)
                multiply<T>(sums[i][j], a[i], b[j]);
    }
}

// Block (x, y) makes the tile of rows TILE · x … and columns TILE · y …; `in_chunks` promises that rows of both begin
// on chunks.
template <typename T>
DEVICE void product(const T *left, const T *right, T *out, uint32_t rows, uint32_t columns, uint32_t inner,
                    uint32_t in_chunks) {
    SHARED Stage lefts[STAGES], rights[STAGES];
    const uint32_t top = block_x() * TILE, side = block_y() * TILE;
    const uint32_t steps = units(inner, DEPTH);
    const uint32_t warp = thread_number() / WARP, lane = thread_number() % WARP;
    const uint32_t row = warp % (TILE / WARP_ROWS) * WARP_ROWS, column = warp / (TILE / WARP_ROWS) * WARP_COLUMNS;
    const auto load = [&](uint32_t step) {
        if (step < steps) {
            lefts[step % STAGES].load(left, top, rows, inner, step * DEPTH, in_chunks);
            rights[step % STAGES].load(right, side, columns, inner, step * DEPTH, in_chunks);
        }
        // An empty group too, so that the count of groups is that of steps.
        commit_copies();
    };
    float sums[DOWN][ACROSS][4] = {};
    for (uint32_t step = 0; step < STAGES - 1; step++)
        load(step);
    for (uint32_t step = 0; step < steps; step++) {
        wait_for_copies<STAGES - 2>();
        // The stage is there for all, and all are done with the one before, whose place is loaded now.
        barrier();
        load(step + STAGES - 1);
        multiply_stage<T>(sums, lefts[step % STAGES], rights[step % STAGES], row, column);
    }
    EACH (i, DOWN)
        EACH (j, ACROSS)
            EACH (half, 2) {
                const uint32_t r = top + row + 16 * i + 8 * half + lane / 4;
                const uint32_t c = side + column + 8 * j + 2 * (lane % 4);
                const uint32_t pair = pack<T>(sums[i][j][2 * half], sums[i][j][2 * half + 1]);
                T *to = out + size_t(r) * columns + c;
                if (r < rows && columns % 2 == 0 && c < columns)
                    *reinterpret_cast<uint32_t *>(to) = pair;
                else if (r < rows && c < columns) {
                    to[0] = {uint16_t(pair)};
                    if (c + 1 < columns)
                        to[1] = {uint16_t(pair >> 16)};
                }
            }
}

// In f32: every thread adds up eight rows by eight columns. Of `inner`, DEPTH_F32 numbers are in shared memory twice:
// those that are multiplied, and the next.
constexpr uint32_t DEPTH_F32 = 16;
constexpr uint32_t LOADS = TILE * DEPTH_F32 / NUMBERS<float> / PRODUCT_THREADS;

// DEPTH_F32 numbers of TILE rows, those of one column side by side.
struct StageF32 {
    Four columns[DEPTH_F32][TILE / 4 + 1];
};

// What a thread brings of the next stage: four numbers of each of LOADS rows.
struct Brought {
    Four numbers[LOADS];

    DEVICE static uint32_t row(uint32_t i) { return (thread_number() + i * PRODUCT_THREADS) / (DEPTH_F32 / 4); }
    DEVICE static uint32_t column() { return thread_number() % (DEPTH_F32 / 4) * 4; }

    DEVICE void load(const float *matrix, uint32_t first, uint32_t rows, uint32_t inner, uint32_t from,
                     bool in_chunks) {
        EACH (i, LOADS) {
            const uint32_t start = from + column();
            const bool inside = first + row(i) < rows;
            const float *source = matrix + (inside ? size_t(first + row(i)) * inner + start : 0);
            if (in_chunks && inside && start < inner)
                numbers[i] = *reinterpret_cast<const Four *>(source);
            else
                EACH (k, 4)
                    numbers[i].numbers[k] = inside && start + k < inner ? source[k] : 0.0f;
        }
    }

    DEVICE void put(StageF32 &stage) const {
        EACH (i, LOADS)
            EACH (k, 4)
                stage.columns[column() + k][row(i) / 4].numbers[row(i) % 4] = numbers[i].numbers[k];
    }
};

DEVICE void multiply_stage(float (&sums)[8][8], const StageF32 &left, const StageF32 &right, uint32_t down,
                           uint32_t across) {
    EACH (k, DEPTH_F32) {
        // Fours that are half a tile apart: the threads of a warp read neighbours.
        const Four a[2] = {left.columns[k][down], left.columns[k][down + TILE / 8]};
        const Four b[2] = {right.columns[k][across], right.columns[k][across + TILE / 8]};
        EACH (i, 8)
            EACH (j, 8)
                sums[i][j] = fmaf(a[i / 4].numbers[i % 4], b[j / 4].numbers[j % 4], sums[i][j]);
    }
}

template <>
DEVICE void product(const float *left, const float *right, float *out, uint32_t rows, uint32_t columns, uint32_t inner,
                    uint32_t in_chunks) {
    SHARED StageF32 lefts[2], rights[2];
    const uint32_t top = block_x() * TILE, side = block_y() * TILE;
    const uint32_t across = thread_number() % 16, down = thread_number() / 16;
    const uint32_t steps = units(inner, DEPTH_F32);
    float sums[8][8] = {};
    Brought a, b;
    a.load(left, top, rows, inner, 0, in_chunks);
    b.load(right, side, columns, inner, 0, in_chunks);
    for (uint32_t step = 0; step < steps; step++) {
        a.put(lefts[step % 2]);
        b.put(rights[step % 2]);
        // The stage is there for all; the other one, which is put next, was last read before this barrier.
        barrier();
        if (step + 1 < steps) {
            a.load(left, top, rows, inner, (step + 1) * DEPTH_F32, in_chunks);
            b.load(right, side, columns, inner, (step + 1) * DEPTH_F32, in_chunks);
        }
        multiply_stage(sums, lefts[step % 2], rights[step % 2], down, across);
    }
    EACH (i, 8)
        EACH (j, 8) {
            const uint32_t r = top + i / 4 * (TILE / 2) + 4 * down + i % 4;
            const uint32_t c = side + j / 4 * (TILE / 2) + 4 * across + j % 4;
            if (r < rows && c < columns)
                out[size_t(r) * columns + c] = sums[i][j];
        }
}
