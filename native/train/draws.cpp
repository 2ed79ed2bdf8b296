// Draws and tables of specs/training-arithmetic.md: a counter-based generator, normal deviates,
// dropout, and the angles of RoPE.
//
// Everything is computed element by element in binary64, so one source serves every instruction
// set. `std::fma` is one instruction here.

#include "arithmetic.h"
#include "logarithm.h"
#include "mode.h"
#include "operators.h"
#include "philox.h"
#include "threads.h"

#include <algorithm>
#include <cmath>

namespace s7train {
namespace {

constexpr std::size_t kBlocks = 1 << 12;  // of a task, of four words each

// The draws of a call.
struct Draws {
    std::uint64_t key, stream;
};

constexpr double kFactorial[] = {1.0,
                                 1.0,
                                 2.0,
                                 6.0,
                                 24.0,
                                 120.0,
                                 720.0,
                                 5040.0,
                                 40320.0,
                                 362880.0,
                                 3628800.0,
                                 39916800.0,
                                 479001600.0,
                                 6227020800.0,
                                 87178291200.0,
                                 1307674368000.0,
                                 20922789888000.0};

struct Turn {
    double cosine, sine;
};

// The Taylor series of cosine and sine on [-pi/4, pi/4] from the highest power down, then the
// quarter turns.
Turn turn_of(double r, std::int64_t quarters) {
    const double z = r * r;
    double s = -1.0 / kFactorial[15], c = 1.0 / kFactorial[16];
    for (int odd = 13; odd >= 3; odd -= 2)
        s = std::fma(s, z, (odd % 4 == 1 ? 1.0 : -1.0) / kFactorial[odd]);
    for (int even = 14; even >= 2; even -= 2)
        c = std::fma(c, z, (even % 4 == 0 ? 1.0 : -1.0) / kFactorial[even]);
    s = std::fma(s * z, r, r);
    c = std::fma(c, z, 1.0);
    switch (quarters & 3) {
        case 0:
            return {c, s};
        case 1:
            return {-s, c};
        case 2:
            return {-c, -s};
        default:
            return {s, -c};
    }
}

Turn turn_of_angle(double angle) {
    const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to a whole number
    const double n = std::fma(angle, 0.6366197723675814, magic) - magic;
    double r = std::fma(n, -1.5707963267948966, angle);
    r = std::fma(n, -6.123233995736766e-17, r);
    return turn_of(r, static_cast<std::int64_t>(n));
}

// Two normal deviates from two words (Box and Muller 1958).
Turn normals(std::uint32_t radius, std::uint32_t angle) {
    const double u = (static_cast<double>(radius) + 1.0) * 0x1p-32;  // (0, 1]
    const double length = std::sqrt(-2.0 * logarithm(u));
    const double r =
        static_cast<double>(static_cast<std::int32_t>(angle << 2)) * (1.5707963267948966 * 0x1p-32);
    const Turn turn = turn_of(r, angle >> 30);
    return {length * turn.cosine, length * turn.sine};
}

// Calls `work(words, element, count)` with the words of `n` elements from `first`, one block of
// four at a time.
template <class Work>
int32_t each_block(std::uint64_t first, int64_t n, int32_t n_threads, const Draws &draws,
                   const Work &work) {
    if (!operators()) return S7_TRAIN_NOT_HERE;
    if (n < 0 || n_threads < 1 || n_threads > 64) return S7_TRAIN_SHAPE;
    const std::uint64_t end = first + static_cast<std::uint64_t>(n), begin_block = first / 4,
                        end_block = (end + 3) / 4;
    const auto n_tasks =
        static_cast<std::size_t>((end_block - begin_block + kBlocks - 1) / kBlocks);
    std::atomic<bool> is_lost{false};
    each(n ? n_tasks : 0, n_threads, [&](std::size_t task, std::size_t) {
        const FloatMode mode;
        if (!mode.is_set()) is_lost = true;
        const std::uint64_t from = begin_block + task * kBlocks,
                            to = std::min(end_block, from + kBlocks);
        for (std::uint64_t block = from; block < to; ++block) {
            const Words words = philox(draws.key, draws.stream, block);
            for (std::uint64_t i = std::max(first, 4 * block); i < std::min(end, 4 * block + 4);
                 ++i)
                work(words, i, i - first);
        }
    });
    return is_lost ? S7_TRAIN_MODE : S7_TRAIN_OK;
}

}  // namespace
}  // namespace s7train

using namespace s7train;

int32_t s7_normal(uint64_t key, uint64_t stream, uint64_t first, double std, float *to, int64_t n,
                  int32_t n_threads) {
    return each_block(first, n, n_threads, {key, stream},
                      [&](const Words &words, std::uint64_t element, std::uint64_t place) {
                          const std::size_t pair = element & 2;
                          const Turn both = normals(words.of[pair], words.of[pair + 1]);
                          to[place] =
                              static_cast<float>((element & 1 ? both.sine : both.cosine) * std);
                      });
}

int32_t s7_dropout(uint64_t key, uint64_t stream, uint32_t threshold, float factor, const float *x,
                   float *y, int64_t n, int32_t n_threads) {
    return each_block(0, n, n_threads, {key, stream},
                      [&](const Words &words, std::uint64_t element, std::uint64_t place) {
                          y[place] = words.of[element & 3] < threshold ? 0.0f : x[place] * factor;
                      });
}

int32_t s7_rotation_tables(const double *frequency, double temperature, float *cosine, float *sine,
                           int64_t length, int64_t n_pairs) {
    if (!operators()) return S7_TRAIN_NOT_HERE;
    if (length < 0 || length > 1 << 24 || n_pairs < 1) return S7_TRAIN_SHAPE;
    const FloatMode mode;
    if (!mode.is_set()) return S7_TRAIN_MODE;
    for (int64_t position = 0; position < length; ++position)
        for (int64_t i = 0; i < n_pairs; ++i) {
            const Turn turn = turn_of_angle(static_cast<double>(position) * frequency[i]);
            cosine[position * n_pairs + i] = static_cast<float>(turn.cosine * temperature);
            sine[position * n_pairs + i] = static_cast<float>(turn.sine * temperature);
        }
    return S7_TRAIN_OK;
}

int32_t s7_sum(const float *x, int64_t n, double *sum) {
    const FloatMode mode;
    if (!mode.is_set()) return S7_TRAIN_MODE;
    double all = 0.0;
    for (int64_t i = 0; i < n; ++i) all += static_cast<double>(x[i]);
    *sum = all;
    return S7_TRAIN_OK;
}
