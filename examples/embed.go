// Complete a prompt with a sealed model from Go, through cgo: embed MODEL PROMPT [TOKENS]
//
//	CGO_CFLAGS=-Iinclude CGO_LDFLAGS="-Llib -lsevenfold -Wl,-rpath,$PWD/lib" go build embed.go
//
// The output is that of `s7 run`, byte for byte.
package main

/*
#include <stdlib.h>
#include <sevenfold.h>

int onText(void *user, char *text, size_t n);

static int take(void *user, const char *text, size_t n) { return onText(user, (char *)text, n); }
static s7f_status generate(s7f_model *model, s7f_session session, int max_tokens, s7f_error *error) {
	return s7f_session_generate(model, session, max_tokens, take, NULL, NULL, error);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"
)

// Whole characters as they come; a terminal is given no control characters.
//
//export onText
func onText(_ unsafe.Pointer, text *C.char, n C.size_t) C.int {
	copied := C.CBytes(C.GoBytes(unsafe.Pointer(text), C.int(n)))
	defer C.free(copied)
	visible := C.s7f_visible_text((*C.char)(copied), n)
	if _, err := os.Stdout.Write(C.GoBytes(copied, C.int(visible))); err != nil {
		return 1
	}
	return 0
}

func checked(status C.s7f_status, e *C.s7f_error) error {
	if status == C.S7F_OK {
		return nil
	}
	where, what, remedy := C.GoString(&e.where[0]), C.GoString(&e.what[0]), C.GoString(&e.remedy[0])
	return errors.New(where + ": " + what + " (" + remedy + ")")
}

func run(path, prompt string, maxTokens int) error {
	var e C.s7f_error
	var model *C.s7f_model
	var session C.s7f_session
	name, text := C.CString(path), C.CString(prompt)
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(text))
	if err := checked(C.s7f_model_open_path(name, nil, &model, &e), &e); err != nil {
		return err
	}
	defer C.s7f_model_close(&model)
	if err := checked(C.s7f_session_open(model, &session, &e), &e); err != nil {
		return err
	}
	n := C.size_t(len(prompt))
	if err := checked(C.s7f_session_prompt(model, session, text, n, nil, C.int(maxTokens), &e), &e); err != nil {
		return err
	}
	return checked(C.generate(model, session, C.int(maxTokens), &e), &e)
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: embed MODEL PROMPT [TOKENS]")
		os.Exit(2)
	}
	maxTokens := 16
	if len(os.Args) > 3 {
		maxTokens, _ = strconv.Atoi(os.Args[3])
	}
	if err := run(os.Args[1], os.Args[2], maxTokens); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println()
}
