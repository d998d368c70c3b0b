// What runs a kernel: blocks of warps of 32 lanes.
#pragma once

#include "ptx.hpp"
#include "values.hpp"

#include <deque>

constexpr uint32_t WARP = 32;

// 16 bytes, or fewer and zeros, on their way to shared memory.
struct Copy {
    uint32_t to;
    uint64_t from;
    size_t size;
};

struct Lane {
    uint32_t thread[3];
    std::vector<uint8_t> local;
    // Groups of copies that were not waited for; the last is not ended yet.
    std::deque<std::vector<Copy>> copies;
};

struct Warp {
    // Of register r and lane l, at WARP · r + l.
    std::vector<uint64_t> registers;
    size_t next[WARP];
    // Lanes that have not ended.
    uint32_t alive = 0;
    Lane lanes[WARP];
    bool at_barrier = false;
};

struct Block {
    const Kernel &kernel;
    const std::vector<uint8_t> &parameters;
    Size grid, size, index;
    std::vector<uint8_t> shared;
    // Copies are made at once, and not only when they are waited for.
    bool early_copies;
};

template <typename F> void each(uint32_t lanes, F f) {
    for (; lanes != 0; lanes &= lanes - 1)
        f(uint32_t(__builtin_ctz(lanes)));
}

// One lane of one instruction.
struct At {
    Block &block;
    Warp &warp;
    const Instruction &instruction;
    uint32_t lane;

    uint64_t bits(size_t operand, size_t element = 0) const;
    // Of an operand in brackets.
    uint64_t address(size_t operand) const {
        const Operand &own = instruction.operands[operand][0];
        return bits(operand) + (own.kind == Operand::Register ? own.value : 0);
    }
    template <typename T> T value(size_t operand) const { return as<T>(bits(operand)); }
    void set(uint64_t bits, size_t element = 0) const {
        warp.registers[WARP * instruction.operands[0][element].number + lane] = bits;
    }
    template <typename T> void give(T value) const { set(bits_of(value)); }
};

// One instruction, and the lanes of a warp that execute it.
struct Step {
    Block &block;
    Warp &warp;
    const Instruction &instruction;
    uint32_t lanes;

    template <typename F> void each(F f) const {
        ::each(lanes, [&](uint32_t lane) { f(At{block, warp, instruction, lane}); });
    }
};

// What executes an instruction of that name, or null.
Execute of_numbers(const std::string &name);
Execute of_memory(const std::string &name);
