// Both directions use integers of as many bits as needed. Only the end result is rounded.
#include "decimal.h"

#include <bit>

namespace s7f {

namespace {

// Digits of a literal that can decide its double; behind them only whether one is not zero counts.
constexpr i64 kMaxDigits = 800;

// An unsigned integer of up to 6,400 bits: 10^1140 takes 3,800, and a shift 1,100 more.
class Big {
  public:
    explicit Big(u64 value = 0) {
        for (; value != 0; value >>= 32) words_[n_++] = static_cast<u32>(value);
    }
    void times_plus(u32 factor, u32 plus) {
        u64 carry = plus;
        for (int i = 0; i < n_; ++i) {
            carry += u64{words_[i]} * factor;
            words_[i] = static_cast<u32>(carry);
            carry >>= 32;
        }
        if (carry != 0) words_[n_++] = static_cast<u32>(carry);
    }
    void times_ten_to(i64 power) {
        for (; power >= 9; power -= 9) times_plus(1000000000, 0);
        for (; power > 0; --power) times_plus(10, 0);
    }
    void shift(i64 bits) {
        if (n_ == 0) return;
        const int words = static_cast<int>(bits / 32), rest = static_cast<int>(bits % 32);
        for (int i = n_; i >= 0; --i) {
            const u64 high = i < n_ ? words_[i] : 0, low = i > 0 ? words_[i - 1] : 0;
            words_[i + words] = static_cast<u32>((high << 32 | low) << rest >> 32);
        }
        for (int i = 0; i < words; ++i) words_[i] = 0;
        n_ += words + 1;
        trim();
    }
    // 1 bit less; the lowest must be 0 or not be missed.
    void halve() {
        for (int i = 0; i < n_; ++i)
            words_[i] = words_[i] >> 1 | (i + 1 < n_ ? words_[i + 1] << 31 : 0);
        trim();
    }
    void subtract(const Big &other) {
        i64 borrow = 0;
        for (int i = 0; i < n_; ++i) {
            borrow += i64{words_[i]} - (i < other.n_ ? other.words_[i] : 0);
            words_[i] = static_cast<u32>(borrow);
            borrow >>= 32;
        }
        trim();
    }
    void add(const Big &other) {
        u64 carry = 0;
        const int n = n_ > other.n_ ? n_ : other.n_;
        for (int i = 0; i < n; ++i) {
            carry += u64{i < n_ ? words_[i] : 0} + (i < other.n_ ? other.words_[i] : 0);
            words_[i] = static_cast<u32>(carry);
            carry >>= 32;
        }
        n_ = n;
        if (carry != 0) words_[n_++] = static_cast<u32>(carry);
    }
    int compare(const Big &other) const {
        if (n_ != other.n_) return n_ < other.n_ ? -1 : 1;
        for (int i = n_; i-- > 0;)
            if (words_[i] != other.words_[i]) return words_[i] < other.words_[i] ? -1 : 1;
        return 0;
    }
    bool is_zero() const { return n_ == 0; }
    i64 n_bits() const { return n_ == 0 ? 0 : 32 * n_ - std::countl_zero(words_[n_ - 1]); }

