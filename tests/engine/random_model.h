// Random numbers, from bytes as long as there are any, and models of random integers in memory of
// exactly their size.
#pragma once

#include <deque>
#include <vector>

#include "s7.h"

struct Random {
    uint64_t state = 1;
    const uint8_t *bytes = nullptr;
    size_t n_bytes = 0;

    int64_t between(int64_t low, int64_t high) {
        if (n_bytes > 0) {
            state ^= *bytes++;
            --n_bytes;
        }
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        return low + static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(high - low + 1));
    }

    template <class T, size_t N> T one_of(const T (&values)[N]) {
        return values[between(0, static_cast<int64_t>(N) - 1)];
    }
};

struct RandomModel {
    s7_shape shape;
    s7_tables tables{};
    s7_weights weights{};
    std::deque<std::vector<int8_t>> codes;
    std::deque<std::vector<uint16_t>> rows;
    std::deque<std::vector<int16_t>> halves;
    std::vector<uint8_t> router;
    std::deque<std::vector<s7_ffn>> experts;
    std::vector<s7_layer> layers;  // the trunk, then each expert's stack

    // Exactly sized, so that a read past the end is seen.
    template <class T>
    static std::vector<T> numbers(Random &random, int64_t n, int64_t low, int64_t high) {
        std::vector<T> out;
        out.reserve(static_cast<size_t>(n));
        for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<T>(random.between(low, high)));
        return out;
    }

    s7_linear linear(Random &r, int32_t n_out, int32_t n_in) {
        codes.push_back(numbers<int8_t>(r, int64_t{n_out} * n_in, -127, 127));
        rows.push_back(numbers<uint16_t>(r, n_out, 0, 65535));
        rows.push_back(numbers<uint16_t>(r, n_out, 16, 70));
        return {
            codes.back().data(), rows[rows.size() - 2].data(), rows.back().data(), n_out, n_in, 25};
    }

    s7_norm norm(Random &r, int32_t n) {
        halves.push_back(numbers<int16_t>(r, n, -32768, 32767));
        return {halves.back().data(), 343597, n, 11};
    }

    RandomModel(const s7_shape &of, Random &random) : shape(of) {
        for (int i = 0; i < S7_EXP2_ENTRIES; ++i) tables.exp2[i] = 32512 - i * 254;
        for (int i = 0; i < S7_SIGMOID_ENTRIES; ++i) tables.sigmoid[i] = 16384 + i * 32;
        for (int i = 0; i < S7_RSQRT_ENTRIES; ++i) tables.rsqrt[i] = 65281 - i * 170;
        const int32_t d = shape.d_model, q = shape.n_heads * shape.head_dim,
                      kv = shape.n_kv_heads * shape.head_dim;
        const int32_t n_behind = shape.stack_layers * shape.n_experts;
        for (int32_t i = 0; i < shape.n_layers + n_behind; ++i) {
            const int32_t f = i < shape.n_layers ? shape.d_ffn : shape.stack_d_ffn;
            auto &mine = experts.emplace_back();
            for (int32_t e = 0; e < (n_behind > 0 ? 1 : shape.n_experts); ++e) {
                mine.push_back({linear(random, f, d), linear(random, f, d), linear(random, d, f)});
            }
            layers.push_back({norm(random, d), norm(random, d), linear(random, q, d),
                              linear(random, kv, d), linear(random, kv, d), linear(random, d, q),
                              mine.data()});
        }
        halves.push_back(
            numbers<int16_t>(random, int64_t{shape.context} * shape.head_dim, -32768, 32767));
        const auto &rope = halves.back();
        router = numbers<uint8_t>(random, shape.vocab_size, 0, shape.n_experts - 1);
        weights = {linear(random, shape.vocab_size, d),
                   rope.data(),
                   static_cast<int64_t>(rope.size()),
                   router.data(),
                   layers.data(),
                   n_behind > 0 ? layers.data() + shape.n_layers : nullptr,
                   norm(random, d),
                   linear(random, shape.vocab_size, d)};
    }
};
