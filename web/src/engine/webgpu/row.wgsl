// LINEAR of few tokens, or of tokens with experts of their own: a workgroup makes 8 outputs of one token, 8 invocations
// to an output, neighbours on neighbouring words. Workgroups are (O / 8, tokens). sizes: I, O.

@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<u32>;  // of all experts, one behind the other
@group(0) @binding(4) var<storage, read> rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<i32>;
@group(0) @binding(6) var<storage, read> experts: array<u32>;  // of each token; zeros where there is one

const SHARE = 8u;

var<workgroup> parts: array<i32, LANES>;

@compute @workgroup_size(64)
fn row(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    let n_outputs = u32(sizes[1]);
    let o = group.x * SHARE + lane / SHARE;
    let at = experts[group.y] * n_outputs + o;
    var sum = 0;
    if (o < n_outputs) {
        for (var w = lane % SHARE; w < words; w += SHARE) {
            sum += dot4I8Packed(codes[group.y * words + w], weight[at * words + w]);
        }
    }
    parts[lane] = sum;
    workgroupBarrier();
    if (lane % SHARE == 0u && o < n_outputs) {
        var whole = 0;
        for (var i = 0u; i < SHARE; i++) { whole += parts[lane + i]; }
        let scale = rows[at];
        y[group.y * n_outputs + o] = mulsh(whole << headroom(sizes[0]), scale >> 16u, i32(scale & 0xffffu));
    }
}
