// What every field of tokenizer.json may be, as tables; and the rules of pieces that the encoder
// has written out.
#pragma once

#include "common.h"

namespace s7f {

enum class Form : u8 {
    kNull,
    kFalse,
    kTrue,
    kBool,
    kInteger,
    kString,
    kStringOrNull,
    kEmptyOrNull,
    kText,  // this text alone
    kList,
    kObject
};

struct Field {
    Slice name;
    Form form;
    bool required;
    Slice text = {};
};

constexpr Field kTop[] = {
    {"version", Form::kText, false, "1.0"}, {"truncation", Form::kNull, false},
    {"padding", Form::kNull, false},        {"added_tokens", Form::kList, true},
    {"normalizer", Form::kNull, false},     {"pre_tokenizer", Form::kObject, true},
    {"post_processor", Form::kNull, false}, {"decoder", Form::kObject, true},
    {"model", Form::kObject, true}};
constexpr Field kAddedToken[] = {
    {"id", Form::kInteger, true},         {"content", Form::kString, true},
    {"single_word", Form::kFalse, false}, {"lstrip", Form::kFalse, false},
    {"rstrip", Form::kFalse, false},      {"normalized", Form::kBool, false},
    {"special", Form::kTrue, true}};
constexpr Field kSequence[] = {{"type", Form::kText, true, "Sequence"},
                               {"pretokenizers", Form::kList, true}};
constexpr Field kSplit[] = {{"type", Form::kText, true, "Split"},
                            {"pattern", Form::kObject, true},
                            {"behavior", Form::kText, true, "Isolated"},
                            {"invert", Form::kFalse, false}};
constexpr Field kPattern[] = {{"Regex", Form::kString, true}};
// Absent, `use_regex` is true to the tokenizers library, which is refused.
constexpr Field kByteLevel[] = {{"type", Form::kText, true, "ByteLevel"},
                                {"add_prefix_space", Form::kFalse, true},
                                {"trim_offsets", Form::kBool, false},
                                {"use_regex", Form::kFalse, true}};
constexpr Field kDecoder[] = {{"type", Form::kText, true, "ByteLevel"},
                              {"add_prefix_space", Form::kBool, false},
                              {"trim_offsets", Form::kBool, false},
                              {"use_regex", Form::kBool, false}};
constexpr Field kBpe[] = {{"type", Form::kText, true, "BPE"},
                          {"dropout", Form::kNull, false},
                          {"unk_token", Form::kStringOrNull, false},
                          {"fuse_unk", Form::kBool, false},
                          {"byte_fallback", Form::kBool, false},
                          {"continuing_subword_prefix", Form::kEmptyOrNull, false},
                          {"end_of_word_suffix", Form::kEmptyOrNull, false},
                          {"ignore_merges", Form::kBool, false},
                          {"vocab", Form::kObject, true},
                          {"merges", Form::kList, true}};
constexpr Field kUnigram[] = {{"type", Form::kText, true, "Unigram"},
                              {"unk_id", Form::kNull, false},
                              {"byte_fallback", Form::kFalse, false},
                              {"vocab", Form::kList, true}};

// The rules of sevenfold.tokenizer.pieces, by their number in native/tokens/tokens.h.
constexpr Slice kPieceRules[] = {
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+|[\\r\\n]+[ \\t]*|"
    "[ \\t]+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};

// The first of these that is reserved precedes every document.
constexpr Slice kBeginnings[] = {"<|endoftext|>", "<bos>", "<s>", "<|begin_of_text|>"};
constexpr Slice kPaddings[] = {"<pad>", "<|pad|>"};
// Special tokens that stand for their own names.
constexpr Slice kMarkers[] = {"<REASON>", "<THINK>", "<FINAL>", "<scratchpad>", "</scratchpad>"};
// What re.escape puts a backslash before.
constexpr Slice kEscaped = "()[]{}?*+-|^$\\.&~# \t\n\r\v\f";

}  // namespace s7f