  private:
    void trim() {
        while (n_ > 0 && words_[n_ - 1] == 0) --n_;
    }
    u32 words_[200] = {};
    int n_ = 0;
};

struct Literal {
    Big digits;
    u64 small = 0;     // the same, while it fits
    i64 n_digits = 0;  // significant ones that were taken
    i64 power = 0;     // of ten behind them
    bool negative = false;
};

void take_digit(Literal &at, char c, bool fraction) {
    if (at.n_digits == 0 && c == '0') {
        at.power -= fraction;
        return;
    }
    if (at.n_digits < kMaxDigits) {
        at.digits.times_plus(10, static_cast<u32>(c - '0'));
        if (at.n_digits < 18) at.small = at.small * 10 + static_cast<u64>(c - '0');
        ++at.n_digits;
        at.power -= fraction;
        return;
    }
    at.power += !fraction;
    // One more digit stands for all that follow: it breaks a tie.
    if (c != '0' && at.n_digits == kMaxDigits) {
        at.digits.times_plus(10, 1);
        at.power -= 1;
        ++at.n_digits;
    }
}

Literal read(const Slice &text) {
    Literal at;
    size_t i = 0;
    if (i < text.n && text.data[i] == '-') at.negative = true, ++i;
    bool fraction = false;
    for (; i < text.n && (text.data[i] == '.' || (text.data[i] >= '0' && text.data[i] <= '9'));
         ++i) {
        if (text.data[i] == '.') {
            fraction = true;
        } else {
            take_digit(at, text.data[i], fraction);
        }
    }
    if (i < text.n) {  // e or E
        bool down = false;
        i64 power = 0;
        for (++i; i < text.n; ++i) {
            if (text.data[i] == '-') down = true;
            if (text.data[i] >= '0' && text.data[i] <= '9' && power < 1000000000)
                power = power * 10 + (text.data[i] - '0');
        }
        at.power += down ? -power : power;
    }
    return at;
}

// num / den, not 0, as the nearest double.
double quotient(Big num, Big den) {
    // 2^52 <= num / den * 2^-e < 2^53, or the least exponent that there is.
    i64 e = num.n_bits() - den.n_bits() - 53;
    if (e < -1074) e = -1074;
    for (;; ++e) {
        Big scaled = num, unit = den;
        if (e < 0) scaled.shift(-e);
        if (e > 0) unit.shift(e);
        Big top = unit;
        top.shift(53);
        if (scaled.compare(top) >= 0) continue;
        u64 mantissa = 0;
        for (int bit = 0; bit < 53; ++bit) {
            top.halve();
            mantissa <<= 1;
            if (scaled.compare(top) >= 0) scaled.subtract(top), mantissa |= 1;
        }
        scaled.shift(1);  // twice the rest against the unit
        const int rest = scaled.compare(unit);
        if (rest > 0 || (rest == 0 && mantissa % 2 == 1)) ++mantissa;
        if (mantissa == u64{1} << 53) mantissa >>= 1, ++e;
        if (e > 971) return std::bit_cast<double>(u64{0x7FF} << 52);
        const bool normal = mantissa >> 52 != 0;
        const u64 exponent = normal ? static_cast<u64>(e + 1075) : 0;
        return std::bit_cast<double>(exponent << 52 | (mantissa & ((u64{1} << 52) - 1)));
    }
}

double magnitude(const Literal &at) {
    static constexpr double kTens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (at.n_digits == 0) return 0;
    // Both sides are exact, so one product or quotient is rounded once.
    if (at.n_digits <= 15 && at.power >= -22 && at.power <= 22)
        return at.power < 0 ? static_cast<double>(at.small) / kTens[-at.power]
                            : static_cast<double>(at.small) * kTens[at.power];
    if (at.n_digits + at.power > 310) return std::bit_cast<double>(u64{0x7FF} << 52);
    if (at.n_digits + at.power < -330) return 0;
    Big num = at.digits, den(1);
    if (at.power > 0) num.times_ten_to(at.power);
    if (at.power < 0) den.times_ten_to(-at.power);
    return quotient(num, den);
}

// The shortest digits between the neighbours' halves, nearest to the value: 0.DIGITS * 10^point.
struct Digits {
    char digit[20];
    int n = 0;
    i64 point = 0;
};

void carry_up(Digits &found) {
    int i = found.n;
    while (i > 0 && found.digit[i - 1] == '9') --i;
    if (i == 0) {
        found.digit[0] = '1';
        found.n = 1;
        ++found.point;
        return;
    }
    ++found.digit[i - 1];
    found.n = i;
}

Digits shortest(double value) {
    const u64 bits = std::bit_cast<u64>(value), fraction = bits & ((u64{1} << 52) - 1);
    const i64 exponent = static_cast<i64>(bits >> 52 & 0x7FF);
    const u64 mantissa = exponent == 0 ? fraction : fraction | u64{1} << 52;
    const i64 e = exponent == 0 ? -1074 : exponent - 1075;
    const bool even = mantissa % 2 == 0, at_power = fraction == 0 && exponent > 1;
    // value = r / s; half the way to the neighbours above and below: up / s and down / s.
    Big r(mantissa), s(1), up(1), down(1);
    r.shift(at_power ? 2 : 1);
    s.shift(at_power ? 2 : 1);
    if (at_power) up.shift(1);
    if (e >= 0) r.shift(e), up.shift(e), down.shift(e);
    if (e < 0) s.shift(-e);
    Digits found;
    // An estimate of the decimal point that is at most one too low.
    const i64 n_bits = e + (64 - std::countl_zero(mantissa));
    found.point = (n_bits - 1) * 30103 / 100000 - (n_bits - 1 < 0 ? 1 : 0);
    if (found.point > 0) s.times_ten_to(found.point);
    if (found.point < 0)
        r.times_ten_to(-found.point), up.times_ten_to(-found.point),
            down.times_ten_to(-found.point);
    const auto too_high = [&] {
        Big sum = r;
        sum.add(up);
        const int order = sum.compare(s);
        return order > 0 || (order == 0 && even);
    };
    while (too_high()) s.times_plus(10, 0), ++found.point;
    for (;;) {
        r.times_plus(10, 0), up.times_plus(10, 0), down.times_plus(10, 0);
        int digit = 0;
        for (; r.compare(s) >= 0; ++digit) r.subtract(s);
        const int order = r.compare(down);
        const bool low = order < 0 || (order == 0 && even), high = too_high();
        found.digit[found.n++] = static_cast<char>('0' + digit);
        if (!low && !high) continue;
        r.shift(1);
        const int half = r.compare(s);
        if (high && (!low || half > 0 || (half == 0 && digit % 2 == 1))) carry_up(found);
        return found;
    }
}

}  // namespace

double parse_double(const Slice &literal) {
    const Literal at = read(literal);
    const double found = magnitude(at);
    return at.negative ? -found : found;
}

size_t repr_double(double value, char to[kDoubleRoom]) {
    size_t n = 0;
    const auto put = [&](char c) { to[n++] = c; };
    if (std::bit_cast<u64>(value) >> 63 != 0) put('-'), value = -value;
    Digits found;
    if (value == 0) {
        found.digit[0] = '0', found.n = 1, found.point = 1;
    } else {
        found = shortest(value);
    }
    if (found.point > -4 && found.point <= 16) {
        if (found.point <= 0) put('0'), put('.');
        for (i64 i = found.point; i < 0; ++i) put('0');
        for (i64 i = 0; i < found.n || i < found.point; ++i) {
            if (i > 0 && i == found.point) put('.');
            put(i < found.n ? found.digit[i] : '0');
        }
        if (found.n <= found.point) put('.'), put('0');
        return n;
    }
    put(found.digit[0]);
    if (found.n > 1) put('.');
    for (int i = 1; i < found.n; ++i) put(found.digit[i]);
    const i64 power = found.point - 1, size = power < 0 ? -power : power;
    put('e'), put(power < 0 ? '-' : '+');
    if (size >= 100) put(static_cast<char>('0' + size / 100));
    put(static_cast<char>('0' + size / 10 % 10));
    put(static_cast<char>('0' + size % 10));
    return n;
}

}  // namespace s7f
