// The kernels without a GPU: cases come from the standard input, what a kernel would leave goes to the standard output.
// Words and numbers are as they lie in memory. A case is eight words, then its matrices.
//
//   0, type, rows, columns, inner, in_chunks, 0, 0              left, right
//   1, type, tiles, heads, width, repeat, in_chunks, stride     tiles, seen, query, key, value; rows of the latter are
//                                                               `stride` apart, and there are as many as tiles name
//
// Each case is run with copies that come late and the first thread ahead, then with early copies and the last one
// ahead; what differs fails.
#include <algorithm>
#include <type_traits>

#include "attention.cuh"
#include "attention_f32.cuh"
#include "product.cuh"

template <typename T> static std::vector<T> take(size_t count) {
    std::vector<T> values(count);
    if (fread(values.data(), sizeof(T), count, stdin) != count)
        std::exit(1);
    return values;
}

template <typename T> static void leave(const std::vector<T> &values) {
    if (fwrite(values.data(), sizeof(T), values.size(), stdout) != values.size())
        std::exit(1);
}

// What `kernel` leaves in `count` numbers, in either order.
template <typename T, typename F>
static void run(uint32_t width, uint32_t height, uint32_t threads, size_t count, F kernel) {
    std::vector<T> first;
    for (const bool turned : {false, true}) {
        // Numbers that the kernel does not write stay NaN.
        std::vector<T> out(count);
        std::memset(out.data(), 0xff, count * sizeof(T));
        simulated::run(width, height, threads, turned, turned, [&] { kernel(out.data()); });
        if (!turned)
            first = out;
        else if (std::memcmp(first.data(), out.data(), count * sizeof(T)) != 0) {
            fprintf(stderr, "another order of threads and copies gives other numbers\n");
            std::exit(3);
        }
    }
    leave(first);
}

template <typename T> static void run_product(const std::vector<uint32_t> &words) {
    const uint32_t rows = words[2], columns = words[3], inner = words[4];
    const auto left = take<T>(size_t(rows) * inner), right = take<T>(size_t(columns) * inner);
    run<T>(units(rows, TILE), units(columns, TILE), PRODUCT_THREADS, size_t(rows) * columns,
           [&](T *out) { product(left.data(), right.data(), out, rows, columns, inner, words[5]); });
}

template <uint32_t WIDTH, typename T>
static void attend(Heads<const T> q, Heads<const T> k, Heads<const T> v, Heads<T> out, const Tile *tiles,
                   const uint32_t *seen, Shape shape) {
    if constexpr (std::is_same_v<T, float>)
        attend_f32<WIDTH>(q, k, v, out, tiles, seen, shape);
    else
        attend<T, WIDTH>(q, k, v, out, tiles, seen, shape);
}

template <typename T> static void run_attention(const std::vector<uint32_t> &words) {
    const uint32_t heads = words[3], stride = words[7];
    const Shape shape = {words[4], words[5], 1.0f / std::sqrt(float(words[4])), words[6]};
    const auto tiles = take<Tile>(words[2]);
    size_t rows = 0, keys = 0;
    for (const Tile &tile : tiles) {
        rows = std::max(rows, size_t(tile.query + tile.queries));
        keys = std::max(keys, size_t(tile.key + tile.keys));
    }
    const auto seen = take<uint32_t>(rows);
    const auto query = take<T>(rows * stride), key = take<T>(keys * stride), value = take<T>(keys * stride);
    run<T>(tiles.size(), heads, ATTENTION_THREADS, rows * heads * shape.width, [&](T *out) {
        const Heads<const T> q = {query.data(), stride}, k = {key.data(), stride}, v = {value.data(), stride};
        const Heads<T> to = {out, heads * shape.width};
        if (shape.width <= 64)
            attend<64>(q, k, v, to, tiles.data(), seen.data(), shape);
        else
            attend<128>(q, k, v, to, tiles.data(), seen.data(), shape);
    });
}

template <typename T> static void run_case(const std::vector<uint32_t> &words) {
    if (words[0] == 0)
        run_product<T>(words);
    else
        run_attention<T>(words);
}

int main() {
    for (int next = getc(stdin); next != EOF; next = getc(stdin)) {
        ungetc(next, stdin);
        const auto words = take<uint32_t>(8);
        if (words[1] == 0)
            run_case<Bf16>(words);
        else if (words[1] == 1)
            run_case<F16>(words);
        else
            run_case<float>(words);
    }
}
