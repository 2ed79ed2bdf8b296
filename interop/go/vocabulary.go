// Byte-level BPE: cut a text into pieces, then merge pairs inside each piece, lowest rank first, leftmost first.
//
// The two rules of cutting are the patterns of sevenfold.tokenizer.train, written out: Go's regexp has no look-ahead.
package main

import (
	"container/heap"
	"fmt"
	"unicode"
	"unicode/utf8"
)

type vocabulary struct {
	ids    [256]int // of each byte
	merges map[[2]int]merge
	cut    func([]rune) int // length of the first piece
	bos    int
	begins bool // bos is put before a text
	bytes  [][]byte // of each token
}

type merge struct{ rank, id int }

// letters is the letter that stands for each byte in a vocabulary: itself if visible in Latin-1, else from U+0100 on.
func letters() (table [256]rune) {
	next := rune(0x100)
	for b := range table {
		r := rune(b)
		if (r >= 0x21 && r <= 0x7E) || (r >= 0xA1 && r <= 0xAC) || r >= 0xAE {
			table[b] = r
		} else {
			table[b] = next
			next++
		}
	}
	return table
}

func readVocabulary(g *ggufFile, size int) (*vocabulary, error) {
	if kind := g.keys["tokenizer.ggml.model"]; kind != "gpt2" {
		return nil, fmt.Errorf("tokenizer %v, this program reads gpt2 (byte-level BPE)", kind)
	}
	v := &vocabulary{merges: map[[2]int]merge{}}
	pieces := g.keys["sevenfold.tokenizer.pieces"]
	if pieces == nil && g.keys["tokenizer.ggml.pre"] == "llama-bpe" {
		pieces = "llama3"
	}
	switch pieces {
	case "code":
		v.cut = cutCode
	case "llama3":
		v.cut = cutLlama3
	default:
		return nil, fmt.Errorf("text is cut by %v, which is not known here", pieces)
	}
	tokens, err := g.strings("tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	if len(tokens) != size {
		return nil, fmt.Errorf("%d tokens, the model has %d", len(tokens), size)
	}
	return v, v.fill(g, tokens)
}

func (v *vocabulary) fill(g *ggufFile, tokens []string) error {
	table, index := letters(), map[string]int{}
	back := map[rune]byte{}
	for b, letter := range table {
		back[letter] = byte(b)
	}
	for i, token := range tokens {
		index[token] = i
		var raw []byte
		for _, letter := range token {
			raw = append(raw, back[letter])
		}
		v.bytes = append(v.bytes, raw)
	}
	for b, letter := range table {
		id, ok := index[string(letter)]
		if !ok {
			return fmt.Errorf("the vocabulary lacks byte %d", b)
		}
		v.ids[b] = id
	}
	pairs, err := g.strings("tokenizer.ggml.merges")
	if err != nil {
		return err
	}
	for rank, pair := range pairs {
		for i := 1; i < len(pair)-1; i++ {
			if pair[i] == ' ' {
				left, ok1 := index[pair[:i]]
				right, ok2 := index[pair[i+1:]]
				made, ok3 := index[pair[:i]+pair[i+1:]]
				if !ok1 || !ok2 || !ok3 {
					return fmt.Errorf("merge %d (%q) makes no token", rank, pair)
				}
				v.merges[[2]int{left, right}] = merge{rank, made}
			}
		}
	}
	if bos, ok := g.keys["tokenizer.ggml.bos_token_id"].(int64); ok {
		v.bos = int(bos)
	}
	v.begins, _ = g.keys["tokenizer.ggml.add_bos_token"].(bool)
	return nil
}

// encode gives the ids of a text; no special token is looked for or added.
func (v *vocabulary) encode(text string) []int {
	var ids []int
	runes := []rune(text)
	for len(runes) > 0 {
		n := v.cut(runes)
		ids = v.mergePiece(ids, string(runes[:n]))
		runes = runes[n:]
	}
	return ids
}

