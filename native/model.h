// The model as the engine holds it: packed codes, checked sizes. Never written after its creation.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace s7 {

// Zeroed memory on cache lines, freed with its owner. Allocation can fail: ask `make`.
template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { std::free(raw_); }

    // `n` elements, zeroed by the system where it can; 64 bytes more than asked for, so that whole vectors may be read at the end.
    [[nodiscard]] bool make(int64_t n) {
        std::free(raw_);
        const size_t bytes = static_cast<size_t>(n) * sizeof(T) + 128;
        raw_ = std::calloc(bytes, 1);
        data_ = nullptr;
        if (raw_ == nullptr) return false;
        const auto address = reinterpret_cast<uintptr_t>(raw_);
        data_ = reinterpret_cast<T *>(static_cast<char *>(raw_) + (64 - address % 64) % 64);
        return true;
    }
    T *get() { return data_; }
    const T *get() const { return data_; }

private:
    void *raw_ = nullptr;
    T *data_ = nullptr;
};

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Linear {
    Buffer<uint8_t> panels;
    Buffer<uint16_t> m;
    Buffer<uint8_t> s;
    int64_t n_out = 0, n_in = 0, n_panels = 0, n_groups = 0, panel_bytes = 0;
    int32_t exponent = 0, lift = 0;
};

struct Norm {
    Buffer<int16_t> gain;
    int64_t eps = 0;
    int32_t exponent = 0;
};

struct FeedForward {
    Linear gate, up, down;
};

struct Layer {
    Norm attn_norm, ffn_norm;
    Linear q, k, v, o;
    FeedForward *experts = nullptr;
    Layer() = default;
    Layer(const Layer &) = delete;
    Layer &operator=(const Layer &) = delete;
    ~Layer() { delete[] experts; }
};

}  // namespace s7

struct s7_model {
    s7_shape shape{};
    s7_tables tables{};
    const s7::Kernels *kernels = nullptr;
    s7::Buffer<int8_t> embedding;  // [V, D]
    s7::Buffer<uint16_t> embedding_m, embedding_s;
    s7::Buffer<int16_t> cosine, sine;  // [C, E / 2]
    s7::Buffer<uint8_t> router;
    s7::Layer *layers = nullptr;
    s7::Norm final_norm;
    s7::Linear head;

    s7_model() = default;
    s7_model(const s7_model &) = delete;
    s7_model &operator=(const s7_model &) = delete;
    ~s7_model() { delete[] layers; }
};
