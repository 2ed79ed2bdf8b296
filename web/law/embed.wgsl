// EMBED: one workgroup for a token. sizes: D.

@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read> codes: array<u32>;
@group(0) @binding(4) var<storage, read> rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> x: array<i32>;

@compute @workgroup_size(64)
fn embed(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let width = u32(sizes[0]);
    let id = ids[group.x];
    for (var d = lane; d < width; d += LANES) {
        let value = code_at(codes[id * ((width + 3u) / 4u) + d / 4u], d);
        x[group.x * width + d] = mulsh(value, rows[id] >> 16u, i32(rows[id] & 0xffffu));
    }
}
