// The stored types that this program reads, each by its definition: F32, F16, BF16, Q8_0 and ternary I2_S.
package main

import (
	"encoding/binary"
	"fmt"
	"math"
)

const (
	typeF32  = 0
	typeF16  = 1
	typeQ8_0 = 8
	typeBF16 = 30
	typeI2_S = 36
)

// blocks of a type: values and bytes.
var blocks = map[uint32][2]int{typeF32: {1, 4}, typeF16: {1, 2}, typeBF16: {1, 2}, typeQ8_0: {32, 34}, typeI2_S: {128, 32}}

// storedSize is how many bytes a matrix takes. I2_S has its scale after the codes, in 32 more bytes.
func storedSize(kind uint32, rows, columns int) (int64, error) {
	block, known := blocks[kind]
	if !known {
		return 0, fmt.Errorf("type %d is not read by this program (f32, f16, bf16, q8_0, i2_s are)", kind)
	}
	if columns%block[0] != 0 {
		return 0, fmt.Errorf("rows of %d do not divide into blocks of %d", columns, block[0])
	}
	size := int64(rows) * int64(columns/block[0]) * int64(block[1])
	if kind == typeI2_S {
		size += 32
	}
	return size, nil
}

// half is the float32 of an IEEE binary16.
func half(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits>>15)<<31, uint32(bits>>10)&31, uint32(bits)&1023
	switch {
	case exponent == 31:
		return math.Float32frombits(sign | 0xFF<<23 | fraction<<13)
	case exponent == 0:
		value := float32(fraction) / (1 << 24)
		if sign != 0 {
			return -value
		}
		return value
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// dequantize gives the n floats that stored bytes stand for.
func dequantize(kind uint32, raw []byte, n int) []float32 {
	out := make([]float32, n)
	switch kind {
	case typeF32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	case typeF16:
		for i := range out {
			out[i] = half(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	case typeBF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	case typeQ8_0:
		for i := range out {
			block := raw[i/32*34:]
			out[i] = half(binary.LittleEndian.Uint16(block)) * float32(int8(block[2+i%32]))
		}
	case typeI2_S:
		// 128 values in 32 bytes: value 32 g + p is in byte p, bits 6 - 2 g; 0, 1, 2 are -1, 0, 1 times the scale.
		scale := math.Float32frombits(binary.LittleEndian.Uint32(raw[n/4:]))
		for i := range out {
			group, place := i%128/32, i%32
			out[i] = float32(int(raw[i/128*32+place]>>(6-2*group)&3)-1) * scale
		}
	}
	return out
}
