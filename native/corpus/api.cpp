// The C interface of s7corpus.h over the classes here.
#include <new>

#include "functions.h"
#include "reader.h"
#include "s7corpus.h"

using namespace s7corpus;

namespace {
struct Handle {
    Handle(const Language &language, bool with_tables) : reader(language, with_tables) {}
    Reader reader;
    Functions functions;
};

Handle &of(void *reader) { return *static_cast<Handle *>(reader); }
}  // namespace

int32_t s7_corpus_abi() { return 4; }

void *s7_reader_new(const void *language, int32_t with_tables) {
    const auto &grammar = *static_cast<const Language *>(language);
    if (grammar.abi_version < 13 || grammar.abi_version > 15) return nullptr;
    try {
        return new Handle(grammar, with_tables);
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

void s7_reader_delete(void *reader) { delete static_cast<Handle *>(reader); }

int32_t s7_read(void *reader, const uint8_t *text, uint32_t n_bytes) {
    try {
        return of(reader).reader.read(text, n_bytes) ? S7_CLEAN : S7_UNSURE;
    } catch (const std::bad_alloc &) {
        return S7_NO_MEMORY;
    }
}

uint32_t s7_n_nodes(const void *reader) {
    const Tree &tree = static_cast<const Handle *>(reader)->reader.tree();
    return tree.nodes[tree.root].n_visible_below + 1;
}

s7_parts s7_find_functions(void *reader, const uint8_t *roles, uint32_t min_nodes) {
    try {
        Functions &functions = of(reader).functions;
        const uint32_t n = functions.find(of(reader).reader, roles, min_nodes);
        return {static_cast<int32_t>(n), functions.bytes.data(), functions.ends.data(),
                functions.bytes.size()};
    } catch (const std::bad_alloc &) {
        return {S7_NO_MEMORY, nullptr, nullptr, 0};
    }
}

s7_parts s7_write_function(void *reader, uint32_t i) {
    try {
        Functions &functions = of(reader).functions;
        const uint32_t n = functions.write(i);
        return {static_cast<int32_t>(n), functions.bytes.data(), nullptr, functions.bytes.size()};
    } catch (const std::bad_alloc &) {
        return {S7_NO_MEMORY, nullptr, nullptr, 0};
    }
}

s7_parts s7_as_functions(void *reader, const uint8_t *parts, uint64_t n_bytes, uint32_t min_parts) {
    try {
        Functions &functions = of(reader).functions;
        const uint32_t n = functions.as_functions(parts, n_bytes, min_parts);
        return {static_cast<int32_t>(n), functions.bytes.data(), functions.ends.data(),
                functions.bytes.size()};
    } catch (const std::bad_alloc &) {
        return {S7_NO_MEMORY, nullptr, nullptr, 0};
    }
}
