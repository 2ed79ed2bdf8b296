// Reads a tokenizer and texts with their ids (test_native_tokens.py writes them), compares, and
// then encodes random bytes: the bytes of the ids are the text, pieces follow one another, and
// three threads on one handle agree. Says "ok", or what is wrong.

#include "tokens.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

std::ifstream input;

template <class T> std::vector<T> values(std::size_t n) {
    std::vector<T> read(n);
    input.read(reinterpret_cast<char *>(read.data()), static_cast<std::streamsize>(n * sizeof(T)));
    if (!input) std::exit(3);
    return read;
}

template <class T> std::vector<T> counted() {
    return values<T>(static_cast<std::size_t>(values<std::int64_t>(1)[0]));
}

struct Case {
    std::vector<std::int32_t> head = values<std::int32_t>(4);
    std::vector<std::uint32_t> ends = counted<std::uint32_t>();
    std::vector<std::uint8_t> bytes = counted<std::uint8_t>();
    std::vector<double> scores = counted<double>();
    std::vector<std::int32_t> merges = counted<std::int32_t>();
    std::vector<std::uint32_t> symbol_ends = counted<std::uint32_t>();
    std::vector<std::uint8_t> symbols = counted<std::uint8_t>(), flags = counted<std::uint8_t>();

    s7_tokens_file file() const {
        return {head[0],
                head[1],
                head[2],
                head[3],
                static_cast<std::int64_t>(merges.size() / 3),
                ends.data(),
                bytes.data(),
                scores.empty() ? nullptr : scores.data(),
                merges.data(),
                symbol_ends.data(),
                symbols.data(),
                flags.data()};
    }
};

// Exactly as many bytes as there are, so that a read behind them is seen.
std::vector<std::int32_t> encoded(s7_tokens *handle, const std::vector<std::uint8_t> &text) {
    std::vector<std::int32_t> ids(text.size());
    const auto n =
        s7_tokens_encode(handle, text.data(), static_cast<std::int64_t>(text.size()), ids.data());
    ids.resize(static_cast<std::size_t>(n));
    return ids;
}

bool sound(const Case &one, s7_tokens *handle, const std::vector<std::uint8_t> &text,
           const std::vector<std::int32_t> &ids) {
    std::vector<std::uint8_t> back;
    for (const std::int32_t id : ids) {
        const auto begin = id ? one.ends[id - 1] : 0;
        back.insert(back.end(), one.bytes.begin() + begin, one.bytes.begin() + one.ends[id]);
    }
    std::vector<std::int64_t> ends(text.size());
    const auto n =
        s7_tokens_cut(handle, text.data(), static_cast<std::int64_t>(text.size()), ends.data());
    for (std::int64_t i = 1; i < n; ++i)
        if (ends[i] <= ends[i - 1]) return false;
    return back == text &&
           (text.empty() ? n == 0 : n > 0 && ends[n - 1] == static_cast<std::int64_t>(text.size()));
}

std::vector<std::uint8_t> random_text(std::mt19937 &dice,
                                      const std::vector<std::vector<std::uint8_t>> &texts) {
    std::vector<std::uint8_t> made;
    for (int part = static_cast<int>(dice() % 6); part >= 0; --part) {
        const auto &text = texts[dice() % texts.size()];
        const std::size_t n = dice() % 60;
        if (dice() % 3 == 0 || text.size() < 60) {
            for (std::size_t i = 0; i < n; ++i)
                made.push_back(static_cast<std::uint8_t>(dice() % 5 ? dice() % 128 : dice()));
        } else if (dice() % 20 == 0) {
            made.insert(made.end(), 20 * n, static_cast<std::uint8_t>(dice()));
        } else {
            const auto from =
                text.begin() + static_cast<std::ptrdiff_t>(dice() % (text.size() - n));
            made.insert(made.end(), from, from + static_cast<std::ptrdiff_t>(n));
        }
    }
    return made;
}

}  // namespace

int main(int, char **arguments) {
    input.open(arguments[1], std::ios::binary);
    const Case one;
    const s7_tokens_file file = one.file();
    s7_tokens *handle = s7_tokens_open(&file);
    if (!handle) return std::puts("the file is refused"), 1;
    std::vector<std::vector<std::uint8_t>> texts;
    for (auto left = values<std::int64_t>(1)[0]; left > 0; --left) {
        texts.push_back(counted<std::uint8_t>());
        if (encoded(handle, texts.back()) != counted<std::int32_t>())
            return std::puts("other ids"), 1;
    }
    std::mt19937 dice(7);
    for (int i = std::atoi(arguments[2]); i > 0; --i) {
        const auto text = random_text(dice, texts);
        if (!sound(one, handle, text, encoded(handle, text)))
            return std::puts("the text does not come back"), 1;
    }
    std::vector<std::vector<std::int32_t>> found(3);
    std::vector<std::thread> threads;
    for (auto &ids : found)
        threads.emplace_back([&] {
            for (const auto &text : texts) ids = encoded(handle, text);
        });
    for (auto &thread : threads) thread.join();
    if (found[0] != found[1] || found[0] != found[2]) return std::puts("threads differ"), 1;
    s7_tokens_close(handle);
    s7_tokens_file wrong = file;
    wrong.rule = 2;
    if (s7_tokens_open(&wrong)) return std::puts("a rule that is not one is taken"), 1;
    wrong = file;
    wrong.n_entries = 5;  // not all bytes are entries; merges name others
    if (s7_tokens_open(&wrong)) return std::puts("a vocabulary without all bytes is taken"), 1;
    std::puts("ok");
    return 0;
}
