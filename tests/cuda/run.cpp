// Warps, one after another until each waits for the others.
#include "machine.hpp"

#include <algorithm>
#include <cstdlib>

namespace {

void unknown(const Step &step) { fail(step.block.kernel.name + ": " + step.instruction.text + " is not known here"); }

uint32_t special(const Block &block, const Lane &lane, int number) {
    const auto of = [number](const Size &size) { return number % 3 == 0 ? size.x : number % 3 == 1 ? size.y : size.z; };
    switch (number / 3) {
    case 0:
        return lane.thread[number % 3];
    case 1:
        return of(block.size);
    case 2:
        return of(block.index);
    default:
        return of(block.grid);
    }
}

uint32_t guarded(const Warp &warp, const Instruction &instruction, uint32_t lanes) {
    if (instruction.guard < 0)
        return lanes;
    uint32_t passed = 0;
    each(lanes, [&](uint32_t lane) {
        const bool set = warp.registers[WARP * instruction.guard + lane] & 1;
        passed |= uint32_t(set != instruction.unless) << lane;
    });
    return passed;
}

// Lanes that jump, and where to the others go, or that end.
void branch(Warp &warp, const Instruction &instruction, size_t place, uint32_t lanes, uint32_t jump) {
    each(lanes, [&](uint32_t lane) { warp.next[lane] = jump >> lane & 1 ? instruction.target : place + 1; });
}

void end(Block &block, Warp &warp, uint32_t lanes) {
    each(lanes, [&](uint32_t lane) {
        for (const auto &group : warp.lanes[lane].copies)
            if (!group.empty())
                fail(block.kernel.name + ": a thread ends before its copies");
    });
    warp.alive &= ~lanes;
}

// Those lanes go on that are furthest behind, so that parted ones meet again where their ways do.
void run_warp(Block &block, Warp &warp) {
    while (warp.alive != 0 && !warp.at_barrier) {
        size_t place = SIZE_MAX;
        each(warp.alive, [&](uint32_t lane) { place = std::min(place, warp.next[lane]); });
        uint32_t lanes = 0;
        each(warp.alive, [&](uint32_t lane) { lanes |= uint32_t(warp.next[lane] == place) << lane; });
        // Threads that have not parted need no search.
        for (bool straight = true; straight; place++) {
            const Instruction &instruction = block.kernel.code.at(place);
            const std::string &name = instruction.words[0];
            const uint32_t passed = guarded(warp, instruction, lanes);
            straight = lanes == warp.alive;
            if (name == "bra") {
                branch(warp, instruction, place, lanes, passed);
                straight = false;
                continue;
            }
            each(lanes, [&](uint32_t lane) { warp.next[lane] = place + 1; });
            if (name == "ret") {
                end(block, warp, passed);
                straight = false;
            } else if (name == "bar" && instruction.words[1] == "sync") {
                if (passed != warp.alive)
                    fail(block.kernel.name + ": a part of a warp is at a barrier");
                warp.at_barrier = true;
                straight = false;
            } else if (passed != 0)
                instruction.execute({block, warp, instruction, passed});
        }
    }
}

void start(Block &block, std::vector<Warp> &warps) {
    // New memory has no defined content.
    std::fill(block.shared.begin(), block.shared.end(), 0xcb);
    const uint32_t threads = block.size.x * block.size.y * block.size.z;
    for (uint32_t thread = 0; thread < threads; thread++) {
        Warp &warp = warps[thread / WARP];
        const uint32_t lane = thread % WARP;
        warp.alive |= 1u << lane;
        warp.next[lane] = 0;
        warp.lanes[lane] = {
            {thread % block.size.x, thread / block.size.x % block.size.y, thread / block.size.x / block.size.y},
            std::vector<uint8_t>(block.kernel.local_bytes),
            std::deque<std::vector<Copy>>(1)};
    }
}

void run_block(Block &block, std::vector<Warp> &warps) {
    start(block, warps);
    const auto alive = [](const Warp &warp) { return warp.alive != 0; };
    while (std::any_of(warps.begin(), warps.end(), alive))
        for (Warp &warp : warps) {
            // All have come to the barrier, or ended.
            warp.at_barrier = false;
            run_warp(block, warp);
        }
}

} // namespace

uint64_t At::bits(size_t number, size_t element) const {
    const Operand &operand = instruction.operands[number][element];
    switch (operand.kind) {
    case Operand::Register:
        return warp.registers[WARP * operand.number + lane] ^ uint64_t(operand.negated);
    case Operand::Immediate:
        return operand.value;
    default:
        return special(block, warp.lanes[lane], operand.number);
    }
}

Execute execute_named(const std::vector<std::string> &words) {
    for (const auto find : {of_numbers, of_memory})
        if (const Execute execute = find(words[0]))
            return execute;
    return unknown;
}

void run(const Kernel &kernel, const std::vector<uint8_t> &parameters, Size grid, Size size, size_t dynamic_shared) {
    static const bool early = std::getenv("PRETEND_EARLY_COPIES") != nullptr;
    const uint32_t threads = size.x * size.y * size.z;
    std::vector<Warp> warps((threads + WARP - 1) / WARP);
    for (Warp &warp : warps)
        warp.registers.resize(kernel.registers * WARP);
    Block block = {kernel, parameters, grid, size, {}, std::vector<uint8_t>(kernel.shared_bytes + dynamic_shared),
                   early};
    Size &index = block.index;
    for (index.z = 0; index.z < grid.z; index.z++)
        for (index.y = 0; index.y < grid.y; index.y++)
            for (index.x = 0; index.x < grid.x; index.x++)
                run_block(block, warps);
}
