// Weights of the softmax, in place of the scores, with V's scales folded in. Workgroups are (query heads, tokens).
// sizes: as in scores.wgsl.

@group(0) @binding(2) var<storage, read_write> scores: array<i32>;
@group(0) @binding(3) var<storage, read> v_scales: array<i32>;
@group(0) @binding(4) var<storage, read_write> totals: array<u32>;
@group(0) @binding(5) var<storage, read_write> lowest: array<i32>;

@compute @workgroup_size(64)
fn weigh(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let n = u32(sizes[4]) + group.y + 1u;
    let head = group.y * u32(sizes[1]) + group.x;
    let row = head * u32(sizes[3]);
    let kv = group.x / u32(sizes[1] / sizes[2]);
    let stride = u32(sizes[2]);
    var most = 0u;
    var least = 0u;
    for (var j = lane; j < n; j += LANES) {
        most = max(most, ordered(scores[row + j]));
        least = max(least, ~ordered(v_scales[2u * (j * stride + kv) + 1u]));
    }
    let peak = u32(unordered(group_max(lane, most)));
    let low = unordered(~group_max(lane, least));
    var high = 0u;  // R9: the sum of p in two words
    var rest = 0u;
    for (var j = lane; j < n; j += LANES) {
        let p = exp2_negative(peak - u32(scores[row + j]));
        scores[row + j] = i32(p);
        high += p >> 8u;
        rest += p & 255u;
    }
    high = group_sum(lane, high);
    rest = group_sum(lane, rest);
    let kept = select(24, 23, n > 131072u);
    let drop = max(8 + bits(high + (rest >> 8u)) - kept, 0);
    var sum = 0u;
    for (var j = lane; j < n; j += LANES) {
        let p = rshift(scores[row + j], drop);
        sum += u32(p);
        let at = 2u * (j * stride + kv);
        scores[row + j] = mulsh(p, u32(v_scales[at]), 16 + v_scales[at + 1u] - low);
    }
    sum = group_sum(lane, sum);
    if (lane == 0u) {
        totals[head] = sum;
        lowest[head] = low;
    }
}
