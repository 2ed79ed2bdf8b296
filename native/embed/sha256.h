// SHA-256 (FIPS 180-4), with the processor's own instructions where it has them; digests of tagged
// parts, and the two Merkle roots of specs/artifact.md.
#pragma once

#include "common.h"

namespace s7f {

struct Digest {
    u8 bytes[kDigest];
    bool operator==(const Digest &other) const {
        return std::memcmp(bytes, other.bytes, kDigest) == 0;
    }
};

class Sha256 {
  public:
    Sha256();
    void add(const void *data, size_t n);
    void add(const Slice &text) { add(text.data, text.n); }
    Digest digest();

  private:
    u32 state_[8];
    u8 block_[64];
    u64 n_bytes_ = 0;
};

Digest sha256(const void *data, size_t n);

// Hex in lower case, not ended by 0.
void hex(const Digest &digest, char to[kHex]);
struct Hex {
    char text[kHex + 1];
    explicit Hex(const Digest &digest) {
        hex(digest, text);
        text[kHex] = 0;
    }
    Slice slice() const { return {text, kHex}; }
};

// D(tag, parts...) of specs/verification.md: each part preceded by its length as u64.
class TaggedDigest {
  public:
    explicit TaggedDigest(const Slice &tag) { part(tag); }
    TaggedDigest &part(const Slice &text) { return begin(text.n), add(text), *this; }
    // A part in pieces, `n_bytes` of them in all.
    void begin(u64 n_bytes);
    void add(const Slice &piece) { hash_.add(piece); }
    Hex hex() { return Hex(hash_.digest()); }

  private:
    Sha256 hash_;
};

// RFC 6962 over leaves that are hashed already (see `leaf_hash`); digests are overwritten.
Digest leaf_hash(const void *leaf, size_t n);
Digest merkle_fold(Digest *level, size_t n);
// The published root: neighbours paired, an odd last one with itself. Digests are overwritten;
// there is room for one more.
Digest paired_fold(Digest *level, size_t n);

}  // namespace s7f
