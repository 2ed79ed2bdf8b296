// The weights of hybrid attention: a softmax over two spans of a list of pages, in portable C++.
// Included by each instruction set's file behind its `store_panel`:
//
//     store_panel(const i32 *f, u8 *limbs, i64 stride, i64 position)
//     puts 16 weights 0 .. 32512 into the limbs, in the instruction set's own form
#pragma once

#include "row_ops.h"

namespace {

#if defined(S7_CAUSAL_ONLY)

constexpr decltype(s7::Kernels::span_weights) span_weights = nullptr;

#else

// f(first, end) for the parts of both spans that lie in one page each.
template <class F> inline void each_part(const s7::Query &query, const F &f) {
    const s7::Span spans[2] = {query.near, query.far};
    for (const s7::Span &span : spans) {
        for (i64 at = span.begin; at < span.end;) {
            const i64 end = least(span.end, (at / s7::kPage + 1) * s7::kPage);
            f(at, end);
            at = end;
        }
    }
}

// Zeros outside the spans, which ascend.
inline void clear_outside(const s7::Query &query, i64 end, i32 *p) {
    i64 at = 0;
    const s7::Span spans[2] = {query.near, query.far};
    for (const s7::Span &span : spans) {
        if (span.begin >= span.end) continue;
        for (; at < span.begin; ++at) p[at] = 0;
        at = span.end;
    }
    for (; at < end; ++at) p[at] = 0;
}

void span_weights(const s7::Head &head, s7::Query &query, i32 *scores, const u32 *steps, u8 *limbs,
                  i64 stride, i64 end) {
    const s7::HeadLayout &at = *head.layout;
    i32 largest = static_cast<i32>(kMin32), low_e = 32767;
    each_part(query, [&](i64 first, i64 last) {
        const i16 *v_e = array<i16>(head.page(first / s7::kPage), at.v_e) + first % s7::kPage;
        for (i64 j = first; j < last; ++j) largest = most(largest, scores[j]);
        for (i64 j = 0; j < last - first; ++j) low_e = least(low_e, i32{v_e[j]});
    });
    u64 sum = 0;
    each_part(query, [&](i64 first, i64 last) {
        u32 part = 0, step[s7::kPage];
        for (i64 j = first; j < last; ++j)
            scores[j] = static_cast<i32>(static_cast<u32>(largest) - static_cast<u32>(scores[j]));
        for (i64 j = first; j < last; ++j)
            step[j - first] = steps[exp2_index(static_cast<u32>(scores[j]))];
        for (i64 j = first; j < last; ++j) {
            scores[j] =
                static_cast<i32>(exp2_negative(static_cast<u32>(scores[j]), step[j - first]));
            part += static_cast<u32>(scores[j]);
        }
        sum += part;
    });
    clear_outside(query, end, scores);
    const i64 n_seen = query.near.end - query.near.begin + query.far.end - query.far.begin;
    const i32 drop = most(bits(sum) - (n_seen > kLongContext ? 23 : 24), 0);
    query.total = static_cast<u32>(sum);
    query.largest = largest;
    query.low = low_e;
    if (drop > 0) {
        query.total = 0;
        for (i64 j = 0; j < end; ++j) {
            scores[j] = rshift_narrow(scores[j], drop);
            query.total += static_cast<u32>(scores[j]);
        }
    }
    for (i64 first = 0; first < end; first += s7::kPage) {
        const u16 *v_m = array<u16>(head.page(first / s7::kPage), at.v_m);
        const i16 *v_e = array<i16>(head.page(first / s7::kPage), at.v_e);
        i32 f[s7::kPage];
        for (i64 j = 0; j < s7::kPage; ++j) {
            // Keys outside the spans have a P of 0 and any exponent.
            const u32 s = static_cast<u32>(least(most(15 + v_e[j] - low_e, 0), 31));
            f[j] =
                static_cast<i32>((((static_cast<u32>(scores[first + j]) * v_m[j]) >> s) + 1) >> 1);
        }
        for (i64 j = 0; j < s7::kPage; j += s7::kPanel)
            store_panel(f + j, limbs, stride, first + j);
    }
}

#endif

}  // namespace
