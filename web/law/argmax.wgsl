// ARGMAX: the lowest id among those with the largest logit. One workgroup for a token. sizes: V.

@group(0) @binding(2) var<storage, read> logits: array<i32>;
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;

@compute @workgroup_size(64)
fn argmax(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let vocabulary = u32(sizes[0]);
    let at = group.x * vocabulary;
    var most = 0u;
    for (var v = lane; v < vocabulary; v += LANES) { most = max(most, ordered(logits[at + v])); }
    let largest = unordered(group_max(lane, most));
    var lowest = 0u;  // as ~id, so that the largest is the lowest id
    for (var v = lane; v < vocabulary; v += LANES) {
        if (logits[at + v] == largest) { lowest = max(lowest, ~v); }
    }
    let id = ~group_max(lane, lowest);
    if (lane == 0u) { chosen[group.x] = id; }
}
