/** What build.mjs puts in the place of a WebAssembly module: its bytes in base64. */

declare module "wasm:*" {
  const base64: string;
  export default base64;
}
