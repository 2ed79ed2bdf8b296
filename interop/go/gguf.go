// A reader of GGUF version 3 files: header, keys, tensors. It is total: a file is read whole, or refused with the reason.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

const (
	maxCount  = 1 << 20 // keys, tensors
	maxArray  = 1 << 26 // elements of one array
	maxString = 1 << 26
	maxDims   = 4
)

// Value types of the header.
const (
	kindUint8 = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

var kindSize = map[uint32]int{
	kindUint8: 1, kindInt8: 1, kindUint16: 2, kindInt16: 2, kindUint32: 4, kindInt32: 4,
	kindFloat32: 4, kindBool: 1, kindUint64: 8, kindInt64: 8, kindFloat64: 8,
}

// tensorInfo says where a tensor lies. dims are as stored: the width of a row first.
type tensorInfo struct {
	dims   []int
	kind   uint32
	offset int64
}

// ggufFile is an opened file. Numbers of the header are float64 or int64, arrays []any.
type ggufFile struct {
	file    *os.File
	size    int64
	keys    map[string]any
	tensors map[string]tensorInfo
	start   int64 // of the tensor data
}

type cursor struct {
	in  *io.SectionReader
	err error
}

func (c *cursor) bytes(n int) []byte {
	if c.err != nil {
		return make([]byte, 8)
	}
	room := make([]byte, max(n, 8))
	if _, err := io.ReadFull(c.in, room[:n]); err != nil {
		c.err = errors.New("the header is cut")
	}
	return room
}

func (c *cursor) uint32() uint32 { return binary.LittleEndian.Uint32(c.bytes(4)) }
func (c *cursor) uint64() uint64 { return binary.LittleEndian.Uint64(c.bytes(8)) }

func (c *cursor) count(most uint64) int {
	n := c.uint64()
	if n > most && c.err == nil {
		c.err = fmt.Errorf("a count of %d, past %d", n, most)
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *cursor) text() string {
	n := c.count(maxString)
	return string(c.bytes(n)[:n])
}

func (c *cursor) value(kind uint32, nested bool) any {
	switch kind {
	case kindString:
		return c.text()
	case kindArray:
		inner, n := c.uint32(), c.count(maxArray)
		if inner == kindArray || nested {
			c.err = errors.New("an array of arrays")
		}
		var values []any
		for i := 0; i < n && c.err == nil; i++ {
			values = append(values, c.value(inner, true))
		}
		return values
	}
	size, known := kindSize[kind]
	if !known {
		if c.err == nil {
			c.err = fmt.Errorf("a value of unknown type %d", kind)
		}
		return nil
	}
	raw := c.bytes(size)
	switch kind {
	case kindUint8, kindBool:
		return int64(raw[0])
	case kindInt8:
		return int64(int8(raw[0]))
	case kindUint16:
		return int64(binary.LittleEndian.Uint16(raw))
	case kindInt16:
		return int64(int16(binary.LittleEndian.Uint16(raw)))
	case kindUint32:
		return int64(binary.LittleEndian.Uint32(raw))
	case kindInt32:
		return int64(int32(binary.LittleEndian.Uint32(raw)))
	case kindFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	case kindFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(raw))
	}
	return int64(binary.LittleEndian.Uint64(raw))
}

// openGGUF reads the header of a file.
func openGGUF(path string) (*ggufFile, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	stat, err := file.Stat()
	if err != nil {
		return nil, err
	}
	g := &ggufFile{file: file, size: stat.Size(), keys: map[string]any{}, tensors: map[string]tensorInfo{}}
	c := &cursor{in: io.NewSectionReader(file, 0, stat.Size())}
	if magic := string(c.bytes(4)[:4]); magic != "GGUF" {
		return nil, fmt.Errorf("%s: not a GGUF file", path)
	}
	if version := c.uint32(); version != 3 {
		return nil, fmt.Errorf("%s: GGUF version %d, this program reads 3", path, version)
	}
	nTensors, nKeys := c.count(maxCount), c.count(maxCount)
	for i := 0; i < nKeys && c.err == nil; i++ {
		name := c.text()
		if _, twice := g.keys[name]; twice {
			c.err = fmt.Errorf("key %q stands twice", name)
		}
		g.keys[name] = c.value(c.uint32(), false)
	}
	for i := 0; i < nTensors && c.err == nil; i++ {
		c.err = g.readInfo(c)
	}
	if c.err != nil {
		return nil, fmt.Errorf("%s: %w", path, c.err)
	}
	alignment := int64(32)
	if given, ok := g.keys["general.alignment"].(int64); ok && given > 0 && given <= 1<<20 {
		alignment = given
	}
	position, _ := c.in.Seek(0, io.SeekCurrent)
	g.start = (position + alignment - 1) / alignment * alignment
	return g, nil
}

func (g *ggufFile) readInfo(c *cursor) error {
	name, n := c.text(), int(c.uint32())
	if c.err != nil {
		return c.err
	}
	if _, twice := g.tensors[name]; twice || n < 1 || n > maxDims {
		return fmt.Errorf("tensor %q stands twice or has %d dimensions", name, n)
	}
	info := tensorInfo{}
	for i := 0; i < n; i++ {
		info.dims = append(info.dims, c.count(1<<32))
	}
	info.kind, info.offset = c.uint32(), int64(c.count(1<<62))
	g.tensors[name] = info
	return c.err
}

func (g *ggufFile) integer(name string) (int, error) {
	value, ok := g.keys[name].(int64)
	if !ok || value < 1 || value > 1<<31 {
		return 0, fmt.Errorf("key %s is %v, a positive integer was expected", name, g.keys[name])
	}
	return int(value), nil
}

func (g *ggufFile) number(name string) (float64, error) {
	if value, ok := g.keys[name].(float64); ok {
		return value, nil
	}
	return 0, fmt.Errorf("key %s is %v, a number was expected", name, g.keys[name])
}

func (g *ggufFile) strings(name string) ([]string, error) {
	values, ok := g.keys[name].([]any)
	if !ok {
		return nil, fmt.Errorf("no list %s", name)
	}
	texts := make([]string, len(values))
	for i, value := range values {
		if texts[i], ok = value.(string); !ok {
			return nil, fmt.Errorf("%s[%d] is not a text", name, i)
		}
	}
	return texts, nil
}

// matrix reads a tensor of the given shape (rows of width columns) as float32.
func (g *ggufFile) matrix(name string, rows, columns int) ([]float32, error) {
	info, ok := g.tensors[name]
	if !ok {
		return nil, fmt.Errorf("no tensor %s", name)
	}
	if info.dims[0] != columns || (rows > 1 && (len(info.dims) != 2 || info.dims[1] != rows)) || (rows == 1 && len(info.dims) != 1) {
		return nil, fmt.Errorf("tensor %s is %v, expected %d rows of %d", name, info.dims, rows, columns)
	}
	size, err := storedSize(info.kind, rows, columns)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	begin := g.start + info.offset
	if info.offset < 0 || begin > g.size || size > g.size-begin {
		return nil, fmt.Errorf("tensor %s lies past the end of the file", name)
	}
	raw := make([]byte, size)
	if _, err := g.file.ReadAt(raw, begin); err != nil {
		return nil, fmt.Errorf("tensor %s: %w", name, err)
	}
	return dequantize(info.kind, raw, rows*columns), nil
}
