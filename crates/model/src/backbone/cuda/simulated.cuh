// The threads of a block on one processor, for tests. A warp runs until it waits for the others, so that it is far
// ahead of them wherever nothing holds it back; copies come as early or as late as they may. What depends on either
// shows.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <vector>

#define DEVICE inline
#define SHARED alignas(16) static
#define EACH(I, COUNT) for (uint32_t I = 0; I < (COUNT); I++)

namespace simulated {

constexpr size_t STACK = 64 << 10;

struct Copy {
    void *to;
    const void *from;
    bool wanted;
    void make() const {
        if (wanted)
            std::memcpy(to, from, 16);
        else
            std::memset(to, 0, 16);
    }
};

struct Thread {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    bool done;
    // Groups of copies that the thread has not waited for; the last group is still open.
    std::deque<std::vector<Copy>> copies;
};

// Those who wait for each other: a block or a warp.
struct Meeting {
    uint32_t members, arrived, generation;
    // What each brings.
    std::vector<void *> brought;
};

struct State {
    std::vector<Thread> threads;
    std::vector<Meeting> warps;
    Meeting block;
    ucontext_t scheduler;
    uint32_t current, x, y;
    // When copies are made: at once, or when they are waited for. Which warp and which of its lanes is ahead.
    bool early_copies, last_first;
    // Whether any thread came further.
    bool moved;
    std::function<void()> kernel;
};

inline State state;

inline void fail(const char *what) {
    std::fprintf(stderr, "thread %u of block (%u, %u): %s\n", state.current, state.x, state.y, what);
    std::exit(2);
}

// Waits until all have come; the last one does what they came for.
inline void meet(Meeting &meeting, uint32_t place, void *brought, const std::function<void()> &act) {
    meeting.brought[place] = brought;
    const uint32_t generation = meeting.generation;
    state.moved = true;
    if (++meeting.arrived == meeting.members) {
        act();
        meeting.arrived = 0;
        meeting.generation++;
        return;
    }
    while (meeting.generation == generation)
        swapcontext(&state.threads[state.current].context, &state.scheduler);
}

inline Meeting &warp() { return state.warps[state.current / WARP]; }
inline uint32_t lane() { return state.current % WARP; }

template <typename T> T &of_lane(uint32_t lane) { return *static_cast<T *>(warp().brought[lane]); }

inline void start() {
    state.kernel();
    Thread &thread = state.threads[state.current];
    for (const auto &group : thread.copies)
        if (!group.empty())
            fail("ends before its copies");
    thread.done = true;
    state.moved = true;
    swapcontext(&thread.context, &state.scheduler);
}

// Runs a warp until it waits for others; whether it came further.
inline bool run_warp(uint32_t warp, uint32_t &left) {
    bool any = false;
    do {
        state.moved = false;
        for (uint32_t i = 0; i < WARP; i++) {
            state.current = warp * WARP + (state.last_first ? WARP - 1 - i : i);
            Thread &thread = state.threads[state.current];
            if (thread.done)
                continue;
            swapcontext(&state.scheduler, &thread.context);
            left -= thread.done;
        }
        any |= state.moved;
    } while (state.moved);
    return any;
}

inline void run_block(uint32_t threads) {
    state.threads.resize(threads);
    state.warps.assign(threads / WARP, Meeting{WARP, 0, 0, std::vector<void *>(WARP)});
    state.block = Meeting{threads, 0, 0, std::vector<void *>(threads)};
    for (Thread &thread : state.threads) {
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, start, 0);
        thread.done = false;
        thread.copies.assign(1, {});
    }
    for (uint32_t left = threads; left > 0;) {
        bool moved = false;
        for (uint32_t i = 0; i < threads / WARP; i++)
            moved |= run_warp(state.last_first ? threads / WARP - 1 - i : i, left);
        if (!moved)
            fail("threads wait for others that never come");
    }
}

// The kernel in every block of a grid.
inline void run(uint32_t width, uint32_t height, uint32_t threads, bool early_copies, bool last_first,
                std::function<void()> kernel) {
    state.kernel = std::move(kernel);
    state.early_copies = early_copies;
    state.last_first = last_first;
    for (state.y = 0; state.y < height; state.y++)
        for (state.x = 0; state.x < width; state.x++)
            run_block(threads);
}

