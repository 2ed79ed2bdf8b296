/* The words that every draw of a run comes from. */
#ifndef S7_TRAIN_PHILOX_H
#define S7_TRAIN_PHILOX_H

#include "anywhere.h"

#include <cstdint>

namespace s7train {

struct Words {
    std::uint32_t of[4];
};

/* Philox4x32-10 (Salmon et al. 2011): the counter is (block, stream), the key is `key`. */
S7_ANYWHERE inline Words philox(std::uint64_t key, std::uint64_t stream, std::uint64_t block) {
    std::uint32_t c0 = static_cast<std::uint32_t>(block),
                  c1 = static_cast<std::uint32_t>(block >> 32);
    std::uint32_t c2 = static_cast<std::uint32_t>(stream),
                  c3 = static_cast<std::uint32_t>(stream >> 32);
    std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = 0xD2511F53ULL * c0, p1 = 0xCD9E8D57ULL * c2;
        const std::uint32_t n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0,
                            n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c1 = static_cast<std::uint32_t>(p1);
        c3 = static_cast<std::uint32_t>(p0);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9U;
        k1 += 0xBB67AE85U;
    }
    return {{c0, c1, c2, c3}};
}

}  // namespace s7train
#endif
