// One row of logits to one token and its log-probabilities, as `readout/row.rs` defines them.
//
// Every filter keeps a prefix of the ranking, so all that is known of a row is one number: the smallest key that stays.
// top-k, top-p and the draw are the same search for it, with other keys and other masses.
#pragma once

#include "block.cuh"

// What no token has.
constexpr uint32_t NONE = 0xffffffff;
// Bits of a token in a key; vocabularies are smaller.
constexpr uint32_t TOKEN_BITS = 20;
constexpr uint32_t LAST_TOKEN = (1u << TOKEN_BITS) - 1;
// Of a token by its value, and by its id alone.
constexpr uint32_t VALUE_KEY = 32 + TOKEN_BITS;
constexpr uint32_t TOKEN_KEY = TOKEN_BITS;
constexpr uint32_t DIGIT = 4;
constexpr uint32_t DIGITS = 1 << DIGIT;
static_assert(2 * DIGITS == SUMS, "a mass and a count for each digit");
// A weight is never computed below this, so that what may be drawn has one.
constexpr float FARTHEST = 87.3f;

// A stretch of the lists that came with the batch.
struct Span {
    uint32_t first;
    uint32_t count;
};

// How a row is read; `plan.rs` writes it.
struct Row {
    double uniform;
    double repetition;
    double frequency;
    double presence;
    double top_p;
    // Temperature times ln(min_p).
    double lowest;
    // One over the temperature.
    float factor;
    // u + strength · (c − u), u being the row `guide`.
    float strength;
    uint32_t greedy;
    uint32_t own;
    uint32_t guide;
    uint32_t top_k;
    uint32_t target;
    uint32_t alternatives;
    // Three words each: token, given, generated.
    Span counts;
    // Two words each: token, f32; ascending by token.
    Span biases;
    Span banned;
    // Ascending; `first` is NONE when all are allowed.
    Span allowed;
    // Have no part in the confidence.
    Span distrusted;
    uint32_t nucleus_first;
    uint32_t unused;
};
static_assert(sizeof(Row) == 32 * 4, "`plan.rs` writes 32 words");

// What was read.
struct Found {
    // NONE: a logit is not finite, or nothing may be drawn.
    uint32_t token;
    float score;
    float logprob;
    float entropy;
    float margin;
    float target;
    float confidence;
};
static_assert(sizeof(Found) == 7 * 4, "`plan.rs` reads 7 words");

struct Alternative {
    uint32_t token;
    float logprob;
};

// Larger for what is more probable, the lower token on a tie; never 0.
DEVICE uint64_t key_of(float value, uint32_t token) {
    // 0 and −0 are a tie.
    const uint32_t bits = value == 0.0f ? 0 : bits_of(value);
    const uint32_t ordered = bits & 0x80000000 ? ~bits : bits | 0x80000000;
    return uint64_t(ordered) << TOKEN_BITS | (LAST_TOKEN - token);
}

DEVICE uint32_t token_of(uint64_t key) { return LAST_TOKEN - uint32_t(key & LAST_TOKEN); }

// The nearest finite number; NaN stays.
DEVICE float nearest_finite(double value) {
    const float narrow = float(value);
    return narrow > 3.402823466e38f ? 3.402823466e38f : narrow < -3.402823466e38f ? -3.402823466e38f : narrow;
}

DEVICE bool contains(const uint32_t *sorted, uint32_t count, uint32_t token) {
    uint32_t low = 0, high = count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (sorted[middle] < token)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && sorted[low] == token;
}

