// Instructions from registers to registers.
#include "machine.hpp"

#include <limits>
#include <map>

namespace {

// f of numbers of the instruction's type, or of either half of a pair.
template <size_t COUNT, typename F> void compute(const Step &step, F f) {
    const Rounding rounding(step.instruction);
    const auto of = [&](auto zero, uint64_t a, uint64_t b, uint64_t c) {
        using T = decltype(zero);
        if constexpr (COUNT == 1)
            return bits_of(T(f(as<T>(a))));
        else if constexpr (COUNT == 2)
            return bits_of(T(f(as<T>(a), as<T>(b))));
        else
            return bits_of(T(f(as<T>(a), as<T>(b), as<T>(c))));
    };
    const auto run = [&](auto zero, bool pair) {
        step.each([&](const At &at) {
            const uint64_t a = at.bits(1), b = COUNT > 1 ? at.bits(2) : 0, c = COUNT > 2 ? at.bits(3) : 0;
            const uint64_t low = of(zero, a, b, c);
            at.set(pair ? low | of(zero, a >> 16, b >> 16, c >> 16) << 16 : low);
        });
    };
    if (step.instruction.type == Type::F16x2)
        run(Half(), true);
    else if (step.instruction.type == Type::BF16x2)
        run(Brain(), true);
    else
        with(step.instruction.type, [&](auto zero) { run(zero, false); });
}

uint64_t lowest(size_t count) { return count == 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1; }

// From the bits of one number to those of another; either may be in several registers.
void move(const Step &step) {
    const size_t width = 8 * size_of(step.instruction.type);
    const size_t to = step.instruction.operands[0].size(), from = step.instruction.operands[1].size();
    step.each([&](const At &at) {
        uint64_t whole = 0;
        for (size_t i = 0; i < from; i++)
            whole |= (at.bits(1, i) & lowest(width / from)) << width / from * i;
        for (size_t i = 0; i < to; i++)
            at.set(whole >> width / to * i & lowest(width / to), i);
    });
}

// Floats to integers go to the nearest there is.
template <typename To, typename From> To converted(From value, const Instruction &instruction) {
    if constexpr (FLOATING<From> && !FLOATING<To>) {
        const double whole = std::nearbyint(double(value));
        if (std::isnan(whole))
            return 0;
        if (whole >= std::ldexp(1.0, std::numeric_limits<To>::digits))
            return std::numeric_limits<To>::max();
        return whole <= double(std::numeric_limits<To>::min()) ? std::numeric_limits<To>::min() : To(whole);
    } else if constexpr (FLOATING<From>) {
        const bool to_whole =
            instruction.has("rni") || instruction.has("rzi") || instruction.has("rmi") || instruction.has("rpi");
        const double kept = to_whole ? std::nearbyint(double(value)) : double(value);
        return To(instruction.has("sat") ? std::fmin(1.0, std::fmax(0.0, kept)) : kept);
    } else {
        return To(value);
    }
}

void convert(const Step &step) {
    const Rounding rounding(step.instruction);
    const auto pair = [&](auto zero) {
        using T = decltype(zero);
        step.each([&](const At &at) { at.set(bits_of(T(at.value<float>(2))) | bits_of(T(at.value<float>(1))) << 16); });
    };
    if (step.instruction.type == Type::F16x2)
        return pair(Half());
    if (step.instruction.type == Type::BF16x2)
        return pair(Brain());
    with(step.instruction.type, [&](auto to) {
        with(step.instruction.from, [&](auto from) {
            step.each(
                [&](const At &at) { at.give(converted<decltype(to)>(at.value<decltype(from)>(1), step.instruction)); });
        });
    });
}

// Between addresses in a space and those that mean any: shared memory and a thread's own are stretches of this
// process's.
void convert_address(const Step &step) {
    step.each([&](const At &at) {
        const bool shared = step.instruction.has("shared"), local = step.instruction.has("local");
        uint8_t *base = shared ? step.block.shared.data() : local ? step.warp.lanes[at.lane].local.data() : nullptr;
        at.set(step.instruction.has("to") ? at.bits(1) - uint64_t(base) : at.bits(1) + uint64_t(base));
    });
}

void add(const Step &step) {
    compute<2>(step, [](auto a, auto b) { return a + b; });
}
void subtract(const Step &step) {
    compute<2>(step, [](auto a, auto b) { return a - b; });
}
void negate(const Step &step) {
    compute<1>(step, [](auto a) { return -a; });
}
void reciprocal(const Step &step) {
    compute<1>(step, [](auto a) { return 1 / a; });
}
void absolute(const Step &step) {
    compute<1>(step, [](auto a) {
        if constexpr (FLOATING<decltype(a)>)
            return std::fabs(double(a));
        else
            return a < 0 ? -a : a;
    });
}
void fused(const Step &step) {
    compute<3>(step, [](auto a, auto b, auto c) {
        if constexpr (std::is_same_v<decltype(a), float>)
            return std::fma(a, b, c);
        else
            return std::fma(double(a), double(b), double(c));
    });
}
void square_root(const Step &step) {
    compute<1>(step, [](auto a) { return std::sqrt(double(a)); });
}
void inverse_square_root(const Step &step) {
    compute<1>(step, [](auto a) { return 1 / std::sqrt(double(a)); });
}
void power_of_2(const Step &step) {
    compute<1>(step, [](auto a) { return std::exp2(float(a)); });
}
void logarithm_2(const Step &step) {
    compute<1>(step, [](auto a) { return std::log2(float(a)); });
}
void copy_sign(const Step &step) {
    compute<2>(step, [](auto a, auto b) { return std::copysign(double(b), double(a)); });
}

// Not a number loses against every number.
template <typename T> bool is_nan(T value) { return value != value; }
void smaller(const Step &step) {
    compute<2>(step, [](auto a, auto b) { return is_nan(a) ? b : is_nan(b) || a < b ? a : b; });
}
void larger(const Step &step) {
    compute<2>(step, [](auto a, auto b) { return is_nan(a) ? b : is_nan(b) || a > b ? a : b; });
}

// Whole numbers by 0 are what a GPU makes of them: all bits, and for a rest the number itself.
void divide(const Step &step) {
    compute<2>(step, [](auto a, auto b) {
        using T = decltype(a);
        return FLOATING<T> || b != T(0) ? T(a / b) : T(-1);
    });
}
void remainder(const Step &step) {
    compute<2>(step, [](auto a, auto b) {
        using T = decltype(a);
        if constexpr (FLOATING<T>)
            return T(std::fmod(double(a), double(b)));
        else
            return b == 0 ? a : T(a % b);
    });
}

// Low or high half of a product, all of it, and something added.
void multiply(const Step &step) {
    const bool add = step.instruction.words[0] == "mad";
    if (step.instruction.has("cc"))
        fail(step.instruction.text);
    const Rounding rounding(step.instruction);
    if (step.instruction.type == Type::F16x2 || step.instruction.type == Type::BF16x2)
        return compute<2>(step, [](auto a, auto b) { return a * b; });
    with(step.instruction.type, [&](auto zero) {
        using T = decltype(zero);
        step.each([&](const At &at) {
            if constexpr (FLOATING<T>) {
                at.give(T(at.value<T>(1) * at.value<T>(2)));
            } else {
                const __int128 product = __int128(at.value<T>(1)) * at.value<T>(2);
                const uint64_t added = add ? at.bits(3) : 0;
                if (step.instruction.has("wide"))
                    at.set(uint64_t(product) + added);
                else
                    at.give(T(T(product >> (step.instruction.has("hi") ? 8 * sizeof(T) : 0)) + T(added)));
            }
        });
    });
}

template <typename F> void bitwise(const Step &step, F f) {
    const uint64_t mask = lowest(step.instruction.type == Type::Pred ? 1 : 8 * size_of(step.instruction.type));
    step.each([&](const At &at) { at.set(f(at) & mask); });
}
void both(const Step &step) {
    bitwise(step, [](const At &at) { return at.bits(1) & at.bits(2); });
}
void either(const Step &step) {
    bitwise(step, [](const At &at) { return at.bits(1) | at.bits(2); });
}
void one_of(const Step &step) {
    bitwise(step, [](const At &at) { return at.bits(1) ^ at.bits(2); });
}
void invert(const Step &step) {
    bitwise(step, [](const At &at) { return ~at.bits(1); });
}
void insert(const Step &step) {
    bitwise(step, [](const At &at) {
        const uint64_t mask = lowest(at.bits(4)) << at.bits(3);
        return (at.bits(2) & ~mask) | (at.bits(1) << at.bits(3) & mask);
    });
}
void shift_left(const Step &step) {
    bitwise(step, [&](const At &at) {
        const uint32_t by = at.bits(2);
        return by < 8 * size_of(step.instruction.type) ? at.bits(1) << by : 0;
    });
}
void shift_right(const Step &step) {
    with(step.instruction.type, [&](auto zero) {
        using T = decltype(zero);
        if constexpr (!FLOATING<T>)
            step.each([&](const At &at) {
                const uint32_t by = at.bits(2), most = 8 * sizeof(T) - 1;
                at.give(T(by > most && std::is_unsigned_v<T> ? 0 : at.value<T>(1) >> std::min(by, most)));
            });
    });
}

// `nan`, and what has a `u` behind it, is true of what is not a number.
void compare(const Step &step) {
    const std::string how = step.instruction.words[1].substr(0, 2);
    const bool unordered = step.instruction.words[1].size() == 3;
    const bool is_predicate = step.instruction.words[0] == "setp";
    with(step.instruction.from, [&](auto zero) {
        using T = decltype(zero);
        step.each([&](const At &at) {
            const T a = at.value<T>(1), b = at.value<T>(2);
            const bool ordered = !is_nan(a) && !is_nan(b);
            const bool found = how == "eq"   ? a == b
                               : how == "ne" ? a != b
                               : how == "lt" ? a < b
                               : how == "le" ? a <= b
                               : how == "gt" ? a > b
                               : how == "ge" ? a >= b
                               : how == "na" ? false
                                             : (fail(step.instruction.text), false);
            const bool is = ordered ? found : unordered;
            if (is_predicate)
                at.set(is);
            else
                with(step.instruction.type, [&](auto one) { at.give(decltype(one)(is ? 1 : 0)); });
        });
    });
}
void select(const Step &step) {
    bitwise(step, [](const At &at) { return at.bits(3) & 1 ? at.bits(1) : at.bits(2); });
}

} // namespace

Execute of_numbers(const std::string &name) {
    static const std::map<std::string, Execute> known = {{"abs", absolute},
                                                         {"add", add},
                                                         {"and", both},
                                                         {"bfi", insert},
                                                         {"copysign", copy_sign},
                                                         {"cvt", convert},
                                                         {"cvta", convert_address},
                                                         {"div", divide},
                                                         {"ex2", power_of_2},
                                                         {"fma", fused},
                                                         {"lg2", logarithm_2},
                                                         {"mad", multiply},
                                                         {"max", larger},
                                                         {"min", smaller},
                                                         {"mov", move},
                                                         {"mul", multiply},
                                                         {"neg", negate},
                                                         {"not", invert},
                                                         {"or", either},
                                                         {"rcp", reciprocal},
                                                         {"rem", remainder},
                                                         {"rsqrt", inverse_square_root},
                                                         {"selp", select},
                                                         {"set", compare},
                                                         {"setp", compare},
                                                         {"shl", shift_left},
                                                         {"shr", shift_right},
                                                         {"sqrt", square_root},
                                                         {"sub", subtract},
                                                         {"xor", one_of}};
    const auto found = known.find(name);
    return found == known.end() ? nullptr : found->second;
}
