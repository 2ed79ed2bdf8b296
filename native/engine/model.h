// The model of the engine: packed codes and checked sizes. It is never written after its creation.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernels.h"
#include "platform.h"

namespace s7 {

// Zeroed memory, aligned to cache lines and freed with its owner. `make` reports a failed
// allocation.
template <class T> class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { give(raw_); }

    // Allocates `n` elements, which the system zeroes if it can, and 64 bytes more, so that whole
    // vectors may be read at the end.
    [[nodiscard]] bool make(i64 n) {
        give(raw_);
        raw_ = nullptr;
        data_ = nullptr;
        n_bytes_ = 0;
        if (static_cast<u64>(n) > (SIZE_MAX / 2 - 128) / sizeof(T))
            return false;  // the size exceeds a 32-bit address
        const size_t bytes = static_cast<size_t>(n) * sizeof(T) + 128;
        raw_ = take_zeroed(bytes);
        if (raw_ == nullptr) return false;
        n_bytes_ = static_cast<i64>(bytes);
        const auto address = reinterpret_cast<u64>(raw_);
        data_ = reinterpret_cast<T *>(static_cast<char *>(raw_) + (64 - address % 64) % 64);
        return true;
    }
    T *get() { return data_; }
    const T *get() const { return data_; }
    i64 n_bytes() const { return n_bytes_; }

  private:
    void *raw_ = nullptr;
    T *data_ = nullptr;
    i64 n_bytes_ = 0;
};

// One block of zeroed memory for all packed weights, in the order of their use. It requests large
// pages where they exist, because a token reads the whole block, and each small page costs a page
// walk.
class Arena {
  public:
    [[nodiscard]] bool make(i64 n_bytes);

    // Returns the next n elements, aligned to a cache line; nullptr at the end.
    template <class T> T *take(i64 n) {
        const i64 bytes = round_up(n * static_cast<i64>(sizeof(T)), 64);
        if (at_ + bytes > end_) return nullptr;
        u8 *here = memory_.get() + offset_ + at_;
        at_ += bytes;
        return reinterpret_cast<T *>(here);
    }
    i64 n_bytes() const { return end_; }

  private:
    Buffer<u8> memory_;
    i64 offset_ = 0, at_ = 0, end_ = 0;
};

struct Linear {
    i8 *panels = nullptr;
    i32 *start = nullptr;
    u16 *m = nullptr;
    u8 *s = nullptr;
    i64 n_out = 0, n_in = 0, n_panels = 0, n_groups = 0;
    i32 exponent = 0, lift = 0;
    bool narrow = true;

    Projection view() const { return {panels, start, m, s, n_groups, lift, narrow}; }
};

struct Norm {
    Buffer<i16> gain;
    i64 eps = 0;
    i32 exponent = 0;
};

struct FeedForward {
    Linear gate, up, down;
};

struct Layer {
    Norm attn_norm, ffn_norm;
    Linear q, k, v, o;
    Linear summary;  // hybrid attention only
    FeedForward *experts = nullptr;
    Layer() = default;
    Layer(const Layer &) = delete;
    Layer &operator=(const Layer &) = delete;
    ~Layer() { delete[] experts; }
};

}  // namespace s7

struct s7_model {
    s7_shape shape{};
    s7_hybrid hybrid{};  // window 0: causal attention
#if defined(S7_CAUSAL_ONLY)
    // A library that refuses such models holds none of their code.
    static constexpr bool is_hybrid() { return false; }
#else
    bool is_hybrid() const { return hybrid.window > 0; }
#endif
    i32 rsqrt[S7_RSQRT_ENTRIES]{};
    u32 exp2_steps[S7_EXP2_ENTRIES - 1]{},
        sigmoid_steps[S7_SIGMOID_ENTRIES - 1]{};  // entry + 2^16 * distance
    const s7::Kernels *kernels = nullptr;
    s7::Arena arena;           // the codes of every Linear
    s7::Buffer<i8> embedding;  // [V, D]
    s7::Buffer<u16> embedding_m, embedding_s;
    s7::Buffer<i16> cosine, sine;  // [C, E / 2]
    s7::Buffer<u8> router;
    s7::Layer *layers = nullptr;  // the trunk, then each expert's stack
    s7::Norm final_norm;
    s7::Linear head;

    s7_model() = default;
    s7_model(const s7_model &) = delete;
    s7_model &operator=(const s7_model &) = delete;
    ~s7_model() { delete[] layers; }

    // The number of layers of a sequence, and of all layers.
    i64 depth() const { return i64{shape.n_layers} + shape.stack_layers; }
    i64 n_layers() const {
        return shape.n_layers +
               i64{shape.stack_layers} * (shape.stack_layers > 0 ? shape.n_experts : 0);
    }
    i64 experts_in_layer() const { return shape.stack_layers > 0 ? 1 : shape.n_experts; }

    // The i-th layer of a sequence of an expert.
    const s7::Layer &layer(i64 i, i64 expert) const {
        return layers[i < shape.n_layers ? i : i + expert * shape.stack_layers];
    }
};
