/* The floating-point mode of a thread: round to nearest even, subnormals kept, no traps. Any
 * library may have changed it. */
#ifndef S7_TRAIN_MODE_H
#define S7_TRAIN_MODE_H

#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace s7train {

/* Sets the mode and reads it back. `is_set` says whether it was set. The destructor restores the
 * mode that was found. */
class FloatMode {
  public:
    FloatMode() : found_(read()) {
        write(kPlain);
        is_set_ = (read() & kDecides) == (kPlain & kDecides);
    }
    ~FloatMode() { write(found_); }
    FloatMode(const FloatMode &) = delete;
    FloatMode &operator=(const FloatMode &) = delete;
    bool is_set() const { return is_set_; }

  private:
#if defined(__x86_64__)
    static constexpr std::uint64_t kPlain = 0x1F80,
                                   kDecides =
                                       0xFFC0; /* the low six bits record what has happened */
    static std::uint64_t read() { return _mm_getcsr(); }
    static void write(std::uint64_t value) { _mm_setcsr(static_cast<unsigned>(value)); }
#elif defined(__aarch64__)
    static constexpr std::uint64_t
        kPlain = 0,
        kDecides = 0x07FF9F07; /* AHP, DN, FZ, RMode, Stride, FZ16, Len, traps, NEP, AH, FIZ */
    static std::uint64_t read() {
        std::uint64_t value;
        asm volatile("mrs %0, fpcr" : "=r"(value));
        return value;
    }
    static void write(std::uint64_t value) { asm volatile("msr fpcr, %0" : : "r"(value)); }
#else
#error "this processor's floating-point mode is not known"
#endif
    std::uint64_t found_;
    bool is_set_ = false;
};

}  // namespace s7train
#endif
