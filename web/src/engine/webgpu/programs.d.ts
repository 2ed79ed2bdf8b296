/** What build.mjs puts in the place of a program for a GPU: its text. */

declare module "wgsl:*" {
  const text: string;
  export default text;
}
