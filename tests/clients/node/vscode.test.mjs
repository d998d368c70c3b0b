// The extension for VS Code in deploy/editors, with the few parts of VS Code that it touches.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const require = createRequire(import.meta.url);
const Module = require("node:module");
const providers = [];
let url = process.env.UNMASK_URL;
const vscode = {
  workspace: { getConfiguration: () => ({ get: () => url }) },
  languages: { registerInlineCompletionItemProvider: (_, provider) => providers.push(provider) },
  Range: class {
    constructor(start, end) {
      Object.assign(this, { start, end });
    }
  },
};
const load = Module._load;
Module._load = (name, ...rest) => (name === "vscode" ? vscode : load(name, ...rest));
require(process.env.UNMASK_VSCODE).activate({ subscriptions: [] });

const text = "def lines(path):\n    with open(path)\n        for line in f:\n            yield line\n";
const at = text.indexOf("\n        for");
const document = { getText: () => text, offsetAt: (position) => position };
const token = (act = () => {}) => ({ onCancellationRequested: act });

test("the text at the cursor is suggested there", async () => {
  // Broken: the editor shows nothing, or puts the text elsewhere.
  const items = await providers[0].provideInlineCompletionItems(document, at, {}, token());
  assert.deepEqual(items.map(({ insertText, range }) => [insertText, range.start, range.end]), [[" as f:", at, at]]);
});

test("who types on, and where there is no server, gets nothing and no error", async () => {
  // Broken: an error at every key.
  assert.deepEqual(await providers[0].provideInlineCompletionItems(document, at, {}, token((stop) => stop())), []);
  url = "http://127.0.0.1:1";
  assert.deepEqual(await providers[0].provideInlineCompletionItems(document, at, {}, token()), []);
});
