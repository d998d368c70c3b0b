// Numbers, as registers hold their bits.
#pragma once

#include "ptx.hpp"

#include <cfenv>
#include <cmath>
#include <cstring>
#include <type_traits>

template <typename T> T as(uint64_t bits) {
    T value;
    std::memcpy(static_cast<void *>(&value), &bits, sizeof value);
    return value;
}
template <typename T> uint64_t bits_of(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

using Half = _Float16;

struct Brain {
    uint16_t bits;
    Brain(float value = 0.0f) {
        const uint32_t wide = bits_of(value);
        bits = std::isnan(value) ? 0x7fff : (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    }
    operator float() const { return as<float>(uint64_t(bits) << 16); }
};

template <typename T>
constexpr bool FLOATING = std::is_floating_point_v<T> || std::is_same_v<T, Half> || std::is_same_v<T, Brain>;

// f with a number of that type.
template <typename F> void with(Type type, F f) {
    switch (type) {
    case Type::Pred:
    case Type::B8:
    case Type::U8:
        return f(uint8_t());
    case Type::S8:
        return f(int8_t());
    case Type::B16:
    case Type::U16:
        return f(uint16_t());
    case Type::S16:
        return f(int16_t());
    case Type::B32:
    case Type::U32:
        return f(uint32_t());
    case Type::S32:
        return f(int32_t());
    case Type::B64:
    case Type::U64:
        return f(uint64_t());
    case Type::S64:
        return f(int64_t());
    case Type::F16:
        return f(Half());
    case Type::BF16:
        return f(Brain());
    case Type::F32:
        return f(float());
    case Type::F64:
        return f(double());
    default:
        fail("a pair is no number");
    }
}

// The processor rounds as an instruction does, while this is there.
struct Rounding {
    explicit Rounding(const Instruction &instruction) { std::fesetround(instruction.rounding); }
    ~Rounding() { std::fesetround(FE_TONEAREST); }
};
