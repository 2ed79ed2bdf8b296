// The expert of each token. Workgroups are (tokens / 64). sizes: tokens.

@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> router: array<u32>;
@group(0) @binding(4) var<storage, read_write> experts: array<u32>;

@compute @workgroup_size(64)
fn route(@builtin(global_invocation_id) at: vec3<u32>) {
    if (at.x < u32(sizes[0])) { experts[at.x] = router[ids[at.x]]; }
}
