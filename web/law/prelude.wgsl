// Fixed point of specs/arithmetic.md, section 2, on 32-bit integers (section 5, R1 to R10). A host puts this text before
// that of an operation; each operation is one entry point over storage buffers. Codes are four i8 in a u32, lowest byte
// first, each row padded to whole words with zeros; a scale is two i32 (m, e); a row of .rows is m << 16 | s.

@group(0) @binding(0) var<storage, read> tables: array<u32>;  // exp2, sigmoid, rsqrt, one after the other
@group(0) @binding(1) var<storage, read> sizes: array<i32>;   // what each operation says it needs

const SIGMOID_AT = 65u;
const RSQRT_AT = 578u;
const MOST = 2147483647;
const LEAST = -2147483647 - 1;
const CODE_MAX = 127;
const LANES = 64u;

struct Scale { m: u32, e: i32 }

fn bits(v: u32) -> i32 { return 32 - i32(countLeadingZeros(v)); }

fn rshift(a: i32, s: i32) -> i32 {  // R1, s >= 0
    if (s == 0) { return a; }
    let b = a >> u32(min(s - 1, 31));
    return (b >> 1u) + (b & 1);
}

fn mulsh(a: i32, m: u32, s: i32) -> i32 {  // R2
    let lo = u32(a & 0xffff) * m;
    let t = (a >> 16u) * i32(m) + i32(lo >> 16u);
    let f = lo & 0xffffu;
    if (s >= 17) { return ((t >> u32(min(s - 17, 31))) + 1) >> 1u; }
    if (s <= -16) { return select(select(MOST, LEAST, a < 0), 0, a == 0); }
    let k = u32(16 - s);
    var rest = f << u32(max(-s, 0));
    if (s >= 1) { rest = (f + (1u << u32(s - 1))) >> u32(s); }
    let bound = MOST >> k;
    if (t > bound) { return MOST; }
    if (t < -bound - 1) { return LEAST; }
    let high = t << k;
    let r = high + i32(rest);
    return select(r, MOST, t == bound && r < high);
}

fn add_saturating(a: i32, b: i32) -> i32 {  // R10
    let s = a + b;
    if ((a ^ b) < 0 || (a ^ s) >= 0) { return s; }
    return select(MOST, LEAST, a < 0);
}

fn product(a: Scale, b: Scale) -> Scale {  // R3
    let p = a.m * b.m;
    let k = 16u - countLeadingZeros(p);
    let m = (p + (1u << (k - 1u))) >> k;
    let carry = m >> 16u;
    return Scale(m >> carry, a.e + b.e - i32(k + carry));
}

// R4. The peak of a row decides a shift, and a shift or a reciprocal is applied to each value.

fn magnitude(v: i32) -> u32 { return select(u32(v), 0u - u32(v), v < 0); }

fn unit_shift(peak: u32, n: i32) -> i32 { return bits(max(peak, 1u)) - n; }

fn unit(v: i32, s: i32) -> i32 {
    if (s <= 0) { return v << u32(-s); }
    return rshift(v, s);
}

struct Quant { z: u32, r: u32, scale: Scale }

fn quant(peak: u32) -> Quant {
    let a = max(peak, 1u);
    let z = countLeadingZeros(a);
    let m = (a << z) >> 16u;
    return Quant(z, (127u << 24u) / m, Scale(m, i32(z) - 16));
}

fn code(v: i32, q: Quant) -> u32 { return u32(mulsh(v << (q.z - 1u), q.r, 39)) & 0xffu; }

fn code_at(word: u32, i: u32) -> i32 { return i32(word << (24u - 8u * (i & 3u))) >> 24u; }

fn headroom(n_inputs: i32) -> u32 { return u32(max(30 - bits(u32(CODE_MAX * CODE_MAX * n_inputs)), 0)); }

fn rsqrt(hi: u32, lo: u32) -> Scale {  // R6
    let length = select(bits(lo), 32 + bits(hi), hi > 0u);
    let h = (length - 31) >> 1u;
    var big = lo << u32(max(-2 * h, 0));
    if (h > 0) { big = (lo >> u32(2 * h)) | (hi << u32(32 - 2 * h)); }
    let guess = tables[RSQRT_AT + (big >> 24u) - 64u];
    let w = (3u << 30u) - ((guess * guess) >> 16u) * (big >> 16u);
    return Scale(min((guess * (w >> 16u) + (1u << 14u)) >> 15u, 65535u), 31 + h);
}

fn exp2_negative(d: u32) -> u32 {  // R8
    let i = (d & 0xffffu) >> 10u;
    let high = tables[i];
    let y = high - (((high - tables[i + 1u]) * (d & 1023u) + 512u) >> 10u);
    return u32(rshift(i32(y), i32(min(d >> 16u, 31u))));
}

fn sigmoid(g: i32) -> i32 {  // |g| < 2^15
    let a = magnitude(g);
    let low = tables[SIGMOID_AT + (a >> 6u)];
    let y = i32(low + (((tables[SIGMOID_AT + (a >> 6u) + 1u] - low) * (a & 63u) + 32u) >> 6u));
    return select(y, 32768 - y, g < 0);
}

// A workgroup serves one row. Integers do not mind the order of a sum, so a tree of any shape gives the same bits.

var<workgroup> slots: array<u32, LANES>;

fn group_max(lane: u32, v: u32) -> u32 {
    slots[lane] = v;
    workgroupBarrier();
    for (var n = LANES / 2u; n > 0u; n = n >> 1u) {
        if (lane < n) { slots[lane] = max(slots[lane], slots[lane + n]); }
        workgroupBarrier();
    }
    let most = slots[0];
    workgroupBarrier();
    return most;
}

fn group_sum(lane: u32, v: u32) -> u32 {
    slots[lane] = v;
    workgroupBarrier();
    for (var n = LANES / 2u; n > 0u; n = n >> 1u) {
        if (lane < n) { slots[lane] = slots[lane] + slots[lane + n]; }
        workgroupBarrier();
    }
    let sum = slots[0];
    workgroupBarrier();
    return sum;
}

fn ordered(v: i32) -> u32 { return u32(v) ^ 0x80000000u; }  // keeps the order of i32 in u32

fn unordered(v: u32) -> i32 { return i32(v ^ 0x80000000u); }
