// Turn, quantise and scale the heads of q, k or v: workgroups are (heads, tokens).
// sizes: E, heads, exponent of the projection, first position, 1 to turn (q, k), m and e of score_scale (m = 0: none),
// and the token of the outputs at which the first is written.

@group(0) @binding(2) var<storage, read> y: array<i32>;
@group(0) @binding(3) var<storage, read> cos_sin: array<u32>;  // cos << 16 | sin, as i16
@group(0) @binding(4) var<storage, read> token: array<i32>;
@group(0) @binding(5) var<storage, read_write> codes: array<u32>;
@group(0) @binding(6) var<storage, read_write> scales: array<i32>;

fn turned(at: u32, turn: u32, i: u32, s: i32) -> i32 {
    if (sizes[4] == 0) { return y[at + i]; }
    let half = u32(sizes[0]) / 2u;
    let pair = i % half;
    let a = unit(y[at + pair], s);
    let b = unit(y[at + pair + half], s);
    let cos = i32(cos_sin[turn + pair]) >> 16u;
    let sin = i32(cos_sin[turn + pair] << 16u) >> 16u;
    return rshift(select(b * cos + a * sin, a * cos - b * sin, i < half), 15);
}

@compute @workgroup_size(64)
fn heads(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let width = u32(sizes[0]);
    let head = group.y * u32(sizes[1]) + group.x;
    let at = head * width;
    let turn = (u32(sizes[3]) + group.y) * (width / 2u);
    var most = 0u;
    for (var i = lane; i < width; i += LANES) { most = max(most, magnitude(y[at + i])); }
    let s = unit_shift(group_max(lane, most), 14);
    most = 0u;
    for (var i = lane; i < width; i += LANES) { most = max(most, magnitude(turned(at, turn, i, s))); }
    let q = quant(group_max(lane, most));
    let words = (width + 3u) / 4u;
    let to = head + u32(sizes[7] * sizes[1]);
    for (var w = lane; w < words; w += LANES) {
        var packed = 0u;
        for (var i = 4u * w; i < min(4u * w + 4u, width); i++) {
            packed |= code(turned(at, turn, i, s), q) << (8u * (i & 3u));
        }
        codes[to * words + w] = packed;
    }
    if (lane == 0u) {
        var scale = product(Scale(q.scale.m, q.scale.e - select(0, s, sizes[4] != 0)),
                            Scale(u32(token[2u * group.y]), token[2u * group.y + 1u]));
        scale.e += sizes[2];
        if (sizes[5] != 0) { scale = product(scale, Scale(u32(sizes[5]), sizes[6])); }
        scales[2u * to] = i32(scale.m);
        scales[2u * to + 1u] = scale.e;
    }
}