template <typename T> float number(T value);
template <> inline float number(Bf16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
template <> inline float number(F16 value) {
    _Float16 narrow;
    std::memcpy(&narrow, &value, sizeof narrow);
    return narrow;
}

template <typename T> T rounded(float value);
template <> inline Bf16 rounded(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (std::isnan(value))
        return {0x7fff};
    return {uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
template <> inline F16 rounded(float value) {
    const _Float16 narrow = value;
    F16 stored;
    std::memcpy(&stored, &narrow, sizeof stored);
    return stored;
}

inline uint16_t half_of(uint32_t pair, uint32_t which) { return pair >> (16 * which); }

} // namespace simulated

DEVICE uint32_t thread_number() { return simulated::state.current; }
DEVICE uint32_t block_x() { return simulated::state.x; }
DEVICE uint32_t block_y() { return simulated::state.y; }

DEVICE void barrier() {
    simulated::meet(simulated::state.block, simulated::state.current, nullptr, [] {});
}

DEVICE void warp_barrier() {
    simulated::meet(simulated::warp(), simulated::lane(), nullptr, [] {});
}

DEVICE float shuffle_xor(float value, uint32_t mask) {
    float pair[2] = {value, 0.0f};
    simulated::meet(simulated::warp(), simulated::lane(), pair, [mask] {
        for (uint32_t lane = 0; lane < WARP; lane++)
            simulated::of_lane<float[2]>(lane)[1] = simulated::of_lane<float[2]>(lane ^ mask)[0];
    });
    return pair[1];
}

DEVICE float exponential_2(float value) { return std::exp2(value); }

DEVICE void copy_16(void *to, const void *from, bool wanted) {
    if (uintptr_t(to) % 16 != 0 || (wanted && uintptr_t(from) % 16 != 0))
        simulated::fail("copies from or to an address that is no multiple of 16");
    const simulated::Copy copy = {to, from, wanted};
    if (simulated::state.early_copies)
        copy.make();
    simulated::state.threads[simulated::state.current].copies.back().push_back(copy);
}
DEVICE void commit_copies() { simulated::state.threads[simulated::state.current].copies.emplace_back(); }
template <int PENDING> DEVICE void wait_for_copies() {
    auto &copies = simulated::state.threads[simulated::state.current].copies;
    while (copies.size() > PENDING + 1) {
        if (!simulated::state.early_copies)
            for (const simulated::Copy &copy : copies.front())
                copy.make();
        copies.pop_front();
    }
}

DEVICE void load_matrices_in(uint32_t (&out)[4], const void *row, bool turned) {
    struct Load {
        uint32_t *out;
        const uint16_t *row;
    } mine = {out, static_cast<const uint16_t *>(row)};
    if (uintptr_t(row) % 16 != 0)
        simulated::fail("loads a row from an address that is no multiple of 16");
    simulated::meet(simulated::warp(), simulated::lane(), &mine, [turned] {
        for (uint32_t lane = 0; lane < WARP; lane++)
            for (uint32_t matrix = 0; matrix < 4; matrix++) {
                const auto element = [&](uint32_t row, uint32_t column) -> uint32_t {
                    if (turned)
                        std::swap(row, column);
                    return simulated::of_lane<Load>(8 * matrix + row).row[column];
                };
                const uint32_t row = lane / 4, column = 2 * (lane % 4);
                simulated::of_lane<Load>(lane).out[matrix] = element(row, column) | element(row, column + 1) << 16;
            }
    });
}
DEVICE void load_matrices(uint32_t (&out)[4], const void *row) { load_matrices_in(out, row, false); }
DEVICE void load_matrices_turned(uint32_t (&out)[4], const void *row) { load_matrices_in(out, row, true); }

template <typename T> DEVICE void multiply(float (&sum)[4], const uint32_t (&left)[4], const uint32_t *right) {
    struct Operands {
        float *sum;
        const uint32_t *left, *right;
    } mine = {sum, left, right};
    simulated::meet(simulated::warp(), simulated::lane(), &mine, [] {
        float a[16][16], b[16][8];
        for (uint32_t lane = 0; lane < WARP; lane++) {
            const Operands &own = simulated::of_lane<Operands>(lane);
            const uint32_t g = lane / 4, t = 2 * (lane % 4);
            for (uint32_t i = 0; i < 2; i++) {
                const auto number = [i](uint32_t pair) { return simulated::number(T{simulated::half_of(pair, i)}); };
                a[g][t + i] = number(own.left[0]);
                a[g + 8][t + i] = number(own.left[1]);
                a[g][t + 8 + i] = number(own.left[2]);
                a[g + 8][t + 8 + i] = number(own.left[3]);
                b[t + i][g] = number(own.right[0]);
                b[t + 8 + i][g] = number(own.right[1]);
            }
        }
        for (uint32_t lane = 0; lane < WARP; lane++)
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
                float &sum = simulated::of_lane<Operands>(lane).sum[i];
                double total = sum;
                for (uint32_t k = 0; k < 16; k++)
                    total += double(a[row][k]) * b[k][column];
                sum = float(total);
            }
    });
}

template <typename T> DEVICE uint32_t pack(float low, float high) {
    return simulated::rounded<T>(low).bits | uint32_t(simulated::rounded<T>(high).bits) << 16;
}
