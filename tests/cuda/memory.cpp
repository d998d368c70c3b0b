// Instructions that read and write memory, and those of a whole warp.
#include "machine.hpp"

#include <cstring>
#include <map>

namespace {

// Where an operand in brackets points to in this process, after it was looked whether it may.
uint8_t *place(const At &at, size_t operand, size_t size, size_t offset) {
    const uint64_t there = at.address(operand) + offset;
    const std::string &space = at.instruction.words[1];
    const auto expect = [&](bool is, const char *wrong) {
        if (!is)
            fail(at.block.kernel.name + ": " + at.instruction.text + wrong);
    };
    expect(there % size == 0, " at an address that is no multiple of its size");
    if (space == "param")
        return const_cast<uint8_t *>(at.block.parameters.data()) + there;
    std::vector<uint8_t> &local = at.warp.lanes[at.lane].local;
    if (space == "shared" || space == "local") {
        std::vector<uint8_t> &bytes = space == "shared" ? at.block.shared : local;
        expect(there + size <= bytes.size(), " outside of its memory");
        return bytes.data() + there;
    }
    for (std::vector<uint8_t> *own : {&at.block.shared, &local})
        if (space != "global" && there - uint64_t(own->data()) < own->size())
            return reinterpret_cast<uint8_t *>(there);
    expect(is_allocated(there, size), " outside of what was allocated");
    return reinterpret_cast<uint8_t *>(there);
}

void load(const Step &step) {
    const size_t size = size_of(step.instruction.type), count = step.instruction.operands[0].size();
    with(step.instruction.type, [&](auto zero) {
        using T = decltype(zero);
        step.each([&](const At &at) {
            place(at, 1, size * count, 0);
            for (size_t i = 0; i < count; i++) {
                T value;
                std::memcpy(&value, place(at, 1, size, size * i), size);
                // Registers are wider than what is loaded: signs are carried on.
                if constexpr (std::is_signed_v<T> && std::is_integral_v<T>)
                    at.set(uint64_t(int64_t(value)), i);
                else
                    at.set(bits_of(value), i);
            }
        });
    });
}
void store(const Step &step) {
    const size_t size = size_of(step.instruction.type), count = step.instruction.operands[1].size();
    step.each([&](const At &at) {
        place(at, 0, size * count, 0);
        for (size_t i = 0; i < count; i++) {
            const uint64_t value = at.bits(1, i);
            std::memcpy(place(at, 0, size, size * i), &value, size);
        }
    });
}

void expect_whole_warp(const Step &step) {
    if (step.lanes != ~0u)
        fail(step.block.kernel.name + ": a part of a warp is at " + step.instruction.text);
}

void meet(const Step &step) { expect_whole_warp(step); }
void shuffle(const Step &step) {
    expect_whole_warp(step);
    if (!step.instruction.has("bfly"))
        fail(step.instruction.text);
    uint64_t passed[WARP];
    step.each([&](const At &at) { passed[at.lane] = at.bits(1); });
    step.each([&](const At &at) { at.set(passed[at.lane ^ at.bits(2)]); });
}

// ldmatrix: four matrices of 8 × 8 numbers, of which each lane names a row.
void load_matrices(const Step &step) {
    expect_whole_warp(step);
    uint16_t rows[WARP][8];
    step.each([&](const At &at) {
        const uint32_t there = at.address(1);
        if (there % 16 != 0 || there + 16 > step.block.shared.size())
            fail(step.block.kernel.name + ": " + step.instruction.text +
                 " outside of shared memory or of a multiple of 16");
        std::memcpy(rows[at.lane], step.block.shared.data() + there, 16);
    });
    step.each([&](const At &at) {
        const uint32_t row = at.lane / 4, column = 2 * (at.lane % 4);
        for (uint32_t matrix = 0; matrix < 4; matrix++) {
            const auto number = [&](uint32_t row, uint32_t column) -> uint32_t {
                return step.instruction.has("trans") ? rows[8 * matrix + column][row] : rows[8 * matrix + row][column];
            };
            at.set(number(row, column) | number(row, column + 1) << 16, matrix);
        }
    });
}

// mma: 16 × 16 times 16 × 8. Sums are exact and rounded once, which tensor cores do not promise.
template <typename T> void multiply_matrices_of(const Step &step) {
    float left[16][16], right[16][8];
    step.each([&](const At &at) {
        const uint32_t g = at.lane / 4, t = 2 * (at.lane % 4);
        for (uint32_t i = 0; i < 2; i++) {
            const auto number = [&](size_t operand, size_t element) {
                return float(as<T>(at.bits(operand, element) >> 16 * i));
            };
            for (uint32_t element = 0; element < 4; element++)
                left[g + 8 * (element % 2)][t + 8 * (element / 2) + i] = number(1, element);
            for (uint32_t element = 0; element < 2; element++)
                right[t + 8 * element + i][g] = number(2, element);
        }
    });
    step.each([&](const At &at) {
        for (uint32_t element = 0; element < 4; element++) {
            const uint32_t row = at.lane / 4 + 8 * (element / 2), column = 2 * (at.lane % 4) + element % 2;
            double sum = as<float>(at.bits(3, element));
            for (uint32_t k = 0; k < 16; k++)
                sum += double(left[row][k]) * right[k][column];
            at.set(bits_of(float(sum)), element);
        }
    });
}
void multiply_matrices(const Step &step) {
    expect_whole_warp(step);
    if (!step.instruction.has("m16n8k16"))
        fail(step.instruction.text);
    if (step.instruction.has("bf16"))
        multiply_matrices_of<Brain>(step);
    else
        multiply_matrices_of<Half>(step);
}

void make(Block &block, const Copy &copy) {
    uint8_t *to = block.shared.data() + copy.to;
    std::memset(to, 0, 16);
    std::memcpy(to, reinterpret_cast<const void *>(copy.from), copy.size);
}
// cp.async and what ends its groups and waits for them.
void copy(const Step &step) {
    step.each([&](const At &at) {
        auto &groups = step.warp.lanes[at.lane].copies;
        if (step.instruction.words[2] == "commit_group") {
            groups.emplace_back();
        } else if (step.instruction.words[2] == "wait_group") {
            for (; groups.size() > at.bits(0) + 1; groups.pop_front())
                for (const Copy &copy : groups.front())
                    if (!step.block.early_copies)
                        make(step.block, copy);
        } else {
            const Copy copy = {uint32_t(at.address(0)), at.address(1), size_t(at.bits(3))};
            const bool from_is = copy.size == 0 || (copy.from % 16 == 0 && is_allocated(copy.from, copy.size));
            if (copy.to % 16 != 0 || copy.to + 16 > step.block.shared.size() || !from_is)
                fail(step.block.kernel.name + ": " + step.instruction.text +
                     " outside of memory or of a multiple of 16");
            if (step.block.early_copies)
                make(step.block, copy);
            groups.back().push_back(copy);
        }
    });
}

} // namespace

Execute of_memory(const std::string &name) {
    static const std::map<std::string, Execute> known = {
        {"bar", meet},     {"cp", copy}, {"ld", load}, {"ldmatrix", load_matrices}, {"mma", multiply_matrices},
        {"shfl", shuffle}, {"st", store}};
    const auto found = known.find(name);
    return found == known.end() ? nullptr : found->second;
}
