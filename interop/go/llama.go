// The forward pass of a Llama: pre-norm RMSNorm, grouped-query attention with RoPE on neighbouring pairs, SwiGLU.
//
// Weights and activations are float32, sums are float64, so the order of a sum does not decide a greedy token.
package main

import (
	"fmt"
	"math"
	"runtime"
	"sync"
)

type shape struct {
	layers, width, ffn, heads, kvHeads, headDim, vocab, context int
	eps, base, scale                                            float64
}

type layer struct {
	attnNorm, ffnNorm          []float32
	q, k, v, o, gate, up, down []float32
}

type model struct {
	shape
	embedding, head, norm []float32
	stack                 []layer
	vocabulary            *vocabulary
	turns                 []float64 // angle of each pair at position 1
}

// session holds the keys and values of what was read so far.
type session struct {
	m            *model
	keys, values [][]float32 // per layer, positions after each other
	position     int
}

func loadModel(path string) (*model, error) {
	g, err := openGGUF(path)
	if err != nil {
		return nil, err
	}
	defer g.file.Close()
	if arch := g.keys["general.architecture"]; arch != "llama" {
		return nil, fmt.Errorf("%s: architecture %v, this program runs llama", path, arch)
	}
	m := &model{}
	if err := m.readShape(g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := m.readWeights(g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.vocabulary, err = readVocabulary(g, m.vocab); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func (m *model) readShape(g *ggufFile) error {
	for name, place := range map[string]*int{
		"block_count": &m.layers, "embedding_length": &m.width, "feed_forward_length": &m.ffn,
		"attention.head_count": &m.heads, "attention.head_count_kv": &m.kvHeads, "rope.dimension_count": &m.headDim,
		"vocab_size": &m.vocab, "context_length": &m.context,
	} {
		value, err := g.integer("llama." + name)
		if err != nil {
			return err
		}
		*place = value
	}
	if width, ok := g.keys["llama.attention.key_length"].(int64); ok && int(width) != m.headDim {
		return fmt.Errorf("heads of %d of which %d turn: not supported", width, m.headDim)
	}
	if m.heads%m.kvHeads != 0 || m.headDim%2 != 0 {
		return fmt.Errorf("%d heads over %d of width %d do not divide", m.heads, m.kvHeads, m.headDim)
	}
	var err error
	if m.eps, err = g.number("llama.attention.layer_norm_rms_epsilon"); err != nil {
		return err
	}
	if m.base, err = g.number("llama.rope.freq_base"); err != nil {
		return err
	}
	m.scale = 1
	switch kind := g.keys["llama.rope.scaling.type"]; kind {
	case nil, "none":
	case "linear":
		if m.scale, err = g.number("llama.rope.scaling.factor"); err != nil {
			return err
		}
	default:
		return fmt.Errorf("rope scaling %v is not supported", kind)
	}
	for i := 0; i < m.headDim/2; i++ {
		m.turns = append(m.turns, math.Pow(m.base, -2*float64(i)/float64(m.headDim))/m.scale)
	}
	// Llama 3's scaling: a divisor for each pair.
	if _, scaled := g.tensors["rope_freqs.weight"]; scaled {
		divisors, err := g.matrix("rope_freqs.weight", 1, m.headDim/2)
		if err != nil {
			return err
		}
		for i, divisor := range divisors {
			m.turns[i] /= float64(divisor)
		}
	}
	return nil
}

func (m *model) readWeights(g *ggufFile) error {
	var failed error
	read := func(name string, rows, columns int) []float32 {
		if failed != nil {
			return nil
		}
		values, err := g.matrix(name+".weight", rows, columns)
		failed = err
		return values
	}
	m.embedding = read("token_embd", m.vocab, m.width)
	m.head = m.embedding
	if _, untied := g.tensors["output.weight"]; untied {
		m.head = read("output", m.vocab, m.width)
	}
	q, kv := m.heads*m.headDim, m.kvHeads*m.headDim
	for i := 0; i < m.layers && failed == nil; i++ {
		name := fmt.Sprintf("blk.%d.", i)
		m.stack = append(m.stack, layer{
			attnNorm: read(name+"attn_norm", 1, m.width), ffnNorm: read(name+"ffn_norm", 1, m.width),
			q: read(name+"attn_q", q, m.width), k: read(name+"attn_k", kv, m.width), v: read(name+"attn_v", kv, m.width),
			o: read(name+"attn_output", m.width, q), gate: read(name+"ffn_gate", m.ffn, m.width),
			up: read(name+"ffn_up", m.ffn, m.width), down: read(name+"ffn_down", m.width, m.ffn),
		})
	}
	m.norm = read("output_norm", 1, m.width)
	return failed
}

func (m *model) session() *session {
	return &session{m: m, keys: make([][]float32, m.layers), values: make([][]float32, m.layers)}
}

// product is weight (rows of len(x)) times x; rows are shared out to the cores, each row is one core's sum.
func product(weight, x []float32) []float32 {
	columns := len(x)
	out := make([]float32, len(weight)/columns)
	workers := min(runtime.GOMAXPROCS(0), 1+len(weight)>>17)
	var wait sync.WaitGroup
	for w := 0; w < workers; w++ {
		first, last := w*len(out)/workers, (w+1)*len(out)/workers
		wait.Add(1)
		go func() {
			defer wait.Done()
			for r := first; r < last; r++ {
				out[r] = float32(dot(weight[r*columns:(r+1)*columns], x))
			}
		}()
	}
	wait.Wait()
	return out
}

func dot(a, b []float32) float64 {
	var s0, s1, s2, s3 float64
	n := len(a) &^ 3
	b = b[:len(a)]
	for i := 0; i < n; i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for i := n; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return s0 + s1 + s2 + s3
}

func (m *model) rmsNorm(x, gain []float32) []float32 {
	scale := 1 / math.Sqrt(dot(x, x)/float64(len(x))+m.eps)
	out := make([]float32, len(x))
	for i := range x {
		out[i] = float32(float64(x[i])*scale) * gain[i]
	}
	return out
}

func (m *model) rotate(x []float32, position int) {
	for start := 0; start < len(x); start += m.headDim {
		for i, turn := range m.turns {
			sin, cos := math.Sincos(float64(position) * turn)
			a, b := float64(x[start+2*i]), float64(x[start+2*i+1])
			x[start+2*i], x[start+2*i+1] = float32(a*cos-b*sin), float32(b*cos+a*sin)
		}
	}
}

// step reads one token and gives the logits of the next.
func (s *session) step(token int) ([]float32, error) {
	m := s.m
	if token < 0 || token >= m.vocab {
		return nil, fmt.Errorf("token id %d is outside 0 to %d", token, m.vocab-1)
	}
	if s.position >= m.context {
		return nil, fmt.Errorf("position %d is past the context of %d", s.position, m.context)
	}
	x := append([]float32(nil), m.embedding[token*m.width:(token+1)*m.width]...)
	for i, l := range m.stack {
		h := m.rmsNorm(x, l.attnNorm)
		q, k, v := product(l.q, h), product(l.k, h), product(l.v, h)
		m.rotate(q, s.position)
		m.rotate(k, s.position)
		s.keys[i], s.values[i] = append(s.keys[i], k...), append(s.values[i], v...)
		add(x, product(l.o, s.attend(i, q)))
		h = m.rmsNorm(x, l.ffnNorm)
		gate, up := product(l.gate, h), product(l.up, h)
		for j := range gate {
			g := float64(gate[j])
			gate[j] = float32(g/(1+math.Exp(-g))) * up[j]
		}
		add(x, product(l.down, gate))
	}
	s.position++
	return product(m.head, m.rmsNorm(x, m.norm)), nil
}

func add(x, y []float32) {
	for i := range x {
		x[i] += y[i]
	}
}

// attend is softmax(q k / sqrt(head_dim)) v over all positions so far, head by head.
func (s *session) attend(index int, q []float32) []float32 {
	m, n := s.m, s.position+1
	stride := m.kvHeads * m.headDim
	out, weights := make([]float32, len(q)), make([]float64, n)
	for h := 0; h < m.heads; h++ {
		kv := h / (m.heads / m.kvHeads) * m.headDim
		mine := q[h*m.headDim : (h+1)*m.headDim]
		peak, sum := math.Inf(-1), 0.0
		for t := range weights {
			weights[t] = dot(mine, s.keys[index][t*stride+kv:t*stride+kv+m.headDim]) / math.Sqrt(float64(m.headDim))
			peak = max(peak, weights[t])
		}
		for t := range weights {
			weights[t] = math.Exp(weights[t] - peak)
			sum += weights[t]
		}
		total := make([]float64, m.headDim)
		for t, weight := range weights {
			for e, value := range s.values[index][t*stride+kv : t*stride+kv+m.headDim] {
				total[e] += weight * float64(value)
			}
		}
		for e := range total {
			out[h*m.headDim+e] = float32(total[e] / sum)
		}
	}
	return out
}

// argmax is the first of the largest.
func argmax(logits []float32) int {
	best := 0
	for i, value := range logits {
		if value > logits[best] {
			best = i
		}
	}
	return best
}