type candidate struct{ rank, left, id, width int }
type queue []candidate

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || (q[i].rank == q[j].rank && q[i].left < q[j].left)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(candidate)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// mergePiece appends the ids of one piece. Symbols are a linked list; a candidate whose symbols have changed is passed over.
func (v *vocabulary) mergePiece(ids []int, piece string) []int {
	n := len(piece)
	symbol, next, previous, alive := make([]int, n), make([]int, n), make([]int, n), make([]bool, n)
	for i := 0; i < n; i++ {
		symbol[i], next[i], previous[i], alive[i] = v.ids[piece[i]], i+1, i-1, true
	}
	q := &queue{}
	offer := func(left int) {
		if left < 0 || next[left] >= n {
			return
		}
		right := next[left]
		if m, ok := v.merges[[2]int{symbol[left], symbol[right]}]; ok {
			// The pair of symbols is kept in one number, to know it again.
			heap.Push(q, candidate{m.rank, left, m.id, symbol[left]<<32 | symbol[right]})
		}
	}
	for i := 0; i < n; i++ {
		offer(i)
	}
	for q.Len() > 0 {
		c := heap.Pop(q).(candidate)
		if !alive[c.left] || next[c.left] >= n || symbol[c.left]<<32|symbol[next[c.left]] != c.width {
			continue
		}
		right := next[c.left]
		symbol[c.left], alive[right], next[c.left] = c.id, false, next[right]
		if next[right] < n {
			previous[next[right]] = c.left
		}
		offer(previous[c.left])
		offer(c.left)
	}
	for i := 0; i < n; i = next[i] {
		ids = append(ids, symbol[i])
	}
	return ids
}

// decode gives the text of ids; bytes that are not UTF-8 become U+FFFD.
func (v *vocabulary) decode(ids []int) string {
	var raw []byte
	for _, id := range ids {
		raw = append(raw, v.bytes[id]...)
	}
	if !utf8.Valid(raw) {
		return string([]rune(string(raw)))
	}
	return string(raw)
}

func isSpace(r rune) bool  { return unicode.Is(unicode.White_Space, r) }
func isLetter(r rune) bool { return unicode.Is(unicode.L, r) }
func isNumber(r rune) bool { return unicode.Is(unicode.N, r) }
func isBreak(r rune) bool  { return r == '\r' || r == '\n' }
func isBlank(r rune) bool  { return r == ' ' || r == '\t' }
func isMark(r rune) bool   { return !isSpace(r) && !isLetter(r) && !isNumber(r) }

// run is how many runes from i on satisfy the test.
func run(t []rune, i int, test func(rune) bool) int {
	n := i
	for n < len(t) && test(t[n]) {
		n++
	}
	return n - i
}

// word is [^\r\n\p{L}\p{N}]?\p{L}+ at the start, or 0.
func word(t []rune) int {
	if n := run(t, 0, isLetter); n > 0 {
		return n
	}
	if !isBreak(t[0]) && !isNumber(t[0]) {
		if n := run(t, 1, isLetter); n > 0 {
			return 1 + n
		}
	}
	return 0
}

// digits is \p{N}{1,3}; marks is ` ?[^\s\p{L}\p{N}]+`.
func digits(t []rune) int { return min(3, run(t, 0, isNumber)) }
func marks(t []rune) int {
	skip := 0
	if t[0] == ' ' {
		skip = 1
	}
	if n := run(t, skip, isMark); n > 0 {
		return skip + n
	}
	return 0
}

// before is a run that must not touch what follows, (?!\S): all of it at the end of the text, else one less.
func before(t []rune, n int) int {
	if n == len(t) || isSpace(t[n]) {
		return n
	}
	return n - 1
}

func cutCode(t []rune) int {
	for _, rule := range []func([]rune) int{word, digits, marks} {
		if n := rule(t); n > 0 {
			return n
		}
	}
	if n := run(t, 0, isBreak); n > 0 {
		return n + run(t, n, isBlank)
	}
	if n := before(t, run(t, 0, isBlank)); n > 0 {
		return n
	}
	return max(1, run(t, 0, isSpace))
}

func cutLlama3(t []rune) int {
	if n := contraction(t); n > 0 {
		return n
	}
	for _, rule := range []func([]rune) int{word, digits} {
		if n := rule(t); n > 0 {
			return n
		}
	}
	if n := marks(t); n > 0 {
		return n + run(t, n, isBreak)
	}
	spaces := run(t, 0, isSpace)
	for n := spaces; n > 0; n-- { // \s*[\r\n]+ : up to the last line end of the run
		if isBreak(t[n-1]) {
			return n
		}
	}
	if n := before(t, spaces); n > 0 {
		return n
	}
	return max(1, spaces)
}

// contraction is (?i:'s|'t|'re|'ve|'m|'ll|'d). The long s (U+017F) folds to s.
func contraction(t []rune) int {
	if t[0] != '\'' || len(t) < 2 {
		return 0
	}
	fold := func(i int) rune {
		if i >= len(t) {
			return 0
		}
		if t[i] == 0x17F {
			return 's'
		}
		return unicode.ToLower(t[i])
	}
	first, second := fold(1), fold(2)
	switch {
	case first == 's', first == 't', first == 'm', first == 'd':
		return 2
	case (first == 'r' || first == 'v') && second == 'e', first == 'l' && second == 'l':
		return 3
	}
	return 0
}
