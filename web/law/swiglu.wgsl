// SwiGLU: silu(gate) * up, quantised. One workgroup for a token.
// sizes: F, then the exponents of gate_proj and up_proj of each expert.

@group(0) @binding(2) var<storage, read> gate: array<i32>;
@group(0) @binding(3) var<storage, read> up: array<i32>;
@group(0) @binding(4) var<storage, read> token: array<i32>;
@group(0) @binding(5) var<storage, read_write> codes: array<u32>;
@group(0) @binding(6) var<storage, read_write> scales: array<i32>;
@group(0) @binding(7) var<storage, read> experts: array<u32>;  // of each token; zeros where there is one

fn silu(at: u32, t: Scale) -> i32 {  // t.e with the exponent of gate_proj
    let g = mulsh(gate[at], t.m, t.e - 11);
    if (g >= 32768) { return min(g, 1 << 26u) << 4u; }
    if (g <= -32768) { return 0; }
    return rshift(g * sigmoid(g), 11);
}

@compute @workgroup_size(64)
fn swiglu(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let width = u32(sizes[0]);
    let at = group.x * width;
    let t = Scale(u32(token[2u * group.x]), token[2u * group.x + 1u]);
    let own = 1u + 2u * experts[group.x];
    let ts = Scale(t.m, t.e + sizes[own]);
    var most_a = 0u;
    var most_b = 0u;
    for (var f = lane; f < width; f += LANES) {
        most_a = max(most_a, magnitude(silu(at + f, ts)));
        most_b = max(most_b, magnitude(up[at + f]));
    }
    let ka = unit_shift(group_max(lane, most_a), 15);
    let kb = unit_shift(group_max(lane, most_b), 15);
    var most = 0u;
    for (var f = lane; f < width; f += LANES) {
        most = max(most, magnitude(unit(silu(at + f, ts), ka) * unit(up[at + f], kb)));
    }
    let q = quant(group_max(lane, most));
    let words = (width + 3u) / 4u;
    for (var w = lane; w < words; w += LANES) {
        var packed = 0u;
        for (var f = 4u * w; f < min(4u * w + 4u, width); f++) {
            packed |= code(unit(silu(at + f, ts), ka) * unit(up[at + f], kb), q) << (8u * (f & 3u));
        }
        codes[group.x * words + w] = packed;
    }
    if (lane == 0u) {
        let scale = product(q.scale, t);
        scales[2u * group.x] = i32(scale.m);
        scales[2u * group.x + 1u] = scale.e + sizes[own + 1u] + 15 - ka - kb;
    }
}
