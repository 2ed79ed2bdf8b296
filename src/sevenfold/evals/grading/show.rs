// Prints a value in one form for equal values (evals/grading/rust.py).
trait S7Show { fn s7(&self) -> String; }
macro_rules! s7_plain { ($($t:ty),*) => { $(impl S7Show for $t { fn s7(&self) -> String { format!("{:?}", self) } })* } }
s7_plain!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool, char, String, str, ());
impl S7Show for f64 { fn s7(&self) -> String { format!("{:?}", self + 0.0) } }
impl S7Show for f32 { fn s7(&self) -> String { format!("{:?}", self + 0.0) } }
impl<T: S7Show + ?Sized> S7Show for &T { fn s7(&self) -> String { (**self).s7() } }
impl<T: S7Show> S7Show for Vec<T> { fn s7(&self) -> String {
    format!("[{}]", self.iter().map(|v| v.s7()).collect::<Vec<_>>().join(", ")) } }
impl<T: S7Show> S7Show for Option<T> { fn s7(&self) -> String {
    match self { Some(v) => format!("Some({})", v.s7()), None => "None".to_string() } } }
impl<T: S7Show, E: S7Show> S7Show for Result<T, E> { fn s7(&self) -> String {
    match self { Ok(v) => format!("Ok({})", v.s7()), Err(e) => format!("Err({})", e.s7()) } } }
impl<K: S7Show, V: S7Show> S7Show for std::collections::HashMap<K, V> { fn s7(&self) -> String {
    let mut all: Vec<String> = self.iter().map(|(k, v)| format!("{}: {}", k.s7(), v.s7())).collect();
    all.sort(); format!("{{{}}}", all.join(", ")) } }
macro_rules! s7_tuple { ($($n:ident $i:tt),*) => { impl<$($n: S7Show),*> S7Show for ($($n,)*) {
    fn s7(&self) -> String { let all = [$(self.$i.s7()),*]; format!("({})", all.join(", ")) } } } }
s7_tuple!(A 0); s7_tuple!(A 0, B 1); s7_tuple!(A 0, B 1, C 2); s7_tuple!(A 0, B 1, C 2, D 3);
