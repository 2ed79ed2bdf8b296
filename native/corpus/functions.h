// Writes the functions of a clean text as the bytes that sevenfold.corpus.text.functions hashes.
// Equal trees give equal bytes.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "reader.h"

namespace s7corpus {

// What a kind of node is, by its symbol; the caller's tables, see functions.py.
enum Role : uint8_t {
    PLAIN,
    SKIPPED,
    TRANSPARENT,
    OPAQUE,
    IDENTIFIER,
    STATEMENT,
    FUNCTION,
    PARAMETERS,
    BLOCK
};

class Functions {
  public:
    // Finds the functions of `min_nodes` nodes and more below the root, and writes their shapes.
    // Returns how many.
    uint32_t find(const Reader &reader, const uint8_t *roles, uint32_t min_nodes);
    // Parts of function `i`, each behind its length (u64, big-endian), in `bytes`; returns their
    // number.
    uint32_t write(uint32_t i);

    // The forms of a function, as `write` gives it, without a first parameter that it does not use
    // and without plain defaults; those of `min_parts` parts and more, in `bytes`, with their
    // `ends`. Returns how many.
    uint32_t as_functions(const uint8_t *parts, uint64_t n_bytes, uint32_t min_parts);

    std::vector<uint8_t>
        bytes;  // of shapes, one behind the other; then of the function written last, or its forms
    std::vector<uint32_t> ends;  // of the shapes, or the forms

  private:
    uint16_t first_named(uint32_t node, uint32_t &n_named) const;
    void shape(uint32_t function);
    void put(std::string_view part);
    void put_form(const std::vector<std::string_view> &parts, bool has_receiver);
    Role role(uint16_t kind) const { return static_cast<Role>(roles_[kind]); }

    const Reader *reader_ = nullptr;
    const uint8_t *roles_ = nullptr;
    std::vector<uint32_t> found_;
    std::vector<Visible> waiting_, around_;
    std::unordered_map<std::string_view, uint32_t> names_;
};

}  // namespace s7corpus
