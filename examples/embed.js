// Complete a prompt with a sealed model from Node.js: node embed.js MODEL PROMPT [TOKENS]
//
// The addon is made of embed_node.c; S7F_ADDON names it, ./embed.node by default. The output is that
// of `s7 run`, byte for byte.
'use strict';

const { complete } = require(process.env.S7F_ADDON || './embed.node');
const [model, prompt, tokens] = process.argv.slice(2);
if (prompt === undefined) {
  console.error('usage: node embed.js MODEL PROMPT [TOKENS]');
  process.exitCode = 2;
} else {
  try {
    process.stdout.write(complete(model, prompt, Number(tokens || 16)) + '\n');
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
