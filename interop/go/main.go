// A Llama runtime that owes nothing to the one that trained: it reads the exported GGUF and prints token ids.
//
//	s7go -model FILE -prompt TEXT [-tokens N] [-temperature T -seed S]   token ids, one line; then the text
//	s7go                                                                one JSON request a line, as the harness sends them
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
)

type request struct {
	Op, Path, Out string
	Context       int
	Steps         int
	Texts         []string
	Ids           []int
}

func main() {
	path := flag.String("model", "", "a GGUF file")
	prompt := flag.String("prompt", "", "text to go on from")
	tokens := flag.Int("tokens", 64, "tokens to add")
	temperature := flag.Float64("temperature", 0, "0 takes the most likely token")
	seed := flag.Uint64("seed", 0, "of the choice, when the temperature is not 0")
	flag.Parse()
	if *path == "" {
		serve(os.Stdin, os.Stdout)
		return
	}
	m, err := loadModel(*path)
	if err == nil {
		ids := m.vocabulary.encode(*prompt)
		if m.vocabulary.begins || len(ids) == 0 {
			ids = append([]int{m.vocabulary.bos}, ids...)
		}
		ids, err = m.generate(ids, *tokens, *temperature, rand.New(rand.NewPCG(*seed, 0)))
		if err == nil {
			fmt.Println(ids)
			fmt.Println(m.vocabulary.decode(ids))
			return
		}
	}
	fmt.Fprintln(os.Stderr, "s7go:", err)
	os.Exit(4)
}

// serve answers requests until the input ends.
func serve(in io.Reader, out io.Writer) {
	reader, writer := bufio.NewReader(in), json.NewEncoder(out)
	var m *model
	for {
		line, err := reader.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return
		}
		var r request
		var answer any
		if err = json.Unmarshal(line, &r); err == nil {
			if r.Op == "open" {
				m, err = loadModel(r.Path)
				answer = map[string]any{"description": "go, float32", "vocab": 0}
			} else if m == nil {
				err = fmt.Errorf("%q before a file is open", r.Op)
			} else {
				answer, err = m.answer(r)
			}
		}
		if err != nil {
			writer.Encode(map[string]string{"error": err.Error()})
		} else {
			writer.Encode(map[string]any{"ok": answer})
		}
	}
}

func (m *model) answer(r request) (any, error) {
	switch r.Op {
	case "tokenize":
		found := make([][]int, len(r.Texts))
		for i, text := range r.Texts {
			found[i] = append([]int{}, m.vocabulary.encode(text)...)
		}
		return found, nil
	case "greedy":
		return m.generate(r.Ids, r.Steps, 0, nil)
	case "logits":
		return true, m.writeLogits(r.Ids, r.Out)
	}
	return nil, fmt.Errorf("no request %q", r.Op)
}

// generate adds tokens: the most likely one, or one drawn by the seed.
func (m *model) generate(ids []int, steps int, temperature float64, random *rand.Rand) ([]int, error) {
	s := m.session()
	var logits []float32
	var err error
	for _, id := range ids {
		if logits, err = s.step(id); err != nil {
			return nil, err
		}
	}
	made := []int{}
	for len(made) < steps {
		next := argmax(logits)
		if temperature > 0 {
			next = draw(logits, temperature, random)
		}
		if made = append(made, next); len(made) < steps {
			if logits, err = s.step(next); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

func draw(logits []float32, temperature float64, random *rand.Rand) int {
	peak, sum := float64(logits[argmax(logits)]), 0.0
	weights := make([]float64, len(logits))
	for i, value := range logits {
		weights[i] = math.Exp((float64(value) - peak) / temperature)
		sum += weights[i]
	}
	left := random.Float64() * sum
	for i, weight := range weights {
		if left -= weight; left < 0 {
			return i
		}
	}
	return argmax(logits)
}

// writeLogits writes the logits after each id as a .npy file, float32 [len(ids), vocab].
func (m *model) writeLogits(ids []int, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	head := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", len(ids), m.vocab)
	for (len(head)+11)%64 != 0 {
		head += " "
	}
	out := bufio.NewWriter(file)
	fmt.Fprintf(out, "\x93NUMPY\x01\x00")
	binary.Write(out, binary.LittleEndian, uint16(len(head)+1))
	fmt.Fprintln(out, head)
	s := m.session()
	for _, id := range ids {
		logits, err := s.step(id)
		if err != nil {
			return err
		}
		if err := binary.Write(out, binary.LittleEndian, logits); err != nil {
			return err
		}
	}
	return out.Flush()
}
