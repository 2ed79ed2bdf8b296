//! Complete a prompt with a sealed model from Rust, without a crate: embed MODEL PROMPT [TOKENS]
//!
//!     rustc -O embed.rs -L lib -l sevenfold -C link-arg=-Wl,-rpath,$PWD/lib
//!
//! The output is that of `s7 run`, byte for byte.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::io::Write;
use std::ptr::{null, null_mut};

#[repr(C)]
struct Error {
    status: i32,
    what: [c_char; 240],
    place: [c_char; 120],
    remedy: [c_char; 160],
}

type OnText = extern "C" fn(*mut c_void, *const c_char, usize) -> c_int;

extern "C" {
    fn s7f_abi() -> i32;
    fn s7f_model_open_path(
        path: *const c_char,
        options: *const c_void,
        model: *mut *mut c_void,
        error: *mut Error,
    ) -> c_int;
    fn s7f_model_close(model: *mut *mut c_void);
    fn s7f_session_open(model: *mut c_void, session: *mut u64, error: *mut Error) -> c_int;
    fn s7f_session_prompt(
        model: *mut c_void,
        session: u64,
        prompt: *const c_char,
        n_bytes: usize,
        domain: *const c_char,
        max_tokens: i32,
        error: *mut Error,
    ) -> c_int;
    fn s7f_session_generate(
        model: *mut c_void,
        session: u64,
        max_tokens: i32,
        on_text: OnText,
        user: *mut c_void,
        n_tokens: *mut i32,
        error: *mut Error,
    ) -> c_int;
    fn s7f_visible_text(text: *mut c_char, n_bytes: usize) -> usize;
}

/// A model that is freed with its owner.
struct Model(*mut c_void);

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { s7f_model_close(&mut self.0) }
    }
}

fn checked(status: c_int, error: &Error) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    let text = |chars: &[c_char]| unsafe { CStr::from_ptr(chars.as_ptr()) }.to_string_lossy().into_owned();
    Err(format!("{}: {} ({})", text(&error.place), text(&error.what), text(&error.remedy)))
}

/// Print whole characters as they come; a terminal is given no control characters.
extern "C" fn print_text(_user: *mut c_void, text: *const c_char, n_bytes: usize) -> c_int {
    let mut copy = unsafe { std::slice::from_raw_parts(text as *const u8, n_bytes) }.to_vec();
    let n = unsafe { s7f_visible_text(copy.as_mut_ptr() as *mut c_char, n_bytes) };
    let mut out = std::io::stdout();
    (out.write_all(&copy[..n]).and_then(|_| out.flush()).is_err()) as c_int
}

fn run(path: &str, prompt: &str, max_tokens: i32) -> Result<(), String> {
    let mut error = Error { status: 0, what: [0; 240], place: [0; 120], remedy: [0; 160] };
    let mut model = Model(null_mut());
    let mut session = 0u64;
    let path = CString::new(path).map_err(|_| "a path holds no NUL".to_string())?;
    let bytes = prompt.as_bytes();
    unsafe {
        let opened = s7f_model_open_path(path.as_ptr(), null(), &mut model.0, &mut error);
        checked(opened, &error)?;
        checked(s7f_session_open(model.0, &mut session, &mut error), &error)?;
        let text = bytes.as_ptr() as *const c_char;
        let read = s7f_session_prompt(model.0, session, text, bytes.len(), null(), max_tokens, &mut error);
        checked(read, &error)?;
        let done = s7f_session_generate(
            model.0,
            session,
            max_tokens,
            print_text,
            null_mut(),
            null_mut(),
            &mut error,
        );
        checked(done, &error)
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    if words.len() < 3 || unsafe { s7f_abi() } != 1 {
        eprintln!("usage: {} MODEL PROMPT [TOKENS]", words[0]);
        std::process::exit(2);
    }
    let max_tokens = words.get(3).and_then(|word| word.parse().ok()).unwrap_or(16);
    if let Err(said) = run(&words[1], &words[2], max_tokens) {
        eprintln!("{said}");
        std::process::exit(1);
    }
    println!();
}
