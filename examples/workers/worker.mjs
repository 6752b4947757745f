#!/usr/bin/env node
// A persistent worker for `safepoint run --worker`, without packages.
//
// Each item is the path of a file. The result is its size in bytes, its lines, its words and its SHA-256.
// Items are worked on as they arrive, so that `--pipeline 8` keeps eight files in flight in one worker.
//
//     safepoint run --worker --pipeline 8 files.txt -- node examples/workers/worker.mjs

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";

const PROGRESS_EVERY_BYTES = 256 * 1024 * 1024;
const FINAL_CODES = new Set(["ENOENT", "EISDIR", "ENOTDIR", "EACCES", "EPERM", "ENAMETOOLONG", "ERR_INVALID_ARG_VALUE"]);

// Standard output is kept for answers; what a library prints goes to standard error.
console.log = console.info = console.debug = console.error;

class ItemError extends Error {
  constructor(message, { retry, retryAfter }) {
    super(message);
    this.retry = retry;
    this.retryAfter = retryAfter;
  }
}

function send(answer) {
  process.stdout.write(JSON.stringify(answer) + "\n");
}

// The runner is gone when nobody reads our answers.
process.stdout.on("error", () => process.exit(1));

function isSpace(byte) {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d);
}

async function count(path, id) {
  const { size: total } = await stat(path);
  const digest = createHash("sha256");
  let bytes = 0;
  let lines = 0;
  let words = 0;
  let inWord = false;
  let nextProgress = PROGRESS_EVERY_BYTES;
  for await (const chunk of createReadStream(path)) {
    digest.update(chunk);
    bytes += chunk.length;
    for (const byte of chunk) {
      if (byte === 0x0a) lines += 1;
      const space = isSpace(byte);
      if (!space && !inWord) words += 1;
      inWord = !space;
    }
    if (bytes >= nextProgress && total > 0) {
      send({ id, progress: Math.min(1, bytes / total) });
      nextProgress = bytes + PROGRESS_EVERY_BYTES;
    }
  }
  return { path, bytes, lines, words, sha256: digest.digest("hex") };
}

async function work({ id, item }) {
  if (typeof item !== "string") {
    throw new ItemError("the item is not a string with a path", { retry: false });
  }
  try {
    return await count(item, id);
  } catch (error) {
    if (error.code === undefined) throw error;
    // Any other system error may pass: too many open files, a network file system that is away.
    const retry = !FINAL_CODES.has(error.code);
    throw new ItemError(`\`${item}\`: ${error.message}`, { retry, retryAfter: retry ? 2.5 : undefined });
  }
}

async function handle(request) {
  const { id } = request;
  try {
    send({ id, result: await work(request) });
  } catch (error) {
    if (!(error instanceof ItemError)) console.error(`item ${request.key}:`, error);
    send({ id, error: error.message, retry: error.retry ?? true, retry_after: error.retryAfter });
  }
}

// Lines are split at "\n" only. node:readline also splits at U+2028 and U+2029, which JSON allows inside a string.
async function* lines(stream) {
  let rest = [];
  for await (const chunk of stream) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end !== -1; end = chunk.indexOf(0x0a, from)) {
      rest.push(chunk.subarray(from, end));
      yield Buffer.concat(rest).toString("utf8");
      rest = [];
      from = end + 1;
    }
    if (from < chunk.length) rest.push(chunk.subarray(from));
  }
}

// The end of input means: finish what is in flight, then stop.
const inFlight = new Set();
for await (const line of lines(process.stdin)) {
  const handled = handle(JSON.parse(line));
  inFlight.add(handled);
  handled.finally(() => inFlight.delete(handled));
}
await Promise.all(inFlight);