// The smallest key that stays when, from the largest down, a key is dropped because the mass of those before it exceeds
// `limit`. Keys are unique, have `bits` bits, and are 0 for tokens that do not compete; at least one is not 0. Every pass
// looks at one digit of the keys that share the digits found so far, until there is one key.
template <typename K, typename M>
DEVICE uint64_t last_to_stay(Block &block, uint32_t n, uint32_t bits, double limit, K key, M mass) {
    uint64_t prefix = 0;
    double before = 0.0;
    for (uint32_t shift = bits - DIGIT;; shift -= DIGIT) {
        double sums[SUMS];
        block.totals(
            n,
            [&](uint32_t i, double *sums) {
                const uint64_t own = key(i);
                if (own == 0 || own >> (shift + DIGIT) != prefix)
                    return;
                const uint32_t digit = own >> shift & (DIGITS - 1);
                const double weight = mass(i);
UNROLL
                for (uint32_t d = 0; d < DIGITS; d++) {
                    sums[d] += d == digit ? weight : 0.0;
                    sums[DIGITS + d] += d == digit ? 1.0 : 0.0;
                }
            },
            sums);
        uint32_t chosen = 0;
        double above = before, after = before, count = 0.0;
UNROLL
        for (uint32_t down = 0; down < DIGITS; down++) {
            const uint32_t d = DIGITS - 1 - down;
            if (sums[DIGITS + d] > 0.0 && (count == 0.0 || after <= limit)) {
                chosen = d;
                above = after;
                count = sums[DIGITS + d];
            }
            after += sums[d];
        }
        before = above;
        prefix = prefix << DIGIT | chosen;
        if (count == 1.0 || shift == 0)
            return prefix << shift;
    }
}

// The model's own belief.
struct Model {
    const float *own;
    const float *guide;
    float strength;
    float highest;
    double normaliser;

    DEVICE float logit(uint32_t token) const {
        return guide ? guide[token] + strength * (own[token] - guide[token]) : own[token];
    }

    DEVICE float logprob(uint32_t token) const {
        return float(double(logit(token)) - double(highest) - normaliser);
    }
};

// Penalties, biases and what may not be drawn, which becomes −∞.
DEVICE void edit(Block &block, const Row &row, const uint32_t *lists, uint32_t n, float *logits) {
    block.each(row.counts.count, [&](uint32_t i) {
        const uint32_t *entry = lists + row.counts.first + 3 * i;
        const uint32_t token = entry[0], given = entry[1], generated = entry[2];
        if (token >= n)
            return;
        double value = logits[token];
        if (given > 0 || generated > 0)
            value = value > 0.0 ? value / row.repetition : value * row.repetition;
        value -= row.frequency * double(generated);
        if (generated > 0)
            value -= row.presence;
        logits[token] = nearest_finite(value);
    });
    block.each(row.biases.count, [&](uint32_t i) {
        const uint32_t *entry = lists + row.biases.first + 2 * i;
        const uint32_t token = entry[0];
        // The first of those for one token adds all of them.
        if (token >= n || (i > 0 && entry[-2] == token))
            return;
        for (uint32_t j = i; j < row.biases.count && entry[0] == token; j++, entry += 2)
            logits[token] = nearest_finite(double(logits[token]) + double(float_of(entry[1])));
    });
    block.each(row.banned.count, [&](uint32_t i) {
        const uint32_t token = lists[row.banned.first + i];
        if (token < n)
            logits[token] = -INFINITY;
    });
    if (row.allowed.first != NONE)
        block.each(n, [&](uint32_t i) {
            if (!contains(lists + row.allowed.first, row.allowed.count, i))
                logits[i] = -INFINITY;
        });
}

