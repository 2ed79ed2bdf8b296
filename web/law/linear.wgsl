// LINEAR: one invocation for an output of a token; workgroups are (outputs / 64, tokens). sizes: I, O.

@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<u32>;
@group(0) @binding(4) var<storage, read> rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<i32>;

@compute @workgroup_size(64)
fn linear(@builtin(global_invocation_id) at: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    let outputs = u32(sizes[1]);
    if (at.x >= outputs) { return; }
    var acc = 0;
    for (var w = 0u; w < words; w++) {
        acc += dot4I8Packed(codes[at.y * words + w], weight[at.x * words + w]);
    }
    let row = rows[at.x];
    y[at.y * outputs + at.x] = mulsh(acc << headroom(sizes[0]), row >> 16u, i32(row & 0xffffu));
}
