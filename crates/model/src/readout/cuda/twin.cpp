// The same without a GPU: batches of rows come from the standard input, what the kernel would leave goes to the standard
// output. All numbers are as they lie in memory; a batch is five of them (vocabulary, rows, words of lists, rows of
// logits, most alternatives), then rows, lists and logits.
#include <cstdio>
#include <vector>

#include "row.cuh"

template <typename T> static bool read(std::vector<T> &values, size_t count) {
    values.resize(count);
    return fread(values.data(), sizeof(T), count, stdin) == count;
}

template <typename T> static bool write(const std::vector<T> &values) {
    return fwrite(values.data(), sizeof(T), values.size(), stdout) == values.size();
}

int main() {
    std::vector<uint32_t> head, lists;
    std::vector<Row> rows;
    std::vector<float> logits;
    Block block;
    while (read(head, 5)) {
        const uint32_t vocabulary = head[0], most = head[4];
        if (!read(rows, head[1]) || !read(lists, head[2]) || !read(logits, size_t(head[3]) * vocabulary))
            return 1;
        std::vector<float> work(vocabulary);
        std::vector<Found> found(rows.size());
        std::vector<Alternative> alternatives(rows.size() * most);
        for (size_t row = 0; row < rows.size(); row++)
            read_row(block, rows[row], lists.data(), logits.data(), vocabulary, work.data(), &found[row],
                     alternatives.data() + row * most);
        if (!write(found) || !write(alternatives))
            return 1;
    }
}
