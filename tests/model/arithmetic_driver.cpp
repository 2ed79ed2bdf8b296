// Every call of native/train/arithmetic.h on numbers that follow from whole ones, and one hash of
// all results.

#include "arithmetic.h"
#include "hybrid.h"

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

std::uint64_t state = 88172645463325252ULL, hash = 14695981039346656037ULL;

std::vector<float> numbers(std::size_t n) {
    std::vector<float> found(n);
    for (float &value : found) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value = static_cast<float>(static_cast<std::int32_t>(state >> 33) - (1 << 30)) * 0x1p-29f;
    }
    return found;
}

template <class T> void told(const std::vector<T> &values) {
    const auto *bytes = reinterpret_cast<const unsigned char *>(values.data());
    for (std::size_t i = 0; i < values.size() * sizeof(T); ++i)
        hash = (hash ^ bytes[i]) * 1099511628211ULL;
}

void check(std::int32_t code) {
    if (code) std::printf("refused %d\n", code);
}

void products() {
    const std::int64_t shapes[][3] = {{1, 1, 1}, {17, 400, 35}, {61, 50, 70}, {30, 700, 9}};
    for (const auto &[m, k, n] : shapes) {
        const auto a = numbers(m * k), b = numbers(k * n);
        std::vector<float> c(m * n);
        s7_product_of p{a.data(), b.data(), c.data(), m, n, k, k, 1, n, 1, n, 0, 2};
        check(s7_product(&p));
        told(c);
        p.b_row = 1, p.b_column = k, p.is_added = 1;
        check(s7_product(&p));
        told(c);
        p.a_row = 1, p.a_column = m;
        check(s7_product(&p));
        told(c);
    }
}

void rows() {
    const std::int64_t n_rows = 9, n = 53;
    const auto x = numbers(n_rows * n), gain = numbers(n), grad = numbers(n_rows * n);
    std::vector<float> y(n_rows * n), z(n_rows * n), scale(n_rows), sums(n);
    check(s7_norm(x.data(), gain.data(), 1e-5f, y.data(), scale.data(), n_rows, n, 2));
    told(y);
    check(s7_norm_slope(x.data(), gain.data(), scale.data(), grad.data(), x.data(), y.data(),
                        sums.data(), n_rows, n, 2));
    told(y), told(sums);
    check(s7_gate(x.data(), grad.data(), y.data(), n_rows * n, 2));
    told(y);
    check(s7_gate_slope(x.data(), grad.data(), x.data(), y.data(), z.data(), n_rows * n, 2));
    told(y), told(z);
    std::vector<std::int64_t> target(n_rows);
    for (std::int64_t i = 0; i < n_rows; ++i) target[i] = i * 5;
    y = x;
    s7_losses_of losses{y.data(), target.data(), gain.data(), scale.data(), n_rows, n, 2};
    check(s7_losses(&losses));
    told(y), told(scale);
    check(s7_scatter_add(target.data(), grad.data(), y.data(), n_rows, n_rows, 1, 2) ==
                  S7_TRAIN_SHAPE
              ? 0
              : 9);
    for (auto &id : target) id %= 4;
    check(s7_scatter_add(target.data(), grad.data(), y.data(), n_rows, n_rows, n, 2));
    check(s7_add(x.data(), y.data(), y.data(), n_rows * n, 2));
    check(s7_scale(y.data(), 0.3f, y.data(), n_rows * n, 2));
    told(y);
    check(s7_row_squares(x.data(), scale.data(), n_rows, n, 2));
    told(scale);
    std::vector<float> weight = x, mean = numbers(n_rows * n), square = grad;
    for (float &value : square) value *= value;
    s7_adam_of adam{weight.data(), mean.data(), square.data(), grad.data(), n_rows * n,
                    0.9f,          0.1f,        0.95f,         0.05f,       1e-3f,
                    0.2f,          1e-8f,       0.99f,         0.0f,        2};
    check(s7_adam(&adam));
    told(weight), told(mean), told(square);
    std::vector<float> tiny(40, 0x1p-140f);
    check(s7_add(tiny.data(), tiny.data(), tiny.data(), 40, 2));
    told(tiny);
}

void attention() {
    const s7_attention_shape shape{2, 4, 2, 61, 32, 2, 24};
    const std::size_t one = 61 * 32;
    const auto q = numbers(8 * one), k = numbers(4 * one), v = numbers(4 * one),
               grad = numbers(8 * one);
    std::vector<float> y(8 * one), sums(8 * 61), grad_q(8 * one), grad_k(4 * one), grad_v(4 * one);
    check(s7_attention_forward(&shape, q.data(), k.data(), v.data(), y.data(), sums.data()));
    check(s7_attention_backward(&shape, q.data(), k.data(), v.data(), y.data(), sums.data(),
                                grad.data(), grad_q.data(), grad_k.data(), grad_v.data()));
    told(y), told(sums), told(grad_q), told(grad_k), told(grad_v);
}

void hybrid() {
    const s7_hybrid_shape shape{{2, 4, 2, 61, 32, 2, 24}, 20, 4, 5, 1.25f};
    const std::size_t one = 61 * 32;
    const auto q = numbers(8 * one), q_turned = numbers(8 * one), k = numbers(4 * one),
               k_turned = numbers(4 * one), v = numbers(4 * one), score = numbers(8 * 61),
               grad = numbers(8 * one);
    const s7_hybrid_inputs in{q.data(),        q_turned.data(), k.data(),
                              k_turned.data(), v.data(),        score.data()};
    std::vector<float> y(8 * one), sums(8 * 61), to[6];
    for (int i = 0; i < 6; ++i) to[i].resize(i < 2 ? 8 * one : i < 5 ? 4 * one : 8 * 61);
    const s7_hybrid_slopes out{to[0].data(), to[1].data(), to[2].data(),
                               to[3].data(), to[4].data(), to[5].data()};
    check(s7_hybrid_forward(&shape, &in, y.data(), sums.data()));
    check(s7_hybrid_backward(&shape, &in, y.data(), sums.data(), grad.data(), &out));
    told(y), told(sums);
    for (const auto &slope : to) told(slope);
}

void draws() {
    const double frequency[] = {1.0, 0.1, 1e-4};
    std::vector<float> cosine(900), sine(900), x(777), y(777);
    check(s7_rotation_tables(frequency, 1.25, cosine.data(), sine.data(), 300, 3));
    told(cosine), told(sine);
    check(s7_normal(0x0123456789ABCDEFULL, 5, 3, 0.02, x.data(), 777, 2));
    check(s7_dropout(7, 1, 1u << 30, 1.5f, x.data(), y.data(), 777, 2));
    told(x), told(y);
    const s7_turn turn{x.data(), cosine.data(), sine.data(), y.data(), 1, 2,  60, 3,
                       0,        360,           6,           0,        6, 12, -1, 2};
    check(s7_rotate(&turn));
    told(y);
    double sum = 0;
    check(s7_sum(x.data(), 777, &sum));
    told(std::vector<double>{sum});
}

}  // namespace

int main() {
    if (!s7_arithmetic_available()) return std::puts("not here"), 1;
    products();
    rows();
    attention();
    hybrid();
    draws();
    std::printf("%d %016llx\n", s7_arithmetic_isa(), static_cast<unsigned long long>(hash));
}
