// Sum of the values under their weights: one workgroup for a component; workgroups are (E, query heads, tokens).
// sizes: as in scores.wgsl.

@group(0) @binding(2) var<storage, read> weights: array<i32>;
@group(0) @binding(3) var<storage, read> v: array<u32>;
@group(0) @binding(4) var<storage, read> totals: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<i32>;

@compute @workgroup_size(64)
fn gather(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    let n = u32(sizes[4]) + group.z + 1u;
    let head = group.z * u32(sizes[1]) + group.y;
    let kv = group.y / u32(sizes[1] / sizes[2]);
    var acc = 0;
    for (var j = lane; j < n; j += LANES) {
        let word = v[(j * u32(sizes[2]) + kv) * words + group.x / 4u];
        acc += weights[head * u32(sizes[3]) + j] * code_at(word, group.x);
    }
    acc = i32(group_sum(lane, u32(acc)));
    let total = totals[head];
    let length = bits(total);
    let d = select(total >> u32(max(length - 16, 0)), total << u32(max(16 - length, 0)), length < 16);
    if (lane == 0u) { o[head * u32(sizes[0]) + group.x] = mulsh(acc, 2147483647u / d, length - 1); }
}
