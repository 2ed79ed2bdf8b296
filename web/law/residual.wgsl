// A projection onto the residual: its units, then ADD. Workgroups are (D / 64, tokens).
// sizes: D, residual_exponent, then the exponent of the projection of each expert.

@group(0) @binding(2) var<storage, read> y: array<i32>;
@group(0) @binding(3) var<storage, read> token: array<i32>;
@group(0) @binding(4) var<storage, read_write> x: array<i32>;
@group(0) @binding(5) var<storage, read> experts: array<u32>;  // of each token; zeros where there is one

@compute @workgroup_size(64)
fn add_residual(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x >= u32(sizes[0])) { return; }
    let i = at.y * u32(sizes[0]) + at.x;
    let shift = token[2u * at.y + 1u] + sizes[2u + experts[at.y]] - sizes[1];
    x[i] = add_saturating(x[i], mulsh(y[i], u32(token[2u * at.y]), shift));
}
