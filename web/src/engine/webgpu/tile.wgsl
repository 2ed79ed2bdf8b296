// LINEAR of many tokens, tile by tile: a workgroup makes 32 outputs of 32 tokens from codes in workgroup memory.
// Workgroups are (O / 32, tokens / 32). sizes: I, O, tokens.

@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<u32>;
@group(0) @binding(4) var<storage, read> rows: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<i32>;

const TILE = 32u;
const DEPTH = 8u;  // words of a row that are held at once
const SIDE = 8u;
const EACH = 4u;   // an invocation makes EACH x EACH sums, SIDE apart

var<workgroup> tokens: array<u32, TILE * DEPTH>;
var<workgroup> outputs: array<u32, TILE * DEPTH>;

@compute @workgroup_size(64)
fn tile(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let words = u32(sizes[0] + 3) / 4u;
    let n_outputs = u32(sizes[1]);
    let n_tokens = u32(sizes[2]);
    let first_output = group.x * TILE;
    let first_token = group.y * TILE;
    let column = lane % SIDE;
    let row = lane / SIDE;
    var sums: array<i32, EACH * EACH>;
    for (var at = 0u; at < words; at += DEPTH) {
        for (var i = lane; i < TILE * DEPTH; i += LANES) {
            let w = at + i % DEPTH;
            let t = first_token + i / DEPTH;
            let o = first_output + i / DEPTH;
            // Zeros past the end add nothing.
            tokens[i] = 0u;
            outputs[i] = 0u;
            if (w < words && t < n_tokens) { tokens[i] = codes[t * words + w]; }
            if (w < words && o < n_outputs) { outputs[i] = weight[o * words + w]; }
        }
        workgroupBarrier();
        for (var w = 0u; w < DEPTH; w++) {
            for (var a = 0u; a < EACH; a++) {
                let left = tokens[(row + a * SIDE) * DEPTH + w];
                for (var b = 0u; b < EACH; b++) {
                    sums[a * EACH + b] += dot4I8Packed(left, outputs[(column + b * SIDE) * DEPTH + w]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var b = 0u; b < EACH; b++) {
        let o = first_output + column + b * SIDE;
        if (o >= n_outputs) { continue; }
        let scale = rows[o];
        for (var a = 0u; a < EACH; a++) {
            let t = first_token + row + a * SIDE;
            if (t >= n_tokens) { continue; }
            let sum = sums[a * EACH + b] << headroom(sizes[0]);
            y[t * n_outputs + o] = mulsh(sum, scale >> 16u, i32(scale & 0xffffu));
        }
    }
}
