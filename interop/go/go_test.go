package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func pieces(cut func([]rune) int, text string) []string {
	var found []string
	for t := []rune(text); len(t) > 0; {
		n := cut(t)
		found = append(found, string(t[:n]))
		t = t[n:]
	}
	return found
}

func TestPieces(t *testing.T) {
	cases := []struct {
		cut  func([]rune) int
		text string
		want []string
	}{
		{cutCode, "def f(x):\n    return x1234", []string{"def", " f", "(x", "):", "\n    ", "return", " x", "123", "4"}},
		{cutCode, "a  \n\t b", []string{"a", "  ", "\n\t ", "b"}},
		{cutLlama3, "it's 'self'", []string{"it", "'s", " '", "self", "'"}},
		{cutLlama3, "x):\n\n    y", []string{"x", "):\n\n", "   ", " y"}},
		{cutLlama3, "a \n \n  b", []string{"a", " \n \n", " ", " b"}},
		{cutLlama3, "I'LL we'Ve", []string{"I", "'LL", " we", "'Ve"}},
		{cutLlama3, "\u00a0\u00a0x  ", []string{"\u00a0", "\u00a0x", "  "}},
	}
	for _, c := range cases {
		if found := pieces(c.cut, c.text); !reflect.DeepEqual(found, c.want) {
			t.Errorf("%q: %q, want %q", c.text, found, c.want)
		}
	}
}

func TestMergesLowestRankThenLeftmost(t *testing.T) {
	v := &vocabulary{merges: map[[2]int]merge{}, cut: func(r []rune) int { return len(r) }}
	for b := range v.ids {
		v.ids[b] = b
	}
	v.merges[[2]int{'a', 'a'}] = merge{0, 300}
	v.merges[[2]int{300, 'b'}] = merge{1, 301}
	v.merges[[2]int{'b', 'a'}] = merge{2, 302}
	for text, want := range map[string][]int{"aaab": {300, 'a', 'b'}, "aab": {301}, "aaba": {301, 'a'}, "ba": {302}, "": nil} {
		if found := v.encode(text); !reflect.DeepEqual(found, want) {
			t.Errorf("%q: %v, want %v", text, found, want)
		}
	}
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float32{0x3C00: 1, 0xC000: -2, 0x0001: 1.0 / (1 << 24), 0x7BFF: 65504, 0x8000: 0, 0x03FF: 1023.0 / (1 << 24)} {
		if found := half(bits); found != want {
			t.Errorf("%04x: %v, want %v", bits, found, want)
		}
	}
	if !math.IsInf(float64(half(0x7C00)), 1) {
		t.Error("7c00 is infinity")
	}
}

func TestI2S(t *testing.T) {
	raw := make([]byte, 64)
	for i := range raw[:32] {
		raw[i] = 0b01010101
	}
	raw[0] = 0b10_01_00_01        // values 0, 32, 64, 96
	raw[32], raw[33] = 0, 0       // the scale, 0.5
	raw[34], raw[35] = 0x00, 0x3F //
	values := dequantize(typeI2_S, raw, 128)
	if values[0] != 0.5 || values[32] != 0 || values[64] != -0.5 || values[96] != 0 || values[1] != 0 {
		t.Error(values)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	head := "GGUF\x03\x00\x00\x00"
	for name, data := range map[string]string{
		"empty": "", "magic": "GGML", "version": "GGUF\x02\x00\x00\x00", "cut": head,
		"counts": head + strings.Repeat("\xFF", 16), "strings": head + strings.Repeat("\x00", 8) + "\x01" + strings.Repeat("\x00", 7) + strings.Repeat("\xFF", 8),
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadModel(path); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What PyTorch and the tokenizer of the model say, from a file that the harness writes (tests/export); skipped without one.
func TestAgainstPyTorch(t *testing.T) {
	path := os.Getenv("S7_CASES")
	if path == "" {
		t.Skip("S7_CASES names no file; the slow suite writes one")
	}
	var cases struct {
		Model   string
		Texts   []string
		Ids     [][]int
		Prompts [][]int
		Greedy  [][]int
	}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &cases)
	}
	if err != nil {
		t.Fatal(err)
	}
	m, err := loadModel(cases.Model)
	if err != nil {
		t.Fatal(err)
	}
	if len(cases.Texts) < 10000 || len(cases.Prompts) == 0 {
		t.Fatalf("%d texts, %d prompts", len(cases.Texts), len(cases.Prompts))
	}
	for i, text := range cases.Texts {
		if found := append([]int{}, m.vocabulary.encode(text)...); !reflect.DeepEqual(found, cases.Ids[i]) {
			t.Fatalf("%.60q: %v, want %v", text, found, cases.Ids[i])
		}
	}
	for i, prompt := range cases.Prompts {
		found, err := m.generate(prompt, len(cases.Greedy[i]), 0, nil)
		if err != nil || !reflect.DeepEqual(found, cases.Greedy[i]) {
			t.Fatalf("prompt %d: %v (%v), want %v", i, found, err, cases.Greedy[i])
		}
	}
	t.Logf("%d texts, %d prompts", len(cases.Texts), len(cases.Prompts))
}
