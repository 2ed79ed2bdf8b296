// The head's units after LINEAR: logits with 16 fraction bits. Workgroups are (V / 64, tokens). sizes: V, exponent.

@group(0) @binding(2) var<storage, read> y: array<i32>;
@group(0) @binding(3) var<storage, read> token: array<i32>;
@group(0) @binding(4) var<storage, read_write> logits: array<i32>;

@compute @workgroup_size(64)
fn head(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x >= u32(sizes[0])) { return; }
    let i = at.y * u32(sizes[0]) + at.x;
    logits[i] = mulsh(y[i], u32(token[2u * at.y]), token[2u * at.y + 1u] + sizes[1] - 16);
}
