// Fills in refusals: a code with what, where and remedy. Each code has its text.
#include <cstdarg>
#include <cstdio>

#include "common.h"

namespace s7f {

namespace {

constexpr char kAgain[] = "get the file again from its source";

// The remedy for a code, unless a call states a better one.
const char *remedy_of(s7f_status status) {
    switch (status) {
        case S7F_NULL:
            return "give every pointer that the header asks for; a closed handle is NULL";
        case S7F_MEMORY:
            return "give the process more memory, or use a smaller model";
        case S7F_CLOSED:
            return "open a session first";
        case S7F_BUSY:
            return "use one session in one thread at a time";
        case S7F_STORAGE:
            return "check the path and its mode";
        case S7F_GATE:
            return "of the control characters only TAB, LF and CR are text";
        case S7F_CONTEXT:
            return "shorten the prompt, or ask for fewer tokens";
        case S7F_IDS:
            return "give ids of this model's vocabulary";
        case S7F_SESSIONS:
            return "close a session, or raise max_sessions";
        case S7F_NEWER_VERSION:
            return "install a newer library";
        case S7F_EARLIER_FORM:
        case S7F_ANONYMOUS:
        case S7F_GRAPH:
        case S7F_TOKENIZER:
            return "seal the model again with `s7 seal`";
        case S7F_PUBLISHED:
        case S7F_HEADER_ONLY:
            return "use a model that `s7 seal` wrote";
        case S7F_SELF_TEST:
            return "do not use this build on this machine; please report it";
        case S7F_UNVERIFIED:
            return "`s7 verify` shows every rule; get the file again from its maker";
        default:
            return status >= S7F_MAGIC ? kAgain : "see sevenfold.h";
    }
}

}  // namespace

void printable(char *text) {
    for (; *text != 0; ++text)
        if (*text < 0x20 || *text > 0x7E) *text = '?';
}

s7f_status refuse(s7f_error *error, s7f_status status, const char *where, const char *what, ...) {
    if (error == nullptr) return status;
    error->status = status;
    std::va_list arguments;
    va_start(arguments, what);
    std::vsnprintf(error->what, sizeof error->what, what, arguments);
    va_end(arguments);
    std::snprintf(error->where, sizeof error->where, "%s", where);
    std::snprintf(error->remedy, sizeof error->remedy, "%s", remedy_of(status));
    printable(error->what);
    printable(error->where);
    return status;
}

s7f_status with_remedy(s7f_error *error, s7f_status status, const char *remedy) {
    if (error != nullptr) std::snprintf(error->remedy, sizeof error->remedy, "%s", remedy);
    return status;
}

s7f_status no_memory(s7f_error *error) {
    return refuse(error, S7F_MEMORY, "", "not enough memory");
}

}  // namespace s7f

int32_t s7f_abi(void) { return S7F_ABI; }

const char *s7f_version(void) { return S7F_LIBRARY_VERSION; }

const char *s7f_status_text(s7f_status status) {
    // In the order of the enumeration, from 0 and from S7F_MAGIC.
    static constexpr const char *kCalls[] = {
        "no error",
        "a pointer is missing, or a handle is closed",
        "an argument that the call does not take",
        "not enough memory",
        "the session is closed",
        "another thread is using the session",
        "the buffer is too short",
        "the file cannot be read",
        "the CM-1 gate refuses it",
        "more positions than the context has",
        "no ids, or an id outside the vocabulary",
        "a number of threads that cannot be had",
        "an instruction set that is not here",
        "too many sessions are open",
        "the caller asked to stop",
    };
    static constexpr const char *kFiles[] = {
        "not an artifact",
        "a version that never existed",
        "a version after this library",
        "a form from before version 3",
        "a file of the published contract",
        "an unknown class",
        "a flag without a meaning",
        "the file ends too early",
        "a cap is passed",
        "an unknown lane id",
        "a lane was changed",
        "a lane is there twice",
        "the root does not match",
        "a record passes the end of its lane",
        "a tensor's name is refused",
        "a tensor is there twice",
        "a rank is refused",
        "a dimension is zero",
        "padding is not zero",
        "a required tensor is missing",
        "a payload is no JSON object",
        "a key is there twice",
        "a payload has no kind, or one of another lane",
        "the seal is missing or wrong",
        "a chunk was changed",
        "the file does not say where it comes from",
        "the file is a header alone",
        "a rule does not hold",
        "the graph or a record is not that of the integer law",
        "DICT is no tokenizer of this library",
        "other logits than the sealed ones",
    };
    const int code = static_cast<int>(status);
    if (code >= 0 && code < static_cast<int>(sizeof kCalls / sizeof *kCalls)) return kCalls[code];
    const int cause = code - S7F_MAGIC;
    if (cause >= 0 && cause < static_cast<int>(sizeof kFiles / sizeof *kFiles))
        return kFiles[cause];
    return "an unknown status";
}
