// RMS_NORM: one workgroup for a token. sizes: D, exponent, norm_eps as two words (high, low).

@group(0) @binding(2) var<storage, read> x: array<i32>;
@group(0) @binding(3) var<storage, read> gain: array<i32>;
@group(0) @binding(4) var<storage, read_write> codes: array<u32>;
@group(0) @binding(5) var<storage, read_write> scales: array<i32>;

fn gained(at: u32, d: u32, k: i32) -> i32 {
    let u = unit(x[at + d], k);
    return mulsh(select(u, -u, gain[d] < 0), magnitude(gain[d]), 17);
}

@compute @workgroup_size(64)
fn rms_norm(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let width = u32(sizes[0]);
    let at = group.x * width;
    var most = 0u;
    for (var d = lane; d < width; d += LANES) { most = max(most, magnitude(x[at + d])); }
    let peak = group_max(lane, most);
    let down = max(bits(peak) - 14, 0);
    var low = 0u;
    var high = 0u;
    for (var d = lane; d < width; d += LANES) {  // R5
        let q = rshift(x[at + d], down);
        low += u32(q * q) & 0xffffu;
        high += u32(q * q) >> 16u;
    }
    low = group_sum(lane, low);
    high = group_sum(lane, high) + (low >> 16u);
    var s_lo = (high << 16u) | (low & 0xffffu);
    var s_hi = high >> 16u;
    var eps_hi = u32(sizes[2]);
    var eps_lo = u32(sizes[3]);
    if (down >= 16) { eps_lo = eps_hi >> u32(2 * down - 32); eps_hi = 0u; }
    else if (down > 0) {
        eps_lo = (eps_lo >> u32(2 * down)) | (eps_hi << u32(32 - 2 * down));
        eps_hi = eps_hi >> u32(2 * down);
    }
    s_lo += eps_lo;
    s_hi += eps_hi + select(0u, 1u, s_lo < eps_lo);
    if (s_hi == 0u && s_lo == 0u) { s_lo = 1u; }
    let root = rsqrt(s_hi, s_lo);

    let k = unit_shift(peak, 30);
    most = 0u;
    for (var d = lane; d < width; d += LANES) { most = max(most, magnitude(gained(at, d, k))); }
    let q = quant(group_max(lane, most));
    let words = (width + 3u) / 4u;
    for (var w = lane; w < words; w += LANES) {
        var packed = 0u;
        for (var d = 4u * w; d < min(4u * w + 4u, width); d++) {
            packed |= code(gained(at, d, k), q) << (8u * (d & 3u));
        }
        codes[group.x * words + w] = packed;
    }
    if (lane == 0u) {
        let scale = product(q.scale, root);
        scales[2u * group.x] = i32(scale.m);
        scales[2u * group.x + 1u] = scale.e - 17 - k + sizes[1] + down;
    }
}
