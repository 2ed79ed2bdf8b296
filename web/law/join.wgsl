// Join: the heads of a token in one unit, side by side, quantised. One workgroup for a token. sizes: E, query heads.

@group(0) @binding(2) var<storage, read> o: array<i32>;
@group(0) @binding(3) var<storage, read> lowest: array<i32>;
@group(0) @binding(4) var<storage, read_write> codes: array<u32>;
@group(0) @binding(5) var<storage, read_write> scales: array<i32>;

fn joined(token: u32, i: u32, low: i32) -> i32 {
    let heads = u32(sizes[1]);
    let width = u32(sizes[0]);
    return rshift(o[token * heads * width + i], lowest[token * heads + i / width] - low);
}

@compute @workgroup_size(64)
fn join(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let heads = u32(sizes[1]);
    let width = u32(sizes[0]) * heads;
    var low = lowest[group.x * heads];
    for (var h = 1u; h < heads; h++) { low = min(low, lowest[group.x * heads + h]); }
    var most = 0u;
    for (var i = lane; i < width; i += LANES) { most = max(most, magnitude(joined(group.x, i, low))); }
    let q = quant(group_max(lane, most));
    let words = (width + 3u) / 4u;
    for (var w = lane; w < words; w += LANES) {
        var packed = 0u;
        for (var i = 4u * w; i < min(4u * w + 4u, width); i++) {
            packed |= code(joined(group.x, i, low), q) << (8u * (i & 3u));
        }
        codes[group.x * words + w] = packed;
    }
    if (lane == 0u) {
        scales[2u * group.x] = i32(q.scale.m);
        scales[2u * group.x + 1u] = q.scale.e + low;
    }
}
