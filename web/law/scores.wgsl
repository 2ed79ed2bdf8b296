// Scores of a query head on the keys it sees: workgroups are (keys / 64, query heads, tokens).
// sizes: E, query heads, key/value heads, keys in the cache, position of the first token.

@group(0) @binding(2) var<storage, read> q: array<u32>;
@group(0) @binding(3) var<storage, read> q_scales: array<i32>;
@group(0) @binding(4) var<storage, read> k: array<u32>;
@group(0) @binding(5) var<storage, read> k_scales: array<i32>;
@group(0) @binding(6) var<storage, read_write> scores: array<i32>;

@compute @workgroup_size(64)
fn score(@builtin(global_invocation_id) at: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    if (at.x > u32(sizes[4]) + at.z) { return; }
    let head = at.z * u32(sizes[1]) + at.y;
    let key = at.x * u32(sizes[2]) + at.y / u32(sizes[1] / sizes[2]);
    var acc = 0;
    for (var w = 0u; w < words; w++) { acc += dot4I8Packed(q[head * words + w], k[key * words + w]); }
    let lift = headroom(sizes[0]);
    let half = mulsh(acc << lift, u32(k_scales[2u * key]), 16);
    let shift = k_scales[2u * key + 1u] + q_scales[2u * head + 1u] + i32(lift) - 32;
    scores[head * u32(sizes[3]) + at.x] = mulsh(half, u32(q_scales[2u * head]), shift);
}
