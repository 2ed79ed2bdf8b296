// The sum of the values under their weights (ATTENTION), a word of four components to an invocation: neighbours read
// neighbouring words, and four of them share the keys. Workgroups are (words of a head / 16, query heads, tokens).
// sizes: as in law/scores.wgsl.

@group(0) @binding(2) var<storage, read> weights: array<i32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> totals: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<i32>;

const WORDS = 16u;
const SHARES = 4u;

var<workgroup> parts: array<vec4<i32>, LANES>;

fn codes_of(word: u32) -> vec4<i32> {
    return vec4<i32>(code_at(word, 0u), code_at(word, 1u), code_at(word, 2u), code_at(word, 3u));
}

@compute @workgroup_size(64)
fn sum(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    let n = u32(sizes[4]) + group.z + 1u;
    let head = group.z * u32(sizes[1]) + group.y;
    let kv = group.y / u32(sizes[1] / sizes[2]);
    let at = group.x * WORDS + lane % WORDS;
    var acc = vec4<i32>(0);
    if (at < words) {
        for (var j = lane / WORDS; j < n; j += SHARES) {
            acc += weights[head * u32(sizes[3]) + j] * codes_of(v[(j * u32(sizes[2]) + kv) * words + at]);
        }
    }
    parts[lane] = acc;
    workgroupBarrier();
    if (lane >= WORDS || at >= words) { return; }
    for (var share = 1u; share < SHARES; share++) { acc += parts[lane + share * WORDS]; }
    let total = totals[head];
    let length = bits(total);
    let d = select(total >> u32(max(length - 16, 0)), total << u32(max(16 - length, 0)), length < 16);
    for (var i = 0u; i < min(4u, u32(sizes[0]) - 4u * at); i++) {
        o[head * u32(sizes[0]) + 4u * at + i] = mulsh(acc[i], 2147483647u / d, length - 1);
    }
}
