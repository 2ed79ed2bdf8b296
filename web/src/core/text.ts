/** Characters that a terminal or a page may not be given. */

/** A text without control characters but TAB, LF and CR: what a terminal or a page may be given. */
export function visibleText(text: string): string {
  let found = "";
  for (const char of text) if (!isControl(char.codePointAt(0)!)) found += char;
  return found;
}

/** A control character (category Cc) that is not TAB, LF or CR. */
export function isControl(codePoint: number): boolean {
  if (codePoint === 9 || codePoint === 10 || codePoint === 13) return false;
  return codePoint < 0x20 || (codePoint >= 0x7f && codePoint < 0xa0);
}
