// A case file (case_file.py): a model, ids, and what the reference makes of them. Arrays, each a
// count of 4 bytes and its elements.
#pragma once

#include <cstdio>
#include <cstring>
#include <deque>
#include <vector>

#include "s7.h"

// The arrays of one case, each in memory of exactly its size, so that a read past the end is seen.
struct Case {
    std::deque<std::vector<char>> kept;  // never moves what it holds
    std::deque<std::vector<s7_ffn>> experts;
    std::vector<s7_layer> layers;  // the trunk, then each expert's stack
    s7_shape shape{};
    s7_tables tables{};
    s7_weights weights{};
    const int32_t *ids = nullptr, *logits = nullptr;  // [n_ids], [n_ids, vocab_size]
    int32_t n_ids = 0;
    struct Cached {
        const int8_t *codes;
        const int32_t *m, *e;
    };
    std::vector<Cached> cached;        // keys and values of each layer
    bool good = true, at_end = false;  // at_end: there was no case left

    template <class T> const T *array(FILE *from, int64_t n_expected, int64_t *n_found = nullptr) {
        uint32_t n = 0;
        if (!good) return nullptr;
        if (const size_t n_read = std::fread(&n, 1, 4, from); n_read != 4) {
            at_end = n_read == 0 && kept.empty();
            good = false;
            return nullptr;
        }
        kept.emplace_back(n * sizeof(T));
        good = std::fread(kept.back().data(), sizeof(T), n, from) == n &&
               (n_expected < 0 || n == n_expected);
        if (n_found != nullptr) *n_found = n;
        return reinterpret_cast<const T *>(kept.back().data());
    }

    s7_linear linear(FILE *from) {
        s7_linear w{};
        w.codes = array<int8_t>(from, -1);
        w.row_m = array<uint16_t>(from, -1);
        w.row_s = array<uint16_t>(from, -1);
        if (const auto *sizes = array<int32_t>(from, 3); good)
            w.n_out = sizes[0], w.n_in = sizes[1], w.exponent = sizes[2];
        return w;
    }

    s7_norm norm(FILE *from) {
        s7_norm made{};
        int64_t n = 0;
        made.gain = array<int16_t>(from, -1, &n);
        made.n = static_cast<int32_t>(n);
        if (const auto *rest = array<int64_t>(from, 2); good)
            made.eps = rest[0], made.exponent = static_cast<int32_t>(rest[1]);
        return made;
    }

    void read_model(FILE *from) {
        const auto *sizes = array<int32_t>(from, sizeof shape / 4);
        const auto *entries = array<int32_t>(from, sizeof tables / 4);
        if (!good) return;
        std::memcpy(&shape, sizes, sizeof shape);
        std::memcpy(&tables, entries, sizeof tables);
        weights.embedding = linear(from);
        weights.cos_sin = array<int16_t>(from, -1, &weights.n_cos_sin);
        weights.router = array<uint8_t>(from, shape.vocab_size);
        const int32_t n_behind = shape.stack_layers * shape.n_experts,
                      n_here = shape.stack_layers > 0 ? 1 : shape.n_experts;
        for (int32_t i = 0; good && i < shape.n_layers + n_behind; ++i) {
            s7_layer layer{};
            layer.attn_norm = norm(from), layer.ffn_norm = norm(from);
            layer.q = linear(from), layer.k = linear(from), layer.v = linear(from),
            layer.o = linear(from);
            auto &mine = experts.emplace_back();
            for (int32_t e = 0; good && e < n_here; ++e) {
                s7_ffn ffn{};
                ffn.gate = linear(from), ffn.up = linear(from), ffn.down = linear(from);
                mine.push_back(ffn);
            }
            layer.experts = mine.data();
            layers.push_back(layer);
        }
        weights.layers = layers.data();
        weights.stacks = n_behind > 0 ? layers.data() + shape.n_layers : nullptr;
        weights.final_norm = norm(from);
        weights.head = linear(from);
    }

    explicit Case(FILE *from) {
        read_model(from);
        int64_t n = 0;
        ids = array<int32_t>(from, -1, &n);
        n_ids = static_cast<int32_t>(n);
        logits = array<int32_t>(from, n * shape.vocab_size);
        const int64_t scales = n * shape.n_kv_heads;
        for (int32_t i = 0; good && i < 2 * (shape.n_layers + shape.stack_layers); ++i) {
            Cached c{};
            c.codes = array<int8_t>(from, scales * shape.head_dim);
            c.m = array<int32_t>(from, scales);
            c.e = array<int32_t>(from, scales);
            cached.push_back(c);
        }
    }
};