// Reads one row; `work` is room for its logits.
DEVICE void read_row(Block &block, const Row &row, const uint32_t *lists, const float *logits, uint32_t n, float *work,
                     Found *found, Alternative *alternatives) {
    double sums[SUMS];
    Model model = {logits + size_t(row.own) * n, nullptr, row.strength, 0.0f, 0.0};
    if (row.guide != NONE)
        model.guide = logits + size_t(row.guide) * n;
    block.each(n, [&](uint32_t i) { work[i] = model.logit(i); });
    const uint64_t top = block.largest(n, [&](uint32_t i) { return key_of(work[i], i); });
    model.highest = work[token_of(top)];
    block.totals(
        n,
        [&](uint32_t i, double *sums) {
            sums[0] += double(expf(fmaxf(work[i] - model.highest, -FARTHEST)));
            sums[1] += double(work[i]);
        },
        sums);
    if (block.first())
        *found = {NONE, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    // A sum is finite exactly when its terms are: f64 has room for all f32.
    if (!(fabs(sums[1]) < INFINITY))
        return;
    model.normaliser = log(sums[0]);
    uint64_t above = ~uint64_t(0);
    for (uint32_t a = 0; a < row.alternatives; a++) {
        above = block.largest(n, [&](uint32_t i) {
            const uint64_t key = key_of(work[i], i);
            return key < above ? key : 0;
        });
        if (block.first())
            alternatives[a] = above ? Alternative{token_of(above), model.logprob(token_of(above))} : Alternative{NONE, 0.0f};
    }

    edit(block, row, lists, n, work);
    const uint64_t best = block.largest(n, [&](uint32_t i) {
        return work[i] == -INFINITY ? 0 : work[i] != work[i] ? ~uint64_t(0) : key_of(work[i], i);
    });
    if (best == 0 || best == ~uint64_t(0))
        return;
    const float largest = work[token_of(best)];
    uint64_t bound = 1;
    const auto raise = [&](uint64_t to) { bound = to > bound ? to : bound; };
    const auto key = [&](uint32_t i) {
        const uint64_t key = work[i] == -INFINITY ? 0 : key_of(work[i], i);
        return key >= bound ? key : 0;
    };
    const auto weight = [&](uint32_t i) { return expf(fmaxf((work[i] - largest) * row.factor, -FARTHEST)); };
    const auto most_probable = [&] {
        if (row.top_k > 0 && !row.greedy)
            raise(last_to_stay(block, n, VALUE_KEY, double(row.top_k) - 1.0, key, [](uint32_t) { return 1.0; }));
    };
    if (!row.nucleus_first)
        most_probable();
    if (row.top_p < 1.0 && !row.greedy) {
        block.totals(n, [&](uint32_t i, double *sums) { sums[0] += key(i) ? double(weight(i)) : 0.0; }, sums);
        const auto mass = [&](uint32_t i) { return double(weight(i)); };
        raise(last_to_stay(block, n, VALUE_KEY, row.top_p * sums[0], key, mass));
    }
    if (row.nucleus_first)
        most_probable();
    if (row.lowest > -INFINITY && !row.greedy) {
        const double lowest = double(largest) + row.lowest;
        float nearest = float(lowest);
        if (double(nearest) < lowest)
            nearest = nextafterf(nearest, INFINITY);
        raise(key_of(nearest, LAST_TOKEN));
    }

    block.totals(
        n,
        [&](uint32_t i, double *sums) {
            if (!key(i))
                return;
            const float distance = fminf(fmaxf((largest - work[i]) * row.factor, 0.0f), 88.0f);
            sums[0] += double(weight(i));
            sums[1] += double(distance * weight(i));
        },
        sums);
    const double mass = sums[0], distance = sums[1];
    const uint64_t second = block.largest(n, [&](uint32_t i) { return key(i) < best ? key(i) : 0; });
    uint32_t token = token_of(best);
    if (!row.greedy) {
        // The first token, by id, whose cumulative weight exceeds the uniform number's share.
        const auto place = [&](uint32_t i) { return key(i) ? uint64_t(LAST_TOKEN - i) : 0; };
        const auto share = [&](uint32_t i) { return double(weight(i)); };
        const uint64_t last = last_to_stay(block, n, TOKEN_KEY, row.uniform * mass, place, share);
        const uint64_t drawn = block.largest(n, [&](uint32_t i) { return place(i) >= last ? i + uint64_t(1) : 0; });
        token = uint32_t(drawn - 1);
    }
    double trusted = model.normaliser;
    const uint32_t *distrusted = lists + row.distrusted.first;
    if (row.distrusted.count) {
        block.totals(
            n,
            [&](uint32_t i, double *sums) {
                if (!contains(distrusted, row.distrusted.count, i))
                    sums[0] += double(expf(fmaxf(model.logit(i) - model.highest, -FARTHEST)));
            },
            sums);
        trusted = log(sums[0]);
    }
    if (block.first()) {
        const double behind = (double(largest) - double(work[token])) * double(row.factor);
        const float next = second ? weight(token_of(second)) : 0.0f;
        found->token = token;
        found->score = float(-behind - log(mass));
        found->logprob = model.logprob(token);
        found->entropy = float(fmax(log(mass) + distance / mass, 0.0));
        found->margin = float(double(1.0f - next) / mass);
        const double above = double(model.logit(token)) - double(model.highest);
        found->confidence = contains(distrusted, row.distrusted.count, token) ? -INFINITY : float(above - trusted);
        found->target = row.target == NONE ? 0.0f : model.logprob(row.target);
    }
}
